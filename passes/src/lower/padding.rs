//! Padding becomes reading outside of a buffer, or, for convolutions of integers, a border around what they read.

use std::sync::Arc;

use adze_ir::attrs::F64;
use adze_ir::extent::Extent;
use adze_ir::graph::{Graph, Node, ValueId};
use adze_ir::ops::{BodyRef, BodyStep, Conv, ConvStored, Fused, Op, PadMode, WinogradConv};
use adze_ir::tile::View;
use adze_ir::types::DType;

/// The operator without padding, and what is read outside instead, with begin and end of every spatial axis.
struct Unpadded {
    op: Op,
    pads: Vec<i64>,
    fill: f64,
}

fn unpad(op: &Op, dtype: DType) -> Option<Unpadded> {
    let (pads, fill) = match op {
        Op::Conv(op) => (&op.pads, 0.0),
        Op::ConvStored(op) => (&op.pads, 0.0),
        Op::WinogradConv(op) => (&op.pads, 0.0),
        Op::LpPool(op) => (&op.pads, 0.0),
        Op::MaxPool(op) => (&op.pads, lowest(dtype)),
        Op::AveragePool(op) if op.count_include_pad && op.ceil_pads.iter().all(|p| *p == 0) => (&op.pads, 0.0),
        _ => return None,
    };
    let pads = pads.clone();
    if pads.iter().all(|p| *p == 0) {
        return None;
    }
    let mut op = op.clone();
    match &mut op {
        Op::Conv(op) => op.pads.fill(0),
        Op::ConvStored(op) => op.pads.fill(0),
        Op::WinogradConv(op) => op.pads.fill(0),
        Op::LpPool(op) => op.pads.fill(0),
        Op::MaxPool(op) => op.pads.fill(0),
        Op::AveragePool(op) => op.pads.fill(0),
        _ => return None,
    }
    Some(Unpadded { op, pads, fill })
}

/// What never is the largest element.
fn lowest(dtype: DType) -> f64 {
    dtype.int_range().map_or(f64::NEG_INFINITY, |(lo, _)| lo as f64)
}

/// Takes the padding out of an operator (the anchor of a fusion) and puts it into the view that it reads.
///
/// `dtype` gives the dtype of an operand, and nothing when it is a part of its buffer: there, what lies outside is something
/// else than padding.
pub(super) fn pads_to_views(
    op: &Op,
    mut inputs: Vec<Option<View>>,
    dtype: &dyn Fn(&View) -> Option<DType>,
) -> (Op, Vec<Option<View>>) {
    match op {
        Op::Fused(fused) => {
            let anchor = fused.anchor();
            let Some(Some(BodyRef::Param(param))) = anchor.inputs.first() else { return (op.clone(), inputs) };
            let Some(Some(view)) = inputs.get(*param as usize) else { return (op.clone(), inputs) };
            let Some(unpadded) = dtype(view).and_then(|d| unpad(&anchor.op, d)) else { return (op.clone(), inputs) };
            let padded = grow(view, &unpadded);
            let mut steps: Vec<BodyStep> = fused.steps.to_vec();
            steps[0].op = unpadded.op;
            let uses = steps.iter().flat_map(|s| &s.inputs).filter(|r| **r == Some(BodyRef::Param(*param))).count();
            if uses == 1 {
                inputs[*param as usize] = Some(padded);
            } else {
                // An epilogue reads the same operand without padding: the anchor gets its own.
                let own = u32::try_from(inputs.len()).unwrap_or(u32::MAX);
                steps[0].inputs[0] = Some(BodyRef::Param(own));
                inputs.push(Some(padded));
            }
            (Fused { steps: Arc::from(steps) }.into(), inputs)
        }
        op => {
            let Some(Some(view)) = inputs.first() else { return (op.clone(), inputs) };
            let Some(unpadded) = dtype(view).and_then(|d| unpad(op, d)) else { return (op.clone(), inputs) };
            inputs[0] = Some(grow(view, &unpadded));
            (unpadded.op, inputs)
        }
    }
}

fn grow(view: &View, unpadded: &Unpadded) -> View {
    let mut view = view.clone();
    let spatial = unpadded.pads.len() / 2;
    for axis in 0..spatial {
        let (before, after) = (unpadded.pads[axis], unpadded.pads[axis + spatial]);
        let at = axis + 2;
        view.offsets[at] = view.offsets[at].clone() - before.into();
        view.sizes[at] = view.sizes[at].clone() + Extent::from(before) + Extent::from(after);
    }
    if unpadded.pads.iter().any(|p| *p > 0) {
        view.fill = Some(F64::new(unpadded.fill));
    }
    view
}

/// The border that a convolution of integers has to find around its operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Border {
    /// Position of the operand among the node's, and its value.
    pub operand: (usize, ValueId),
    /// What the border is filled with: the operand's zero point.
    pub zero: ValueId,
    /// Begin of every spatial axis, then end of every one.
    pub pads: Vec<i64>,
}

/// The border that a node wants, and the node's operator without padding. Sums of bytes run over whole windows: what is
/// missing at a border cannot be left out of them, because the zero point has been taken out of the sum. A depthwise
/// convolution does leave it out.
pub(super) fn border(graph: &Graph, node: &Node) -> Option<(Border, Op)> {
    let (anchor, inputs): (&Op, Vec<Option<usize>>) = match &node.op {
        Op::Fused(fused) => {
            let position = |r: &Option<BodyRef>| match r {
                Some(BodyRef::Param(at)) => Some(*at as usize),
                _ => None,
            };
            (&fused.anchor().op, fused.anchor().inputs.iter().map(position).collect())
        }
        op => (op, (0..node.inputs.len()).map(Some).collect()),
    };
    let value = |index: usize| node.inputs.get((*inputs.get(index)?)?).copied().flatten();
    let mut unpadded = anchor.clone();
    let (pads, group, weights) = match &mut unpadded {
        Op::QLinearConv(op) => (&mut op.pads, op.group, value(3)?),
        Op::ConvInteger(op) => (&mut op.pads, op.group, value(1)?),
        _ => return None,
    };
    let given = pads.clone();
    pads.fill(0);
    let depthwise = graph.ty(weights).shape.first() == Some(&group.into());
    let operand = ((*inputs.first()?)?, value(0)?);
    let read_once = node.inputs.iter().filter(|v| **v == Some(operand.1)).count() == 1;
    if depthwise || !read_once || given.iter().all(|p| *p == 0) || given.iter().any(|p| *p < 0) {
        return None;
    }
    let border = Border { operand, zero: value(2)?, pads: given };
    let op = match &node.op {
        Op::Fused(fused) => {
            let mut steps: Vec<BodyStep> = fused.steps.to_vec();
            steps[0].op = unpadded;
            Fused { steps: Arc::from(steps) }.into()
        }
        _ => unpadded,
    };
    Some((border, op))
}

/// Fill value and widths (before and after each axis, none negative) of a node that pads with a constant.
pub(super) fn constant_padding(graph: &Graph, node: &Node) -> Option<(F64, Vec<(i64, i64)>)> {
    let Op::Pad(pad) = &node.op else { return None };
    if pad.mode != PadMode::Constant {
        return None;
    }
    let fill = match node.inputs.get(1).copied().flatten() {
        None => 0.0,
        Some(value) => *graph.constant(value)?.data()?.to_f64().first()?,
    };
    let widths = pad.before.iter().zip(&pad.after).map(|(b, a)| Some((b.as_const()?, a.as_const()?)));
    let widths: Vec<(i64, i64)> = widths.collect::<Option<_>>()?;
    widths.iter().all(|w| w.0 >= 0 && w.1 >= 0).then_some((F64::new(fill), widths))
}

/// Whether all users of a value are convolutions that read it as their input and pad with nothing but `fill`.
pub(super) fn reads_as_convolution_input(graph: &Graph, value: ValueId, fill: F64) -> bool {
    let fits = |op: &Op| match op {
        Op::Conv(Conv { pads, .. })
        | Op::ConvStored(ConvStored { pads, .. })
        | Op::WinogradConv(WinogradConv { pads, .. }) => fill == F64::new(0.0) || pads.iter().all(|p| *p == 0),
        _ => false,
    };
    let reads = |node: &Node| {
        let at: Vec<usize> = (0..node.inputs.len()).filter(|&i| node.inputs[i] == Some(value)).collect();
        match (&node.op, at.as_slice()) {
            (_, []) => true,
            (Op::Fused(fused), &[at]) => {
                let uses = fused.steps.iter().flat_map(|s| &s.inputs);
                let param = u32::try_from(at).ok().map(BodyRef::Param);
                fused.anchor().inputs.first() == Some(&param)
                    && uses.filter(|r| **r == param).count() == 1
                    && fits(&fused.anchor().op)
            }
            (op, [0]) => fits(op),
            _ => false,
        }
    };
    graph.nodes().all(|(_, node)| reads(node)) && graph.outputs().iter().all(|o| o.value != value)
}

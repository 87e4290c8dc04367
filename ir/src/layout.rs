//! How operators take and leave tensors in memory: what the pass `layout` assigns, and what extraction prices.

use std::collections::BTreeSet;

use crate::extent::Extent;
use crate::graph::{Graph, ValueId};
use crate::ops::{Op, Relayout};
use crate::propose::{Cost, CostModel, OpFacts};
use crate::tile::is_elementwise;
use crate::types::{Layout, TensorType};

pub mod places;

/// What an operator does about layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Writes channels last, and reads channels last when there are channels enough.
    Window,
    /// Writes as it reads.
    Keeps,
    /// Reads any layout, writes row-major.
    Reads,
    /// Reads and writes row-major.
    Plain,
}

/// What an operator does about layouts.
pub fn habit(op: &Op) -> Habit {
    match op {
        Op::Fused(fused) => habit(&fused.anchor().op),
        Op::Conv(_) | Op::ConvStored(_) | Op::WinogradConv(_) | Op::ConvTranspose(_) => Habit::Window,
        Op::MaxPool(_) | Op::AveragePool(_) | Op::LpPool(_) => Habit::Window,
        op if is_integer_conv(op) => Habit::Window,
        op if is_elementwise(op) => Habit::Keeps,
        Op::Cast(_)
        | Op::BitCast(_)
        | Op::IsInf(_)
        | Op::Quantize(_)
        | Op::Dequantize(_)
        | Op::BatchNorm(_)
        | Op::Concat(_)
        | Op::Split(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Resize(_)
        | Op::Softmax(_)
        | Op::LogSoftmax(_) => Habit::Keeps,
        Op::Reduce(reduce) if reduce.keep_dims => Habit::Keeps,
        Op::Reduce(_) | Op::Transpose(_) | Op::DepthToSpace(_) | Op::SpaceToDepth(_) | Op::Relayout(_) => Habit::Reads,
        _ => Habit::Plain,
    }
}

/// Fewer channels than this are read row-major by a convolution: a copy would cost more than it gains.
const MIN_CHANNELS: i64 = 8;

/// Whether a window operator wants its first operand, of this type, channels last.
pub fn wants_channels_last(op: &Op, x: &TensorType) -> bool {
    // Kernels of integers sum neighbouring bytes, however few channels there are.
    let many = x.rank() >= 3 && x.shape[1].as_const().is_none_or(|channels| channels >= MIN_CHANNELS);
    many || is_integer_conv(op)
}

fn is_integer_conv(op: &Op) -> bool {
    match op {
        Op::Fused(fused) => is_integer_conv(&fused.anchor().op),
        op => matches!(op, Op::ConvInteger(_) | Op::QLinearConv(_)),
    }
}

/// Whether the kernel of an operator that can have either layout takes another way through the one than through the other.
/// Elementwise operators go through elements as they lie.
pub fn has_order(op: &Op) -> bool {
    let moves = matches!(
        op,
        Op::Concat(_)
            | Op::Split(_)
            | Op::Slice(_)
            | Op::Pad(_)
            | Op::Resize(_)
            | Op::Transpose(_)
            | Op::DepthToSpace(_)
            | Op::SpaceToDepth(_)
    );
    moves || matches!(op, Op::Softmax(_) | Op::LogSoftmax(_) | Op::Reduce(_))
}

/// What an operator that [`has_order`] weighs where its operands lie row-major and where they lie channels last.
pub fn weights(op: &Op, facts: &OpFacts<'_>, costs: &dyn CostModel) -> Option<[u64; 2]> {
    let habit = habit(op);
    let rank = facts.outputs.iter().map(TensorType::rank).max().filter(|_| has_order(op))?;
    let rows = |ty: &TensorType| ty.clone().with_layout(Layout::PLAIN);
    let last = |ty: &TensorType| with_channels_last(ty).unwrap_or_else(|| rows(ty));
    let moves = |ty: &TensorType| habit == Habit::Reads || ty.rank() == rank;
    let weigh = |operand: &dyn Fn(&TensorType) -> TensorType, result: &dyn Fn(&TensorType) -> TensorType| {
        let lie = |(at, ty): (usize, &Option<&TensorType>)| {
            ty.map(|ty| if moves(ty) && !facts.is_fixed(at) { operand(ty) } else { rows(ty) })
        };
        let inputs: Vec<Option<TensorType>> = facts.inputs.iter().enumerate().map(lie).collect();
        let inputs: Vec<Option<&TensorType>> = inputs.iter().map(Option::as_ref).collect();
        let outputs: Vec<TensorType> =
            facts.outputs.iter().map(|ty| if moves(ty) { result(ty) } else { rows(ty) }).collect();
        costs.cost(op, &OpFacts { inputs: &inputs, outputs: &outputs, ..*facts }).map(Cost::weight)
    };
    let written: &dyn Fn(&TensorType) -> TensorType = if habit == Habit::Keeps { &last } else { &rows };
    Some([weigh(&rows, &rows)?, weigh(&last, written)?])
}

/// What copies of a tensor weigh: row-major of one that lies channels last, and channels last of one that lies row-major. `None`
/// where both are the same.
pub fn copies(ty: &TensorType, facts: &OpFacts<'_>, costs: &dyn CostModel) -> Option<[u64; 2]> {
    let (rows, last) = (ty.clone().with_layout(Layout::PLAIN), with_channels_last(ty)?);
    let weigh = |from: &TensorType, to: &TensorType| {
        let facts = OpFacts { inputs: &[Some(from)], fixed: &[], outputs: std::slice::from_ref(to), ..*facts };
        costs.cost(&Relayout { layout: to.layout.clone() }.into(), &facts).map_or(0, Cost::weight)
    };
    Some([weigh(&last, &rows), weigh(&rows, &last)])
}

/// The type channels last, where that is not the same as row-major.
pub fn with_channels_last(ty: &TensorType) -> Option<TensorType> {
    let last = Layout::channels_last(ty.rank());
    (!same_memory(ty, &last, &Layout::PLAIN)).then(|| ty.clone().with_layout(last))
}

/// Whether a value lies channels last where every operator follows what it reads.
pub fn follows_window(graph: &Graph, value: ValueId) -> bool {
    let (mut stack, mut seen) = (vec![value], BTreeSet::new());
    while let Some(value) = stack.pop() {
        let ty = graph.ty(value);
        let Some((_, node)) = graph.producer(value).filter(|_| seen.insert(value)) else { continue };
        match habit(&node.op) {
            _ if with_channels_last(ty).is_none() => {}
            Habit::Window => return true,
            Habit::Keeps => stack.extend(node.inputs.iter().flatten().filter(|&&v| graph.ty(v).rank() == ty.rank())),
            Habit::Reads | Habit::Plain => {}
        }
    }
    false
}

/// Whether two layouts of a type put every element at the same place.
pub fn same_memory(ty: &TensorType, a: &Layout, b: &Layout) -> bool {
    let stay: Vec<usize> = (0..ty.rank()).collect();
    same_bytes(&ty.shape, (a, b), &stay)
}

/// Whether a result whose axis `i` is the operand's axis `perm[i]` has its elements in the same places, by the layouts of operand
/// and result.
pub fn same_bytes(shape: &[Extent], (from, to): (&Layout, &Layout), perm: &[usize]) -> bool {
    let (Some(from), Some(to)) = (from.order(shape.len()), to.order(perm.len())) else { return false };
    let matters = |axis: &usize| shape[*axis] != Extent::ONE;
    let to = to.into_iter().map(|axis| perm[axis]);
    from.into_iter().filter(matters).eq(to.filter(matters))
}

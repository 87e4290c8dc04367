//! How parts of a node's result along N and H depend on parts of its operands.

use adze_ir::graph::{Graph, Node, ValueId};
use adze_ir::ops::{Op, PadMode};

use super::lower::is_elementwise;

/// Ranges along N and H.
pub type Part = [(usize, usize); 2];

/// N and H of a value; H is 1 unless it has rank 4.
pub fn extents(graph: &Graph, value: ValueId) -> Option<[usize; 2]> {
    let shape = graph.ty(value).fixed_shape()?;
    match shape[..] {
        [n, _, h, _] => Some([n, h]),
        [n, _] | [n, _, _] => Some([n, 1]),
        _ => None,
    }
}

/// Rows of an operand under a window.
#[derive(Clone, Copy, Debug)]
struct Rows {
    kernel: i64,
    stride: i64,
    /// Rows above the first one; less than 0 where the first ones are left out.
    pad: i64,
    dilation: i64,
}

impl Rows {
    const SAME: Rows = Rows { kernel: 1, stride: 1, pad: 0, dilation: 1 };

    /// Rows of an operand of a height that rows of the result need, with the padding above and below that is left.
    fn need(self, (from, to): (usize, usize), height: usize) -> Option<((usize, usize), [i64; 2])> {
        let [from, to, height] = [from, to, height].map(|v| i64::try_from(v).ok());
        let first = from?.checked_mul(self.stride)?.checked_sub(self.pad)?;
        let reach = (self.kernel - 1).checked_mul(self.dilation)? + 1;
        let last = (to? - 1).checked_mul(self.stride)?.checked_sub(self.pad)?.checked_add(reach)?;
        let (lo, hi) = (first.max(0), last.min(height?));
        let inside = lo < hi;
        inside.then(|| ((lo as usize, hi as usize), [lo - first, last - hi]))
    }
}

/// Rows of an operand that lie `stride` apart under those of a result: of a transposed convolution.
#[derive(Clone, Copy, Debug)]
struct Spread {
    /// Rows that one of the operand gives.
    reach: i64,
    stride: i64,
    /// Rows of the result that are left out above.
    pad: i64,
}

impl Spread {
    /// Rows of an operand of a height that make up rows of the result, with how many rows they give above and below these;
    /// less than 0 where there are more below than they give.
    fn need(self, (from, to): (usize, usize), height: usize) -> Option<((usize, usize), [i64; 2])> {
        let [from, to, height] = [from, to, height].map(|v| i64::try_from(v).ok());
        let (first, last) = (from?.checked_add(self.pad)?, to?.checked_add(self.pad)?.checked_sub(1)?);
        let stride = (self.stride > 0).then_some(self.stride)?;
        // The least with a row at or below the first one: the reach of the one in front of it ends above.
        let lo = (first - self.reach).div_euclid(stride).checked_add(1)?.max(0);
        let hi = (last.div_euclid(stride) + 1).min(height?);
        let above = first - lo * stride;
        let below = (hi - 1) * stride + self.reach - 1 - last;
        (lo < hi).then_some(((lo as usize, hi as usize), [above, below]))
    }
}

/// What rows of a result need of an operand.
#[derive(Clone, Copy, Debug)]
enum Reach {
    Window(Rows),
    /// So many rows of the result are one of the operand; parts begin and end with such.
    Blocks(usize),
    Spread(Spread),
    /// All rows; of the result there may be more than the part.
    All,
    /// All rows for all rows: it is cut along N only.
    Batch,
}

/// How a node reads an operand that varies; `None` if it cannot be done in parts.
fn reach(graph: &Graph, node: &Node, index: usize) -> Option<Reach> {
    let rank = graph.ty(node.outputs[0]).rank();
    let plain = |values: &[i64]| values.iter().all(|&v| v == 0);
    let window = |[kernel, strides, pads, dilations]: [&[i64]; 4]| {
        // What has less than two axes has no rows.
        if kernel.len() < 2 {
            return Some(Reach::Window(Rows::SAME));
        }
        let (kernel, stride) = (kernel[0], *strides.first()?);
        Some(Reach::Window(Rows { kernel, stride, pad: *pads.first()?, dilation: *dilations.first()? }))
    };
    let same = Some(Reach::Window(Rows::SAME));
    let conv = |weights: usize, strides: &[i64], pads: &[i64], dilations: &[i64]| {
        let weights = graph.ty(node.inputs.get(weights).copied().flatten()?).fixed_shape()?;
        let kernel: Vec<i64> = weights.get(2..)?.iter().map(|&k| k as i64).collect();
        window([&kernel, strides, pads, dilations])
    };
    match &node.op {
        Op::QLinearConv(op) if index == 0 => conv(3, &op.strides, &op.pads, &op.dilations),
        Op::Conv(op) if index == 0 => conv(1, &op.strides, &op.pads, &op.dilations),
        Op::ConvTranspose(op) if index == 0 && op.strides.len() == 2 => {
            let weights = graph.ty(node.inputs.get(1).copied().flatten()?).fixed_shape()?;
            let kernel = i64::try_from(*weights.get(2)?).ok()?;
            let reach = (kernel - 1).checked_mul(op.dilations[0])?.checked_add(1)?;
            Some(Reach::Spread(Spread { reach, stride: op.strides[0], pad: op.pads[0] }))
        }
        Op::ConvTranspose(_) if index == 0 => same,
        Op::LayerNorm(op) if index == 0 && op.axis > 0 => {
            Some(if rank == 4 && op.axis <= 2 { Reach::Batch } else { Reach::Window(Rows::SAME) })
        }
        Op::MaxPool(op) => window([&op.kernel, &op.strides, &op.pads, &op.dilations]),
        Op::AveragePool(op) if plain(&op.ceil_pads) && (op.count_include_pad || plain(&op.pads)) => {
            window([&op.kernel, &op.strides, &op.pads, &op.dilations])
        }
        Op::QLinearMatMul(_) | Op::MatMulInteger(_) if index == 0 => same,
        Op::QLinearMatMul(_) if index == 3 && rank == 4 => Some(Reach::All),
        Op::QLinearMatMul(_) if index == 3 && rank == 3 => same,
        Op::Cast(_) => same,
        Op::Gemm(op) if index == 0 && !op.trans_a => same,
        Op::MatMul(op) => match (index, rank) {
            (0, _) if !op.trans_a => same,
            (1, 4) => Some(Reach::All),
            _ => None,
        },
        Op::Reduce(op) if op.axes.contains(&0) => None,
        Op::Reduce(op) if op.axes.contains(&2) || !op.keep_dims => Some(Reach::Batch),
        Op::Reduce(_) => same,
        Op::Softmax(op) if op.axis > 0 && !(op.axis == 2 && rank == 4) && (!op.flatten || op.axis + 1 == rank) => same,
        Op::Concat(op) if op.axis == 1 || op.axis == 3 => same,
        Op::Slice(op) if op.axes.iter().all(|&axis| axis == 1 || axis == 3) => same,
        Op::Slice(op) if !op.axes.contains(&0) => match op.axes.iter().position(|&axis| axis == 2) {
            Some(at) if rank == 4 && op.steps[at] > 0 => {
                let (start, stride) = (op.starts[at].as_const()?, op.steps[at]);
                Some(Reach::Window(Rows { stride, pad: start.checked_neg()?, ..Rows::SAME }))
            }
            _ => Some(Reach::Batch),
        },
        Op::Pad(op) if index == 0 => {
            let along = |axis: usize| Some([op.before[axis].as_const()?, op.after[axis].as_const()?]);
            match (along(0)?, rank) {
                // Rows of such a border are others of the tensor.
                ([0, 0], 4) if op.mode != PadMode::Constant && along(2)? != [0, 0] => Some(Reach::Batch),
                ([0, 0], 4) => Some(Reach::Window(Rows { pad: along(2)?[0], ..Rows::SAME })),
                ([0, 0], _) => same,
                _ => None,
            }
        }
        Op::Transpose(op) if op.perm.first() == Some(&0) => {
            if rank == 4 && op.perm[2] != 2 {
                Some(Reach::Batch)
            } else {
                same
            }
        }
        Op::DepthToSpace(op) => Some(Reach::Blocks(usize::try_from(op.block).ok()?)),
        Op::SpaceToDepth(op) => Some(Reach::Window(Rows { kernel: op.block, stride: op.block, ..Rows::SAME })),
        Op::Reshape(_) => Some(Reach::Batch),
        op if is_elementwise(op) => same,
        _ => None,
    }
}

/// The operands that vary, with what a part of the result needs of them; `None` if there is no such part.
pub fn needs(graph: &Graph, node: &Node, part: Part) -> Option<Vec<(ValueId, Part)>> {
    let (result, whole) = (node.outputs[0], extents(graph, node.outputs[0])?);
    let rank = graph.ty(result).rank();
    let mut operands = Vec::new();
    for (index, value) in node.inputs.iter().enumerate().filter_map(|(index, value)| Some((index, (*value)?))) {
        let shape = graph.ty(value).fixed_shape()?;
        let repeats = is_elementwise(&node.op);
        if graph.constant(value).is_some() {
            // A constant is not cut: it is the same for all of N and H.
            let extent = |axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
            if repeats && (extent(0) != 1 || rank == 4 && extent(2) != 1) {
                return None;
            }
            continue;
        }
        let [batch, height] = extents(graph, value)?;
        if repeats && shape.len() != rank {
            // Axes are counted from the other end.
            operands.push((value, [(0, batch), (0, height)]));
            if (shape.len() > rank) || shape.len() + 1 == rank && rank == 4 && shape[1] != 1 {
                return None;
            }
            continue;
        }
        let along_batch = match batch {
            b if b == whole[0] => part[0],
            1 if repeats => (0, 1),
            _ => return None,
        };
        let along_rows = match reach(graph, node, index)? {
            Reach::Window(_) if repeats && height == 1 => (0, 1),
            Reach::Window(_) if repeats && height != whole[1] => return None,
            Reach::Window(rows) => rows.need(part[1], height)?.0,
            Reach::Blocks(rows) if part[1].0.is_multiple_of(rows) && part[1].1.is_multiple_of(rows) => {
                (part[1].0 / rows, part[1].1 / rows)
            }
            Reach::Blocks(_) => return None,
            Reach::Spread(rows) => rows.need(part[1], height)?.0,
            Reach::All => (0, height),
            Reach::Batch if part[1] == (0, whole[1]) => (0, height),
            Reach::Batch => return None,
        };
        operands.push((value, [along_batch, along_rows]));
    }
    Some(operands)
}

/// The operator for a part: with the padding that it has there, and the shape.
pub fn operator(graph: &Graph, node: &Node, part: Part) -> Option<Op> {
    let mut op = node.op.clone();
    let [batch, count] = part.map(|(from, to)| i64::try_from(to - from).ok());
    if let Op::Reshape(reshape) = &mut op {
        *reshape.shape.first_mut()? = batch?.into();
        return Some(op);
    }
    if graph.ty(node.outputs[0]).rank() < 4 || !(has_pads(&op) || matches!(op, Op::Slice(_) | Op::Pad(_))) {
        return Some(op);
    }
    let [_, height] = extents(graph, node.inputs.first().copied().flatten()?)?;
    let (_, [top, bottom]) = match reach(graph, node, 0)? {
        Reach::Window(rows) => rows.need(part[1], height)?,
        Reach::Spread(rows) => rows.need(part[1], height)?,
        Reach::Blocks(_) | Reach::All | Reach::Batch => return Some(op),
    };
    match &mut op {
        Op::QLinearConv(op) => set_pads(&mut op.pads, [top, bottom]),
        Op::Conv(op) => set_pads(&mut op.pads, [top, bottom]),
        Op::MaxPool(op) => set_pads(&mut op.pads, [top, bottom]),
        Op::AveragePool(op) => set_pads(&mut op.pads, [top, bottom]),
        Op::ConvTranspose(op) => {
            set_pads(&mut op.pads, [top, bottom.max(0)]);
            *op.output_padding.first_mut()? = (-bottom).max(0);
        }
        Op::Pad(op) => (op.before[2], op.after[2]) = (top.into(), bottom.into()),
        Op::Slice(op) => {
            if let Some(at) = op.axes.iter().position(|&axis| axis == 2) {
                (op.starts[at], op.sizes[at]) = (0.into(), count?.into());
            }
        }
        _ => {}
    }
    Some(op)
}

fn has_pads(op: &Op) -> bool {
    matches!(op, Op::QLinearConv(_) | Op::Conv(_) | Op::ConvTranspose(_) | Op::MaxPool(_) | Op::AveragePool(_))
}

fn set_pads(pads: &mut [i64], [top, bottom]: [i64; 2]) {
    if let [above, _, below, _] = pads {
        (*above, *below) = (top, bottom);
    }
}

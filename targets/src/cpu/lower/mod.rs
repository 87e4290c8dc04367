//! From a leaf of the tile IR to kernels: one file per family, chosen by the anchor operator.
//!
//! A family gets the operator and its operands as strided views ([`Operand`]) and returns the kernels that compute it, in
//! order. Layouts are only strides here; padding is a view that reaches beyond its buffer and has a fill value.

mod attention;
mod blocking;
mod borders;
mod conv;
mod conv_transpose;
mod dot;
mod einsum;
pub mod elementwise;
mod epilogue;
mod functions;
mod gemm;
mod index;
mod integer;
mod leaf;
mod micro;
mod movement;
mod nest;
mod nibble;
mod norms;
mod operand;
mod pack;
mod point;
mod pool;
mod product;
mod quantize;
mod recurrent;
mod requantize;
mod resize;
mod rows;
mod scatter;
mod select;
mod slide;
mod store;
mod stored;
mod transpose;
mod walk;
mod window;
mod winograd;

use adze_ir::ops::Op;
use adze_ir::propose::Schedule;

pub(in crate::cpu) use blocking::backwards;
pub use nest::{Nest, NestDim, broadcast_strides};
pub use operand::{Bounds, LeafCx, Lowered, Operand, PackedWeight, PtrRole, Unsupported};
pub use point::eval_steps;

/// The kernels of a leaf, in the order they run.
///
/// # Errors
/// [`Unsupported`] when the operator has no kernel for these operands, or none with the schedule that is stated.
pub fn lower_leaf(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let anchor = anchor(cx.op);
    let scheduled = matches!(
        anchor,
        Op::MatMul(_)
            | Op::Gemm(_)
            | Op::Conv(_)
            | Op::WinogradConv(_)
            | Op::ConvTranspose(_)
            | Op::MaxPool(_)
            | Op::AveragePool(_)
            | Op::LpPool(_)
    );
    if let Some(schedule) = cx.schedule.filter(|_| !scheduled) {
        let accepted = format!("no schedule: `{}` is computed in one way", anchor.name());
        return Err(Unsupported { found: format!("schedule {schedule}"), accepted });
    }
    match anchor {
        op if elementwise::is_elementwise(op) => point::lower(cx),
        Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::CumSum(_)
        | Op::CumProd(_)
        | Op::Softmax(_)
        | Op::LogSoftmax(_)
        | Op::LayerNorm(_)
        | Op::RmsNorm(_)
        | Op::InstanceNorm(_) => rows::lower(cx),
        Op::Relayout(_)
        | Op::BitCast(_)
        | Op::Transpose(_)
        | Op::Expand(_)
        | Op::Slice(_)
        | Op::Concat(_)
        | Op::Split(_)
        | Op::Pad(_)
        | Op::Reshape(_)
        | Op::DepthToSpace(_)
        | Op::SpaceToDepth(_)
        | Op::Tile(_)
        | Op::Trilu(_)
        | Op::ExtentValue(_)
        | Op::Iota(_) => movement::lower(cx),
        Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_) | Op::OneHot(_) => index::lower(cx),
        Op::ScatterElements(_) | Op::ScatterNd(_) => scatter::lower(cx),
        Op::TopK(_) => select::lower(cx),
        Op::DynamicQuantize(_) => quantize::lower(cx),
        Op::MatMulInteger(_) | Op::ConvInteger(_) | Op::QLinearConv(_) | Op::QLinearMatMul(_) => integer::lower(cx),
        Op::GroupNorm(_) | Op::LpNorm(_) | Op::Lrn(_) | Op::Hardmax(_) => norms::lower(cx),
        Op::Attention(_) | Op::RotaryEmbedding(_) => attention::lower(cx),
        Op::Einsum(_) => einsum::lower(cx),
        Op::Resize(_) => resize::lower(cx),
        Op::MatMul(_) | Op::Gemm(_) => gemm::lower(cx),
        Op::MatMulStored(_) => stored::lower(cx),
        Op::Conv(_) | Op::ConvStored(_) => conv::lower(cx),
        Op::WinogradConv(_) => winograd::lower(cx),
        Op::ConvTranspose(_) => conv_transpose::lower(cx),
        Op::Lstm(_) | Op::Gru(_) | Op::Rnn(_) => recurrent::lower(cx),
        Op::MaxPool(_) | Op::AveragePool(_) | Op::LpPool(_) => pool::lower(cx),
        op => Err(Unsupported { found: format!("`{op}`"), accepted: "an operator with a CPU kernel".into() }),
    }
}

/// The operator that decides the kernel.
fn anchor(op: &Op) -> &Op {
    match op {
        Op::Fused(fused) => &fused.anchor().op,
        op => op,
    }
}

/// The schedules that make sense for a leaf, most promising first; none where there is one way only, or no kernel.
pub fn schedules(cx: &LeafCx<'_>) -> Vec<Schedule> {
    let listed = match anchor(cx.op) {
        Op::MatMul(_) | Op::Gemm(_) => gemm::schedules(cx),
        Op::Conv(_) => conv::schedules(cx),
        Op::WinogradConv(_) => winograd::schedules(cx),
        Op::MaxPool(_) | Op::AveragePool(_) | Op::LpPool(_) => Ok(pool::schedules(cx)),
        _ => Ok(Vec::new()),
    };
    listed.unwrap_or_default()
}

#[cfg(test)]
mod tests;

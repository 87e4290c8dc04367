//! From a leaf of the tile IR to kernels: one file per family, chosen by the anchor operator.
//!
//! A family gets the operator and its operands as strided views ([`Operand`]) and returns the kernels that compute it, in
//! order. Layouts are only strides here; padding is a view that reaches beyond its buffer and has a fill value.

mod blocking;
mod conv;
mod epilogue;
mod gemm;
mod leaf;
mod micro;
mod operand;
mod pack;
mod product;
mod store;
mod window;

pub use operand::{Bounds, LeafCx, Lowered, Operand, PackedWeight, PtrRole, Unsupported};

use adze_ir::ops::Op;

/// The operator that decides the family: of a fusion its first step.
fn anchor(op: &Op) -> &Op {
    match op {
        Op::Fused(fused) => fused.steps.first().map_or(op, |step| &step.op),
        other => other,
    }
}

/// Lowers a leaf to kernels.
///
/// # Errors
/// [`Unsupported`] when no family has a kernel for it.
pub fn lower_leaf(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    match anchor(cx.op) {
        Op::MatMul(_) | Op::Gemm(_) => gemm::lower(cx),
        Op::Conv(_) => conv::lower(cx),
        other => Err(leaf::unsupported(format!("`{}`", other.name()), "an operator with kernels")),
    }
}

#[cfg(test)]
mod tests;

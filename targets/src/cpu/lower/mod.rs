//! From a leaf of the tile IR to kernels: one file per family, chosen by the anchor operator.
//!
//! A family gets the operator and its operands as strided views ([`Operand`]) and returns the kernels that compute it, in
//! order. Layouts are only strides here; padding is a view that reaches beyond its buffer and has a fill value.

mod operand;

pub use operand::{Bounds, LeafCx, Lowered, Operand, PackedWeight, PtrRole, Unsupported};

//! One-dimensional transforms of minimal filtering, on vectors of channels.
//!
//! The matrices stand in `adze_ir::ops::WinogradConv`; here they are additions and multiply-adds, with what two rows share
//! computed once.

use crate::cpu::kernel::{KernelBuilder, Type, Value};

/// The transforms of a tile.
pub(super) struct Transform {
    tile: i64,
    ty: Type,
}

impl Transform {
    pub fn new(tile: i64, ty: Type) -> Self {
        Self { tile, ty }
    }

    /// Type of the vectors.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// `factor * a + c`.
    fn add_times(&self, b: &mut KernelBuilder, factor: f64, a: Value, c: Value) -> Value {
        let factor = b.number(factor, self.ty);
        b.muladd(a, factor, c)
    }

    /// `B^T d`.
    pub fn forward(&self, b: &mut KernelBuilder, d: &[Value]) -> Vec<Value> {
        if self.tile == 2 {
            return vec![b.sub(d[0], d[2]), b.add(d[1], d[2]), b.sub(d[2], d[1]), b.sub(d[1], d[3])];
        }
        let (even, odd) = (self.add_times(b, -4.0, d[2], d[4]), self.add_times(b, -4.0, d[1], d[3]));
        let (near, far) = (b.sub(d[4], d[2]), b.sub(d[3], d[1]));
        let (first, last) = (self.add_times(b, -5.0, d[2], d[4]), self.add_times(b, -5.0, d[3], d[5]));
        vec![
            self.add_times(b, 4.0, d[0], first),
            b.add(even, odd),
            b.sub(even, odd),
            self.add_times(b, 2.0, far, near),
            self.add_times(b, -2.0, far, near),
            self.add_times(b, 4.0, d[1], last),
        ]
    }

    /// `A^T m`.
    pub fn back(&self, b: &mut KernelBuilder, m: &[Value]) -> Vec<Value> {
        let (sum, difference) = (b.add(m[1], m[2]), b.sub(m[1], m[2]));
        let first = b.add(m[0], sum);
        if self.tile == 2 {
            return vec![first, b.sub(difference, m[3])];
        }
        let (far, across) = (b.add(m[3], m[4]), b.sub(m[3], m[4]));
        let last = self.add_times(b, 8.0, across, difference);
        vec![
            b.add(first, far),
            self.add_times(b, 2.0, across, difference),
            self.add_times(b, 4.0, far, sum),
            b.add(last, m[5]),
        ]
    }
}

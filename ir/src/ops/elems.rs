//! Elements as groups of bytes: what operators that only move data work on, so that every dtype moves bit for bit.

use std::borrow::Cow;

use super::shape::strides;
use crate::tensor::{Tensor, join_parts};
use crate::types::DType;

/// The elements of a tensor, each `width` bytes long; elements of less than a byte are spread to one each.
pub(super) struct Elems<'a> {
    width: usize,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Elems<'a> {
    /// Of a tensor.
    pub(super) fn of(tensor: &'a Tensor) -> Self {
        let bytes = tensor.bytes();
        if tensor.dtype().bits() >= 8 {
            return Self { width: tensor.dtype().bits() as usize / 8, bytes: bytes.into() };
        }
        Self { width: 1, bytes: tensor.parts().collect() }
    }

    /// The bytes of one element.
    pub(super) fn get(&self, index: usize) -> &[u8] {
        self.run(index, 1)
    }

    /// The bytes of neighbouring elements.
    pub(super) fn run(&self, start: usize, len: usize) -> &[u8] {
        &self.bytes[start * self.width..(start + len) * self.width]
    }

    /// Overwrites neighbouring elements.
    pub(super) fn set(&mut self, start: usize, values: &[u8]) {
        let at = start * self.width;
        self.bytes.to_mut()[at..at + values.len()].copy_from_slice(values);
    }

    /// The tensor of these elements.
    pub(super) fn into_tensor(self, dtype: DType, shape: &[usize]) -> Tensor {
        Gathered { dtype, bytes: self.bytes.into_owned() }.finish(shape)
    }
}

/// A tensor made element by element, in row-major order.
pub(super) struct Gathered {
    dtype: DType,
    bytes: Vec<u8>,
}

impl Gathered {
    /// Nothing yet.
    pub(super) fn new(dtype: DType) -> Self {
        Self { dtype, bytes: Vec::new() }
    }

    /// Adds elements, as [`Elems`] lends them.
    pub(super) fn push(&mut self, elems: &[u8]) {
        self.bytes.extend_from_slice(elems);
    }

    /// The tensor, which has as many elements as were added.
    pub(super) fn finish(self, shape: &[usize]) -> Tensor {
        let bytes = match self.dtype.bits() {
            bits @ (2 | 4) => join_parts(&self.bytes, bits),
            _ => self.bytes,
        };
        Tensor::new(self.dtype, shape.to_vec(), bytes).expect("as many elements were added as the shape has")
    }
}

/// Reads a tensor through one table per axis: entry `j` of table `i` is the position on axis `i` of the operand that
/// position `j` of the result shows, or `None` for `fill`.
pub(super) fn remap(x: &Tensor, tables: &[Vec<Option<usize>>], fill: &[u8]) -> Tensor {
    let elems = Elems::of(x);
    let shape: Vec<usize> = tables.iter().map(Vec::len).collect();
    let steps = strides(x.shape());
    let mut result = Gathered::new(x.dtype());
    let Some((inner, outer)) = tables.split_last() else {
        result.push(elems.get(0));
        return result.finish(&[]);
    };
    for_each_index(&shape[..outer.len()], |index| {
        let base = outer
            .iter()
            .zip(index)
            .zip(&steps)
            .try_fold(0, |base, ((table, &at), step)| table[at].map(|position| base + position * step));
        for position in inner {
            result.push(match (base, position) {
                (Some(base), Some(position)) => elems.get(base + position),
                _ => fill,
            });
        }
    });
    result.finish(&shape)
}

/// Calls `visit` with every index into `shape`, in row-major order.
pub(super) fn for_each_index(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        visit(&index);
        let Some(axis) = (0..shape.len()).rev().find(|&axis| index[axis] + 1 < shape[axis]) else { return };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_bytes_survive() {
        for len in 0..9usize {
            let values: Vec<i128> = (0..len as i128).map(|v| v - 2).collect();
            for dtype in [DType::I4, DType::U4, DType::I2, DType::U2] {
                let x = Tensor::from_ints_wrapping(dtype, &[len], &values);
                assert_eq!(Elems::of(&x).into_tensor(dtype, &[len]), x);
            }
        }
    }

    #[test]
    fn remap_fills_and_reverses() {
        let x = Tensor::from_f32(&[2, 2], &[1.0, 2.0, 3.0, f32::NAN]);
        let tables = [vec![Some(1), None], vec![Some(1), Some(0), None]];
        let y = remap(&x, &tables, &7f32.to_le_bytes());
        assert_eq!(y, Tensor::from_f32(&[2, 3], &[f32::NAN, 3.0, 7.0, 7.0, 7.0, 7.0]));
        let scalar = Tensor::from_f32(&[], &[5.0]);
        assert_eq!(remap(&scalar, &[], &[]), scalar);
    }

    #[test]
    fn index_order() {
        let mut seen = Vec::new();
        for_each_index(&[2, 1, 2], |i| seen.push(i.to_vec()));
        assert_eq!(seen, [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]);
        for_each_index(&[2, 0], |_| panic!("an empty tensor has no element"));
        let mut scalars = 0;
        for_each_index(&[], |_| scalars += 1);
        assert_eq!(scalars, 1);
    }
}

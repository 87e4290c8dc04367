//! Where the elements of a buffer lie: the address is a sum of one term per logical axis, whatever the layout.

use super::{Buffer, Memory, WindowPlace};
use crate::extent::Extent;

/// The terms of an address along one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisTerms {
    /// Parts of the axis: `(index / div) % modulus · bits` each, without the modulus where it is 0.
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    div: i64,
    modulus: i64,
    bits: i64,
}

/// Addresses of a buffer whose extents have values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressing {
    axes: Vec<AxisTerms>,
    /// Whole shape, for bounds.
    pub shape: Vec<i64>,
    /// Bits of one element.
    pub elem_bits: i64,
    /// Axis and held rows of a window, and its origin unless it rolls.
    pub window: Option<(usize, i64, Option<i64>)>,
    /// Bits that the buffer spans from its first one on.
    pub span_bits: i64,
}

impl Addressing {
    /// Addresses relative to the buffer's first bit; lanes of a planned buffer lie a whole capacity apart.
    ///
    /// `None` for extents without a value and for layouts that do not fit.
    pub fn new(buffer: &Buffer, memory: Memory, lookup: &dyn Fn(&str) -> Option<i64>) -> Option<Self> {
        let value = |e: &Extent| e.eval(lookup).filter(|v| *v >= 0);
        let shape: Vec<i64> = buffer.shape.iter().map(value).collect::<Option<_>>()?;
        let held: Vec<i64> = buffer.held_shape().iter().map(value).collect::<Option<_>>()?;
        if !buffer.layout.fits(shape.len()) || held.len() != shape.len() {
            return None;
        }
        let elem_bits = i64::from(buffer.dtype.bits());
        let dims: Vec<(usize, i64)> = if buffer.layout.is_plain() {
            (0..shape.len()).map(|axis| (axis, 1)).collect()
        } else {
            buffer.layout.dims().iter().map(|d| (d.axis as usize, i64::from(d.block))).collect()
        };
        let mut parts: Vec<(usize, Part)> = Vec::with_capacity(dims.len());
        let mut step = elem_bits;
        // Innermost first: the innermost block of an axis takes the remainder, the part without a block what is left.
        let mut inner = vec![1i64; shape.len()];
        for &(axis, block) in dims.iter().rev() {
            let part = if block == 1 {
                let all_blocks: i64 = dims.iter().filter(|d| d.0 == axis).map(|d| d.1).product();
                let extent = held[axis].checked_add(all_blocks - 1)? / all_blocks;
                let part = Part { div: all_blocks, modulus: 0, bits: step };
                step = step.checked_mul(extent.max(1))?;
                part
            } else {
                let part = Part { div: inner[axis], modulus: block, bits: step };
                inner[axis] *= block;
                step = step.checked_mul(block)?;
                part
            };
            parts.push((axis, part));
        }
        if memory.lanes > 1
            && buffer.offset.is_some()
            && let (Some((_, outermost)), Some(capacity)) = (parts.last_mut(), memory.capacity)
        {
            outermost.bits = capacity.checked_mul(8)?;
            step = capacity.checked_mul(8)?.checked_mul(i64::from(memory.lanes))?;
        }
        let window = match &buffer.window {
            None => None,
            Some(window) => {
                let rows = held.get(window.axis).copied()?;
                let origin = match &window.place {
                    WindowPlace::Rolling => None,
                    WindowPlace::From(origin) => Some(origin.eval(lookup)?),
                };
                Some((window.axis, rows, origin))
            }
        };
        let axes = (0..shape.len())
            .map(|axis| AxisTerms { parts: parts.iter().filter(|p| p.0 == axis).map(|p| p.1).collect() })
            .collect();
        Some(Self { axes, shape, elem_bits, window, span_bits: step })
    }

    /// The address term of each of `size` indices from `offset` on; `None` outside of the buffer.
    pub fn terms(&self, axis: usize, offset: i64, size: i64) -> Vec<Option<i64>> {
        (offset..offset.saturating_add(size.max(0)))
            .map(|index| {
                (0..self.shape[axis]).contains(&index).then(|| self.axes[axis].at(self.held_index(axis, index)))
            })
            .collect()
    }

    /// Where an index of the whole axis lies along the held one; may leave the held rows when a program is wrong.
    pub fn held_index(&self, axis: usize, index: i64) -> i64 {
        match self.window {
            Some((windowed, rows, None)) if windowed == axis && rows > 0 => index.rem_euclid(rows),
            Some((windowed, _, Some(origin))) if windowed == axis => index - origin,
            _ => index,
        }
    }
}

impl AxisTerms {
    fn at(&self, index: i64) -> i64 {
        let term = |p: &Part| {
            let quotient = index.div_euclid(p.div);
            (if p.modulus == 0 { quotient } else { quotient.rem_euclid(p.modulus) }) * p.bits
        };
        self.parts.iter().map(term).sum()
    }
}

/// Calls `visit` with the address of every element of a box in row-major order; `None` where one axis is outside.
pub fn for_each_address(terms: &[Vec<Option<i64>>], visit: &mut dyn FnMut(Option<i64>)) {
    fn axis(terms: &[Vec<Option<i64>>], base: Option<i64>, visit: &mut dyn FnMut(Option<i64>)) {
        match terms.split_first() {
            None => visit(base),
            Some((first, rest)) => {
                for term in first {
                    axis(rest, base.zip(*term).map(|(a, b)| a + b), visit);
                }
            }
        }
    }
    axis(terms, Some(0), visit);
}

/// The bytes of a tensor in a buffer's layout, as they lie in memory; padding of blocks is zero.
///
/// `None` when the shape is another one, or the layout does not fit.
pub fn pack(buffer: &Buffer, tensor: &crate::tensor::Tensor) -> Option<Vec<u8>> {
    let addressing = Addressing::new(&Buffer { offset: None, ..buffer.clone() }, Memory::default(), &|_| None)?;
    let shape: Vec<i64> = tensor.shape().iter().map(|&d| i64::try_from(d).ok()).collect::<Option<_>>()?;
    if shape != addressing.shape || tensor.dtype() != buffer.dtype || buffer.window.is_some() {
        return None;
    }
    if buffer.layout.is_plain() {
        return Some(tensor.bytes().to_vec());
    }
    let mut storage = vec![0u8; usize::try_from(addressing.span_bits).ok()?.div_ceil(8)];
    let terms: Vec<_> = (0..shape.len()).map(|axis| addressing.terms(axis, 0, shape[axis])).collect();
    let bits = addressing.elem_bits as usize;
    let mut from = 0usize;
    for_each_address(&terms, &mut |to| {
        if let Some(to) = to {
            copy_bits(tensor.bytes(), from, &mut storage, to as usize, bits);
        }
        from += bits;
    });
    Some(storage)
}

/// Copies one element of 2, 4 or a multiple of 8 bits between bit addresses that are multiples of its size.
pub fn copy_bits(src: &[u8], from: usize, dst: &mut [u8], to: usize, bits: usize) {
    if bits < 8 {
        let mask = (1u8 << bits) - 1;
        let part = (src[from / 8] >> (from % 8)) & mask;
        let byte = &mut dst[to / 8];
        *byte = (*byte & !(mask << (to % 8))) | (part << (to % 8));
    } else {
        dst[to / 8..(to + bits) / 8].copy_from_slice(&src[from / 8..(from + bits) / 8]);
    }
}

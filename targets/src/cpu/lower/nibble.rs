//! Elements of any width in memory; 4-bit ones are halves of a byte, the lower first.

use adze_ir::extent::Extent;
use adze_ir::types::DType;

use crate::cpu::kernel::{BinOp, Elem, KernelBuilder, Param, Value, ir::Shift};

/// Whether two elements share a byte.
pub(super) fn is_nibble(dtype: DType) -> bool {
    dtype.bits() < 8
}

/// Reads `lanes` elements in memory form; one 4-bit element comes as an `i8` of its value.
pub(super) fn load(b: &mut KernelBuilder, param: Param, offset: Extent, lanes: u16) -> Value {
    let dtype = b.dtype(param);
    if !is_nibble(dtype) {
        return b.load(param, offset, lanes);
    }
    let (byte, upper) = halves(b, &offset);
    let pair = b.load(param, byte, 1);
    // The wanted half goes to the top of the byte, then down with or without its sign.
    let four = b.i32(4, 1);
    let up = b.sub(four, upper);
    let top = b.shift_by(Shift::Left, pair, up);
    extend(b, top, dtype)
}

/// An `i8` whose upper half is a 4-bit element, as its value.
fn extend(b: &mut KernelBuilder, top: Value, dtype: DType) -> Value {
    b.shift(if dtype == DType::I4 { Shift::RightS } else { Shift::RightU }, top, 4)
}

/// The low four bits of an `i8` as the value they stand for; other dtypes as they are.
pub(super) fn wrap(b: &mut KernelBuilder, value: Value, dtype: DType) -> Value {
    if !is_nibble(dtype) {
        return value;
    }
    let top = b.shift(Shift::Left, value, 4);
    extend(b, top, dtype)
}

/// Writes a value in memory form; a 4-bit element leaves the other half of its byte alone, so that two threads must not
/// write neighbours.
pub(super) fn store(b: &mut KernelBuilder, param: Param, offset: Extent, value: Value) {
    if !is_nibble(b.dtype(param)) {
        return b.store(param, offset, value);
    }
    let (byte, upper) = halves(b, &offset);
    let pair = b.load(param, byte.clone(), 1);
    let ty = b.ty(value);
    let low = b.int(15, ty);
    let mask = b.shift_by(Shift::Left, low, upper);
    let nibble = b.bin(BinOp::And, value, low);
    let placed = b.shift_by(Shift::Left, nibble, upper);
    // The other half: `pair` without the bits under the mask.
    let own = b.bin(BinOp::And, pair, mask);
    let other = b.bin(BinOp::Xor, pair, own);
    let pair = b.bin(BinOp::Or, other, placed);
    b.store(param, byte, pair);
}

/// The byte of an element, and as `i32` the position of its lowest bit there.
fn halves(b: &mut KernelBuilder, offset: &Extent) -> (Extent, Value) {
    let upper = b.extent(offset.modulo(&2.into()) * 4.into());
    (offset.floordiv(&2.into()), b.convert(upper, true, Elem::I32))
}

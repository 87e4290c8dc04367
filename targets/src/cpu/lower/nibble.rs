//! Elements of any width in memory; those of 2 and 4 bits are parts of a byte, the lowest first.

use adze_ir::extent::Extent;
use adze_ir::types::DType;

use crate::cpu::kernel::{BinOp, Elem, KernelBuilder, Param, Type, Value, ir::Shift};

/// Whether elements share a byte.
pub(super) fn is_nibble(dtype: DType) -> bool {
    dtype.bits() < 8
}

/// Reads `lanes` elements in memory form; one of less than a byte comes as an `i8` of its value.
pub(super) fn load(b: &mut KernelBuilder, param: Param, offset: Extent, lanes: u16) -> Value {
    let dtype = b.dtype(param);
    if !is_nibble(dtype) {
        return b.load(param, offset, lanes);
    }
    let (byte, lowest) = place(b, &offset, dtype);
    let whole = b.load(param, byte, 1);
    // The wanted part goes to the top of the byte, then down with or without its sign.
    let room = b.int(i64::from(8 - dtype.bits()), Type::I32);
    let up = b.sub(room, lowest);
    let top = b.shift_by(Shift::Left, whole, up);
    extend(b, top, dtype)
}

/// An `i8` whose highest bits are an element, as its value.
fn extend(b: &mut KernelBuilder, top: Value, dtype: DType) -> Value {
    let signed = matches!(dtype, DType::I2 | DType::I4);
    b.shift(if signed { Shift::RightS } else { Shift::RightU }, top, 8 - dtype.bits())
}

/// The lowest bits of an `i8` as the value they stand for; dtypes of whole bytes as they are.
pub(super) fn wrap(b: &mut KernelBuilder, value: Value, dtype: DType) -> Value {
    if !is_nibble(dtype) {
        return value;
    }
    let top = b.shift(Shift::Left, value, 8 - dtype.bits());
    extend(b, top, dtype)
}

/// Writes a value in memory form; an element of less than a byte leaves the rest of its byte alone, so that two threads must
/// not write neighbours.
pub(super) fn store(b: &mut KernelBuilder, param: Param, offset: Extent, value: Value) {
    let dtype = b.dtype(param);
    if !is_nibble(dtype) {
        return b.store(param, offset, value);
    }
    let (byte, lowest) = place(b, &offset, dtype);
    let whole = b.load(param, byte.clone(), 1);
    let ty = b.ty(value);
    let low = b.int((1 << dtype.bits()) - 1, ty);
    let mask = b.shift_by(Shift::Left, low, lowest);
    let part = b.bin(BinOp::And, value, low);
    let placed = b.shift_by(Shift::Left, part, lowest);
    // The rest: the byte without the bits under the mask.
    let own = b.bin(BinOp::And, whole, mask);
    let rest = b.bin(BinOp::Xor, whole, own);
    let whole = b.bin(BinOp::Or, rest, placed);
    b.store(param, byte, whole);
}

/// The byte of an element, and as `i32` the position of its lowest bit there.
fn place(b: &mut KernelBuilder, offset: &Extent, dtype: DType) -> (Extent, Value) {
    let per_byte = Extent::from(i64::from(8 / dtype.bits()));
    let lowest = b.extent(offset.modulo(&per_byte) * i64::from(dtype.bits()).into());
    (offset.floordiv(&per_byte), b.convert(lowest, true, Elem::I32))
}

//! Elementwise functions of two operands with NumPy broadcasting.

use super::op;
use crate::{word_attribute, word_enum};

word_enum! {
    /// A function of two elements. Integer arithmetic wraps.
    pub enum BinaryFn {
        /// `a + b`.
        Add = "add",
        /// `a - b`.
        Sub = "sub",
        /// `a · b`.
        Mul = "mul",
        /// `a / b`; integers truncate, division by zero gives 0 (compiled code and interpreter agree).
        Div = "div",
        /// `a^b`; `b` may have another dtype.
        Pow = "pow",
        /// The smaller; NaN wins.
        Min = "min",
        /// The larger; NaN wins.
        Max = "max",
        /// Remainder with the divisor's sign; integers only; by zero gives 0.
        Mod = "mod",
        /// Remainder with the dividend's sign (C's `fmod`).
        Fmod = "fmod",
        /// Logical and of `bool`.
        And = "and",
        /// Logical or of `bool`.
        Or = "or",
        /// Logical exclusive or of `bool`.
        Xor = "xor",
        /// `a = b`: `bool`.
        Equal = "equal",
        /// `a < b`: `bool`.
        Less = "less",
        /// `a <= b`: `bool`.
        LessOrEqual = "less_or_equal",
        /// `a > b`: `bool`.
        Greater = "greater",
        /// `a >= b`: `bool`.
        GreaterOrEqual = "greater_or_equal",
        /// Bitwise and of integers.
        BitAnd = "bit_and",
        /// Bitwise or of integers.
        BitOr = "bit_or",
        /// Bitwise exclusive or of integers.
        BitXor = "bit_xor",
        /// `a << b` of unsigned integers; 0 when `b` is the width or more.
        ShiftLeft = "shift_left",
        /// `a >> b` of unsigned integers; 0 when `b` is the width or more.
        ShiftRight = "shift_right",
    }
}
word_attribute!(BinaryFn);

impl BinaryFn {
    /// Whether the result is `bool` whatever the operands are.
    pub fn is_comparison(self) -> bool {
        use BinaryFn::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        matches!(self, Equal | Less | LessOrEqual | Greater | GreaterOrEqual)
    }
}

op! {
    /// Applies a function to pairs of elements; shapes broadcast as in NumPy. Source: the ONNX operator of the same name.
    pub struct Binary = "binary" (2..=2) {
        /// Which one.
        function: BinaryFn,
    }
}

//! Elementwise functions of two operands with NumPy broadcasting.

use super::math::Ring;
use super::shape::{broadcast, broadcast_strides, concrete, need_dtype, need_number, need_same_dtype, walk};
use super::{EvalError, OpDef, Operands, TypeError, op};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};
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
        /// Remainder with the divisor's sign; integers by zero give 0.
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
        /// `a << b` of integers; 0 when `b` is negative or the width or more.
        ShiftLeft = "shift_left",
        /// `a >> b` of integers, copying the sign; all sign (0 or -1) when `b` is negative or the width or more.
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

impl BinaryFn {
    fn accepts(self, dtype: DType) -> bool {
        match self {
            Self::Equal => dtype.is_number() || dtype == DType::Bool,
            Self::And | Self::Or | Self::Xor => dtype == DType::Bool,
            Self::BitAnd | Self::BitOr | Self::BitXor | Self::ShiftLeft | Self::ShiftRight => dtype.is_int(),
            _ => dtype.is_number(),
        }
    }

    fn accepted(self) -> &'static str {
        match self {
            Self::Equal => "a type that is computed with",
            Self::And | Self::Or | Self::Xor => "bool",
            Self::BitAnd | Self::BitOr | Self::BitXor | Self::ShiftLeft | Self::ShiftRight => "an integer type",
            _ => "a floating-point or integer type",
        }
    }

    /// The function on floating-point elements; comparisons give 0 or 1.
    fn on_f64(self, a: f64, b: f64) -> f64 {
        let truth = |condition: bool| f64::from(u8::from(condition));
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Pow => a.powf(b),
            Self::Min => a.smaller(b),
            Self::Max => a.larger(b),
            Self::Mod => floor_rem(a, b),
            Self::Fmod => a % b,
            Self::Equal => truth(a == b),
            Self::Less => truth(a < b),
            Self::LessOrEqual => truth(a <= b),
            Self::Greater => truth(a > b),
            Self::GreaterOrEqual => truth(a >= b),
            // Refused by the type rule.
            Self::And | Self::Or | Self::Xor | Self::BitAnd | Self::BitOr | Self::BitXor => f64::NAN,
            Self::ShiftLeft | Self::ShiftRight => f64::NAN,
        }
    }

    /// The function on integers and `bool`, before wrapping to `dtype`.
    fn on_int(self, dtype: DType, a: i128, b: i128) -> i128 {
        let bits = i128::from(dtype.bits());
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a.wrapping_mul(b),
            Self::Div => a.checked_div(b).unwrap_or(0),
            Self::Pow => int_pow(a, b),
            Self::Min => a.min(b),
            Self::Max => a.max(b),
            Self::Mod => floor_mod(a, b),
            Self::Fmod => a.checked_rem(b).unwrap_or(0),
            Self::And | Self::BitAnd => a & b,
            Self::Or | Self::BitOr => a | b,
            Self::Xor | Self::BitXor => a ^ b,
            Self::Equal => i128::from(a == b),
            Self::Less => i128::from(a < b),
            Self::LessOrEqual => i128::from(a <= b),
            Self::Greater => i128::from(a > b),
            Self::GreaterOrEqual => i128::from(a >= b),
            // Bits that fall out at either end, or a count outside of the width, leave the sign or nothing.
            Self::ShiftRight if !(0..bits).contains(&b) => -i128::from(a < 0),
            Self::ShiftLeft if !(0..bits).contains(&b) => 0,
            Self::ShiftLeft => a << b,
            Self::ShiftRight => a >> b,
        }
    }
}

/// Remainder with the divisor's sign; 0 for a divisor of 0.
fn floor_mod(a: i128, b: i128) -> i128 {
    let rest = a.checked_rem(b).unwrap_or(0);
    if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
}

/// Remainder with the divisor's sign, also for zero, as NumPy's `mod`.
fn floor_rem(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest == 0.0 {
        0f64.copysign(b)
    } else if (rest < 0.0) != (b < 0.0) {
        rest + b
    } else {
        rest
    }
}

/// `a^b` modulo 2^128; negative exponents give the truncated quotient (0 for a base of 0).
fn int_pow(a: i128, b: i128) -> i128 {
    if b < 0 {
        return match a {
            1 => 1,
            -1 if b % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut power, mut square, mut rest) = (1i128, a, b);
    while rest > 0 {
        if rest & 1 == 1 {
            power = power.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest >>= 1;
    }
    power
}

impl OpDef for Binary {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        need_dtype(0, a, |d| self.function.accepts(d), self.function.accepted())?;
        if self.function == BinaryFn::Pow {
            need_number(1, b)?;
        } else {
            need_same_dtype(inputs)?;
        }
        let dtype = if self.function.is_comparison() { DType::Bool } else { a.dtype };
        Ok(vec![TensorType::new(dtype, broadcast(&a.shape, &b.shape)?)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        let (dtype, result) = (a.dtype(), types[0].dtype);
        let shape = concrete(&types[0])?;
        let function = self.function;
        if dtype.is_float() {
            let values = zip(a, b, &shape, |x: f64, y: f64| function.on_f64(x, y));
            return Ok(vec![Tensor::from_f64(result, &shape, &values)]);
        }
        if b.dtype().is_float() {
            // An integer to a floating-point power truncates, as C's conversion does.
            let values = zip(a, b, &shape, |x: f64, y: f64| x.powf(y).trunc());
            return Ok(vec![Tensor::from_f64(result, &shape, &values)]);
        }
        let values = zip(a, b, &shape, |x: i128, y: i128| function.on_int(dtype, x, y));
        Ok(vec![i128::store(result, &shape, &values)])
    }
}

/// A function of two tensors, element by element under broadcasting to `shape`.
pub(super) fn zip<T: Ring, R>(a: &Tensor, b: &Tensor, shape: &[usize], function: impl Fn(T, T) -> R) -> Vec<R> {
    let (x, y) = (T::load(a), T::load(b));
    if a.shape() == b.shape() {
        return x.into_iter().zip(y).map(|(x, y)| function(x, y)).collect();
    }
    let (left, right) = (broadcast_strides(a.shape(), shape), broadcast_strides(b.shape(), shape));
    let mut values = Vec::with_capacity(shape.iter().product());
    walk(shape, [&left, &right], |[i, j]| values.push(function(x[i], y[j])));
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;

    fn apply(function: BinaryFn, a: &Tensor, b: &Tensor) -> Tensor {
        Op::from(Binary { function }).eval(&[Some(a), Some(b)], &|_| None).unwrap().pop().unwrap()
    }

    #[test]
    fn integers() {
        use BinaryFn::*;
        use DType::*;
        type Case<'a> = (BinaryFn, DType, &'a [i128], &'a [i128], &'a [i128]);
        let cases: &[Case<'_>] = &[
            (Add, I8, &[127, -128], &[1, -1], &[-128, 127]),
            (Mul, U64, &[u64::MAX.into()], &[u64::MAX.into()], &[1]),
            (Div, I32, &[7, -7, 7, i32::MIN.into()], &[2, 2, 0, -1], &[3, -3, 0, i32::MIN.into()]),
            (Mod, I32, &[7, -7, 7, -7, 1], &[3, 3, -3, -3, 0], &[1, 2, -2, -1, 0]),
            (Fmod, I32, &[7, -7, 7, -7, 1], &[3, 3, -3, -3, 0], &[1, -1, 1, -1, 0]),
            (Pow, I32, &[2, 3, -1, 0, 2], &[10, 40, -3, -1, 0], &[1024, 689_956_897, -1, 0, 1]),
            (ShiftLeft, U8, &[3, 1], &[7, 8], &[128, 0]),
            (ShiftRight, U8, &[200, 1], &[3, 9], &[25, 0]),
            (BitXor, U4, &[9], &[15], &[6]),
            (And, Bool, &[1, 1], &[0, 1], &[0, 1]),
            (Less, U64, &[(1 << 63) + 1], &[1 << 63], &[0]),
        ];
        for (function, dtype, a, b, expected) in cases {
            let (a, b) = (Tensor::from_ints(*dtype, &[a.len()], a), Tensor::from_ints(*dtype, &[b.len()], b));
            assert_eq!(apply(*function, &a, &b).to_ints(), *expected, "{function} {dtype}");
        }
    }

    #[test]
    fn floats_broadcast_and_keep_nan() {
        let a = Tensor::from_f32(&[2, 1], &[1.0, f32::NAN]);
        let b = Tensor::from_f32(&[3], &[0.0, 2.0, -1.0]);
        let sum = apply(BinaryFn::Add, &a, &b);
        assert_eq!((sum.shape(), &sum.to_f64()[..3]), (&[2, 3][..], &[1.0, 3.0, 0.0][..]));
        assert!(apply(BinaryFn::Min, &a, &b).to_f64()[3..].iter().all(|v| v.is_nan()));
        assert_eq!(apply(BinaryFn::LessOrEqual, &a, &b).to_ints(), [0, 1, 0, 0, 0, 0]);
        let empty = Tensor::from_f32(&[0, 3], &[]);
        assert_eq!(apply(BinaryFn::Mul, &empty, &b).shape(), [0, 3]);
        let power = apply(BinaryFn::Pow, &Tensor::from_ints(DType::I32, &[2], &[9, 2]), &Tensor::from_f32(&[], &[0.5]));
        assert_eq!(power, Tensor::from_ints(DType::I32, &[2], &[3, 1]));
    }

    #[test]
    fn refusals() {
        let (f, i) = (TensorType::fixed(DType::F32, &[2]), TensorType::fixed(DType::I32, &[2]));
        let op = Op::from(Binary { function: BinaryFn::Add });
        assert!(op.infer(&[Some(&f), Some(&i)]).is_err() && op.infer(&[Some(&f), None]).is_err());
        // Shifts take integers of either sign (ONNX `BitShift` of newer opsets), no floats.
        assert!(Op::from(Binary { function: BinaryFn::ShiftLeft }).infer(&[Some(&f), Some(&f)]).is_err());
    }
}

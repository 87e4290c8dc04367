//! Integer matrix products and convolutions with zero points, and their quantized forms: one sum at a time.

use adze_ir::extent::Extent;
use adze_ir::ops::{ConvInteger, Op, QLinearConv};
use adze_ir::quant::Requantize;
use adze_ir::types::DType;

use super::leaf::{Leaf, unsupported};
use super::operand::{LeafCx, Lowered, Operand, Unsupported};
use super::walk::{Source, each, fold, inside};
use crate::cpu::kernel::{BinOp, Cmp, Elem, KernelBuilder, Type, UnOp, Value};

/// Lowers integer sums.
///
/// # Errors
/// [`Unsupported`] for requantize contracts without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let lowered = match cx.op {
        Op::MatMulInteger(_) => product(cx, [0, 1], [2, 3], None)?,
        Op::QLinearMatMul(op) => product(cx, [0, 3], [2, 5], Some(op.contract))?,
        Op::ConvInteger(op) => convolution(cx, &Window::of_integer(op), [0, 1], [2, 3], None)?,
        Op::QLinearConv(op) => convolution(cx, &Window::of_quantized(op), [0, 3], [2, 5], Some(op.contract))?,
        op => return Err(unsupported(format!("`{op}`"), "an integer product or convolution")),
    };
    Ok(vec![lowered])
}

/// How a sum becomes the result.
enum Finish<'a> {
    /// It is the result.
    Sum,
    /// `sat(round(f32(sum) · (a_scale · b_scale / y_scale)) + y_zero)`.
    Requantize { scales: [Source<'a>; 2], result: [Source<'a>; 2] },
}

impl<'a> Finish<'a> {
    /// `scales` are the positions of the operands' scales.
    fn of(leaf: &mut Leaf<'a>, contract: Option<Requantize>, scales: [usize; 2]) -> Result<Self, Unsupported> {
        match contract {
            None => Ok(Self::Sum),
            Some(Requantize::F32Rne) => Ok(Self::Requantize {
                scales: [Source::input(leaf, scales[0])?, Source::input(leaf, scales[1])?],
                result: [Source::input(leaf, 6)?, Source::input(leaf, 7)?],
            }),
            Some(other) => Err(unsupported(format!("requantize contract {other}"), Requantize::F32Rne.to_string())),
        }
    }

    /// The result for a sum; `at` are the places of its scales.
    fn emit(&self, b: &mut KernelBuilder, sum: Value, at: [Extent; 2], to: DType) -> Value {
        let Self::Requantize { scales, result } = self else { return sum };
        let [left, right] = [0, 1].map(|i| scales[i].load(b, at[i].clone(), Elem::F32));
        let scale = b.mul(left, right);
        let of_result = result[0].load(b, result[0].stream.base.clone(), Elem::F32);
        let scale = b.div(scale, of_result);
        let zero = result[1].load(b, result[1].stream.base.clone(), Elem::I32);
        let real = b.convert(sum, true, Elem::F32);
        let scaled = b.mul(real, scale);
        saturate(b, scaled, Some(zero), to)
    }
}

/// `sat(round_half_even(x) + zero)` of `f32` lanes as `i32`; NaN gives the smallest value.
pub(super) fn saturate(b: &mut KernelBuilder, x: Value, zero: Option<Value>, to: DType) -> Value {
    let ty = b.ty(x);
    let int = ty.with_elem(Elem::I32);
    let (lo, hi) = to.int_range().unwrap_or((0, 0));
    let rounded = b.un(UnOp::Nearest, x);
    // Exact in f32, and beyond every stored integer less its zero point.
    let (low, high) = (b.number(-2f64.powi(24), ty), b.number(2f64.powi(24), ty));
    let bounded = b.bin(BinOp::MinSel, rounded, high);
    let bounded = b.bin(BinOp::MaxSel, bounded, low);
    let nan = b.cmp(Cmp::Ne, x, x);
    let number = b.select(nan, low, bounded);
    let mut value = b.convert(number, true, Elem::I32);
    if let Some(zero) = zero {
        let moved = b.add(value, zero);
        // NaN is the smallest value whatever the zero point is.
        let mask = b.mask_to(nan, Elem::M32);
        value = b.select(mask, value, moved);
    }
    let (lo, hi) = (b.int(lo as i64, int), b.int(hi as i64, int));
    let value = b.bin(BinOp::MaxS, value, lo);
    b.bin(BinOp::MinS, value, hi)
}

/// A matrix operand as seen from the result: elements per index of each of the result's axes, and per index of the sum.
struct Matrix {
    outer: Vec<Extent>,
    summed: Extent,
}

impl Matrix {
    /// `vectors` says which of both operands have rank 1; `second` which one this is (or is a parameter of).
    fn of(operand: &Operand, second: bool, vectors: [bool; 2], rank: usize) -> Matrix {
        let mut outer = vec![Extent::ZERO; rank];
        let stride = |axis: usize| match operand.shape[axis] == Extent::ONE {
            true => Extent::ZERO,
            false => operand.strides[axis].clone(),
        };
        let Some(batch) = operand.rank().checked_sub(2) else {
            return Matrix { outer, summed: if operand.rank() == 1 { stride(0) } else { Extent::ZERO } };
        };
        let batches = rank - vectors.iter().filter(|v| !**v).count();
        for axis in 0..batch {
            outer[batches - batch + axis] = stride(axis);
        }
        let (own, summed) = if second { (batch + 1, batch) } else { (batch, batch + 1) };
        let place = if second { rank - 1 } else { batches };
        outer[place] = stride(own);
        Matrix { outer, summed: stride(summed) }
    }

    /// A scale or zero point of such an operand: one value, one per row (or column), or shaped like the operand.
    fn of_parameter(operand: &Operand, second: bool, vectors: [bool; 2], rank: usize) -> Vec<Extent> {
        match operand.rank() {
            0 | 1 => {
                let mut outer = vec![Extent::ZERO; rank];
                if operand.rank() == 1 && operand.shape[0] != Extent::ONE {
                    let place = if second { rank - 1 } else { rank - 1 - usize::from(!vectors[1]) };
                    outer[place] = operand.strides[0].clone();
                }
                outer
            }
            _ => Matrix::of(operand, second, vectors, rank).outer,
        }
    }
}

/// `Σ (a - a_zero) · (b - b_zero)` over every pair of rows and columns.
fn product(
    cx: &LeafCx<'_>,
    operands: [usize; 2],
    zeros: [usize; 2],
    contract: Option<Requantize>,
) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, cx.op.name());
    let y = Source::output(&mut leaf, 0)?;
    let sides = [Source::input(&mut leaf, operands[0])?, Source::input(&mut leaf, operands[1])?];
    let zeros = [Source::optional(&mut leaf, zeros[0])?, Source::optional(&mut leaf, zeros[1])?];
    let finish = Finish::of(&mut leaf, contract, [operands[0] + 1, operands[1] + 1])?;
    let rank = y.operand.rank();
    let vectors = [sides[0].operand.rank() == 1, sides[1].operand.rank() == 1];
    let of = |s: &Source<'_>, second: bool| Matrix::of_parameter(s.operand, second, vectors, rank);
    let views = [0, 1].map(|i| Matrix::of(sides[i].operand, i == 1, vectors, rank));
    let zero_strides = [0, 1].map(|i| zeros[i].as_ref().map(|z| of(z, i == 1)));
    let count = sides[0].operand.shape.last().cloned().unwrap_or(Extent::ONE);
    let b = &mut leaf.b;
    let range = each(b, &y.operand.shape.clone(), |b, index| {
        let zero = [0, 1].map(|i| {
            let (source, strides) = (zeros[i].as_ref()?, zero_strides[i].as_ref()?);
            Some(source.load(b, source.by(strides, index), Elem::I32))
        });
        let none = b.zero(Type::scalar(Elem::I32));
        let sum = fold(b, std::slice::from_ref(&count), &[none], &mut |b, k, accs| {
            let factors = [0, 1].map(|i| {
                let at = sides[i].by(&views[i].outer, index) + views[i].summed.clone() * k[0].clone();
                let value = sides[i].load(b, at, Elem::I32);
                zero[i].map_or(value, |zero| b.sub(value, zero))
            });
            let term = b.mul(factors[0], factors[1]);
            vec![b.add(accs[0], term)]
        })[0];
        let places = match &finish {
            Finish::Sum => [Extent::ZERO, Extent::ZERO],
            Finish::Requantize { scales, .. } => [0, 1].map(|i| scales[i].by(&of(&scales[i], i == 1), index)),
        };
        let value = finish.emit(b, sum, places, y.dtype());
        y.store(b, y.at(index), value);
    });
    Ok(leaf.finish(range))
}

/// How a convolution's window moves.
struct Window<'a> {
    strides: &'a [i64],
    pads: &'a [i64],
    dilations: &'a [i64],
    group: i64,
}

impl<'a> Window<'a> {
    fn of_integer(op: &'a ConvInteger) -> Self {
        Self { strides: &op.strides, pads: &op.pads, dilations: &op.dilations, group: op.group }
    }

    fn of_quantized(op: &'a QLinearConv) -> Self {
        Self { strides: &op.strides, pads: &op.pads, dilations: &op.dilations, group: op.group }
    }

    /// Where tap `k` of the window at `o` lies on a spatial axis.
    fn place(&self, axis: usize, o: &Extent, k: &Extent) -> Extent {
        o.clone() * self.strides[axis].into() + k.clone() * self.dilations[axis].into() - self.pads[axis].into()
    }
}

/// Padding holds the zero point, which adds nothing.
fn convolution(
    cx: &LeafCx<'_>,
    window: &Window<'_>,
    operands: [usize; 2],
    zeros: [usize; 2],
    contract: Option<Requantize>,
) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, cx.op.name());
    let y = Source::output(&mut leaf, 0)?;
    let (x, w) = (Source::input(&mut leaf, operands[0])?, Source::input(&mut leaf, operands[1])?);
    let (x_zero, w_zero) = (Source::optional(&mut leaf, zeros[0])?, Source::optional(&mut leaf, zeros[1])?);
    let finish = Finish::of(&mut leaf, contract, [operands[0] + 1, operands[1] + 1])?;
    let bias = if contract.is_some() { Source::optional(&mut leaf, 8)? } else { None };
    let per_channel = |s: &Source<'_>, channel: &Extent| match s.operand.shape.as_slice() {
        [extent] if *extent != Extent::ONE => s.at(std::slice::from_ref(channel)),
        _ => s.stream.base.clone(),
    };
    let in_group = w.operand.shape[1].clone();
    let out_group = w.operand.shape[0].floordiv(&window.group.into());
    let b = &mut leaf.b;
    let range = each(b, &y.operand.shape.clone(), |b, index| {
        let (channel, spatial) = (&index[1], &index[2..]);
        let first = channel.floordiv(&out_group) * in_group.clone();
        let x_zero = x_zero.as_ref().map(|z| z.load(b, z.stream.base.clone(), Elem::I32));
        let w_zero = w_zero.as_ref().map(|z| z.load(b, per_channel(z, channel), Elem::I32));
        let start = match &bias {
            Some(bias) => bias.load(b, bias.at(std::slice::from_ref(channel)), Elem::I32),
            None => b.zero(Type::scalar(Elem::I32)),
        };
        let sum = fold(b, &w.operand.shape[1..], &[start], &mut |b, tap, accs| {
            let mut at = vec![index[0].clone(), first.clone() + tap[0].clone()];
            at.extend((0..spatial.len()).map(|a| window.place(a, &spatial[a], &tap[a + 1])));
            let places: Vec<_> = at[2..].iter().cloned().zip(x.operand.shape[2..].iter().cloned()).collect();
            let weight: Vec<Extent> = std::iter::once(channel.clone()).chain(tap.iter().cloned()).collect();
            vec![inside(b, &places, accs[0], &mut |b| {
                let value = x.load(b, x.at(&at), Elem::I32);
                let value = x_zero.map_or(value, |zero| b.sub(value, zero));
                let factor = w.load(b, w.at(&weight), Elem::I32);
                let factor = w_zero.map_or(factor, |zero| b.sub(factor, zero));
                let term = b.mul(value, factor);
                b.add(accs[0], term)
            })]
        })[0];
        let places = match &finish {
            Finish::Sum => [Extent::ZERO, Extent::ZERO],
            Finish::Requantize { scales, .. } => {
                [per_channel(&scales[0], &Extent::ZERO), per_channel(&scales[1], channel)]
            }
        };
        let value = finish.emit(b, sum, places, y.dtype());
        y.store(b, y.at(index), value);
    });
    Ok(leaf.finish(range))
}

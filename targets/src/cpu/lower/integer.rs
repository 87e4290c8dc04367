//! Integer matrix products and convolutions with zero points, and their quantized forms.
//!
//! Constant weights of 8 bits go through [`super::dot`]. What is left, such as products of two computed operands, is
//! computed one sum at a time.

use adze_ir::extent::Extent;
use adze_ir::ops::{ConvInteger, Op, QLinearConv};
use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::dot::{self, requantized};
use super::epilogue::Epilogue;
use super::leaf::{Anchor, Leaf, Stream, input, output, unsupported};
use super::operand::{LeafCx, Lowered, Operand, PackedWeight, Unsupported};
use super::requantize::{Requantized, Zero, saturate};
use super::walk::{Source, each, fold, inside};
use crate::cpu::kernel::{Elem, KernelBuilder, Type, Value};

/// Lowers integer sums, alone or with epilogues.
///
/// # Errors
/// [`Unsupported`] for requantize contracts without code and epilogues that are not elementwise.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let anchor = Anchor::of(cx)?;
    let form = IntegerSum::of(&anchor)?;
    let fast = dot::lower(cx, &anchor, &form)?;
    for index in form.operands {
        let dtype = input(cx, anchor.need(index)?)?.dtype;
        if fast.is_none() && dtype.bits() < 8 {
            let accepted = "constant weights with constant scales along channels or columns, or bytes";
            return Err(unsupported(format!("a sum of {dtype}"), accepted));
        }
    }
    let lowered = match (fast, &form.window) {
        (Some(lowered), _) => lowered,
        (None, Some(window)) => convolution(cx, &anchor, &form, window)?,
        (None, None) => product(cx, &anchor, &form)?,
    };
    Ok(vec![lowered])
}

/// An integer sum taken apart: positions among the operands of its operator.
pub(super) struct IntegerSum<'a> {
    /// Both factors; their scales come next to them in a quantized form.
    pub operands: [usize; 2],
    /// Their zero points.
    pub zeros: [usize; 2],
    /// How the sum is requantized, if it is: with the scale in operand 6, the zero point in 7 and the bias in 8.
    pub contract: Option<Requantize>,
    /// How the window of a convolution moves.
    pub window: Option<Window<'a>>,
}

impl<'a> IntegerSum<'a> {
    fn of(anchor: &Anchor<'a>) -> Result<Self, Unsupported> {
        let (contract, window) = match anchor.op {
            Op::MatMulInteger(_) => (None, None),
            Op::ConvInteger(op) => (None, Some(Window::of_integer(op))),
            Op::QLinearMatMul(op) => (Some(op.contract), None),
            Op::QLinearConv(op) => (Some(op.contract), Some(Window::of_quantized(op))),
            op => return Err(unsupported(format!("`{op}`"), "an integer product or convolution")),
        };
        let (operands, zeros) = if contract.is_some() { ([0, 3], [2, 5]) } else { ([0, 1], [2, 3]) };
        Ok(Self { operands, zeros, contract, window })
    }

    /// Dtype of the sum or of what it is stored as.
    pub fn dtype(&self, cx: &LeafCx<'_>, anchor: &Anchor<'_>) -> Result<DType, Unsupported> {
        if self.contract.is_some() { Ok(input(cx, anchor.need(7)?)?.dtype) } else { Ok(DType::I32) }
    }
}

/// How a sum becomes a stored integer.
enum Store<'a> {
    /// It stays as it is.
    Sum,
    /// By `f32_rne`, with scales of the operands, and scale and zero point of the result, whatever they are.
    Scaled([Source<'a>; 4]),
    /// By a contract with parameters that are known.
    Known(Requantized, Vec<Stream>),
}

/// How a sum becomes the result.
struct Finish<'a> {
    store: Store<'a>,
    dtype: DType,
    epilogue: Epilogue<'a>,
}

impl<'a> Finish<'a> {
    fn of(
        leaf: &mut Leaf<'a>,
        anchor: &Anchor<'a>,
        form: &IntegerSum<'_>,
        columns: &Extent,
    ) -> Result<Self, Unsupported> {
        let dtype = form.dtype(leaf.cx, anchor)?;
        let store = match form.contract {
            None => Store::Sum,
            Some(Requantize::F32Rne) => {
                let mut source = |index: usize| Source::input(leaf, anchor.need(index)?);
                Store::Scaled([source(1)?, source(4)?, source(6)?, source(7)?])
            }
            Some(contract) => {
                let operands = [1, 4, 6, 7].map(|i| anchor.position(i).and_then(|at| leaf.cx.inputs[at].as_ref()));
                let columns = columns.as_const().and_then(|columns| usize::try_from(columns).ok());
                let stored = columns.and_then(|columns| requantized(contract, columns, operands)).ok_or_else(|| {
                    let accepted =
                        "constant scales, one or one per column, whose product is below 2^30 (1 with mulshift_tflite)";
                    unsupported(format!("requantize contract {contract} of other scales"), accepted)
                })?;
                let pack = |(name, data): (&str, Tensor)| leaf.packed(PackedWeight { transform: name.into(), data });
                let streams = stored.parameters().into_iter().map(pack).collect();
                Store::Known(stored, streams)
            }
        };
        let y = output(leaf.cx, 0)?;
        Ok(Self { store, dtype, epilogue: Epilogue::of(leaf, anchor, dtype, y)? })
    }

    /// The result for a sum; `at` are the places of its scales, `column` is its column or channel, `index` is that of the result.
    fn emit(
        &self,
        b: &mut KernelBuilder,
        sum: Value,
        (at, column): ([Extent; 2], &Extent),
        index: &[Extent],
    ) -> Result<Value, Unsupported> {
        let mut value = sum;
        match &self.store {
            Store::Sum => {}
            Store::Scaled([left, right, scale, zero]) => {
                let [left_at, right_at] = at;
                let (left, right) = (left.load(b, left_at, Elem::F32), right.load(b, right_at, Elem::F32));
                let of_sum = b.mul(left, right);
                let of_result = scale.load(b, scale.stream.base.clone(), Elem::F32);
                let factor = b.div(of_sum, of_result);
                let zero = zero.load(b, zero.stream.base.clone(), Elem::I32);
                let real = b.convert(sum, true, Elem::F32);
                let scaled = b.mul(real, factor);
                value = saturate(b, scaled, Zero::Computed(zero), self.dtype.int_range().unwrap_or((0, 0)));
            }
            Store::Known(stored, streams) => {
                let step = if stored.scales.len() > 1 { column.clone() } else { Extent::ZERO };
                let load = |stream: &Stream| b.load(stream.param, stream.base.clone() + step.clone(), 1);
                let parameters: Vec<Value> = streams.iter().map(load).collect();
                value = stored.emit(b, sum, &parameters, false);
            }
        }
        let place = |stream: usize| {
            let (stream, strides) = &self.epilogue.streams[stream];
            let steps = strides.iter().zip(index).map(|(s, i)| s.clone() * i.clone());
            (steps.fold(stream.base.clone(), |sum, step| sum + step), Extent::ONE)
        };
        let operands = self.epilogue.load(b, &place, (1, 1));
        self.epilogue.apply(b, value, &operands)
    }
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

fn optional<'a>(leaf: &mut Leaf<'a>, anchor: &Anchor<'_>, index: usize) -> Result<Option<Source<'a>>, Unsupported> {
    anchor.position(index).map(|position| Source::input(leaf, position)).transpose()
}

/// `Σ (a - a_zero) · (b - b_zero)` over every pair of rows and columns.
fn product<'a>(cx: &'a LeafCx<'a>, anchor: &Anchor<'a>, form: &IntegerSum<'_>) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, anchor.op.name());
    let y = Source::output(&mut leaf, 0)?;
    let [a, b] = form.operands;
    let sides = [Source::input(&mut leaf, anchor.need(a)?)?, Source::input(&mut leaf, anchor.need(b)?)?];
    let zeros = [optional(&mut leaf, anchor, form.zeros[0])?, optional(&mut leaf, anchor, form.zeros[1])?];
    let bias = if form.contract.is_some() { optional(&mut leaf, anchor, 8)? } else { None };
    let columns = y.operand.shape.last().cloned().unwrap_or(Extent::ONE);
    let finish = Finish::of(&mut leaf, anchor, form, &columns)?;
    let rank = y.operand.rank();
    let vectors = [sides[0].operand.rank() == 1, sides[1].operand.rank() == 1];
    let of = |s: &Source<'_>, second: bool| Matrix::of_parameter(s.operand, second, vectors, rank);
    let views = [0, 1].map(|i| Matrix::of(sides[i].operand, i == 1, vectors, rank));
    let zero_strides = [0, 1].map(|i| zeros[i].as_ref().map(|z| of(z, i == 1)));
    let count = sides[0].operand.shape.last().cloned().unwrap_or(Extent::ONE);
    let mut result = Ok(());
    let range = each(&mut leaf.b, &y.operand.shape.clone(), |b, index| {
        let zero = [0, 1].map(|i| {
            let (source, strides) = (zeros[i].as_ref()?, zero_strides[i].as_ref()?);
            Some(source.load(b, source.by(strides, index), Elem::I32))
        });
        let start = match &bias {
            Some(bias) => bias.load(b, bias.by(&of(bias, true), index), Elem::I32),
            None => b.zero(Type::scalar(Elem::I32)),
        };
        let sum = fold(b, std::slice::from_ref(&count), &[start], &mut |b, k, accs| {
            let factors = [0, 1].map(|i| {
                let at = sides[i].by(&views[i].outer, index) + views[i].summed.clone() * k[0].clone();
                let value = sides[i].load(b, at, Elem::I32);
                zero[i].map_or(value, |zero| b.sub(value, zero))
            });
            let term = b.mul(factors[0], factors[1]);
            vec![b.add(accs[0], term)]
        })[0];
        let places = match &finish.store {
            Store::Scaled([left, right, ..]) => [left.by(&of(left, false), index), right.by(&of(right, true), index)],
            _ => [Extent::ZERO, Extent::ZERO],
        };
        match finish.emit(b, sum, (places, index.last().unwrap_or(&Extent::ZERO)), index) {
            Ok(value) => y.store(b, y.at(index), value),
            Err(error) => result = Err(error),
        }
    });
    result?;
    Ok(leaf.finish(range))
}

/// How a convolution's window moves.
pub(super) struct Window<'a> {
    /// Per spatial axis.
    pub strides: &'a [i64],
    /// Begin of every axis, then end of every axis.
    pub pads: &'a [i64],
    /// Per spatial axis.
    pub dilations: &'a [i64],
    /// Groups of channels.
    pub group: i64,
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
fn convolution<'a>(
    cx: &'a LeafCx<'a>,
    anchor: &Anchor<'a>,
    form: &IntegerSum<'_>,
    window: &Window<'_>,
) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, anchor.op.name());
    let y = Source::output(&mut leaf, 0)?;
    let [x, w] = form.operands;
    let (x, w) = (Source::input(&mut leaf, anchor.need(x)?)?, Source::input(&mut leaf, anchor.need(w)?)?);
    let (x_zero, w_zero) = (optional(&mut leaf, anchor, form.zeros[0])?, optional(&mut leaf, anchor, form.zeros[1])?);
    let bias = if form.contract.is_some() { optional(&mut leaf, anchor, 8)? } else { None };
    let finish = Finish::of(&mut leaf, anchor, form, &w.operand.shape[0])?;
    let per_channel = |s: &Source<'_>, channel: &Extent| match s.operand.shape.as_slice() {
        [extent] if *extent != Extent::ONE => s.at(std::slice::from_ref(channel)),
        _ => s.stream.base.clone(),
    };
    let in_group = w.operand.shape[1].clone();
    let out_group = w.operand.shape[0].floordiv(&window.group.into());
    let mut result = Ok(());
    let range = each(&mut leaf.b, &y.operand.shape.clone(), |b, index| {
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
        let places = match &finish.store {
            Store::Scaled([left, right, ..]) => [per_channel(left, &Extent::ZERO), per_channel(right, channel)],
            _ => [Extent::ZERO, Extent::ZERO],
        };
        match finish.emit(b, sum, (places, channel), index) {
            Ok(value) => y.store(b, y.at(index), value),
            Err(error) => result = Err(error),
        }
    });
    result?;
    Ok(leaf.finish(range))
}

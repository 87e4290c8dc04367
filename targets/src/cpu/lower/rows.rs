//! Reductions and functions of whole rows: softmax, normalisations, arg-max, running sums.
//!
//! A row is what is reduced together. The lanes of a vector are either neighbouring elements of one row (each lane has an
//! accumulator of its own, combined at the end in a fixed order) or neighbouring rows, whichever lies dense in memory.

use adze_ir::extent::Extent;
use adze_ir::ops::{Op, ReduceFn};
use adze_ir::types::DType;

use super::elementwise::{compute_elem, is_vector_dtype};
use super::nest::{Nest, advance};
use super::operand::{LeafCx, Lowered, Operand, PtrRole, Unsupported};
use crate::cpu::kernel::{Access, BinOp, Cmp, Elem, KernelBuilder, Param, Type, UnOp, Value, math, widths};

/// How rows are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Lanes are neighbouring elements of a row.
    AlongRow,
    /// Lanes are neighbouring rows.
    AcrossRows,
    /// One element at a time.
    Scalar,
}

/// What a fold carries: the scalar type, start values, and the operations that join two accumulators of a position.
#[derive(Clone, Copy)]
struct Accumulators<'a> {
    ty: Type,
    inits: &'a [f64],
    combine: &'a [BinOp],
}

/// Loops over rows (`kept`) and inside a row (`row`); operands are result, then inputs, in both.
struct Rows {
    kept: Nest,
    row: Nest,
    mode: Mode,
    /// Lanes of what lies together.
    lanes: u16,
}

impl Rows {
    /// `strides[o]` per axis for each operand; `axes` are those of the row. In a result that has no row axis its stride
    /// along them is 0.
    fn new(cx: &LeafCx<'_>, shape: &[Extent], strides: &[Vec<Extent>], axes: &[usize], vector: bool) -> Rows {
        let pick = |wanted: bool| {
            let chosen: Vec<usize> = (0..shape.len()).filter(|a| axes.contains(a) == wanted).collect();
            let extents: Vec<Extent> = chosen.iter().map(|&a| shape[a].clone()).collect();
            let strides: Vec<Vec<Extent>> =
                strides.iter().map(|s| chosen.iter().map(|&a| s[a].clone()).collect()).collect();
            (extents, strides)
        };
        let (kept_shape, kept_strides) = pick(false);
        let (row_shape, row_strides) = pick(true);
        let kept = Nest::new(&kept_shape, &kept_strides, cx.dims);
        // The input decides the order inside a row: the result may not move there at all.
        let by_input: Vec<Vec<Extent>> = row_strides[1..].iter().chain(&row_strides[..1]).cloned().collect();
        let mut row = Nest::new(&row_shape, &by_input, cx.dims);
        for dim in &mut row.dims {
            dim.strides.rotate_right(1);
        }
        let dense = |nest: &Nest| {
            nest.dims.last().is_some_and(|d| {
                d.strides[1] == Extent::ONE && d.strides.iter().all(|s| *s == Extent::ONE || *s == Extent::ZERO)
            })
        };
        let mode = match vector {
            true if dense(&row) => Mode::AlongRow,
            true if kept.is_vector() && dense(&kept) => Mode::AcrossRows,
            _ => Mode::Scalar,
        };
        Rows { kept, row, mode, lanes: cx.machine.strip_lanes(DType::F32) }
    }

    /// Emits the loop over rows; the body gets the offsets of a row's first element and the lanes across rows.
    fn emit(&self, b: &mut KernelBuilder, body: impl FnMut(&mut KernelBuilder, &[Extent], u16)) {
        self.kept.emit(b, if self.mode == Mode::AcrossRows { self.lanes } else { 1 }, body);
    }

    /// Offsets of a row when there is only one.
    fn start(&self, offsets: &[Extent], operands: usize) -> Vec<Extent> {
        if offsets.is_empty() { vec![Extent::ZERO; operands] } else { offsets.to_vec() }
    }

    /// Folds a row into one value per accumulator: `step` updates accumulators of any lane count from the offsets of
    /// the next elements; `combine` joins two accumulators of the same position.
    fn fold(
        &self,
        b: &mut KernelBuilder,
        start: &[Extent],
        across: u16,
        accumulators: Accumulators<'_>,
        mut step: impl FnMut(&mut KernelBuilder, &[Extent], u16, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let Accumulators { ty, inits, combine } = accumulators;
        let constants = |b: &mut KernelBuilder, lanes: u16| -> Vec<Value> {
            inits.iter().map(|&v| number(b, v, ty.with_lanes(lanes))).collect()
        };
        if self.mode != Mode::AlongRow {
            let accs = constants(b, across);
            return fold_loops(b, &self.row.dims, start, &accs, &mut |b, offsets, accs| step(b, offsets, across, accs));
        }
        let (last, outer) = self.row.dims.split_last().expect("a dense row has a loop");
        let widths = widths(&last.extent, self.lanes);
        let accs: Vec<Value> = widths.iter().flat_map(|&lanes| constants(b, lanes)).collect();
        let accs = fold_loops(b, outer, start, &accs, &mut |b, offsets, accs| {
            b.fold_strips((Extent::ZERO, last.extent.clone()), &widths, accs, |b, i, lanes, accs| {
                step(b, &advance(offsets, &last.strides, &i), lanes, accs)
            })
        });
        b.join_strips(combine, &accs)
    }

    /// Walks a row, `f` getting offsets and lanes.
    fn each(
        &self,
        b: &mut KernelBuilder,
        start: &[Extent],
        across: u16,
        mut f: impl FnMut(&mut KernelBuilder, &[Extent], u16),
    ) {
        let lanes = if self.mode == Mode::AlongRow { self.lanes } else { 1 };
        let single = across > 1;
        self.row.emit_all(b, start, lanes, |b, offsets, lanes| f(b, offsets, if single { across } else { lanes }));
    }
}

/// Updates the carried values from the offsets of the next elements.
type FoldStep<'a> = dyn FnMut(&mut KernelBuilder, &[Extent], &[Value]) -> Vec<Value> + 'a;

fn fold_loops(
    b: &mut KernelBuilder,
    dims: &[super::nest::NestDim],
    offsets: &[Extent],
    accs: &[Value],
    step: &mut FoldStep<'_>,
) -> Vec<Value> {
    match dims {
        [] => step(b, offsets, accs),
        [outer, inner @ ..] => b.for_(0, outer.extent.clone(), 1, accs, |b, i, accs| {
            fold_loops(b, inner, &advance(offsets, &outer.strides, &i), accs, step)
        }),
    }
}

fn number(b: &mut KernelBuilder, v: f64, ty: Type) -> Value {
    if ty.elem.is_float() { b.number(v, ty) } else { b.int(v as i64, ty) }
}

/// Lowers reductions and row functions.
///
/// # Errors
/// [`Unsupported`] for dtypes without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    let rank = x.rank();
    let from = |axis: usize| (axis..rank).collect::<Vec<_>>();
    let softmax_axes = |axis: usize, flatten: bool| if flatten { from(axis) } else { vec![axis] };
    match cx.op {
        Op::Reduce(op) => reduce(cx, op.function, &op.axes, op.keep_dims),
        Op::ArgReduce(op) => arg_reduce(cx, op.axis, op.function == ReduceFn::Min, op.keep_dims, op.last),
        Op::CumSum(op) => running(cx, op.axis, op.exclusive, op.reverse, BinOp::Add),
        Op::CumProd(op) => running(cx, op.axis, op.exclusive, op.reverse, BinOp::Mul),
        Op::Softmax(op) => softmax(cx, &softmax_axes(op.axis, op.flatten), false),
        Op::LogSoftmax(op) => softmax(cx, &softmax_axes(op.axis, op.flatten), true),
        Op::LayerNorm(op) => normalise(cx, &from(op.axis), op.epsilon.get(), Affine::Row, true),
        Op::RmsNorm(op) => normalise(cx, &from(op.axis), op.epsilon.get(), Affine::Row, false),
        Op::InstanceNorm(op) => normalise(cx, &from(2), op.epsilon.get(), Affine::Channel, true),
        op => Err(Unsupported { found: format!("`{op}`"), accepted: "an operator with a kernel".into() }),
    }
}

fn float_elem(cx: &LeafCx<'_>, dtype: DType) -> Result<Elem, Unsupported> {
    compute_elem(dtype).filter(|e| e.is_float()).ok_or_else(|| Unsupported {
        found: format!("`{}` on {dtype}", cx.op),
        accepted: "a floating-point dtype".into(),
    })
}

/// Strides of a result along the operand's axes, 0 along those that are reduced.
fn reduced_strides(out: &Operand, rank: usize, axes: &[usize], keep_dims: bool) -> Vec<Extent> {
    let mut next = 0;
    (0..rank)
        .map(|axis| {
            let reduced = axes.contains(&axis);
            let stride = if reduced { Extent::ZERO } else { out.strides[next].clone() };
            if !reduced || keep_dims {
                next += 1;
            }
            stride
        })
        .collect()
}

fn reduce(cx: &LeafCx<'_>, function: ReduceFn, axes: &[usize], keep_dims: bool) -> Result<Vec<Lowered>, Unsupported> {
    use ReduceFn as F;
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    let out = &cx.outputs[0];
    let Some(elem) = compute_elem(x.dtype).filter(|e| !e.is_mask()) else {
        return Err(Unsupported { found: format!("`{}` on {}", cx.op, x.dtype), accepted: "numbers".into() });
    };
    if !elem.is_float() && matches!(function, F::L2 | F::LogSum | F::LogSumExp) {
        return Err(Unsupported { found: format!("`{}` on {}", cx.op, x.dtype), accepted: "floating point".into() });
    }
    let strides = [reduced_strides(out, x.rank(), axes, keep_dims), x.strides.clone()];
    let rows = Rows::new(cx, &x.shape, &strides, axes, is_vector_dtype(x.dtype));
    let mut b = cx.builder(&format!("reduce_{function}_{}", x.dtype));
    let y = b.param("y", out.dtype, Access::Out);
    let p = b.param("x", x.dtype, Access::In);
    let ty = Type::scalar(elem);
    let is_signed = matches!(x.dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let (init, op) = combiner(function, elem, x.dtype, is_signed);
    let count = Extent::product(axes.iter().map(|&a| &x.shape[a]));
    rows.emit(&mut b, |b, offsets, across| {
        let start = rows.start(offsets, 2);
        let load = |b: &mut KernelBuilder, at: &[Extent], lanes| b.load_as(p, at[1].clone(), ty.with_lanes(lanes));
        let shift = (function == F::LogSumExp).then(|| {
            let largest = rows.fold(
                b,
                &start,
                across,
                Accumulators { ty, inits: &[f64::NEG_INFINITY], combine: &[BinOp::Max] },
                |b, at, lanes, accs| {
                    let v = load(b, at, lanes);
                    vec![b.bin(BinOp::Max, accs[0], v)]
                },
            )[0];
            finite_or_zero(b, largest)
        });
        let total =
            rows.fold(b, &start, across, Accumulators { ty, inits: &[init], combine: &[op] }, |b, at, lanes, accs| {
                let v = load(b, at, lanes);
                vec![match function {
                    F::Sum | F::Mean | F::LogSum => b.add(accs[0], v),
                    F::SumSquare | F::L2 if elem.is_float() => b.muladd(v, v, accs[0]),
                    F::SumSquare | F::L2 => {
                        let square = b.mul(v, v);
                        b.add(accs[0], square)
                    }
                    F::L1 => {
                        let magnitude = if elem.is_float() || is_signed { b.un(UnOp::Abs, v) } else { v };
                        b.add(accs[0], magnitude)
                    }
                    F::LogSumExp => {
                        let shift = spread(b, shift.expect("computed above"), lanes);
                        let moved = b.sub(v, shift);
                        let e = math::exp(b, moved);
                        b.add(accs[0], e)
                    }
                    F::Max | F::Min | F::Prod => b.bin(op, accs[0], v),
                }]
            })[0];
        let value = match function {
            F::Mean => {
                let n = b.extent(count.clone());
                let n = b.convert(n, true, elem);
                let n = spread(b, n, across);
                b.bin(
                    if elem.is_float() {
                        BinOp::Div
                    } else if is_signed {
                        BinOp::DivS
                    } else {
                        BinOp::DivU
                    },
                    total,
                    n,
                )
            }
            F::L2 => b.un(UnOp::Sqrt, total),
            F::LogSum => math::log(b, total),
            F::LogSumExp => {
                let l = math::log(b, total);
                b.add(l, shift.expect("computed above"))
            }
            _ => total,
        };
        b.store_as(y, start[0].clone(), value);
    });
    Ok(vec![Lowered {
        kernel: b.finish(),
        pointers: vec![PtrRole::Output(0), PtrRole::Input(0)],
        range: rows.kept.range(),
    }])
}

/// Start value and operation that joins accumulators.
fn combiner(function: ReduceFn, elem: Elem, dtype: DType, is_signed: bool) -> (f64, BinOp) {
    let (low, high) = match dtype.int_range() {
        Some((low, high)) => (low as f64, high as f64),
        None => (f64::NEG_INFINITY, f64::INFINITY),
    };
    let pick = |f: BinOp, s: BinOp, u: BinOp| {
        if elem.is_float() {
            f
        } else if is_signed {
            s
        } else {
            u
        }
    };
    match function {
        ReduceFn::Max => (low, pick(BinOp::Max, BinOp::MaxS, BinOp::MaxU)),
        ReduceFn::Min => (high, pick(BinOp::Min, BinOp::MinS, BinOp::MinU)),
        ReduceFn::Prod => (1.0, BinOp::Mul),
        _ => (0.0, BinOp::Add),
    }
}

/// A scalar (or a value that is as wide already) in `lanes` lanes.
fn spread(b: &mut KernelBuilder, value: Value, lanes: u16) -> Value {
    if b.ty(value).lanes == lanes { value } else { b.splat(value, lanes) }
}

/// The value, or 0 where it is infinite or NaN: a shift that must not make NaN of infinities.
fn finite_or_zero(b: &mut KernelBuilder, value: Value) -> Value {
    let ty = b.ty(value);
    let (zero, largest) = (b.zero(ty), b.number(f64::from(f32::MAX), ty));
    let magnitude = b.un(UnOp::Abs, value);
    let finite = b.cmp(Cmp::Le, magnitude, largest);
    b.select(finite, value, zero)
}

/// `exp(x - max) / Σ`, or its logarithm; the exponentials wait in the result.
fn softmax(cx: &LeafCx<'_>, axes: &[usize], log: bool) -> Result<Vec<Lowered>, Unsupported> {
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    let out = &cx.outputs[0];
    let ty = Type::scalar(float_elem(cx, x.dtype)?);
    let strides = [out.strides.clone(), x.strides.clone()];
    let rows = Rows::new(cx, &x.shape, &strides, axes, is_vector_dtype(x.dtype));
    let mut b = cx.builder(&format!("{}softmax_{}", if log { "log_" } else { "" }, x.dtype));
    let y = b.param("y", out.dtype, Access::InOut);
    let p = b.param("x", x.dtype, Access::In);
    rows.emit(&mut b, |b, offsets, across| {
        let start = rows.start(offsets, 2);
        let largest = rows.fold(
            b,
            &start,
            across,
            Accumulators { ty, inits: &[f64::NEG_INFINITY], combine: &[BinOp::Max] },
            |b, at, lanes, accs| {
                let v = b.load_as(p, at[1].clone(), ty.with_lanes(lanes));
                vec![b.bin(BinOp::Max, accs[0], v)]
            },
        )[0];
        let total = rows.fold(
            b,
            &start,
            across,
            Accumulators { ty, inits: &[0.0], combine: &[BinOp::Add] },
            |b, at, lanes, accs| {
                let v = b.load_as(p, at[1].clone(), ty.with_lanes(lanes));
                let shift = spread(b, largest, lanes);
                let moved = b.sub(v, shift);
                let e = math::exp(b, moved);
                if !log {
                    b.store_as(y, at[0].clone(), e);
                }
                vec![b.add(accs[0], e)]
            },
        )[0];
        if log {
            let l = math::log(b, total);
            rows.each(b, &start, across, |b, at, lanes| {
                let v = b.load_as(p, at[1].clone(), ty.with_lanes(lanes));
                let (shift, l) = (spread(b, largest, lanes), spread(b, l, lanes));
                let moved = b.sub(v, shift);
                let value = b.sub(moved, l);
                b.store_as(y, at[0].clone(), value);
            });
            return;
        }
        let one = b.number(1.0, b.ty(total));
        let factor = b.div(one, total);
        rows.each(b, &start, across, |b, at, lanes| {
            let e = b.load_as(y, at[0].clone(), ty.with_lanes(lanes));
            let factor = spread(b, factor, lanes);
            let value = b.mul(e, factor);
            b.store_as(y, at[0].clone(), value);
        });
    });
    Ok(vec![Lowered {
        kernel: b.finish(),
        pointers: vec![PtrRole::Output(0), PtrRole::Input(0)],
        range: rows.kept.range(),
    }])
}

/// How scale and bias lie.
#[derive(Clone, Copy)]
pub(super) enum Affine {
    /// Along the row: they have the shape of the axes from this one on (or broadcast to it).
    Row,
    /// One per channel (axis 1).
    Channel,
}

/// `(x - mean) / √(mean((x - mean)²) + epsilon) · scale + bias`; without centring for root-mean-square norms.
pub(super) fn normalise(
    cx: &LeafCx<'_>,
    axes: &[usize],
    epsilon: f64,
    affine: Affine,
    centred: bool,
) -> Result<Vec<Lowered>, Unsupported> {
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    let out = &cx.outputs[0];
    let ty = Type::scalar(float_elem(cx, x.dtype)?);
    let parameters: Vec<(usize, &Operand)> =
        [1, 2].iter().filter_map(|&i| cx.inputs.get(i)?.as_ref().map(|o| (i, o))).collect();
    let mut strides = vec![out.strides.clone(), x.strides.clone()];
    for (_, operand) in &parameters {
        strides.push(match affine {
            Affine::Row => super::nest::broadcast_strides(operand, x.rank()),
            Affine::Channel => {
                (0..x.rank()).map(|axis| if axis == 1 { operand.strides[0].clone() } else { Extent::ZERO }).collect()
            }
        });
    }
    let vector = is_vector_dtype(x.dtype) && matches!(affine, Affine::Row);
    let rows = Rows::new(cx, &x.shape, &strides, axes, vector);
    let mut b = cx.builder(&format!("{}_{}", cx.op.name(), x.dtype));
    let y = b.param("y", out.dtype, Access::Out);
    let p = b.param("x", x.dtype, Access::In);
    let extra: Vec<Param> = parameters.iter().map(|(i, o)| b.param(&format!("x{i}"), o.dtype, Access::In)).collect();
    let count = Extent::product(axes.iter().map(|&a| &x.shape[a]));
    let operands = strides.len();
    rows.emit(&mut b, |b, offsets, across| {
        let start = rows.start(offsets, operands);
        let n = b.extent(count.clone());
        let n = b.convert(n, true, ty.elem);
        let n = spread(b, n, across);
        let mean = centred.then(|| {
            let total = rows.fold(
                b,
                &start,
                across,
                Accumulators { ty, inits: &[0.0], combine: &[BinOp::Add] },
                |b, at, lanes, accs| {
                    let v = b.load_as(p, at[1].clone(), ty.with_lanes(lanes));
                    vec![b.add(accs[0], v)]
                },
            )[0];
            b.div(total, n)
        });
        let centre = |b: &mut KernelBuilder, v: Value, lanes: u16| match mean {
            Some(mean) => {
                let mean = spread(b, mean, lanes);
                b.sub(v, mean)
            }
            None => v,
        };
        let squares = rows.fold(
            b,
            &start,
            across,
            Accumulators { ty, inits: &[0.0], combine: &[BinOp::Add] },
            |b, at, lanes, accs| {
                let v = b.load_as(p, at[1].clone(), ty.with_lanes(lanes));
                let d = centre(b, v, lanes);
                vec![b.muladd(d, d, accs[0])]
            },
        )[0];
        let variance = b.div(squares, n);
        let sum_ty = b.ty(variance);
        let (epsilon, one) = (b.number(epsilon, sum_ty), b.number(1.0, sum_ty));
        let sum = b.add(variance, epsilon);
        let deviation = b.un(UnOp::Sqrt, sum);
        let factor = b.div(one, deviation);
        rows.each(b, &start, across, |b, at, lanes| {
            let v = b.load_as(p, at[1].clone(), ty.with_lanes(lanes));
            let d = centre(b, v, lanes);
            let factor = spread(b, factor, lanes);
            let mut value = b.mul(d, factor);
            for (k, &param) in extra.iter().enumerate() {
                let moves = match rows.mode {
                    Mode::AlongRow => rows.row.inner_stride(2 + k) != Extent::ZERO,
                    Mode::AcrossRows => rows.kept.inner_stride(2 + k) != Extent::ZERO,
                    Mode::Scalar => true,
                };
                let w = b.load_as(param, at[2 + k].clone(), ty.with_lanes(if moves { lanes } else { 1 }));
                let w = spread(b, w, lanes);
                value = if k == 0 { b.mul(value, w) } else { b.add(value, w) };
            }
            b.store_as(y, at[0].clone(), value);
        });
    });
    let pointers = [PtrRole::Output(0), PtrRole::Input(0)]
        .into_iter()
        .chain(parameters.iter().map(|(i, _)| PtrRole::Input(*i)))
        .collect();
    Ok(vec![Lowered { kernel: b.finish(), pointers, range: rows.kept.range() }])
}

/// Position of the extreme element; NaN counts as most extreme, as in the interpreter.
fn arg_reduce(
    cx: &LeafCx<'_>,
    axis: usize,
    smallest: bool,
    keep_dims: bool,
    last: bool,
) -> Result<Vec<Lowered>, Unsupported> {
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    let out = &cx.outputs[0];
    let Some(elem) = compute_elem(x.dtype).filter(|e| !e.is_mask()) else {
        return Err(Unsupported { found: format!("`{}` on {}", cx.op, x.dtype), accepted: "numbers".into() });
    };
    let is_signed = elem.is_float() || matches!(x.dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let strides = [reduced_strides(out, x.rank(), &[axis], keep_dims), x.strides.clone()];
    let rows = Rows::new(cx, &x.shape, &strides, &[axis], false);
    let better = match (smallest, last, is_signed) {
        (false, false, true) => Cmp::Gt,
        (false, true, true) => Cmp::Ge,
        (true, false, true) => Cmp::Lt,
        (true, true, true) => Cmp::Le,
        (false, false, false) => Cmp::GtU,
        (false, true, false) => Cmp::GeU,
        (true, false, false) => Cmp::LtU,
        (true, true, false) => Cmp::LeU,
    };
    let mut b = cx.builder(&format!("{}_{}", cx.op.name(), x.dtype));
    let y = b.param("y", out.dtype, Access::Out);
    let p = b.param("x", x.dtype, Access::In);
    let ty = Type::scalar(elem);
    rows.emit(&mut b, |b, offsets, _| {
        let start = rows.start(offsets, 2);
        let first = b.load_as(p, start[1].clone(), ty);
        let zero = b.int(0, Type::scalar(Elem::I64));
        let found = b.for_(1, x.shape[axis].clone(), 1, &[first, zero], |b, i, accs| {
            let v = b.load_as(p, start[1].clone() + i.clone() * x.strides[axis].clone(), ty);
            let take = b.cmp(better, v, accs[0]);
            let position = b.extent(i);
            let value = b.select(take, v, accs[0]);
            let take = b.mask_to(take, Elem::M64);
            vec![value, b.select(take, position, accs[1])]
        });
        b.store_as(y, start[0].clone(), found[1]);
    });
    Ok(vec![Lowered {
        kernel: b.finish(),
        pointers: vec![PtrRole::Output(0), PtrRole::Input(0)],
        range: rows.kept.range(),
    }])
}

/// Running sums or products.
fn running(
    cx: &LeafCx<'_>,
    axis: usize,
    exclusive: bool,
    reverse: bool,
    step: BinOp,
) -> Result<Vec<Lowered>, Unsupported> {
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    let out = &cx.outputs[0];
    let Some(elem) = compute_elem(x.dtype).filter(|e| !e.is_mask()) else {
        return Err(Unsupported { found: format!("`{}` on {}", cx.op, x.dtype), accepted: "numbers".into() });
    };
    let rows = Rows::new(cx, &x.shape, &[out.strides.clone(), x.strides.clone()], &[axis], false);
    let mut b = cx.builder(&format!("{}_{}", cx.op.name(), x.dtype));
    let y = b.param("y", out.dtype, Access::Out);
    let p = b.param("x", x.dtype, Access::In);
    let ty = Type::scalar(elem);
    let extent = x.shape[axis].clone();
    rows.emit(&mut b, |b, offsets, _| {
        let start = rows.start(offsets, 2);
        let neutral = b.number(if step == BinOp::Mul { 1.0 } else { 0.0 }, ty);
        b.for_(0, extent.clone(), 1, &[neutral], |b, i, accs| {
            let i = if reverse { extent.clone() - 1.into() - i } else { i };
            let v = b.load_as(p, start[1].clone() + i.clone() * x.strides[axis].clone(), ty);
            let total = b.bin(step, accs[0], v);
            b.store_as(y, start[0].clone() + i * out.strides[axis].clone(), if exclusive { accs[0] } else { total });
            vec![total]
        });
    });
    Ok(vec![Lowered {
        kernel: b.finish(),
        pointers: vec![PtrRole::Output(0), PtrRole::Input(0)],
        range: rows.kept.range(),
    }])
}

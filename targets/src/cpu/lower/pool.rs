//! Pooling: `MaxPool`, `AveragePool`, `LpPool`.

use adze_ir::extent::Extent;
use adze_ir::ops::Op;
use adze_ir::propose::Schedule;
use adze_ir::types::DType;

use super::blocking::{choose_window, window_registers, window_rows, window_schedule};
use super::epilogue::Epilogue;
use super::leaf::{Anchor, Axis, Leaf, Stream, input, lanes_of, output, unsupported};
use super::operand::{LeafCx, Lowered, Operand, Unsupported};
use super::requantize::Requantized;
use super::slide::{Finish, Slide, Step, held_weights};
use super::window::{Geometry, Window, check_bounds};
use crate::cpu::kernel::Elem;

/// Lowers a pool, alone or with epilogues.
///
/// # Errors
/// [`Unsupported`] for dtypes without kernels, and epilogues that are not elementwise.
pub(super) fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let anchor = Anchor::of(cx)?;
    let at = anchor.need(0)?;
    let (x, y) = (input(cx, at)?, output(cx, 0)?);
    check_bounds(x, cx.dims, None)?;
    let elem = Elem::of_memory(x.dtype).ok_or_else(|| unsupported(format!("dtype {}", x.dtype), "8 bits or more"))?;
    let elem = if x.dtype.is_float() && elem != Elem::F64 { Elem::F32 } else { elem };
    let signed = matches!(x.dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let (geometry, step) = match anchor.op {
        Op::MaxPool(op) => (geometry(&op.kernel, &op.strides, &op.pads, &op.dilations), Step::Max { signed }),
        Op::AveragePool(op) => (geometry(&op.kernel, &op.strides, &op.pads, &op.dilations), Step::Sum),
        Op::LpPool(op) => (geometry(&op.kernel, &op.strides, &op.pads, &op.dilations), Step::Power(op.p)),
        other => return Err(unsupported(format!("`{}`", other.name()), "a pool")),
    };
    let windows = Window::all(x, y.shape.get(2..).unwrap_or_default(), &geometry, cx.dims)?;
    let finish = match anchor.op {
        Op::AveragePool(op) if op.count_include_pad => Finish::Average(padded(&windows, x, &op.pads)),
        Op::AveragePool(_) => Finish::Average(windows.clone()),
        Op::LpPool(op) if op.p > 1 => Finish::Root(op.p),
        _ => Finish::None,
    };
    let mut leaf = Leaf::new(cx, anchor.op.name());
    let stream = leaf.input(at)?;
    Ok(vec![slide(leaf, &anchor, Parts { x, y, stream, elem, windows, step, start: None, finish, stored: None })?])
}

/// The schedules that make sense for a pool.
pub(super) fn schedules(cx: &LeafCx<'_>) -> Vec<Schedule> {
    let rows = cx.outputs.first().and_then(|y| y.shape.last());
    rows.map_or_else(Vec::new, |rows| window_rows(cx, rows, 0).into_iter().map(window_schedule).collect())
}

/// What a sliding window is made of.
pub(super) struct Parts<'a> {
    /// Input.
    pub x: &'a Operand,
    /// Result.
    pub y: &'a Operand,
    /// The input's parameter.
    pub stream: Stream,
    /// Element computed in.
    pub elem: Elem,
    /// Windows of all spatial axes.
    pub windows: Vec<Window>,
    /// What is done with elements.
    pub step: Step,
    /// What results start at, one per channel, and its stride.
    pub start: Option<(Stream, Extent)>,
    /// What is done with results.
    pub finish: Finish,
    /// The zero point of the input and how results are stored, for floats that stand for bytes.
    pub stored: Option<(i64, Requantized)>,
}

/// Writes the kernel of a sliding window.
pub(super) fn slide(mut leaf: Leaf<'_>, anchor: &Anchor<'_>, parts: Parts<'_>) -> Result<Lowered, Unsupported> {
    let Parts { x, y, stream, elem, windows, step, start, finish, stored } = parts;
    if windows.is_empty() || y.rank() != x.rank() {
        return Err(unsupported(format!("rank {}", x.rank()), "rank 3 or more"));
    }
    let target = leaf.output(0)?;
    let (zero, epilogue) = match &stored {
        None => (None, Epilogue::of(&mut leaf, anchor, x.dtype, y)?),
        Some((zero, stored)) => (Some(*zero), Epilogue::requantizing(&mut leaf, anchor, y, 1, stored)?),
    };
    let (weights, narrowest) = match &step {
        Step::Weighted(taps) => (true, x.dtype.bits().min(leaf.b.dtype(taps.stream.param).bits())),
        _ => (false, x.dtype.bits()),
    };
    let axis = |at: usize, extent: &Extent, left: Extent| {
        let channel = at == 1;
        let right: Extent = i64::from(weights && channel).into();
        let bias = start.as_ref().filter(|_| channel).map_or(Extent::ZERO, |s| s.1.clone());
        let fixed = [left, right, y.strides[at].clone(), bias];
        let strides = fixed.into_iter().chain(epilogue.streams.iter().map(|s| s.1[at].clone())).collect();
        Axis { extent: extent.clone(), strides }
    };
    let channels = axis(1, &y.shape[1], x.strides[1].clone());
    let unit = |stream: &Extent| *stream == Extent::ONE || *stream == Extent::ZERO;
    let vectors = x.strides[1] == Extent::ONE && y.strides[1] == Extent::ONE;
    let vectors = vectors && epilogue.streams.iter().all(|s| unit(&s.1[1])) && y.shape[1] != Extent::ONE;
    let mut outer = vec![axis(0, &y.shape[0], x.strides[0].clone())];
    let mut channels = channels;
    if !vectors {
        // One channel after the other: planes, not neighbours.
        let strides = vec![Extent::ZERO; channels.strides.len()];
        outer.push(std::mem::replace(&mut channels, Axis { extent: Extent::ONE, strides }));
    }
    let first_spatial = outer.len();
    for (index, window) in windows.iter().enumerate() {
        outer.push(axis(index + 2, &window.outputs, window.step.clone() * window.stride.into()));
    }
    let rows = outer.pop().ok_or_else(|| unsupported("no spatial axis", "one or more"))?;
    let base = windows.iter().fold(stream.base.clone(), |base, w| base - w.step.clone() * w.pad.into());
    let held = held_weights(&step, &windows);
    let slide = Slide {
        elem,
        lanes: if vectors { lanes_of(leaf.cx, elem) } else { 1 },
        mr: choose_window(leaf.cx, &rows.extent, held)?,
        registers: window_registers(leaf.cx),
        x: Stream { base, ..stream },
        y: target,
        start: start.map(|s| s.0),
        outer,
        rows,
        channels,
        windows,
        first_spatial,
        step,
        // AVX2 does so with words only.
        masks: leaf.cx.machine.has_masks() && (leaf.cx.machine.vector_bytes != 32 || narrowest >= 32),
        zero: zero.filter(|zero| *zero != 0),
        finish,
        epilogue,
    };
    slide.emit(leaf)
}

fn geometry<'a>(kernel: &'a [i64], strides: &'a [i64], pads: &'a [i64], dilations: &'a [i64]) -> Geometry<'a> {
    Geometry { kernel, strides, pads, dilations }
}

/// The windows with what counts when padding does.
fn padded(windows: &[Window], x: &Operand, pads: &[i64]) -> Vec<Window> {
    let rank = windows.len();
    let count = |(axis, window): (usize, &Window)| Window {
        lo: (-pads[axis]).into(),
        hi: x.shape[axis + 2].clone() + pads[axis + rank].into(),
        ..window.clone()
    };
    windows.iter().enumerate().map(count).collect()
}

//! Direct convolution: the register blocks of a matrix product whose rows are the outputs of an image row and whose sum
//! runs over the window and the input channels of a group.
//!
//! With channels last, the elements of a window row are neighbours, so the sum is a few long runs; any other layout is the
//! same code with other strides. Parts of windows that do not exist are left out of the sums: rows of the window by the
//! bounds of its loop, columns by blocks written for the border when the width is known, or one output at a time.

use adze_ir::extent::Extent;
use adze_ir::ops::Op;
use adze_ir::propose::Schedule;
use adze_ir::tensor::Tensor;

use super::blocking::{Blocking, Shape, window_rows, window_schedule};
use super::borders::{Borders, CLIPPED, INSIDE};
use super::dot::{fits, pack_taps, sharing};
use super::epilogue::Epilogue;
use super::gemm::dense_steps;
use super::leaf::{Anchor, Axis, Leaf, Stream, compute_elem, elem_dtype, input, join_axes, output, unsupported};
use super::micro::{Form, Sum, SumAxis};
use super::operand::{LeafCx, Lowered, Operand, PackedWeight, Unsupported};
use super::pack::{Source, pack_panels, pack_rows};
use super::pool::{Parts, slide};
use super::product::{Product, RIGHT, Right};
use super::slide::{Finish, Step, Taps, weights_held};
use super::stored::{Kernel, Weights};
use super::window::{Geometry, Window, check_bounds};
use crate::cpu::kernel::{Elem, KernelBuilder};

/// Lowers a `Conv`, or one of stored weights, alone or with epilogues.
///
/// # Errors
/// [`Unsupported`] for dtypes without kernels, kernels of unknown size, stored weights that are computed, padding that is not
/// zero and epilogues that are not elementwise.
pub(super) fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let anchor = Anchor::of(cx)?;
    let conv = Conv::new(cx, &anchor)?;
    Ok(vec![conv.lower(cx, &anchor)?])
}

/// The schedules that make sense for a `Conv`.
///
/// # Errors
/// As [`lower`].
pub(super) fn schedules(cx: &LeafCx<'_>) -> Result<Vec<Schedule>, Unsupported> {
    let conv = Conv::new(cx, &Anchor::of(cx)?)?;
    if conv.is_depthwise() && conv.constant.is_some() {
        let window = conv.row_window();
        let held = weights_held(&window);
        return Ok(window_rows(cx, &window.outputs, held).into_iter().map(window_schedule).collect());
    }
    let shape = conv.shape();
    Ok(Blocking::list(cx, &shape).iter().map(|block| block.schedule(shape.right)).collect())
}

/// The outputs of one spatial axis that a convolution computes: `first`, `first + step`, ...
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// Index of the first one.
    pub first: Extent,
    /// Distance.
    pub step: i64,
}

/// Weights of windows of one channel.
enum Depthwise<'a> {
    /// Of floats.
    Floats(&'a Tensor),
    /// As they are stored, and less their zero points.
    Stored(&'a Kernel, &'a [i8]),
}

/// A convolution taken apart.
pub(super) struct Conv<'a> {
    /// Input.
    pub x: &'a Operand,
    /// Kernel as it is in memory.
    pub w: &'a Operand,
    /// Kernel `[co, ci / group, window..]`, when it is known at compile time.
    pub constant: Option<Tensor>,
    /// Weights that stay as they are stored.
    pub stored: Option<Kernel>,
    /// The result, or the part of it that is computed.
    pub y: Operand,
    /// Element computed in.
    pub elem: Elem,
    /// Windows of all spatial axes.
    pub windows: Vec<Window>,
    /// Groups of channels.
    pub groups: i64,
    /// Input channels of a group.
    pub depth: i64,
    /// Output channels of a group.
    pub columns: i64,
    /// Which outputs of the leaf's result are computed, per spatial axis; empty for all.
    pub phases: Vec<Phase>,
}

impl<'a> Conv<'a> {
    fn new(cx: &LeafCx<'a>, anchor: &Anchor<'_>) -> Result<Self, Unsupported> {
        let op = match anchor.op {
            Op::Conv(op) => op.clone(),
            Op::ConvStored(op) => op.conv(),
            op => return Err(unsupported(format!("`{}`", op.name()), "`conv` or `conv_stored`")),
        };
        let (x, w, y) = (input(cx, anchor.need(0)?)?, input(cx, anchor.need(1)?)?, output(cx, 0)?);
        let shape: Option<Vec<i64>> = w.shape.iter().map(Extent::as_const).collect();
        let Some([co, depth, kernel @ ..]) = shape.as_deref() else {
            return Err(unsupported("a kernel of unknown size", "a fixed size"));
        };
        check_bounds(x, cx.dims, Some(0.0))?;
        let geometry = Geometry { kernel, strides: &op.strides, pads: &op.pads, dilations: &op.dilations };
        let outputs = y.shape.get(2..).unwrap_or_default();
        let windows = Window::all(x, outputs, &geometry, cx.dims)?;
        if y.rank() != x.rank() {
            return Err(unsupported(format!("a result of rank {}", y.rank()), format!("rank {}", x.rank())));
        }
        let groups = op.group.max(1);
        let elem = compute_elem(x.dtype)?;
        let is_stored = matches!(anchor.op, Op::ConvStored(_));
        if is_stored && elem != Elem::F32 {
            return Err(unsupported(format!("stored weights for {}", x.dtype), "f16, bf16 or f32"));
        }
        let stored = is_stored.then(|| Kernel::of(cx, anchor)).transpose()?;
        Ok(Self {
            elem,
            x,
            w,
            constant: w.constant.as_ref().filter(|tensor| !is_stored && fits(tensor, w)).cloned(),
            stored,
            y: y.clone(),
            windows,
            groups,
            depth: *depth,
            columns: co / groups,
            phases: Vec::new(),
        })
    }

    /// Writes the kernel.
    ///
    /// # Errors
    /// [`Unsupported`] for epilogues that are not elementwise.
    pub fn lower(&self, cx: &LeafCx<'_>, anchor: &Anchor<'_>) -> Result<Lowered, Unsupported> {
        if self.is_depthwise() {
            let taps = self.stored.as_ref().and_then(Kernel::shifted);
            match (&self.constant, &self.stored, taps) {
                (Some(tensor), ..) => return self.depthwise(cx, anchor, Depthwise::Floats(tensor)),
                (_, Some(kernel), Some(taps)) => return self.depthwise(cx, anchor, Depthwise::Stored(kernel, &taps)),
                _ => {}
            }
        }
        let shape = self.shape();
        let kind = shape.right;
        let clipped = self.clipped();
        let mut leaf = Leaf::new(cx, "conv");
        let left = leaf.input(anchor.need(0)?)?;
        let left = Stream { base: left.base - self.padding_offset(), ..left };

        let blocking = Blocking::choose(cx, &shape)?;
        let groups = usize::try_from(self.groups).unwrap_or(1);
        let weights = self.stored.as_ref().map(|kernel| Weights::of_kernel(kernel, groups, blocking.nr));
        let form = weights.as_ref().map_or(Form::Plain, |weights| Form::Stored(weights.form(blocking.nr)));
        let (right, column, sharing) = match (&weights, form, &self.constant) {
            (Some(weights), Form::Stored(stored), _) => {
                let right = leaf.packed(weights.pack(&stored));
                (right, (weights.panel_bytes(&stored) / stored.nr) as i64, stored.steps)
            }
            (_, _, Some(tensor)) => (self.pack(&mut leaf, tensor, blocking.nr), self.sum_depth(), 1),
            _ => (leaf.input(anchor.need(1)?)?, self.sum_depth(), 1),
        };
        let target = Stream { base: self.y.offset.clone(), ..leaf.output(0)? };
        let mut strides = vec![self.y.strides.clone(), vec![Extent::ZERO; self.y.rank()]];
        let mut start = None;
        if let Some(index) = self.bias(anchor) {
            strides[1][1] = input(cx, index)?.strides.first().cloned().unwrap_or(Extent::ZERO);
            start = Some(leaf.input(index)?);
        }
        let mut epilogue = Epilogue::of(&mut leaf, anchor, self.x.dtype, &self.y)?;
        epilogue.thin(&self.phases);
        strides.extend(epilogue.streams.iter().map(|s| s.1.clone()));

        let (mut outer, rows, cols) = self.axes(kind, blocking.nr, column, &strides);
        let mut rows = rows;
        let mut borders = Borders::default();
        if clipped {
            borders = Borders::of(&self.row_window(), blocking.mr);
        } else {
            outer.push(rows);
            outer = join_axes(outer);
            rows = match outer.pop() {
                Some(axis) if axis.strides[RIGHT] == Extent::ZERO => axis,
                other => {
                    outer.extend(other);
                    Axis { extent: Extent::ONE, strides: vec![Extent::ZERO; cols.strides.len()] }
                }
            };
        }
        let depth: Extent = self.sum_depth().into();
        let steps = self.sum_axes(kind, blocking.nr, sharing);
        let sum = |b: &mut KernelBuilder, outer: &[Extent], row: &Extent, pattern: usize| {
            let sum = self.sum(b, &steps, outer, row, &borders, pattern);
            if weights.is_none() {
                return sum;
            }
            Sum::Scaled { count: 1, a: Extent::ZERO, b: Extent::ZERO, body: Box::new(sum) }
        };
        let product = Product {
            elem: self.elem,
            lanes: blocking.lanes,
            at_once: blocking.at_once,
            mr: blocking.mr,
            nr: blocking.nr,
            streams: [left, right, target],
            right: kind,
            start,
            scale: None,
            form,
            start_times: None,
            chunk: Some(blocking.chunk(cx, self.elem, &depth)),
            order: blocking.order,
            outer,
            rows,
            cols,
            row_parts: borders.parts.clone(),
            sum: &sum,
            epilogue,
        };
        product.emit(leaf)
    }

    fn clipped(&self) -> bool {
        self.windows.iter().any(|w| w.clipped)
    }

    /// Steps of the sum.
    fn sum_depth(&self) -> i64 {
        self.windows.iter().map(|w| w.kernel).product::<i64>() * self.depth
    }

    /// What register blocks depend on.
    fn shape(&self) -> Shape {
        let rows = if self.clipped() { self.row_window().outputs } else { Extent::product(&self.y.shape[2..]) };
        Shape {
            elem: self.elem,
            rows,
            cols: self.columns.into(),
            depth: self.sum_depth().into(),
            left: Extent::product(&self.x.shape),
            right: if self.constant.is_some() || self.stored.is_some() { Right::Packed } else { Right::Strided },
            // The broadcast, and stored weights on their way to numbers.
            held: if self.stored.is_some() { 4 } else { 1 },
            column: 1,
        }
    }

    /// Whether every channel is convolved by itself and channels are neighbours in memory.
    fn is_depthwise(&self) -> bool {
        let unit = |operand: &Operand| operand.strides[1] == Extent::ONE;
        let plain = self.phases.is_empty() && !self.windows.is_empty();
        plain && self.depth == 1 && self.columns == 1 && unit(self.x) && unit(&self.y)
    }

    /// Position of the bias.
    fn bias(&self, anchor: &Anchor<'_>) -> Option<usize> {
        anchor.position(if self.stored.is_some() { 4 } else { 2 })
    }

    fn depthwise(&self, cx: &LeafCx<'_>, anchor: &Anchor<'_>, weights: Depthwise<'_>) -> Result<Lowered, Unsupported> {
        let mut leaf = Leaf::new(cx, "depthwise");
        let stream = leaf.input(anchor.need(0)?)?;
        let channels = usize::try_from(self.groups).unwrap_or(0);
        let (weights, finish, shared) = match weights {
            Depthwise::Floats(tensor) => {
                let steps = dense_steps(tensor.shape());
                let source = Source {
                    tensor,
                    batch: Vec::new(),
                    cols: (channels, steps[0]),
                    steps: (2..tensor.shape().len()).map(|axis| (tensor.shape()[axis], steps[axis])).collect(),
                    scale: 1.0,
                };
                (leaf.packed(pack_rows(&source, elem_dtype(self.elem))), Finish::None, 1)
            }
            Depthwise::Stored(kernel, taps) => {
                let shared = sharing(kernel.ints.dtype(), taps);
                let scales: Vec<f32> = (0..channels).map(|c| kernel.scales[c % kernel.scales.len()]).collect();
                let data = Tensor::from_f32(&[channels], &scales);
                let weights = leaf.packed(pack_taps(taps, channels, shared));
                (weights, Finish::Scaled(leaf.packed(PackedWeight { transform: "scales".into(), data })), shared)
            }
        };
        let mut start = None;
        if let Some(index) = self.bias(anchor) {
            start = Some((leaf.input(index)?, input(cx, index)?.strides.first().cloned().unwrap_or(Extent::ZERO)));
        }
        let parts = Parts {
            x: self.x,
            y: &self.y,
            stream,
            elem: self.elem,
            windows: self.windows.clone(),
            step: Step::Weighted(Taps { stream: weights, channels: self.groups, steps: shared }),
            start,
            finish,
            stored: None,
        };
        slide(leaf, anchor, parts)
    }

    /// The axis whose outputs are the rows of a block: the last one.
    pub fn row_window(&self) -> Window {
        let none = Window {
            outputs: Extent::ONE,
            kernel: 1,
            stride: 1,
            dilation: 1,
            pad: 0,
            lo: Extent::ZERO,
            hi: Extent::ONE,
            clipped: false,
            step: Extent::ZERO,
        };
        self.windows.last().cloned().unwrap_or(none)
    }

    /// Elements from element 0 of the first window to index 0 of the input.
    pub fn padding_offset(&self) -> Extent {
        self.windows.iter().fold(Extent::ZERO, |sum, w| sum + w.step.clone() * w.pad.into())
    }

    fn pack(&self, leaf: &mut Leaf<'_>, tensor: &Tensor, nr: usize) -> Stream {
        let steps = dense_steps(tensor.shape());
        let count = |n: i64| usize::try_from(n).unwrap_or(0);
        let pair = |axis: usize| (tensor.shape()[axis], steps[axis]);
        let source = Source {
            tensor,
            batch: vec![(count(self.groups), count(self.columns) * steps[0])],
            cols: (count(self.columns), steps[0]),
            steps: (2..tensor.shape().len()).chain([1]).map(pair).collect(),
            scale: 1.0,
        };
        leaf.packed(pack_panels(&source, elem_dtype(self.elem), nr))
    }

    /// Outer axes (group, image, all spatial axes but the last), rows and columns.
    pub fn axes(&self, kind: Right, nr: usize, sum_depth: i64, others: &[Vec<Extent>]) -> (Vec<Axis>, Axis, Axis) {
        let axis = |extent: Extent, left: Extent, right: Extent, at: usize, factor: i64| {
            let rest = others.iter().map(|s| s[at].clone() * factor.into());
            Axis { extent, strides: [left, right].into_iter().chain(rest).collect() }
        };
        let channel = self.x.strides[1].clone();
        let (group_right, col_right): (Extent, Extent) = match kind {
            Right::Packed => {
                ((Extent::from(self.columns).ceildiv(&nr.into())) * (sum_depth * nr as i64).into(), sum_depth.into())
            }
            _ => (self.w.strides[0].clone() * self.columns.into(), self.w.strides[0].clone()),
        };
        let group = axis(self.groups.into(), channel * self.depth.into(), group_right, 1, self.columns);
        let image = axis(self.y.shape[0].clone(), self.x.strides[0].clone(), Extent::ZERO, 0, 1);
        let mut outer = vec![group, image];
        for (index, w) in self.windows.iter().enumerate() {
            let left = w.step.clone() * w.stride.into();
            outer.push(axis(w.outputs.clone(), left, Extent::ZERO, index + 2, 1));
        }
        let cols = axis(self.columns.into(), Extent::ZERO, col_right, 1, 1);
        let one = Axis { extent: Extent::ONE, strides: vec![Extent::ZERO; cols.strides.len()] };
        let rows = if self.windows.is_empty() { one } else { outer.pop().unwrap_or(one) };
        (outer, rows, cols)
    }

    /// Axes of the sum: the window's, then the channels of a group, of which the weights of so many share a byte.
    fn sum_axes(&self, kind: Right, nr: usize, sharing: i64) -> Vec<SumAxis> {
        let mut packed = nr as i64 * self.depth / sharing;
        let mut axes: Vec<SumAxis> = Vec::new();
        for (index, w) in self.windows.iter().enumerate().rev() {
            let right = if kind == Right::Packed { packed.into() } else { self.w.strides[index + 2].clone() };
            axes.insert(0, SumAxis::whole(w.kernel.into(), w.step.clone() * w.dilation.into(), right));
            packed *= w.kernel;
        }
        let right = if kind == Right::Packed { nr.into() } else { self.w.strides[1].clone() };
        let (depth, apart) = (self.depth / sharing, self.x.strides[1].clone() * sharing.into());
        axes.push(SumAxis::whole(depth.into(), apart, right));
        axes
    }

    fn sum(
        &self,
        b: &mut KernelBuilder,
        steps: &[SumAxis],
        outer: &[Extent],
        row: &Extent,
        borders: &Borders,
        pattern: usize,
    ) -> Sum {
        if borders.parts.is_empty() {
            return Sum::nest(steps);
        }
        let mut steps = steps.to_vec();
        let last = self.windows.len() - 1;
        for (index, window) in self.windows[..last].iter().enumerate() {
            (steps[index].lo, steps[index].hi) = window.present(b, &outer[index + 2]);
        }
        match pattern {
            INSIDE => Sum::nest(&steps),
            CLIPPED => {
                (steps[last].lo, steps[last].hi) = self.windows[last].present(b, row);
                Sum::nest(&steps)
            }
            _ => {
                let inner = borders.pattern(pattern).iter().map(|p| p.part(&steps[last..])).collect();
                steps[..last].iter().rev().cloned().fold(Sum::Seq(inner), |body, axis| axis.around(body))
            }
        }
    }
}

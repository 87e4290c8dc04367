//! Transposed convolution: one convolution per phase.
//!
//! Outputs whose distance is a multiple of the stride see the same elements of the kernel, so those of one residue per axis
//! (a phase) are a plain convolution with stride 1 over a part of the kernel, walked backwards; phases share nothing.

use adze_ir::extent::Extent;
use adze_ir::ops::{ConvTranspose, Op};
use adze_ir::tensor::Tensor;

use super::conv::{Conv, Phase};
use super::gemm::dense_steps;
use super::leaf::{Anchor, compute_elem, input, output, unsupported};
use super::operand::{LeafCx, Lowered, Operand, Unsupported};
use super::window::{Window, check_bounds};

/// Phases that one leaf may have.
const MAX_PHASES: i64 = 256;

/// Lowers a `ConvTranspose`, alone or with epilogues.
///
/// # Errors
/// [`Unsupported`] for kernels that are not known at compile time and what convolutions do not support.
pub(super) fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let anchor = Anchor::of(cx)?;
    let Op::ConvTranspose(op) = anchor.op else {
        return Err(unsupported(format!("`{}`", anchor.op.name()), "`conv_transpose`"));
    };
    let (x, w, y) = (input(cx, anchor.need(0)?)?, input(cx, anchor.need(1)?)?, output(cx, 0)?);
    check_bounds(x, cx.dims, Some(0.0))?;
    let Some(tensor) = &w.constant else {
        return Err(unsupported("a kernel that is computed", "a kernel known at compile time"));
    };
    let rank = op.strides.len();
    let fits = [x.rank(), y.rank(), tensor.shape().len()].iter().all(|&r| r == rank + 2);
    if !fits || op.dilations.len() != rank || op.pads.len() != 2 * rank {
        return Err(unsupported(format!("operands of rank {}", x.rank()), format!("rank {}", rank + 2)));
    }
    let count = op.strides.iter().try_fold(1i64, |product, &s| product.checked_mul(s.max(1)));
    if count.is_none_or(|count| count > MAX_PHASES) {
        return Err(unsupported(format!("strides {:?}", op.strides), format!("a product up to {MAX_PHASES}")));
    }
    let mut lowered = Vec::new();
    for flat in 0..count.unwrap_or(0) {
        let mut rest = flat;
        let axes: Vec<Taps> = (0..rank)
            .map(|axis| {
                let residue = rest % op.strides[axis];
                rest /= op.strides[axis];
                Taps::new(op, tensor.shape()[axis + 2], residue, axis)
            })
            .collect();
        let conv = phase(op, &axes, x, (w, tensor), y)?;
        lowered.push(conv.lower(cx, &anchor)?);
    }
    Ok(lowered)
}

/// The kernel elements of one axis that the outputs of a phase see, and where they fall.
struct Taps {
    /// Kernel elements, in the order of the input they meet.
    elements: Vec<usize>,
    /// Distance of the input elements they meet.
    dilation: i64,
    /// Input index that the first of them meets at the phase's first output.
    start: i64,
    /// The phase's first output.
    first: i64,
}

impl Taps {
    /// Output `o` gets `x[s] · w[k]` where `s · stride + k · dilation - pad = o`; here those with `(o + pad) % stride = residue`.
    fn new(op: &ConvTranspose, kernel: usize, residue: i64, axis: usize) -> Self {
        let (stride, dilation, pad) = (op.strides[axis], op.dilations[axis], op.pads[axis]);
        let mut elements: Vec<usize> =
            (0..kernel).filter(|&k| (k as i64 * dilation - residue).rem_euclid(stride) == 0).collect();
        elements.reverse();
        // The first output of the phase that exists, `q · stride + residue - pad`.
        let q = (pad - residue + stride - 1).div_euclid(stride);
        let start = elements.first().map_or(0, |&k| q + (residue - k as i64 * dilation) / stride);
        let distance = match elements.as_slice() {
            [a, b, ..] => (*a as i64 - *b as i64) * dilation / stride,
            _ => 1,
        };
        Self { elements, dilation: distance, start, first: q * stride + residue - pad }
    }
}

fn phase<'a>(
    op: &ConvTranspose,
    axes: &[Taps],
    x: &'a Operand,
    (w, tensor): (&'a Operand, &Tensor),
    y: &Operand,
) -> Result<Conv<'a>, Unsupported> {
    let mut part = y.clone();
    let (mut windows, mut phases) = (Vec::new(), Vec::new());
    for (axis, taps) in axes.iter().enumerate() {
        let at = axis + 2;
        let stride = op.strides[axis];
        let outputs = (y.shape[at].clone() - taps.first.into()).ceildiv(&stride.into()).maximum(&Extent::ZERO);
        part.offset = part.offset + y.strides[at].clone() * taps.first.into();
        part.strides[at] = y.strides[at].clone() * stride.into();
        part.shape[at] = outputs.clone();
        phases.push(Phase { first: taps.first.into(), step: stride });
        let (mut lo, mut hi) = (Extent::ZERO, x.shape[at].clone());
        if let Some(bounds) = &x.bounds {
            lo = lo.maximum(&-bounds.starts[at].clone());
            hi = hi.minimum(&(bounds.limits[at].clone() - bounds.starts[at].clone()));
        }
        let kernel = taps.elements.len() as i64;
        let mut window = Window {
            outputs,
            kernel,
            stride: 1,
            dilation: taps.dilation,
            pad: -taps.start,
            lo,
            hi,
            clipped: true,
            step: x.strides[at].clone(),
        };
        window.clipped = window.reaches_outside();
        windows.push(window);
    }
    let groups = op.group.max(1);
    let size = |axis: usize| tensor.shape()[axis] as i64;
    Ok(Conv {
        x,
        w,
        constant: Some(kernel_of(tensor, axes, groups)),
        stored: None,
        y: part,
        elem: compute_elem(x.dtype)?,
        windows,
        groups,
        depth: size(0) / groups,
        columns: size(1),
        phases,
    })
}

/// The kernel of a phase as a convolution's: `[co, ci / group, taps..]` from `[ci, co / group, window..]`.
fn kernel_of(tensor: &Tensor, axes: &[Taps], groups: i64) -> Tensor {
    let groups = usize::try_from(groups).unwrap_or(1);
    let (shape, steps) = (tensor.shape(), dense_steps(tensor.shape()));
    let (depth, columns) = (shape[0] / groups, shape[1]);
    let width = tensor.dtype().bytes_for(1);
    let taps = axes.iter().enumerate().fold(vec![0usize], |all, (axis, taps)| {
        let step = steps[axis + 2];
        all.iter().flat_map(|base| taps.elements.iter().map(move |k| base + k * step)).collect()
    });
    let mut shape = vec![groups * columns, depth];
    shape.extend(axes.iter().map(|t| t.elements.len()));
    let source = tensor.clone();
    Tensor::lazy(tensor.dtype(), &shape, move || {
        let mut bytes = Vec::new();
        for co in 0..groups * columns {
            let (group, column) = (co / columns, co % columns);
            for ci in 0..depth {
                let base = (group * depth + ci) * steps[0] + column * steps[1];
                for tap in &taps {
                    bytes.extend_from_slice(&source.bytes()[(base + tap) * width..][..width]);
                }
            }
        }
        bytes
    })
}

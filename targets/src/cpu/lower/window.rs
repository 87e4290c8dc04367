//! Spatial axes of convolutions and pools: where a window lies in its input and which part of it exists.

use adze_ir::extent::{Dims, Extent};

use super::leaf::{bind, unsupported};
use super::operand::{Operand, Unsupported};
use crate::cpu::kernel::KernelBuilder;

/// One spatial axis. Element `k` of the window of output `o` is index `o · stride + k · dilation - pad` of the input.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Outputs.
    pub outputs: Extent,
    /// Elements of the window.
    pub kernel: i64,
    /// Indices from output to output.
    pub stride: i64,
    /// Indices from element to element.
    pub dilation: i64,
    /// Indices before the input's first one.
    pub pad: i64,
    /// First index that exists.
    pub lo: Extent,
    /// Indices from here on do not exist.
    pub hi: Extent,
    /// Whether some window reaches outside.
    pub clipped: bool,
    /// Elements of the input from index to index.
    pub step: Extent,
}

/// Attributes of the windows of an operator, per spatial axis.
pub(super) struct Geometry<'a> {
    /// Elements of the window.
    pub kernel: &'a [i64],
    /// Indices from output to output.
    pub strides: &'a [i64],
    /// Begin of every axis, then end of every axis.
    pub pads: &'a [i64],
    /// Indices from element to element.
    pub dilations: &'a [i64],
}

impl Window {
    /// The spatial axes of `input` (axes from 2 on) for an operator whose result has shape `outputs`.
    pub fn all(
        input: &Operand,
        outputs: &[Extent],
        geometry: &Geometry<'_>,
        dims: &Dims,
    ) -> Result<Vec<Window>, Unsupported> {
        let rank = geometry.kernel.len();
        let fits = input.rank() == rank + 2
            && outputs.len() == rank
            && geometry.strides.len() == rank
            && geometry.dilations.len() == rank
            && geometry.pads.len() == 2 * rank;
        if !fits {
            return Err(unsupported(format!("input of rank {}", input.rank()), format!("rank {}", rank + 2)));
        }
        (0..rank).map(|axis| Self::one(input, outputs, geometry, dims, axis)).collect()
    }

    fn one(
        input: &Operand,
        outputs: &[Extent],
        geometry: &Geometry<'_>,
        dims: &Dims,
        axis: usize,
    ) -> Result<Window, Unsupported> {
        let extent = &input.shape[axis + 2];
        let (mut lo, mut hi) = (Extent::ZERO, extent.clone());
        if let Some(bounds) = &input.bounds {
            lo = lo.maximum(&-bounds.starts[axis + 2].clone());
            hi = hi.minimum(&(bounds.limits[axis + 2].clone() - bounds.starts[axis + 2].clone()));
        }
        let (kernel, stride, dilation) = (geometry.kernel[axis], geometry.strides[axis], geometry.dilations[axis]);
        if kernel < 1 || stride < 1 || dilation < 1 {
            return Err(unsupported(format!("window {kernel}, stride {stride}, dilation {dilation}"), "1 or more"));
        }
        let pad = geometry.pads[axis];
        let first: Extent = (-pad).into();
        let last = (outputs[axis].clone() - 1.into()) * stride.into() + ((kernel - 1) * dilation - pad).into();
        let inside = (first - lo.clone()).range(dims).lo >= 0 && (hi.clone() - last).range(dims).lo >= 1;
        Ok(Window {
            outputs: outputs[axis].clone(),
            kernel,
            stride,
            dilation,
            pad,
            lo,
            hi,
            clipped: !inside,
            step: input.strides[axis + 2].clone(),
        })
    }

    /// Whether some window may reach outside, as far as constants tell.
    pub fn reaches_outside(&self) -> bool {
        let last = self.position(&(self.outputs.clone() - 1.into())) + ((self.kernel - 1) * self.dilation).into();
        let before = (Extent::from(-self.pad) - self.lo.clone()).as_const().is_none_or(|room| room < 0);
        before || (self.hi.clone() - last).as_const().is_none_or(|room| room < 1)
    }

    /// Index of the input under element 0 of the window of an output.
    pub fn position(&self, output: &Extent) -> Extent {
        output.clone() * self.stride.into() - self.pad.into()
    }

    /// The elements of the window of an output that exist: first and end, computed here.
    pub fn present(&self, b: &mut KernelBuilder, output: &Extent) -> (Extent, Extent) {
        if !self.clipped {
            return (Extent::ZERO, self.kernel.into());
        }
        let position = self.position(output);
        let lo = (self.lo.clone() - position.clone()).ceildiv(&self.dilation.into());
        let hi = (self.hi.clone() - 1.into() - position).floordiv(&self.dilation.into()) + 1.into();
        let lo = bind(b, lo.maximum(&Extent::ZERO));
        let hi = bind(b, hi.minimum(&self.kernel.into()).maximum(&lo));
        (lo, hi)
    }

    /// [`Window::present`] when everything is constant.
    pub fn present_const(&self, output: i64) -> Option<(i64, i64)> {
        let (lo, hi) = (self.lo.as_const()?, self.hi.as_const()?);
        let position = output * self.stride - self.pad;
        let ceil = |n: i64| (n + self.dilation - 1).div_euclid(self.dilation);
        let from = ceil(lo - position).max(0);
        let to = ((hi - 1 - position).div_euclid(self.dilation) + 1).min(self.kernel).max(from);
        Some((from, to))
    }

    /// Outputs whose windows lie inside: first and end.
    pub fn interior(&self) -> (Extent, Extent) {
        let stride: Extent = self.stride.into();
        let first = (self.lo.clone() + self.pad.into()).ceildiv(&stride);
        let reach = self.hi.clone() + (self.pad - 1 - (self.kernel - 1) * self.dilation).into();
        let end = reach.floordiv(&stride) + 1.into();
        let first = first.maximum(&Extent::ZERO).minimum(&self.outputs);
        let end = end.minimum(&self.outputs).maximum(&first);
        (first, end)
    }
}

/// Whether the view has its whole extent along the axes that are not spatial; padding there has no meaning.
pub(super) fn check_bounds(input: &Operand, dims: &Dims, fill: Option<f64>) -> Result<(), Unsupported> {
    let Some(bounds) = &input.bounds else { return Ok(()) };
    for axis in 0..input.rank().min(2) {
        let start = bounds.starts[axis].range(dims);
        let end = (bounds.limits[axis].clone() - bounds.starts[axis].clone() - input.shape[axis].clone()).range(dims);
        if start.lo < 0 || end.lo < 0 {
            return Err(unsupported(format!("padding along axis {axis}"), "padding of spatial axes"));
        }
    }
    match fill {
        Some(fill) if bounds.fill.get() != fill => {
            Err(unsupported(format!("padding with {}", bounds.fill.get()), format!("padding with {fill}")))
        }
        _ => Ok(()),
    }
}

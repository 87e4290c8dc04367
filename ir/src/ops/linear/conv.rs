//! Type rules and evaluation of convolutions.
//!
//! Both directions are one loop nest over (image, output channel, input channel, window element); what is innermost is a
//! row: `count` neighbours of the side with the fewer elements, against every `stride`-th element of the other.

use super::super::math::{Ring, by_ring};
use super::super::shape::{
    Window, attribute, concrete, need_equal, need_number, need_rank, need_rank_from, need_same_dtype, need_shape,
    need_steps, windows,
};
use super::{Conv, ConvTranspose};
use crate::extent::Extent;
use crate::ops::{EvalError, OpDef, Operands, TypeError};
use crate::tensor::Tensor;
use crate::types::TensorType;

impl OpDef for Conv {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, w) = (inputs.need(0)?, inputs.need(1)?);
        let dtype = need_same_dtype(inputs)?;
        let out = infer_conv([x, w], inputs.get(2), &self.strides, &self.pads, &self.dilations, self.group)?;
        Ok(vec![TensorType::new(dtype, out)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, w) = (inputs.need(0)?, inputs.need(1)?);
        let out = concrete(&types[0])?;
        let geometry = Geometry::conv(self, x.shape(), w.shape(), &out)?;
        Ok(vec![by_ring!(x.dtype(), run(&geometry, x, w, inputs.get(2), &out))])
    }
}

/// Shape of a convolution's result; also checks the bias. Shared with the integer forms, which check dtypes themselves.
pub(in crate::ops) fn infer_conv(
    [x, w]: [&TensorType; 2],
    bias: Option<&TensorType>,
    strides: &[i64],
    pads: &[i64],
    dilations: &[i64],
    group: i64,
) -> Result<Vec<Extent>, TypeError> {
    need_number(0, x)?;
    need_rank_from(0, x, 2)?;
    need_rank(1, w, x.rank())?;
    let kernel = kernel_sizes(w)?;
    let windows = windows(&kernel, strides, pads, dilations)?;
    need_group(group)?;
    need_equal("input channels", &(w.shape[1].clone() * group.into()), &x.shape[1])?;
    need_divides(group, &w.shape[0])?;
    if let Some(bias) = bias {
        need_shape("bias", bias, &w.shape[..1])?;
    }
    let mut out = vec![x.shape[0].clone(), w.shape[0].clone()];
    for (window, len) in windows.iter().zip(&x.shape[2..]) {
        out.push(window.output(len)?);
    }
    Ok(out)
}

fn kernel_sizes(w: &TensorType) -> Result<Vec<i64>, TypeError> {
    let sizes: Option<Vec<i64>> = w.shape[2..].iter().map(Extent::as_const).collect();
    sizes.ok_or_else(|| super::super::shape::mismatch("kernel", w, "a window of constant size"))
}

fn need_group(group: i64) -> Result<(), TypeError> {
    need_steps("group", &[group], 1, 1)
}

fn need_divides(group: i64, channels: &Extent) -> Result<(), TypeError> {
    if channels.modulo(&group.into()) == Extent::ZERO {
        return Ok(());
    }
    Err(attribute("group", group, format!("a divisor of the {channels} channels")))
}

impl OpDef for ConvTranspose {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, w) = (inputs.need(0)?, inputs.need(1)?);
        let dtype = need_same_dtype(inputs)?;
        need_number(0, x)?;
        need_rank_from(0, x, 2)?;
        need_rank(1, w, x.rank())?;
        let kernel = kernel_sizes(w)?;
        let windows = windows(&kernel, &self.strides, &self.pads, &self.dilations)?;
        need_steps("output_padding", &self.output_padding, kernel.len(), 0)?;
        need_group(self.group)?;
        need_equal("input channels", &w.shape[0], &x.shape[1])?;
        need_divides(self.group, &w.shape[0])?;
        let channels = w.shape[1].clone() * self.group.into();
        if let Some(bias) = inputs.get(2) {
            need_shape("bias", bias, std::slice::from_ref(&channels))?;
        }
        let mut out = vec![x.shape[0].clone(), channels];
        for ((window, len), extra) in windows.iter().zip(&x.shape[2..]).zip(&self.output_padding) {
            let fixed = extra + window.span() - window.before - window.after;
            let size = (len.clone() - Extent::ONE) * window.stride.into() + fixed.into();
            if size.as_const().is_some_and(|size| size < 0) {
                return Err(attribute("pads", format!("{:?}", self.pads), "what leaves a result of zero or more"));
            }
            out.push(size);
        }
        Ok(vec![TensorType::new(dtype, out)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, w) = (inputs.need(0)?, inputs.need(1)?);
        let out = concrete(&types[0])?;
        let kernel: Vec<i64> = w.shape()[2..].iter().map(|&k| k as i64).collect();
        let geometry = Geometry {
            windows: windows(&kernel, &self.strides, &self.pads, &self.dilations)?,
            images: out[0],
            groups: self.group as usize,
            outputs: w.shape()[1],
            inputs: x.shape()[1] / self.group as usize,
            small: x.shape()[2..].to_vec(),
            large: out[2..].to_vec(),
            transposed: true,
        };
        Ok(vec![by_ring!(x.dtype(), run(&geometry, x, w, inputs.get(2), &out))])
    }
}

/// What both directions need to know. Position `s` on the small side and window element `k` meet at
/// `s · stride + k · dilation - before` on the large side.
struct Geometry {
    windows: Vec<Window>,
    images: usize,
    groups: usize,
    /// Output channels per group.
    outputs: usize,
    /// Input channels per group.
    inputs: usize,
    /// Spatial shape of a convolution's result, of a transposed one's operand.
    small: Vec<usize>,
    /// Spatial shape of the other side.
    large: Vec<usize>,
    transposed: bool,
}

impl Geometry {
    fn conv(op: &Conv, x: &[usize], w: &[usize], out: &[usize]) -> Result<Self, TypeError> {
        let kernel: Vec<i64> = w[2..].iter().map(|&k| k as i64).collect();
        let groups = op.group as usize;
        let geometry = Self {
            windows: windows(&kernel, &op.strides, &op.pads, &op.dilations)?,
            images: out[0],
            groups,
            outputs: w[0] / groups,
            inputs: w[1],
            small: out[2..].to_vec(),
            large: x[2..].to_vec(),
            transposed: false,
        };
        Ok(geometry.flattened())
    }

    /// A pointwise convolution sees its spatial axes as one, so that rows are long.
    fn flattened(mut self) -> Self {
        let pointwise = |w: &Window| w.kernel == 1 && w.stride == 1 && w.before == 0 && w.after == 0;
        if self.windows.iter().all(pointwise) {
            self.windows = vec![Window { kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 }];
            self.small = vec![self.small.iter().product()];
            self.large = self.small.clone();
        }
        self
    }

    /// Calls `visit(small offset, large offset, count)` for the rows in which window element `k` (a flat index) meets the
    /// large side.
    fn rows(&self, k: usize, visit: &mut impl FnMut(usize, usize, usize)) {
        self.rows_from(0, k, self.kernel_elems(), 0, 0, visit);
    }

    fn kernel_elems(&self) -> usize {
        self.windows.iter().map(|w| w.kernel as usize).product()
    }

    fn rows_from(
        &self,
        axis: usize,
        k: usize,
        elems: usize,
        small: usize,
        large: usize,
        visit: &mut impl FnMut(usize, usize, usize),
    ) {
        let Some(window) = self.windows.get(axis) else { return visit(small, large, 1) };
        let elems = elems / window.kernel as usize;
        let shift = (k / elems) as i64 * window.dilation - window.before;
        let reach = |len: usize| (len as i64 - shift + window.stride - 1).div_euclid(window.stride);
        let lo = reach(0).clamp(0, self.small[axis] as i64);
        let hi = reach(self.large[axis]).clamp(lo, self.small[axis] as i64);
        if lo == hi {
            return;
        }
        let (small, large) = (small * self.small[axis], large * self.large[axis]);
        let at = |s: i64| (small + s as usize, large + (s * window.stride + shift) as usize);
        if axis + 1 == self.windows.len() {
            let (small, large) = at(lo);
            return visit(small, large, (hi - lo) as usize);
        }
        for s in lo..hi {
            let (small, large) = at(s);
            self.rows_from(axis + 1, k % elems, elems, small, large, visit);
        }
    }

    /// Offset into the weights of the window for (group, output channel, input channel), channels counted per group.
    fn filter(&self, group: usize, output: usize, input: usize) -> usize {
        let index = if self.transposed {
            (group * self.inputs + input) * self.outputs + output
        } else {
            (group * self.outputs + output) * self.inputs + input
        };
        index * self.kernel_elems()
    }

    fn plane<T: Ring>(&self, group: usize, output: usize, x: &[T], w: &[T], out: &mut [T]) {
        let plane = x.len() / self.inputs.max(1);
        let step = self.windows.last().map_or(1, |w| w.stride as usize);
        for input in 0..self.inputs {
            let x = &x[input * plane..][..plane];
            let filter = self.filter(group, output, input);
            for k in 0..self.kernel_elems() {
                let weight = w[filter + k];
                self.rows(k, &mut |small, large, count| {
                    if self.transposed {
                        let out = out[large..].iter_mut().step_by(step);
                        out.zip(&x[small..][..count]).for_each(|(sum, &x)| *sum = sum.add_product(x, weight));
                    } else if step == 1 {
                        let out = out[small..][..count].iter_mut();
                        out.zip(&x[large..][..count]).for_each(|(sum, &x)| *sum = sum.add_product(x, weight));
                    } else {
                        let out = out[small..][..count].iter_mut();
                        out.zip(x[large..].iter().step_by(step))
                            .for_each(|(sum, &x)| *sum = sum.add_product(x, weight));
                    }
                });
            }
        }
    }

    /// All of the result, without bias.
    fn sums<T: Ring>(&self, x: &[T], w: &[T]) -> Vec<T> {
        let (small, large) = (self.small.iter().product(), self.large.iter().product());
        let (from, to): (usize, usize) = if self.transposed { (small, large) } else { (large, small) };
        let mut sums = vec![T::ZERO; self.images * self.groups * self.outputs * to];
        if to == 0 {
            return sums;
        }
        for (index, out) in sums.chunks_exact_mut(to).enumerate() {
            let (block, output) = (index / self.outputs, index % self.outputs);
            let x = &x[block * self.inputs * from..][..self.inputs * from];
            self.plane(block % self.groups, output, x, w, out);
        }
        sums
    }
}

fn run<T: Ring>(geometry: &Geometry, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, out: &[usize]) -> Tensor {
    let mut sums = geometry.sums(&T::load(x), &T::load(w));
    if let Some(bias) = bias {
        let plane: usize = out[2..].iter().product();
        let bias = T::load(bias);
        for (index, plane) in sums.chunks_exact_mut(plane.max(1)).enumerate() {
            plane.iter_mut().for_each(|sum| *sum = sum.plus(bias[index % bias.len()]));
        }
    }
    T::store(x.dtype(), out, &sums)
}

/// The sums of a convolution on values of shapes `x` and `w`, without bias: for the integer forms.
///
/// # Errors
/// [`TypeError`] for attributes that the type rule refuses.
pub(in crate::ops) fn convolve<T: Ring>(
    op: &Conv,
    (x, x_shape): (&[T], &[usize]),
    (w, w_shape): (&[T], &[usize]),
    out: &[usize],
) -> Result<Vec<T>, TypeError> {
    Ok(Geometry::conv(op, x_shape, w_shape, out)?.sums(x, w))
}

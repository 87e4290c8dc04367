//! What the families share: checks that give a [`TypeError`], broadcasting, windows, and walks over dense tensors.

use super::{EvalError, Operands, TypeError};
use crate::extent::{Dims, Extent};
use crate::types::{DType, Shape, TensorType};

/// Largest stride, dilation, window or padding that a type rule accepts, so that index arithmetic stays inside `i64`.
pub(super) const MAX_STEP: i64 = 1 << 31;

/// A shape as it stands in messages: `[1,3,h,w]`.
pub(super) fn show(shape: &[Extent]) -> String {
    let dims: Vec<String> = shape.iter().map(Extent::to_string).collect();
    format!("[{}]", dims.join(","))
}

/// An error about an attribute's value.
pub(super) fn attribute(name: &'static str, found: impl ToString, accepted: impl Into<String>) -> TypeError {
    TypeError::Attribute { name, found: found.to_string(), accepted: accepted.into() }
}

/// An error about shapes.
pub(super) fn mismatch(what: &'static str, found: impl ToString, accepted: impl Into<String>) -> TypeError {
    TypeError::Shape { what, found: found.to_string(), accepted: accepted.into() }
}

/// Refuses any rank but `rank`.
pub(super) fn need_rank(input: usize, ty: &TensorType, rank: usize) -> Result<(), TypeError> {
    if ty.rank() == rank {
        return Ok(());
    }
    Err(TypeError::Rank { input, found: ty.rank(), accepted: rank.to_string() })
}

/// Refuses ranks below `rank`.
pub(super) fn need_rank_from(input: usize, ty: &TensorType, rank: usize) -> Result<(), TypeError> {
    if ty.rank() >= rank {
        return Ok(());
    }
    Err(TypeError::Rank { input, found: ty.rank(), accepted: format!("{rank} or more") })
}

/// Refuses dtypes that `accept` does not take; `accepted` says which it does.
pub(super) fn need_dtype(
    input: usize,
    ty: &TensorType,
    accept: impl Fn(DType) -> bool,
    accepted: &str,
) -> Result<(), TypeError> {
    if accept(ty.dtype) {
        return Ok(());
    }
    Err(TypeError::DType { input, found: ty.dtype, accepted: accepted.into() })
}

/// Refuses all but floating-point types.
pub(super) fn need_float(input: usize, ty: &TensorType) -> Result<(), TypeError> {
    need_dtype(input, ty, DType::is_float, "a floating-point type")
}

/// Refuses all but floating-point and integer types.
pub(super) fn need_number(input: usize, ty: &TensorType) -> Result<(), TypeError> {
    need_dtype(input, ty, DType::is_number, "a floating-point or integer type")
}

/// Refuses operands whose dtype is not the first operand's.
pub(super) fn need_same_dtype(inputs: Operands<'_, TensorType>) -> Result<DType, TypeError> {
    let dtype = inputs.need(0)?.dtype;
    for input in 1..inputs.len() {
        if let Some(ty) = inputs.get(input) {
            need_dtype(input, ty, |d| d == dtype, dtype.name())?;
        }
    }
    Ok(dtype)
}

/// Refuses an axis outside the rank.
pub(super) fn need_axis(name: &'static str, axis: usize, ty: &TensorType) -> Result<(), TypeError> {
    if axis < ty.rank() {
        return Ok(());
    }
    Err(attribute(name, axis, format!("below the rank {}", ty.rank())))
}

/// Refuses extents that cannot be proved equal.
pub(super) fn need_equal(what: &'static str, found: &Extent, accepted: &Extent) -> Result<(), TypeError> {
    if found == accepted {
        return Ok(());
    }
    Err(mismatch(what, found, accepted.to_string()))
}

/// Refuses any shape but the given one.
pub(super) fn need_shape(what: &'static str, ty: &TensorType, accepted: &[Extent]) -> Result<(), TypeError> {
    if ty.shape == accepted {
        return Ok(());
    }
    Err(mismatch(what, show(&ty.shape), show(accepted)))
}

/// Refuses a list attribute of another length or with values outside `lo..=MAX_STEP`.
pub(super) fn need_steps(name: &'static str, values: &[i64], len: usize, lo: i64) -> Result<(), TypeError> {
    if values.len() == len && values.iter().all(|v| (lo..=MAX_STEP).contains(v)) {
        return Ok(());
    }
    Err(attribute(name, format!("{values:?}"), format!("{len} integers in {lo}..={MAX_STEP}")))
}

/// Refuses an extent of a result that is negative whatever the named dimensions are.
pub(super) fn need_extent(name: &'static str, extent: &Extent) -> Result<(), TypeError> {
    if extent.upper(&Dims::new()) >= 0 {
        return Ok(());
    }
    Err(attribute(name, extent, "zero or more"))
}

/// The value of an extent that [`super::Op::bind`] has made constant.
pub(super) fn constant(extent: &Extent) -> Result<i64, EvalError> {
    extent.as_const().ok_or_else(|| EvalError::UnboundDim(extent.to_string()))
}

/// NumPy's broadcasting: aligned at the last axis, extents equal or one of them the constant 1.
pub(super) fn broadcast(a: &[Extent], b: &[Extent]) -> Result<Shape, TypeError> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[Extent], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(index) => shape[index].clone(),
        None => Extent::ONE,
    };
    (0..rank)
        .map(|axis| match (dim(a, axis), dim(b, axis)) {
            (x, y) if x == y || y == Extent::ONE => Ok(x),
            (x, y) if x == Extent::ONE => Ok(y),
            _ => Err(mismatch("broadcast shapes", show(b), format!("what broadcasts with {}", show(a)))),
        })
        .collect()
}

/// [`broadcast`] over the operands that are there.
pub(super) fn broadcast_all(inputs: Operands<'_, TensorType>) -> Result<Shape, TypeError> {
    inputs.present().try_fold(Shape::new(), |shape, ty| broadcast(&shape, &ty.shape))
}

/// Refuses what does not broadcast to exactly `to`.
pub(super) fn need_broadcast_to(what: &'static str, from: &[Extent], to: &[Extent]) -> Result<(), TypeError> {
    match broadcast(to, from) {
        Ok(shape) if shape == to => Ok(()),
        _ => Err(mismatch(what, show(from), format!("what broadcasts to {}", show(to)))),
    }
}

/// One spatial axis of a convolution or pooling.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Elements of the window.
    pub kernel: i64,
    /// Steps between windows.
    pub stride: i64,
    /// Steps inside a window.
    pub dilation: i64,
    /// Padding before the first element; negative crops.
    pub before: i64,
    /// Padding after the last.
    pub after: i64,
}

impl Window {
    /// Elements from the first to the last of a window.
    pub(super) fn span(self) -> i64 {
        self.dilation * (self.kernel - 1) + 1
    }

    /// Number of windows, `floor((in + before + after - span) / stride) + 1`.
    pub(super) fn output(self, input: &Extent) -> Result<Extent, TypeError> {
        let room = input.clone() + (self.before + self.after - self.span()).into();
        if room.as_const().is_some_and(|room| room < 0) {
            let found = format!("{input} with padding {} and {}", self.before, self.after);
            return Err(mismatch("spatial axis", found, format!("{} or more, padding counted", self.span())));
        }
        Ok(room.floordiv(&self.stride.into()) + Extent::ONE)
    }

    /// The window elements that lie on the input, as a range.
    pub(super) fn on_input(self, out: usize, len: usize) -> std::ops::Range<usize> {
        let first = out as i64 * self.stride - self.before;
        let ceil = |n: i64| (n + self.dilation - 1).div_euclid(self.dilation).clamp(0, self.kernel);
        let (lo, hi) = (ceil(-first), ceil(len as i64 - first));
        lo as usize..hi.max(lo) as usize
    }
}

/// The windows of all spatial axes, from attributes that the type rule checks here.
pub(super) fn windows(
    kernel: &[i64],
    strides: &[i64],
    pads: &[i64],
    dilations: &[i64],
) -> Result<Vec<Window>, TypeError> {
    let rank = kernel.len();
    need_steps("kernel", kernel, rank, 1)?;
    need_steps("strides", strides, rank, 1)?;
    need_steps("dilations", dilations, rank, 1)?;
    need_steps("pads", pads, 2 * rank, -MAX_STEP)?;
    let window = |i: usize| Window {
        kernel: kernel[i],
        stride: strides[i],
        dilation: dilations[i],
        before: pads[i],
        after: pads[i + rank],
    };
    Ok((0..rank).map(window).collect())
}

/// The shape of a result whose extents are all bound.
pub(super) fn concrete(ty: &TensorType) -> Result<Vec<usize>, EvalError> {
    ty.fixed_shape().ok_or_else(|| EvalError::UnboundDim(show(&ty.shape)))
}

/// Strides in elements of a dense row-major tensor.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Strides with which a dense tensor of shape `from` is read as one of shape `to`: 0 along broadcast axes.
pub(super) fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let missing = to.len() - from.len();
    let dense = strides(from);
    let stride = |axis: usize| if axis < missing || from[axis - missing] == 1 { 0 } else { dense[axis - missing] };
    (0..to.len()).map(stride).collect()
}

/// Calls `visit` with the offsets of each element of `shape` in row-major order, one offset per stride list.
pub(super) fn walk<const N: usize>(shape: &[usize], strides: [&[usize]; N], mut visit: impl FnMut([usize; N])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0usize; shape.len()];
    let mut offsets = [0usize; N];
    loop {
        visit(offsets);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            for (offset, stride) in offsets.iter_mut().zip(strides) {
                *offset += stride[axis];
            }
            if index[axis] < shape[axis] {
                break;
            }
            for (offset, stride) in offsets.iter_mut().zip(strides) {
                *offset -= stride[axis] * shape[axis];
            }
            index[axis] = 0;
        }
    }
}

/// A dense tensor seen around some axes: `outer` blocks of `len` rows of `inner` elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Around {
    /// Product of the axes before.
    pub outer: usize,
    /// Product of the axes themselves.
    pub len: usize,
    /// Product of the axes behind.
    pub inner: usize,
}

impl Around {
    /// Around one axis.
    pub(super) fn axis(shape: &[usize], axis: usize) -> Self {
        Self::axes(shape, axis..axis + 1)
    }

    /// Around neighbouring axes.
    pub(super) fn axes(shape: &[usize], axes: std::ops::Range<usize>) -> Self {
        let product = |dims: &[usize]| dims.iter().product();
        Self {
            outer: product(&shape[..axes.start]),
            len: product(&shape[axes.clone()]),
            inner: product(&shape[axes.end..]),
        }
    }

    /// Offset of the first element of every row along the axes, in row-major order; its elements lie `inner` apart.
    pub(super) fn rows(self) -> impl Iterator<Item = usize> {
        (0..self.outer).flat_map(move |outer| (0..self.inner).map(move |inner| outer * self.len * self.inner + inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Operands;
    use proptest::prelude::*;

    fn shape(dims: &[&str]) -> Shape {
        dims.iter().map(|d| d.parse::<i64>().map_or_else(|_| Extent::sym(*d), Extent::from)).collect()
    }

    #[test]
    fn broadcast_table() {
        type Case<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a [&'a str]>);
        let cases: &[Case<'_>] = &[
            (&[], &[], Some(&[])),
            (&["2", "3"], &[], Some(&["2", "3"])),
            (&["n", "1"], &["1", "4"], Some(&["n", "4"])),
            (&["3"], &["n", "3"], Some(&["n", "3"])),
            (&["n"], &["n"], Some(&["n"])),
            (&["0"], &["1"], Some(&["0"])),
            (&["n"], &["m"], None),
            (&["n"], &["2"], None),
            (&["2"], &["3"], None),
        ];
        for (a, b, expected) in cases {
            assert_eq!(broadcast(&shape(a), &shape(b)).ok(), expected.map(shape), "{a:?} {b:?}");
        }
        assert!(need_broadcast_to("slope", &shape(&["2", "1"]), &shape(&["3"])).is_err());
        let ty = TensorType::new(DType::F32, shape(&["n", "1"]));
        assert_eq!(broadcast_all(Operands(&[Some(&ty), None])), Ok(shape(&["n", "1"])));
    }

    #[test]
    fn window_output() {
        let window = Window { kernel: 3, stride: 2, dilation: 2, before: 1, after: 2 };
        assert_eq!(window.output(&7.into()), Ok(3.into()));
        assert!(window.output(&1.into()).is_err());
        let out = window.output(&Extent::sym("h")).map(|e| e.to_string());
        assert_eq!(out, Ok("floordiv(h, 2)".into()));
    }

    proptest! {
        #[test]
        fn on_input_is_where_elements_are(
            kernel in 1i64..5, stride in 1i64..4, dilation in 1i64..4, before in -3i64..4, len in 0usize..7, out in 0usize..6
        ) {
            let window = Window { kernel, stride, dilation, before, after: 0 };
            let at = |k: usize| out as i64 * stride + k as i64 * dilation - before;
            let found: Vec<usize> = (0..kernel as usize).filter(|&k| (0..len as i64).contains(&at(k))).collect();
            prop_assert_eq!(window.on_input(out, len).collect::<Vec<_>>(), found);
        }

        #[test]
        fn walk_reads_what_indexing_reads(dims in prop::collection::vec((0usize..4, any::<bool>()), 0..4)) {
            let to: Vec<usize> = dims.iter().map(|d| d.0).collect();
            let from: Vec<usize> = dims.iter().map(|d| if d.1 { 1 } else { d.0 }).collect();
            let (out, read) = (strides(&to), broadcast_strides(&from, &to));
            let mut seen = Vec::new();
            walk(&to, [&out, &read], |[o, r]| seen.push((o, r)));
            prop_assert_eq!(seen.len(), to.iter().product::<usize>());
            for (position, (o, r)) in seen.into_iter().enumerate() {
                prop_assert_eq!(o, position);
                let (mut rest, mut expected) = (position, 0);
                for axis in (0..to.len()).rev() {
                    let index = rest % to[axis];
                    rest /= to[axis];
                    expected += if from[axis] == 1 { 0 } else { index * strides(&from)[axis] };
                }
                prop_assert_eq!(r, expected);
            }
        }
    }

    #[test]
    fn around_an_axis() {
        let around = Around::axis(&[2, 3, 4], 1);
        assert_eq!(around, Around { outer: 2, len: 3, inner: 4 });
        assert_eq!(around.rows().collect::<Vec<_>>(), [0, 1, 2, 3, 12, 13, 14, 15]);
    }
}

//! Moving, cutting and joining elements.

use adze_ir::extent::Extent;
use adze_ir::ops::{
    Concat, ConvTranspose, DepthToSpace, Expand, Pad, PadMode, Slice, SpaceToDepth, Split, Tile, Transpose, Trilu,
};
use adze_ir::types::Shape;

use super::super::error::Fault;
use super::super::fold::{larger, smaller};
use super::super::node::{NodeCx, Outputs, axes_in, axis_in, fixed_dim};
use super::super::value::Value;
use super::{NEWEST, OLDEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("CenterCropPad", 18..=NEWEST, center_crop_pad),
    ("Col2Im", 18..=NEWEST, col2im),
    ("Concat", OLDEST..=NEWEST, concat),
    ("DepthToSpace", OLDEST..=NEWEST, depth_to_space),
    ("Expand", 8..=NEWEST, expand),
    ("Flatten", OLDEST..=NEWEST, flatten),
    ("Pad", OLDEST..=NEWEST, pad),
    ("Reshape", OLDEST..=NEWEST, reshape),
    ("Slice", OLDEST..=NEWEST, slice),
    ("SpaceToDepth", OLDEST..=NEWEST, space_to_depth),
    ("Split", OLDEST..=NEWEST, split),
    ("Squeeze", OLDEST..=NEWEST, squeeze),
    ("Tile", 6..=NEWEST, tile),
    ("Transpose", OLDEST..=NEWEST, transpose),
    ("Trilu", 14..=NEWEST, trilu),
    ("Unsqueeze", OLDEST..=NEWEST, unsqueeze),
];

fn reshape(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let x = cx.input(0)?;
    let target = if cx.opset >= 5 {
        cx.extents(1)?
    } else {
        let shape = cx.attrs.ints("shape")?.ok_or_else(|| Fault::model("no attribute `shape`", "a shape"))?;
        shape.iter().map(|&dim| dim.into()).collect()
    };
    let allow_zero = cx.opset >= 14 && cx.attrs.flag("allowzero", false)?;
    let shape = reshape_target(&x.ty.shape, &target, allow_zero)?;
    Ok(vec![cx.reshape(&x, shape)?])
}

/// The shape that `Reshape` asks for, 0 and -1 resolved.
fn reshape_target(from: &[Extent], target: &[Extent], allow_zero: bool) -> Result<Shape, Fault> {
    let mut shape: Shape = Vec::with_capacity(target.len());
    let mut open = None;
    for (axis, dim) in target.iter().enumerate() {
        match dim.as_const() {
            Some(0) if !allow_zero => {
                let copied = from.get(axis);
                shape.push(copied.cloned().ok_or_else(|| {
                    Fault::model(
                        format!("0 at position {axis} for an operand of rank {}", from.len()),
                        "an axis it has",
                    )
                })?);
            }
            Some(-1) => {
                if open.replace(axis).is_some() {
                    return Err(Fault::model("-1 twice", "one -1 at most"));
                }
                shape.push(Extent::ONE);
            }
            Some(negative) if negative < 0 => {
                return Err(Fault::model(format!("dimension {negative}"), "-1, 0 or a positive number"));
            }
            _ => shape.push(dim.clone()),
        }
    }
    if let Some(open) = open {
        shape[open] = remaining(from, &shape)?;
    }
    Ok(shape)
}

/// What is left of `from` for the one open dimension, where `shape` has a 1.
fn remaining(from: &[Extent], shape: &[Extent]) -> Result<Extent, Fault> {
    // Equal dimensions cancel first, also those that are expressions and that a division of products cannot see.
    let mut numerator: Vec<Extent> = from.to_vec();
    let mut denominator = Vec::new();
    for dim in shape {
        match numerator.iter().position(|other| other == dim) {
            Some(index) => drop(numerator.remove(index)),
            None => denominator.push(dim.clone()),
        }
    }
    let (total, known) = (Extent::product(&numerator), Extent::product(&denominator));
    if known.as_const() == Some(0) {
        return Err(Fault::model("-1 beside a dimension of 0", "a shape of the operand's size"));
    }
    let quotient = total.floordiv(&known);
    if quotient.clone() * known.clone() != total {
        let found = format!("{total} elements for a multiple of {known}");
        return Err(match (total.as_const(), known.as_const()) {
            (Some(_), Some(_)) => Fault::model(found, "a shape of the operand's size"),
            _ => Fault::unsupported(
                found,
                "dimensions that divide for every value: bind them with `--dim`, or give a `--shape` such as `1x2*half`",
            ),
        });
    }
    Ok(quotient)
}

fn flatten(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    let rank = x.rank();
    let axis = cx.attrs.int("axis")?.unwrap_or(1);
    let split = if i64::try_from(rank) == Ok(axis) { rank } else { axis_in(axis, rank)? };
    let (outer, inner) = x.ty.shape.split_at(split);
    let shape = vec![Extent::product(outer), Extent::product(inner)];
    Ok(vec![cx.reshape(&x, shape)?])
}

/// Axes that are an attribute before opset 13 and an operand from then on.
fn axes(cx: &mut NodeCx<'_, '_>) -> Result<Option<Vec<i64>>, Fault> {
    if cx.opset >= 13 {
        cx.at_most(2)?;
        return cx.opt_ints(1);
    }
    cx.at_most(1)?;
    Ok(cx.attrs.ints("axes")?.map(<[i64]>::to_vec))
}

fn squeeze(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let shape = &x.ty.shape;
    let dropped = match axes(cx)? {
        Some(axes) => axes_in(&axes, shape.len())?,
        None => match shape.iter().find(|dim| dim.as_const().is_none()) {
            Some(dim) => {
                let found = format!("no axes, and dimension {dim} that may be 1");
                return Err(Fault::unsupported(found, "axes, or fixed dimensions"));
            }
            None => (0..shape.len()).filter(|&axis| shape[axis].as_const() == Some(1)).collect(),
        },
    };
    for &axis in &dropped {
        match shape[axis].as_const() {
            Some(1) => {}
            Some(other) => return Err(Fault::model(format!("dimension {axis} = {other}"), "1")),
            None => {
                let found = format!("dimension {axis} = {}", shape[axis]);
                return Err(Fault::unsupported(found, "1: bind it with `--dim` or `--shape`"));
            }
        }
    }
    let kept = (0..shape.len()).filter(|axis| !dropped.contains(axis)).map(|axis| shape[axis].clone()).collect();
    Ok(vec![cx.reshape(&x, kept)?])
}

fn unsqueeze(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let axes = axes(cx)?.ok_or_else(|| Fault::model("no axes", "axes"))?;
    let rank = x.rank() + axes.len();
    let added = axes_in(&axes, rank)?;
    let mut old = x.ty.shape.iter().cloned();
    let shape =
        (0..rank).map(|axis| if added.contains(&axis) { Extent::ONE } else { old.next().unwrap_or(Extent::ONE) });
    let shape = shape.collect();
    Ok(vec![cx.reshape(&x, shape)?])
}

fn transpose(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    let rank = x.rank();
    let perm = match cx.attrs.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(perm) if perm.len() == rank => axes_in(perm, rank)?,
        Some(perm) => return Err(Fault::model(format!("attribute `perm` = {perm:?}"), format!("{rank} axes"))),
    };
    if perm.iter().enumerate().all(|(index, &axis)| index == axis) {
        return Ok(vec![x]);
    }
    Ok(vec![cx.emit1(Transpose { perm }, &[&x])?])
}

/// Bounds of one axis of a `Slice`, resolved: first element and number of elements.
fn slice_axis(
    cx: &NodeCx<'_, '_>,
    dim: &Extent,
    start: &Extent,
    end: &Extent,
    step: i64,
) -> Result<(Extent, Extent), Fault> {
    let dims = cx.dims();
    // A bound counts from the end when it is negative, which must be known.
    let from_start = |bound: &Extent| {
        let range = bound.range(dims);
        if range.lo >= 0 {
            Ok(bound.clone())
        } else if range.hi < 0 {
            Ok(bound.clone() + dim.clone())
        } else {
            Err(Fault::unsupported(format!("bound {bound}"), "a bound whose sign is known"))
        }
    };
    let clamp = |value: &Extent, lo: &Extent, hi: &Extent| larger(&smaller(value, hi, dims), lo, dims);
    let (start, end) = (from_start(start)?, from_start(end)?);
    let last = dim.clone() - Extent::ONE;
    let (start, span) = if step > 0 {
        let start = clamp(&start, &Extent::ZERO, dim);
        let end = clamp(&end, &Extent::ZERO, dim);
        (start.clone(), end - start)
    } else {
        let start = clamp(&start, &Extent::ZERO, &last);
        let end = clamp(&end, &(-1).into(), &last);
        (start.clone(), start - end)
    };
    let size = larger(&span.ceildiv(&step.saturating_abs().into()), &Extent::ZERO, dims);
    Ok((start, size))
}

fn slice(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let rank = x.rank();
    let (starts, ends, axes, steps);
    if cx.opset >= 10 {
        cx.at_most(5)?;
        (starts, ends) = (cx.extents(1)?, cx.extents(2)?);
        (axes, steps) = (cx.opt_ints(3)?, cx.opt_ints(4)?);
    } else {
        cx.at_most(1)?;
        let bounds = |values: Option<&[i64]>| values.map(|v| v.iter().map(|&v| v.into()).collect::<Vec<Extent>>());
        let missing = || Fault::model("no attributes `starts` and `ends`", "both");
        starts = bounds(cx.attrs.ints("starts")?).ok_or_else(missing)?;
        ends = bounds(cx.attrs.ints("ends")?).ok_or_else(missing)?;
        (axes, steps) = (cx.attrs.ints("axes")?.map(<[i64]>::to_vec), None);
    }
    let count = starts.len();
    let axes = match axes {
        Some(axes) => axes_in(&axes, rank)?,
        None => (0..count.min(rank)).collect(),
    };
    let steps = steps.unwrap_or_else(|| vec![1; count]);
    if ends.len() != count || axes.len() != count || steps.len() != count {
        let found = format!("{count} starts, {} ends, {} axes, {} steps", ends.len(), axes.len(), steps.len());
        return Err(Fault::model(found, "as many of each"));
    }
    if steps.contains(&0) {
        return Err(Fault::model("step 0", "steps other than 0"));
    }
    let mut op = Slice { axes: Vec::new(), starts: Vec::new(), sizes: Vec::new(), steps: Vec::new() };
    for (index, &axis) in axes.iter().enumerate() {
        let dim = &x.ty.shape[axis];
        let (start, size) = slice_axis(cx, dim, &starts[index], &ends[index], steps[index])?;
        if steps[index] == 1 && start == Extent::ZERO && size == *dim {
            continue;
        }
        op.axes.push(axis);
        op.starts.push(start);
        op.sizes.push(size);
        op.steps.push(steps[index]);
    }
    if op.axes.is_empty() { Ok(vec![x]) } else { Ok(vec![cx.emit1(op, &[&x])?]) }
}

fn concat(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let values = (0..cx.inputs.len()).map(|index| cx.input(index)).collect::<Result<Vec<_>, _>>()?;
    let first = values.first().ok_or_else(|| Fault::model("no inputs", "one at least"))?;
    let default = (cx.opset < 4).then_some(1);
    let axis = cx.attrs.int("axis")?.or(default).ok_or_else(|| Fault::model("no attribute `axis`", "an axis"))?;
    let axis = axis_in(axis, first.rank())?;
    if let [only] = values.as_slice() {
        return Ok(vec![only.clone()]);
    }
    Ok(vec![cx.emit1(Concat { axis }, &values.iter().collect::<Vec<_>>())?])
}

fn split(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let axis = axis_in(cx.attrs.int("axis")?.unwrap_or(0), x.rank())?;
    let stated = if cx.opset >= 13 {
        cx.at_most(2)?;
        cx.opt_extents(1)?
    } else {
        cx.at_most(if cx.opset == 1 { 2 } else { 1 })?;
        let attribute = cx.attrs.ints("split")?.map(|sizes| sizes.iter().map(|&size| size.into()).collect());
        if cx.opset == 1 && attribute.is_none() { cx.opt_extents(1)? } else { attribute }
    };
    let outputs = cx.node.output.len();
    let count = if cx.opset >= 18 { cx.attrs.int("num_outputs")? } else { None };
    let sizes = match (stated, count) {
        (Some(sizes), None) => sizes,
        (Some(_), Some(_)) => return Err(Fault::model("both sizes and `num_outputs`", "one of them")),
        (None, Some(count)) if i64::try_from(outputs) != Ok(count) => {
            return Err(Fault::model(format!("attribute `num_outputs` = {count}"), format!("{outputs}, the results")));
        }
        (None, _) => equal_parts(&x.ty.shape[axis], outputs, cx.opset >= 18)?,
    };
    cx.emit(Split { axis, sizes }, &[Some(&x)])
}

/// As many parts as there are results; from opset 18 on the last one may be smaller.
fn equal_parts(dim: &Extent, count: usize, ragged: bool) -> Result<Vec<Extent>, Fault> {
    let divisor = Extent::from(count.max(1));
    let part = dim.floordiv(&divisor);
    if part.clone() * divisor.clone() == *dim {
        return Ok(vec![part; count]);
    }
    let Some(total) = dim.as_const() else {
        return Err(Fault::unsupported(format!("dimension {dim} in {count} parts"), "a dimension that divides"));
    };
    let part = dim.ceildiv(&divisor).as_const().unwrap_or(0);
    let last = i64::try_from(count).ok().and_then(|count| part.checked_mul(count - 1)).map(|used| total - used);
    match last {
        Some(last) if ragged && last >= 0 => {
            let mut sizes: Vec<Extent> = vec![part.into(); count];
            sizes[count - 1] = last.into();
            Ok(sizes)
        }
        _ => Err(Fault::model(format!("dimension {dim} in {count} parts"), "a dimension that divides")),
    }
}

fn pad(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let rank = x.rank();
    let words = &[
        ("constant", PadMode::Constant),
        ("reflect", PadMode::Reflect),
        ("edge", PadMode::Edge),
        ("wrap", PadMode::Wrap),
    ];
    let mode = cx.attrs.word("mode", "constant", words)?;
    let (pads, value, axes) = if cx.opset >= 11 {
        cx.at_most(if cx.opset >= 18 { 4 } else { 3 })?;
        (cx.extents(1)?, cx.opt(2).cloned(), cx.opt_ints(3)?)
    } else {
        cx.at_most(1)?;
        let name = if cx.opset >= 2 { "pads" } else { "paddings" };
        let pads = cx.attrs.ints(name)?.ok_or_else(|| Fault::model(format!("no attribute `{name}`"), "pads"))?;
        let value = cx.attrs.float("value")?.filter(|&v| v != 0.0).map(|v| cx.scalar(x.ty.dtype, v.into()));
        (pads.iter().map(|&pad| pad.into()).collect(), value, None)
    };
    let axes = match axes {
        Some(axes) => axes_in(&axes, rank)?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Fault::model(format!("{} pads", pads.len()), format!("{}", 2 * axes.len())));
    }
    let (mut before, mut after) = (vec![Extent::ZERO; rank], vec![Extent::ZERO; rank]);
    for (index, &axis) in axes.iter().enumerate() {
        before[axis] = pads[index].clone();
        after[axis] = pads[index + axes.len()].clone();
    }
    if before.iter().chain(&after).all(|pad| *pad == Extent::ZERO) {
        return Ok(vec![x]);
    }
    let value = match value.filter(|_| mode == PadMode::Constant) {
        Some(value) => Some(super::quantize::per_tensor(cx, value)?),
        None => None,
    };
    cx.emit(Pad { mode, before, after }, &super::linear::operands(&[&x], value.as_ref()))
}

fn expand(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let x = cx.input(0)?;
    let target = cx.extents(1)?;
    let rank = x.rank().max(target.len());
    let at = |shape: &[Extent], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(index) => shape[index].clone(),
        None => Extent::ONE,
    };
    let dims = (0..rank).map(|axis| broadcast_dim(&at(&x.ty.shape, axis), &at(&target, axis)));
    let shape = dims.collect::<Result<Shape, _>>()?;
    if shape == x.ty.shape { Ok(vec![x]) } else { Ok(vec![cx.emit1(Expand { shape }, &[&x])?]) }
}

fn broadcast_dim(from: &Extent, to: &Extent) -> Result<Extent, Fault> {
    if from == to || to.as_const() == Some(1) {
        return Ok(from.clone());
    }
    match (from.as_const(), to.as_const()) {
        (Some(1), _) => Ok(to.clone()),
        (Some(a), Some(b)) => Err(Fault::model(format!("dimension {a} expanded to {b}"), format!("1 or {a}"))),
        // One is fixed and not 1: the other must be 1 or equal to it.
        (Some(_), None) => Ok(from.clone()),
        _ => Err(Fault::unsupported(
            format!("dimension {from} expanded to {to}"),
            "equal dimensions, or one known to be 1: bind them with `--dim`",
        )),
    }
}

/// Cuts or pads axes around their middle.
fn center_crop_pad(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let mut x = cx.input(0)?;
    let target = cx.opt_ints(1)?.ok_or_else(|| Fault::model("no shape", "a shape"))?;
    let axes = match cx.attrs.ints("axes")? {
        Some(axes) => axes_in(axes, x.rank())?,
        None => (0..x.rank()).collect(),
    };
    if axes.len() != target.len() {
        return Err(Fault::model(format!("{} extents for {} axes", target.len(), axes.len()), "as many of each"));
    }
    let (mut before, mut after) = (vec![Extent::ZERO; x.rank()], vec![Extent::ZERO; x.rank()]);
    for (&axis, &wanted) in axes.iter().zip(&target) {
        let extent = fixed_dim(&x.ty, axis)?;
        if wanted < 0 {
            return Err(Fault::model(format!("extent {wanted}"), "zero or more"));
        }
        if wanted < extent {
            x = cx.cut(&x, axis, ((extent - wanted) / 2).into(), wanted.into())?;
        } else {
            let missing = wanted - extent;
            (before[axis], after[axis]) = ((missing / 2).into(), (missing - missing / 2).into());
        }
    }
    if before.iter().chain(&after).all(|pad| *pad == Extent::ZERO) {
        return Ok(vec![x]);
    }
    cx.emit(Pad { mode: PadMode::Constant, before, after }, &[Some(&x)])
}

/// Sums blocks `[n, c · block, places]` back into an image: a transposed convolution with one kernel of ones per element of
/// the block, each channel by itself.
fn col2im(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    let x = cx.input(0)?;
    let needed = |values: Option<Vec<i64>>| values.ok_or_else(|| Fault::model("an operand left out", "three"));
    let (shape, block) = (needed(cx.opt_ints(1)?)?, needed(cx.opt_ints(2)?)?);
    let rank = shape.len();
    let list = |name: &'static str, count: usize, default: i64, least: i64| {
        let values = cx.attrs.ints(name)?.map_or_else(|| vec![default; count], <[i64]>::to_vec);
        let fits = values.len() == count && values.iter().all(|v| (least..=1 << 24).contains(v));
        if fits {
            Ok(values)
        } else {
            Err(Fault::model(format!("attribute `{name}` = {values:?}"), format!("{count}")))
        }
    };
    let (strides, dilations) = (list("strides", rank, 1, 1)?, list("dilations", rank, 1, 1)?);
    let pads = list("pads", 2 * rank, 0, 0)?;
    if x.rank() != 3 || block.len() != rank || block.iter().chain(&shape).any(|e| !(1..=1 << 24).contains(e)) {
        let found = format!("{} for an image {shape:?} and blocks {block:?}", x.ty);
        return Err(Fault::model(found, "rank 3, and as many extents of one or more"));
    }
    let elements = block.iter().try_fold(1i64, |n, &b| n.checked_mul(b)).filter(|&n| n <= 1024);
    let elements = elements.ok_or_else(|| Fault::unsupported(format!("blocks {block:?}"), "1024 elements at most"))?;
    let rows = fixed_dim(&x.ty, 1)?;
    if rows % elements != 0 {
        return Err(Fault::model(format!("{rows} rows for blocks of {elements}"), "rows that divide"));
    }
    let mut places = Vec::with_capacity(rank);
    let mut output_padding = Vec::with_capacity(rank);
    for axis in 0..rank {
        let span = shape[axis] + pads[axis] + pads[axis + rank] - dilations[axis] * (block[axis] - 1) - 1;
        if span < 0 {
            return Err(Fault::model(format!("blocks {block:?} in an image {shape:?}"), "blocks that fit"));
        }
        places.push(Extent::from(span / strides[axis] + 1));
        output_padding.push(span % strides[axis]);
    }
    let batch = x.ty.shape[0].clone();
    let channels = rows / elements;
    let mut split: Shape = vec![batch.clone() * channels.into(), elements.into()];
    split.extend(places);
    let x = cx.reshape(&x, split)?;
    // Element `e` of the block lands where the kernel of row `e` has its one.
    let count = usize::try_from(elements).unwrap_or(0);
    let ones: Vec<f64> = (0..count * count).map(|i| f64::from(u8::from(i / count == i % count))).collect();
    let ones = cx.made(x.ty.dtype, &[count, count], &ones)?;
    let mut kernel: Shape = vec![elements.into(), Extent::ONE];
    kernel.extend(block.iter().map(|&extent| Extent::from(extent)));
    let kernel = cx.reshape(&ones, kernel)?;
    let image = cx.emit1(ConvTranspose { strides, pads, output_padding, dilations, group: 1 }, &[&x, &kernel])?;
    let mut whole: Shape = vec![batch, channels.into()];
    whole.extend(shape.iter().map(|&extent| Extent::from(extent)));
    Ok(vec![cx.reshape(&image, whole)?])
}

fn tile(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let x = cx.input(0)?;
    let repeats = cx.extents(1)?;
    if repeats.iter().all(|repeat| *repeat == Extent::ONE) && repeats.len() == x.rank() {
        return Ok(vec![x]);
    }
    Ok(vec![cx.emit1(Tile { repeats }, &[&x])?])
}

fn block(cx: &NodeCx<'_, '_>) -> Result<i64, Fault> {
    match cx.attrs.int("blocksize")? {
        Some(block @ 1..=65_536) => Ok(block),
        other => Err(Fault::model(format!("attribute `blocksize` = {other:?}"), "1 to 65536")),
    }
}

fn depth_to_space(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    let crd = cx.attrs.word("mode", "DCR", &[("DCR", false), ("CRD", true)])?;
    let block = block(cx)?;
    Ok(vec![cx.emit1(DepthToSpace { block, crd }, &[&x])?])
}

fn space_to_depth(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let x: Value = cx.input(0)?;
    let crd = cx.attrs.word("mode", "DCR", &[("DCR", false), ("CRD", true)])?;
    let block = block(cx)?;
    Ok(vec![cx.emit1(SpaceToDepth { block, crd }, &[&x])?])
}

fn trilu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let x = cx.input(0)?;
    let k = if cx.opt(1).is_some() { cx.int(1)? } else { 0 };
    let lower = !cx.attrs.flag("upper", true)?;
    Ok(vec![cx.emit1(Trilu { k, lower }, &[&x])?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[&str]) -> Shape {
        dims.iter().map(|dim| dim.parse::<i64>().map_or_else(|_| Extent::sym(*dim), Extent::from)).collect()
    }

    #[test]
    fn reshape_targets() {
        let resolve = |from: &[&str], to: &[&str]| reshape_target(&shape(from), &shape(to), false);
        assert_eq!(resolve(&["2", "3", "4"], &["0", "-1"]).unwrap(), shape(&["2", "12"]));
        assert_eq!(resolve(&["n", "3", "4"], &["-1", "12"]).unwrap(), shape(&["n", "12"]));
        assert_eq!(resolve(&["n", "s", "8"], &["n", "s", "-1", "4"]).unwrap(), shape(&["n", "s", "2", "4"]));
        assert_eq!(resolve(&["n", "4"], &["0", "-1"]).unwrap(), shape(&["n", "4"]));
        assert!(resolve(&["5"], &["-1", "2"]).is_err());
        assert!(resolve(&["n"], &["-1", "2"]).is_err());
        assert!(resolve(&["6"], &["-1", "-1"]).is_err());
        assert!(resolve(&["6"], &["-1", "0"]).is_err());
        assert!(resolve(&["6"], &["-2", "3"]).is_err());
    }

    #[test]
    fn parts() {
        let sizes = |dim: i64, count, ragged| {
            equal_parts(&dim.into(), count, ragged)
                .ok()
                .map(|s| s.iter().filter_map(Extent::as_const).collect::<Vec<_>>())
        };
        assert_eq!(sizes(6, 3, false), Some(vec![2, 2, 2]));
        assert_eq!(sizes(7, 3, true), Some(vec![3, 3, 1]));
        assert_eq!(sizes(7, 3, false), None);
    }
}

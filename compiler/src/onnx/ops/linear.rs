//! Convolutions and matrix products.

use adze_ir::ops::{Conv, ConvTranspose, Einsum, Gemm, MatMul};
use adze_ir::types::TensorType;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, fixed_dim};
use super::legacy::NUMPY_BROADCASTING;
use super::{NEWEST, OLDEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("Conv", OLDEST..=NEWEST, conv),
    ("ConvTranspose", OLDEST..=NEWEST, conv_transpose),
    ("Einsum", 12..=NEWEST, einsum),
    ("Gemm", OLDEST..=NEWEST, gemm),
    ("MatMul", OLDEST..=NEWEST, matmul),
];

/// Largest kernel extent, stride, dilation or pad that is read.
const MAX_WINDOW: i64 = 1 << 24;

/// How a window slides: attributes that convolutions and poolings share, `auto_pad` resolved.
pub(super) struct Window {
    pub(super) strides: Vec<i64>,
    pub(super) pads: Vec<i64>,
    pub(super) dilations: Vec<i64>,
}

/// The operand's number of spatial axes.
pub(super) fn spatial_rank(x: &TensorType) -> Result<usize, Fault> {
    match x.rank().checked_sub(2) {
        Some(rank) if rank > 0 => Ok(rank),
        _ => Err(Fault::model(format!("input of rank {}", x.rank()), "rank 3 at least")),
    }
}

/// One integer per spatial axis, `default` where the attribute is left out.
fn per_axis(
    cx: &NodeCx<'_, '_>,
    name: &'static str,
    count: usize,
    default: i64,
    least: i64,
) -> Result<Vec<i64>, Fault> {
    let values = cx.attrs.ints(name)?.map_or_else(|| vec![default; count], <[i64]>::to_vec);
    if values.len() != count {
        return Err(Fault::model(format!("attribute `{name}` of {} values", values.len()), format!("{count}")));
    }
    match values.iter().find(|&&value| value < least || value > MAX_WINDOW) {
        None => Ok(values),
        Some(value) => {
            Err(Fault::model(format!("attribute `{name}` with {value}"), format!("{least} to {MAX_WINDOW}")))
        }
    }
}

/// Reads strides, dilations, pads and `auto_pad`.
pub(super) fn window(cx: &NodeCx<'_, '_>, x: &TensorType, kernel: &[i64]) -> Result<Window, Fault> {
    let rank = spatial_rank(x)?;
    let strides = per_axis(cx, "strides", rank, 1, 1)?;
    let dilations = per_axis(cx, "dilations", rank, 1, 1)?;
    let explicit = per_axis(cx, "pads", 2 * rank, 0, -MAX_WINDOW)?;
    let pads = match cx.attrs.string("auto_pad")?.unwrap_or("NOTSET") {
        // An empty word is how some exporters leave it out.
        "NOTSET" | "" => explicit,
        "VALID" => vec![0; 2 * rank],
        mode @ ("SAME_UPPER" | "SAME_LOWER") => {
            let mut pads = vec![0; 2 * rank];
            for axis in 0..rank {
                let reach = dilations[axis] * (kernel[axis] - 1) + 1;
                // With stride 1 the pads do not depend on the extent.
                let total = if strides[axis] == 1 {
                    reach - 1
                } else {
                    let extent = fixed_dim(x, axis + 2)?;
                    let out = extent.saturating_add(strides[axis] - 1) / strides[axis];
                    ((out - 1) * strides[axis] + reach - extent).max(0)
                };
                let (less, more) = (total / 2, total - total / 2);
                let upper = mode == "SAME_UPPER";
                pads[axis] = if upper { less } else { more };
                pads[axis + rank] = if upper { more } else { less };
            }
            pads
        }
        other => {
            let accepted = "`NOTSET`, `VALID`, `SAME_UPPER`, `SAME_LOWER`";
            return Err(Fault::unsupported(format!("attribute `auto_pad` = `{other}`"), accepted));
        }
    };
    Ok(Window { strides, pads, dilations })
}

/// The kernel's spatial extents: those of the weights, which `kernel_shape` must repeat if it is there.
pub(super) fn kernel_of(cx: &NodeCx<'_, '_>, x: &TensorType, w: &TensorType) -> Result<Vec<i64>, Fault> {
    let rank = spatial_rank(x)?;
    if w.rank() != rank + 2 {
        return Err(Fault::model(format!("weights of rank {}", w.rank()), format!("rank {}", rank + 2)));
    }
    let kernel = (0..rank).map(|axis| fixed_dim(w, axis + 2)).collect::<Result<Vec<_>, _>>()?;
    if let Some(extent) = kernel.iter().find(|&&extent| !(1..=MAX_WINDOW).contains(&extent)) {
        return Err(Fault::model(format!("kernel extent {extent}"), format!("1 to {MAX_WINDOW}")));
    }
    match cx.attrs.ints("kernel_shape")? {
        Some(stated) if stated != kernel => Err(Fault::model(
            format!("attribute `kernel_shape` = {stated:?}"),
            format!("{kernel:?}, as the weights have"),
        )),
        _ => Ok(kernel),
    }
}

/// The window of a pooling, whose kernel is an attribute.
pub(super) fn pool_kernel(cx: &NodeCx<'_, '_>, x: &TensorType) -> Result<Vec<i64>, Fault> {
    let rank = spatial_rank(x)?;
    if cx.attrs.ints("kernel_shape")?.is_none() {
        return Err(Fault::model("no attribute `kernel_shape`", "one integer per spatial axis"));
    }
    per_axis(cx, "kernel_shape", rank, 1, 1)
}

/// Reads `group`.
pub(super) fn group(cx: &NodeCx<'_, '_>) -> Result<i64, Fault> {
    match cx.attrs.int("group")?.unwrap_or(1) {
        group @ 1..=MAX_WINDOW => Ok(group),
        other => Err(Fault::model(format!("attribute `group` = {other}"), format!("1 to {MAX_WINDOW}"))),
    }
}

fn conv(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.opt(2).cloned());
    let kernel = kernel_of(cx, &x.ty, &w.ty)?;
    let Window { strides, pads, dilations } = window(cx, &x.ty, &kernel)?;
    let op = Conv { strides, pads, dilations, group: group(cx)? };
    cx.emit(op, &operands(&[&x, &w], bias.as_ref()))
}

fn conv_transpose(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.opt(2).cloned());
    let kernel = kernel_of(cx, &x.ty, &w.ty)?;
    let rank = kernel.len();
    let strides = per_axis(cx, "strides", rank, 1, 1)?;
    let dilations = per_axis(cx, "dilations", rank, 1, 1)?;
    let output_padding = per_axis(cx, "output_padding", rank, 0, 0)?;
    let mut pads = per_axis(cx, "pads", 2 * rank, 0, -MAX_WINDOW)?;
    let mode = cx.attrs.string("auto_pad")?.unwrap_or("NOTSET");
    let output_shape = cx.attrs.ints("output_shape")?;
    if let Some(shape) = output_shape
        && shape.len() != rank
        && shape.len() != rank + 2
    {
        return Err(Fault::model(format!("attribute `output_shape` of {} values", shape.len()), format!("{rank}")));
    }
    let same = match mode {
        "NOTSET" | "" => false,
        "VALID" => {
            pads = vec![0; 2 * rank];
            false
        }
        "SAME_UPPER" | "SAME_LOWER" => true,
        other => {
            let accepted = "`NOTSET`, `VALID`, `SAME_UPPER`, `SAME_LOWER`";
            return Err(Fault::unsupported(format!("attribute `auto_pad` = `{other}`"), accepted));
        }
    };
    for axis in 0..rank {
        // Under `SAME` without a shape, the result is the operand times the stride, so the operand's extent cancels.
        let reach = output_padding[axis] + dilations[axis] * (kernel[axis] - 1) + 1;
        let total = match output_shape {
            Some(shape) => {
                let wanted = shape[shape.len() - rank + axis];
                let extent = fixed_dim(&x.ty, axis + 2)?;
                let full = strides[axis].saturating_mul(extent - 1).saturating_add(reach);
                full.saturating_sub(wanted)
            }
            None if same => reach - strides[axis],
            None => continue,
        };
        if total.unsigned_abs() > MAX_WINDOW.unsigned_abs() {
            return Err(Fault::model(
                format!("result shape that asks for pads of {total}"),
                format!("up to {MAX_WINDOW}"),
            ));
        }
        let total = if same && output_shape.is_none() { total.max(0) } else { total };
        if total < 0 {
            // A result larger than the windows reach has zeros at its end.
            (pads[axis], pads[axis + rank]) = (0, total);
            continue;
        }
        let (less, more) = (total / 2, total - total / 2);
        // ONNX: for SAME_UPPER the end gets the larger half, otherwise the start.
        let upper = mode == "SAME_UPPER";
        pads[axis] = if upper { less } else { more };
        pads[axis + rank] = if upper { more } else { less };
    }
    let op = ConvTranspose { strides, pads, output_padding, dilations, group: group(cx)? };
    cx.emit(op, &operands(&[&x, &w], bias.as_ref()))
}

/// Operands that are there, then an optional one.
pub(super) fn operands<'v>(
    needed: &[&'v super::super::value::Value],
    optional: Option<&'v super::super::value::Value>,
) -> Vec<Option<&'v super::super::value::Value>> {
    needed.iter().map(|&value| Some(value)).chain(optional.map(Some)).collect()
}

fn matmul(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    Ok(vec![cx.emit1(MatMul { trans_a: false, trans_b: false }, &[&a, &b])?])
}

fn gemm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    if cx.opset < NUMPY_BROADCASTING {
        // Whether `c` may broadcast.
        cx.attrs.ignore("broadcast");
    }
    let (a, b, c) = (cx.input(0)?, cx.input(1)?, cx.opt(2).cloned());
    let op = Gemm {
        alpha: cx.f64("alpha", 1.0)?,
        beta: cx.f64("beta", 1.0)?,
        trans_a: cx.attrs.flag("transA", false)?,
        trans_b: cx.attrs.flag("transB", false)?,
    };
    cx.emit(op, &operands(&[&a, &b], c.as_ref()))
}

fn einsum(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let equation =
        cx.attrs.string("equation")?.ok_or_else(|| Fault::model("no attribute `equation`", "an equation"))?;
    if equation.len() > 1024 {
        return Err(Fault::unsupported(format!("an equation of {} bytes", equation.len()), "1024 at most"));
    }
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let explicit = explicit_equation(&equation)?;
    let values = (0..cx.inputs.len()).map(|index| cx.input(index)).collect::<Result<Vec<_>, _>>()?;
    let operands: Vec<_> = values.iter().collect();
    Ok(vec![cx.emit1(Einsum { equation: explicit.into() }, &operands)?])
}

/// The equation with its result written out: letters that occur once, in alphabetical order, after any `...`.
///
/// Upper-case letters are renamed to free lower-case ones, which is all that our operator reads.
fn explicit_equation(equation: &str) -> Result<String, Fault> {
    let mut text = equation.to_string();
    if !text.contains("->") {
        let mut letters: Vec<char> = text.chars().filter(char::is_ascii_alphabetic).collect();
        letters.sort_unstable();
        let once = |c: &char| letters.iter().filter(|other| *other == c).count() == 1;
        let result: String = letters.iter().filter(|c| once(c)).collect();
        let dots = if text.contains("...") { "..." } else { "" };
        text = format!("{text}->{dots}{result}");
    }
    let upper: Vec<char> = text.chars().filter(char::is_ascii_uppercase).collect();
    for letter in upper {
        let free = ('a'..='z').find(|c| !text.contains(*c));
        let free = free.ok_or_else(|| Fault::unsupported("an equation of more than 26 letters", "26 at most"))?;
        text = text.replace(letter, &free.to_string());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_written_out() {
        assert_eq!(explicit_equation("ij,jk").unwrap(), "ij,jk->ik");
        assert_eq!(explicit_equation("b...i,ij").unwrap(), "b...i,ij->...bj");
        assert_eq!(explicit_equation("Aj,jA->A").unwrap(), "aj,ja->a");
    }
}

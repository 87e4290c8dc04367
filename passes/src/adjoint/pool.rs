//! Pools: sums of windows come back by the transposed convolution that spreads a number over its window.

use adze_ir::extent::Extent;
use adze_ir::graph::{ConstEntry, ValueId};
use adze_ir::ops::{AveragePool, BinaryFn, Conv, MaxPool, Where};
use adze_ir::tensor::Tensor;

use super::linear::by_data;
use super::step::{Made, Step};
use super::{AdjointError, Products};

/// Channels of the operand, which its windows do not mix.
fn channels(s: &Step<'_>, x: ValueId) -> Result<i64, AdjointError> {
    let found = s.shape(x).get(1).and_then(Extent::as_const);
    found.ok_or_else(|| s.unsupported(format!("channels of {}", s.graph.ty(x)), "a fixed number of channels"))
}

/// A constant of `count` kernels for one channel each, `at(kernel, place)` at every place of a window.
fn kernels(s: &mut Step<'_>, like: ValueId, count: i64, window: &[i64], at: impl Fn(usize, usize) -> bool) -> ValueId {
    let places: usize = window.iter().map(|&w| usize::try_from(w).unwrap_or(0)).product();
    let count = usize::try_from(count).unwrap_or(0);
    let numbers: Vec<f64> =
        (0..count * places).map(|index| f64::from(u8::from(at(index / places, index % places)))).collect();
    let shape: Vec<usize> =
        [count, 1].into_iter().chain(window.iter().map(|&w| usize::try_from(w).unwrap_or(0))).collect();
    let entry = ConstEntry::new("", Tensor::from_f64(s.graph.ty(like).dtype, &shape, &numbers));
    let id = s.graph.consts.push(entry);
    s.graph.add_const(id, s.node.loc.clone())
}

/// Every number goes to its window in equal shares.
pub(super) fn average(s: &mut Step<'_>, op: &AveragePool) -> Products {
    let (g, x) = (s.g, s.x(0)?);
    let channels = channels(s, x)?;
    let mut pads = op.pads.clone();
    let rank = op.strides.len();
    let ceils = op.ceil_pads.iter().any(|&p| p != 0);
    pads[rank..].iter_mut().zip(&op.ceil_pads).for_each(|(pad, extra)| *pad += extra);
    let spread = Conv { strides: op.strides.clone(), pads, dilations: op.dilations.clone(), group: channels };
    let share = if op.count_include_pad || spread.pads.iter().all(|&p| p == 0) {
        if ceils {
            return Err(s.unsupported("padding of two kinds".into(), "padding that counts, or none does"));
        }
        s.scaled(g, 1.0 / op.kernel.iter().product::<i64>() as f64)?
    } else {
        let counts = counts(s, x, op, &spread)?;
        s.binary(BinaryFn::Div, g, counts)?
    };
    let ones = kernels(s, x, channels, &op.kernel, |_, _| true);
    Ok(vec![Some(by_data(s, &spread, [share, x, ones])?)])
}

/// How many numbers of the operand each window has.
fn counts(s: &mut Step<'_>, x: ValueId, op: &AveragePool, spread: &Conv) -> Made {
    let one = s.scalar(x, 1.0);
    let mut shape = s.shape(x);
    shape[..2].fill(Extent::ONE);
    let ones = s.expanded(one, shape)?;
    let window = kernels(s, x, 1, &op.kernel, |_, _| true);
    s.add(Conv { group: 1, ..spread.clone() }, &[ones, window])
}

/// Every number goes to the largest of its window, in equal shares where several are (padding among them, which is zero here).
pub(super) fn max(s: &mut Step<'_>, op: &MaxPool) -> Products {
    let (g, x, y) = (s.g, s.x(0)?, s.y());
    let channels = channels(s, x)?;
    let places: i64 = op.kernel.iter().product();
    let size = usize::try_from(places).unwrap_or(1).max(1);
    let take =
        Conv { strides: op.strides.clone(), pads: op.pads.clone(), dilations: op.dilations.clone(), group: channels };
    // Each place of the window as a channel of its own, behind one another.
    let single = kernels(s, x, channels * places, &op.kernel, |kernel, place| kernel % size == place);
    let parts = s.add(take.clone(), &[x, single])?;
    let joint = s.shape(parts);
    let apart = |s: &mut Step<'_>, v: ValueId, places: i64| {
        let mut shape = s.shape(y);
        shape.insert(2, places.into());
        s.reshaped(v, shape)
    };
    let (parts, most) = (apart(s, parts, places)?, apart(s, y, 1)?);
    let is_most = s.binary(BinaryFn::Equal, parts, most)?;
    let (one, zero) = (s.scalar(g, 1.0), s.scalar(g, 0.0));
    let marks = s.add(Where {}, &[is_most, one, zero])?;
    let count = s.summed(marks, vec![2])?;
    let share = apart(s, g, 1)?;
    let share = s.binary(BinaryFn::Div, share, count)?;
    let shares = s.mul(marks, share)?;
    let shares = s.reshaped(shares, joint)?;
    Ok(vec![Some(by_data(s, &take, [shares, x, single])?)])
}

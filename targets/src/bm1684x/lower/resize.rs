//! Resampling along H and W: copies of rows and columns, and weighted sums of them.

use adze_ir::graph::Node;
use adze_ir::ops::{Op, Resize};
use adze_ir::tensor::Tensor;

use super::build::Home;
use super::float::{ADD, MUL};
use super::places::Source;
use super::{Lowering, Refusal, place_of, refuse};

/// For each element of a result, the elements of the operand that make it up, and their weights.
type Taps = Vec<Vec<(u32, f32)>>;

impl Lowering<'_> {
    /// Lowers a resampling, axis by axis.
    pub(super) fn resize(&mut self, node: &Node, op: &Resize) -> Result<Home, Refusal> {
        let mut x = self.input(node, 0)?;
        let rank = self.graph.ty(node.outputs[0]).rank();
        let to = self.shape(node.outputs[0])?;
        for (axis, scale) in op.scales.iter().enumerate().rev() {
            let place = place_of(rank, axis);
            let (from, size) = (x.shape[place], to[place]);
            if from == size && scale.get() == 1.0 {
                continue;
            }
            if place < 2 {
                return refuse(format!("axis {axis} of rank {rank} resized"), "H and W");
            }
            let taps = taps(op, axis, from, size)?;
            x = self.resampled(x, place, &taps)?;
        }
        Ok(x)
    }

    fn resampled(&mut self, x: Home, axis: usize, taps: &Taps) -> Result<Home, Refusal> {
        let most = taps.iter().map(Vec::len).max().unwrap_or(0);
        let tap = |out: &Vec<(u32, f32)>, index: usize| {
            out.get(index).copied().unwrap_or((out.first().map_or(0, |t| t.0), 0.0))
        };
        let column = |index: usize| taps.iter().map(|out| tap(out, index)).unzip::<u32, f32, Vec<u32>, Vec<f32>>();
        if taps.iter().all(|out| matches!(out[..], [(_, 1.0)])) {
            return Ok(self.draft.taken(x, axis, &column(0).0));
        }
        if x.prec.is_int() {
            return refuse("integers between grid points", "floats, or the nearest point");
        }
        let mut sum: Option<Home> = None;
        for index in 0..most {
            let (indices, weights) = column(index);
            let part = self.draft.taken(x, axis, &indices);
            let mut own = [1; 4];
            own[axis] = part.shape[axis];
            let weights = self.repeated_constant(weights, own, part.prec, part.shape)?;
            self.draft.arithmetic(MUL, [Source::dense(part), weights], part);
            match sum {
                Some(sum) => self.draft.binary(ADD, sum, part, sum),
                None => sum = Some(part),
            }
        }
        sum.map_or_else(|| refuse("a result of no elements", "some"), Ok)
    }
}

/// What one axis is made of: what the reference evaluation makes of unit vectors.
fn taps(op: &Resize, axis: usize, from: u32, size: u32) -> Result<Taps, Refusal> {
    let (len, out) = (from as usize, size as usize);
    let alone = Resize {
        sizes: [from, size].map(|d| i64::from(d).into()).to_vec(),
        scales: vec![1.0.into(), op.scales[axis]],
        ..op.clone()
    };
    let units: Vec<f32> = (0..len * len).map(|at| if at / len == at % len { 1.0 } else { 0.0 }).collect();
    let made = Op::from(alone).eval(&[Some(&Tensor::from_f32(&[len, len], &units))], &|_| None);
    let weights = made.or_else(|error| refuse(error.to_string(), "what can be evaluated"))?[0].to_f64();
    let of = |at: usize| (0..len).map(move |unit| (unit, unit * out + at));
    let tap = |at: usize| {
        of(at).filter(|&(_, at)| weights[at] != 0.0).map(|(unit, at)| (unit as u32, weights[at] as f32)).collect()
    };
    Ok((0..out).map(tap).collect())
}

//! Type rules and evaluation of recurrent cells.
//!
//! States stay in `f64` over the whole sequence and are rounded in the results only. A row shorter than the sequence
//! (`lens`) leaves zeros in `y` and hands its last state to `y_h`; its reverse walk starts at its own end.

use super::super::math::{Ring, sigmoid};
use super::super::quantize::{SCALES, is_scale};
use super::super::shape::{attribute, concrete, need_dtype, need_float, need_rank, need_shape};
use super::{CellWeights, Direction, GateFn, Gru, Lstm, Rnn};
use crate::attrs::F64;
use crate::extent::Extent;
use crate::ops::{Dequantize, EvalError, Op, OpDef, Operands, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

impl Direction {
    /// Leading extent of weights and states.
    fn count(self) -> usize {
        if self == Self::Bidirectional { 2 } else { 1 }
    }

    /// Whether direction `index` walks from the end.
    fn reversed(self, index: usize) -> bool {
        self == Self::Reverse || index == 1
    }
}

impl GateFn {
    fn apply(self, x: f64) -> f64 {
        match self {
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::Relu => x.larger(0.0),
        }
    }
}

/// What the three cells have in common.
struct Cell<'a> {
    direction: Direction,
    hidden: i64,
    /// Blocks of `hidden` rows in the weights.
    gates: i64,
    activations: &'a [GateFn],
    /// Activations per direction.
    functions: usize,
    clip: Option<F64>,
    stored: CellWeights,
}

impl Cell<'_> {
    /// Checks the operands that all cells have (positions 0 to 5); gives the types of `y` and of a state.
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<[TensorType; 2], TypeError> {
        let x = inputs.need(0)?;
        need_float(0, x)?;
        need_rank(0, x, 3)?;
        if !(1..=1 << 24).contains(&self.hidden) {
            return Err(attribute("hidden", self.hidden, "1 to 2^24"));
        }
        if self.activations.len() != self.functions * self.direction.count() {
            let accepted = format!("{} for each of {} directions", self.functions, self.direction.count());
            return Err(attribute("activations", self.activations.len(), accepted));
        }
        if self.clip.is_some_and(|clip| clip.get().is_nan() || clip.get() < 0.0) {
            return Err(attribute("clip", format!("{:?}", self.clip), "a bound of zero or more"));
        }
        let [t, n, i] = [&x.shape[0], &x.shape[1], &x.shape[2]];
        let (d, h) = (Extent::from(self.direction.count()), Extent::from(self.hidden));
        let rows = Extent::from(self.gates * self.hidden);
        self.need_weights(inputs, 0, "weights", &[d.clone(), rows.clone(), i.clone()])?;
        self.need_weights(inputs, 1, "recurrent weights", &[d.clone(), rows.clone(), h.clone()])?;
        need_operand(inputs, 3, "bias", &[d.clone(), rows * Extent::from(2)])?;
        if let Some(lens) = inputs.get(4) {
            need_dtype(4, lens, |d| d == DType::I32, "i32")?;
            need_shape("lengths", lens, std::slice::from_ref(n))?;
        }
        let state = [d.clone(), n.clone(), h.clone()];
        need_operand(inputs, 5, "initial state", &state)?;
        let y = TensorType::new(x.dtype, vec![t.clone(), d, n.clone(), h]);
        Ok([y, TensorType::new(x.dtype, state.to_vec())])
    }

    /// Checks weights of floats, or of integers with their scales.
    fn need_weights(
        &self,
        inputs: Operands<'_, TensorType>,
        which: usize,
        what: &'static str,
        shape: &[Extent],
    ) -> Result<(), TypeError> {
        let (at, scale) = (1 + which, self.stored.scales + which);
        let Some(block) = self.stored.blocks[which] else {
            if inputs.get(scale).is_some() {
                return Err(attribute(BLOCKS[which], "nothing beside scales", "elements that share a scale"));
            }
            return need_operand(inputs, at, what, shape);
        };
        if block == 0 {
            return Err(attribute(BLOCKS[which], block, "1 or more"));
        }
        let ty = inputs.need(at)?;
        need_dtype(at, ty, |d| d.is_int() && d.bits() <= 8, "an integer of at most 8 bits")?;
        need_shape(what, ty, shape)?;
        let blocks = shape[2].ceildiv(&block.into());
        need_dtype(scale, inputs.need(scale)?, is_scale, SCALES)?;
        need_operand(inputs, scale, "scales", &[shape[0].clone(), shape[1].clone(), blocks])
    }

    /// The weights at 0 (over the input) or 1 (over the state), as numbers.
    fn weights(&self, inputs: Operands<'_, Tensor>, which: usize) -> Result<Vec<f64>, EvalError> {
        let stored = inputs.need(1 + which)?;
        let Some(block) = self.stored.blocks[which] else { return Ok(stored.to_f64()) };
        let scale = inputs.need(self.stored.scales + which)?;
        let real = Op::from(Dequantize { axis: 2, block }).eval(&[Some(stored), Some(scale)], &|_| None)?;
        Ok(real.first().map(Tensor::to_f64).unwrap_or_default())
    }

    /// Walks every row of the batch in every direction; `step(direction, weights, x, states)` moves one step on.
    /// Gives `y` and the last states, each state `[d, n, h]`.
    fn run<const S: usize>(
        &self,
        inputs: Operands<'_, Tensor>,
        y: &TensorType,
        initial: [Option<&Tensor>; S],
        step: impl Fn(usize, &Weights, &[f64], &mut [Vec<f64>; S]),
    ) -> Result<Vec<Tensor>, EvalError> {
        let (x, out) = (inputs.need(0)?, concrete(y)?);
        let &[steps, directions, batch, hidden] = out.as_slice() else {
            return Err(EvalError::Value("`y` is not of rank 4".into()));
        };
        let (dtype, width, values) = (x.dtype(), x.shape()[2], x.to_f64());
        let lens = lengths(inputs.get(4), steps, batch)?;
        let weights = Weights::load(inputs, directions, hidden, self)?;
        let mut y = vec![0.0; steps * directions * batch * hidden];
        let zeros = || vec![0.0; directions * batch * hidden];
        let mut last = initial.map(|state| state.map_or_else(zeros, Tensor::to_f64));
        for direction in 0..directions {
            for row in 0..batch {
                let at = (direction * batch + row) * hidden;
                let mut states = last.each_ref().map(|state| state[at..at + hidden].to_vec());
                for position in 0..lens[row] {
                    let reversed = self.direction.reversed(direction);
                    let time = if reversed { lens[row] - 1 - position } else { position };
                    step(direction, &weights[direction], &values[(time * batch + row) * width..][..width], &mut states);
                    y[((time * directions + direction) * batch + row) * hidden..][..hidden].copy_from_slice(&states[0]);
                }
                for (last, state) in last.iter_mut().zip(&states) {
                    last[at..at + hidden].copy_from_slice(state);
                }
            }
        }
        let states = last.iter().map(|state| Tensor::from_f64(dtype, &out[1..], state));
        Ok(std::iter::once(Tensor::from_f64(dtype, &out, &y)).chain(states).collect())
    }

    /// Function `index` of a direction, its operand clipped.
    fn gate(&self, direction: usize, index: usize, x: f64) -> f64 {
        let x = self.clip.map_or(x, |clip| x.larger(-clip.get()).smaller(clip.get()));
        self.activations[direction * self.functions + index].apply(x)
    }
}

/// The attributes of weights over the input and over the state.
const BLOCKS: [&str; 2] = ["w_block", "r_block"];

/// An optional operand of the first operand's dtype and a given shape.
fn need_operand(
    inputs: Operands<'_, TensorType>,
    index: usize,
    what: &'static str,
    shape: &[Extent],
) -> Result<(), TypeError> {
    let Some(ty) = inputs.get(index) else { return Ok(()) };
    let dtype = inputs.need(0)?.dtype;
    need_dtype(index, ty, |d| d == dtype, dtype.name())?;
    need_shape(what, ty, shape)
}

/// Steps of every row.
fn lengths(lens: Option<&Tensor>, steps: usize, batch: usize) -> Result<Vec<usize>, EvalError> {
    let Some(lens) = lens else { return Ok(vec![steps; batch]) };
    let length = |len: i64| {
        let found = usize::try_from(len).ok().filter(|&len| len <= steps);
        found.ok_or_else(|| EvalError::Value(format!("length {len} is outside 0..={steps}")))
    };
    lens.to_i64().into_iter().map(length).collect()
}

/// Weights of one direction in `f64`.
struct Weights {
    /// `[gates · h, i]`.
    w: Vec<f64>,
    /// `[gates · h, h]`.
    r: Vec<f64>,
    /// Two times `[gates · h]`: of `w`, of `r`.
    bias: Vec<f64>,
    hidden: usize,
}

impl Weights {
    fn load(
        inputs: Operands<'_, Tensor>,
        directions: usize,
        hidden: usize,
        cell: &Cell<'_>,
    ) -> Result<Vec<Self>, EvalError> {
        let (w, r) = (cell.weights(inputs, 0)?, cell.weights(inputs, 1)?);
        let rows = cell.gates as usize * hidden;
        let bias = inputs.get(3).map_or_else(|| vec![0.0; directions * 2 * rows], Tensor::to_f64);
        let part = |all: &[f64], d: usize| all[d * all.len() / directions..][..all.len() / directions].to_vec();
        Ok((0..directions).map(|d| Self { w: part(&w, d), r: part(&r, d), bias: part(&bias, d), hidden }).collect())
    }

    /// Row `index` of gate `gate` on the input, with bias.
    fn input(&self, gate: usize, index: usize, x: &[f64]) -> f64 {
        let row = gate * self.hidden + index;
        dot(&self.w[row * x.len()..], x) + self.bias[row]
    }

    /// Row `index` of gate `gate` on the state, with bias.
    fn state(&self, gate: usize, index: usize, h: &[f64]) -> f64 {
        let row = gate * self.hidden + index;
        dot(&self.r[row * h.len()..], h) + self.bias[self.bias.len() / 2 + row]
    }

    /// Both, for all rows of a gate.
    fn gate(&self, gate: usize, x: &[f64], h: &[f64]) -> Vec<f64> {
        (0..self.hidden).map(|index| self.input(gate, index, x) + self.state(gate, index, h)).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Lstm {
    fn cell(&self) -> Cell<'_> {
        Cell {
            direction: self.direction,
            hidden: self.hidden,
            gates: 4,
            activations: &self.activations,
            functions: 3,
            clip: self.clip,
            stored: CellWeights { blocks: [self.w_block, self.r_block], scales: 8 },
        }
    }
}

impl OpDef for Lstm {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let [y, state] = self.cell().infer(inputs)?;
        need_operand(inputs, 6, "initial cell", &state.shape)?;
        need_operand(inputs, 7, "peephole", &[state.shape[0].clone(), Extent::from(3 * self.hidden)])?;
        Ok(vec![y, state.clone(), state])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (cell, h) = (self.cell(), self.hidden as usize);
        let peepholes = inputs.get(7).map_or_else(|| vec![0.0; 2 * 3 * h], Tensor::to_f64);
        cell.run(inputs, &types[0], [inputs.get(5), inputs.get(6)], |direction, weights, x, [hidden, state]| {
            let [gi, go, gf, gc] = [0, 1, 2, 3].map(|gate| weights.gate(gate, x, hidden));
            let peephole = |gate: usize, index: usize| peepholes[(direction * 3 + gate) * h + index];
            for index in 0..h {
                let before = state[index];
                let i = cell.gate(direction, 0, gi[index] + peephole(0, index) * before);
                let f = if self.input_forget {
                    1.0 - i
                } else {
                    cell.gate(direction, 0, gf[index] + peephole(2, index) * before)
                };
                let now = f * before + i * cell.gate(direction, 1, gc[index]);
                let o = cell.gate(direction, 0, go[index] + peephole(1, index) * now);
                state[index] = now;
                // The clip bounds what enters the gates, not the state.
                hidden[index] = o * self.activations[direction * 3 + 2].apply(now);
            }
        })
    }
}

impl Gru {
    fn cell(&self) -> Cell<'_> {
        Cell {
            direction: self.direction,
            hidden: self.hidden,
            gates: 3,
            activations: &self.activations,
            functions: 2,
            clip: self.clip,
            stored: CellWeights { blocks: [self.w_block, self.r_block], scales: 6 },
        }
    }
}

impl OpDef for Gru {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        Ok(self.cell().infer(inputs)?.to_vec())
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (cell, h) = (self.cell(), self.hidden as usize);
        cell.run(inputs, &types[0], [inputs.get(5)], |direction, weights, x, [hidden]| {
            let [z, r] = [0, 1].map(|gate| {
                let sums = weights.gate(gate, x, hidden).into_iter();
                sums.map(|sum| cell.gate(direction, 0, sum)).collect::<Vec<f64>>()
            });
            let reset: Vec<f64> = r.iter().zip(&*hidden).map(|(r, h)| r * h).collect();
            let candidate = |index: usize| {
                let state = if self.linear_before_reset {
                    r[index] * weights.state(2, index, hidden)
                } else {
                    weights.state(2, index, &reset)
                };
                cell.gate(direction, 1, weights.input(2, index, x) + state)
            };
            *hidden = (0..h).map(|index| (1.0 - z[index]) * candidate(index) + z[index] * hidden[index]).collect();
        })
    }
}

impl Rnn {
    fn cell(&self) -> Cell<'_> {
        Cell {
            direction: self.direction,
            hidden: self.hidden,
            gates: 1,
            activations: &self.activations,
            functions: 1,
            clip: self.clip,
            stored: CellWeights { blocks: [self.w_block, self.r_block], scales: 6 },
        }
    }
}

impl OpDef for Rnn {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        Ok(self.cell().infer(inputs)?.to_vec())
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let cell = self.cell();
        cell.run(inputs, &types[0], [inputs.get(5)], |direction, weights, x, [hidden]| {
            let sums = weights.gate(0, x, hidden).into_iter();
            *hidden = sums.map(|sum| cell.gate(direction, 0, sum)).collect();
        })
    }
}

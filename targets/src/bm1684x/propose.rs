//! What operators cost on the chip: the cycles of the very commands that lowering makes for one alone.
//!
//! An operator is lowered as the only one of a network, between tensors in local memory and by constants that are never looked
//! at; the formulas of [`super::cost`] say what its commands take. So what has no commands has no proposal, and what is priced is
//! what runs. Copies, those of constants above all, run beside the compute unit: the engine that works longer counts.
//!
//! What stands between integers is lowered together with the `quantize` behind it ([`super::lower`]), so that is what has the
//! price: in a network without floats of 16 bits the operators in front of it take nothing, as far as a table or a sum has them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use adze_ir::egraph::Family;
use adze_ir::extent::Extent;
use adze_ir::graph::{ConstEntry, Graph, ValueId};
use adze_ir::loc::Loc;
use adze_ir::ops::{Dequantize, Op, Quantize};
use adze_ir::propose::{Cost, OpFacts, Proposal, Propose};
use adze_ir::tensor::{Tensor, checked_elems};
use adze_ir::types::{DType, TensorType};

use super::isa::Prec;
use super::lower::{is_elementwise, lower_alone};
use super::machine::LANES;
use super::plan::busy;
use super::rules::FAMILIES;

/// Constants with more elements are lowered for one row of lanes; the others take as long.
const WHOLE_ELEMS: usize = 1 << 16;

/// The chip as passes see it. Remembers what it was asked: the same layer comes many times in a network.
#[derive(Debug)]
pub struct ChipModel {
    half: Option<Prec>,
    known: RefCell<BTreeMap<Question, Option<Cost>>>,
}

/// Everything that prices depend on.
type Question = (Op, Vec<Operand>, Vec<TensorType>);

/// Type of an operand and whether it is constant; `None` where it is left out.
type Operand = Option<(TensorType, bool)>;

impl ChipModel {
    /// The chip with a type of 16 bits for floats, or without one for networks of bytes.
    pub fn new(half: Option<Prec>) -> Self {
        Self { half, known: RefCell::default() }
    }

    fn price(&self, op: &Op, inputs: &[Operand], outputs: &[TensorType]) -> Option<Cost> {
        match op {
            // Who reads it reads the bytes.
            Op::Dequantize(_) => self.alone(op, inputs).map(|_| Cost::default()),
            Op::Quantize(_) if self.half.is_none() => self.between_integers(op, inputs),
            _ if self.half.is_none() && outputs.iter().all(|ty| ty.dtype.is_float()) => {
                if is_elementwise(op) {
                    return self.between_integers(op, inputs).map(|_| Cost::default());
                }
                self.alone(op, inputs).or_else(|| self.between_integers(op, inputs))
            }
            _ => {
                let (narrow, rows) = one_row(op, inputs);
                let Cost { cycles, bytes, rodata } = self.alone(op, &narrow)?;
                Some(Cost { cycles: cycles * rows, bytes, rodata: rodata * rows })
            }
        }
    }

    /// The price of an operator by itself.
    fn alone(&self, op: &Op, inputs: &[Operand]) -> Option<Cost> {
        let mut graph = Graph::new("alone");
        let operands = operands(&mut graph, inputs)?;
        graph.add(op.clone(), &operands, Loc::default()).ok()?;
        self.of_graph(&graph, given_bytes(inputs))
    }

    /// The price of `quantize`, of the operator if it is no `quantize` itself, of tensors of bytes.
    fn between_integers(&self, op: &Op, inputs: &[Operand]) -> Option<Cost> {
        let mut graph = Graph::new("between integers");
        let byte = |operand: &Operand| match operand {
            Some((ty, false)) => Some((TensorType { dtype: DType::I8, ..ty.clone() }, false)),
            other => other.clone(),
        };
        let bytes: Vec<Operand> = inputs.iter().map(byte).collect();
        let mut operands = operands(&mut graph, &bytes)?;
        let scale = constant(&mut graph, DType::F32, &[]);
        let zero = constant(&mut graph, DType::I8, &[]);
        for (operand, given) in operands.iter_mut().zip(inputs) {
            if let (Some(value), Some((_, false))) = (&operand, given) {
                let by = [Some(*value), Some(scale), Some(zero)];
                *operand = graph.add(Dequantize { axis: 0, block: 0 }, &by, Loc::default()).ok()?.first().copied();
            }
        }
        let made = graph.add(op.clone(), &operands, Loc::default()).ok()?;
        if !matches!(op, Op::Quantize(_)) {
            let by = [made.first().copied(), Some(scale), Some(zero)];
            graph.add(Quantize { axis: 0, block: 0, to: DType::I8 }, &by, Loc::default()).ok()?;
        }
        self.of_graph(&graph, given_bytes(inputs))
    }

    fn of_graph(&self, graph: &Graph, given: u64) -> Option<Cost> {
        let draft = lower_alone(graph, self.half)?;
        let cycles = busy(&draft).into_iter().max()?;
        let packed: u64 = draft.constants.iter().map(|bytes| bytes.len() as u64).sum();
        Some(Cost { cycles, bytes: 0, rodata: packed.saturating_sub(given) })
    }
}

impl Propose for ChipModel {
    fn propose(&self, op: &Op, facts: &OpFacts<'_>) -> Vec<Proposal> {
        if matches!(op, Op::Constant(_)) {
            return vec![Proposal::default()];
        }
        let given = |(index, ty): (usize, &Option<&TensorType>)| ty.map(|ty| (ty.clone(), facts.is_fixed(index)));
        let inputs: Vec<Operand> = facts.inputs.iter().enumerate().map(given).collect();
        let question = (op.clone(), inputs, facts.outputs.to_vec());
        let known = self.known.borrow().get(&question).copied();
        let cost = known.unwrap_or_else(|| {
            let cost = self.price(op, &question.1, facts.outputs);
            self.known.borrow_mut().insert(question, cost);
            cost
        });
        cost.map(|cost| Proposal { cost, ..Proposal::default() }).into_iter().collect()
    }

    fn families(&self) -> &'static [Family] {
        FAMILIES
    }

    fn runs_as_chosen(&self) -> bool {
        true
    }
}

/// Bytes of the constants as they are given.
fn given_bytes(inputs: &[Operand]) -> u64 {
    let fixed = inputs.iter().flatten().filter(|(_, fixed)| *fixed);
    let bytes = fixed.filter_map(|(ty, _)| Some(ty.dtype.bytes_for(ty.fixed_shape()?.iter().product()) as u64));
    bytes.sum()
}

/// Adds operands to a graph.
fn operands(graph: &mut Graph, inputs: &[Operand]) -> Option<Vec<Option<ValueId>>> {
    let mut operands = Vec::new();
    for input in inputs {
        operands.push(match input {
            None => None,
            Some((ty, false)) => Some(graph.add_input("", ty.clone())),
            Some((ty, true)) => {
                let shape = ty.fixed_shape().filter(|shape| checked_elems(shape).is_some())?;
                Some(constant(graph, ty.dtype, &shape))
            }
        });
    }
    Some(operands)
}

/// A constant of twos, which is a scale, a factor, and a power that there are commands for; integers are zeros.
fn constant(graph: &mut Graph, dtype: DType, shape: &[usize]) -> ValueId {
    let elems = shape.iter().product();
    let twos = || {
        let bytes = Tensor::from_f64(dtype, &[], &[2.0]).bytes().repeat(elems);
        Tensor::new(dtype, shape.to_vec(), bytes).ok()
    };
    let tensor = dtype.is_float().then(twos).flatten().unwrap_or_else(|| Tensor::zeros(dtype, shape));
    let id = graph.consts.push(ConstEntry::new("", tensor));
    graph.add_const(id, Loc::default())
}

/// The operands of a layer with many constants for a row of lanes of result channels, and the number of such rows.
fn one_row(op: &Op, inputs: &[Operand]) -> (Vec<Operand>, u64) {
    let layer = match op {
        Op::Conv(conv) if conv.group == 1 => Some((1, 0)),
        Op::QLinearConv(conv) if conv.group == 1 => Some((3, 0)),
        Op::Gemm(gemm) => Some((1, usize::from(!gemm.trans_b))),
        Op::MatMul(product) => Some((1, usize::from(!product.trans_b))),
        Op::MatMulInteger(_) => Some((1, 1)),
        Op::QLinearMatMul(_) => Some((3, 1)),
        _ => None,
    };
    let channels = layer.and_then(|(weights, axis)| {
        let (ty, _) = inputs.get(weights)?.as_ref().filter(|(_, fixed)| *fixed)?;
        let shape = ty.fixed_shape().filter(|shape| shape.len() >= 2)?;
        let large = checked_elems(&shape).is_none_or(|elems| elems > WHOLE_ELEMS);
        let channels = *shape.get(axis)?;
        (large && channels > LANES as usize).then_some((weights, axis, channels))
    });
    let Some((weights, axis, channels)) = channels else { return (inputs.to_vec(), 1) };
    let many = Extent::from(channels as i64);
    let narrow = |(index, input): (usize, &Operand)| {
        let (mut ty, fixed) = input.clone()?;
        // Biases, scales and zero points have one for each, too.
        let at = if index == weights { Some(axis) } else { ty.rank().checked_sub(1).filter(|_| fixed && index > 0) };
        if let Some(extent) = at.and_then(|at| ty.shape.get_mut(at)).filter(|extent| **extent == many) {
            *extent = i64::from(LANES).into();
        }
        Some((ty, fixed))
    };
    let inputs = inputs.iter().enumerate().map(narrow).collect();
    (inputs, channels.div_ceil(LANES as usize) as u64)
}

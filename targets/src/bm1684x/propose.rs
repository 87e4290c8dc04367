//! What operators cost on the chip: the cycles of the very commands that lowering makes for one alone.
//!
//! An operator is lowered as the only one of a network, between tensors in local memory and by constants that are never looked
//! at; the formulas of [`super::cost`] say what its commands take. So what has no commands has no proposal, and what is priced is
//! what runs. Copies, those of constants above all, run beside the compute unit: the engine that works longer counts.
//!
//! What stands between integers is lowered together with the `quantize` behind it ([`super::lower`]). So a `dequantize` takes
//! nothing, and in a network without floats of 16 bits what has no commands by itself takes what it does between bytes.

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
use super::lower::lower_alone;
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
        let (inputs, rows) = one_row(op, inputs);
        let cycles = self.alone(op, &inputs);
        let cycles = match op {
            // Who reads it reads the bytes.
            Op::Dequantize(_) => cycles.map(|_| 0),
            _ if self.half.is_none() && outputs.iter().all(|ty| ty.dtype.is_float()) => {
                cycles.or_else(|| self.between_integers(op, &inputs))
            }
            _ => cycles,
        };
        Some(Cost { cycles: cycles? * rows, ..Cost::default() })
    }

    /// Cycles of an operator by itself.
    fn alone(&self, op: &Op, inputs: &[Operand]) -> Option<u64> {
        let mut graph = Graph::new("alone");
        let operands = operands(&mut graph, inputs)?;
        graph.add(op.clone(), &operands, Loc::default()).ok()?;
        self.of_graph(&graph)
    }

    /// Cycles of `quantize` of the operator, of tensors of bytes.
    fn between_integers(&self, op: &Op, inputs: &[Operand]) -> Option<u64> {
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
        let by = [made.first().copied(), Some(scale), Some(zero)];
        graph.add(Quantize { axis: 0, block: 0, to: DType::I8 }, &by, Loc::default()).ok()?;
        self.of_graph(&graph)
    }

    /// Cycles of the engine that works longer.
    fn of_graph(&self, graph: &Graph) -> Option<u64> {
        busy(&lower_alone(graph, self.half)?).into_iter().max()
    }
}

impl Propose for ChipModel {
    fn propose(&self, op: &Op, facts: &OpFacts<'_>) -> Vec<Proposal> {
        if matches!(op, Op::Constant(_)) {
            return vec![Proposal::default()];
        }
        let question = (op.clone(), facts.operands(), facts.outputs.to_vec());
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
    let elems: usize = shape.iter().product();
    let tensor = Tensor::lazy(dtype, shape, move || match dtype.is_float() {
        true => Tensor::from_f64(dtype, &[], &[2.0]).bytes().repeat(elems),
        false => vec![0; dtype.bytes_for(elems)],
    });
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

#[cfg(test)]
mod tests {
    use adze_ir::propose::CostModel;
    use adze_ir::sample;

    use super::super::cost;
    use super::super::isa::Engine;
    use super::super::program::Program;
    use super::*;

    /// The price of the last node of a graph.
    fn price(model: &ChipModel, graph: &Graph) -> Option<u64> {
        let (_, node) = graph.nodes().last().unwrap();
        let outputs: Vec<TensorType> = node.outputs.iter().map(|&value| graph.ty(value).clone()).collect();
        let ask = |facts: &OpFacts<'_>| model.cost(&node.op, facts).map(|cost| cost.cycles);
        let cycles = OpFacts::in_graph(graph, &node.inputs, &outputs, ask);
        assert_eq!(
            OpFacts::in_graph(graph, &node.inputs, &outputs, ask),
            cycles,
            "the same question has the same answer"
        );
        cycles
    }

    fn graph(lines: &str) -> Graph {
        let graph = sample::graph(&format!("graph @g {{ {lines} }}"));
        graph.unwrap_or_else(|error| panic!("{error}\n{lines}"))
    }

    /// Networks of one operator that the compute unit works longer on than the copy engine.
    const COMPUTE: &[(Option<Prec>, &str)] = &[
        (
            Some(Prec::Fp16),
            "input %0 \"x\" : f16[1,64,28,28]\n%1 = random f16[64,64,3,3]\n\
             %2 = conv %0, %1 {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1} : f16[1,64,28,28]\n\
             output \"y\" = %2",
        ),
        (
            Some(Prec::Bf16),
            "input %0 \"x\" : bf16[1,64,40,40]\n%1 = gelu %0 {tanh=false} : bf16[1,64,40,40]\noutput \"y\" = %1",
        ),
        (
            None,
            "input %0 \"x\" : i8[1,64,28,28]\n%1 = const \"\" [0.5] : f32[]\n%2 = const \"\" [0] : i8[]\n\
             %3 = random i8[64,64,3,3]\n\
             %4 = qlinear_conv %0, %1, %2, %3, %1, %2, %1, %2 {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], \
             group=1, contract=f32_rne} : i8[1,64,28,28]\noutput \"y\" = %4",
        ),
    ];

    #[test]
    fn prices_are_those_of_the_commands_that_run() {
        for (half, lines) in COMPUTE {
            let graph = graph(lines);
            let program = Program::compile(&graph, *half).unwrap();
            let runs = cost::busy(Engine::Tiu, &program.streams.tiu);
            assert_eq!(price(&ChipModel::new(*half), &graph), Some(runs), "{lines}");
        }
    }

    /// By rows of lanes it takes as long as all at once.
    #[test]
    fn large_layers_are_priced_by_rows_of_lanes() {
        let model = ChipModel::new(Some(Prec::Fp16));
        let layer = |channels: usize| {
            let lines = format!(
                "input %0 \"x\" : f16[1,32,20,20]\n%1 = random f16[{channels},32,3,3]\n\
                 %2 = conv %0, %1 {{strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1}} : f16[1,{channels},20,20]\n\
                 output \"y\" = %2"
            );
            price(&model, &graph(&lines)).unwrap()
        };
        const { assert!(32 * 9 * 192 < WHOLE_ELEMS && 32 * 9 * 256 > WHOLE_ELEMS) };
        assert_eq!(layer(192) / 3, layer(256) / 4);
    }

    #[test]
    fn what_has_no_commands_has_no_price() {
        let conv = graph(
            "input %0 \"x\" : f32[1,8,9,9]\n%1 = random f32[8,8,3,3]\n\
             %2 = conv %0, %1 {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1} : f32[1,8,9,9]\noutput \"y\" = %2",
        );
        assert_eq!(price(&ChipModel::new(None), &conv), None);
        assert!(price(&ChipModel::new(Some(Prec::Fp16)), &conv).is_some());
        // Between bytes it is a table.
        let tanh = graph("input %0 \"x\" : f32[1,8,9,9]\n%1 = tanh %0 : f32[1,8,9,9]\noutput \"y\" = %1");
        assert!(price(&ChipModel::new(None), &tanh).is_some());
        let bytes = graph(
            "input %0 \"x\" : i8[1,8,9,9]\n%1 = const \"\" [0.5] : f32[]\n%2 = const \"\" [0] : i8[]\n\
             %3 = dequantize %0, %1, %2 {axis=0, block=0} : f32[1,8,9,9]\noutput \"y\" = %3",
        );
        assert_eq!(price(&ChipModel::new(None), &bytes), Some(0));
    }
}

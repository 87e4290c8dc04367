//! Proposals: the schedules that a machine offers for an operator, and the one source of truth for cost.
//!
//! The cost of an e-node is the cost of its cheapest proposal. A target implements [`Propose`]; [`PlainMachine`] is a
//! machine of arithmetic and memory traffic only, for passes and tests that know no target.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Add;
use std::sync::Arc;

use crate::egraph::Family;
use crate::extent::Dims;
use crate::graph::{Graph, ValueId};
use crate::layout::same_bytes;
use crate::ops::{Op, ReduceFn, Unary, UnaryFn};
use crate::types::TensorType;

/// What something costs; sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost {
    /// Estimated cycles on one core.
    pub cycles: u64,
    /// Bytes moved to and from memory whose time is not in the cycles.
    pub bytes: u64,
    /// Bytes of constants that have to be stored.
    pub rodata: u64,
}

impl Cost {
    /// Bytes of traffic that weigh as much as one cycle.
    const BYTES_PER_CYCLE: u64 = 8;
    /// Stored bytes that weigh as much as one cycle.
    const RODATA_PER_CYCLE: u64 = 16;

    /// The single number that extraction minimises: cycles, traffic and stored bytes with fixed weights.
    pub fn weight(self) -> u64 {
        self.cycles
            .saturating_add(self.bytes / Self::BYTES_PER_CYCLE)
            .saturating_add(self.rodata / Self::RODATA_PER_CYCLE)
    }

    /// What is left of it when another cost is saved.
    fn saving(self, saved: Cost) -> Cost {
        Cost {
            cycles: self.cycles.saturating_sub(saved.cycles),
            bytes: self.bytes.saturating_sub(saved.bytes),
            rodata: self.rodata.saturating_sub(saved.rodata),
        }
    }
}

impl Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost {
            cycles: self.cycles.saturating_add(other.cycles),
            bytes: self.bytes.saturating_add(other.bytes),
            rodata: self.rodata.saturating_add(other.rodata),
        }
    }
}

/// A chosen way to compute an operator, in the words of the machine that offers it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Schedule {
    /// Which one.
    pub id: Arc<str>,
    /// Its parameters.
    pub params: BTreeMap<Arc<str>, i64>,
}

impl fmt::Display for Schedule {
    /// `block mr=4 vecs=2`: for messages and reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        self.params.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// A schedule and its cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// The schedule; `None` where the machine knows one way only.
    pub schedule: Option<Schedule>,
    /// Its cost.
    pub cost: Cost,
    /// Bytes of scratch memory it needs at once.
    pub scratch_bytes: u64,
}

/// What is known about an operator's operands and results.
#[derive(Clone, Copy, Debug)]
pub struct OpFacts<'a> {
    /// Types of the operands; `None` where one is left out.
    pub inputs: &'a [Option<&'a TensorType>],
    /// Which operands are computed from constants only; those past the end are not.
    pub fixed: &'a [bool],
    /// Types of the results.
    pub outputs: &'a [TensorType],
    /// Ranges of the named dimensions; costs are those of the upper ends.
    pub dims: &'a Dims,
}

impl OpFacts<'_> {
    /// Hands the facts about operands in a graph and results of these types to `ask`.
    pub fn in_graph<R>(
        graph: &Graph,
        inputs: &[Option<ValueId>],
        outputs: &[TensorType],
        ask: impl FnOnce(&OpFacts<'_>) -> R,
    ) -> R {
        let constant = |v: ValueId| matches!(graph.producer(v), Some((_, node)) if matches!(node.op, Op::Constant(_)));
        let fixed: Vec<bool> = inputs.iter().map(|v| v.is_some_and(constant)).collect();
        let inputs: Vec<Option<&TensorType>> = inputs.iter().map(|v| v.map(|v| graph.ty(v))).collect();
        ask(&OpFacts { inputs: &inputs, fixed: &fixed, outputs, dims: &graph.dims })
    }

    /// Types of the operands and whether they are known when the code is made: what answers are remembered by.
    pub fn operands(&self) -> Vec<Option<(TensorType, bool)>> {
        let given = |(index, ty): (usize, &Option<&TensorType>)| ty.map(|ty| (ty.clone(), self.is_fixed(index)));
        self.inputs.iter().enumerate().map(given).collect()
    }

    /// Whether an operand is known when the code is made.
    pub fn is_fixed(&self, input: usize) -> bool {
        self.fixed.get(input).copied().unwrap_or(false)
    }
}

/// A machine that offers schedules.
pub trait Propose {
    /// At most [`MAX_PROPOSALS`] schedules, none better than another in every respect, best cost first. Empty when the
    /// machine cannot run the operator.
    fn propose(&self, op: &Op, facts: &OpFacts<'_>) -> Vec<Proposal>;

    /// The same schedule in the opposite order over a constant that another operator has just read in this one, so that what
    /// the caches still have of it is read first; `None` where there is no such order.
    fn backwards(&self, schedule: &Schedule) -> Option<Schedule> {
        let _ = schedule;
        None
    }

    /// The largest cache of a core's own; `None` for a machine whose memory is all alike.
    fn cache(&self) -> Option<Cache> {
        None
    }

    /// Rules about forms that only this machine has, or that pay only there: the e-graph runs them beside those of all machines.
    fn families(&self) -> &'static [Family] {
        &[]
    }

    /// Whether operators run one by one as they are chosen. Otherwise passes fuse them and give out layouts afterwards, which
    /// prices look ahead to.
    fn runs_as_chosen(&self) -> bool {
        false
    }
}

/// A cache that a core has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Its bytes.
    pub bytes: u64,
    /// Cycles that 1,024 bytes from beyond it take longer than 1,024 bytes from it.
    pub beyond: u64,
}

/// The most schedules that a machine offers for one operator.
pub const MAX_PROPOSALS: usize = 4;

/// Cost of an operator: what rules and extraction see of a machine.
pub trait CostModel {
    /// The cost of its cheapest proposal, or `None` when the machine cannot run it.
    fn cost(&self, op: &Op, facts: &OpFacts<'_>) -> Option<Cost>;

    /// The cost of an elementwise operator that is computed while its operand is in registers: that of the operator without
    /// that of reading and writing a tensor.
    fn epilogue(&self, op: &Op, facts: &OpFacts<'_>) -> Option<Cost> {
        let whole = self.cost(op, facts)?;
        let [output] = facts.outputs else { return Some(whole) };
        if !output.dtype.is_float() {
            return Some(whole);
        }
        let through = Op::from(Unary { function: UnaryFn::Relu });
        let through = self.cost(&through, &OpFacts { inputs: &[Some(output)], fixed: &[], ..*facts });
        Some(through.map_or(whole, |through| whole.saving(through)))
    }

    /// The schedule of its cheapest proposal; `None` where there is one way only.
    fn schedule(&self, op: &Op, facts: &OpFacts<'_>) -> Option<Schedule> {
        let _ = (op, facts);
        None
    }

    /// As [`Propose::backwards`].
    fn backwards(&self, schedule: &Schedule) -> Option<Schedule> {
        let _ = schedule;
        None
    }

    /// As [`Propose::cache`].
    fn cache(&self) -> Option<Cache> {
        None
    }

    /// As [`Propose::families`].
    fn families(&self) -> &'static [Family] {
        &[]
    }

    /// As [`Propose::runs_as_chosen`].
    fn runs_as_chosen(&self) -> bool {
        false
    }
}

impl<M: Propose> CostModel for M {
    fn cost(&self, op: &Op, facts: &OpFacts<'_>) -> Option<Cost> {
        self.propose(op, facts).into_iter().map(|p| p.cost).min_by_key(|cost| cost.weight())
    }

    fn schedule(&self, op: &Op, facts: &OpFacts<'_>) -> Option<Schedule> {
        self.propose(op, facts).into_iter().min_by_key(|p| p.cost.weight())?.schedule
    }

    fn backwards(&self, schedule: &Schedule) -> Option<Schedule> {
        Propose::backwards(self, schedule)
    }

    fn cache(&self) -> Option<Cache> {
        Propose::cache(self)
    }

    fn families(&self) -> &'static [Family] {
        Propose::families(self)
    }

    fn runs_as_chosen(&self) -> bool {
        Propose::runs_as_chosen(self)
    }
}

/// A machine whose memory is short: what holds data while it runs costs cycles too.
///
/// Peak memory does not add up over operators, so no price of one is right; a plan says whether the forms that a price brings about
/// fit, and a higher one is asked for where they do not.
#[derive(Clone, Copy, Debug)]
pub struct Pressed<'a, M> {
    /// The machine.
    pub machine: &'a M,
    /// Cycles that 256 bytes of results and scratch memory weigh.
    pub price: u64,
}

impl<M: Propose> Propose for Pressed<'_, M> {
    fn propose(&self, op: &Op, facts: &OpFacts<'_>) -> Vec<Proposal> {
        let mut proposals = self.machine.propose(op, facts);
        if self.price == 0 || proposals.iter().all(|proposal| proposal.cost == Cost::default()) {
            // Other names for data take no memory.
            return proposals;
        }
        let bytes = |ty: &TensorType| u64::try_from(ty.max_bytes(facts.dims)).unwrap_or(u64::MAX);
        let results = facts.outputs.iter().fold(0u64, |sum, ty| sum.saturating_add(bytes(ty)));
        for proposal in &mut proposals {
            let held = results.saturating_add(proposal.scratch_bytes);
            proposal.cost.cycles = proposal.cost.cycles.saturating_add((held / 256).saturating_mul(self.price));
        }
        proposals
    }

    fn backwards(&self, schedule: &Schedule) -> Option<Schedule> {
        Propose::backwards(self.machine, schedule)
    }

    fn cache(&self) -> Option<Cache> {
        Propose::cache(self.machine)
    }

    fn families(&self) -> &'static [Family] {
        Propose::families(self.machine)
    }

    fn runs_as_chosen(&self) -> bool {
        Propose::runs_as_chosen(self.machine)
    }
}

/// A machine that does 8 multiply-adds or elements per cycle and runs everything in one way, convolutions by their definition.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainMachine;

/// Cycles for starting a kernel: what makes one node cheaper than two.
const START_CYCLES: u64 = 200;
/// Elements or multiply-adds per cycle.
const PER_CYCLE: u64 = 8;
/// Products of bytes in the time of one of floats.
const BYTES_AT_ONCE: u64 = 4;

impl Propose for PlainMachine {
    fn propose(&self, op: &Op, facts: &OpFacts<'_>) -> Vec<Proposal> {
        if matches!(op, Op::WinogradConv(_)) {
            // Whether it pays depends on what transforms and larger weights cost a machine.
            return Vec::new();
        }
        vec![Proposal { cost: plain_cost(op, facts), ..Proposal::default() }]
    }
}

fn plain_cost(op: &Op, facts: &OpFacts<'_>) -> Cost {
    let renames = |perm: &[usize]| match (facts.inputs, facts.outputs) {
        ([Some(x)], [y]) => !x.layout.is_plain() && same_bytes(&x.shape, (&x.layout, &y.layout), perm),
        _ => false,
    };
    if matches!(op, Op::Reshape(_) | Op::Constant(_)) || matches!(op, Op::Transpose(by) if renames(&by.perm)) {
        // Aliases and data.
        return Cost::default();
    }
    let bytes = |ty: &TensorType| u64::try_from(ty.max_bytes(facts.dims)).unwrap_or(0);
    let read: u64 = facts.inputs.iter().flatten().fold(0, |sum, ty| bytes(ty).saturating_add(sum));
    let written: u64 = facts.outputs.iter().fold(0, |sum, ty| bytes(ty).saturating_add(sum));
    let work = work(op, facts.inputs, facts.outputs.first(), facts.dims);
    Cost { cycles: START_CYCLES.saturating_add(work / PER_CYCLE), bytes: read.saturating_add(written), rodata: 0 }
}

/// Multiply-adds, or elements times the length of a polynomial for functions.
fn work(op: &Op, inputs: &[Option<&TensorType>], output: Option<&TensorType>, dims: &Dims) -> u64 {
    let elems = |ty: Option<&TensorType>| ty.map_or(0, |ty| u64::try_from(ty.elems().upper(dims)).unwrap_or(0));
    let extent = |ty: Option<&TensorType>, axis: usize| {
        ty.and_then(|ty| ty.shape.get(axis)).map_or(1, |e| u64::try_from(e.upper(dims)).unwrap_or(1))
    };
    let input = |index: usize| inputs.get(index).copied().flatten();
    let last = |ty: Option<&TensorType>| extent(ty, ty.map_or(0, TensorType::rank).saturating_sub(1));
    let out = elems(output);
    match op {
        Op::Conv(_) | Op::ConvStored(_) => out.saturating_mul(elems(input(1)) / extent(input(1), 0).max(1)),
        Op::ConvInteger(_) => out.saturating_mul(elems(input(1)) / extent(input(1), 0).max(1)) / BYTES_AT_ONCE,
        Op::QLinearConv(_) => out.saturating_mul(elems(input(3)) / extent(input(3), 0).max(1)) / BYTES_AT_ONCE,
        Op::MatMulInteger(_) | Op::QLinearMatMul(_) => out.saturating_mul(last(input(0))) / BYTES_AT_ONCE,
        Op::MatMulStored(_) => out.saturating_mul(last(input(0))),
        Op::ConvTranspose(_) => elems(input(0)).saturating_mul(elems(input(1)) / extent(input(1), 0).max(1)),
        Op::MatMul(op) => {
            let a = input(0);
            let rank = a.map_or(0, TensorType::rank);
            out.saturating_mul(extent(a, rank.saturating_sub(if op.trans_a { 2 } else { 1 })))
        }
        Op::Gemm(op) => out.saturating_mul(extent(input(0), usize::from(!op.trans_a))),
        Op::Reduce(_) | Op::ArgReduce(_) | Op::Softmax(_) | Op::LayerNorm(_) | Op::BatchNorm(_) => {
            elems(input(0)).saturating_mul(function_weight(op))
        }
        Op::Fused(fused) => {
            let anchor = &fused.anchor().op;
            let first = work(anchor, inputs, output, dims);
            fused
                .epilogues()
                .iter()
                .fold(first, |sum, s| sum.saturating_add(out.saturating_mul(function_weight(&s.op))))
        }
        op => out.saturating_mul(function_weight(op)),
    }
}

/// Rough number of multiply-adds per element of an elementwise function.
fn function_weight(op: &Op) -> u64 {
    use crate::ops::UnaryFn::{Abs, HardSwish, Identity, Neg, Not, Relu};
    match op {
        Op::Unary(op) if matches!(op.function, Identity | Neg | Abs | Relu | HardSwish | Not) => 1,
        Op::Unary(_) | Op::Gelu(_) | Op::Swish(_) | Op::Elu(_) | Op::Softmax(_) => 16,
        Op::Binary(op) if matches!(op.function, crate::ops::BinaryFn::Div | crate::ops::BinaryFn::Pow) => 8,
        Op::Reduce(op) if op.function != ReduceFn::Sum => 2,
        Op::LayerNorm(_) | Op::BatchNorm(_) => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Conv;
    use crate::types::DType;

    fn cost(op: impl Into<Op>, inputs: &[&TensorType]) -> Cost {
        let op = op.into();
        let inputs: Vec<Option<&TensorType>> = inputs.iter().copied().map(Some).collect();
        let outputs = op.infer(&inputs).unwrap();
        PlainMachine.cost(&op, &OpFacts { inputs: &inputs, fixed: &[], outputs: &outputs, dims: &Dims::new() }).unwrap()
    }

    #[test]
    fn a_convolution_costs_its_multiply_adds() {
        let x = TensorType::fixed(DType::F32, &[1, 8, 5, 7]);
        let w = TensorType::fixed(DType::F32, &[4, 8, 3, 3]);
        let conv = Conv { strides: vec![1, 1], pads: vec![1; 4], dilations: vec![1, 1], group: 1 };
        assert_eq!(cost(conv, &[&x, &w]).cycles, START_CYCLES + 4 * 35 * 72 / PER_CYCLE);
        assert!(cost(Unary { function: UnaryFn::Exp }, &[&x]) > cost(Unary { function: UnaryFn::Relu }, &[&x]));
    }

    #[test]
    fn sums_saturate() {
        let big = Cost { cycles: u64::MAX, bytes: 1, rodata: 0 };
        assert_eq!((big + big).weight(), u64::MAX);
    }
}

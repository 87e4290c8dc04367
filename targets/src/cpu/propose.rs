//! The schedules that a CPU offers for an operator, each with the cost of the very kernels that it generates.
//!
//! A proposal is made by lowering the operator as if it were a leaf, with constants that are never looked at, and reading
//! the cost off the kernels ([`super::cost`]). So a machine offers exactly what it has code for, and what is estimated is
//! what runs.

use std::cell::RefCell;
use std::collections::BTreeMap;

use adze_ir::egraph::Family;
use adze_ir::extent::{Dims, Extent};
use adze_ir::layout::same_bytes;
use adze_ir::ops::Op;
use adze_ir::propose::{Cache, Cost, MAX_PROPOSALS, OpFacts, Proposal, Propose, Schedule};
use adze_ir::tensor::{Tensor, checked_elems};
use adze_ir::types::{Layout, TensorType};

use super::cost::{Core, Profile};
use super::lower::{LeafCx, Lowered, Operand, PtrRole, Unsupported, backwards, lower_leaf, schedules};
use super::machine::Machine;
use super::rules::FAMILIES;

/// A CPU as passes see it. Remembers what it was asked: the same layer comes many times in a network.
#[derive(Debug)]
pub struct CpuModel {
    machine: Machine,
    core: Core,
    known: RefCell<BTreeMap<Question, Vec<Proposal>>>,
}

/// Everything that proposals depend on.
type Question = (Op, Vec<Option<(TensorType, bool)>>, Vec<TensorType>, Dims);

impl CpuModel {
    /// The model of a machine.
    pub fn new(machine: Machine) -> Self {
        let core = Core::of(&machine);
        Self { machine, core, known: RefCell::default() }
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    fn offer(&self, op: &Op, facts: &OpFacts<'_>) -> Vec<Proposal> {
        let ways = schedules_of(op, facts, &self.machine);
        let weigh = |schedule: Option<Schedule>| {
            let draft = Draft::new(op, facts, &self.machine, schedule.as_ref()).ok()?;
            let cost = draft.cost(&self.core);
            Some(Proposal { schedule, cost, scratch_bytes: draft.scratch_bytes })
        };
        best(ways.into_iter().filter_map(weigh).collect())
    }
}

/// The ways to compute an operator: schedules, or the only one.
pub fn schedules_of(op: &Op, facts: &OpFacts<'_>, machine: &Machine) -> Vec<Option<Schedule>> {
    let Some((inputs, outputs)) = operands(op, facts) else { return Vec::new() };
    ways(&LeafCx { op, inputs: &inputs, outputs: &outputs, dims: facts.dims, machine, schedule: None })
}

fn ways(cx: &LeafCx<'_>) -> Vec<Option<Schedule>> {
    let listed = schedules(cx);
    if listed.is_empty() { vec![None] } else { listed.into_iter().map(Some).collect() }
}

/// The kernels of a leaf: by the schedule that it states, or by the cheapest one.
///
/// # Errors
/// [`Unsupported`] when the machine has no kernel for it.
pub fn lower_best(cx: &LeafCx<'_>, core: &Core) -> Result<Vec<Lowered>, Unsupported> {
    if cx.schedule.is_some() {
        return lower_leaf(cx);
    }
    let mut best: Option<(u64, Vec<Lowered>)> = None;
    for schedule in ways(cx) {
        let cx = LeafCx { schedule: schedule.as_ref(), ..*cx };
        if schedule.is_none() {
            return lower_leaf(&cx);
        }
        let draft = Draft::of(&cx)?;
        let weight = draft.cost(core).weight();
        if best.as_ref().is_none_or(|(least, _)| weight < *least) {
            best = Some((weight, draft.lowered));
        }
    }
    Ok(best.map(|(_, lowered)| lowered).unwrap_or_default())
}

/// An operator lowered for its cost.
pub struct Draft {
    /// Its kernels.
    pub lowered: Vec<Lowered>,
    /// What they do.
    pub profile: Profile,
    /// Bytes of working memory of the kernel that takes most.
    pub scratch_bytes: u64,
    /// Bytes that packing adds to the constants, which are stored packed in place of what they were.
    padding_bytes: u64,
}

impl Draft {
    /// Lowers an operator of a graph; every byte of its constants is zero.
    ///
    /// # Errors
    /// [`Unsupported`] when the machine has no kernel for it.
    pub fn new(
        op: &Op,
        facts: &OpFacts<'_>,
        machine: &Machine,
        schedule: Option<&Schedule>,
    ) -> Result<Draft, Unsupported> {
        let blocked = || Unsupported { found: "a blocked layout".into(), accepted: "a permutation of the axes".into() };
        let (inputs, outputs) = operands(op, facts).ok_or_else(blocked)?;
        Draft::of(&LeafCx { op, inputs: &inputs, outputs: &outputs, dims: facts.dims, machine, schedule })
    }

    /// Lowers a leaf.
    ///
    /// # Errors
    /// [`Unsupported`] when the machine has no kernel for it.
    pub fn of(cx: &LeafCx<'_>) -> Result<Draft, Unsupported> {
        let lowered = lower_leaf(cx)?;
        let profile = Profile::of(&lowered, cx);
        let (mut scratch_bytes, mut packed) = (0, 0);
        for part in &lowered {
            let mut own = 0;
            for role in &part.pointers {
                match role {
                    PtrRole::Packed(weight) => packed += weight.bytes() as u64,
                    PtrRole::Scratch(bytes) => own += u64::try_from(bytes.upper(cx.dims)).unwrap_or(0),
                    PtrRole::Input(_) | PtrRole::Output(_) => {}
                }
            }
            scratch_bytes = scratch_bytes.max(own);
        }
        let constants = cx.inputs.iter().flatten().filter_map(|o| o.constant.as_ref());
        let given: u64 = constants.map(|c| c.dtype().bytes_for(c.elems()) as u64).sum();
        Ok(Draft { lowered, profile, scratch_bytes, padding_bytes: packed.saturating_sub(given) })
    }

    /// What it costs on a core.
    pub fn cost(&self, core: &Core) -> Cost {
        let rodata = self.padding_bytes.saturating_add(self.profile.code_bytes());
        // The time of the traffic is in the cycles.
        Cost { cycles: self.profile.cycles(core).round() as u64, bytes: 0, rodata }
    }
}

impl Propose for CpuModel {
    fn propose(&self, op: &Op, facts: &OpFacts<'_>) -> Vec<Proposal> {
        if matches!(op, Op::Constant(_)) || names_bytes(op, facts) {
            // Data, and other names for data.
            return vec![Proposal::default()];
        }
        let question = (op.clone(), facts.operands(), facts.outputs.to_vec(), facts.dims.clone());
        if let Some(known) = self.known.borrow().get(&question) {
            return known.clone();
        }
        let offered = self.offer(op, facts);
        self.known.borrow_mut().insert(question, offered.clone());
        offered
    }

    fn families(&self) -> &'static [Family] {
        FAMILIES
    }

    fn backwards(&self, schedule: &Schedule) -> Option<Schedule> {
        backwards(schedule)
    }

    fn cache(&self) -> Option<Cache> {
        let Core { l2_bytes, l2_rate, .. } = self.core;
        let beyond = self.core.byte_cycles(l2_bytes + 1.0) - 1.0 / l2_rate;
        Some(Cache { bytes: l2_bytes as u64, beyond: (beyond * 1024.0).round() as u64 })
    }
}

/// The proposals that no other one beats in every respect, cheapest first.
fn best(mut proposals: Vec<Proposal>) -> Vec<Proposal> {
    proposals.sort_by_key(|p| (p.cost.weight(), p.scratch_bytes, p.cost.rodata));
    let mut kept: Vec<Proposal> = Vec::new();
    for proposal in proposals {
        let beaten =
            kept.iter().any(|k| k.scratch_bytes <= proposal.scratch_bytes && k.cost.rodata <= proposal.cost.rodata);
        if !beaten && kept.len() < MAX_PROPOSALS {
            kept.push(proposal);
        }
    }
    kept
}

/// The operands as a leaf would see them; `None` for layouts that kernels do not read.
fn operands(op: &Op, facts: &OpFacts<'_>) -> Option<(Vec<Option<Operand>>, Vec<Operand>)> {
    let last = |ty: &TensorType| (ty.layout.is_plain() && ty.rank() >= 3).then(|| Layout::channels_last(ty.rank()));
    // Windows write channels last once layouts are assigned: a plain result says that they are not yet.
    let unassigned = is_window(op) && facts.outputs.iter().all(|ty| ty.layout.is_plain());
    let many = |ty: &TensorType| ty.shape.get(1).and_then(Extent::as_const).is_none_or(|n| n >= MIN_CHANNELS);
    let inputs: Option<Vec<Option<Operand>>> = facts
        .inputs
        .iter()
        .enumerate()
        .map(|(index, ty)| {
            let Some(ty) = ty else { return Some(None) };
            let full = facts.outputs.first().is_some_and(|out| out.rank() == ty.rank() && out.shape == ty.shape);
            let moves = unassigned && ((index == 0 && many(ty)) || (full && !facts.is_fixed(index)));
            let layout = last(ty).filter(|_| moves);
            operand(ty, layout, facts.is_fixed(index)).map(Some)
        })
        .collect();
    let outputs: Option<Vec<Operand>> =
        facts.outputs.iter().map(|ty| operand(ty, last(ty).filter(|_| unassigned), false)).collect();
    Some((inputs?, outputs?))
}

/// Whether results are pieces of the operand as it lies, so that lowering gives them no kernel. Images are not counted: they
/// will lie channels last around convolutions.
fn names_bytes(op: &Op, facts: &OpFacts<'_>) -> bool {
    if matches!(op, Op::Reshape(_)) {
        return true;
    }
    let Some(Some(source)) = facts.inputs.first() else { return false };
    if let (Op::Transpose(by), [result]) = (op, facts.outputs) {
        let whole = source.dtype.bits() >= 8;
        return whole && same_bytes(&source.shape, (&source.layout, &result.layout), &by.perm);
    }
    let plain = source.layout.is_plain() && facts.outputs.iter().all(|ty| ty.layout.is_plain());
    if !plain || source.dtype.bits() < 8 {
        return false;
    }
    let matters = |axis: &usize| source.shape[*axis] != Extent::ONE;
    let outermost = |axis: usize| source.rank() <= 3 && !(0..axis).any(|before| matters(&before));
    match op {
        Op::Split(op) => outermost(op.axis),
        Op::Slice(op) => {
            let [result] = facts.outputs else { return false };
            let mut cut = op.axes.iter().filter(|&&axis| result.shape[axis] != source.shape[axis]);
            op.steps.iter().all(|&step| step == 1)
                && cut.next().is_none_or(|&axis| outermost(axis))
                && cut.next().is_none()
        }
        _ => false,
    }
}

/// Fewer channels are read where they lie, as layouts are assigned.
const MIN_CHANNELS: i64 = 8;

/// Whether the operator slides a window over images.
fn is_window(op: &Op) -> bool {
    match op {
        Op::Fused(fused) => is_window(&fused.anchor().op),
        Op::Conv(_) | Op::ConvStored(_) | Op::WinogradConv(_) | Op::ConvTranspose(_) => true,
        op => matches!(op, Op::MaxPool(_) | Op::AveragePool(_) | Op::LpPool(_)),
    }
}

fn operand(ty: &TensorType, layout: Option<Layout>, fixed: bool) -> Option<Operand> {
    let strides = layout.as_ref().unwrap_or(&ty.layout).strides(&ty.shape)?;
    // Single numbers are told apart by value, which is not known here: as operands they cost the same.
    let shape = ty.fixed_shape().filter(|shape| fixed && checked_elems(shape).is_some_and(|n| n > 1));
    let constant = shape.map(|shape| {
        let bytes = ty.dtype.bytes_for(shape.iter().product());
        Tensor::lazy(ty.dtype, &shape, move || vec![0; bytes])
    });
    Some(Operand { dtype: ty.dtype, shape: ty.shape.clone(), strides, offset: Extent::ZERO, bounds: None, constant })
}

#[cfg(test)]
mod tests {
    use adze_ir::ops::{Conv, ConvTranspose, MatMul, Slice, Softmax, Transpose, Unary, UnaryFn};
    use adze_ir::propose::CostModel;
    use adze_ir::types::DType;

    use super::*;

    /// Asks the model of a machine about an operator on operands of these shapes, all but the first of them constants.
    fn ask<R>(
        machine: &str,
        op: impl Into<Op>,
        shapes: &[&[usize]],
        ask: impl FnOnce(&CpuModel, &Op, &OpFacts<'_>) -> R,
    ) -> R {
        let op = op.into();
        let types: Vec<TensorType> = shapes.iter().map(|shape| TensorType::fixed(DType::F32, shape)).collect();
        let inputs: Vec<Option<&TensorType>> = types.iter().map(Some).collect();
        let fixed: Vec<bool> = (0..shapes.len()).map(|index| index > 0).collect();
        let outputs = op.infer(&inputs).unwrap();
        let facts = OpFacts { inputs: &inputs, fixed: &fixed, outputs: &outputs, dims: &Dims::new() };
        ask(&CpuModel::new(Machine::from_name(machine).unwrap()), &op, &facts)
    }

    fn cycles(machine: &str, op: impl Into<Op>, shapes: &[&[usize]]) -> u64 {
        ask(machine, op, shapes, |model, op, facts| {
            let cost = model.cost(op, facts).expect("it has a kernel");
            assert_eq!(model.cost(op, facts), Some(cost), "the same question has the same answer");
            cost.cycles
        })
    }

    #[test]
    fn proposals_are_few_and_none_beats_another() {
        for name in Machine::NAMES {
            for shapes in [[&[49, 64][..], &[64, 96]], [&[1, 300], &[300, 500]], [&[7, 5], &[5, 3]]] {
                ask(name, matmul(), &shapes, |model, op, facts| {
                    let offered = model.propose(op, facts);
                    assert!((1..=MAX_PROPOSALS).contains(&offered.len()), "{name}: {offered:?}");
                    assert!(offered.is_sorted_by_key(|p| p.cost.weight()), "{name}: {offered:?}");
                    for (index, later) in offered.iter().enumerate() {
                        let less = |earlier: &Proposal| {
                            later.scratch_bytes < earlier.scratch_bytes || later.cost.rodata < earlier.cost.rodata
                        };
                        assert!(offered[..index].iter().all(less), "{name}: {offered:?}");
                    }
                    assert_eq!(model.schedule(op, facts), offered[0].schedule, "{name}");
                });
            }
        }
    }

    #[test]
    fn what_has_no_kernel_has_no_proposal() {
        let op = ConvTranspose {
            strides: vec![2; 2],
            pads: vec![0; 4],
            output_padding: vec![0; 2],
            dilations: vec![1; 2],
            group: 1,
        };
        let shapes: [&[usize]; 2] = [&[1, 8, 5, 5], &[8, 4, 3, 3]];
        ask("aarch64", op, &shapes, |model, op, facts| {
            assert!(model.cost(op, facts).is_some(), "a constant kernel");
            assert_eq!(model.propose(op, &OpFacts { fixed: &[], ..*facts }), Vec::new(), "a computed one");
        });
    }

    #[test]
    fn pieces_of_rows_are_free() {
        let slice = |axis: usize, step: i64| Slice {
            axes: vec![axis],
            starts: vec![Extent::from(1)],
            sizes: vec![Extent::from(2)],
            steps: vec![step],
        };
        let x: [&[usize]; 1] = [&[1, 8, 6]];
        assert_eq!(cycles("x86_64-v3", slice(1, 1), &x), 0);
        assert!(cycles("x86_64-v3", slice(1, 2), &x) > 0);
        assert!(cycles("x86_64-v3", slice(2, 1), &x) > 0);
        assert_eq!(cycles("x86_64-v3", Transpose { perm: vec![1, 0, 2] }, &x), 0);
        assert!(cycles("x86_64-v3", Transpose { perm: vec![0, 2, 1] }, &x) > 0);
    }

    fn matmul() -> MatMul {
        MatMul { trans_a: false, trans_b: false }
    }

    fn conv(stride: i64) -> Conv {
        Conv { strides: vec![stride; 2], pads: vec![1; 4], dilations: vec![1; 2], group: 1 }
    }

    #[test]
    fn a_large_product_runs_near_the_peak_and_never_over_it() {
        for name in ["x86_64-v3", "x86_64-v4", "aarch64"] {
            let found = cycles(name, matmul(), &[&[256, 256], &[256, 256]]);
            let lanes = u64::from(Machine::from_name(name).unwrap().vector_bytes / 4);
            let least = 256 * 256 * 256 / lanes / 2;
            assert!((least..least * 3 / 2).contains(&found), "{name}: {found}, at least {least}");
        }
        let machine = |name| cycles(name, matmul(), &[&[64, 64], &[64, 64]]);
        assert!(machine("x86_64-v2") > machine("x86_64-v3"), "a product and a sum against one instruction");
        assert!(machine("riscv64gc") > machine("riscv64gcv"), "scalars against vectors");
    }

    #[test]
    fn more_work_costs_more() {
        let of = |ci: usize, size: usize| cycles("x86_64-v3", conv(1), &[&[1, ci, size, size], &[32, ci, 3, 3]]);
        assert!(of(16, 28) < of(16, 56) && of(16, 56) < of(64, 56));
        let strided = cycles("x86_64-v3", conv(2), &[&[1, 16, 56, 56], &[32, 16, 3, 3]]);
        assert!(strided < of(16, 56) / 2, "a quarter of the outputs");
        let exp = cycles("x86_64-v3", Unary { function: UnaryFn::Exp }, &[&[64, 256]]);
        assert!(exp > cycles("x86_64-v3", Unary { function: UnaryFn::Relu }, &[&[64, 256]]));
        let rows = cycles("x86_64-v3", Softmax { axis: 1, flatten: false }, &[&[64, 256]]);
        assert!(rows > exp);
    }

    #[test]
    fn one_row_waits_for_the_weights() {
        let one = cycles("x86_64-v3", matmul(), &[&[1, 2048], &[2048, 2048]]);
        let many = cycles("x86_64-v3", matmul(), &[&[64, 2048], &[2048, 2048]]);
        assert!(many < 64 * one / 2, "16 MB of weights are read once for all rows: {many} against 64 x {one}");
    }
}

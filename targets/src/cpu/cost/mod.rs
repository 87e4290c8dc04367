//! What a kernel costs: cycles read off the very kernel that a schedule generates.
//!
//! A kernel is reduced to its loops (`tree`), every block is given its number of executions (`walk`) and its bytes by
//! distance of reuse (`memory`). A block takes as long as the busiest part of the core is busy with it, or as its longest
//! chain from iteration to iteration takes; a kernel takes its blocks or its memory, whichever is longer, and a share of
//! the other. What an operation takes on a machine is data ([`Core`]), fitted to measurements where we have the machine
//! (`cargo bench -p adze-targets --bench fit`).

mod classes;
mod core;
mod memory;
mod tree;
mod walk;

use adze_ir::extent::Dims;

use self::classes::{Class, Ops};
pub use self::core::{Core, CoreError};
use self::memory::Traffic;
use self::tree::{Child, Node};
use self::walk::Symbols;
use super::kernel::ir::{HI, LO};
use super::lower::{LeafCx, Lowered, PtrRole};
use super::machine::Machine;

/// Bytes of a machine operation, on vectors with addresses.
const BYTES_PER_OPERATION: f64 = 6.0;

/// What a kernel does over its whole tile range; no property of the core is in it but its registers.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    blocks: Vec<Block>,
    traffic: Traffic,
    /// Loops whose end the core does not foresee.
    surprises: f64,
    /// Number of kernels.
    kernels: f64,
    /// Machine operations in the code.
    code: f64,
}

/// A block of straight code.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// Executions.
    times: f64,
    /// Operations of one.
    ops: Ops,
    /// Cycles from iteration to iteration.
    chain: f64,
    /// Operations of the loop around it from entering to leaving it, in the mean.
    span: f64,
}

impl Profile {
    /// The profile of a leaf's kernels. Named dimensions are at the upper ends of their ranges.
    pub fn of(lowered: &[Lowered], cx: &LeafCx<'_>) -> Profile {
        let mut profile = Profile { kernels: lowered.len() as f64, ..Profile::default() };
        for part in lowered {
            profile.add(part, cx.dims, cx.machine, &sizes(part, cx));
        }
        profile
    }

    fn add(&mut self, part: &Lowered, dims: &Dims, machine: &Machine, sizes: &[f64]) {
        let mut tree = tree::reduce(&part.kernel, machine);
        let mut symbols = Symbols::default();
        for dim in &part.kernel.dims {
            symbols.push(&dim.name, dims.get(&dim.name).map_or(1, |range| range.hi));
        }
        symbols.push(&LO.into(), 0);
        symbols.push(&HI.into(), part.range.upper(dims));
        walk::count(&mut tree, 1.0, &mut symbols, 0);
        let traffic = memory::traffic(&tree, &mut symbols, sizes);
        self.traffic.once += traffic.once;
        self.traffic.different += traffic.different;
        self.traffic.reuses.extend(traffic.reuses);
        self.collect(&tree);
    }

    fn collect(&mut self, node: &Node) {
        self.code += node.ops.total();
        if node.times > 0.0 {
            let span = node.span / node.times;
            self.blocks.push(Block { times: node.times, ops: node.ops, chain: node.chain, span });
        }
        for child in &node.children {
            match child {
                Child::Bind(..) => {}
                Child::If(_, sides) => sides.iter().for_each(|side| self.collect(side)),
                Child::Loop(inner) => {
                    self.surprises += inner.surprises;
                    self.collect(&inner.body);
                }
            }
        }
    }

    /// Estimated cycles on a core.
    pub fn cycles(&self, core: &Core) -> f64 {
        let busy: f64 = self.blocks.iter().map(|block| block.times * block.cycles(core)).sum();
        let busy = busy + self.surprises * core.entry;
        let waits = self.memory(core);
        busy.max(waits) + core.overlap * busy.min(waits) + core.start * self.kernels
    }

    /// Bytes of code, roughly.
    pub fn code_bytes(&self) -> u64 {
        (self.code * BYTES_PER_OPERATION) as u64
    }

    /// Cycles that the memory takes to bring the bytes that are not in the first cache.
    fn memory(&self, core: &Core) -> f64 {
        let reuse: f64 = self.traffic.reuses.iter().map(|r| r.bytes * core.byte_cycles(r.distance)).sum();
        reuse + self.traffic.once * core.byte_cycles(self.traffic.different)
    }
}

/// Bytes of each parameter of a kernel.
fn sizes(part: &Lowered, cx: &LeafCx<'_>) -> Vec<f64> {
    let operand = |operand: &super::lower::Operand| {
        let elems: f64 = operand.shape.iter().map(|e| e.upper(cx.dims) as f64).product();
        elems * f64::from(operand.dtype.bits()) / 8.0
    };
    part.pointers
        .iter()
        .map(|role| match role {
            PtrRole::Input(index) => cx.inputs[*index].as_ref().map_or(0.0, operand),
            PtrRole::Output(index) => operand(&cx.outputs[*index]),
            PtrRole::Packed(weight) => weight.bytes() as f64,
            PtrRole::Scratch(bytes) => bytes.upper(cx.dims) as f64,
        })
        .collect()
}

impl Block {
    /// Cycles of one execution.
    fn cycles(&self, core: &Core) -> f64 {
        let get = |class| self.ops.get(class);
        let shuffles = get(Class::Shuffle) * core.shuffle;
        let arithmetic = shuffles * core.shared
            + get(Class::Fma) * core.fma
            + get(Class::Arith) * core.arith
            + get(Class::Convert) * core.convert
            + get(Class::Divide) * core.divide;
        let memory = (get(Class::Load) * core.load).max(get(Class::Store) * core.store);
        let all = self.ops.total() + get(Class::Turn);
        let issue = all * core.issue + get(Class::Int) * (core.int - core.issue).max(0.0);
        // A loop that is over within the window of the core overlaps with the next one.
        let chain = self.chain * core.chain * (self.span / core.window).min(1.0);
        let longest = [arithmetic, shuffles, memory, issue, chain].into_iter().fold(0.0, f64::max);
        longest + get(Class::Branch) * core.branch
    }
}

//! A kernel reduced to what its cost depends on: loops, branches, bound symbols, memory accesses, and how many machine
//! operations of each class a block holds.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::extent::{Extent, Sym};

use super::classes::{Class, Ops, classify, has_own_emitter, latency, parts};
use crate::cpu::Machine;
use crate::cpu::kernel::ir::{Addr, Block, Cond, For, Kernel, Op, Stmt, Value};

/// A block.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Machine operations of one execution, loops and branches inside not counted.
    pub ops: Ops,
    /// Cycles from the values that a loop carries to those of its next iteration.
    pub chain: f64,
    /// Loads and stores.
    pub accesses: Vec<Access>,
    /// Everything that has control flow, in order.
    pub children: Vec<Child>,
    /// Executions, once the tree was walked.
    pub times: f64,
    /// Operations of the loop that this is the body of, from entering it to leaving it, over all executions.
    pub span: f64,
}

/// A load or store.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// Index of the parameter.
    pub param: usize,
    /// Elements from its start.
    pub offset: Extent,
    /// Bytes of an element in memory.
    pub elem_bytes: i64,
    /// Elements.
    pub elems: i64,
    /// Whether it is a store.
    pub writes: bool,
}

/// A statement with control flow.
#[derive(Clone, Debug)]
pub(super) enum Child {
    /// A loop.
    Loop(Box<Loop>),
    /// A branch; without condition, either side is as likely.
    If(Option<(Extent, crate::cpu::kernel::Cmp, Extent)>, Box<[Node; 2]>),
    /// A symbol with its value, if that is an extent.
    Bind(Sym, Option<Extent>),
}

/// A loop.
#[derive(Clone, Debug)]
pub(super) struct Loop {
    /// Its variable.
    pub var: Sym,
    /// First value.
    pub lo: Extent,
    /// Values stay below.
    pub hi: Extent,
    /// Distance of values.
    pub step: i64,
    /// Whether what runs inside depends on the variable.
    pub varies: bool,
    /// The body.
    pub body: Node,
    /// How often its end comes as a surprise to the core, once the tree was walked.
    pub surprises: f64,
}

/// Reduces a kernel.
pub(super) fn reduce(kernel: &Kernel, machine: &Machine) -> Node {
    let mut reducer = Reducer { kernel, machine, extents: BTreeMap::new(), loaded: BTreeSet::new() };
    reducer.block(&kernel.body, &[], &[]).0
}

struct Reducer<'a> {
    kernel: &'a Kernel,
    machine: &'a Machine,
    /// Values that are extents.
    extents: BTreeMap<Value, Extent>,
    /// Values that come from memory as they are.
    loaded: BTreeSet<Value>,
}

impl Reducer<'_> {
    /// The block, and the symbols that its control flow reads.
    fn block(&mut self, stmts: &[Stmt], carried: &[Value], yields: &[Value]) -> (Node, BTreeSet<Sym>) {
        let (mut node, mut reads) = (Node::default(), BTreeSet::new());
        // Cycles from a carried value to each value that depends on one.
        let mut reach: BTreeMap<Value, f64> = carried.iter().map(|&v| (v, 0.0)).collect();
        for stmt in stmts {
            match stmt {
                Stmt::Let { result, op } => self.op(*result, op, &mut node, &mut reach, &mut reads),
                Stmt::Store { addr, value } => {
                    let ty = self.kernel.values[*value];
                    node.ops.add(Class::Store, parts(ty, self.machine));
                    self.access(addr, ty.lanes.into(), true, &mut node);
                }
                Stmt::StoreFirst { addr, count, value } => {
                    let ty = self.kernel.values[*value];
                    let pieces = if self.machine.has_masks() { 1.0 } else { f64::from(count.count_ones()) };
                    node.ops.add(Class::Store, pieces.max(parts(ty.with_lanes(*count), self.machine)));
                    node.ops.add(Class::Shuffle, pieces - 1.0);
                    self.access(addr, (*count).into(), true, &mut node);
                }
                Stmt::Bind { sym, value } => {
                    node.children.push(Child::Bind(sym.clone(), self.extents.get(value).cloned()));
                }
                Stmt::For(f) => self.loop_(f, &mut node, &mut reach, &mut reads),
                Stmt::If { cond, then, other, results } => {
                    let sides = [then, other].map(|side| self.side(side, &mut reads));
                    node.ops.add(Class::Branch, 1.0);
                    let cond = match cond {
                        Cond::Extent(a, cmp, b) => {
                            a.symbols(&mut reads);
                            b.symbols(&mut reads);
                            Some((a.clone(), *cmp, b.clone()))
                        }
                        Cond::Value(_) => None,
                    };
                    for (index, &result) in results.iter().enumerate() {
                        let from = [then, other].map(|b| b.yields.get(index).and_then(|y| reach.get(y)).copied());
                        if let Some(cycles) = from.into_iter().flatten().reduce(f64::max) {
                            reach.insert(result, cycles);
                        }
                    }
                    node.children.push(Child::If(cond, Box::new(sides)));
                }
                Stmt::Guard { .. } => node.ops.add(Class::Int, 2.0),
                Stmt::Prefetch { .. } => node.ops.add(Class::Load, 1.0),
            }
        }
        node.chain = yields.iter().filter_map(|y| reach.get(y)).fold(0.0, |most, &c| most.max(c));
        (node, reads)
    }

    fn side(&mut self, block: &Block, reads: &mut BTreeSet<Sym>) -> Node {
        let (node, inner) = self.block(&block.stmts, &[], &[]);
        reads.extend(inner);
        node
    }

    fn op(
        &mut self,
        result: Value,
        op: &Op,
        node: &mut Node,
        reach: &mut BTreeMap<Value, f64>,
        reads: &mut BTreeSet<Sym>,
    ) {
        let ty = self.kernel.values[result];
        match op {
            Op::Extent(extent) => {
                extent.symbols(reads);
                self.extents.insert(result, extent.clone());
            }
            Op::Load(addr) => {
                self.access(addr, ty.lanes.into(), false, node);
                self.loaded.insert(result);
            }
            Op::LoadFirst(addr, count) => self.access(addr, (*count).into(), false, node),
            _ => {}
        }
        // A word from memory in every lane is one load where we emit the code.
        let word = ty.elem.bits() >= 32 && has_own_emitter(self.machine);
        let broadcast = word && matches!(op, Op::Splat(v) if self.loaded.contains(v));
        if !broadcast {
            classify(op, ty, &|v| self.kernel.values[v], self.machine, &mut node.ops);
        }
        let mut from: Option<f64> = None;
        op.for_each_operand(|v| {
            if let Some(&cycles) = reach.get(&v) {
                from = Some(from.map_or(cycles, |best| best.max(cycles)));
            }
        });
        if let Some(cycles) = from {
            reach.insert(result, cycles + latency(op, ty, self.machine));
        }
    }

    fn loop_(&mut self, f: &For, node: &mut Node, reach: &mut BTreeMap<Value, f64>, reads: &mut BTreeSet<Sym>) {
        let (mut body, mut inner) = self.block(&f.body.stmts, &f.args, &f.body.yields);
        body.ops.add(Class::Turn, 1.0);
        let varies = inner.remove(&f.var);
        reads.extend(inner);
        f.lo.symbols(reads);
        f.hi.symbols(reads);
        // The iterations take their own time: through the loop a value costs nothing more.
        for (init, &result) in f.inits.iter().zip(&f.results) {
            if let Some(&cycles) = reach.get(init) {
                reach.insert(result, cycles);
            }
        }
        let (var, lo, hi) = (f.var.clone(), f.lo.clone(), f.hi.clone());
        node.children.push(Child::Loop(Box::new(Loop { var, lo, hi, step: f.step, varies, body, surprises: 0.0 })));
    }

    fn access(&self, addr: &Addr, elems: i64, writes: bool, node: &mut Node) {
        let bits = i64::from(self.kernel.params[addr.param].dtype.bits());
        node.accesses.push(Access {
            param: addr.param.as_u32() as usize,
            offset: addr.offset.clone(),
            elem_bytes: (bits / 8).max(1),
            elems,
            writes,
        });
    }
}

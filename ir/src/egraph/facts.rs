//! What is known about an e-class: egg's analysis.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use egg::{Analysis, DidMerge, Id};

use super::log::Step;
use super::prints::Fingerprint;
use super::reads::{Read, Reads};
use super::{EGraph, ENode};
use crate::extent::Dims;
use crate::graph::{ConstEntry, ConstTable};
use crate::ops::{ConstId, Op};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Facts about an e-class. Both sides of a union must agree on types and attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Types of the results; empty for attributes and absent operands.
    pub types: Vec<TensorType>,
    /// The attribute leaf that it is.
    pub attr: Option<u32>,
    /// The constant that it is.
    pub constant: Option<ConstId>,
    /// Computed from constants only.
    pub fixed: bool,
    /// Its value on random operands, where it is small and somebody looks.
    pub print: Option<Fingerprint>,
}

impl Facts {
    /// The type of a value with one result.
    pub fn ty(&self) -> Option<&TensorType> {
        match self.types.as_slice() {
            [ty] => Some(ty),
            _ => None,
        }
    }
}

/// A union of things that differ: a bug of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleBug {
    /// The rule that was being applied.
    pub rule: &'static str,
    /// The facts that differ, or the node that does not type-check.
    pub what: String,
}

/// Tables that e-nodes index, and egg's analysis over them.
#[derive(Clone, Debug, Default)]
pub struct Known {
    ops: Vec<Op>,
    op_ids: BTreeMap<Op, u32>,
    made: BTreeMap<(TensorType, Vec<u8>), ConstId>,
    /// Constants of the region and those that rules made.
    consts: ConstTable,
    /// How many are the region's.
    given: usize,
    pub(super) reads: RefCell<Reads>,
    /// Types of values from outside.
    pub inputs: BTreeMap<u32, TensorType>,
    /// Which of them lie channels last, as far as that is known before layouts are assigned.
    pub channels_last: BTreeSet<u32>,
    /// Ranges of the named dimensions.
    pub dims: Dims,
    /// The rule being applied.
    pub(super) rule: &'static str,
    /// What rules did; `None` where nobody asks.
    pub log: Option<Vec<Step>>,
    /// What the rule being applied added.
    pub(super) adding: Vec<(Id, ENode)>,
    /// Whether classes get fingerprints.
    pub(super) prints: bool,
    /// What went wrong; a region with one falls back to its source.
    pub bugs: Vec<RuleBug>,
}

impl Known {
    /// Empty tables over named dimensions of these ranges; where assertions are on, rules are held to fingerprints.
    pub fn new(dims: Dims) -> Self {
        Self { dims, prints: cfg!(debug_assertions), ..Self::default() }
    }

    /// The number of an operator with its attributes.
    pub fn intern(&mut self, op: &Op) -> u32 {
        if let Some(&id) = self.op_ids.get(op) {
            return id;
        }
        let id = u32::try_from(self.ops.len()).expect("fewer than 2^32 operators");
        self.ops.push(op.clone());
        self.op_ids.insert(op.clone(), id);
        id
    }

    /// The operator of that number.
    pub fn op(&self, id: u32) -> &Op {
        &self.ops[id as usize]
    }

    /// Adds a constant of the region.
    pub(super) fn give(&mut self, entry: ConstEntry) -> ConstId {
        self.given += 1;
        self.consts.push(entry)
    }

    /// A constant for those who print: no rule learns anything of it.
    pub fn constant_entry(&self, id: ConstId) -> Option<&ConstEntry> {
        self.consts.get(id)
    }

    /// The bytes of a constant, where they are at hand. What rules look at here, two regions must have in common to be solved
    /// together: [`ask`](super::ask) asks for less.
    pub fn data(&self, id: ConstId) -> Option<&Tensor> {
        let data = self.peek(id)?;
        // Others were made by rules from what they read.
        if self.is_given(id) {
            self.reads.borrow_mut().bytes(id);
        }
        Some(data)
    }

    /// The same without a note: what is made of it must be noted.
    pub(super) fn peek(&self, id: ConstId) -> Option<&Tensor> {
        self.consts.get(id)?.data()
    }

    /// Whether a constant is one of the region.
    pub(super) fn is_given(&self, id: ConstId) -> bool {
        (id.as_u32() as usize) < self.given
    }

    pub(super) fn reads(&self) -> Vec<Read> {
        self.reads.borrow().list(|id| self.consts[id].digest())
    }

    /// A constant that a rule made.
    pub(super) fn made(&self, id: ConstId) -> Tensor {
        self.consts[id].data().expect("rules make constants of bytes").clone()
    }

    /// A constant of these bytes.
    pub fn constant(&mut self, tensor: Tensor) -> ConstId {
        let key = (tensor.ty(), tensor.bytes().to_vec());
        match self.made.get(&key) {
            Some(&id) => id,
            None => {
                let id = self.consts.push(ConstEntry::new("", tensor));
                self.made.insert(key, id);
                id
            }
        }
    }

    fn bug(&mut self, what: String) {
        self.bugs.push(RuleBug { rule: self.rule, what });
    }
}

impl Analysis<ENode> for Known {
    type Data = Facts;

    fn make(egraph: &mut EGraph, enode: &ENode, _: Id) -> Facts {
        let mut facts = match enode.kind.name() {
            "@attr" => Facts { attr: Some(enode.payload), ..Facts::default() },
            "@const" => {
                let id = ConstId::from_u32(enode.payload);
                let types = egraph.analysis.consts.get(id).map(ConstEntry::ty).into_iter().collect();
                Facts { types, constant: Some(id), fixed: true, ..Facts::default() }
            }
            "@input" => {
                let types = egraph.analysis.inputs.get(&enode.payload).cloned().into_iter().collect();
                Facts { types, ..Facts::default() }
            }
            "@get" => {
                let of = &egraph[enode.children[0]].data;
                let types = of.types.get(enode.payload as usize).cloned().into_iter().collect();
                Facts { types, fixed: of.fixed, ..Facts::default() }
            }
            "@none" | "@tuple" => Facts::default(),
            _ => make_op(egraph, enode),
        };
        if !facts.types.is_empty() {
            facts.print = Fingerprint::of(egraph, enode, &facts.types);
        }
        facts
    }

    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        if a.types != b.types || a.attr != b.attr {
            let what = format!("unites {:?} with {:?}", a.types, b.types);
            self.bug(what);
        } else if let (Some(x), Some(y)) = (&a.print, &b.print)
            && let Some(what) = x.difference(y)
        {
            self.bug(format!("unites values that differ: {what}"));
        }
        let (a_before, mut b_changed) = (a.clone(), false);
        a.fixed |= b.fixed;
        a.constant = a.constant.or(b.constant);
        a.print = Fingerprint::join(a.print.take(), b.print.clone());
        b_changed |= a.fixed != b.fixed || a.constant != b.constant || a.print != b.print;
        DidMerge(*a != a_before, b_changed)
    }
}

fn make_op(egraph: &mut EGraph, enode: &ENode) -> Facts {
    let Some(attr) = enode.children.first().and_then(|&id| egraph[id].data.attr) else {
        egraph.analysis.bug(format!("`{enode}` without attributes"));
        return Facts::default();
    };
    let operands: Vec<&Facts> = enode.children[1..].iter().map(|&id| &egraph[id].data).collect();
    let types: Vec<Option<&TensorType>> = operands.iter().map(|f| f.ty()).collect();
    // What depends on named dimensions is no constant, whatever its operands are; what is chosen among is none yet.
    let op = egraph.analysis.op(attr);
    let types = op.infer(&types);
    let source = matches!(op, Op::ExtentValue(_) | Op::Iota(_) | Op::Choice(_));
    let fixed = !source
        && operands.iter().all(|f| f.fixed || f.types.is_empty())
        && types.iter().flatten().all(|ty| ty.fixed_shape().is_some());
    match types {
        Ok(types) => Facts { types, fixed, ..Facts::default() },
        Err(error) => {
            egraph.analysis.bug(format!("`{enode}`: {error}"));
            Facts::default()
        }
    }
}

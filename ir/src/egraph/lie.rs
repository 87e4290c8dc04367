//! Layouts in the price of a choice: the copies between row-major and channels last that the pass `layout` will insert, by the
//! same [`habit`]s, and the transposes that only rename what lies channels last.

use egg::Id;

use super::extract::{Found, Table, op_of};
use super::rule::operands;
use super::{EGraph, ENode};
use crate::layout::{Habit, habit, same_bytes, same_memory, wants_channels_last};
use crate::ops::{Op, Relayout};
use crate::propose::{Cost, CostModel, OpFacts};
use crate::types::{Layout, TensorType};

/// How a value lies.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Lie {
    /// Row-major and channels last are the same for it, or it is from outside.
    #[default]
    Any,
    Plain,
    Last,
}

/// What a way does about layouts.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    habit: Habit,
    /// Operands of as many axes as the result, constants left out; for windows the first, where it is wanted channels last.
    full: Vec<usize>,
    /// Renames an operand that lies channels last.
    renames: bool,
}

impl Habits {
    /// Those of an operator that is computed at run time.
    pub fn of(egraph: &EGraph, node: &ENode, class: Id, place: impl Fn(&Id) -> usize) -> Option<Self> {
        let op = op_of(egraph, node).filter(|_| !egraph[class].data.fixed)?;
        let rank = egraph[class].data.types.first()?.rank();
        let habit = habit(op);
        let ty = |id: &Id| egraph[*id].data.ty();
        let full = |id: &&Id| {
            let wanted = match habit {
                Habit::Window => *id == &operands(node)[0] && ty(id).is_some_and(|ty| wants_channels_last(op, ty)),
                Habit::Keeps => ty(id).is_some_and(|ty| ty.rank() == rank),
                Habit::Reads | Habit::Plain => true,
            };
            wanted && !egraph[**id].data.fixed
        };
        let renames = match (op, operands(node).first().and_then(ty)) {
            (Op::Transpose(by), Some(x)) => {
                same_bytes(&x.shape, (&Layout::channels_last(x.rank()), &Layout::PLAIN), &by.perm)
            }
            _ => false,
        };
        Some(Self { habit, full: operands(node).iter().filter(full).map(place).collect(), renames })
    }

    /// Whether it gives its result a layout of its own.
    pub fn sets(&self) -> bool {
        self.habit == Habit::Window
    }

    /// Whether it may cost nothing.
    pub fn may_rename(&self) -> bool {
        self.renames
    }
}

/// What a copy of a class between the two layouts weighs; `None` where they are the same.
pub(super) fn copy_weight(egraph: &EGraph, class: Id, costs: &dyn CostModel) -> Option<u64> {
    let facts = &egraph[class].data;
    let ty = facts.types.first().filter(|_| !facts.fixed)?;
    let last = Layout::channels_last(ty.rank());
    if last.is_plain() || same_memory(ty, &last, &Layout::PLAIN) {
        return None;
    }
    let to = TensorType { layout: last.clone(), ..ty.clone() };
    let asked = OpFacts { inputs: &[Some(ty)], fixed: &[], outputs: &[to], dims: &egraph.analysis.dims };
    let cost = costs.cost(&Relayout { layout: last }.into(), &asked);
    Some(cost.map_or(0, Cost::weight))
}

/// What copies weigh that the choice needs, and what transposes weigh that it does not.
pub(super) fn copies(table: &Table, found: &Found) -> (u64, u64) {
    let (mut added, mut saved) = (0u64, 0u64);
    let mut lies = vec![Lie::Any; table.copy.len()];
    let mut copied = vec![false; table.copy.len()];
    for &class in &found.classes {
        let Some(way) = found.chosen[class].map(|at| &table.ways[at]) else { continue };
        let Some(habits) = &way.habits else {
            // A result of an operator with several lies as they all do.
            lies[class] = if way.node.is("@get") { lies[way.children[0]] } else { Lie::Any };
            continue;
        };
        let mut want = |operand: usize, lie: Lie| {
            if lies[operand] != Lie::Any && lies[operand] != lie && !std::mem::replace(&mut copied[operand], true) {
                added = added.saturating_add(table.copy[operand].unwrap_or(0));
            }
        };
        let any = |lie: Lie| habits.full.iter().any(|&operand| lies[operand] == lie);
        let lie = match habits.habit {
            Habit::Window => {
                habits.full.iter().for_each(|&operand| want(operand, Lie::Last));
                Lie::Last
            }
            Habit::Keeps if any(Lie::Last) => {
                habits.full.iter().for_each(|&operand| want(operand, Lie::Last));
                Lie::Last
            }
            Habit::Keeps if any(Lie::Plain) => Lie::Plain,
            Habit::Keeps => Lie::Any,
            Habit::Reads => {
                if habits.renames && any(Lie::Last) {
                    saved = saved.saturating_add(way.alone().saturating_sub(1));
                }
                Lie::Plain
            }
            Habit::Plain => {
                habits.full.iter().for_each(|&operand| want(operand, Lie::Plain));
                Lie::Plain
            }
        };
        lies[class] = if table.copy[class].is_some() { lie } else { Lie::Any };
    }
    (added, saved)
}

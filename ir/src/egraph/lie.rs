//! Layouts in the price of a choice: the copies between row-major and channels last that the pass `layout` will insert, at the places
//! where it will, and what operators weigh in the layout that they get there.

use egg::Id;
use petgraph::unionfind::UnionFind;

use super::extract::{Table, UNSUPPORTED, Way, asked, op_of};
use super::rule::operands;
use super::{EGraph, ENode};
use crate::layout::places::{LAST, Places, ROWS};
use crate::layout::{self, Habit, habit, wants_channels_last};
use crate::propose::{CostModel, OpFacts};

/// What a way does about layouts.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    habit: Habit,
    /// Operands of as many axes as the result, constants left out; for windows the first, where it is wanted channels last.
    full: Vec<usize>,
    /// Weight in a kernel of its own that reads them channels last, where it is not the same.
    pub last: Option<u64>,
}

impl Habits {
    /// Those of an operator that is computed at run time. A value from outside is as one that reads nothing.
    pub fn of(egraph: &EGraph, node: &ENode, class: Id, place: impl Fn(&Id) -> usize) -> Option<Self> {
        if node.is("@input") {
            let last = egraph.analysis.channels_last.contains(&node.payload);
            let habit = if last { Habit::Window } else { Habit::Plain };
            return Some(Self { habit, full: Vec::new(), last: None });
        }
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
        Some(Self { habit, full: operands(node).iter().filter(full).map(place).collect(), last: None })
    }
}

/// Asks what layouts cost, wherever a value could lie channels last for the sake of a window: copies of each class, and what its ways
/// weigh that read it so.
pub(super) fn price(egraph: &EGraph, table: &mut Table, costs: &dyn CostModel) {
    let open = open(table);
    for (class, &id) in table.ids.iter().enumerate() {
        let facts = &egraph[id].data;
        let around = OpFacts { inputs: &[], fixed: &[], outputs: &[], dims: &egraph.analysis.dims };
        let ty = facts.types.first().filter(|_| open[class] && !facts.fixed);
        table.copy[class] = ty.and_then(|ty| layout::copies(ty, &around, costs));
    }
    for (class, &(start, end)) in table.range.iter().enumerate() {
        for way in &mut table.ways[start..end] {
            let matters = |habits: &&mut Habits| habits.full.iter().any(|&operand| table.copy[operand].is_some());
            let Some(habits) = way.habits.as_mut().filter(matters) else { continue };
            let Some(op) = op_of(egraph, &way.node).filter(|op| layout::has_order(op)) else { continue };
            let pair = asked(egraph, table.ids[class], &way.node, |facts| layout::weights(op, facts, costs));
            // One more than the model says, as everywhere.
            habits.last = pair.map(|[_, last]| last.saturating_add(1));
        }
    }
}

/// The classes that could lie channels last for the sake of a window.
fn open(table: &Table) -> Vec<bool> {
    let window = table.ids.len();
    let mut joined = UnionFind::<usize>::new(window + 1);
    for (class, &(start, end)) in table.range.iter().enumerate() {
        for way in &table.ways[start..end] {
            let (with, made) = match &way.habits {
                Some(Habits { habit: Habit::Window, full, .. }) => (full.as_slice(), window),
                Some(Habits { habit: Habit::Keeps, full, .. }) => (full.as_slice(), class),
                None if way.node.is("@get") || way.node.is("@pick") => (way.children.as_slice(), class),
                _ => continue,
            };
            _ = joined.union(class, made);
            with.iter().for_each(|&operand| _ = joined.union(operand, made));
        }
    }
    (0..window).map(|class| joined.equiv(class, window)).collect()
}

/// The parts and values of a choice, made operands first.
pub(super) struct Lies<'a> {
    table: &'a Table,
    places: Places,
    /// By class, the part that its value lies as, where that matters.
    part: Vec<Option<usize>>,
    /// By class, its value where layouts differ.
    value: Vec<Option<usize>>,
}

impl<'a> Lies<'a> {
    pub fn new(table: &'a Table) -> Self {
        let none = vec![None; table.copy.len()];
        Self { table, places: Places::default(), part: none.clone(), value: none }
    }

    /// The next way, computed in the kernel of one of these operands if there are any; what it weighs in either layout, unless the
    /// places say.
    pub fn add(&mut self, class: usize, way: &Way, hosts: impl Iterator<Item = usize>) -> u64 {
        // As the pass `fuse` has it, sums come first.
        let host = hosts.max_by_key(|&host| (self.part[host].is_some_and(|part| part <= LAST), host));
        let weight = if host.is_some() { way.fused } else { way.alone };
        let Some(habits) = &way.habits else {
            if way.node.is("@get") {
                self.make(class, self.part[way.children[0]]);
            } else if way.node.is("@pick") {
                (self.part[class], self.value[class]) = (self.part[way.children[0]], self.value[way.children[0]]);
            }
            return weight;
        };
        let known = |&operand: &usize| self.value[operand].is_some();
        let matters = self.table.copy[class].is_some() || habits.full.iter().any(known);
        let (reads, made) = match habits.habit {
            Habit::Window => (Some(LAST), Some(LAST)),
            Habit::Plain => (Some(ROWS), Some(ROWS)),
            Habit::Reads => (habits.last.map(|_| self.places.part([0; 2])), Some(ROWS)),
            Habit::Keeps => {
                let own = host.and_then(|host| self.part[host]);
                let own = own.or_else(|| matters.then(|| self.places.part([0; 2])));
                (own, own)
            }
        };
        self.make(class, made);
        let Some(part) = reads else { return weight };
        for &operand in &habits.full {
            if let Some(value) = self.value[operand] {
                self.places.read(value, part);
            }
        }
        let Some(last) = habits.last.filter(|_| matters && host.is_none() && weight < UNSUPPORTED) else {
            return weight;
        };
        let either = weight.min(last);
        let [rows, channels_last] = &mut self.places.weights[part];
        (*rows, *channels_last) = (*rows + (weight - either), *channels_last + (last - either));
        either
    }

    fn make(&mut self, class: usize, part: Option<usize>) {
        self.part[class] = part;
        self.value[class] = part.zip(self.table.copy[class]).map(|(part, copy)| self.places.value(part, copy));
    }

    /// What copies weigh, and what ways weigh more than in the better layout.
    pub fn weight(&self) -> u64 {
        if self.places.values.is_empty() { 0 } else { self.places.cheapest().weight }
    }
}

//! Networks whose tensors do not fit into local memory: runs of nodes that are done part by part.
//!
//! A *unit* is a node whose result is made, with the float operators in front of it that are lowered together with it. A [`Cut`] is a run of units whose results
//! are made in parts along N and H: a part goes through all of them before the next one begins, from slices of tensors in
//! DDR memory to its place in one. Rows that the windows of two parts see are computed twice. What [`rewrite`] gives is an
//! ordinary graph of slices and concatenations, so that the interpreter says whether it means the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use adze_ir::graph::{Graph, Node, NodeId, ValueId};
use adze_ir::loc::Loc;
use adze_ir::ops::{Concat, Op, Slice};

use super::reach::{Part, extents, needs, operator};

/// A run of units that is done in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The units, by position in [`units`].
    pub units: Range<usize>,
    /// Number of parts along N.
    pub batch: usize,
    /// Number of parts along H.
    pub rows: usize,
    /// Constants stay in local memory from the first part to the last.
    pub resident: bool,
}

/// Values that make up another, and where along N and H.
pub type Pieces = Vec<(ValueId, [usize; 2])>;

/// A tensor that lies in DDR memory, or is put together in local memory.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Whether it lies in local memory.
    pub local: bool,
    /// The tensor as a whole.
    pub value: ValueId,
    /// What is stored in it.
    pub parts: Pieces,
    /// Values that only exist as parts of it.
    pub inner: Vec<ValueId>,
}

/// A graph in parts.
#[derive(Clone, Debug)]
pub struct Tiled {
    /// The graph.
    pub graph: Graph,
    /// Tensors in DDR memory, and those that are made of parts.
    pub wholes: Vec<Whole>,
    /// The unit that a node is of.
    pub units: BTreeMap<NodeId, usize>,
    /// The cut that a node is of, where constants stay.
    pub resident: BTreeMap<NodeId, usize>,
}

impl Tiled {
    /// A graph as it is.
    pub fn whole(graph: &Graph, made: &BTreeSet<ValueId>) -> Self {
        let all = units(graph, made).into_iter().enumerate().map(|(unit, node)| (node, unit)).collect();
        Self { graph: graph.clone(), wholes: Vec::new(), units: all, resident: BTreeMap::new() }
    }
}

/// The nodes whose results are among those that are made.
pub fn units(graph: &Graph, made: &BTreeSet<ValueId>) -> Vec<NodeId> {
    let gives = |node: &Node| node.outputs.first().is_some_and(|value| made.contains(value));
    graph.nodes().filter(|(_, node)| gives(node)).map(|(id, _)| id).collect()
}

/// A graph being rewritten.
struct Rewrite<'a> {
    old: &'a Graph,
    made: &'a BTreeSet<ValueId>,
    new: Graph,
    map: BTreeMap<ValueId, ValueId>,
    wholes: Vec<Whole>,
    spilled: &'a BTreeSet<ValueId>,
    units: BTreeMap<NodeId, usize>,
    resident: BTreeMap<NodeId, usize>,
    /// Nodes that read a value.
    readers: BTreeMap<ValueId, Vec<NodeId>>,
}

/// What one part of a cut has so far.
struct PartState<'a> {
    cut: &'a Cut,
    index: usize,
    unit: usize,
    /// What of each value there is in this part.
    need: BTreeMap<ValueId, Part>,
    made: BTreeMap<ValueId, ValueId>,
    slices: BTreeMap<(ValueId, Part), ValueId>,
}

/// Does the cuts in parts and stores the `spilled` values in DDR memory. `None` when a cut cannot be done so.
pub fn rewrite(graph: &Graph, made: &BTreeSet<ValueId>, cuts: &[Cut], spilled: &BTreeSet<ValueId>) -> Option<Tiled> {
    let units = units(graph, made);
    let position: BTreeMap<NodeId, usize> = units.iter().enumerate().map(|(at, &id)| (id, at)).collect();
    let mut new = Graph::new(graph.name.clone());
    new.consts = graph.consts.clone();
    let (wholes, map) = (Vec::new(), BTreeMap::new());
    let (units_of, resident) = (BTreeMap::new(), BTreeMap::new());
    let mut readers: BTreeMap<ValueId, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in graph.nodes() {
        node.inputs.iter().flatten().for_each(|&value| readers.entry(value).or_default().push(id));
    }
    let mut rewrite = Rewrite { old: graph, made, new, map, wholes, spilled, units: units_of, resident, readers };
    for &value in graph.inputs() {
        let name = graph.value(value).name.clone().unwrap_or_default();
        let input = rewrite.new.add_input(name, graph.ty(value).clone());
        rewrite.map.insert(value, input);
    }
    for (_, node) in graph.nodes() {
        if let Op::Constant(constant) = &node.op {
            let value = rewrite.new.add_const(constant.id, node.loc.clone());
            rewrite.map.insert(node.outputs[0], value);
        }
    }
    for (id, node) in graph.nodes().filter(|(_, node)| !matches!(node.op, Op::Constant(_))) {
        let unit = position.get(&id).copied();
        let cut = unit.and_then(|unit| cuts.iter().enumerate().find(|(_, cut)| cut.units.contains(&unit)));
        match (cut, unit) {
            (Some((index, cut)), Some(unit)) if unit == cut.units.start => rewrite.cut(cut, index, &units)?,
            (Some(_), _) => {}
            (None, _) => rewrite.copy(node, unit)?,
        }
    }
    for output in graph.outputs() {
        let value = *rewrite.map.get(&output.value)?;
        rewrite.new.add_output(output.name.clone(), value);
    }
    let Rewrite { new, wholes, units, resident, .. } = rewrite;
    Some(Tiled { graph: new, wholes, units, resident })
}

impl Rewrite<'_> {
    /// A node as it is; one whose operands were left out with a cut is dead.
    fn copy(&mut self, node: &Node, unit: Option<usize>) -> Option<()> {
        let operand = |value: &Option<ValueId>| match value {
            Some(value) => self.map.get(value).map(|&v| Some(v)),
            None => Some(None),
        };
        let Some(operands) = node.inputs.iter().map(operand).collect::<Option<Vec<_>>>() else { return Some(()) };
        let values = self.new.add(node.op.clone(), &operands, node.loc.clone()).ok()?;
        for (&old, &new) in node.outputs.iter().zip(&values) {
            self.new.set_name(new, self.old.value(old).name.clone());
            self.map.insert(old, new);
            self.note(new, unit, None);
            if self.spilled.contains(&old) {
                self.wholes.push(Whole { local: false, value: new, parts: vec![(new, [0, 0])], inner: Vec::new() });
            }
        }
        Some(())
    }

    fn note(&mut self, value: ValueId, unit: Option<usize>, resident: Option<usize>) {
        let id = self.new.producer(value).map(|(id, _)| id);
        if let Some(id) = id {
            self.units.extend(unit.map(|unit| (id, unit)));
            self.resident.extend(resident.map(|cut| (id, cut)));
        }
    }

    /// All parts of a cut.
    fn cut(&mut self, cut: &Cut, index: usize, units: &[NodeId]) -> Option<()> {
        let inside: Vec<NodeId> = units[cut.units.clone()].to_vec();
        let results: BTreeSet<ValueId> = inside.iter().map(|&id| self.old.node(id).outputs[0]).collect();
        let leaving = self.leaving(&results, &inside);
        let mut pieces: BTreeMap<ValueId, Vec<Pieces>> = BTreeMap::new();
        for n in 0..cut.batch {
            for h in 0..cut.rows {
                let mut need = BTreeMap::new();
                for &value in &leaving {
                    need.insert(value, self.own(cut, value, [n, h])?);
                }
                self.needs(&inside, &mut need)?;
                let (made, slices) = (BTreeMap::new(), BTreeMap::new());
                let mut state = PartState { cut, index, unit: 0, need, made, slices };
                for (offset, &id) in inside.iter().enumerate() {
                    state.unit = cut.units.start + offset;
                    let value = self.old.node(id).outputs[0];
                    let Some(&part) = state.need.get(&value) else { continue };
                    let made = self.tree(value, part, &mut state)?;
                    state.made.insert(value, made);
                }
                for &value in &leaving {
                    // Rows that only other units of the cut want are not stored.
                    let own = self.own(cut, value, [n, h])?;
                    let piece = self.fetch_made(value, own, &mut state)?;
                    let at = own.map(|(from, _)| from);
                    pieces.entry(value).or_insert_with(|| vec![Vec::new(); cut.batch])[n].push((piece, at));
                }
            }
        }
        for (value, pieces) in pieces {
            self.join(value, &pieces)?;
        }
        Some(())
    }

    /// The part of a result that is a part's own.
    fn own(&self, cut: &Cut, value: ValueId, [n, h]: [usize; 2]) -> Option<Part> {
        let [batch, height] = extents(self.old, value)?;
        let share = |at: usize, of: usize, extent: usize| (at * extent / of, (at + 1) * extent / of);
        let part = [share(n, cut.batch, batch), share(h, cut.rows, height)];
        part.iter().all(|(from, to)| from < to).then_some(part)
    }

    /// Results that other nodes read, or outputs.
    fn leaving(&self, results: &BTreeSet<ValueId>, inside: &[NodeId]) -> Vec<ValueId> {
        let mut read_inside: BTreeSet<NodeId> = inside.iter().copied().collect();
        // Float operators whose readers are all inside are inside.
        for (id, node) in self.old.nodes().rev() {
            let unmade = node.outputs.iter().all(|value| !self.made.contains(value));
            if unmade && !node.outputs.iter().any(|&v| self.is_output(v)) {
                let all = |value: &ValueId| self.readers(*value).iter().all(|reader| read_inside.contains(reader));
                if node.outputs.iter().all(all) {
                    read_inside.insert(id);
                }
            }
        }
        let outside = |value: ValueId| {
            self.is_output(value) || self.readers(value).iter().any(|reader| !read_inside.contains(reader))
        };
        results.iter().copied().filter(|&value| outside(value)).collect()
    }

    fn readers(&self, value: ValueId) -> &[NodeId] {
        self.readers.get(&value).map_or(&[], Vec::as_slice)
    }

    fn is_output(&self, value: ValueId) -> bool {
        self.old.outputs().iter().any(|output| output.value == value)
    }

    /// Adds what all units need of one another and of values from outside, as hulls.
    fn needs(&self, inside: &[NodeId], need: &mut BTreeMap<ValueId, Part>) -> Option<()> {
        for &id in inside.iter().rev() {
            let value = self.old.node(id).outputs[0];
            let Some(&part) = need.get(&value) else { continue };
            let mut open = vec![(value, part)];
            while let Some((value, part)) = open.pop() {
                let (_, node) = self.old.producer(value)?;
                for (operand, part) in needs(self.old, node, part)? {
                    if self.is_inner(operand) {
                        open.push((operand, part));
                    } else {
                        let hull = need.entry(operand).or_insert(part);
                        for (range, (from, to)) in hull.iter_mut().zip(part) {
                            *range = (range.0.min(from), range.1.max(to));
                        }
                    }
                }
            }
        }
        Some(())
    }

    /// Whether a value is not made: its node is lowered together with those that read it.
    fn is_inner(&self, value: ValueId) -> bool {
        !self.made.contains(&value) && self.old.producer(value).is_some()
    }

    /// A unit's result in a part, with the float operators in front of it.
    fn tree(&mut self, value: ValueId, part: Part, state: &mut PartState<'_>) -> Option<ValueId> {
        let (_, node) = self.old.producer(value)?;
        let node = node.clone();
        let needed: BTreeMap<ValueId, Part> = needs(self.old, &node, part)?.into_iter().collect();
        let mut operands = Vec::new();
        for operand in &node.inputs {
            operands.push(match operand {
                None => None,
                Some(value) => Some(match needed.get(value) {
                    None => *self.map.get(value)?,
                    Some(&part) if self.is_inner(*value) => self.tree(*value, part, state)?,
                    Some(&part) => self.fetch(*value, part, state)?,
                }),
            });
        }
        let op = operator(self.old, &node, part)?;
        let result = *self.new.add(op, &operands, node.loc.clone()).ok()?.first()?;
        if extents(&self.new, result)? != part.map(|(from, to)| to - from) {
            return None;
        }
        self.note(result, Some(state.unit), state.cut.resident.then_some(state.index));
        Some(result)
    }

    /// A part of integers: of a unit of the cut, or of a tensor from outside.
    fn fetch(&mut self, value: ValueId, part: Part, state: &mut PartState<'_>) -> Option<ValueId> {
        if state.made.contains_key(&value) {
            return self.fetch_made(value, part, state);
        }
        let whole = extents(self.old, value)?.map(|extent| (0, extent));
        let hull = *state.need.get(&value)?;
        let full = *self.map.get(&value)?;
        let there = self.slice((value, full), whole, hull, state)?;
        state.made.insert(value, there);
        self.fetch_made(value, part, state)
    }

    fn fetch_made(&mut self, value: ValueId, part: Part, state: &mut PartState<'_>) -> Option<ValueId> {
        let (made, have) = (*state.made.get(&value)?, *state.need.get(&value)?);
        self.slice((value, made), have, part, state)
    }

    /// Part of a value of which a larger part is there.
    fn slice(
        &mut self,
        (old, value): (ValueId, ValueId),
        have: Part,
        want: Part,
        state: &mut PartState<'_>,
    ) -> Option<ValueId> {
        if have == want {
            return Some(value);
        }
        if let Some(&slice) = state.slices.get(&(value, want)) {
            return Some(slice);
        }
        let axes: Vec<usize> = if self.old.ty(old).rank() == 4 { vec![0, 2] } else { vec![0] };
        let which = [0, 1].into_iter().take(axes.len());
        let op = Slice {
            starts: which.clone().map(|i| (want[i].0 - have[i].0).into()).collect(),
            sizes: which.map(|i| (want[i].1 - want[i].0).into()).collect(),
            steps: vec![1; axes.len()],
            axes,
        };
        let loc = self.old.producer(old).map_or_else(Loc::default, |(_, node)| node.loc.clone());
        let slice = self.new.add1(op, &[value], loc).ok()?;
        self.note(slice, Some(state.unit), state.cut.resident.then_some(state.index));
        state.slices.insert((value, want), slice);
        Some(slice)
    }

    /// A whole result of its parts.
    fn join(&mut self, old: ValueId, pieces: &[Pieces]) -> Option<()> {
        let loc = self.old.producer(old).map(|(_, node)| node.loc.clone())?;
        let mut inner = Vec::new();
        for row in pieces {
            let values: Vec<ValueId> = row.iter().map(|&(value, _)| value).collect();
            let joined = match values[..] {
                [one] => one,
                _ => self.new.add1(Concat { axis: 2 }, &values, loc.clone()).ok()?,
            };
            inner.push(joined);
        }
        let value = match inner[..] {
            [one] => one,
            _ => self.new.add1(Concat { axis: 0 }, &inner, loc).ok()?,
        };
        let parts: Vec<_> = pieces.iter().flatten().copied().collect();
        let stored: BTreeSet<ValueId> = parts.iter().map(|&(value, _)| value).collect();
        inner.retain(|joined| *joined != value && !stored.contains(joined));
        self.new.set_name(value, self.old.value(old).name.clone());
        self.map.insert(old, value);
        self.wholes.push(Whole { local: !self.spilled.contains(&old), value, parts, inner });
        Some(())
    }
}

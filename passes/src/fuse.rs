//! Fusion: elementwise operators go into the producer of their operand as epilogues.
//!
//! This is a pass on the graph and not a set of e-graph rules: it needs use counts, which are final only after
//! extraction, and it never loses, because a producer with one use is not needed for anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adze_ir::exact::Exactness;
use adze_ir::extent::Extent;
use adze_ir::fusion::{self, is_anchor, is_elementwise};
use adze_ir::graph::{Graph, NodeId, ValueDef, ValueId};
use adze_ir::loc::Loc;
use adze_ir::ops::{BodyRef, BodyStep, ConstId, Fused, Op};
use adze_ir::types::TensorType;
use cranelift_entity::SecondaryMap;

use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rebuild::{Rewrite, add, rebuild};
use crate::turns;

/// See [`Pass::docs`].
pub struct Fuse;

const NAME: &str = "fuse";
/// Steps of one body: keeps kernels small and compile time linear.
const MAX_STEPS: usize = 12;
/// Operands of one body.
const MAX_OPERANDS: usize = 16;

impl Pass for Fuse {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        "Groups a convolution, matrix product or elementwise operator with the elementwise operators after it, residual \
         additions included, where the value between them has no other use and the shape stays. The group is one node \
         with a body of ordered steps; evaluating it step by step gives the same bits. Products that take turns (see `turns`) \
         are not made to wait for each other by what joins them."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let plan = Plan::new(graph, cx);
        if plan.groups.iter().all(|group| plan.with_operands(graph, group).len() < 2) {
            return Ok(Changed::No);
        }
        *graph = plan.build(graph)?;
        graph.remove_dead();
        Ok(Changed::Yes)
    }
}

/// Which nodes run together: groups in order of their last member.
struct Plan {
    groups: Vec<Vec<NodeId>>,
    group_of: BTreeMap<NodeId, usize>,
    /// Last members that read integers as floats, which are stored: others read these.
    stored: BTreeSet<NodeId>,
    turns: Turns,
}

/// Operators that take turns in reading the same matrices.
struct Turns {
    readers: BTreeMap<NodeId, ConstId>,
    /// How many of them are in a row before a value is there.
    depth: SecondaryMap<ValueId, u32>,
}

impl Turns {
    fn new(graph: &Graph, cx: &PassCx<'_>) -> Self {
        let (readers, mut depth) = (turns::readers(graph, cx.options), SecondaryMap::new());
        for (id, node) in graph.nodes() {
            let before = node.inputs.iter().flatten().map(|&value| depth[value]).max().unwrap_or(0);
            node.outputs.iter().for_each(|&value| depth[value] = before + u32::from(readers.contains_key(&id)));
        }
        Self { readers, depth }
    }

    /// Whether what computes `value` would have to wait for another reader of its turn if `user` were computed with it.
    fn waits(&self, graph: &Graph, anchor: NodeId, value: ValueId, user: NodeId) -> bool {
        let mut others = graph.node(user).inputs.iter().flatten().filter(|&&other| other != value);
        self.readers.contains_key(&anchor) && others.any(|&other| self.depth[other] >= self.depth[value])
    }
}

impl Plan {
    fn new(graph: &Graph, cx: &mut PassCx<'_>) -> Self {
        let uses = graph.use_counts();
        let turns = Turns::new(graph, cx);
        let mut plan = Self { groups: Vec::new(), group_of: BTreeMap::new(), stored: BTreeSet::new(), turns };
        // A node can join a group only if all its other operands exist before the group's last member runs; as the group
        // moves to the place of its last member, every operand that is defined before that place will do.
        for (id, node) in graph.nodes() {
            let joined = is_epilogue(graph, id).then(|| {
                let hosts = node.inputs.iter().flatten().filter_map(|&v| plan.host(graph, &uses, v, id, cx));
                hosts.max()
            });
            let group = joined.flatten().map(|(_, group)| group).unwrap_or_else(|| {
                plan.groups.push(Vec::new());
                plan.groups.len() - 1
            });
            plan.groups[group].push(id);
            plan.group_of.insert(id, group);
        }
        plan.end_in_integers(graph);
        plan
    }

    /// Takes a `dequantize` off the end of a group when all that read it compute it for themselves: bytes are stored. Otherwise
    /// floats are, and nothing computes them again: that would take the rest of the group too.
    fn end_in_integers(&mut self, graph: &Graph) {
        let mut stored: SecondaryMap<ValueId, bool> = SecondaryMap::new();
        graph.outputs().iter().for_each(|output| stored[output.value] = true);
        for (id, node) in graph.nodes() {
            let inside = &self.groups[self.group_of[&id]];
            let own = self.with_operands(graph, inside);
            for &value in node.inputs.iter().flatten() {
                let producer = graph.producer(value).map(|(producer, _)| producer);
                stored[value] |=
                    !producer.is_some_and(|producer| own.contains(&producer) && !inside.contains(&producer));
            }
        }
        for (id, node) in graph.nodes() {
            let group = self.group_of[&id];
            let last = self.groups[group].len() >= 2 && self.groups[group].last() == Some(&id);
            if !last || !matches!(node.op, Op::Dequantize(_)) {
                continue;
            }
            if stored[node.outputs[0]] {
                self.stored.insert(id);
            } else {
                self.groups[group].pop();
                self.groups.push(vec![id]);
                self.group_of.insert(id, self.groups.len() - 1);
            }
        }
    }

    /// The group that makes `value`, if `user` may join it; groups with a heavy anchor rank first.
    fn host(
        &self,
        graph: &Graph,
        uses: &SecondaryMap<ValueId, u32>,
        value: ValueId,
        user: NodeId,
        cx: &mut PassCx<'_>,
    ) -> Option<(bool, usize)> {
        let ValueDef::Result(producer, 0) = graph.value(value).def else { return None };
        let group = *self.group_of.get(&producer)?;
        let members = &self.groups[group];
        let first = *members.first()?;
        let anchor = &graph.node(first).op;
        if !is_anchor(anchor) || members.last() != Some(&producer) || self.turns.waits(graph, first, value, user) {
            return None;
        }
        let (from, to) = (graph.ty(value), graph.ty(graph.node(user).outputs[0]));
        if (&from.shape, &from.layout) != (&to.shape, &to.layout) {
            return None;
        }
        let occurrences = graph.node(user).inputs.iter().flatten().filter(|&&v| v == value).count();
        if uses[value] as usize != occurrences {
            if !is_elementwise(anchor) {
                cx.missed(
                    graph,
                    user,
                    format!("not fused into `{}`: its result has {} uses", anchor.name(), uses[value]),
                );
            }
            return None;
        }
        if members.len() >= MAX_STEPS || self.operands(graph, group, user) > MAX_OPERANDS {
            return None;
        }
        Some((!is_elementwise(anchor), group))
    }

    /// Operands that a body has to be given; single numbers are part of its code.
    fn operands(&self, graph: &Graph, group: usize, user: NodeId) -> usize {
        let members: Vec<NodeId> = self.groups[group].iter().copied().chain([user]).collect();
        let (_, operands, _) = self.body(graph, &members);
        let is_number = |v: &ValueId| graph.constant(*v).is_some_and(|entry| entry.ty().elems() == Extent::ONE);
        operands.iter().filter(|v| !is_number(v)).count()
    }

    /// The graph with every group as one node, at the place of its last member.
    fn build(&self, graph: &Graph) -> Result<Graph, PassError> {
        let mut map: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        rebuild(graph, NAME, |out, site| {
            for (&old, &new) in site.node.inputs.iter().zip(site.inputs) {
                if let (Some(old), Some(new)) = (old, new) {
                    map.insert(old, new);
                }
            }
            let members = &self.groups[self.group_of[&site.id]];
            if self.with_operands(graph, members).len() < 2 || members.last() != Some(&site.id) {
                return Ok(Rewrite::Keep);
            }
            let (op, operands, loc) = self.body(graph, members);
            let operands: Vec<Option<ValueId>> = operands.iter().map(|v| map.get(v).copied()).collect();
            let values = add(out, op, &operands, loc, NAME)?;
            out.set_type(values[0], graph.ty(site.node.outputs[0]).clone());
            Ok(Rewrite::Replace(values))
        })
    }

    fn body(&self, graph: &Graph, members: &[NodeId]) -> (Op, Vec<ValueId>, Loc) {
        let mut operands: Vec<ValueId> = Vec::new();
        let mut loc = Loc::default();
        let mut made: BTreeMap<ValueId, u32> = BTreeMap::new();
        let mut steps: Vec<BodyStep> = Vec::with_capacity(members.len());
        for id in self.with_operands(graph, members) {
            let node = graph.node(id);
            loc = loc.join(&node.loc);
            let mut refer = |value: ValueId| match made.get(&value) {
                Some(&step) => BodyRef::Step(step),
                None => {
                    let known = operands.iter().position(|&v| v == value);
                    let index = known.unwrap_or_else(|| {
                        operands.push(value);
                        operands.len() - 1
                    });
                    BodyRef::Param(u32::try_from(index).expect("operands are limited"))
                }
            };
            let inputs = node.inputs.iter().map(|v| v.map(&mut refer)).collect();
            steps.push(BodyStep { op: node.op.clone(), inputs });
            made.insert(node.outputs[0], u32::try_from(steps.len() - 1).expect("steps are limited"));
        }
        (Fused { steps: Arc::from(steps) }.into(), operands, loc)
    }

    /// The members, each after those of its operands that are only another reading of stored integers: every user has its
    /// own copy of such a `dequantize`, so that no float is stored. An anchor that is not elementwise reads memory, and stays first.
    fn with_operands(&self, graph: &Graph, members: &[NodeId]) -> Vec<NodeId> {
        let mut all: Vec<NodeId> = Vec::with_capacity(members.len());
        for &id in members {
            let node = graph.node(id);
            if is_elementwise(&node.op) {
                let shape = &graph.ty(node.outputs[0]).shape;
                let same = |v: &&ValueId| graph.ty(**v).shape == *shape;
                for (producer, node) in node.inputs.iter().flatten().filter(same).filter_map(|&v| graph.producer(v)) {
                    let reads = matches!(node.op, Op::Dequantize(_)) && is_elementwise(&node.op);
                    if reads && !self.stored.contains(&producer) && !all.contains(&producer) {
                        all.push(producer);
                    }
                }
            }
            if !all.contains(&id) {
                all.push(id);
            }
        }
        all
    }
}

fn is_epilogue(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let inputs: Vec<Option<&TensorType>> = node.inputs.iter().map(|v| v.map(|v| graph.ty(v))).collect();
    fusion::is_epilogue(&node.op, &inputs, graph.ty(node.outputs[0]))
}

//! What takes the place of a stretch of a graph.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;

use crate::graph::{ConstEntry, Graph, NodeId, ValueDef, ValueId};
use crate::loc::Loc;
use crate::ops::{ConstId, Op, TypeError};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Carriers per source node that a rewrite replaced: more say nothing new.
const MAX_CARRIERS: usize = 4;

/// Where an operand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// It is left out.
    Absent,
    /// A value from outside.
    Input(u32),
    /// A constant of the graph.
    Const(u32),
    /// A step and which of its results.
    Step(u32, u32),
}

#[derive(Clone, Debug)]
enum Step {
    Op(Op, Vec<Source>),
    /// A constant that a rule made.
    Made(Tensor),
}

/// Nodes in order, for any stretch of the form that it was made from.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    steps: Vec<Step>,
    /// What stands for each result of the stretch, in order; nothing where none is needed.
    pub(super) results: Vec<Option<Source>>,
}

/// A stretch of a graph and what it reads.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub(super) graph: &'a Graph,
    pub(super) nodes: &'a [NodeId],
    pub(super) inputs: &'a [ValueId],
    pub(super) consts: &'a [ConstId],
}

/// What has been built of the new graph.
#[derive(Default)]
pub struct Built {
    /// Values of the old graph in the new one.
    pub values: SecondaryMap<ValueId, Option<ValueId>>,
    /// Constants of the old graph in the new one.
    pub constants: BTreeMap<ConstId, ValueId>,
    /// Constants that rules made.
    made: BTreeMap<(TensorType, Vec<u8>), ValueId>,
}

/// A choice that does not give a graph: a bug of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{op}`: {error}")]
pub struct RegionError {
    /// The operator.
    pub op: String,
    /// What its type rule says.
    pub error: TypeError,
}

impl Recipe {
    /// Adds an operator with so many results.
    pub(super) fn push(&mut self, op: Op, inputs: Vec<Source>, results: usize) -> Vec<Source> {
        let step = self.next();
        self.steps.push(Step::Op(op, inputs));
        (0..results).map(|result| Source::Step(step, u32::try_from(result).expect("few results"))).collect()
    }

    /// Adds a constant.
    pub(super) fn constant(&mut self, tensor: Tensor) -> Source {
        let step = self.next();
        self.steps.push(Step::Made(tensor));
        Source::Step(step, 0)
    }

    fn next(&self) -> u32 {
        u32::try_from(self.steps.len()).expect("regions are small")
    }

    /// Adds the nodes to a graph. Every source node's names end up on the node that gives its value, or on those that use it in
    /// its place.
    ///
    /// # Errors
    /// [`RegionError`] when a node does not type-check: a bug of ours.
    pub fn emit(&self, part: Part<'_>, out: &mut Graph, built: &mut Built) -> Result<(), RegionError> {
        let first = out.order().len();
        let mut done: Vec<Vec<ValueId>> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            done.push(match step {
                Step::Made(tensor) => vec![built.constant(tensor, out)],
                Step::Op(op, sources) => {
                    let inputs: Vec<Option<ValueId>> =
                        sources.iter().map(|&source| value(source, part, &done, built)).collect();
                    let added = out.add(op.clone(), &inputs, Loc::default());
                    added.map_err(|error| RegionError { op: op.to_string(), error })?
                }
            });
        }
        let results = part.nodes.iter().flat_map(|&id| &part.graph.node(id).outputs);
        for (&old, stands) in results.zip(&self.results) {
            let Some(new) = stands.and_then(|source| value(source, part, &done, built)) else { continue };
            built.values[old] = Some(new);
            if out.value(new).name.is_none() {
                out.set_name(new, part.graph.value(old).name.clone());
            }
        }
        locate(part, out, built, first);
        Ok(())
    }
}

impl Built {
    /// A constant, once in the whole graph.
    fn constant(&mut self, tensor: &Tensor, out: &mut Graph) -> ValueId {
        let key = (tensor.ty(), tensor.bytes().to_vec());
        *self.made.entry(key).or_insert_with(|| {
            let id = out.consts.push(ConstEntry::new("", tensor.clone()));
            out.add_const(id, Loc::default())
        })
    }
}

fn value(source: Source, part: Part<'_>, done: &[Vec<ValueId>], built: &Built) -> Option<ValueId> {
    match source {
        Source::Absent => None,
        Source::Input(at) => built.values[*part.inputs.get(at as usize)?],
        Source::Const(at) => built.constants.get(part.consts.get(at as usize)?).copied(),
        Source::Step(step, result) => done.get(step as usize)?.get(result as usize).copied(),
    }
}

/// Hands names of source nodes on to the nodes from place `first` on.
fn locate(part: Part<'_>, out: &mut Graph, built: &Built, first: usize) {
    let fresh: BTreeSet<NodeId> = out.order()[first..].iter().copied().collect();
    let node_of = |out: &Graph, value: ValueId| match out.value(built.values[value]?).def {
        ValueDef::Result(node, _) if fresh.contains(&node) => Some(node),
        _ => None,
    };
    let mut carriers: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
    for &id in part.nodes.iter().rev() {
        let node = part.graph.node(id);
        let own: BTreeSet<NodeId> = node.outputs.iter().filter_map(|&v| node_of(out, v)).collect();
        // Users come later, so they have handed down theirs already.
        let mut set = carriers.remove(&id).unwrap_or_default();
        if !own.is_empty() {
            set = own;
        }
        for producer in node.inputs.iter().flatten().filter_map(|&v| part.graph.producer(v)).map(|(p, _)| p) {
            let entry = carriers.entry(producer).or_default();
            entry.extend(&set);
            while entry.len() > MAX_CARRIERS {
                entry.pop_last();
            }
        }
        carriers.insert(id, set);
    }
    for &id in part.nodes {
        for &carrier in carriers.get(&id).into_iter().flatten() {
            if !matches!(part.graph.node(id).op, Op::Constant(_)) {
                out.add_loc(carrier, &part.graph.node(id).loc);
            }
        }
    }
    locate_rest(out, &fresh);
}

/// Nodes that stand for no source node alone take the names of their first user.
fn locate_rest(out: &mut Graph, fresh: &BTreeSet<NodeId>) {
    let mut user_loc: BTreeMap<NodeId, Loc> = BTreeMap::new();
    let order: Vec<NodeId> = out.order().iter().rev().take(fresh.len()).copied().collect();
    for id in order {
        if out.node(id).loc.is_empty()
            && let Some(loc) = user_loc.remove(&id)
        {
            out.add_loc(id, &loc);
        }
        let node = out.node(id);
        for producer in node.inputs.iter().flatten().filter_map(|&v| out.producer(v)).map(|(p, _)| p) {
            user_loc.insert(producer, node.loc.clone());
        }
    }
}

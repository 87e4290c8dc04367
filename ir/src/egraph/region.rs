//! From a stretch of a graph to an e-graph, and from a choice back to nodes.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;
use egg::Id;

use super::extract::op_of;
use super::{Choice, EGraph, ENode, Known};
use crate::graph::{ConstTable, Graph, NodeId, ValueDef, ValueId};
use crate::loc::Loc;
use crate::ops::{ConstId, Constant, Op, TypeError};

/// Carriers per source node that a rewrite replaced: more say nothing new.
const MAX_CARRIERS: usize = 4;

/// A choice that does not give a graph: a bug of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{op}`: {error}")]
pub struct RegionError {
    /// The operator.
    pub op: String,
    /// What its type rule says.
    pub error: TypeError,
}

/// A stretch of a graph in topological order as an e-graph. Values from outside are inputs; all results that are used
/// outside hang under one root.
pub struct Region<'a> {
    graph: &'a Graph,
    nodes: &'a [NodeId],
    /// The e-graph; its constants are those of the graph first.
    pub egraph: EGraph,
    classes: BTreeMap<ValueId, Id>,
    /// The class of each node's operator.
    sources: BTreeMap<NodeId, Id>,
    root: Id,
}

/// What has been built of the new graph.
#[derive(Default)]
pub struct Built {
    /// Values of the old graph in the new one.
    pub values: SecondaryMap<ValueId, Option<ValueId>>,
    /// Constants in the new graph.
    pub constants: BTreeMap<ConstId, ValueId>,
}

impl<'a> Region<'a> {
    /// The nodes of `graph` in a stretch of its order, of which `outputs` are used elsewhere. `consts` begins with the
    /// graph's own constants.
    pub fn new(graph: &'a Graph, nodes: &'a [NodeId], outputs: &[ValueId], consts: ConstTable) -> Self {
        let egraph = EGraph::new(Known::new(consts, graph.dims.clone()));
        let mut region =
            Self { graph, nodes, egraph, classes: BTreeMap::new(), sources: BTreeMap::new(), root: Id::from(0) };
        for &id in nodes {
            region.add_node(id);
        }
        let outputs: Vec<Id> = outputs.iter().map(|&v| region.value(v)).collect();
        region.root = region.egraph.add(ENode::tuple(outputs));
        region.egraph.rebuild();
        region
    }

    /// The class that every result hangs under.
    pub fn root(&self) -> Id {
        self.root
    }

    /// The e-nodes of the source, by node.
    pub fn sources(&self) -> impl Iterator<Item = (NodeId, &ENode)> {
        self.sources.iter().map(|(&id, &class)| (id, self.egraph.id_to_node(class)))
    }

    /// The classes of the source's values, of those from outside too.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, Id)> {
        self.classes.iter().map(|(&value, &class)| (value, self.egraph.find(class)))
    }

    fn add_node(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        if matches!(node.op, Op::Constant(_)) {
            return;
        }
        let given = node.inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let operands: Vec<Id> = node.inputs[..given]
            .iter()
            .map(|input| match input {
                Some(value) => self.value(*value),
                None => self.egraph.add(ENode::none()),
            })
            .collect();
        let attr = self.egraph.analysis.intern(&node.op);
        let attr = self.egraph.add(ENode::attr(attr));
        let class = self.egraph.add(ENode::op(&node.op, attr, &operands));
        self.sources.insert(id, class);
        if let [value] = node.outputs[..] {
            self.classes.insert(value, class);
            return;
        }
        for (index, &value) in node.outputs.iter().enumerate() {
            let index = u32::try_from(index).expect("few results");
            let get = self.egraph.add(ENode::get(index, class));
            self.classes.insert(value, get);
        }
    }

    /// The class of a value; one from outside becomes an input.
    fn value(&mut self, value: ValueId) -> Id {
        if let Some(&class) = self.classes.get(&value) {
            return class;
        }
        let leaf = match self.graph.producer(value).map(|(_, node)| &node.op) {
            Some(Op::Constant(Constant { id })) => ENode::constant(id.as_u32()),
            _ => {
                self.egraph.analysis.inputs.insert(value.as_u32(), self.graph.ty(value).clone());
                ENode::input(value.as_u32())
            }
        };
        let class = self.egraph.add(leaf);
        self.classes.insert(value, class);
        class
    }

    /// Adds the chosen nodes to a graph, in the order of the source where there is one. Every source node's names end up on
    /// the node that gives its value, or on those that use it in its place.
    ///
    /// # Errors
    /// [`RegionError`] when a chosen node does not type-check: a bug of ours.
    pub fn emit(&self, choice: &Choice, out: &mut Graph, built: &mut Built) -> Result<(), RegionError> {
        out.consts = self.egraph.analysis.consts.clone();
        let first = out.order().len();
        let mut emitter = Emitter { region: self, choice, out, built, classes: BTreeMap::new() };
        for &id in self.nodes {
            for &value in &self.graph.node(id).outputs {
                let Some(&class) = self.classes.get(&value) else { continue };
                let class = self.egraph.find(class);
                if choice.nodes.contains_key(&class) {
                    emitter.class(class)?;
                }
            }
        }
        let classes = emitter.classes;
        self.name(out, built, &classes);
        self.locate(out, &classes, first);
        Ok(())
    }

    /// Hands names of values on.
    fn name(&self, out: &mut Graph, built: &mut Built, classes: &BTreeMap<Id, Vec<ValueId>>) {
        for &id in self.nodes {
            for &value in &self.graph.node(id).outputs {
                let Some(&class) = self.classes.get(&value) else { continue };
                let Some([new]) = classes.get(&self.egraph.find(class)).map(Vec::as_slice) else { continue };
                built.values[value] = Some(*new);
                if out.value(*new).name.is_none() {
                    out.set_name(*new, self.graph.value(value).name.clone());
                }
            }
        }
    }

    /// Hands names of nodes on.
    fn locate(&self, out: &mut Graph, classes: &BTreeMap<Id, Vec<ValueId>>, first: usize) {
        let fresh: BTreeSet<NodeId> = out.order()[first..].iter().copied().collect();
        let node_of = |out: &Graph, class: Id| match out.value(*classes.get(&class)?.first()?).def {
            ValueDef::Result(node, _) if fresh.contains(&node) => Some(node),
            _ => None,
        };
        let mut carriers: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for &id in self.nodes.iter().rev() {
            let node = self.graph.node(id);
            let own: BTreeSet<NodeId> =
                node.outputs.iter().filter_map(|v| node_of(out, self.egraph.find(*self.classes.get(v)?))).collect();
            // Users come later, so they have handed down theirs already.
            let mut set = carriers.remove(&id).unwrap_or_default();
            if !own.is_empty() {
                set = own;
            }
            for producer in node.inputs.iter().flatten().filter_map(|&v| self.graph.producer(v)).map(|(p, _)| p) {
                let entry = carriers.entry(producer).or_default();
                entry.extend(&set);
                while entry.len() > MAX_CARRIERS {
                    entry.pop_last();
                }
            }
            carriers.insert(id, set);
        }
        for &id in self.nodes {
            for &carrier in carriers.get(&id).into_iter().flatten() {
                if !matches!(self.graph.node(id).op, Op::Constant(_)) {
                    out.add_loc(carrier, &self.graph.node(id).loc);
                }
            }
        }
        self.locate_rest(out, &fresh);
    }

    /// Nodes that stand for no source node alone take the names of their first user.
    fn locate_rest(&self, out: &mut Graph, fresh: &BTreeSet<NodeId>) {
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
}

struct Emitter<'a, 'r> {
    region: &'a Region<'r>,
    choice: &'a Choice,
    out: &'a mut Graph,
    built: &'a mut Built,
    classes: BTreeMap<Id, Vec<ValueId>>,
}

impl Emitter<'_, '_> {
    /// Adds what a class needs, operands first. An explicit stack: regions can be deep.
    fn class(&mut self, class: Id) -> Result<(), RegionError> {
        let mut stack = vec![class];
        while let Some(&top) = stack.last() {
            if self.classes.contains_key(&top) {
                stack.pop();
                continue;
            }
            let Some(node) = self.choice.nodes.get(&top) else {
                stack.pop();
                continue;
            };
            let egraph = &self.region.egraph;
            let children = node.children.iter().map(|&c| egraph.find(c));
            let missing: Vec<Id> =
                children.filter(|c| !self.classes.contains_key(c) && self.choice.nodes.contains_key(c)).collect();
            if missing.is_empty() {
                let node = node.clone();
                let values = self.node(&node)?;
                self.classes.insert(top, values);
                stack.pop();
            } else {
                stack.extend(missing.into_iter().rev());
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &ENode) -> Result<Vec<ValueId>, RegionError> {
        let egraph = &self.region.egraph;
        match node.kind.name() {
            "@attr" | "@none" | "@tuple" => Ok(Vec::new()),
            "@const" => Ok(vec![self.constant(ConstId::from_u32(node.payload))]),
            "@input" => Ok(self.built.values[ValueId::from_u32(node.payload)].into_iter().collect()),
            // A choice that is made leaves nothing behind.
            "@pick" => Ok(self.classes.get(&egraph.find(node.children[0])).cloned().unwrap_or_default()),
            "@get" => {
                let results = self.classes.get(&egraph.find(node.children[0])).cloned().unwrap_or_default();
                Ok(results.get(node.payload as usize).copied().into_iter().collect())
            }
            _ => {
                let Some(op) = op_of(egraph, node).cloned() else { return Ok(Vec::new()) };
                let operand = |id: &Id| self.classes.get(&egraph.find(*id)).and_then(|v| v.first().copied());
                let inputs: Vec<Option<ValueId>> = node.children[1..].iter().map(operand).collect();
                let name = op.to_string();
                self.out.add(op, &inputs, Loc::default()).map_err(|error| RegionError { op: name, error })
            }
        }
    }

    /// A constant, once in the whole graph, with the names of its source.
    fn constant(&mut self, id: ConstId) -> ValueId {
        if let Some(&value) = self.built.constants.get(&id) {
            return value;
        }
        let value = self.out.add_const(id, Loc::default());
        self.built.constants.insert(id, value);
        value
    }
}

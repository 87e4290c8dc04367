//! From a stretch of a graph to an e-graph, and from a choice to a recipe for the nodes that take its place.
//!
//! A recipe speaks of the stretch's operands and constants by their places, so it fits every stretch of the same form: blocks
//! that a network repeats are solved once.

use std::collections::BTreeMap;

use egg::Id;

use super::extract::op_of;
use super::reads::Read;
use super::recipe::{Part, Recipe, Source};
use super::{Choice, EGraph, ENode, Known};
use crate::graph::{Graph, NodeId, ValueId};
use crate::layout::follows_window;
use crate::ops::{ConstId, Constant, Op};
use crate::types::TensorType;

/// A stretch without names, ids and bytes. Stretches of one form have one solution as far as rules do not look at bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Form {
    nodes: Vec<(Op, Vec<Source>)>,
    /// Types of the operands, and whether they lie channels last.
    inputs: Vec<(TensorType, bool)>,
    consts: Vec<TensorType>,
    outputs: Vec<Source>,
}

/// A stretch of a graph in topological order as an e-graph. Values from outside are inputs; all results that are used
/// outside hang under one root.
pub struct Region<'a> {
    graph: &'a Graph,
    nodes: &'a [NodeId],
    /// The e-graph. Its inputs and constants are numbered by their first use.
    pub egraph: EGraph,
    form: Form,
    inputs: Vec<ValueId>,
    consts: Vec<ConstId>,
    /// What a value is to the recipe, and its class.
    known: BTreeMap<ValueId, (Source, Id)>,
    root: Id,
}

impl<'a> Region<'a> {
    /// The nodes of `graph` in a stretch of its order, of which `outputs` are used elsewhere.
    pub fn new(graph: &'a Graph, nodes: &'a [NodeId], outputs: &[ValueId]) -> Self {
        let egraph = EGraph::new(Known::new(graph.dims.clone()));
        let mut region = Self {
            graph,
            nodes,
            egraph,
            form: Form::default(),
            inputs: Vec::new(),
            consts: Vec::new(),
            known: BTreeMap::new(),
            root: Id::from(0),
        };
        for &id in nodes {
            region.add_node(id);
        }
        let (outputs, classes): (Vec<Source>, Vec<Id>) = outputs.iter().map(|&v| region.value(v)).unzip();
        region.form.outputs = outputs;
        region.root = region.egraph.add(ENode::tuple(classes));
        region.egraph.rebuild();
        region
    }

    /// The class that every result hangs under.
    pub fn root(&self) -> Id {
        self.root
    }

    /// Its nodes, constants not counted.
    pub fn len(&self) -> usize {
        self.form.nodes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.form.nodes.is_empty()
    }

    /// The form of the stretch.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// The values from outside, by the payload of their `@input`.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// The class of a value that the stretch computes or reads.
    pub fn class(&self, value: ValueId) -> Option<Id> {
        self.known.get(&value).map(|(_, class)| self.egraph.find(*class))
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[NodeId] {
        self.nodes
    }

    /// The values that the stretch computes and reads, with their classes.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, Id)> {
        self.known.iter().map(|(&value, (_, class))| (value, self.egraph.find(*class)))
    }

    /// The e-node of a node of the stretch; `None` for a constant.
    pub fn source(&self, id: NodeId) -> Option<&ENode> {
        let (_, class) = self.known.get(self.graph.node(id).outputs.first()?)?;
        let node = self.egraph.id_to_node(*class);
        // Results of an operator with several are read off it.
        Some(if node.is("@get") { self.egraph.id_to_node(node.children[0]) } else { node }).filter(|node| node.is_op())
    }

    fn add_node(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        if matches!(node.op, Op::Constant(_)) {
            return;
        }
        let given = node.inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let (sources, operands): (Vec<Source>, Vec<Id>) = node.inputs[..given]
            .iter()
            .map(|input| match input {
                Some(value) => self.value(*value),
                None => (Source::Absent, self.egraph.add(ENode::none())),
            })
            .unzip();
        let serial = u32::try_from(self.form.nodes.len()).expect("regions are small");
        self.form.nodes.push((node.op.clone(), sources));
        let attr = self.egraph.analysis.intern(&node.op);
        let attr = self.egraph.add(ENode::attr(attr));
        let class = self.egraph.add(ENode::op(&node.op, attr, &operands));
        let single = node.outputs.len() == 1;
        for (index, &value) in node.outputs.iter().enumerate() {
            let index = u32::try_from(index).expect("few results");
            let class = if single { class } else { self.egraph.add(ENode::get(index, class)) };
            self.known.insert(value, (Source::Step(serial, index), class));
        }
    }

    /// What a value is, and its class; one from outside becomes an input.
    fn value(&mut self, value: ValueId) -> (Source, Id) {
        if let Some(&known) = self.known.get(&value) {
            return known;
        }
        let constant = self.graph.producer(value).and_then(|(_, node)| match &node.op {
            Op::Constant(Constant { id }) => Some(*id),
            _ => None,
        });
        let known = match constant {
            // Two nodes may hold one constant.
            Some(id) => {
                let at = self.consts.iter().position(|known| *known == id).unwrap_or_else(|| {
                    let entry = &self.graph.consts[id];
                    self.form.consts.push(entry.ty());
                    self.egraph.analysis.give(entry.clone());
                    self.consts.push(id);
                    self.consts.len() - 1
                });
                let at = u32::try_from(at).expect("regions are small");
                (Source::Const(at), self.egraph.add(ENode::constant(at)))
            }
            None => {
                let at = u32::try_from(self.inputs.len()).expect("regions are small");
                let ty = self.graph.ty(value).clone();
                let last = follows_window(self.graph, value);
                self.form.inputs.push((ty.clone(), last));
                self.egraph.analysis.inputs.insert(at, ty);
                if last {
                    self.egraph.analysis.channels_last.insert(at);
                }
                self.inputs.push(value);
                (Source::Input(at), self.egraph.add(ENode::input(at)))
            }
        };
        self.known.insert(value, known);
        known
    }

    /// The stretch and what it reads, for [`Recipe::emit`].
    pub fn part(&self) -> Part<'_> {
        Part { graph: self.graph, nodes: self.nodes, inputs: &self.inputs, consts: &self.consts }
    }

    /// What rules have asked about the bytes of constants so far.
    pub fn reads(&self) -> Vec<Read> {
        self.egraph.analysis.reads()
    }

    /// Whether the bytes of this stretch's constants give the same answers.
    pub fn answers(&self, reads: &[Read]) -> bool {
        let entry = |id: ConstId| self.graph.consts.get(*self.consts.get(id.as_u32() as usize)?);
        reads.iter().all(|read| read.holds(&entry))
    }

    /// The chosen nodes as a recipe, in the order of the source where there is one.
    pub fn recipe(&self, choice: &Choice) -> Recipe {
        let mut writer = Writer { region: self, choice, recipe: Recipe::default(), classes: BTreeMap::new() };
        let results = || self.nodes.iter().flat_map(|&id| &self.graph.node(id).outputs);
        for class in results().filter_map(|&value| self.class(value)) {
            if choice.nodes.contains_key(&class) {
                writer.class(class);
            }
        }
        let Writer { mut recipe, classes, .. } = writer;
        let stands = |&value: &ValueId| match classes.get(&self.class(value)?)?[..] {
            [source] => Some(source),
            _ => None,
        };
        recipe.results = results().map(stands).collect();
        recipe
    }
}

struct Writer<'a, 'r> {
    region: &'a Region<'r>,
    choice: &'a Choice,
    recipe: Recipe,
    /// The results of what is written.
    classes: BTreeMap<Id, Vec<Source>>,
}

impl Writer<'_, '_> {
    /// Writes what a class needs, operands first. An explicit stack: regions can be deep.
    fn class(&mut self, class: Id) {
        let mut stack = vec![class];
        while let Some(&top) = stack.last() {
            let Some(node) = self.choice.nodes.get(&top).filter(|_| !self.classes.contains_key(&top)) else {
                stack.pop();
                continue;
            };
            let children = node.children.iter().map(|&c| self.region.egraph.find(c));
            let missing: Vec<Id> =
                children.filter(|c| !self.classes.contains_key(c) && self.choice.nodes.contains_key(c)).collect();
            if missing.is_empty() {
                let results = self.node(top, node);
                self.classes.insert(top, results);
                stack.pop();
            } else {
                stack.extend(missing.into_iter().rev());
            }
        }
    }

    fn node(&mut self, class: Id, node: &ENode) -> Vec<Source> {
        let egraph = &self.region.egraph;
        let results = |id: Id| self.classes.get(&egraph.find(id)).cloned().unwrap_or_default();
        match node.kind.name() {
            "@attr" | "@none" | "@tuple" => Vec::new(),
            "@const" => vec![self.constant(node.payload)],
            "@input" => vec![Source::Input(node.payload)],
            // A choice that is made leaves nothing behind.
            "@pick" => results(node.children[0]),
            "@get" => results(node.children[0]).get(node.payload as usize).copied().into_iter().collect(),
            _ => {
                let Some(op) = op_of(egraph, node).cloned() else { return Vec::new() };
                let operand = |id: &Id| results(*id).first().copied().unwrap_or(Source::Absent);
                let inputs = node.children[1..].iter().map(operand).collect();
                self.recipe.push(op, inputs, egraph[class].data.types.len())
            }
        }
    }

    /// A constant of the stretch, or one that a rule made.
    fn constant(&mut self, at: u32) -> Source {
        if (at as usize) < self.region.consts.len() {
            return Source::Const(at);
        }
        let made = self.region.egraph.analysis.made(ConstId::from_u32(at));
        self.recipe.constant(made)
    }
}

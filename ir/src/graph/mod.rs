//! The graph: SSA over tensors. What the importer makes, passes rewrite and lowering reads.
//!
//! Nodes are kept in a topological order; values know their type and, where one is known, the name of the ONNX tensor
//! they equal. A [`Graph`] grows only through [`Graph::add`], which runs the operator's type rule, so a graph is
//! well-typed unless a pass changed layouts by hand; the verifier checks all of it again.

mod consts;
mod edit;

use std::fmt;
use std::sync::Arc;

use cranelift_entity::{EntityRef, PrimaryMap, entity_impl};

use crate::extent::{Dims, Extent};
use crate::loc::Loc;
use crate::ops::{ConstId, Constant, Op, TypeError};
use crate::propose::Schedule;
use crate::types::TensorType;

pub use consts::{ConstEntry, ConstTable};

/// A node of a [`Graph`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);
entity_impl!(NodeId, "n");

/// A value of a [`Graph`]: a graph input or one result of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(u32);
entity_impl!(ValueId, "%");

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueDef {
    /// Graph input of that position.
    Input(usize),
    /// Result of that position of a node.
    Result(NodeId, usize),
}

/// A value and what is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its type.
    pub ty: TensorType,
    /// Its definition.
    pub def: ValueDef,
    /// The ONNX tensor it equals, if any: the identity that survives rewrites.
    pub name: Option<Arc<str>>,
}

/// An operator applied to values.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The operator.
    pub op: Op,
    /// Its operands; `None` where an optional one is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Its results.
    pub outputs: Vec<ValueId>,
    /// How the target computes it, once chosen.
    pub schedule: Option<Schedule>,
    /// The source nodes it stands for.
    pub loc: Loc,
}

/// A named output of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name in the model.
    pub name: Arc<str>,
    /// The value.
    pub value: ValueId,
}

/// An output declared to be the in-place successor of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Position among the inputs.
    pub input: usize,
    /// Position among the outputs.
    pub output: usize,
    /// Growing state: the output is the input with elements appended along an axis, in a buffer of fixed capacity.
    pub append: Option<Append>,
}

/// How a state grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append {
    /// The axis.
    pub axis: usize,
    /// Its capacity in elements; strides are those of the full capacity.
    pub capacity: i64,
}

/// A model in SSA form.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Name of the model.
    pub name: Arc<str>,
    /// Declared ranges of named dimensions.
    pub dims: Dims,
    /// The constants that nodes refer to.
    pub consts: ConstTable,
    /// In-place states.
    pub states: Vec<State>,
    inputs: Vec<ValueId>,
    outputs: Vec<Output>,
    nodes: PrimaryMap<NodeId, Node>,
    values: PrimaryMap<ValueId, Value>,
    order: Vec<NodeId>,
}

impl Graph {
    /// A graph without nodes.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            dims: Dims::new(),
            consts: ConstTable::default(),
            states: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            nodes: PrimaryMap::new(),
            values: PrimaryMap::new(),
            order: Vec::new(),
        }
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: impl Into<Arc<str>>, ty: TensorType) -> ValueId {
        let def = ValueDef::Input(self.inputs.len());
        let value = self.values.push(Value { ty, def, name: Some(name.into()) });
        self.inputs.push(value);
        value
    }

    /// Adds a graph output.
    pub fn add_output(&mut self, name: impl Into<Arc<str>>, value: ValueId) {
        self.outputs.push(Output { name: name.into(), value });
    }

    /// Adds a node at the end of the order and gives its results.
    ///
    /// # Errors
    /// [`TypeError`] when the operator's type rule refuses the operands; the graph is unchanged then.
    pub fn add(&mut self, op: impl Into<Op>, inputs: &[Option<ValueId>], loc: Loc) -> Result<Vec<ValueId>, TypeError> {
        let op = op.into();
        let types = self.infer(&op, inputs)?;
        let id = self.nodes.next_key();
        let outputs = types
            .into_iter()
            .enumerate()
            .map(|(index, ty)| self.values.push(Value { ty, def: ValueDef::Result(id, index), name: None }))
            .collect::<Vec<_>>();
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), schedule: None, loc });
        self.order.push(id);
        Ok(outputs)
    }

    /// [`Graph::add`] for an operator with one result and no operand left out.
    ///
    /// # Errors
    /// [`TypeError`] as for [`Graph::add`], also when the operator has another number of results.
    pub fn add1(&mut self, op: impl Into<Op>, inputs: &[ValueId], loc: Loc) -> Result<ValueId, TypeError> {
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        match self.add(op, &inputs, loc)?.as_slice() {
            [value] => Ok(*value),
            many => Err(TypeError::Arity { found: format!("{} results", many.len()), accepted: "one result".into() }),
        }
    }

    /// Adds a node that gives a constant of the table.
    pub fn add_const(&mut self, id: ConstId, loc: Loc) -> ValueId {
        let ty = self.consts[id].ty();
        let node = self.nodes.next_key();
        let value = self.values.push(Value { ty, def: ValueDef::Result(node, 0), name: None });
        self.nodes.push(Node {
            op: Constant { id }.into(),
            inputs: Vec::new(),
            outputs: vec![value],
            schedule: None,
            loc,
        });
        self.order.push(node);
        value
    }

    /// The types of an operator's results on these operands.
    ///
    /// # Errors
    /// [`TypeError`] when the type rule refuses.
    pub fn infer(&self, op: &Op, inputs: &[Option<ValueId>]) -> Result<Vec<TensorType>, TypeError> {
        if let Op::Constant(constant) = op {
            return match self.consts.get(constant.id) {
                Some(entry) => Ok(vec![entry.ty()]),
                None => Err(TypeError::Attribute {
                    name: "id",
                    found: constant.id.to_string(),
                    accepted: "a constant of the table".into(),
                }),
            };
        }
        let types: Vec<Option<&TensorType>> = inputs.iter().map(|v| v.map(|v| &self.values[v].ty)).collect();
        op.infer(&types)
    }

    /// Graph inputs in order.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Graph outputs in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The nodes in topological order.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// The nodes in topological order, with their ids.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.order.iter().map(|&id| (id, &self.nodes[id]))
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id]
    }

    /// Whether the id is one of this graph's.
    pub fn has_value(&self, id: ValueId) -> bool {
        self.values.is_valid(id)
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.values[id].ty
    }

    /// The node that makes a value, unless it is a graph input.
    pub fn producer(&self, id: ValueId) -> Option<(NodeId, &Node)> {
        match self.values[id].def {
            ValueDef::Input(_) => None,
            ValueDef::Result(node, _) => Some((node, &self.nodes[node])),
        }
    }

    /// The constant that a value is, if its producer is one.
    pub fn constant(&self, id: ValueId) -> Option<&ConstEntry> {
        match &self.producer(id)?.1.op {
            Op::Constant(constant) => self.consts.get(constant.id),
            _ => None,
        }
    }

    /// How often each value is used by nodes in the order and by outputs.
    pub fn use_counts(&self) -> cranelift_entity::SecondaryMap<ValueId, u32> {
        let mut counts = cranelift_entity::SecondaryMap::new();
        let operands = self.nodes().flat_map(|(_, node)| node.inputs.iter().flatten().copied());
        for value in operands.chain(self.outputs.iter().map(|o| o.value)) {
            counts[value] += 1;
        }
        counts
    }

    /// Number of values ever made; ids are below it.
    pub fn num_values(&self) -> usize {
        self.values.len()
    }

    /// A symbol that no declared dimension uses, starting with `stem`.
    pub fn fresh_dim(&self, stem: &str) -> Arc<str> {
        (0..)
            .map(|n| if n == 0 { stem.to_owned() } else { format!("{stem}_{n}") })
            .find(|name| !self.dims.contains_key(name.as_str()))
            .expect("some suffix is free")
            .into()
    }

    /// Every extent of every type, for checks over the whole graph.
    pub fn type_extents(&self) -> impl Iterator<Item = &Extent> {
        self.values.values().flat_map(|v| v.ty.shape.iter())
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::text::print_graph(self, f)
    }
}

/// Index of an id, for tables kept outside.
pub fn index_of(id: ValueId) -> usize {
    id.index()
}

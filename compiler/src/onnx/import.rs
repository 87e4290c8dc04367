//! Walks the nodes of a model and builds the graph.
//!
//! Nodes at fault are noted and their results marked as missing; nodes that need a missing value are skipped, but still
//! looked up, so that one run names everything that is unsupported.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use adze_ir::extent::{Dims, Extent, LIMIT};
use adze_ir::graph::{ConstEntry, Graph, ValueId};
use adze_ir::loc::Loc;
use adze_ir::minifloat::Minifloat;
use adze_ir::ops::{ExtentValue, Op, Reshape, TypeError};
use adze_ir::tensor::Tensor;
use adze_ir::types::TensorType;
use onnx_protobuf::{FunctionProto, GraphProto, NodeProto, TensorProto};

use super::attrs::{Attrs, Env};
use super::error::{Fault, Issue, Place};
use super::fold::fold;
use super::node::{NodeCx, Outputs};
use super::ops::{self, Found};
use super::tensor::{MAX_RANK, TensorReader};
use super::value::{Content, Source, Value, is_small};

/// Most nodes after inlining; functions that call each other twice would otherwise grow without bound.
const MAX_NODES: usize = 500_000;

/// Most operators that these become: some are made of many.
const MAX_OPERATORS: usize = 4 * MAX_NODES;

/// Most memory that constants and shapes computed at import may take.
const MAX_FOLDED_BYTES: usize = 256 << 20;

/// Deepest nesting of function calls and branches.
const MAX_CALLS: usize = 64;

/// Most issues that are kept.
const MAX_ISSUES: usize = 1000;

/// What a name stands for.
#[derive(Clone)]
pub(super) enum Slot {
    /// A value.
    Value(Value),
    /// The result of a node at fault, or of one that needed such a result.
    Missing,
    /// An optional input that the function's call left out.
    Absent,
}

/// The names visible in a graph, branch or function body.
#[derive(Default)]
struct Frame {
    values: BTreeMap<String, Slot>,
    /// Names of outer frames are not visible (function bodies).
    closed: bool,
}

/// Opset versions by domain, `ai.onnx` spelt as the empty name.
pub(super) type Opsets = Rc<BTreeMap<String, i64>>;

/// What the nodes of one body have in common.
#[derive(Clone)]
struct Body<'a> {
    opsets: Opsets,
    env: Option<Env<'a>>,
    /// Names of the calls that led here, for locations.
    prefix: Arc<str>,
    depth: usize,
}

/// The state of an import.
pub(super) struct Importer<'a> {
    pub(super) graph: Graph,
    pub(super) reader: TensorReader,
    pub(super) issues: Vec<Issue>,
    functions: BTreeMap<(String, String, String), &'a FunctionProto>,
    /// Tensors that were read, by the address of their message.
    constants: BTreeMap<usize, Value>,
    frames: Vec<Frame>,
    body: Body<'a>,
    nodes: usize,
    operators: usize,
    folded_bytes: usize,
    /// A bound was reached: what is missing from now on is no fault of its own.
    pub(super) exhausted: bool,
}

impl<'a> Importer<'a> {
    pub(super) fn new(name: &str, reader: TensorReader, opsets: Opsets, functions: &'a [FunctionProto]) -> Self {
        let key = |f: &FunctionProto| (domain_of(&f.domain).to_string(), f.name.clone(), f.overload.clone());
        Self {
            graph: Graph::new(name),
            reader,
            issues: Vec::new(),
            functions: functions.iter().map(|f| (key(f), f)).collect(),
            constants: BTreeMap::new(),
            frames: vec![Frame::default()],
            body: Body { opsets, env: None, prefix: "".into(), depth: 0 },
            nodes: 0,
            operators: 0,
            folded_bytes: 0,
            exhausted: false,
        }
    }

    pub(super) fn note(&mut self, issue: Issue) {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(issue);
        }
    }

    pub(super) fn define(&mut self, name: &str, slot: Slot) {
        if let Some(frame) = self.frames.last_mut()
            && !name.is_empty()
        {
            frame.values.insert(name.to_string(), slot);
        }
    }

    pub(super) fn is_defined_here(&self, name: &str) -> bool {
        self.frames.last().is_some_and(|frame| frame.values.contains_key(name))
    }

    /// The value of a name: not defined, at fault, or there.
    pub(super) fn look_up(&self, name: &str) -> Option<Slot> {
        for frame in self.frames.iter().rev() {
            if let Some(slot) = frame.values.get(name) {
                return Some(slot.clone());
            }
            if frame.closed {
                return None;
            }
        }
        None
    }

    /// Defines the initializers of a graph.
    pub(super) fn initializers(&mut self, graph: &'a GraphProto) {
        for proto in &graph.initializer {
            let value = self.constant(proto, &proto.name, Loc::default());
            let slot = match value {
                Ok(value) => Slot::Value(value),
                Err(fault) => {
                    self.note(fault.at(Place::Initializer(proto.name.clone())));
                    Slot::Missing
                }
            };
            self.define(&proto.name, slot);
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |values| values.name.as_str());
            let fault = Fault::unsupported("a sparse initializer", "dense initializers");
            self.note(fault.at(Place::Initializer(name.to_string())));
            self.define(name, Slot::Missing);
        }
    }

    /// A tensor of the model as a value.
    ///
    /// Read once, also when a function or a loop's body that holds it is imported many times.
    pub(super) fn constant(&mut self, proto: &'a TensorProto, name: &str, loc: Loc) -> Result<Value, Fault> {
        let address = std::ptr::from_ref(proto).addr();
        if let Some(value) = self.constants.get(&address) {
            return Ok(value.clone());
        }
        let value = Value::tensor(self.reader.read(proto)?, name, loc);
        self.constants.insert(address, value.clone());
        Ok(value)
    }

    /// Imports the nodes of a body in order.
    pub(super) fn nodes(&mut self, nodes: &'a [NodeProto]) {
        for (index, node) in nodes.iter().enumerate() {
            if self.exhausted || self.issues.len() >= MAX_ISSUES {
                self.exhausted = true;
                return;
            }
            if let Err(fault) = self.count_node() {
                let issue = fault.at(self.place(node, index));
                self.note(issue);
                return;
            }
            match self.node(node, index) {
                Ok(Some(values)) => self.bind(node, values),
                Ok(None) => self.poison(node),
                Err(fault) => {
                    let issue = fault.at(self.place(node, index));
                    self.note(issue);
                    self.poison(node);
                }
            }
        }
    }

    /// Counts a node or a turn of a loop; past the bound, nothing more is imported.
    fn count_node(&mut self) -> Result<(), Fault> {
        self.nodes += 1;
        self.exhausted |= self.nodes > MAX_NODES;
        if self.exhausted {
            let found = "more nodes once functions and loops are written out";
            return Err(Fault::unsupported(found, format!("{MAX_NODES} nodes")));
        }
        Ok(())
    }

    fn bind(&mut self, node: &NodeProto, values: Vec<Value>) {
        for (name, value) in node.output.iter().zip(values) {
            if let Source::Computed(id) = value.source
                && self.graph.value(id).name.is_none()
                && !name.is_empty()
            {
                self.graph.set_name(id, Some(self.qualified(name)));
            }
            self.define(name, Slot::Value(value));
        }
    }

    fn poison(&mut self, node: &NodeProto) {
        for name in &node.output {
            self.define(name, Slot::Missing);
        }
    }

    fn qualified(&self, name: &str) -> Arc<str> {
        if self.body.prefix.is_empty() { name.into() } else { format!("{}/{name}", self.body.prefix).into() }
    }

    fn place(&self, node: &NodeProto, index: usize) -> Place {
        let domain = domain_of(&node.domain);
        Place::Node {
            name: self.qualified(node_name(node)).to_string(),
            index,
            op_type: node.op_type.clone(),
            domain: domain.to_string(),
            opset: self.body.opsets.get(domain).copied().unwrap_or(0),
        }
    }

    /// The results of a node; `None` when an operand is missing because its own node is at fault.
    fn node(&mut self, node: &'a NodeProto, index: usize) -> Result<Option<Vec<Value>>, Fault> {
        let domain = domain_of(&node.domain);
        let key = (domain.to_string(), node.op_type.clone(), node.overload.clone());
        let function = self.functions.get(&key).copied();
        let opset = self.body.opsets.get(domain).copied();
        let row = match (opset, function) {
            // A definition in the model wins, but not over an operator of ONNX itself, which stays whole.
            (_, Some(_)) if !domain.is_empty() => None,
            (Some(opset), function) => match ops::find(domain, &node.op_type, opset) {
                Found::Row(import) => Some(import),
                _ if function.is_some() => None,
                Found::OtherOpsets(accepted) => {
                    return Err(Fault::unsupported(format!("opset {opset}"), format!("opsets {accepted}")));
                }
                Found::Nothing => {
                    return Err(Fault::unsupported("an operator that is not supported", ops::summary(domain)));
                }
            },
            (None, Some(_)) => None,
            (None, None) => {
                return Err(Fault::unsupported(format!("domain `{domain}` without an opset"), "an opset import"));
            }
        };
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(match (name.as_str(), self.look_up(name)) {
                ("", _) => None,
                (_, Some(Slot::Value(value))) => Some(value),
                (_, Some(Slot::Absent)) => None,
                (_, Some(Slot::Missing)) => return Ok(None),
                (_, None) => {
                    return Err(Fault::model(format!("input `{name}` that nothing defines"), "a value defined before"));
                }
            });
        }
        if let Some(taken) = node.output.iter().find(|name| !name.is_empty() && self.is_defined_here(name)) {
            return Err(Fault::model(format!("result `{taken}` defined twice"), "one definition per name"));
        }
        let attrs = Attrs::new(node, self.body.env.clone());
        let Some(import) = row else {
            let function = function.ok_or_else(|| Fault::bug("a function that vanished"))?;
            return self.call(function, node, inputs, &attrs);
        };
        let mut name = self.qualified(node_name(node));
        if name.is_empty() {
            name = self.qualified(&format!("{}_{index}", node.op_type));
        }
        let opset = opset.unwrap_or_default();
        if domain.is_empty() && opset < 6 {
            // Which operands may be overwritten: the planner's business.
            attrs.ignore("consumed_inputs");
        }
        let mut cx = NodeCx { importer: self, node, attrs, inputs, opset, loc: Loc::named(name), missing: false };
        let values = import(&mut cx)?;
        if cx.missing {
            return Ok(None);
        }
        if let Some(fault) = cx.attrs.unread() {
            return Err(fault);
        }
        cx.at_most_outputs(values.len())?;
        Ok(Some(values))
    }

    /// Imports the body of a function in place of its call.
    fn call(
        &mut self,
        function: &'a FunctionProto,
        node: &'a NodeProto,
        inputs: Vec<Option<Value>>,
        attrs: &Attrs<'a>,
    ) -> Result<Option<Vec<Value>>, Fault> {
        if inputs.len() > function.input.len() || node.output.len() > function.output.len() {
            let found = format!("{} inputs, {} results", inputs.len(), node.output.len());
            let accepted = format!("{} and {} at most", function.input.len(), function.output.len());
            return Err(Fault::model(found, accepted));
        }
        let mut env: BTreeMap<String, _> =
            function.attribute_proto.iter().map(|default| (default.name.clone(), default)).collect();
        env.extend(attrs.resolved());
        let opsets = function.opset_import.iter().map(|o| (domain_of(&o.domain).to_string(), o.version)).collect();
        let prefix = self.qualified(node_name(node));
        let body = Body { opsets: Rc::new(opsets), env: Some(Rc::new(env)), prefix, depth: self.body.depth + 1 };
        self.inside(body, true, |importer| {
            for (name, input) in function.input.iter().zip(inputs.into_iter().chain(std::iter::repeat(None))) {
                importer.define(name, input.map_or(Slot::Absent, Slot::Value));
            }
            importer.nodes(&function.node);
            importer.results(function.output.iter().take(node.output.len()))
        })
    }

    /// Imports a subgraph in place: it sees the names around it; `inputs` stand for its own.
    ///
    /// `None` when a result is missing because of a fault that is noted.
    pub(super) fn subgraph(
        &mut self,
        graph: &'a GraphProto,
        inputs: Vec<Value>,
        label: Option<&str>,
    ) -> Result<Option<Vec<Value>>, Fault> {
        if inputs.len() != graph.input.len() {
            let found = format!("a subgraph of {} inputs", graph.input.len());
            return Err(Fault::model(found, format!("{}", inputs.len())));
        }
        // Turns of a loop count even when its body is empty.
        self.count_node()?;
        let prefix = label.map_or_else(|| self.body.prefix.clone(), |label| self.qualified(label));
        let body = Body { depth: self.body.depth + 1, prefix, ..self.body.clone() };
        self.inside(body, false, |importer| {
            importer.initializers(graph);
            for (input, value) in graph.input.iter().zip(inputs) {
                importer.define(&input.name, Slot::Value(value));
            }
            importer.nodes(&graph.node);
            importer.results(graph.output.iter().map(|output| &output.name))
        })
    }

    fn inside<T>(
        &mut self,
        body: Body<'a>,
        closed: bool,
        work: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if body.depth > MAX_CALLS {
            return Err(Fault::unsupported("functions or branches nested deeper", format!("{MAX_CALLS} levels")));
        }
        let outer = std::mem::replace(&mut self.body, body);
        self.frames.push(Frame { closed, ..Frame::default() });
        let result = work(self);
        self.frames.pop();
        self.body = outer;
        result
    }

    /// The values of a body's results; `None` when one is missing because its node is at fault.
    fn results<'n>(&self, names: impl Iterator<Item = &'n String>) -> Result<Option<Vec<Value>>, Fault> {
        let mut values = Vec::new();
        for name in names {
            match self.look_up(name) {
                Some(Slot::Value(value)) => values.push(value),
                Some(Slot::Missing) => return Ok(None),
                None if self.exhausted => return Ok(None),
                Some(Slot::Absent) | None => {
                    return Err(Fault::model(format!("result `{name}` that nothing defines"), "a value of the body"));
                }
            }
        }
        Ok(Some(values))
    }

    /// Applies one of our operators: at import when its operands are known, else as a node.
    pub(super) fn emit(&mut self, op: &Op, inputs: &[Option<&Value>], loc: &Loc) -> Outputs {
        let types: Vec<Option<&TensorType>> = inputs.iter().map(|input| input.map(|value| &value.ty)).collect();
        let results = op.infer(&types).map_err(|error| infer_fault(error, &types))?;
        for ty in &results {
            check_type(ty, &self.graph.dims)?;
        }
        if let Some(contents) = fold(op, inputs, &results, &self.graph.dims) {
            let loc = folded_loc(inputs, loc);
            self.count_folded(contents.iter().map(Content::cost_bytes).sum())?;
            let values = results.into_iter().zip(contents);
            return Ok(values.map(|(ty, content)| Value::known(ty, content, "", loc.clone())).collect());
        }
        let mut operands = Vec::with_capacity(inputs.len());
        for input in inputs {
            operands.push(match input {
                None => None,
                Some(value) => Some(self.materialise(value)?),
            });
        }
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            self.exhausted = true;
            return Err(Fault::unsupported("more operators once nodes are written out", format!("{MAX_OPERATORS}")));
        }
        let ids = self.graph.add(op.clone(), &operands, loc.clone()).map_err(type_fault)?;
        Ok(ids.into_iter().map(|id| Value::computed(id, self.graph.ty(id).clone())).collect())
    }

    /// Counts what the importer itself computes.
    pub(super) fn count_folded(&mut self, bytes: usize) -> Result<(), Fault> {
        self.folded_bytes = self.folded_bytes.saturating_add(bytes);
        if self.folded_bytes > MAX_FOLDED_BYTES {
            let accepted = format!("{} MiB of them", MAX_FOLDED_BYTES >> 20);
            return Err(Fault::unsupported("more constants and shapes computed at import", accepted));
        }
        Ok(())
    }

    /// The value as one of the graph.
    pub(super) fn materialise(&mut self, value: &Value) -> Result<ValueId, Fault> {
        let known = match &value.source {
            Source::Computed(id) => return Ok(*id),
            Source::Known(known) => known,
        };
        if let Some(id) = known.slot.get() {
            return Ok(id);
        }
        let id = match &known.content {
            Content::Tensor(tensor) => {
                let id = self.graph.consts.push(ConstEntry::new(known.name.clone(), tensor.clone()));
                self.graph.add_const(id, known.loc.clone())
            }
            Content::Extents(values) => self.extent_node(&value.ty, values, &known.loc)?,
        };
        if self.graph.value(id).name.is_none() && !known.name.is_empty() {
            self.graph.set_name(id, Some(known.name.clone()));
        }
        known.slot.set(Some(id));
        Ok(id)
    }

    fn extent_node(&mut self, ty: &TensorType, values: &[Extent], loc: &Loc) -> Result<ValueId, Fault> {
        let scalar = ty.rank() == 0;
        let op = ExtentValue { values: values.to_vec(), scalar, dtype: ty.dtype };
        let id = self.graph.add1(op, &[], loc.clone()).map_err(type_fault)?;
        if ty.rank() <= 1 {
            return Ok(id);
        }
        self.graph.add1(Reshape { shape: ty.shape.clone() }, &[id], loc.clone()).map_err(type_fault)
    }
}

/// The source nodes behind a folded value, up to a number that keeps long chains of shape arithmetic linear.
fn folded_loc(inputs: &[Option<&Value>], loc: &Loc) -> Loc {
    const MAX_NAMES: usize = 16;
    let mut joined = loc.clone();
    for value in inputs.iter().flatten() {
        let with = value.loc().join(&joined);
        if with.names().len() <= MAX_NAMES {
            joined = with;
        }
    }
    joined
}

/// `ai.onnx` is another spelling of the empty domain.
pub(super) fn domain_of(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// The node's name, or that of its first result.
fn node_name(node: &NodeProto) -> &str {
    if !node.name.is_empty() {
        return &node.name;
    }
    node.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str)
}

/// A type rule's refusal. The rules accept what ONNX does, so the model is at fault.
pub(super) fn type_fault(error: TypeError) -> Fault {
    match error {
        TypeError::Rank { input, found, accepted } => Fault::model(format!("input {input} of rank {found}"), accepted),
        TypeError::DType { input, found, accepted } => Fault::model(format!("input {input} of {found}"), accepted),
        TypeError::Shape { what, found, accepted } => Fault::model(format!("{what}: {found}"), accepted),
        TypeError::Attribute { name, found, accepted } => Fault::model(format!("`{name}` = {found}"), accepted),
        TypeError::Arity { found, accepted } => Fault::model(found, accepted),
    }
}

/// [`type_fault`], with another verdict where dimensions are open: the model may be right for the values they really have.
fn infer_fault(error: TypeError, types: &[Option<&TensorType>]) -> Fault {
    // Formats for storage only: ONNX lets more operators take them.
    let stored = types.iter().flatten().any(|ty| Minifloat::of(ty.dtype).is_some());
    if stored && matches!(error, TypeError::DType { .. } | TypeError::Attribute { .. }) {
        let fault = type_fault(error);
        return Fault::unsupported(fault.found, fault.accepted);
    }
    let open = types.iter().flatten().any(|ty| ty.shape.iter().any(|dim| dim.as_const().is_none()));
    let about_shapes = matches!(error, TypeError::Shape { .. });
    let fault = type_fault(error);
    if !(open && about_shapes) {
        return fault;
    }
    let accepted = format!("{} for every value of the dimensions: bind or narrow them with `--dim`", fault.accepted);
    Fault::unsupported(fault.found, accepted)
}

/// Bounds on types, so that later stages need not fear them.
pub(super) fn check_type(ty: &TensorType, dims: &Dims) -> Result<(), Fault> {
    if ty.rank() > MAX_RANK {
        return Err(Fault::unsupported(format!("rank {}", ty.rank()), format!("rank {MAX_RANK} at most")));
    }
    if !ty.shape.iter().all(is_small) {
        let found = "a shape that depends on dimensions in a way too long to write";
        return Err(Fault::unsupported(found, "simpler shapes"));
    }
    let outside = |dim: &Extent| {
        let range = dim.range(dims);
        range.hi < 0 || range.hi > LIMIT
    };
    if let Some(dim) = ty.shape.iter().find(|dim| outside(dim)) {
        return Err(Fault::model(format!("dimension {dim}"), format!("0 to {LIMIT}")));
    }
    // Open dimensions have wide ranges until they are bound; what they need in memory is the planner's to judge.
    if ty.fixed_shape().is_some() && ty.bytes().as_const().is_none_or(|bytes| bytes > LIMIT) {
        return Err(Fault::model(format!("a tensor {ty}"), format!("{LIMIT} bytes at most")));
    }
    Ok(())
}

/// Whether a tensor is of the type that an input declares.
pub(super) fn has_type(tensor: &Tensor, ty: &TensorType) -> bool {
    let dims = tensor.shape().iter().zip(&ty.shape);
    tensor.dtype() == ty.dtype
        && tensor.shape().len() == ty.rank()
        && dims.into_iter().all(|(&found, dim)| dim.as_const().is_none_or(|dim| usize::try_from(dim) == Ok(found)))
}

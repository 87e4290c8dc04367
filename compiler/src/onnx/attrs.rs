//! Attributes of an ONNX node: typed, checked, and none overlooked.
//!
//! `AttributeProto::as_value` of onnx-protobuf panics on an attribute without its field, so fields are read here.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, GraphProto, NodeProto, TensorProto};
use protobuf::Enum;

use super::error::Fault;

/// Attributes of the call of a function, by name, for the nodes of its body that refer to them.
pub(super) type Env<'a> = Rc<BTreeMap<String, &'a AttributeProto>>;

/// The attributes of one node; remembers which ones were read.
pub(super) struct Attrs<'a> {
    node: &'a NodeProto,
    env: Option<Env<'a>>,
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Attrs<'a> {
    pub(super) fn new(node: &'a NodeProto, env: Option<Env<'a>>) -> Self {
        Self { node, env, read: RefCell::default() }
    }

    /// The attributes by name, those that refer to a function's attribute looked up.
    pub(super) fn resolved(&self) -> BTreeMap<String, &'a AttributeProto> {
        let pairs = self.node.attribute.iter().filter_map(|a| Some((a.name.clone(), self.resolve(a)?)));
        pairs.collect()
    }

    fn resolve(&self, attribute: &'a AttributeProto) -> Option<&'a AttributeProto> {
        match &self.env {
            Some(env) if !attribute.ref_attr_name.is_empty() => env.get(&attribute.ref_attr_name).copied(),
            _ => Some(attribute),
        }
    }

    /// The attribute, checked to be of that type.
    fn get(&self, name: &'static str, ty: AttributeType) -> Result<Option<&'a AttributeProto>, Fault> {
        self.read.borrow_mut().insert(name);
        let found = self.node.attribute.iter().find(|a| a.name == name).and_then(|a| self.resolve(a));
        let Some(attribute) = found else { return Ok(None) };
        // The type is left out by exporters of 2017.
        let code = attribute.type_.value();
        if code != 0 && code != ty.value() {
            let found = attribute.type_.enum_value().map_or_else(|code| format!("type {code}"), |t| format!("{t:?}"));
            return Err(Fault::model(format!("attribute `{name}` of type {found}"), format!("type {ty:?}")));
        }
        Ok(Some(attribute))
    }

    pub(super) fn int(&self, name: &'static str) -> Result<Option<i64>, Fault> {
        Ok(self.get(name, AttributeType::INT)?.map(|a| a.i))
    }

    pub(super) fn float(&self, name: &'static str) -> Result<Option<f32>, Fault> {
        Ok(self.get(name, AttributeType::FLOAT)?.map(|a| a.f))
    }

    pub(super) fn ints(&self, name: &'static str) -> Result<Option<&'a [i64]>, Fault> {
        Ok(self.get(name, AttributeType::INTS)?.map(|a| a.ints.as_slice()))
    }

    pub(super) fn floats(&self, name: &'static str) -> Result<Option<&'a [f32]>, Fault> {
        Ok(self.get(name, AttributeType::FLOATS)?.map(|a| a.floats.as_slice()))
    }

    pub(super) fn string(&self, name: &'static str) -> Result<Option<&'a str>, Fault> {
        self.get(name, AttributeType::STRING)?.map(|a| text(name, &a.s)).transpose()
    }

    pub(super) fn strings(&self, name: &'static str) -> Result<Option<Vec<&'a str>>, Fault> {
        let Some(attribute) = self.get(name, AttributeType::STRINGS)? else { return Ok(None) };
        attribute.strings.iter().map(|s| text(name, s)).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn tensor(&self, name: &'static str) -> Result<Option<&'a TensorProto>, Fault> {
        Ok(self.get(name, AttributeType::TENSOR)?.and_then(|a| a.t.as_ref()))
    }

    pub(super) fn graph(&self, name: &'static str) -> Result<Option<&'a GraphProto>, Fault> {
        Ok(self.get(name, AttributeType::GRAPH)?.and_then(|a| a.g.as_ref()))
    }

    /// A flag spelt as an integer.
    pub(super) fn flag(&self, name: &'static str, default: bool) -> Result<bool, Fault> {
        match self.int(name)? {
            None => Ok(default),
            Some(value @ (0 | 1)) => Ok(value == 1),
            Some(other) => Err(Fault::model(format!("attribute `{name}` = {other}"), "0 or 1")),
        }
    }

    /// A word out of a few.
    pub(super) fn word<T: Copy>(&self, name: &'static str, default: &str, words: &[(&str, T)]) -> Result<T, Fault> {
        let found = self.string(name)?.unwrap_or(default);
        words.iter().find(|(word, _)| *word == found).map(|(_, value)| *value).ok_or_else(|| {
            let accepted: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            Fault::unsupported(format!("attribute `{name}` = `{found}`"), accepted.join(", "))
        })
    }

    /// An integer that must have the one value that is supported.
    pub(super) fn expect_int(&self, name: &'static str, default: i64, supported: i64) -> Result<(), Fault> {
        let found = self.int(name)?.unwrap_or(default);
        if found == supported {
            return Ok(());
        }
        Err(Fault::unsupported(format!("attribute `{name}` = {found}"), format!("{supported}")))
    }

    /// Notes an attribute that changes nothing here.
    pub(super) fn ignore(&self, name: &'static str) {
        self.read.borrow_mut().insert(name);
    }

    /// An attribute that nothing read. The operator functions read or note all that ONNX defines, so it is none of ONNX.
    pub(super) fn unread(&self) -> Option<Fault> {
        let read = self.read.borrow();
        let extra = self.node.attribute.iter().find(|a| !read.contains(a.name.as_str()))?;
        self.resolve(extra)?;
        let accepted: Vec<String> = read.iter().map(|name| format!("`{name}`")).collect();
        let accepted = if accepted.is_empty() { "no attribute".into() } else { accepted.join(", ") };
        Some(Fault::model(format!("attribute `{}`", extra.name), accepted))
    }
}

fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::model(format!("attribute `{name}` that is no text"), "UTF-8"))
}

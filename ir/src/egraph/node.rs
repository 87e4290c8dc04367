//! E-nodes.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use egg::{FromOp, FromOpError, Id, Language};

use crate::ops::{BinaryFn, Op, UnaryFn};
use crate::text::Spelling;

/// What an e-node is: an index into the sorted table of spellings, so the same number on every run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u16);

static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let own = ["@attr", "@const", "@input", "@none", "@get", "@pick", "@tuple"];
    let functions = UnaryFn::ALL.iter().map(|f| f.name()).chain(BinaryFn::ALL.iter().map(|f| f.name()));
    let names: BTreeSet<&'static str> = own.into_iter().chain(Op::NAMES.iter().copied()).chain(functions).collect();
    names.into_iter().collect()
});

impl Kind {
    /// The kind of that spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        let index = NAMES.binary_search(&name).ok()?;
        u16::try_from(index).ok().map(Kind)
    }

    fn own(name: &'static str) -> Self {
        Self::from_name(name).expect("the table has our own names")
    }

    /// The kind of an operator's e-node.
    pub fn of(op: &Op) -> Self {
        Self::own(op.spelling())
    }

    /// Its spelling.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An e-node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ENode {
    /// What it is.
    pub kind: Kind,
    /// For leaves: index of the attribute, constant or input; for `@get`: position of the result; for
    /// `@pick`: that of the alternative.
    pub payload: u32,
    /// Attribute leaf first, then operands.
    pub children: Box<[Id]>,
}

impl ENode {
    fn leaf(name: &'static str, payload: u32) -> Self {
        Self { kind: Kind::own(name), payload, children: Box::default() }
    }

    /// Attributes: index into [`Known`](super::Known)'s table of operators.
    pub fn attr(index: u32) -> Self {
        Self::leaf("@attr", index)
    }

    /// A constant of the table.
    pub fn constant(index: u32) -> Self {
        Self::leaf("@const", index)
    }

    /// A value from outside the region.
    pub fn input(index: u32) -> Self {
        Self::leaf("@input", index)
    }

    /// An optional operand that is left out.
    pub fn none() -> Self {
        Self::leaf("@none", 0)
    }

    /// Result `index` of an operator with several.
    pub fn get(index: u32, op: Id) -> Self {
        Self { kind: Kind::own("@get"), payload: index, children: Box::new([op]) }
    }

    /// The alternative `index` of a `choice`, as extraction took it.
    pub fn pick(index: u32, alternative: Id) -> Self {
        Self { kind: Kind::own("@pick"), payload: index, children: Box::new([alternative]) }
    }

    /// All results of a region.
    pub fn tuple(values: Vec<Id>) -> Self {
        Self { kind: Kind::own("@tuple"), payload: 0, children: values.into() }
    }

    /// An operator on its attribute leaf and operands.
    pub fn op(op: &Op, attr: Id, operands: &[Id]) -> Self {
        let children = std::iter::once(attr).chain(operands.iter().copied()).collect();
        Self { kind: Kind::of(op), payload: 0, children }
    }

    /// Whether it is the leaf of that spelling (`@attr`, ...).
    pub fn is(&self, name: &str) -> bool {
        self.kind.name() == name
    }

    /// Whether it is an operator.
    pub fn is_op(&self) -> bool {
        !self.kind.name().starts_with('@')
    }
}

impl Language for ENode {
    type Discriminant = (Kind, u32);

    fn discriminant(&self) -> Self::Discriminant {
        (self.kind, self.payload)
    }

    fn matches(&self, other: &Self) -> bool {
        self.kind == other.kind && self.payload == other.payload && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

impl fmt::Display for ENode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if self.is_op() || self.is("@tuple") || self.is("@none") { Ok(()) } else { write!(f, "{}", self.payload) }
    }
}

impl FromOp for ENode {
    type Error = FromOpError;

    fn from_op(op: &str, children: Vec<Id>) -> Result<Self, Self::Error> {
        match Kind::from_name(op) {
            Some(kind) => Ok(Self { kind, payload: 0, children: children.into() }),
            None => Err(FromOpError::new(op, children)),
        }
    }
}

//! Where a node came from: the ONNX node names (or text lines) that every rewrite keeps.

use std::fmt;
use std::sync::Arc;

/// The names of the source nodes that a node stands for, in source order, without repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Loc(Arc<[Arc<str>]>);

impl Loc {
    /// One source node.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self(Arc::new([name.into()]))
    }

    /// Many source nodes; repeats are dropped, the first occurrence keeps its place.
    pub fn from_names(names: impl IntoIterator<Item = Arc<str>>) -> Self {
        let mut kept: Vec<Arc<str>> = Vec::new();
        for name in names {
            if !kept.contains(&name) {
                kept.push(name);
            }
        }
        Self(kept.into())
    }

    /// The sources of both.
    pub fn join(&self, other: &Loc) -> Loc {
        Self::from_names(self.0.iter().chain(other.0.iter()).cloned())
    }

    /// The names.
    pub fn names(&self) -> &[Arc<str>] {
        &self.0
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Loc {
    /// `loc("Conv_3", "Relu_4")`, or nothing when empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        f.write_str("loc(")?;
        for (index, name) in self.0.iter().enumerate() {
            write!(f, "{}{:?}", if index == 0 { "" } else { ", " }, &**name)?;
        }
        f.write_str(")")
    }
}

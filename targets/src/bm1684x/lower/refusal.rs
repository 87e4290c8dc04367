//! What does not lower, and why.

use std::fmt;
use std::sync::Arc;

use adze_ir::graph::NodeId;

/// What the chip has no commands for, or adze none yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: found {found}, accepted on bm1684x: {accepted}")]
pub struct Unsupported {
    /// The node or output.
    pub place: String,
    /// Source nodes, if it is a node.
    pub names: Vec<Arc<str>>,
    /// The node of the graph without which the rest could do; `None` where there is no such node.
    pub node: Option<NodeId>,
    /// What is there.
    pub found: String,
    /// What could be.
    pub accepted: String,
}

impl Unsupported {
    /// Something about a graph as a whole.
    pub fn of_graph(found: String, accepted: impl Into<String>) -> Self {
        Self { place: "graph".into(), names: Vec::new(), node: None, found, accepted: accepted.into() }
    }
}

/// All of a graph that is [`Unsupported`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllUnsupported(pub Vec<Unsupported>);

impl std::error::Error for AllUnsupported {}

impl fmt::Display for AllUnsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl From<Unsupported> for AllUnsupported {
    fn from(one: Unsupported) -> Self {
        Self(vec![one])
    }
}

/// Why a node does not lower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An [`Unsupported`] whose node is known further up.
    Found {
        /// What is there.
        found: String,
        /// What could be.
        accepted: String,
    },
    /// It reads the result of a node that was refused already.
    Follows,
}

impl Refusal {
    /// What is to be said about a place, if it was not said before.
    pub(super) fn at(self, place: String, names: &[Arc<str>], node: Option<NodeId>) -> Option<Unsupported> {
        match self {
            Refusal::Found { found, accepted } => {
                Some(Unsupported { place, names: names.to_vec(), node, found, accepted })
            }
            Refusal::Follows => None,
        }
    }
}

/// Refuses something.
pub(super) fn refuse<T>(found: impl Into<String>, accepted: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Found { found: found.into(), accepted: accepted.into() })
}

//! What the verifier of the tile IR reports.

use std::sync::Arc;

use crate::extent::{Extent, Sym};
use crate::ops::TypeError;
use crate::tile::BufferId;

/// One violated invariant of a program.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TileViolation {
    /// Invariant 1.
    #[error("dimension `{name}`: range {lo}..{hi} is empty or negative")]
    Range {
        /// The dimension.
        name: Sym,
        /// Smallest value.
        lo: i64,
        /// Largest value.
        hi: i64,
    },
    /// Invariant 1.
    #[error("memory `{name}`: alignment, lanes, banks or capacity make no sense")]
    Memory {
        /// The memory.
        name: Arc<str>,
    },
    /// Invariant 2.
    #[error("{buffer} `{name}`: {reason}")]
    Buffer {
        /// The buffer.
        buffer: BufferId,
        /// Its name.
        name: Arc<str>,
        /// What is wrong.
        reason: String,
    },
    /// Invariant 3.
    #[error("{buffer} is an alias of {base}: {reason}")]
    Alias {
        /// The buffer.
        buffer: BufferId,
        /// What it shares the bytes of.
        base: BufferId,
        /// What is wrong.
        reason: &'static str,
    },
    /// Invariant 4.
    #[error("weight {buffer}: {reason}")]
    Weight {
        /// The buffer.
        buffer: BufferId,
        /// What is wrong.
        reason: String,
    },
    /// Invariant 5.
    #[error("loop `{var}`: {reason}")]
    Loop {
        /// Its variable.
        var: Sym,
        /// What is wrong.
        reason: &'static str,
    },
    /// Invariant 6.
    #[error("{at}: `{extent}` mentions what is not in scope, or leaves what is allowed")]
    Extent {
        /// The statement.
        at: String,
        /// The extent.
        extent: Extent,
    },
    /// Invariant 7.
    #[error("{at}: view of {buffer}: {reason}")]
    View {
        /// The statement.
        at: String,
        /// The buffer.
        buffer: BufferId,
        /// What is wrong.
        reason: String,
    },
    /// Invariant 8.
    #[error("{at}: axis {axis} of {buffer}, {offset} : {size}, is not proved to lie inside of {what}")]
    Outside {
        /// The statement.
        at: String,
        /// The buffer.
        buffer: BufferId,
        /// The axis.
        axis: usize,
        /// First index.
        offset: Extent,
        /// Number of indices.
        size: Extent,
        /// Extent of the buffer or its window.
        what: String,
    },
    /// Invariant 9: the rule refuses.
    #[error("{at}: {error}")]
    Type {
        /// The statement.
        at: String,
        /// Why.
        error: TypeError,
    },
    /// Invariant 9: the rule gives something else.
    #[error("{at}: result {result} is {found}, the type rule gives {expected}")]
    ResultType {
        /// The statement.
        at: String,
        /// Position of the result.
        result: usize,
        /// Type of the view.
        found: String,
        /// Type of the rule.
        expected: String,
    },
    /// Invariant 10.
    #[error("{at} writes {buffer}, an input or weight")]
    ReadOnly {
        /// The statement.
        at: String,
        /// The buffer.
        buffer: BufferId,
    },
    /// Invariant 11.
    #[error("{at}: {reason}")]
    Copy {
        /// The statement.
        at: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Invariant 12.
    #[error("{at} touches {buffer} while the copy of tag {tag} is under way")]
    UnderWay {
        /// The statement.
        at: String,
        /// The buffer.
        buffer: BufferId,
        /// Tag of the copy.
        tag: u32,
    },
    /// Invariant 12.
    #[error("wait for tag {tag}: no such copy is under way")]
    Wait {
        /// The tag.
        tag: u32,
    },
    /// Invariant 12.
    #[error("the copy of tag {tag} is never waited for")]
    NotAwaited {
        /// The tag.
        tag: u32,
    },
    /// Invariant 13.
    #[error("{buffer} `{name}` is {what}")]
    Undefined {
        /// The buffer.
        buffer: BufferId,
        /// Its name.
        name: Arc<str>,
        /// `read before it is written` or `never written`.
        what: &'static str,
    },
    /// Invariant 14.
    #[error("{buffer} at {offset}: {reason}")]
    Offset {
        /// The buffer.
        buffer: BufferId,
        /// Its offset.
        offset: Extent,
        /// What is wrong.
        reason: String,
    },
    /// Invariant 15.
    #[error("{a} and {b} overlap in `{memory}` while both are alive (positions {from} to {to})")]
    Overlap {
        /// One buffer.
        a: BufferId,
        /// The other.
        b: BufferId,
        /// Their memory.
        memory: Arc<str>,
        /// First common position.
        from: u32,
        /// Last common position.
        to: u32,
    },
    /// Invariant 16.
    #[error("{at} writes bytes of {buffer} that it reads")]
    Overwrite {
        /// The statement.
        at: String,
        /// The buffer that is read.
        buffer: BufferId,
    },
}

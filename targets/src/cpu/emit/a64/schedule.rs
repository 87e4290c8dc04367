//! Order of instructions in straight lines.

use super::Selected;

/// Moves instructions of hot straight lines apart.
pub(super) fn schedule(_selected: &mut Selected) {}

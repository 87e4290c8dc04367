//! What adze compiles to: machines as data, and code generation for each.

pub mod bm1684x;
pub mod cpu;

use adze_ir::egraph::Family;

/// The rules that machines hand over, for readers and tests; a machine's own come with its
/// [`Propose`](adze_ir::propose::Propose).
pub fn families() -> impl Iterator<Item = &'static Family> {
    [cpu::FAMILIES, bm1684x::FAMILIES].into_iter().flatten()
}

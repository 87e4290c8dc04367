//! Branch and bound around an extracted choice, for e-graphs with few open questions.
//!
//! Classes are settled users first. A partial choice is given up when what is chosen, and the least that its operands can weigh,
//! is no less than the best choice known. What is computed from constants weighs its bytes however it is computed, so nothing
//! is tried there.

use super::extract::{Found, Table};

/// The cheapest choice of all, and whether that is proved; otherwise `limit` steps were not enough.
pub(super) fn cheapest(table: &Table, root: usize, found: Found, limit: usize) -> (Found, bool) {
    let classes = table.range.len();
    let least: Vec<u64> =
        (0..classes).map(|class| table.ways_of(class).map(|at| table.least(at)).min().unwrap_or(0)).collect();
    let chosen = (0..classes).map(|class| table.fixed[class].then(|| table.first(class)).flatten()).collect();
    let mut search = Search {
        table,
        least,
        chosen,
        agenda: vec![root],
        queued: vec![false; classes],
        left: limit,
        root,
        best: found,
    };
    search.queued[root] = true;
    let proved = search.settle(0, search.least[root]).is_some();
    (search.best, proved)
}

struct Search<'a> {
    table: &'a Table,
    /// Of each class, what its cheapest way weighs by itself.
    least: Vec<u64>,
    chosen: Vec<Option<usize>>,
    /// Classes that are needed, settled up to some place.
    agenda: Vec<usize>,
    queued: Vec<bool>,
    left: usize,
    root: usize,
    best: Found,
}

impl Search<'_> {
    /// Tries every way of the classes from a place of the agenda on; `weight` is a bound. `None` at the limit.
    fn settle(&mut self, place: usize, weight: u64) -> Option<()> {
        if weight >= self.best.weight {
            return Some(());
        }
        let Some(&class) = self.agenda.get(place) else {
            if let Some(found) = self.table.walk(self.root, &self.chosen).filter(|f| f.weight < self.best.weight) {
                self.best = found;
            }
            return Some(());
        };
        if self.table.fixed[class] {
            return self.settle(place + 1, weight);
        }
        let mut ways: Vec<usize> = self.table.ways_of(class).collect();
        ways.sort_by_key(|&at| self.table.least(at));
        for at in ways {
            self.left = self.left.checked_sub(1)?;
            let start = self.agenda.len();
            let mut next = weight - self.least[class] + self.table.least(at);
            for &child in &self.table.ways[at].children {
                if !std::mem::replace(&mut self.queued[child], true) {
                    self.agenda.push(child);
                    next = next.saturating_add(self.least[child]);
                }
            }
            self.chosen[class] = Some(at);
            let done = self.settle(place + 1, next);
            self.chosen[class] = None;
            for child in self.agenda.drain(start..) {
                self.queued[child] = false;
            }
            done?;
        }
        Some(())
    }
}

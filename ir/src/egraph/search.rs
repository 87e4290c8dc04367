//! Local search around an extracted choice.
//!
//! A step takes another way of one class and completes it: classes that the choice has already cost nothing more, others
//! take the way that is then cheapest. It is kept when the true weight of the whole falls.

use super::extract::{Found, Table};

/// Ways that completions may look at, over all steps: bounds the time on large regions, the same on every machine.
pub(super) const LIMIT: usize = 4_000_000;

/// The choice of least weight when every use counts anew. It has no cycle, whatever the e-graph has.
pub(super) fn as_tree(table: &Table, root: usize) -> Option<Found> {
    let none = vec![None; table.range.len()];
    let mut left = LIMIT;
    let chosen = settle(table, none, &[root], &mut left)?;
    table.walk(root, &chosen)
}

/// A choice that no single step makes cheaper, or the last one when the limit is reached.
pub(super) fn improve(table: &Table, root: usize, mut found: Found) -> Found {
    let mut left = LIMIT;
    while let Some(better) = step(table, root, &found, &mut left) {
        found = better;
    }
    found
}

/// The first step that pays, users before operands.
fn step(table: &Table, root: usize, found: &Found, left: &mut usize) -> Option<Found> {
    for &class in found.classes.iter().rev() {
        let (start, end) = table.range[class];
        for way in (start..end).filter(|&way| found.chosen[class] != Some(way)) {
            *left = left.checked_sub(found.classes.len())?;
            let Some(trial) = complete(table, found, class, way, left) else { continue };
            if let Some(next) = table.walk(root, &trial).filter(|next| next.weight < found.weight) {
                return Some(next);
            }
        }
    }
    None
}

/// The choice with another way of a class.
pub(super) fn complete(
    table: &Table,
    found: &Found,
    class: usize,
    way: usize,
    left: &mut usize,
) -> Option<Vec<Option<usize>>> {
    let mut chosen = found.chosen.clone();
    chosen[class] = Some(way);
    let missing = |c: &usize| chosen[*c].is_none();
    let wanted: Vec<usize> = table.ways[way].children.iter().copied().filter(missing).collect();
    let mut chosen = settle(table, chosen, &wanted, left)?;
    follow(table, found, class, &mut chosen, left)?;
    Some(chosen)
}

/// Lets other classes use what a step brought in, where that makes them cheaper by themselves: several operators that one
/// larger one replaces pay together or not at all.
fn follow(table: &Table, found: &Found, class: usize, chosen: &mut [Option<usize>], left: &mut usize) -> Option<()> {
    let fresh: Vec<usize> = (0..chosen.len()).filter(|&c| chosen[c].is_some() && found.chosen[c].is_none()).collect();
    for &new in &fresh {
        for &user in table.parents[new].iter().filter(|&&user| user != class) {
            let Some(now) = found.chosen[user] else { continue };
            let (start, end) = table.range[user];
            *left = left.checked_sub(end - start)?;
            let uses = |at: &usize| {
                let children = &table.ways[*at].children;
                children.contains(&new) && children.iter().all(|&child| chosen[child].is_some())
            };
            let cheapest = (start..end).filter(uses).min_by_key(|&at| table.ways[at].weight);
            if let Some(at) = cheapest.filter(|&at| table.ways[at].weight < table.ways[now].weight) {
                chosen[user] = Some(at);
            }
        }
    }
    Some(())
}

/// Chooses for the classes that are wanted and for all that they need.
fn settle(
    table: &Table,
    mut chosen: Vec<Option<usize>>,
    wanted: &[usize],
    left: &mut usize,
) -> Option<Vec<Option<usize>>> {
    if wanted.is_empty() {
        return Some(chosen);
    }
    let mut below = below(table, &chosen, wanted, left)?;
    // Tree weights over what is missing: rounds until they settle, which takes as many as the longest chain.
    let mut best: Vec<Option<(u64, usize)>> = vec![None; chosen.len()];
    below.reverse();
    loop {
        let mut changed = false;
        for &c in &below {
            let (start, end) = table.range[c];
            *left = left.checked_sub(end - start)?;
            for at in start..end {
                let Some(weight) = tree_weight(table, &chosen, &best, at) else { continue };
                if best[c].is_none_or(|(least, _)| weight < least) {
                    best[c] = Some((weight, at));
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    for c in below {
        chosen[c] = best[c].map(|(_, at)| at);
    }
    Some(chosen)
}

/// Classes without a choice that these could need, users before operands where there is no cycle.
fn below(table: &Table, chosen: &[Option<usize>], wanted: &[usize], left: &mut usize) -> Option<Vec<usize>> {
    let (mut seen, mut list) = (vec![false; chosen.len()], Vec::new());
    let mut stack: Vec<usize> = wanted.to_vec();
    while let Some(c) = stack.pop() {
        if chosen[c].is_some() || std::mem::replace(&mut seen[c], true) {
            continue;
        }
        list.push(c);
        let (start, end) = table.range[c];
        *left = left.checked_sub(end - start)?;
        stack.extend(table.ways[start..end].iter().flat_map(|way| &way.children));
    }
    Some(list)
}

/// Weight of a way where what is chosen is free; `None` while an operand has none.
fn tree_weight(table: &Table, chosen: &[Option<usize>], best: &[Option<(u64, usize)>], at: usize) -> Option<u64> {
    table.ways[at].children.iter().try_fold(table.ways[at].weight, |sum, &child| {
        let own = if chosen[child].is_some() { 0 } else { best[child]?.0 };
        Some(sum.saturating_add(own))
    })
}

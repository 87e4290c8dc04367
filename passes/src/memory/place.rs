//! Placement of items in one memory: several greedy orders, then local search on the best.

use std::collections::BTreeMap;

use super::live::Item;

/// Offsets of the items, in their order, and the bytes they take together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Byte offset per item.
    pub offsets: Vec<i64>,
    /// Highest end.
    pub bytes: i64,
}

/// Work that the local search may do, in looks at neighbours.
const SEARCH_BUDGET: usize = 4_000_000;
/// Orders that the local search tries at most.
const SEARCH_ROUNDS: usize = 400;

/// Places the items; stops early when `goal` bytes are reached.
pub fn place(items: &[Item], align: i64, goal: i64) -> Placement {
    let neighbours = interference(items);
    let mut orders: Vec<Vec<usize>> = Vec::new();
    let length = |i: usize| i64::from(items[i].last - items[i].first) + 1;
    let pressure = pressure(items);
    let keys: [&dyn Fn(usize) -> (i64, i64); 7] = [
        // Where memory is tightest there is least choice.
        &|i| (-pressure[i], -items[i].size),
        &|i| (-pressure[i], -length(i)),
        &|i| (-items[i].size, -length(i)),
        &|i| (-length(i), -items[i].size),
        &|i| (-items[i].size.saturating_mul(length(i)), 0),
        &|i| (i64::from(items[i].first), -items[i].size),
        &|i| (-(neighbours[i].iter().map(|&n| items[n].size).sum::<i64>() + items[i].size), -items[i].size),
    ];
    for key in keys {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|&i| (key(i), i));
        orders.push(order);
    }
    let mut best: Option<(Placement, Vec<usize>)> = None;
    for order in orders {
        let placement = in_order(items, &neighbours, &order, align);
        if best.as_ref().is_none_or(|(b, _)| placement.bytes < b.bytes) {
            best = Some((placement, order));
        }
    }
    let Some((mut placement, mut order)) = best else { return Placement { offsets: Vec::new(), bytes: 0 } };
    search(items, &neighbours, align, goal, &mut placement, &mut order);
    placement
}

/// For each item the most bytes alive at a position of its range.
fn pressure(items: &[Item]) -> Vec<i64> {
    let mut change: BTreeMap<u32, i64> = BTreeMap::new();
    for item in items {
        *change.entry(item.first).or_default() += item.size;
        *change.entry(item.last.saturating_add(1)).or_default() -= item.size;
    }
    let mut alive = 0;
    for bytes in change.values_mut() {
        alive += *bytes;
        *bytes = alive;
    }
    // What is alive changes at births, of which every range has at least its own.
    items.iter().map(|i| change.range(i.first..=i.last).map(|(_, b)| *b).max().unwrap_or(0)).collect()
}

/// For each item those alive at the same time.
fn interference(items: &[Item]) -> Vec<Vec<usize>> {
    let mut neighbours = vec![Vec::new(); items.len()];
    let mut by_first: Vec<usize> = (0..items.len()).collect();
    by_first.sort_by_key(|&i| (items[i].first, i));
    let mut open: Vec<usize> = Vec::new();
    for &i in &by_first {
        open.retain(|&j| items[j].last >= items[i].first);
        for &j in &open {
            neighbours[i].push(j);
            neighbours[j].push(i);
        }
        open.push(i);
    }
    neighbours
}

/// Each item in turn at the lowest offset that its placed neighbours leave free.
fn in_order(items: &[Item], neighbours: &[Vec<usize>], order: &[usize], align: i64) -> Placement {
    let mut offsets = vec![-1i64; items.len()];
    let mut bytes = 0;
    let mut taken: Vec<(i64, i64)> = Vec::new();
    for &i in order {
        taken.clear();
        let placed = neighbours[i].iter().filter(|&&n| offsets[n] >= 0);
        taken.extend(placed.map(|&n| (offsets[n], offsets[n] + items[n].size)));
        taken.sort_unstable();
        let mut at = round_up(items[i].base, align);
        for &(start, end) in &taken {
            if start >= at + items[i].size {
                break;
            }
            at = at.max(round_up(end, align));
        }
        offsets[i] = at;
        bytes = bytes.max(at + items[i].size);
    }
    Placement { offsets, bytes }
}

fn round_up(value: i64, align: i64) -> i64 {
    (value + align - 1) / align * align
}

/// Moves what sticks out to an earlier turn, again and again; keeps what is no worse.
fn search(
    items: &[Item],
    neighbours: &[Vec<usize>],
    align: i64,
    goal: i64,
    best: &mut Placement,
    order: &mut Vec<usize>,
) {
    let work = items.len() + neighbours.iter().map(Vec::len).sum::<usize>();
    let rounds = (SEARCH_BUDGET / work.max(1)).min(SEARCH_ROUNDS);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |below: usize| {
        // xorshift64: the same moves on every run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below.max(1) as u64) as usize
    };
    for _ in 0..rounds {
        if best.bytes <= round_up(goal, align) {
            return;
        }
        let top: Vec<usize> =
            (0..order.len()).filter(|&k| best.offsets[order[k]] + items[order[k]].size == best.bytes).collect();
        let Some(&from) = top.get(next(top.len())) else { return };
        let mut trial = order.clone();
        let item = trial.remove(from);
        trial.insert(next(from + 1), item);
        if next(3) == 0 {
            let (a, b) = (next(trial.len()), next(trial.len()));
            trial.swap(a, b);
        }
        let placement = in_order(items, neighbours, &trial, align);
        if placement.bytes <= best.bytes {
            (*best, *order) = (placement, trial);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item() -> impl Strategy<Value = Item> {
        (0i64..2000, 0u32..40, 0u32..12).prop_map(|(size, first, length)| Item {
            buffers: Vec::new(),
            size,
            first,
            last: first + length,
            base: 0,
        })
    }

    proptest! {
        #[test]
        fn what_is_alive_together_is_apart(items in prop::collection::vec(item(), 0..40)) {
            let placement = place(&items, 64, 0);
            for (i, a) in items.iter().enumerate() {
                let at = placement.offsets[i];
                prop_assert!(at >= 0 && at % 64 == 0 && at + a.size <= placement.bytes);
                for (j, b) in items.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let other = placement.offsets[j];
                    prop_assert!(!together || at + a.size <= other || other + b.size <= at);
                }
            }
            prop_assert_eq!(&placement, &place(&items, 64, 0));
        }
    }
}

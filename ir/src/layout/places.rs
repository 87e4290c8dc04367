//! Where the copies between row-major and channels last stand: the cheapest assignment of layouts, found as a minimum cut.
//!
//! What has one layout is a *part*: an operator that keeps the layout of what it reads, or the reading side of one that reads
//! any. What lies row-major anyway (other operators, inputs, outputs) is the part [`ROWS`], windows are the part [`LAST`]. A value
//! lies as the part that makes it; where a part that reads it lies the other way, there is a copy, one for all such parts.

use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::unionfind::UnionFind;
use petgraph::visit::EdgeRef;

/// The part that lies row-major.
pub const ROWS: usize = 0;
/// The part that lies channels last.
pub const LAST: usize = 1;

/// What could lie one way or the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Places {
    /// What each part weighs row-major and channels last.
    pub weights: Vec<[u64; 2]>,
    /// Values, each after what it is computed from.
    pub values: Vec<Value>,
}

/// A tensor that is not the same in both layouts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    /// The part that makes it.
    pub made: usize,
    /// The parts that read it.
    pub read: Vec<usize>,
    /// What the row-major copy of it weighs where it lies channels last, and the copy channels last where it lies row-major.
    pub copy: [u64; 2],
}

/// Which parts lie channels last, and what the whole weighs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// By part.
    pub last: Vec<bool>,
    /// Weights of the parts and of the copies.
    pub weight: u64,
}

impl Default for Places {
    fn default() -> Self {
        Self { weights: vec![[0; 2]; 2], values: Vec::new() }
    }
}

impl Places {
    /// A new part.
    pub fn part(&mut self, weights: [u64; 2]) -> usize {
        self.weights.push(weights);
        self.weights.len() - 1
    }

    /// A new value.
    pub fn value(&mut self, made: usize, copy: [u64; 2]) -> usize {
        self.values.push(Value { made, read: Vec::new(), copy });
        self.values.len() - 1
    }

    /// A part that reads a value.
    pub fn read(&mut self, value: usize, part: usize) {
        let read = &mut self.values[value].read;
        if !read.contains(&part) {
            read.push(part);
        }
    }

    /// Which parts could lie channels last for the sake of a window: those that values join to [`LAST`] past other parts.
    pub fn open(&self) -> Vec<bool> {
        let mut joined = UnionFind::<usize>::new(self.weights.len());
        for value in &self.values {
            let around = || value.read.iter().copied().chain([value.made]).filter(|&part| part != ROWS);
            let first = around().next();
            around().zip(first.into_iter().cycle()).for_each(|(part, first)| _ = joined.union(part, first));
        }
        (0..self.weights.len()).map(|part| joined.equiv(part, LAST)).collect()
    }

    /// Every part lies as what it reads, channels last where it reads both.
    pub fn follow(&self) -> Assignment {
        let mut last = vec![false; self.weights.len()];
        last[LAST] = true;
        for value in self.values.iter().filter(|value| value.made != ROWS) {
            if last[value.made] {
                value.read.iter().filter(|&&part| part != ROWS).for_each(|&part| last[part] = true);
            }
        }
        let weight = self.weight(&last);
        Assignment { last, weight }
    }

    /// An assignment of least weight. Among several, one that differs from [`follow`](Self::follow) in as few parts as can be.
    pub fn cheapest(&self) -> Assignment {
        let usual = self.follow();
        if usual.weight <= self.least() {
            return usual;
        }
        let last = self.cut(&usual.last);
        let weight = self.weight(&last);
        if weight < usual.weight { Assignment { last, weight } } else { usual }
    }

    /// What an assignment weighs.
    pub fn weight(&self, last: &[bool]) -> u64 {
        let parts = self.weights.iter().zip(last).map(|(weights, &last)| weights[usize::from(last)]);
        let copies = self.values.iter().map(|value| {
            let copied = value.read.iter().any(|&part| last[part] != last[value.made]);
            if copied { value.copy[usize::from(!last[value.made])] } else { 0 }
        });
        parts.chain(copies).fold(0, u64::saturating_add)
    }

    /// No assignment weighs less: parts at their best, and copies between what has no choice.
    fn least(&self) -> u64 {
        let parts = self.weights[2..].iter().map(|&[rows, last]| rows.min(last));
        let copies = self.values.iter().map(|value| match value.made {
            ROWS if value.read.contains(&LAST) => value.copy[1],
            LAST if value.read.contains(&ROWS) => value.copy[0],
            _ => 0,
        });
        let fixed = self.weights[ROWS][0].saturating_add(self.weights[LAST][1]);
        parts.chain(copies).fold(fixed, u64::saturating_add)
    }

    /// The parts on the side of [`LAST`] of a minimum cut between it and [`ROWS`].
    fn cut(&self, usual: &[bool]) -> Vec<bool> {
        let parts = self.weights.len();
        // One weight is worth more than all departures from what is usual, which count one each.
        let scale = |weight: u64| weight.min(MOST) * (parts as u64 + 1);
        let mut network = DiGraph::<(), u64>::with_capacity(parts + self.values.len(), 3 * parts);
        (0..parts).for_each(|_| _ = network.add_node(()));
        let at = NodeIndex::new;
        for (part, (&[rows, last], &usual)) in self.weights.iter().zip(usual).enumerate().skip(LAST + 1) {
            let either = rows.min(last);
            network.add_edge(at(LAST), at(part), scale(rows - either) + u64::from(usual));
            network.add_edge(at(part), at(ROWS), scale(last - either) + u64::from(!usual));
        }
        for value in &self.values {
            let made = at(value.made);
            let [rows, last] = value.copy.map(scale);
            let readers: Vec<NodeIndex> =
                value.read.iter().copied().filter(|&part| part != value.made).map(at).collect();
            // A copy where a reader is on the other side than what makes it; a node between joins several readers.
            if let [reader] = *readers {
                network.add_edge(reader, made, last);
                network.add_edge(made, reader, rows);
            } else if !readers.is_empty() {
                let (wanted_last, wanted_rows) = (network.add_node(()), network.add_node(()));
                for &reader in &readers {
                    network.add_edge(reader, wanted_last, UNCUT);
                    network.add_edge(wanted_rows, reader, UNCUT);
                }
                network.add_edge(wanted_last, made, last);
                network.add_edge(made, wanted_rows, rows);
            }
        }
        let (_, flows) = dinics(&network, at(LAST), at(ROWS));
        // What the source still reaches is on its side.
        let mut reached = vec![false; network.node_count()];
        let mut stack = vec![at(LAST)];
        while let Some(node) = stack.pop() {
            if std::mem::replace(&mut reached[node.index()], true) {
                continue;
            }
            let on = network.edges(node).filter(|edge| flows[edge.id().index()] < *edge.weight());
            stack.extend(on.map(|edge| edge.target()));
            let back = network.edges_directed(node, petgraph::Incoming).filter(|edge| flows[edge.id().index()] > 0);
            stack.extend(back.map(|edge| edge.source()));
        }
        reached.truncate(parts);
        reached
    }
}

/// A weight that counts as no larger than this, so that sums stay in 64 bits.
const MOST: u64 = 1 << 40;
/// Capacity of an edge that no cut goes through.
const UNCUT: u64 = u64::MAX / 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts, values and copies as they could come from a graph: values are read by what comes later.
    fn draw(random: &mut fastrand::Rng) -> Places {
        let mut places = Places::default();
        let weight = |random: &mut fastrand::Rng| if random.bool() { 0 } else { random.u64(0..20) };
        for _ in 0..random.usize(1..14) {
            let part = match random.u32(0..4) {
                0 => ROWS,
                1 => LAST,
                _ => places.part([weight(random), weight(random)]),
            };
            for value in 0..places.values.len() {
                if random.u32(0..4) == 0 {
                    places.read(value, part);
                }
            }
            places.value(part, [weight(random), weight(random)]);
        }
        places
    }

    /// The least weight, and how few parts differ then from what is usual.
    fn brute(places: &Places) -> (u64, usize) {
        let (usual, free) = (places.follow().last, places.weights.len() - 2);
        let assignments = (0..1usize << free).map(|bits| {
            let part = |at: usize| bits >> at & 1 == 1;
            let last: Vec<bool> = [false, true].into_iter().chain((0..free).map(part)).collect();
            (places.weight(&last), differ(&last, &usual))
        });
        assignments.min().unwrap()
    }

    fn differ(a: &[bool], b: &[bool]) -> usize {
        a.iter().zip(b).filter(|(a, b)| a != b).count()
    }

    #[test]
    fn the_cut_is_the_cheapest_of_all_assignments() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut gained = 0;
        for case in 0..4000 {
            let places = draw(&mut random);
            let (found, usual) = (places.cheapest(), places.follow());
            assert_eq!(found.weight, places.weight(&found.last), "case {case}: {places:?}");
            assert_eq!((found.last[ROWS], found.last[LAST]), (false, true));
            assert!(places.least() <= found.weight, "case {case}: {places:?}");
            assert_eq!((found.weight, differ(&found.last, &usual.last)), brute(&places), "case {case}: {places:?}");
            gained += u32::from(found.weight < usual.weight);
        }
        assert!(gained > 500, "{gained} times something better than what is usual");
    }

    #[test]
    fn weights_that_stand_for_never_do_not_overflow() {
        let mut places = Places::default();
        let part = places.part([u64::MAX, 3]);
        let value = places.value(ROWS, [5, 7]);
        places.read(value, part);
        places.read(value, ROWS);
        let value = places.value(part, [5, 7]);
        places.read(value, ROWS);
        assert_eq!(places.cheapest(), Assignment { last: vec![false, true, true], weight: 15 });
    }

    #[test]
    fn only_what_windows_reach_is_open() {
        let mut places = Places::default();
        let [near, far, apart] = [(); 3].map(|()| places.part([0; 2]));
        for (made, read) in [(LAST, near), (near, far), (far, ROWS), (ROWS, apart)] {
            let value = places.value(made, [1; 2]);
            places.read(value, read);
        }
        assert_eq!(places.open(), [false, true, true, true, false]);
    }
}

//! Register allocation for emitters with encoders of their own.
//!
//! Kernels are straight code in structured loops, in the order their author chose, so the allocator keeps that order: exact
//! live ranges, moves joined where the ranges of both sides do not meet (an accumulator and its successors become one
//! register), then colouring in order of first use, which is optimal for ranges without holes. Only the classes for which
//! that fails are coloured anew, what the deepest loops access first, and what is left over named for the caller to spill.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::{EntityRef, PrimaryMap, SecondaryMap, entity_impl};

/// A virtual register.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Reg(u32);
entity_impl!(Reg, "v");

/// Where control goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// To the next one.
    Next,
    /// To the next one; others may jump here.
    Label(u32),
    /// There.
    Jump(u32),
    /// There or to the next one.
    Branch(u32),
    /// Out of the function.
    Return,
}

/// What an instruction does with registers.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Registers read.
    pub uses: Vec<Reg>,
    /// Registers written; they may be among those read.
    pub defs: Vec<Reg>,
    /// Whether it only copies its one use to its one def.
    pub copies: bool,
    /// Where control goes.
    pub flow: Flow,
    /// Number of loops around it.
    pub depth: u32,
}

/// A virtual register's class and wishes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Info {
    /// Position in the list of register files.
    pub class: usize,
    /// A register that it must have.
    pub fixed: Option<u8>,
    /// Made for a spilled one: must not be spilled again.
    pub short: bool,
}

/// What came of it.
pub(super) enum Outcome {
    /// A machine register for every virtual one that occurs.
    Done(SecondaryMap<Reg, u8>),
    /// These must live in memory.
    Spill(BTreeSet<Reg>),
}

/// Half-open ranges of program points, ascending. Instruction `i` reads at `2i` and writes at `2i + 1`.
pub(super) type Ranges = Vec<(u32, u32)>;

/// Finds machine registers; `files` lists those of each class in order of preference.
pub(super) fn allocate(code: &[Facts], regs: &PrimaryMap<Reg, Info>, files: &[&[u8]]) -> Outcome {
    let mut groups = Groups::new(live_ranges(code, regs.len()));
    let mut moves: Vec<&Facts> = code.iter().filter(|f| f.copies).collect();
    moves.sort_by_key(|f| std::cmp::Reverse(f.depth));
    for facts in moves {
        let (to, from) = (facts.defs[0], facts.uses[0]);
        if regs[to].class == regs[from].class && (regs[to].fixed.is_none() || regs[from].fixed.is_none()) {
            groups.join(to, from);
        }
    }
    let nodes = nodes(code, regs, &mut groups);
    let (mut done, mut spilled) = (SecondaryMap::new(), BTreeSet::new());
    for (class, file) in files.iter().enumerate() {
        let mut nodes: Vec<&Node> = nodes.iter().filter(|n| n.class == class).collect();
        nodes.sort_by_key(|n| (n.fixed.is_none(), n.ranges[0].0, n.members[0]));
        if colour(&nodes, file, &mut done).is_empty() {
            continue;
        }
        nodes.sort_by(|a, b| {
            let key = |n: &Node| (n.fixed.is_none(), !n.short);
            let warmer = b.depth.cmp(&a.depth).then(b.weight.total_cmp(&a.weight));
            key(a).cmp(&key(b)).then(warmer).then(a.members[0].cmp(&b.members[0]))
        });
        let left = colour(&nodes, file, &mut done);
        spilled.extend(left.into_iter().flat_map(|node| node.members.iter().copied()));
    }
    if spilled.is_empty() { Outcome::Done(done) } else { Outcome::Spill(spilled) }
}

/// Registers that become one.
struct Node {
    members: Vec<Reg>,
    ranges: Ranges,
    class: usize,
    fixed: Option<u8>,
    short: bool,
    /// Most loops around an access. An accumulator that waits for a long epilogue is not for the temporaries of that to push out.
    depth: u32,
    /// Accesses, ten times as many per loop around, by length.
    weight: f64,
}

fn nodes(code: &[Facts], regs: &PrimaryMap<Reg, Info>, groups: &mut Groups) -> Vec<Node> {
    let mut accesses: SecondaryMap<Reg, f64> = SecondaryMap::new();
    let mut depths: SecondaryMap<Reg, u32> = SecondaryMap::new();
    for facts in code {
        for &reg in facts.uses.iter().chain(&facts.defs) {
            accesses[reg] += 10f64.powi(i32::try_from(facts.depth.min(12)).unwrap_or(12));
            depths[reg] = depths[reg].max(facts.depth);
        }
    }
    let mut by_root: BTreeMap<Reg, Vec<Reg>> = BTreeMap::new();
    for reg in regs.keys() {
        by_root.entry(groups.root(reg)).or_default().push(reg);
    }
    let mut nodes = Vec::new();
    for (root, members) in by_root {
        let ranges = std::mem::take(&mut groups.ranges[root.index()]);
        if ranges.is_empty() {
            continue;
        }
        let length: u32 = ranges.iter().map(|(from, to)| to - from).sum();
        let weight = members.iter().map(|&r| accesses[r]).sum::<f64>() / f64::from(length);
        nodes.push(Node {
            class: regs[root].class,
            fixed: members.iter().find_map(|&r| regs[r].fixed),
            short: members.iter().any(|&r| regs[r].short),
            depth: members.iter().map(|&r| depths[r]).max().unwrap_or(0),
            members,
            ranges,
            weight,
        });
    }
    nodes
}

/// Gives every node the first machine register that is free over its ranges; returns those for which none is.
fn colour<'a>(nodes: &[&'a Node], file: &[u8], done: &mut SecondaryMap<Reg, u8>) -> Vec<&'a Node> {
    let mut busy: BTreeMap<u8, BTreeMap<u32, u32>> = BTreeMap::new();
    let mut left = Vec::new();
    for &node in nodes {
        let free = |reg: &u8| busy.get(reg).is_none_or(|taken| !meets_taken(taken, &node.ranges));
        let choice = match node.fixed {
            Some(reg) => Some(reg).filter(free),
            None => file.iter().copied().find(free),
        };
        match choice {
            Some(reg) => {
                busy.entry(reg).or_default().extend(node.ranges.iter().copied());
                node.members.iter().for_each(|&member| done[member] = reg);
            }
            None => left.push(node),
        }
    }
    left
}

fn meets_taken(taken: &BTreeMap<u32, u32>, ranges: &Ranges) -> bool {
    ranges.iter().any(|&(from, to)| taken.range(..to).next_back().is_some_and(|(_, &end)| end > from))
}

/// Sets of registers that share one, with the union of their ranges.
struct Groups {
    parent: Vec<Reg>,
    ranges: Vec<Ranges>,
}

impl Groups {
    fn new(ranges: Vec<Ranges>) -> Self {
        Self { parent: (0..ranges.len()).map(Reg::new).collect(), ranges }
    }

    fn root(&mut self, reg: Reg) -> Reg {
        let root = self.root_of(reg);
        self.parent[reg.index()] = root;
        root
    }

    fn root_of(&self, mut reg: Reg) -> Reg {
        while self.parent[reg.index()] != reg {
            reg = self.parent[reg.index()];
        }
        reg
    }

    /// Joins two groups unless their ranges meet.
    fn join(&mut self, a: Reg, b: Reg) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b || meet(&self.ranges[a.index()], &self.ranges[b.index()]) {
            return;
        }
        let moved = std::mem::take(&mut self.ranges[b.index()]);
        let all = &mut self.ranges[a.index()];
        all.extend(moved);
        all.sort_unstable();
        merge_neighbours(all);
        self.parent[b.index()] = a;
    }
}

fn merge_neighbours(ranges: &mut Ranges) {
    ranges.dedup_by(|next, kept| {
        let touches = next.0 <= kept.1;
        if touches {
            kept.1 = kept.1.max(next.1);
        }
        touches
    });
}

fn meet(a: &Ranges, b: &Ranges) -> bool {
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x.0 < y.1 && y.0 < x.1 {
            return true;
        }
        if x.1 <= y.1 { i += 1 } else { j += 1 }
    }
    false
}

/// A straight stretch of code.
struct Stretch {
    from: usize,
    to: usize,
    next: Vec<usize>,
}

fn stretches(code: &[Facts]) -> Vec<Stretch> {
    let mut starts: BTreeSet<usize> = BTreeSet::from([0]);
    let mut labels: BTreeMap<u32, usize> = BTreeMap::new();
    for (at, facts) in code.iter().enumerate() {
        match facts.flow {
            Flow::Label(label) => {
                starts.insert(at);
                labels.insert(label, at);
            }
            Flow::Next => {}
            _ => {
                starts.insert(at + 1);
            }
        }
    }
    starts.remove(&code.len());
    let starts: Vec<usize> = starts.into_iter().collect();
    let stretch_at = |at: usize| starts.binary_search(&at).ok();
    let mut all = Vec::with_capacity(starts.len());
    for (index, &from) in starts.iter().enumerate() {
        let to = starts.get(index + 1).copied().unwrap_or(code.len());
        let target = |label: u32| labels.get(&label).and_then(|&at| stretch_at(at));
        let next = match code[to - 1].flow {
            Flow::Return => Vec::new(),
            Flow::Jump(label) => target(label).into_iter().collect(),
            Flow::Branch(label) => target(label).into_iter().chain(stretch_at(to)).collect(),
            Flow::Next | Flow::Label(_) => stretch_at(to).into_iter().collect(),
        };
        all.push(Stretch { from, to, next });
    }
    all
}

/// A set of registers.
#[derive(Clone, PartialEq, Eq)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn remove(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn add(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0
            .iter()
            .enumerate()
            .flat_map(|(word, &bits)| (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit))
    }
}

/// Where each of `count` registers holds something that is still to be read.
pub(super) fn live_ranges(code: &[Facts], count: usize) -> Vec<Ranges> {
    let stretches = stretches(code);
    let mut live_in = vec![Bits::new(count); stretches.len()];
    loop {
        let mut changed = false;
        for (index, stretch) in stretches.iter().enumerate().rev() {
            let mut live = Bits::new(count);
            stretch.next.iter().for_each(|&next| live.add(&live_in[next]));
            for facts in code[stretch.from..stretch.to].iter().rev() {
                facts.defs.iter().for_each(|d| live.remove(d.index()));
                facts.uses.iter().for_each(|u| live.insert(u.index()));
            }
            if live != live_in[index] {
                live_in[index] = live;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let mut ranges: Vec<Ranges> = vec![Vec::new(); count];
    let mut ends = vec![0u32; count];
    for stretch in stretches.iter().rev() {
        let mut live = Bits::new(count);
        stretch.next.iter().for_each(|&next| live.add(&live_in[next]));
        live.iter().for_each(|reg| ends[reg] = point(stretch.to));
        for at in (stretch.from..stretch.to).rev() {
            for def in &code[at].defs {
                let reg = def.index();
                let end = if live.has(reg) { ends[reg] } else { point(at) + 2 };
                ranges[reg].push((point(at) + 1, end));
                live.remove(reg);
            }
            for used in &code[at].uses {
                if !live.has(used.index()) {
                    live.insert(used.index());
                    ends[used.index()] = point(at) + 1;
                }
            }
        }
        live.iter().for_each(|reg| ranges[reg].push((point(stretch.from), ends[reg])));
    }
    for ranges in &mut ranges {
        ranges.sort_unstable();
        merge_neighbours(ranges);
    }
    ranges
}

/// The point where an instruction reads.
pub(super) fn point(at: usize) -> u32 {
    2 * u32::try_from(at).expect("kernels have less than 2^31 instructions")
}

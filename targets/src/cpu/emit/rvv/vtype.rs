//! Vector types and lengths: set where the next instruction needs others than are known to be set, before loops where that
//! holds for all iterations.

use std::collections::BTreeMap;

use super::inst::{Demand, Inst};

/// What is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set {
    bytes: u8,
    eighths: u8,
    lanes: u16,
}

impl Set {
    fn meets(self, demand: Demand) -> bool {
        match demand {
            Demand::Exact { bytes, eighths, lanes } => self == Set { bytes, eighths, lanes },
            Demand::Lanes(lanes) => self.lanes == lanes,
            Demand::Element(bytes) => self.bytes == bytes,
            Demand::Memory { bytes, lanes } => {
                // The part of a register that the access means: at most one, at least an eighth.
                let (access, register) = (u32::from(bytes) << 3, u32::from(self.bytes) << self.eighths);
                self.lanes == lanes && access <= register << 3 && access >= register
            }
        }
    }

    /// The one that serves nothing but this.
    fn only(demand: Demand) -> Set {
        match demand {
            Demand::Exact { bytes, eighths, lanes } => Set { bytes, eighths, lanes },
            Demand::Memory { bytes, lanes } => Set { bytes, eighths: 0, lanes },
            Demand::Lanes(lanes) => Set { bytes: 1, eighths: 0, lanes },
            Demand::Element(bytes) => Set { bytes, eighths: 0, lanes: 1 },
        }
    }
}

/// What is known at a place: nothing yet, that it differs between the ways there, or what is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Differs,
    Set(Set),
}

impl Known {
    fn meet(self, other: Known) -> Known {
        match (self, other) {
            (Known::Nothing, known) | (known, Known::Nothing) => known,
            (a, b) if a == b => a,
            _ => Known::Differs,
        }
    }

    fn serves(self, demand: Demand) -> bool {
        matches!(self, Known::Set(set) if set.meets(demand))
    }
}

/// Inserts what sets types and lengths.
pub(super) fn set_types(code: Vec<(Inst, u32)>) -> Vec<(Inst, u32)> {
    let before_loops = wanted_before_loops(&code);
    let mut at_labels: BTreeMap<u32, Known> = BTreeMap::new();
    // What is known at labels only ever shrinks, so this ends.
    loop {
        let before = at_labels.clone();
        walk(&code, &before_loops, &mut at_labels, &mut |_, _| {});
        if at_labels == before {
            break;
        }
    }
    let mut inserted: Vec<(usize, Set)> = Vec::new();
    walk(&code, &before_loops, &mut at_labels, &mut |at, set| inserted.push((at, set)));
    let mut out = Vec::with_capacity(code.len() + inserted.len());
    let mut inserted = inserted.into_iter().peekable();
    for (at, (inst, depth)) in code.into_iter().enumerate() {
        while let Some((_, set)) = inserted.next_if(|(place, _)| *place == at) {
            out.push((Inst::SetType { bytes: set.bytes, eighths: set.eighths, lanes: set.lanes }, depth));
        }
        out.push((inst, depth));
    }
    out
}

/// What serves an instruction, and if possible the next one that has no choice.
fn choose(code: &[(Inst, u32)], at: usize, wish: Demand) -> Set {
    let exact = code[at..].iter().find_map(|(inst, _)| match inst.demand() {
        Some(next @ Demand::Exact { .. }) => Some(Set::only(next)),
        _ => None,
    });
    exact.filter(|set| set.meets(wish)).unwrap_or(Set::only(wish))
}

/// Goes through the code once; `insert` is called before each instruction that needs something else.
fn walk(
    code: &[(Inst, u32)],
    before_loops: &BTreeMap<usize, Set>,
    at_labels: &mut BTreeMap<u32, Known>,
    insert: &mut impl FnMut(usize, Set),
) {
    let mut known = Known::Differs;
    let come = |label: u32, known: Known, at_labels: &mut BTreeMap<u32, Known>| {
        let all = at_labels.entry(label).or_insert(Known::Nothing);
        *all = all.meet(known);
    };
    for (at, (inst, _)) in code.iter().enumerate() {
        if let Some(&set) = before_loops.get(&at)
            && known != Known::Set(set)
        {
            insert(at, set);
            known = Known::Set(set);
        }
        match inst {
            Inst::Label { label, .. } => {
                come(*label, known, at_labels);
                known = at_labels[label];
            }
            Inst::Jump(label) => {
                come(*label, known, at_labels);
                known = Known::Nothing;
            }
            Inst::Branch { label, .. } => come(*label, known, at_labels),
            Inst::Return(_) => known = Known::Nothing,
            inst => {
                if let Some(wish) = inst.demand()
                    && !known.serves(wish)
                {
                    let set = choose(code, at, wish);
                    insert(at, set);
                    known = Known::Set(set);
                }
            }
        }
    }
}

/// For each loop that leaves behind what it needs first: that, at its label.
fn wanted_before_loops(code: &[(Inst, u32)]) -> BTreeMap<usize, Set> {
    let mut labels: BTreeMap<u32, usize> = BTreeMap::new();
    let mut wanted = BTreeMap::new();
    for (end, (inst, _)) in code.iter().enumerate() {
        match inst {
            Inst::Label { label, .. } => {
                labels.insert(*label, end);
            }
            Inst::Branch { label, .. } => {
                let Some(&start) = labels.get(label) else { continue };
                let mut demands = (start..end).filter_map(|at| Some((at, code[at].0.demand()?)));
                let Some((at, first)) = demands.next() else { continue };
                let set = choose(code, at, first);
                let mut last = set;
                for (at, wish) in demands {
                    if !last.meets(wish) {
                        last = choose(code, at, wish);
                    }
                }
                if last.meets(first) {
                    wanted.insert(start, set);
                }
            }
            _ => {}
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::super::inst::{Arg, Op};
    use super::super::isa::Code;
    use super::*;

    fn vector(demand: Demand) -> (Inst, u32) {
        let regs = vec![Arg::Fixed(1), Arg::Fixed(2), Arg::Fixed(3)];
        (Inst::Op(Op { code: Code::VaddVv, regs, imm: 0, demand: Some(demand) }), 0)
    }

    fn exact(bytes: u8, lanes: u16) -> (Inst, u32) {
        vector(Demand::Exact { bytes, eighths: 0, lanes })
    }

    fn label(label: u32) -> (Inst, u32) {
        (Inst::Label { label, hot: true }, 0)
    }

    fn branch(label: u32) -> (Inst, u32) {
        (Inst::Branch { code: Code::Blt, a: Arg::Fixed(1), b: Arg::Fixed(2), label }, 0)
    }

    /// The code as a word per instruction: `32x4` for what is set, `op`, `0:` and `->0`.
    fn show(code: Vec<(Inst, u32)>) -> String {
        let words = set_types(code).into_iter().map(|(inst, _)| match inst {
            Inst::SetType { bytes, eighths: 0, lanes } => format!("{}x{lanes}", 8 * u32::from(bytes)),
            Inst::SetType { bytes, eighths, lanes } => format!("{}x{lanes}/{}", 8 * u32::from(bytes), 1 << eighths),
            Inst::Label { label, .. } => format!("{label}:"),
            Inst::Branch { label, .. } => format!("->{label}"),
            _ => "op".into(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn types_are_set_where_they_change() {
        assert_eq!(show(vec![exact(4, 4), exact(4, 4), exact(1, 4), exact(4, 4)]), "32x4 op op 8x4 op 32x4 op");
    }

    #[test]
    fn loads_take_the_type_of_what_follows() {
        let load = vector(Demand::Memory { bytes: 1, lanes: 4 });
        assert_eq!(show(vec![load.clone(), exact(4, 4)]), "32x4 op op");
        // Eight bytes are no eighth of a register of bytes.
        let wide = vector(Demand::Memory { bytes: 8, lanes: 4 });
        assert_eq!(show(vec![wide, exact(1, 4)]), "64x4 op 8x4 op");
        assert_eq!(show(vec![load, exact(4, 8)]), "8x4 op 32x8 op");
    }

    #[test]
    fn loops_of_one_type_set_it_before() {
        let inner = vec![label(0), exact(4, 4), label(1), exact(4, 4), branch(1), exact(4, 4), branch(0)];
        assert_eq!(show(inner), "32x4 0: op 1: op ->1 op ->0");
    }

    #[test]
    fn loops_of_two_types_set_both_inside() {
        assert_eq!(show(vec![label(0), exact(4, 4), exact(2, 4), branch(0)]), "0: 32x4 op 16x4 op ->0");
        let back = vec![label(0), exact(4, 4), exact(2, 4), exact(4, 4), branch(0)];
        assert_eq!(show(back), "32x4 0: op 16x4 op 32x4 op ->0");
    }

    #[test]
    fn what_differs_between_ways_is_set_again() {
        let code = vec![exact(4, 4), branch(7), exact(2, 4), label(7), exact(4, 4)];
        assert_eq!(show(code), "32x4 op ->7 16x4 op 7: 32x4 op");
    }
}

//! Proofs of inequalities between extents, for bounds of views.
//!
//! Interval arithmetic alone loses that `i + min(8, h - i)` never passes `h`; here each minimum, maximum, division and
//! loop variable is replaced by the side that bounds the expression from below, until intervals decide.

use crate::extent::{Atom, Dims, Extent, Sym};

/// What is known about symbols: ranges of dimensions, first and last value of loop variables.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Ranges, those of loop variables included.
    pub ranges: Dims,
    /// Loop variables, outermost first.
    pub vars: Vec<Var>,
}

/// A loop variable and its values.
#[derive(Clone, Debug)]
pub struct Var {
    /// Its name.
    pub name: Sym,
    /// First value, over what stands further out.
    pub first: Extent,
    /// Last value, over what stands further out.
    pub last: Extent,
    /// Distance of values.
    pub step: i64,
}

/// Expressions that a proof may look at.
const BUDGET: u32 = 400;
/// Combinations of values of loop variables that a proof may try one by one.
const COMBINATIONS: usize = 4096;

impl Facts {
    /// Whether `e >= 0` is proved for all values of the symbols. `false` means not proved.
    pub fn nonneg(&self, e: &Extent) -> bool {
        if e.range(&self.ranges).lo >= 0 {
            return true;
        }
        let mut budget = BUDGET;
        self.by_values(e).unwrap_or_else(|| self.prove(e, &mut budget))
    }

    /// Tries all values, when nothing but loop variables of few constant values occurs: exact.
    fn by_values(&self, e: &Extent) -> Option<bool> {
        let mut symbols = std::collections::BTreeSet::new();
        e.symbols(&mut symbols);
        let mut values: Vec<(&str, Vec<i64>)> = Vec::new();
        let mut combinations = 1usize;
        for symbol in &symbols {
            let var = self.vars.iter().find(|v| v.name == *symbol)?;
            let (first, last) = (var.first.as_const()?, var.last.as_const()?);
            let step = usize::try_from(var.step).ok().filter(|s| *s > 0)?;
            let count = usize::try_from((last - first) / var.step + 1).ok()?;
            combinations = combinations.checked_mul(count).filter(|n| *n <= COMBINATIONS)?;
            values.push((symbol, (first..=last).step_by(step).collect()));
        }
        let holds = |mut number: usize| {
            let picked: Vec<(&str, i64)> = values
                .iter()
                .map(|(name, values)| {
                    let value = values[number % values.len()];
                    number /= values.len();
                    (*name, value)
                })
                .collect();
            e.eval(&|name| picked.iter().find(|p| p.0 == name).map(|p| p.1)).is_some_and(|value| value >= 0)
        };
        Some((0..combinations).all(holds))
    }

    /// Whether `a <= b` is proved.
    pub fn le(&self, a: &Extent, b: &Extent) -> bool {
        self.nonneg(&(b.clone() - a.clone()))
    }

    fn prove(&self, e: &Extent, budget: &mut u32) -> bool {
        if e.range(&self.ranges).lo >= 0 {
            return true;
        }
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        let (terms, _) = e.terms();
        for (atoms, coefficient) in terms {
            let [atom] = atoms.as_slice() else { continue };
            let rest = e.clone() - term(atom, *coefficient);
            let with = |side: &Extent| rest.clone() + side.clone() * (*coefficient).into();
            let proved = match atom {
                Atom::Min(a, b) if *coefficient > 0 => self.prove(&with(a), budget) && self.prove(&with(b), budget),
                Atom::Min(a, b) => self.prove(&with(a), budget) || self.prove(&with(b), budget),
                Atom::Max(a, b) if *coefficient > 0 => self.prove(&with(a), budget) || self.prove(&with(b), budget),
                Atom::Max(a, b) => self.prove(&with(a), budget) && self.prove(&with(b), budget),
                Atom::FloorDiv(a, k) => match k.as_const() {
                    // a - k + 1 <= k · floor(a / k) <= a.
                    Some(k) if k > 0 => {
                        let slack = if *coefficient > 0 { k - 1 } else { 0 };
                        let bound = (a.clone() - slack.into()) * (*coefficient).into();
                        self.prove(&(rest * k.into() + bound), budget)
                    }
                    _ => false,
                },
                Atom::Sym(name) => match self.vars.iter().find(|var| var.name == *name) {
                    Some(var) => {
                        let bound = if *coefficient > 0 { &var.first } else { &var.last };
                        bound.as_sym() != Some(name) && self.prove(&with(bound), budget)
                    }
                    None => false,
                },
            };
            if proved {
                return true;
            }
        }
        false
    }
}

fn term(atom: &Atom, coefficient: i64) -> Extent {
    let atom = match atom {
        Atom::Sym(name) => Extent::sym(name.clone()),
        Atom::FloorDiv(a, b) => a.floordiv(b),
        Atom::Min(a, b) => a.minimum(b),
        Atom::Max(a, b) => a.maximum(b),
    };
    atom * coefficient.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extent::DimRange;

    fn facts() -> Facts {
        let ranges = [("h", 1, 100), ("i", 0, 99), ("k", 0, 11)];
        let ranges = ranges.map(|(n, lo, hi)| (n.into(), DimRange { lo, hi })).into();
        Facts {
            ranges,
            vars: vec![Var { name: "i".into(), first: 0.into(), last: Extent::sym("h") - 1.into(), step: 1 }],
        }
    }

    #[test]
    fn sides_of_a_minimum_decide() {
        let (h, i, k) = (Extent::sym("h"), Extent::sym("i"), Extent::sym("k"));
        let size = Extent::from(8).minimum(&(h.clone() - i.clone()));
        assert!(facts().le(&(i.clone() + size), &h));
        assert!(!facts().le(&(i.clone() + 8.into()), &h));
        assert!(facts().le(&(i.clone() + 1.into()), &h));
        assert!(facts().nonneg(&(k.clone() * 2.into() - 1.into()).maximum(&0.into()).minimum(&20.into())));
        assert!(!facts().nonneg(&(k * 2.into() - 1.into())));
        assert!(facts().le(&(h.floordiv(&3.into()) * 3.into()), &h));
        assert!(!facts().le(&h, &(h.floordiv(&3.into()) * 3.into())));
    }
}

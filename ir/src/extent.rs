//! Integer expressions over named dimensions: the one language for shapes, tile bounds, buffer sizes and addresses.
//!
//! An [`Extent`] is kept in a normal form (a sorted polynomial over *atoms*), so structural equality is as strong as the
//! simplifier and a static shape is just a constant. Loop variables of the tile and kernel IR are ordinary symbols.
//!
//! Arithmetic saturates at the ends of `i64`; the verifiers reject any extent whose range leaves [`LIMIT`], so a saturated
//! value never reaches code. An expression that grows beyond [`MAX_SIZE`] or [`MAX_DEPTH`] becomes [`Extent::HUGE`], which
//! the verifiers reject as well; that bounds the work on any input.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Add, Mul, Neg, Sub};
use std::str::FromStr;
use std::sync::Arc;

use crate::text::{Cursor, ParseError, Token, parse_extent};

/// Largest magnitude of an extent that the verifiers accept (elements or bytes).
pub const LIMIT: i64 = 1 << 47;

/// Largest number of integers, names and functions in one expression.
pub const MAX_SIZE: u32 = 1 << 13;

/// Deepest nesting of `floordiv`, `min` and `max` in one expression.
pub const MAX_DEPTH: u32 = 64;

/// Highest degree of a term: a product of more factors above one would leave [`LIMIT`].
const MAX_DEGREE: usize = 64;

/// Name of a dimension or loop variable.
pub type Sym = Arc<str>;

/// Inclusive range of a named dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DimRange {
    /// Smallest value.
    pub lo: i64,
    /// Largest value.
    pub hi: i64,
}

/// The declared ranges of the named dimensions of a graph or program.
pub type Dims = BTreeMap<Sym, DimRange>;

/// An integer expression in normal form; see the module documentation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    Const(i64),
    Sum(Arc<Sum>),
    Huge,
}

/// `constant + Σ coefficient · Π atoms`; terms sorted by monomial, coefficients non-zero, at least one term.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Sum {
    terms: Vec<(Vec<Atom>, i64)>,
    constant: i64,
    /// Integers, names and functions, shared parts counted as often as they occur.
    size: u32,
    /// Functions around the deepest name.
    depth: u32,
}

/// A factor that the polynomial normal form does not look into.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// A named dimension or loop variable.
    Sym(Sym),
    /// `floor(a / b)`; `b` is positive wherever it is evaluated.
    FloorDiv(Extent, Extent),
    /// The smaller of two.
    Min(Extent, Extent),
    /// The larger of two.
    Max(Extent, Extent),
}

/// One term of an extent: its atoms and their coefficient.
pub type Term<'a> = (&'a [Atom], i64);

impl Extent {
    /// The constant zero.
    pub const ZERO: Extent = Extent(Repr::Const(0));
    /// The constant one.
    pub const ONE: Extent = Extent(Repr::Const(1));

    /// What has grown too large to be kept: everything computed from it is `HUGE` too, and it has no value.
    pub const HUGE: Extent = Extent(Repr::Huge);

    /// Whether it is [`Extent::HUGE`].
    pub fn is_huge(&self) -> bool {
        matches!(self.0, Repr::Huge)
    }

    /// A named dimension or loop variable.
    pub fn sym(name: impl Into<Sym>) -> Self {
        Self::atom(Atom::Sym(name.into()))
    }

    fn atom(atom: Atom) -> Self {
        Self::sum(vec![(vec![atom], 1)], 0)
    }

    /// From terms in normal form, at least one; [`Extent::HUGE`] when there is too much of it.
    fn sum(terms: Vec<(Vec<Atom>, i64)>, constant: i64) -> Self {
        let atoms = || terms.iter().flat_map(|(atoms, _)| atoms);
        let size = atoms().fold(terms.len() as u64, |size, atom| size + u64::from(atom.size()));
        let depth = atoms().map(Atom::depth).max().unwrap_or(0);
        let degree = terms.iter().map(|(atoms, _)| atoms.len()).max().unwrap_or(0);
        match u32::try_from(size) {
            Ok(size) if size <= MAX_SIZE && depth <= MAX_DEPTH && degree <= MAX_DEGREE => {
                Self(Repr::Sum(Arc::new(Sum { terms, constant, size, depth })))
            }
            _ => Self::HUGE,
        }
    }

    fn size(&self) -> u32 {
        match &self.0 {
            Repr::Const(_) | Repr::Huge => 1,
            Repr::Sum(sum) => sum.size,
        }
    }

    fn depth(&self) -> u32 {
        match &self.0 {
            Repr::Const(_) | Repr::Huge => 0,
            Repr::Sum(sum) => sum.depth,
        }
    }

    /// The value, when it does not depend on any symbol.
    pub fn as_const(&self) -> Option<i64> {
        match &self.0 {
            Repr::Const(value) => Some(*value),
            Repr::Sum(_) | Repr::Huge => None,
        }
    }

    /// The symbol, when the expression is exactly one symbol.
    pub fn as_sym(&self) -> Option<&Sym> {
        match self.terms() {
            ([(atoms, 1)], 0) => match atoms.as_slice() {
                [Atom::Sym(name)] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// The polynomial: terms (monomial, coefficient) and the constant.
    pub fn terms(&self) -> (&[(Vec<Atom>, i64)], i64) {
        match &self.0 {
            Repr::Const(value) => (&[], *value),
            Repr::Huge => (&[], i64::MAX),
            Repr::Sum(sum) => (&sum.terms, sum.constant),
        }
    }

    fn from_terms(mut terms: Vec<(Vec<Atom>, i64)>, constant: i64) -> Self {
        terms.sort();
        let mut merged: Vec<(Vec<Atom>, i64)> = Vec::with_capacity(terms.len());
        for (atoms, coefficient) in terms {
            match merged.last_mut() {
                Some((last, sum)) if *last == atoms => *sum = sum.saturating_add(coefficient),
                _ => merged.push((atoms, coefficient)),
            }
        }
        merged.retain(|(_, coefficient)| *coefficient != 0);
        if merged.is_empty() { constant.into() } else { Self::sum(merged, constant) }
    }

    /// `floor(self / divisor)`. Exact parts are divided term by term; the rest stays an atom.
    ///
    /// A constant divisor of zero or less yields zero: callers that can meet one check first.
    pub fn floordiv(&self, divisor: &Extent) -> Extent {
        if self.is_huge() || divisor.is_huge() {
            return Self::HUGE;
        }
        if let (Some(a), Some(b)) = (self.as_const(), divisor.as_const()) {
            return if b <= 0 { Self::ZERO } else { a.div_euclid(b).into() };
        }
        if self == divisor {
            return Self::ONE;
        }
        if let Some(b) = divisor.as_const() {
            return self.floordiv_const(b);
        }
        if let Some(quotient) = self.exact_quotient(divisor) {
            return quotient;
        }
        Self::atom(Atom::FloorDiv(self.clone(), divisor.clone()))
    }

    fn floordiv_const(&self, divisor: i64) -> Extent {
        if divisor <= 0 {
            return Self::ZERO;
        }
        let (terms, constant) = self.terms();
        let (exact, rest): (Vec<_>, Vec<_>) = terms.iter().cloned().partition(|(_, c)| c % divisor == 0);
        let exact = exact.into_iter().map(|(atoms, c)| (atoms, c / divisor)).collect();
        if rest.is_empty() {
            return Self::from_terms(exact, constant.div_euclid(divisor));
        }
        let whole = Self::from_terms(exact, constant.div_euclid(divisor));
        // floor(floor(a / b) / c) = floor(a / (b c)) for positive b, c.
        let remainder = Self::from_terms(rest, constant.rem_euclid(divisor));
        if let ([(atoms, 1)], 0) = remainder.terms()
            && let [Atom::FloorDiv(a, b)] = atoms.as_slice()
            && let Some(inner) = b.as_const()
        {
            return whole + a.floordiv(&inner.saturating_mul(divisor).into());
        }
        whole + Self::atom(Atom::FloorDiv(remainder, divisor.into()))
    }

    /// `self / divisor` when every term of `self` holds the single-term `divisor` as a factor.
    fn exact_quotient(&self, divisor: &Extent) -> Option<Extent> {
        let ([(factor, scale @ 1..)], 0) = divisor.terms() else { return None };
        let (terms, 0) = self.terms() else { return None };
        let mut quotient = Vec::with_capacity(terms.len());
        for (atoms, coefficient) in terms {
            if coefficient % scale != 0 {
                return None;
            }
            let mut left = atoms.clone();
            for atom in factor {
                left.remove(left.iter().position(|a| a == atom)?);
            }
            quotient.push((left, coefficient / scale));
        }
        let constant = quotient.iter().filter(|(a, _)| a.is_empty()).map(|(_, c)| *c).sum();
        quotient.retain(|(atoms, _)| !atoms.is_empty());
        Some(Self::from_terms(quotient, constant))
    }

    /// `ceil(self / divisor)`, kept as `floordiv(self + divisor - 1, divisor)`.
    pub fn ceildiv(&self, divisor: &Extent) -> Extent {
        if self.is_huge() || divisor.is_huge() {
            return Self::HUGE;
        }
        if let Some(quotient) = self.exact_quotient(divisor) {
            return quotient;
        }
        (self.clone() + divisor.clone() - 1.into()).floordiv(divisor)
    }

    /// `self - divisor · floor(self / divisor)`.
    pub fn modulo(&self, divisor: &Extent) -> Extent {
        self.clone() - divisor.clone() * self.floordiv(divisor)
    }

    /// The smaller of two; decided at once when the difference is constant.
    pub fn minimum(&self, other: &Extent) -> Extent {
        if self.is_huge() || other.is_huge() {
            return Self::HUGE;
        }
        match (self.clone() - other.clone()).as_const() {
            Some(difference) => {
                if difference <= 0 {
                    self.clone()
                } else {
                    other.clone()
                }
            }
            None if self <= other => Self::atom(Atom::Min(self.clone(), other.clone())),
            None => Self::atom(Atom::Min(other.clone(), self.clone())),
        }
    }

    /// The larger of two; decided at once when the difference is constant.
    pub fn maximum(&self, other: &Extent) -> Extent {
        if self.is_huge() || other.is_huge() {
            return Self::HUGE;
        }
        match (self.clone() - other.clone()).as_const() {
            Some(difference) => {
                if difference >= 0 {
                    self.clone()
                } else {
                    other.clone()
                }
            }
            None if self <= other => Self::atom(Atom::Max(self.clone(), other.clone())),
            None => Self::atom(Atom::Max(other.clone(), self.clone())),
        }
    }

    /// The value with every symbol looked up; `None` when one is unknown or a divisor is not positive.
    pub fn eval(&self, lookup: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        if self.is_huge() {
            return None;
        }
        let (terms, constant) = self.terms();
        let mut sum = constant;
        for (atoms, coefficient) in terms {
            let mut product = *coefficient;
            for atom in atoms {
                product = product.checked_mul(atom.eval(lookup)?)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    /// Replaces symbols by expressions and normalises again.
    pub fn subst(&self, replace: &dyn Fn(&str) -> Option<Extent>) -> Extent {
        if self.is_huge() {
            return Self::HUGE;
        }
        let (terms, constant) = self.terms();
        let mut sum = Extent::from(constant);
        for (atoms, coefficient) in terms {
            let mut product = Extent::from(*coefficient);
            for atom in atoms {
                product = product * atom.subst(replace);
            }
            sum = sum + product;
        }
        sum
    }

    /// The smallest interval that interval arithmetic proves, symbols outside `dims` being in `0..=LIMIT`.
    pub fn range(&self, dims: &Dims) -> DimRange {
        if self.is_huge() {
            return DimRange { lo: i64::MIN, hi: i64::MAX };
        }
        let (terms, constant) = self.terms();
        let mut sum = DimRange { lo: constant, hi: constant };
        for (atoms, coefficient) in terms {
            let mut product = DimRange { lo: *coefficient, hi: *coefficient };
            for atom in atoms {
                product = interval_mul(product, atom.range(dims));
            }
            sum = DimRange { lo: sum.lo.saturating_add(product.lo), hi: sum.hi.saturating_add(product.hi) };
        }
        sum
    }

    /// The largest value under the declared ranges.
    pub fn upper(&self, dims: &Dims) -> i64 {
        self.range(dims).hi
    }

    /// Adds every symbol that occurs to `out`.
    pub fn symbols(&self, out: &mut BTreeSet<Sym>) {
        for (atoms, _) in self.terms().0 {
            for atom in atoms {
                atom.symbols(out);
            }
        }
    }

    /// Whether the symbol occurs.
    pub fn mentions(&self, name: &str) -> bool {
        let mut symbols = BTreeSet::new();
        self.symbols(&mut symbols);
        symbols.contains(name)
    }

    /// The product of many extents (one for none).
    pub fn product<'a>(extents: impl IntoIterator<Item = &'a Extent>) -> Extent {
        extents.into_iter().fold(Self::ONE, |product, extent| product * extent.clone())
    }
}

impl Atom {
    fn size(&self) -> u32 {
        match self {
            Atom::Sym(_) => 1,
            Atom::FloorDiv(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => 1 + a.size() + b.size(),
        }
    }

    fn depth(&self) -> u32 {
        match self {
            Atom::Sym(_) => 0,
            Atom::FloorDiv(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => 1 + a.depth().max(b.depth()),
        }
    }

    fn eval(&self, lookup: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        Some(match self {
            Atom::Sym(name) => lookup(name)?,
            Atom::FloorDiv(a, b) => {
                let b = b.eval(lookup)?;
                if b <= 0 {
                    return None;
                }
                a.eval(lookup)?.div_euclid(b)
            }
            Atom::Min(a, b) => a.eval(lookup)?.min(b.eval(lookup)?),
            Atom::Max(a, b) => a.eval(lookup)?.max(b.eval(lookup)?),
        })
    }

    fn subst(&self, replace: &dyn Fn(&str) -> Option<Extent>) -> Extent {
        match self {
            Atom::Sym(name) => replace(name).unwrap_or_else(|| Extent::atom(self.clone())),
            Atom::FloorDiv(a, b) => a.subst(replace).floordiv(&b.subst(replace)),
            Atom::Min(a, b) => a.subst(replace).minimum(&b.subst(replace)),
            Atom::Max(a, b) => a.subst(replace).maximum(&b.subst(replace)),
        }
    }

    fn range(&self, dims: &Dims) -> DimRange {
        match self {
            Atom::Sym(name) => dims.get(name).copied().unwrap_or(DimRange { lo: 0, hi: LIMIT }),
            Atom::FloorDiv(a, b) => interval_div(a.range(dims), b.range(dims)),
            Atom::Min(a, b) => {
                let (a, b) = (a.range(dims), b.range(dims));
                DimRange { lo: a.lo.min(b.lo), hi: a.hi.min(b.hi) }
            }
            Atom::Max(a, b) => {
                let (a, b) = (a.range(dims), b.range(dims));
                DimRange { lo: a.lo.max(b.lo), hi: a.hi.max(b.hi) }
            }
        }
    }

    fn symbols(&self, out: &mut BTreeSet<Sym>) {
        match self {
            Atom::Sym(name) => {
                out.insert(name.clone());
            }
            Atom::FloorDiv(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                a.symbols(out);
                b.symbols(out);
            }
        }
    }
}

fn interval_mul(a: DimRange, b: DimRange) -> DimRange {
    let corners = [(a.lo, b.lo), (a.lo, b.hi), (a.hi, b.lo), (a.hi, b.hi)].map(|(x, y)| x.saturating_mul(y));
    corner_range(corners)
}

/// Divisors are positive wherever they are evaluated, so the interval of `b` is cut at one.
fn interval_div(a: DimRange, b: DimRange) -> DimRange {
    let (lo, hi) = (b.lo.max(1), b.hi.max(1));
    corner_range([(a.lo, lo), (a.lo, hi), (a.hi, lo), (a.hi, hi)].map(|(x, y)| x.div_euclid(y)))
}

fn corner_range(corners: [i64; 4]) -> DimRange {
    corners.iter().fold(DimRange { lo: corners[0], hi: corners[0] }, |range, &c| DimRange {
        lo: range.lo.min(c),
        hi: range.hi.max(c),
    })
}

impl From<i64> for Extent {
    fn from(value: i64) -> Self {
        Self(Repr::Const(value))
    }
}

impl From<usize> for Extent {
    fn from(value: usize) -> Self {
        Self(Repr::Const(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<i32> for Extent {
    fn from(value: i32) -> Self {
        Self(Repr::Const(value.into()))
    }
}

impl Add for Extent {
    type Output = Extent;
    fn add(self, other: Extent) -> Extent {
        if self.is_huge() || other.is_huge() {
            return Self::HUGE;
        }
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return a.saturating_add(b).into();
        }
        let (a, b) = (self.terms(), other.terms());
        Self::from_terms([a.0, b.0].concat(), a.1.saturating_add(b.1))
    }
}

impl Neg for Extent {
    type Output = Extent;
    fn neg(self) -> Extent {
        self * Extent::from(-1)
    }
}

impl Sub for Extent {
    type Output = Extent;
    fn sub(self, other: Extent) -> Extent {
        self + -other
    }
}

impl Mul for Extent {
    type Output = Extent;
    fn mul(self, other: Extent) -> Extent {
        if self.is_huge() || other.is_huge() {
            return Self::HUGE;
        }
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return a.saturating_mul(b).into();
        }
        let (a, b) = (self.terms(), other.terms());
        let one = Vec::new();
        let all = |terms: &[(Vec<Atom>, i64)], constant: i64| -> Vec<(Vec<Atom>, i64)> {
            terms.iter().cloned().chain((constant != 0).then(|| (one.clone(), constant))).collect()
        };
        let (left, right) = (all(a.0, a.1), all(b.0, b.1));
        if left.len() * right.len() > MAX_SIZE as usize {
            return Self::HUGE;
        }
        let mut terms = Vec::with_capacity(left.len() * right.len());
        let mut constant = 0i64;
        for (x, cx) in &left {
            for (y, cy) in &right {
                let mut atoms = [x.as_slice(), y.as_slice()].concat();
                atoms.sort();
                let coefficient = cx.saturating_mul(*cy);
                if atoms.is_empty() {
                    constant = constant.saturating_add(coefficient);
                } else {
                    terms.push((atoms, coefficient));
                }
            }
        }
        Self::from_terms(terms, constant)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (terms, constant) = self.terms();
        if self.is_huge() {
            return f.write_str("huge");
        }
        if terms.is_empty() {
            return write!(f, "{constant}");
        }
        let single = terms.len() == 1 && constant == 0;
        if !single {
            f.write_str("(")?;
        }
        for (index, (atoms, coefficient)) in terms.iter().enumerate() {
            let (sign, magnitude) = (*coefficient < 0, coefficient.unsigned_abs());
            match (index, sign) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            if magnitude != 1 {
                write!(f, "{magnitude}*")?;
            }
            for (position, atom) in atoms.iter().enumerate() {
                write!(f, "{}{atom}", if position == 0 { "" } else { "*" })?;
            }
        }
        if constant != 0 {
            write!(f, " {} {}", if constant < 0 { '-' } else { '+' }, constant.unsigned_abs())?;
        }
        if !single {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl FromStr for Extent {
    type Err = ParseError;

    /// Reads what [`fmt::Display`] writes, and `ceildiv(a, b)` and `mod(a, b)`.
    ///
    /// # Errors
    /// [`ParseError`] for anything else, also for nesting beyond the parser's limit.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(text)?;
        let extent = parse_extent(&mut cursor)?;
        match cursor.peek() {
            Token::End => Ok(extent),
            _ => cursor.unexpected("the end of the expression"),
        }
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Sym(name) => f.write_str(name),
            Atom::FloorDiv(a, b) => write!(f, "floordiv({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
        }
    }
}

impl fmt::Debug for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Extent {
        text.parse().unwrap()
    }

    #[test]
    fn normal_forms() {
        let cases: &[(&str, &str)] = &[
            ("b + a - b", "a"),
            ("2*(a + 3) - a - a", "6"),
            ("a*b - b*a", "0"),
            ("floordiv(4*a + 6, 4)", "(a + 1)"),
            ("floordiv(6*a + 7, 4)", "(floordiv((6*a + 3), 4) + 1)"),
            ("floordiv(floordiv(a, 2), 3)", "floordiv(a, 6)"),
            ("floordiv(a*b*4, 2*b)", "2*a"),
            ("floordiv(a, a)", "1"),
            ("ceildiv(a, 8)", "floordiv((a + 7), 8)"),
            ("ceildiv(8*a, 8)", "a"),
            ("mod(4*a + 5, 4)", "1"),
            ("mod(-3, 4)", "1"),
            ("min(a + 1, a)", "a"),
            ("max(b, a)", "max(a, b)"),
            ("max(3, -(2))", "3"),
            ("-a*2", "-2*a"),
            ("seq.len_1 - 1", "(seq.len_1 - 1)"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).to_string(), *expected, "{text}");
        }
    }

    #[test]
    fn refused_texts() {
        let deep = format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000));
        for text in
            ["", "a +", "a b", "floor(a, 2)", "min(a)", "a, b", "9223372036854775808", "1.5", "\"a\"", "a)", &deep]
        {
            assert!(text.parse::<Extent>().is_err(), "{text:.40}");
        }
    }

    /// Texts whose value written out would be huge.
    #[test]
    fn growth_is_bounded() {
        let product: Vec<String> = (0..100).map(|i| format!("(a{i} + b{i})")).collect();
        let power: Vec<String> = (0..100).map(|_| "a".to_owned()).collect();
        let moduli = (0..90).fold("a".to_owned(), |text, i| format!("mod({text}, b{i})"));
        let depth = (0..90).fold("a".to_owned(), |text, i| format!("min({text}*2, b{i})"));
        for text in [product.join("*"), power.join("*"), moduli, depth] {
            assert_eq!(parse(&text), Extent::HUGE, "{text:.40}");
        }
        let mut doubled = Extent::sym("n");
        for _ in 0..200 {
            doubled = doubled.clone() * doubled;
        }
        assert_eq!(doubled, Extent::HUGE);
        assert_eq!(doubled.minimum(&Extent::ONE), Extent::HUGE);
        assert_eq!((Extent::ZERO * doubled.clone(), doubled.eval(&|_| Some(1))), (Extent::HUGE, None));
        assert!(doubled.range(&Dims::new()).hi > LIMIT);
    }

    /// An expression and its value, computed beside it without the normal form; `None` where it has none.
    type Pair = (Extent, Option<i64>);

    const NAMES: [&str; 3] = ["a", "b", "n.1"];

    fn pairs(values: [i64; 3]) -> impl Strategy<Value = Pair> {
        let leaf = prop_oneof![
            (-9i64..10).prop_map(|v| (v.into(), Some(v))),
            (0usize..3).prop_map(move |i| (Extent::sym(NAMES[i]), Some(values[i]))),
        ];
        leaf.prop_recursive(4, 24, 2, |inner| {
            (0u8..8, inner.clone(), inner).prop_map(|(kind, x, y)| combine(kind, x, y))
        })
    }

    fn combine(kind: u8, (x, a): Pair, (y, b): Pair) -> Pair {
        let both = a.zip(b);
        let divisible = both.filter(|(_, b)| *b > 0);
        match kind {
            0 => (x + y, both.map(|(a, b)| a + b)),
            1 => (x - y, both.map(|(a, b)| a - b)),
            2 => (x * y, both.map(|(a, b)| a * b)),
            3 => (x.floordiv(&y), divisible.map(|(a, b)| a.div_euclid(b))),
            4 => (x.ceildiv(&y), divisible.map(|(a, b)| (a + b - 1).div_euclid(b))),
            5 => (x.modulo(&y), divisible.map(|(a, b)| a.rem_euclid(b))),
            6 => (x.minimum(&y), both.map(|(a, b)| a.min(b))),
            _ => (x.maximum(&y), both.map(|(a, b)| a.max(b))),
        }
    }

    fn lookup(values: [i64; 3]) -> impl Fn(&str) -> Option<i64> {
        move |name| NAMES.iter().position(|n| *n == name).map(|i| values[i])
    }

    fn case() -> impl Strategy<Value = ([i64; 3], Pair)> {
        prop::array::uniform3(0i64..12).prop_flat_map(|values| (Just(values), pairs(values)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_normal_form_keeps_the_value((values, (extent, value)) in case()) {
            if let Some(value) = value {
                prop_assert_eq!(extent.eval(&lookup(values)), Some(value), "{}", extent);
            }
        }

        #[test]
        fn the_range_holds_the_value((values, (extent, value)) in case(), slack in prop::array::uniform3(0i64..3)) {
            let range = |i: usize| (Sym::from(NAMES[i]), DimRange { lo: values[i] - slack[i], hi: values[i] + slack[2 - i] });
            let dims: Dims = (0..3).map(range).collect();
            if let Some(value) = value {
                let range = extent.range(&dims);
                prop_assert!((range.lo..=range.hi).contains(&value), "{} in {:?}", extent, range);
            }
        }

        #[test]
        fn what_is_printed_reads_back((_, (extent, _)) in case()) {
            let text = extent.to_string();
            prop_assert_eq!(text.parse::<Extent>(), Ok(extent), "{}", text);
        }

        #[test]
        fn substitution_is_evaluation((values, (extent, value)) in case()) {
            let constant = extent.subst(&|name| lookup(values)(name).map(Extent::from));
            if value.is_some() {
                prop_assert_eq!(constant.as_const(), value, "{}", extent);
            }
        }
    }
}

//! Fingerprints: values of e-classes on random operands, held against each other at every union, so that a rule that is wrong is
//! named at once. On where assertions are on.
//!
//! Small values only: what is large has none, and neither has what is computed from it. What is compared is whether two forms mean
//! the same, not how they round; the bounds of rules are for tests and validation.

use std::sync::Arc;

use super::{EGraph, ENode, Known};
use crate::exact::largest;
use crate::ops::{ConstId, Op, UnaryFn};
use crate::sample;
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Evaluations on different operands.
const DRAWS: u64 = 2;
/// Elements of an operator's operands and results together.
const ELEMENTS: usize = 4096;
/// Differences of floats relative to the largest: far more than rounding makes, far less than another meaning.
const NEAR: f64 = 0.02;
/// Below this it is rounding of what cancels; operands are about 1.
const FLOOR: f64 = 1e-3;
/// The same behind a rounding to a grid, where both forms may be a step apart and what follows with them.
const COARSE: f64 = 0.3;
/// Steps that two stored integers may then be apart.
const STEPS: f64 = 16.0;

/// The results of an e-class on random operands.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    draws: Arc<[Vec<Tensor>]>,
    /// A float was rounded to a grid on the way.
    coarse: bool,
}

/// Two of one class are as good as the same: whether they agree is looked at when classes meet.
impl PartialEq for Fingerprint {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Fingerprint {
    /// That of an e-node, from those of its operands.
    pub(super) fn of(egraph: &EGraph, node: &ENode, types: &[TensorType]) -> Option<Self> {
        let known = &egraph.analysis;
        if !known.prints {
            return None;
        }
        let print = match node.kind.name() {
            "@const" => {
                let value = known.peek(ConstId::from_u32(node.payload)).filter(|data| data.elems() <= ELEMENTS)?;
                Self { draws: (0..DRAWS).map(|_| vec![value.clone()]).collect(), coarse: false }
            }
            "@input" => {
                let draws: Option<_> = (0..DRAWS).map(|draw| input(known, node.payload, &types[..1], draw)).collect();
                Self { draws: draws?, coarse: false }
            }
            "@get" => {
                let of = egraph[node.children[0]].data.print.as_ref()?;
                let one = |results: &Vec<Tensor>| results.get(node.payload as usize).map(|value| vec![value.clone()]);
                Self { draws: of.draws.iter().map(one).collect::<Option<_>>()?, coarse: of.coarse }
            }
            _ => apply(egraph, node, types)?,
        };
        Some(print)
    }

    /// What of the two is not the same.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let coarse = self.coarse || other.coarse;
        let pairs = self.draws.iter().flatten().zip(other.draws.iter().flatten());
        pairs.into_iter().find_map(|(a, b)| difference(a, b, coarse))
    }

    /// What a class has after a union.
    pub(super) fn join(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(Self { coarse: a.coarse || b.coarse, ..a }),
            (a, b) => a.or(b),
        }
    }
}

/// Value of a named dimension in a draw.
fn dim(known: &Known, name: &str) -> Option<i64> {
    Some(sample::dim(&known.dims, &name.into()))
}

fn input(known: &Known, at: u32, types: &[TensorType], draw: u64) -> Option<Vec<Tensor>> {
    let [ty] = types else { return None };
    let elems = ty.elems().eval(&|name| dim(known, name))?;
    if !usize::try_from(elems).is_ok_and(|elems| elems <= ELEMENTS) {
        return None;
    }
    let mut random = fastrand::Rng::with_seed(u64::from(at) << 8 | draw);
    Some(vec![sample::draw(ty, &|name| dim(known, name), &mut random)?])
}

fn apply(egraph: &EGraph, node: &ENode, types: &[TensorType]) -> Option<Fingerprint> {
    let known = &egraph.analysis;
    let op = known.op(egraph[*node.children.first()?].data.attr?);
    let facts = || node.children[1..].iter().map(|&child| &egraph[child].data);
    let (mut coarse, mut elems) = (rounds(op), 0);
    for ty in types {
        elems += usize::try_from(ty.elems().eval(&|name| dim(known, name))?).ok()?;
    }
    let floats = facts().any(|facts| facts.ty().is_some_and(|ty| ty.dtype.is_float()));
    let bytes = |ty: &TensorType| ty.dtype.is_int() && ty.dtype.bits() <= 8 && ty.dtype != DType::Bool;
    for ty in types.iter().filter(|ty| floats && !ty.dtype.is_float()) {
        coarse = true;
        // Two numbers that differ in their last digit may decide for different indices.
        if !bytes(ty) {
            return None;
        }
    }
    for facts in facts().filter(|facts| !facts.types.is_empty()) {
        let print = facts.print.as_ref()?;
        elems += print.draws[0].first()?.elems();
        coarse |= print.coarse;
    }
    if elems > ELEMENTS {
        return None;
    }
    let draw = |at: usize| {
        let operands: Vec<Option<&Tensor>> = facts().map(|facts| facts.print.as_ref()?.draws[at].first()).collect();
        op.eval(&operands, &|name| dim(known, name)).ok()
    };
    Some(Fingerprint { draws: (0..DRAWS as usize).map(draw).collect::<Option<_>>()?, coarse })
}

/// Whether results jump where operands do not.
fn rounds(op: &Op) -> bool {
    use UnaryFn::{Ceil, Floor, Round, Sign};
    match op {
        Op::Unary(op) => matches!(op.function, Ceil | Floor | Round | Sign),
        Op::QLinearConv(_) | Op::QLinearMatMul(_) | Op::Quantize(_) | Op::DynamicQuantize(_) => true,
        _ => false,
    }
}

/// How two values differ by more than rounding.
fn difference(a: &Tensor, b: &Tensor, coarse: bool) -> Option<String> {
    if a.dtype() != b.dtype() || a.shape() != b.shape() {
        return Some(format!("{} and {}", a.ty(), b.ty()));
    }
    let (x, y) = (a.to_f64(), b.to_f64());
    let scale = largest(&x).max(largest(&y));
    let bound = match (a.dtype(), coarse) {
        (DType::Bool, true) => return None,
        (dtype, true) if dtype.is_int() && dtype.bits() <= 8 => STEPS,
        (_, true) => FLOOR + COARSE * scale,
        (dtype, false) if dtype.is_float() => FLOOR + scale * if dtype.bits() < 32 { 8.0 * NEAR } else { NEAR },
        _ => 0.0,
    };
    // What is not finite in one form may be in another one, within the bounds of most rules.
    let apart = |(x, y): (&f64, &f64)| x.is_finite() && y.is_finite() && (x - y).abs() > bound;
    let at = x.iter().zip(&y).position(|(x, y)| apart((x, y)))?;
    Some(format!("{} and {} at {at} of {}", x[at], y[at], a.ty()))
}

#[cfg(test)]
mod tests {
    use egg::{Id, Subst};

    use super::*;
    use crate::egraph::rule::{Rule, add_op, saturate};
    use crate::egraph::{Match, Region};
    use crate::exact::Exactness;
    use crate::ops::Unary;
    use crate::text::parse_graph;

    const UNSOUND: Rule = Rule {
        name: "relu-as-identity",
        left: &["(relu ?r ?x)"],
        right: "?x",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "it is not",
        helps: "nobody",
        make: |egraph, subst| Some(Match { egraph, subst }.id("x")),
    };

    fn negated(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
        let x = Match { egraph, subst }.id("x");
        let negative = add_op(egraph, Unary { function: UnaryFn::Neg }, &[x])?;
        add_op(egraph, Unary { function: UnaryFn::Abs }, &[negative])
    }

    static RULES: [Rule; 2] = [
        UNSOUND,
        Rule { name: "abs-of-negative", left: &["(abs ?a ?x)"], right: "(abs (neg ?x))", make: negated, ..UNSOUND },
    ];

    /// The first bug that a rule of the list leads to.
    fn bug(rule: usize, lines: &str) -> Option<String> {
        let graph = parse_graph(&format!("graph @g dims(n = 1..9) {{\n{}\n}}", lines.replace(';', "\n"))).unwrap();
        let nodes: Vec<_> = graph.order().to_vec();
        let outputs: Vec<_> = graph.outputs().iter().map(|output| output.value).collect();
        let mut region = Region::new(&graph, &nodes, &outputs);
        let (egraph, _) = saturate(std::mem::take(&mut region.egraph), &[&RULES[rule]], 3, 100);
        egraph.analysis.bugs.first().map(|bug| format!("{} {}", bug.rule, bug.what))
    }

    #[test]
    fn a_wrong_rule_is_named() {
        for ty in ["f32[n,4]", "f16[3]", "i8[5]", "i32[8]"] {
            let found = bug(0, &format!("input %0 \"x\" : {ty};%1 = relu %0 : {ty};output \"y\" = %1"));
            // Wide integers stand for indices: none is negative.
            let expected = ty != "i32[8]";
            assert_eq!(found.is_some_and(|bug| bug.starts_with("relu-as-identity unites")), expected, "{ty}");
        }
    }

    #[test]
    fn a_wrong_rule_is_named_behind_other_operators() {
        let lines = "input %0 \"x\" : f32[2,6,5,5];%1 = const \"s\" [0.01] : f32[];%2 = const \"z\" [3] : i8[];
            %3 = quantize %0, %1, %2 {axis=0, block=0, to=i8} : i8[2,6,5,5];%4 = dequantize %3, %1, %2 {axis=0, block=0} : f32[2,6,5,5];
            %5 = relu %4 : f32[2,6,5,5];output \"y\" = %5";
        assert!(bug(0, lines).is_some_and(|bug| bug.starts_with("relu-as-identity")));
    }

    #[test]
    fn right_rules_and_large_values_are_left_alone() {
        assert_eq!(bug(1, "input %0 \"x\" : f32[n,4];%1 = abs %0 : f32[n,4];output \"y\" = %1"), None);
        assert_eq!(bug(0, "input %0 \"x\" : f32[n,4000];%1 = relu %0 : f32[n,4000];output \"y\" = %1"), None);
    }
}

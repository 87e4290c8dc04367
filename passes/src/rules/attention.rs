//! Attention, written out.

use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::{Exactness, NORM_TRANSCENDENTAL};
use adze_ir::extent::Extent;
use adze_ir::ops::{Attention, BinaryFn, Op, UnaryFn};
use egg::Id;

use super::support::{find, id, number, op, op_of, value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "attention",
        left: &[
            "(matmul ?o (softmax ?f (matmul ?m ?q ?k)) ?v)",
            "(matmul ?o (softmax ?f (mul ?c (matmul ?m ?q ?k) ?scale)) ?v)",
            "(matmul ?o (softmax ?f (div ?c (matmul ?m ?q ?k) ?divisor)) ?v)",
            "(matmul ?o (softmax ?f (add ?p (matmul ?m ?q ?k) ?mask)) ?v)",
            "(matmul ?o (softmax ?f (add ?p ?mask (matmul ?m ?q ?k))) ?v)",
            "(matmul ?o (softmax ?f (add ?p (mul ?c (matmul ?m ?q ?k) ?scale) ?mask)) ?v)",
            "(matmul ?o (softmax ?f (add ?p ?mask (mul ?c (matmul ?m ?q ?k) ?scale))) ?v)",
            "(matmul ?o (softmax ?f (add ?p (div ?c (matmul ?m ?q ?k) ?divisor) ?mask)) ?v)",
            "(matmul ?o (softmax ?f (add ?p ?mask (div ?c (matmul ?m ?q ?k) ?divisor))) ?v)",
        ],
        right: "(attention{scale} ?q ?k ?v ?mask)",
        conditions: &[
            Condition {
                name: "rows of keys against rows of queries, rows of scores against columns of values",
                holds: rows,
            },
            Condition { name: "one finite factor, or none", holds: |m| scale(m).is_some() },
            Condition {
                name: "the mask is finite",
                holds: |m| m.find("mask").is_none_or(|mask| bound(m.egraph, mask, DEPTH).is_some()),
            },
        ],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; masks are finite because a row that -inf masks throughout would attend to nothing instead \
                of being NaN, and a row that a finite mask covers throughout keeps digits that the sum with it loses",
        helps: "scores are never stored as a whole",
        make: |g, s| {
            let factor = scale(&Match { egraph: g, subst: s })?;
            let [q, k, v] = ["q", "k", "v"].map(|name| id(g, s, name));
            let attention = Attention { scale: factor.into(), causal: false, softcap: 0.0.into() };
            let operands: Vec<Id> = [q, k, v].into_iter().chain(find(g, s, "mask")).collect();
            add_op(g, attention, &operands)
        },
    },
    Rule {
        name: "attention-of-repeated-heads",
        left: &[
            "(attention ?a ?q (reshape ?r (expand ?e (reshape ?h ?k))) (reshape ?r (expand ?e (reshape ?h ?v))))",
            "(attention ?a ?q (reshape ?r (expand ?e (reshape ?h ?k))) (reshape ?r (expand ?e (reshape ?h ?v))) ?mask)",
        ],
        right: "(attention ?a ?q ?k ?v ?mask)",
        conditions: &[Condition { name: "every head is repeated in place", holds: repeats_heads }],
        exactness: Exactness::Exact,
        sound: "queries of one group read the keys and values of one head",
        helps: "repeated keys and values are not stored",
        make: |g, s| {
            let (attention, [q, k, v]) = (op(g, s, "a"), ["q", "k", "v"].map(|name| id(g, s, name)));
            let operands: Vec<Id> = [q, k, v].into_iter().chain(find(g, s, "mask")).collect();
            add_op(g, attention, &operands)
        },
    },
];

/// Operators that the bound of a mask is looked for through.
const DEPTH: usize = 12;

fn rows(m: &Match<'_>) -> bool {
    let (Op::MatMul(scores), Op::MatMul(sums), Op::Softmax(softmax)) = (m.op("m"), m.op("o"), m.op("f")) else {
        return false;
    };
    let plain = !scores.trans_a && scores.trans_b && !sums.trans_a && !sums.trans_b;
    let last = ["q", "k", "v"].iter().all(|name| m.ty(name).is_some_and(|ty| ty.rank() == 4));
    plain && last && softmax.axis == 3 && !softmax.flatten
}

/// The factor of the scores.
fn scale(m: &Match<'_>) -> Option<f64> {
    let factor = match (m.find("scale"), m.find("divisor")) {
        (Some(_), _) => number(m, "scale")?,
        (_, Some(_)) => 1.0 / number(m, "divisor")?,
        _ => 1.0,
    };
    factor.is_finite().then_some(factor)
}

/// A number that no element's magnitude exceeds, by the operators that a value comes from.
fn bound(egraph: &EGraph, id: Id, depth: usize) -> Option<f64> {
    let depth = depth.checked_sub(1)?;
    if let Some(constant) = value(egraph, id) {
        let values = constant.to_f64();
        return values.iter().all(|v| v.is_finite()).then(|| values.iter().fold(0.0, |most, v| v.abs().max(most)));
    }
    let whole = egraph[id].data.ty()?.dtype.int_range();
    if let Some((low, high)) = whole {
        return Some((low.unsigned_abs().max(high.unsigned_abs())) as f64);
    }
    let found = egraph[id].nodes.iter().find_map(|node| {
        let op = op_of(egraph, node)?;
        let of = |at: usize| bound(egraph, *node.children.get(at + 1)?, depth);
        match op {
            Op::Cast(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Expand(_) | Op::Slice(_) | Op::Gather(_) => of(0),
            Op::Where(_) => Some(of(1)?.max(of(2)?)),
            Op::Concat(_) => (0..node.children.len() - 1).try_fold(0.0f64, |most, at| Some(of(at)?.max(most))),
            Op::Unary(op) if op.function == UnaryFn::Neg => of(0),
            Op::Binary(op) => match op.function {
                BinaryFn::Add | BinaryFn::Sub => Some(of(0)? + of(1)?),
                BinaryFn::Mul => Some(of(0)? * of(1)?),
                _ => None,
            },
            _ => None,
        }
    });
    // Far inside of what single precision holds.
    found.filter(|most| *most < 1e36)
}

fn repeats_heads(m: &Match<'_>) -> bool {
    let (Op::Reshape(joined), Op::Expand(spread), Op::Reshape(split), Some(k), Some(v)) =
        (m.op("r"), m.op("e"), m.op("h"), m.ty("k"), m.ty("v"))
    else {
        return false;
    };
    let [b, heads, t, d] = &k.shape[..] else { return false };
    let one = [b.clone(), heads.clone(), Extent::ONE, t.clone(), d.clone()];
    let [_, _, times, ..] = &spread.shape[..] else { return false };
    let many = [b.clone(), heads.clone(), times.clone(), t.clone(), d.clone()];
    let all = [b.clone(), heads.clone() * times.clone(), t.clone(), d.clone()];
    split.shape == one && spread.shape == many && joined.shape == all && k.shape == v.shape
}

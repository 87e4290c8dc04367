//! Explicit padding into operators that pad themselves.

use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::Exactness;
use adze_ir::extent::Extent;
use adze_ir::ops::{AveragePool, Conv, Op, Pad, PadMode};
use egg::{Id, Subst};

use super::support::{find, id, op};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "pad-into-conv",
        left: &[
            "(conv ?a (pad ?p ?x) ?w)",
            "(conv ?a (pad ?p ?x) ?w ?b)",
            "(conv ?a (pad ?p ?x ?v) ?w)",
            "(conv ?a (pad ?p ?x ?v) ?w ?b)",
        ],
        right: "(conv{pads + p} ?x ?w ?b)",
        conditions: &[
            Condition { name: "zeros are added", holds: adds_zeros },
            Condition { name: "only spatial axes grow, none shrinks", holds: grows_in_space },
        ],
        exactness: Exactness::Exact,
        sound: "a convolution reads zeros outside its operand",
        helps: "the padded copy is never made",
        make: make_padded,
    },
    Rule {
        name: "pad-into-average-pool",
        left: &["(average_pool ?a (pad ?p ?x))", "(average_pool ?a (pad ?p ?x ?v))"],
        right: "(average_pool{pads + p, count_include_pad} ?x)",
        conditions: &[
            Condition { name: "zeros are added", holds: adds_zeros },
            Condition { name: "only spatial axes grow, none shrinks", holds: grows_in_space },
            Condition { name: "the pool itself leaves out no padding", holds: counts_all },
        ],
        exactness: Exactness::Exact,
        sound: "zeros that count towards the divisor are what padding that counts is",
        helps: "the padded copy is never made",
        make: make_padded_pool,
    },
];

fn adds_zeros(m: &Match<'_>) -> bool {
    let zero = m.find("v").is_none() || m.data("v").is_some_and(|v| v.to_f64() == [0.0]);
    zero && matches!(m.op("p"), Op::Pad(Pad { mode: PadMode::Constant, .. }))
}

fn grows_in_space(m: &Match<'_>) -> bool {
    let Op::Pad(pad) = m.op("p") else { return false };
    let amounts = |extents: &[Extent]| {
        extents.iter().enumerate().all(|(axis, e)| e.as_const().is_some_and(|v| if axis < 2 { v == 0 } else { v >= 0 }))
    };
    amounts(&pad.before) && amounts(&pad.after)
}

fn counts_all(m: &Match<'_>) -> bool {
    let Op::AveragePool(pool) = m.op("a") else { return false };
    pool.ceil_pads.iter().all(|&p| p == 0) && (pool.count_include_pad || pool.pads.iter().all(|&p| p == 0))
}

/// Padding of both, per spatial axis at its begin and then at its end.
fn joined(pad: &Pad, pads: &[i64]) -> Option<Vec<i64>> {
    let added = pad.before[2..].iter().chain(&pad.after[2..]);
    pads.iter().zip(added).map(|(have, more)| Some(have + more.as_const()?)).collect()
}

fn make_padded_pool(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Pad(pad), Op::AveragePool(pool)) = (op(egraph, subst, "p"), op(egraph, subst, "a")) else { return None };
    let (pads, x) = (joined(&pad, &pool.pads)?, id(egraph, subst, "x"));
    add_op(egraph, AveragePool { pads, count_include_pad: true, ..pool }, &[x])
}

fn make_padded(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Pad(pad), Op::Conv(conv)) = (op(egraph, subst, "p"), op(egraph, subst, "a")) else { return None };
    let conv = Conv { pads: joined(&pad, &conv.pads)?, ..conv };
    let (x, w) = (id(egraph, subst, "x"), id(egraph, subst, "w"));
    match find(egraph, subst, "b") {
        None => add_op(egraph, conv, &[x, w]),
        Some(b) => add_op(egraph, conv, &[x, w, b]),
    }
}

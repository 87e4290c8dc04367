//! Explicit padding into operators that pad themselves.

use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::Exactness;
use adze_ir::extent::Extent;
use adze_ir::ops::{Conv, Op, Pad, PadMode};
use egg::{Id, Subst};

use super::support::{find, id, op};

pub(super) const RULES: &[Rule] = &[Rule {
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
        Condition { name: "only spatial axes grow, none shrinks", holds: spatial_only },
    ],
    exactness: Exactness::Exact,
    sound: "a convolution reads zeros outside its operand",
    helps: "the padded copy is never made",
    make: make_padded,
}];

fn adds_zeros(m: &Match<'_>) -> bool {
    let zero = m.find("v").is_none() || m.data("v").is_some_and(|v| v.to_f64() == [0.0]);
    zero && matches!(m.op("p"), Op::Pad(Pad { mode: PadMode::Constant, .. }))
}

fn spatial_only(m: &Match<'_>) -> bool {
    let (Op::Pad(pad), Op::Conv(conv)) = (m.op("p"), m.op("a")) else { return false };
    let amounts = |extents: &[Extent]| {
        extents.iter().enumerate().all(|(axis, e)| e.as_const().is_some_and(|v| if axis < 2 { v == 0 } else { v >= 0 }))
    };
    amounts(&pad.before) && amounts(&pad.after) && conv.pads.iter().all(|&p| p >= 0)
}

fn make_padded(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Pad(pad), Op::Conv(conv)) = (op(egraph, subst, "p"), op(egraph, subst, "a")) else { return None };
    let added = pad.before[2..].iter().chain(&pad.after[2..]);
    let pads: Option<Vec<i64>> =
        conv.pads.iter().zip(added).map(|(have, more)| Some(have + more.as_const()?)).collect();
    let conv = Conv { pads: pads?, ..conv };
    let (x, w) = (id(egraph, subst, "x"), id(egraph, subst, "w"));
    match find(egraph, subst, "b") {
        None => add_op(egraph, conv, &[x, w]),
        Some(b) => add_op(egraph, conv, &[x, w, b]),
    }
}

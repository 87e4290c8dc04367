//! Transposes: cancelled in pairs, moved down through elementwise operators until they meet.

use adze_ir::egraph::{EGraph, Match, Rule, add_op};
use adze_ir::exact::Exactness;
use adze_ir::ops::{Op, Transpose};
use egg::{Id, Subst};

use super::support::{id, op};
use adze_ir::egraph::Condition;

macro_rules! through_unary {
    ($($op:literal),*) => { &[$(concat!("(", $op, " ?a (transpose ?p ?x))")),*] };
}

macro_rules! through_binary {
    ($($op:literal),*) => { &[$(concat!("(", $op, " ?a (transpose ?p ?x) (transpose ?p ?y))")),*] };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "transpose-of-transpose",
        left: &["(transpose ?p (transpose ?q ?x))"],
        right: "(transpose{q∘p} ?x), or ?x",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "permutations compose; the identity is no operator",
        helps: "one copy of the tensor less, or two",
        make: make_composed,
    },
    Rule {
        name: "transpose-after-unary",
        left: through_unary!(
            "relu",
            "sigmoid",
            "tanh",
            "neg",
            "abs",
            "exp",
            "sqrt",
            "erf",
            "hard_swish",
            "clip",
            "leaky_relu",
            "elu",
            "hard_sigmoid",
            "gelu",
            "swish"
        ),
        right: "(transpose ?p (f ?a ?x))",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "an elementwise function does not see positions",
        helps: "transposes meet and cancel",
        make: make_after_unary,
    },
    Rule {
        name: "transpose-after-binary",
        left: through_binary!("add", "sub", "mul", "div", "max", "min"),
        right: "(transpose ?p (f ?a ?x ?y))",
        conditions: &[Condition { name: "no broadcasting of ranks", holds: equal_ranks }],
        exactness: Exactness::Exact,
        sound: "an elementwise function does not see positions, and both operands are permuted alike",
        helps: "one transpose instead of two",
        make: make_after_binary,
    },
];

fn make_composed(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Transpose(outer), Op::Transpose(inner)) = (op(egraph, subst, "p"), op(egraph, subst, "q")) else {
        return None;
    };
    let perm: Vec<usize> = outer.perm.iter().map(|&axis| inner.perm[axis]).collect();
    let x = id(egraph, subst, "x");
    if perm.iter().enumerate().all(|(i, &axis)| i == axis) {
        return Some(x);
    }
    add_op(egraph, Transpose { perm }, &[x])
}

fn make_after_unary(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (function, perm) = (op(egraph, subst, "a"), op(egraph, subst, "p"));
    let x = id(egraph, subst, "x");
    let made = add_op(egraph, function, &[x])?;
    add_op(egraph, perm, &[made])
}

fn equal_ranks(m: &Match<'_>) -> bool {
    matches!((m.ty("x"), m.ty("y")), (Some(x), Some(y)) if x.rank() == y.rank())
}

fn make_after_binary(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (function, perm) = (op(egraph, subst, "a"), op(egraph, subst, "p"));
    let (x, y) = (id(egraph, subst, "x"), id(egraph, subst, "y"));
    let made = add_op(egraph, function, &[x, y])?;
    add_op(egraph, perm, &[made])
}

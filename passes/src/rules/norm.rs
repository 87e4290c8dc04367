//! Normalisations and softmax that exporters write out in elementary operators.
//!
//! Each is recognised bare first and takes factors and terms one by one, so that no form has to be listed with and
//! without them.

use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::{Exactness, NORM_TRANSCENDENTAL};
use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, InstanceNorm, LayerNorm, LogSoftmax, Op, ReduceFn, RmsNorm, Softmax, Unary, UnaryFn};
use egg::{Id, Subst};

use super::support::{binary, float, id, number, op, scalar, ty};

/// `(div d (sqrt (add (mean d²) ε)))` in its spellings; `$d` is what is divided, `$x` what is squared.
macro_rules! over_root {
    ($d:literal) => {
        &[
            concat!("(div ?d ", $d, " (sqrt ?q (add ?a (reduce ?v (mul ?m ", $d, " ", $d, ")) ?e)))"),
            concat!("(div ?d ", $d, " (pow ?q (add ?a (reduce ?v (mul ?m ", $d, " ", $d, ")) ?e) ?half))"),
        ]
    };
}

const MEANS: Condition = Condition { name: "means over the last axes, which are kept", holds: means_last };
const EPSILON: Condition = Condition {
    name: "one number, not negative, is added to the variance, and the root is square",
    holds: epsilon_and_root,
};
const CONSTANT: Condition = Condition { name: "it is constant", holds: |m| m.fixed("c") };

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "layer-norm",
        left: over_root!("(sub ?s ?x (reduce ?r ?x))"),
        right: "(layer_norm ?x 1)",
        conditions: &[MEANS, EPSILON],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; roundings differ",
        helps: "two passes over rows that stay in cache instead of six over the tensor",
        make: |g, s| {
            let (axis, epsilon, x) = normalised(g, s)?;
            let one = scalar(g, x, 1.0)?;
            add_op(g, LayerNorm { axis, epsilon: epsilon.into() }, &[x, one])
        },
    },
    Rule {
        name: "rms-norm",
        left: over_root!("?x"),
        right: "(rms_norm ?x 1)",
        conditions: &[MEANS, EPSILON],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; roundings differ",
        helps: "two passes over rows that stay in cache instead of four over the tensor",
        make: |g, s| {
            let (axis, epsilon, x) = normalised(g, s)?;
            let one = scalar(g, x, 1.0)?;
            add_op(g, RmsNorm { axis, epsilon: epsilon.into() }, &[x, one])
        },
    },
    Rule {
        name: "instance-norm",
        left: over_root!("(sub ?s ?x (reduce ?r ?x))"),
        right: "(instance_norm ?x 1 0)",
        conditions: &[Condition { name: "means over all but images and channels", holds: means_in_space }, EPSILON],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; roundings differ",
        helps: "two passes over planes that stay in cache instead of six over the tensor",
        make: make_instance,
    },
    Rule {
        name: "factor-into-norm",
        left: &[
            "(mul ?m (layer_norm ?n ?x ?w) ?c)",
            "(mul ?m ?c (layer_norm ?n ?x ?w))",
            "(mul ?m (rms_norm ?n ?x ?w) ?c)",
            "(mul ?m ?c (rms_norm ?n ?x ?w))",
        ],
        right: "(norm ?n ?x (mul ?w ?c))",
        conditions: &[CONSTANT],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; one rounding instead of two",
        helps: "one pass over the tensor less",
        make: |g, s| {
            let (norm, [x, w, c]) = (op(g, s, "n"), ["x", "w", "c"].map(|name| id(g, s, name)));
            let scale = binary(g, BinaryFn::Mul, w, c)?;
            add_op(g, norm, &[x, scale])
        },
    },
    Rule {
        name: "term-into-layer-norm",
        left: &["(add ?m (layer_norm ?n ?x ?w) ?c)", "(add ?m ?c (layer_norm ?n ?x ?w))"],
        right: "(layer_norm ?n ?x ?w ?c)",
        conditions: &[CONSTANT],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; one rounding instead of two",
        helps: "one pass over the tensor less",
        make: |g, s| {
            let (norm, [x, w, c]) = (op(g, s, "n"), ["x", "w", "c"].map(|name| id(g, s, name)));
            add_op(g, norm, &[x, w, c])
        },
    },
    Rule {
        name: "softmax",
        left: &[
            "(div ?d (exp ?e (sub ?s ?x (reduce ?r ?x))) (reduce ?u (exp ?e (sub ?s ?x (reduce ?r ?x)))))",
            "(div ?d (exp ?e ?x) (reduce ?u (exp ?e ?x)))",
        ],
        right: "(softmax ?x)",
        conditions: &[Condition { name: "a sum along one axis, and the maximum along it", holds: rows }],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; where exponentials of what is not shifted overflow, softmax gives the true value",
        helps: "one operator that keeps a row in cache instead of four or five passes",
        make: |g, s| {
            let (Op::Reduce(sum), x) = (op(g, s, "u"), id(g, s, "x")) else { return None };
            add_op(g, Softmax { axis: *sum.axes.first()?, flatten: false }, &[x])
        },
    },
    Rule {
        name: "log-of-softmax",
        left: &["(log ?l (softmax ?s ?x))"],
        right: "(log_softmax ?x)",
        conditions: &[],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; small probabilities keep digits, and none becomes minus infinity",
        helps: "one pass over the tensor less",
        make: |g, s| {
            let (Op::Softmax(rows), x) = (op(g, s, "s"), id(g, s, "x")) else { return None };
            add_op(g, LogSoftmax { axis: rows.axis, flatten: rows.flatten }, &[x])
        },
    },
    Rule {
        name: "softmax-of-distance-to-maximum",
        left: &["(softmax ?s (sub ?d (reduce ?r ?x) ?x))"],
        right: "(softmax ?s (neg ?x))",
        conditions: &[Condition { name: "the maximum is one per row", holds: one_per_row }],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "softmax does not see what is added to a whole row",
        helps: "the maximum is not looked for twice",
        make: |g, s| {
            let (rows, x) = (op(g, s, "s"), id(g, s, "x"));
            let negated = add_op(g, Unary { function: UnaryFn::Neg }, &[x])?;
            add_op(g, rows, &[negated])
        },
    },
];

/// The axes that the mean of squares is taken over, the number added to it, and the operand.
fn normalised(egraph: &EGraph, subst: &Subst) -> Option<(usize, f64, Id)> {
    let m = Match { egraph, subst };
    let Op::Reduce(variance) = m.op("v") else { return None };
    Some((*variance.axes.first()?, number(&m, "e")?, m.id("x")))
}

/// Whether the mean of squares, and the mean that was taken off before if there is one, are over these axes.
fn means_over(m: &Match<'_>, axes: &[usize]) -> bool {
    let over = |name: &str| matches!(m.op(name), Op::Reduce(op) if op.function == ReduceFn::Mean && op.keep_dims && op.axes == axes);
    over("v") && (m.find("r").is_none() || over("r")) && !axes.is_empty()
}

fn means_last(m: &Match<'_>) -> bool {
    let (Op::Reduce(variance), Some(x)) = (m.op("v"), m.ty("x")) else { return false };
    let first = variance.axes.first().copied().unwrap_or(0);
    means_over(m, &(first..x.rank()).collect::<Vec<_>>())
}

fn means_in_space(m: &Match<'_>) -> bool {
    m.ty("x").is_some_and(|x| x.rank() > 2 && means_over(m, &(2..x.rank()).collect::<Vec<_>>()))
}

fn epsilon_and_root(m: &Match<'_>) -> bool {
    let root = m.find("half").is_none() || number(m, "half") == Some(0.5);
    let single = m.ty("e").is_some_and(|ty| ty.elems() == Extent::ONE);
    root && single && number(m, "e").is_some_and(|e| e >= 0.0 && e.is_finite())
}

fn make_instance(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (_, epsilon, x) = normalised(egraph, subst)?;
    let channels = ty(egraph, x)?.shape[1].clone();
    let mut filled = |value: f64| {
        let number = scalar(egraph, x, value)?;
        add_op(egraph, adze_ir::ops::Expand { shape: vec![channels.clone()] }, &[number])
    };
    let (one, zero) = (filled(1.0)?, filled(0.0)?);
    add_op(egraph, InstanceNorm { epsilon: epsilon.into() }, &[x, one, zero])
}

fn rows(m: &Match<'_>) -> bool {
    let Op::Reduce(sum) = m.op("u") else { return false };
    let extreme = m.find("r").is_none()
        || matches!(m.op("r"), Op::Reduce(max) if max.function == ReduceFn::Max && max.keep_dims && max.axes == sum.axes);
    extreme && sum.function == ReduceFn::Sum && sum.keep_dims && sum.axes.len() == 1 && float(m, "x")
}

fn one_per_row(m: &Match<'_>) -> bool {
    let (Op::Reduce(max), Op::Softmax(rows)) = (m.op("r"), m.op("s")) else { return false };
    max.function == ReduceFn::Max && max.keep_dims && max.axes == [rows.axis] && !rows.flatten
}

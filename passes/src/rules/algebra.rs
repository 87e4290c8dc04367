//! Arithmetic: chains of constants, divisions, common factors.

use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::{Exactness, NORM_LINEAR};
use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, Op, Reduce, ReduceFn, UnaryFn};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use egg::{Id, Subst};

use super::support::{all_normal, binary, broadcasts_to, float, id, numbers, op, scalar, ty};

const NO_LARGER: Condition =
    Condition { name: "together they are no larger than the larger of them", holds: |m| no_larger(m, "a", "b") };

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "constant-factors",
        left: &["(mul ?m (mul ?n ?x ?a) ?b)"],
        right: "(mul ?x (mul ?a ?b))",
        conditions: &[
            Condition { name: "both are constants, whose product is normal", holds: normal_product },
            NO_LARGER,
        ],
        exactness: Exactness::Ulp(2),
        sound: "multiplication is associative up to roundings while nothing overflows",
        helps: "one multiplication less",
        make: |g, s| chain(g, s, BinaryFn::Mul),
    },
    Rule {
        name: "constant-terms",
        left: &["(add ?m (add ?n ?x ?a) ?b)"],
        right: "(add ?x (add ?a ?b))",
        conditions: &[Condition { name: "both are constants, whose sum is finite", holds: finite_sum }, NO_LARGER],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "addition is associative up to roundings of the largest term",
        helps: "one addition less",
        make: |g, s| chain(g, s, BinaryFn::Add),
    },
    Rule {
        name: "division-by-constant",
        left: &["(div ?d ?x ?c)"],
        right: "(mul ?x (div 1 ?c))",
        conditions: &[Condition { name: "divisors and their reciprocals are normal", holds: reciprocal_normal }],
        exactness: Exactness::Ulp(2),
        sound: "the reciprocal is rounded once more",
        helps: "a multiplication is several times as fast as a division, and joins other factors",
        make: |g, s| {
            let (x, c) = (id(g, s, "x"), id(g, s, "c"));
            let one = scalar(g, c, 1.0)?;
            let reciprocal = binary(g, BinaryFn::Div, one, c)?;
            binary(g, BinaryFn::Mul, x, reciprocal)
        },
    },
    Rule {
        name: "reciprocal-factor",
        left: &["(mul ?m ?x (reciprocal ?r ?y))", "(mul ?m (reciprocal ?r ?y) ?x)"],
        right: "(div ?x ?y)",
        conditions: &[],
        exactness: Exactness::Ulp(2),
        sound: "the definition, one rounding instead of two; a reciprocal that overflows does not",
        helps: "one pass over the divisors less, and normalisations are recognised",
        make: |g, s| {
            let (x, y) = (id(g, s, "x"), id(g, s, "y"));
            binary(g, BinaryFn::Div, x, y)
        },
    },
    Rule {
        name: "factor-of-both-terms",
        left: &["(add ?p (mul ?m ?x ?c) (mul ?n ?y ?c))"],
        right: "(mul (add ?x ?y) ?c)",
        conditions: &[Condition { name: "the terms have one shape", holds: |m| m.ty("x") == m.ty("y") }],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "distributivity up to roundings",
        helps: "one multiplication less",
        make: |g, s| {
            let [x, y, c] = ["x", "y", "c"].map(|name| id(g, s, name));
            let sum = binary(g, BinaryFn::Add, x, y)?;
            binary(g, BinaryFn::Mul, sum, c)
        },
    },
    Rule {
        name: "factor-of-itself",
        left: &[
            "(add ?p ?x (mul ?m ?x ?y))",
            "(add ?p ?x (mul ?m ?y ?x))",
            "(add ?p (mul ?m ?x ?y) ?x)",
            "(add ?p (mul ?m ?y ?x) ?x)",
        ],
        right: "(mul ?x (add ?y 1))",
        conditions: &[Condition { name: "the factor has fewer elements", holds: smaller_factor }],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "distributivity up to roundings",
        helps: "the addition is done on the few factors, as in squeeze and excitation",
        make: |g, s| {
            let (x, y) = (id(g, s, "x"), id(g, s, "y"));
            let one = scalar(g, y, 1.0)?;
            let factor = binary(g, BinaryFn::Add, y, one)?;
            binary(g, BinaryFn::Mul, x, factor)
        },
    },
    Rule {
        name: "square-of-root",
        left: &["(mul ?m (sqrt ?s ?x) (sqrt ?s ?x))"],
        right: "?x",
        conditions: &[Condition {
            name: "sums of squares or magnitudes",
            holds: |m| not_negative(m.egraph, m.id("x")),
        }],
        exactness: Exactness::Ulp(2),
        sound: "the root of what is not negative, squared, is within a rounding of it",
        helps: "decibels of magnitudes need no roots",
        make: |g, s| Some(id(g, s, "x")),
    },
    Rule {
        name: "sum-as-mean",
        left: &["(mul ?m (reduce ?r ?x) ?c)", "(div ?m (reduce ?r ?x) ?c)"],
        right: "(reduce{mean} ?x)",
        conditions: &[Condition { name: "the sum is divided by the number of its terms", holds: divides_by_count }],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the definition",
        helps: "one operator instead of two, and normalisations are recognised",
        make: |g, s| {
            let Op::Reduce(reduce) = op(g, s, "r") else { return None };
            let x = id(g, s, "x");
            add_op(g, Reduce { function: ReduceFn::Mean, ..reduce }, &[x])
        },
    },
    Rule {
        name: "sum-of-squares",
        left: &["(reduce ?r (mul ?m ?x ?x))"],
        right: "(reduce{sum_square} ?x)",
        conditions: &[Condition {
            name: "a sum of floats",
            holds: |m| reduces(m, "r", ReduceFn::Sum) && float(m, "x"),
        }],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the definition, without rounding the squares",
        helps: "the squares are never stored",
        make: |g, s| {
            let Op::Reduce(reduce) = op(g, s, "r") else { return None };
            let x = id(g, s, "x");
            add_op(g, Reduce { function: ReduceFn::SumSquare, ..reduce }, &[x])
        },
    },
    Rule {
        name: "mean-of-squares",
        left: &["(reduce ?r (mul ?m ?x ?x))"],
        right: "(mul (reduce{sum_square} ?x) 1/n)",
        conditions: &[Condition { name: "a mean of a known number of floats", holds: counted_mean }],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the definition, without rounding the squares",
        helps: "the squares are never stored",
        make: |g, s| {
            let (Op::Reduce(reduce), x) = (op(g, s, "r"), id(g, s, "x")) else { return None };
            let share = 1.0 / count(&reduce, &ty(g, x)?.shape)? as f64;
            let sum = add_op(g, Reduce { function: ReduceFn::SumSquare, ..reduce }, &[x])?;
            let share = scalar(g, x, share)?;
            binary(g, BinaryFn::Mul, sum, share)
        },
    },
    Rule {
        name: "reduce-of-reduce",
        left: &["(reduce ?r (reduce ?q ?x))"],
        right: "(reduce{axes of both} ?x)",
        conditions: &[
            Condition { name: "the same function, axes kept by both or neither", holds: same_function },
            Condition { name: "sums, means, products or extremes", holds: joins },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the same elements in another order; means are of parts of equal size",
        helps: "one pass instead of two",
        make: make_joined,
    },
    Rule {
        name: "reduce-keeping-axes",
        left: &["(reshape ?s (reduce ?r ?x))"],
        right: "(reduce{keep_dims} ?x)",
        conditions: &[Condition { name: "the reshape puts the axes back", holds: puts_back }],
        exactness: Exactness::Exact,
        sound: "the same elements under the same shape",
        helps: "one form of what broadcasts back, which normalisations are recognised in",
        make: |g, s| {
            let Op::Reduce(reduce) = op(g, s, "r") else { return None };
            let x = id(g, s, "x");
            add_op(g, Reduce { keep_dims: true, ..reduce }, &[x])
        },
    },
];

fn chain(egraph: &mut EGraph, subst: &Subst, function: BinaryFn) -> Option<Id> {
    let [x, a, b] = ["x", "a", "b"].map(|name| id(egraph, subst, name));
    let constant = binary(egraph, function, a, b)?;
    binary(egraph, function, x, constant)
}

fn no_larger(m: &Match<'_>, a: &str, b: &str) -> bool {
    let (Some(a), Some(b)) = (m.ty(a), m.ty(b)) else { return false };
    broadcasts_to(&a.shape, &b.shape) || broadcasts_to(&b.shape, &a.shape)
}

/// Smallest and largest magnitude of two constants. Nothing is read where only one is constant: regions that differ in what was
/// read are not solved together.
fn magnitudes(m: &Match<'_>) -> Option<[[f64; 2]; 2]> {
    if !m.fixed("a") || !m.fixed("b") {
        return None;
    }
    let of = |name: &str| {
        let values = numbers(m, name)?;
        let of = |start: f64, pick: fn(f64, f64) -> f64| values.iter().map(|v| v.abs()).fold(start, pick);
        Some([of(f64::INFINITY, f64::min), of(0.0, f64::max)])
    };
    Some([of("a")?, of("b")?])
}

/// Whether magnitudes are so moderate that products and sums of two such numbers are normal, too; from 0 on where `zeros` may be.
/// It asks for less than the numbers: regions that differ in them are solved together.
fn moderate(m: &Match<'_>, name: &str, zeros: bool) -> bool {
    let within = |data: &Tensor, least: f64| {
        let power = if data.dtype() == DType::F16 { 7 } else { 63 };
        let range = least * 2f64.powi(-power)..=2f64.powi(power);
        let values = data.to_f64();
        !values.is_empty() && values.iter().all(|v| range.contains(&v.abs()))
    };
    m.ask(name, within, if zeros { 0.0 } else { 1.0 }) == Some(true)
}

fn normal_product(m: &Match<'_>) -> bool {
    if moderate(m, "a", false) && moderate(m, "b", false) {
        return true;
    }
    let (Some([[a, most], [b, at_most]]), Some(ty)) = (magnitudes(m), m.ty("a")) else { return false };
    all_normal(ty.dtype, &[a * b, most * at_most])
}

fn finite_sum(m: &Match<'_>) -> bool {
    if moderate(m, "a", true) && moderate(m, "b", true) {
        return true;
    }
    let (Some([[_, a], [_, b]]), Some(ty)) = (magnitudes(m), m.ty("a")) else { return false };
    // One more than the sum: zeros are no reason to refuse.
    all_normal(ty.dtype, &[a + b + 1.0])
}

fn reciprocal_normal(m: &Match<'_>) -> bool {
    let normal = |data: &Tensor, _: f64| {
        let values = data.to_f64();
        let reciprocals: Vec<f64> = values.iter().map(|v| 1.0 / v).collect();
        all_normal(data.dtype(), &values) && all_normal(data.dtype(), &reciprocals)
    };
    float(m, "c") && m.ask("c", normal, 0.0) == Some(true)
}

fn smaller_factor(m: &Match<'_>) -> bool {
    let (Some(x), Some(y)) = (m.ty("x"), m.ty("y")) else { return false };
    x.shape != y.shape && broadcasts_to(&y.shape, &x.shape)
}

fn reduces(m: &Match<'_>, name: &str, function: ReduceFn) -> bool {
    matches!(m.op(name), Op::Reduce(reduce) if reduce.function == function)
}

/// Whether a value cannot be negative, by the operators that it comes from.
fn not_negative(egraph: &EGraph, id: Id) -> bool {
    egraph[id].nodes.iter().any(|node| {
        let attr = node.children.first().and_then(|&attr| egraph[attr].data.attr);
        match attr.map(|attr| egraph.analysis.op(attr)) {
            Some(Op::Reduce(op)) => matches!(op.function, ReduceFn::SumSquare | ReduceFn::L1 | ReduceFn::L2),
            Some(Op::Unary(op)) => matches!(op.function, UnaryFn::Relu | UnaryFn::Abs | UnaryFn::Exp),
            _ => false,
        }
    })
}

/// The product of the extents along the axes that are reduced.
fn count(reduce: &Reduce, shape: &[Extent]) -> Option<i64> {
    Extent::product(reduce.axes.iter().map(|&axis| &shape[axis])).as_const()
}

fn counted_mean(m: &Match<'_>) -> bool {
    let (Op::Reduce(reduce), Some(x)) = (m.op("r"), m.ty("x")) else { return false };
    reduces(m, "r", ReduceFn::Mean) && float(m, "x") && count(reduce, &x.shape).is_some_and(|n| n > 0)
}

fn divides_by_count(m: &Match<'_>) -> bool {
    let (Op::Reduce(reduce), Some(x), Some(c)) = (m.op("r"), m.ty("x"), super::support::number(m, "c")) else {
        return false;
    };
    let Some(count) = count(reduce, &x.shape).filter(|&n| n > 0) else { return false };
    let multiplies = matches!(m.op("m"), Op::Binary(op) if op.function == BinaryFn::Mul);
    let wanted = if multiplies { 1.0 / count as f64 } else { count as f64 };
    reduce.function == ReduceFn::Sum && super::support::near(c.into(), wanted)
}

fn same_function(m: &Match<'_>) -> bool {
    matches!((m.op("r"), m.op("q")), (Op::Reduce(r), Op::Reduce(q)) if r.function == q.function && r.keep_dims == q.keep_dims)
}

fn joins(m: &Match<'_>) -> bool {
    use ReduceFn::{Max, Mean, Min, Prod, Sum};
    let Op::Reduce(reduce) = m.op("q") else { return false };
    matches!(reduce.function, Sum | Mean | Prod | Max | Min) && float(m, "x")
}

fn make_joined(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Reduce(outer), Op::Reduce(inner)) = (op(egraph, subst, "r"), op(egraph, subst, "q")) else { return None };
    let x = id(egraph, subst, "x");
    let rank = ty(egraph, x)?.rank();
    // Axes of the inner result as axes of the operand.
    let left: Vec<usize> = (0..rank).filter(|axis| inner.keep_dims || !inner.axes.contains(axis)).collect();
    let mut axes: Vec<usize> = inner.axes.iter().copied().chain(outer.axes.iter().map(|&axis| left[axis])).collect();
    axes.sort_unstable();
    axes.dedup();
    add_op(egraph, Reduce { axes, ..outer }, &[x])
}

fn puts_back(m: &Match<'_>) -> bool {
    let (Op::Reshape(reshape), Op::Reduce(reduce), Some(x)) = (m.op("s"), m.op("r"), m.ty("x")) else { return false };
    let kept = x.shape.iter().enumerate();
    let kept = kept.map(|(axis, len)| if reduce.axes.contains(&axis) { &Extent::ONE } else { len });
    !reduce.keep_dims && kept.eq(&reshape.shape)
}

//! Convolutions: what follows transposed ones goes into their weights, signs go into weights, and those that are products.

use adze_ir::attrs::F64;
use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::{Exactness, NORM_LINEAR};
use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, Conv, Gemm, MatMul, Op, Unary, UnaryFn};
use egg::{Id, Subst};

use super::support::{along_axis, binary, find, finite, float, id, op, reshape, ty, vector};

const PER_CHANNEL: Condition =
    Condition { name: "it is constant along all but the channels", holds: |m| output_channels(m) };

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "sign-into-conv",
        left: &["(neg ?n (conv ?a ?x ?w))", "(neg ?n (conv ?a ?x ?w ?b))"],
        right: "(conv ?a ?x (neg ?w) (neg ?b))",
        conditions: &[Condition { name: "weights and bias are constant floats", holds: fixed_floats }],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "a convolution is linear; only the sign of a zero may differ",
        helps: "one pass over the result less",
        make: |g, s| {
            let (conv, [x, w]) = (op(g, s, "a"), ["x", "w"].map(|name| id(g, s, name)));
            let mut operands = vec![x];
            for constant in std::iter::once(w).chain(find(g, s, "b")) {
                operands.push(add_op(g, Unary { function: UnaryFn::Neg }, &[constant])?);
            }
            add_op(g, conv, &operands)
        },
    },
    Rule {
        name: "factor-into-conv-transpose",
        left: &[
            "(mul ?m (conv_transpose ?a ?x ?w) ?c)",
            "(mul ?m (conv_transpose ?a ?x ?w ?b) ?c)",
            "(mul ?m ?c (conv_transpose ?a ?x ?w))",
            "(mul ?m ?c (conv_transpose ?a ?x ?w ?b))",
        ],
        right: "(conv_transpose ?a ?x (mul ?w c') (mul ?b c'))",
        conditions: &[
            Condition { name: "weights and bias are constant floats", holds: fixed_floats },
            Condition { name: "the factors are finite", holds: |m| finite(m, "c") },
            Condition { name: "one per channel, without groups, or one for all", holds: ungrouped_channels },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "a transposed convolution is linear in the weights of each output channel",
        helps: "one multiplication per output less; weights are scaled at compile time",
        make: make_transposed_factor,
    },
    Rule {
        name: "term-into-conv-transpose",
        left: &[
            "(add ?m (conv_transpose ?a ?x ?w) ?c)",
            "(add ?m (conv_transpose ?a ?x ?w ?b) ?c)",
            "(add ?m ?c (conv_transpose ?a ?x ?w))",
            "(add ?m ?c (conv_transpose ?a ?x ?w ?b))",
        ],
        right: "(conv_transpose ?a ?x ?w (add ?b c'))",
        conditions: &[
            Condition {
                name: "the term and the old bias are constant",
                holds: |m| m.fixed("c") && m.find("b").is_none_or(|b| m.egraph[b].data.fixed),
            },
            PER_CHANNEL,
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the bias is added to every output of its channel",
        helps: "the sums start with it",
        make: make_transposed_term,
    },
    Rule {
        name: "conv-of-one-pixel",
        left: &["(conv ?a ?x ?w)", "(conv ?a ?x ?w ?b)"],
        right: "(reshape (gemm{trans_b} (reshape ?x) (reshape ?w) ?b))",
        conditions: &[
            Condition { name: "images and windows are one element large, floats, without groups", holds: one_pixel },
            Condition { name: "weights are constant", holds: |m| m.fixed("w") },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the same sum over channels",
        helps: "products of few rows have kernels of their own, and what surrounds them is not laid out as images",
        make: make_gemm,
    },
    Rule {
        name: "pointwise-conv-of-pointwise-conv",
        left: &["(conv ?a (conv ?i ?x ?v) ?w)", "(conv ?a (conv ?i ?x ?v) ?w ?b)"],
        right: "(conv ?a ?x (matmul ?w ?v) ?b)",
        conditions: &[
            Condition { name: "weights are constant floats", holds: |m| fixed_floats(m) && m.fixed("v") },
            Condition { name: "windows of one element, in place, without groups", holds: both_pointwise },
            Condition { name: "together they have fewer weights", holds: fewer_weights },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "matrix products are associative up to roundings",
        helps: "one pass over the tensor less, with fewer multiplications",
        make: make_pointwise,
    },
];

fn fixed_floats(m: &Match<'_>) -> bool {
    m.fixed("w") && m.find("b").is_none_or(|b| m.egraph[b].data.fixed) && float(m, "w")
}

/// Number of output channels of a transposed convolution.
fn channels(egraph: &EGraph, subst: &Subst) -> Option<Extent> {
    let m = Match { egraph, subst };
    let (Op::ConvTranspose(op), Some(w)) = (m.op("a"), m.ty("w")) else { return None };
    Some(w.shape[1].clone() * op.group.into())
}

fn output_channels(m: &Match<'_>) -> bool {
    let (Some(len), Some(x), Some(c)) = (channels(m.egraph, m.subst), m.ty("x"), m.ty("c")) else { return false };
    along_axis(m, "c", x.rank(), 1, &len) && c.dtype == x.dtype
}

fn ungrouped_channels(m: &Match<'_>) -> bool {
    let single = m.ty("c").is_some_and(|c| c.elems() == Extent::ONE);
    output_channels(m) && (single || matches!(m.op("a"), Op::ConvTranspose(op) if op.group == 1))
}

fn make_transposed_factor(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (conv, [x, w, c]) = (op(egraph, subst, "a"), ["x", "w", "c"].map(|name| id(egraph, subst, name)));
    let mut shape = vec![Extent::ONE; ty(egraph, w)?.rank()];
    shape[1] = ty(egraph, c)?.elems();
    let factors = reshape(egraph, c, shape)?;
    let scaled = binary(egraph, BinaryFn::Mul, w, factors)?;
    let Some(b) = find(egraph, subst, "b") else { return add_op(egraph, conv, &[x, scaled]) };
    let len = channels(egraph, subst)?;
    let factors = vector(egraph, c, &len)?;
    let bias = binary(egraph, BinaryFn::Mul, b, factors)?;
    add_op(egraph, conv, &[x, scaled, bias])
}

fn make_transposed_term(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (conv, [x, w, c]) = (op(egraph, subst, "a"), ["x", "w", "c"].map(|name| id(egraph, subst, name)));
    let len = channels(egraph, subst)?;
    let term = vector(egraph, c, &len)?;
    let bias = match find(egraph, subst, "b") {
        None => term,
        Some(b) => binary(egraph, BinaryFn::Add, b, term)?,
    };
    add_op(egraph, conv, &[x, w, bias])
}

/// Whether every window is one element and lies on one element.
fn pointwise(conv: &Conv, w: &[Extent]) -> bool {
    w[2..].iter().all(|k| *k == Extent::ONE) && conv.pads.iter().all(|&p| p == 0) && conv.group == 1
}

fn one_pixel(m: &Match<'_>) -> bool {
    let (Op::Conv(conv), Some(x), Some(w)) = (m.op("a"), m.ty("x"), m.ty("w")) else { return false };
    pointwise(conv, &w.shape) && x.shape[2..].iter().all(|len| *len == Extent::ONE) && float(m, "x")
}

fn make_gemm(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let [x, w] = ["x", "w"].map(|name| id(egraph, subst, name));
    let (from, weights) = (ty(egraph, x)?.shape.clone(), ty(egraph, w)?.shape.clone());
    let mut to = vec![Extent::ONE; from.len()];
    to[0].clone_from(&from[0]);
    to[1].clone_from(&weights[0]);
    let x = reshape(egraph, x, from[..2].to_vec())?;
    let w = reshape(egraph, w, weights[..2].to_vec())?;
    let product = Gemm { alpha: F64::new(1.0), beta: F64::new(1.0), trans_a: false, trans_b: true };
    let operands: Vec<Id> = [x, w].into_iter().chain(find(egraph, subst, "b")).collect();
    let made = add_op(egraph, product, &operands)?;
    reshape(egraph, made, to)
}

fn both_pointwise(m: &Match<'_>) -> bool {
    let (Op::Conv(outer), Op::Conv(inner), Some(w), Some(v)) = (m.op("a"), m.op("i"), m.ty("w"), m.ty("v")) else {
        return false;
    };
    let in_place = |conv: &Conv| conv.strides.iter().all(|&s| s == 1);
    pointwise(outer, &w.shape) && pointwise(inner, &v.shape) && in_place(inner)
}

fn fewer_weights(m: &Match<'_>) -> bool {
    let (Some(w), Some(v)) = (m.ty("w"), m.ty("v")) else { return false };
    let extents = [&w.shape[0], &w.shape[1], &v.shape[1]].map(Extent::as_const);
    matches!(extents, [Some(out), Some(middle), Some(inner)] if out * inner < out * middle + middle * inner)
}

fn make_pointwise(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (conv, [x, v, w]) = (op(egraph, subst, "a"), ["x", "v", "w"].map(|name| id(egraph, subst, name)));
    let (outer, inner) = (ty(egraph, w)?.shape.clone(), ty(egraph, v)?.shape.clone());
    let (left, right) = (reshape(egraph, w, outer[..2].to_vec())?, reshape(egraph, v, inner[..2].to_vec())?);
    let product = add_op(egraph, MatMul { trans_a: false, trans_b: false }, &[left, right])?;
    let mut shape = vec![Extent::ONE; outer.len()];
    shape[0].clone_from(&outer[0]);
    shape[1].clone_from(&inner[1]);
    let weights = reshape(egraph, product, shape)?;
    let operands: Vec<Id> = [x, weights].into_iter().chain(find(egraph, subst, "b")).collect();
    add_op(egraph, conv, &operands)
}

//! Batch normalisation, scales and biases into convolutions and matrix products.

use adze_ir::attrs::F64;
use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::{Exactness, NORM_LINEAR};
use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, Gemm, Op, Unary, UnaryFn};
use adze_ir::tensor::Tensor;
use egg::{Id, Subst};

use super::support::{along_axis, binary, find, finite, float, id, op, reshape, scalar, vector};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "batch-norm-as-scale-and-bias",
        left: &["(batch_norm ?n ?x ?scale ?bias ?mean ?var)"],
        right: "x · s + (bias - mean · s), s = scale / sqrt(var + epsilon)",
        conditions: &[
            Condition { name: "parameters are finite constants", holds: bn_finite },
            Condition { name: "var + epsilon > 0", holds: bn_positive },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the same affine function per channel; s is finite because its root is positive",
        helps: "two constants instead of four, and what follows a convolution moves into its weights",
        make: make_bn,
    },
    Rule {
        name: "scale-into-conv",
        left: &[
            "(mul ?m (conv ?a ?x ?w) ?c)",
            "(mul ?m (conv ?a ?x ?w ?b) ?c)",
            "(mul ?m ?c (conv ?a ?x ?w))",
            "(mul ?m ?c (conv ?a ?x ?w ?b))",
        ],
        right: "(conv ?a ?x (mul ?w c') (mul ?b c'))",
        conditions: &[
            Condition { name: "weights and bias are constant", holds: weights_fixed },
            Condition { name: "the factor is finite", holds: |m| finite(m, "c") },
            Condition { name: "the factor is constant along all but the channels", holds: conv_channels },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "a convolution is linear in the weights of each output channel",
        helps: "one multiplication per output less; weights are scaled at compile time",
        make: make_conv_scale,
    },
    Rule {
        name: "bias-into-conv",
        left: &[
            "(add ?m (conv ?a ?x ?w) ?c)",
            "(add ?m (conv ?a ?x ?w ?b) ?c)",
            "(add ?m ?c (conv ?a ?x ?w))",
            "(add ?m ?c (conv ?a ?x ?w ?b))",
        ],
        right: "(conv ?a ?x ?w (add ?b c'))",
        conditions: &[
            Condition {
                name: "the term and the old bias are constant",
                holds: |m| m.fixed("c") && fixed_or_absent(m, "b"),
            },
            Condition { name: "the term is constant along all but the channels", holds: conv_channels },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the bias is added to every output of its channel",
        helps: "the accumulators start with it",
        make: make_conv_bias,
    },
    Rule {
        name: "bias-into-gemm",
        left: &[
            "(add ?m (gemm ?a ?x ?w) ?c)",
            "(add ?m ?c (gemm ?a ?x ?w))",
            "(add ?m (matmul ?a ?x ?w) ?c)",
            "(add ?m ?c (matmul ?a ?x ?w))",
        ],
        right: "(gemm ?a ?x ?w ?c)",
        conditions: &[
            Condition { name: "floats", holds: |m| float(m, "x") },
            Condition { name: "the term is a constant row", holds: |m| m.fixed("c") && last_axis(m) },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "C of A·B + C broadcasts along rows",
        helps: "the accumulators start with it",
        make: make_gemm_bias,
    },
    Rule {
        name: "scale-into-matmul",
        left: &["(mul ?m (matmul ?a ?x ?w) ?c)", "(mul ?m ?c (matmul ?a ?x ?w))"],
        right: "(matmul ?a ?x (mul ?w c'))",
        conditions: &[
            Condition {
                name: "the right operand is a constant matrix",
                holds: |m| m.fixed("w") && float(m, "w") && rank_is(m, "w", 2),
            },
            Condition { name: "the factor is finite", holds: |m| finite(m, "c") },
            Condition { name: "the factor is a constant row", holds: last_axis },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "a product is linear in each column of the right operand",
        helps: "one multiplication per output less",
        make: make_matmul_scale,
    },
];

fn bn_finite(m: &Match<'_>) -> bool {
    ["scale", "bias", "mean", "var"].iter().all(|name| m.is_constant(name) && finite(m, name))
}

fn bn_positive(m: &Match<'_>) -> bool {
    let Op::BatchNorm(op) = m.op("n") else { return false };
    let positive = |var: &Tensor, epsilon: f64| var.to_f64().iter().all(|v| v + epsilon > 0.0);
    m.ask("var", positive, op.epsilon.get()) == Some(true)
}

fn fixed_or_absent(m: &Match<'_>, name: &str) -> bool {
    m.find(name).is_none_or(|id| m.egraph[id].data.fixed)
}

fn weights_fixed(m: &Match<'_>) -> bool {
    m.fixed("w") && fixed_or_absent(m, "b") && float(m, "x")
}

fn rank_is(m: &Match<'_>, name: &str, rank: usize) -> bool {
    m.ty(name).is_some_and(|ty| ty.rank() == rank)
}

fn conv_channels(m: &Match<'_>) -> bool {
    let Some(w) = m.ty("w") else { return false };
    along_axis(m, "c", w.rank(), 1, &w.shape[0]) && m.ty("c").is_some_and(|c| c.dtype == w.dtype)
}

/// The constant is a row or a scalar for the last axis of the product.
fn last_axis(m: &Match<'_>) -> bool {
    let (Some(x), Some(w)) = (m.ty("x"), m.ty("w")) else { return false };
    let Some(len) = columns(m.op("a"), &w.shape) else { return false };
    x.rank() >= 2 && along_axis(m, "c", x.rank(), x.rank() - 1, len)
}

/// Extent of the result's last axis.
fn columns<'a>(op: &Op, w: &'a [Extent]) -> Option<&'a Extent> {
    let trans = match op {
        Op::MatMul(op) => op.trans_b,
        Op::Gemm(op) => op.trans_b,
        _ => return None,
    };
    w.get(w.len().checked_sub(if trans { 2 } else { 1 })?)
}

fn per_channel(egraph: &mut EGraph, x: Id, vector: Id) -> Option<Id> {
    let rank = egraph[x].data.ty()?.rank();
    let mut shape = vec![Extent::ONE; rank.checked_sub(1)?];
    *shape.first_mut()? = egraph[vector].data.ty()?.shape.first()?.clone();
    reshape(egraph, vector, shape)
}

fn make_bn(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let Op::BatchNorm(norm) = op(egraph, subst, "n") else { return None };
    let [x, scale, bias, mean, var] = ["x", "scale", "bias", "mean", "var"].map(|name| id(egraph, subst, name));
    let epsilon = scalar(egraph, var, norm.epsilon.get())?;
    let sum = binary(egraph, BinaryFn::Add, var, epsilon)?;
    let root = add_op(egraph, Unary { function: UnaryFn::Sqrt }, &[sum])?;
    let s = binary(egraph, BinaryFn::Div, scale, root)?;
    let shift = binary(egraph, BinaryFn::Mul, mean, s)?;
    let t = binary(egraph, BinaryFn::Sub, bias, shift)?;
    let (s, t) = (per_channel(egraph, x, s)?, per_channel(egraph, x, t)?);
    let scaled = binary(egraph, BinaryFn::Mul, x, s)?;
    binary(egraph, BinaryFn::Add, scaled, t)
}

fn make_conv_scale(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let conv = op(egraph, subst, "a");
    let [x, w, c] = ["x", "w", "c"].map(|name| id(egraph, subst, name));
    let shape = egraph[w].data.ty()?.shape.clone();
    let factor = vector(egraph, c, &shape[0])?;
    let mut broadcast = vec![Extent::ONE; shape.len()];
    broadcast[0] = shape[0].clone();
    let per_output = reshape(egraph, factor, broadcast)?;
    let scaled = binary(egraph, BinaryFn::Mul, w, per_output)?;
    match find(egraph, subst, "b") {
        None => add_op(egraph, conv, &[x, scaled]),
        Some(b) => {
            let bias = binary(egraph, BinaryFn::Mul, b, factor)?;
            add_op(egraph, conv, &[x, scaled, bias])
        }
    }
}

fn make_conv_bias(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let conv = op(egraph, subst, "a");
    let [x, w, c] = ["x", "w", "c"].map(|name| id(egraph, subst, name));
    let channels = egraph[w].data.ty()?.shape[0].clone();
    let term = vector(egraph, c, &channels)?;
    let bias = match find(egraph, subst, "b") {
        None => term,
        Some(b) => binary(egraph, BinaryFn::Add, b, term)?,
    };
    add_op(egraph, conv, &[x, w, bias])
}

fn make_gemm_bias(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let [x, w, c] = ["x", "w", "c"].map(|name| id(egraph, subst, name));
    let (alpha, trans_a, trans_b) = match op(egraph, subst, "a") {
        Op::Gemm(op) => (op.alpha, op.trans_a, op.trans_b),
        Op::MatMul(op) => (F64::new(1.0), op.trans_a, op.trans_b),
        _ => return None,
    };
    let w_shape = egraph[w].data.ty()?.shape.clone();
    let len = columns(&op(egraph, subst, "a"), &w_shape)?.clone();
    let row = vector(egraph, c, &len)?;
    add_op(egraph, Gemm { alpha, beta: F64::new(1.0), trans_a, trans_b }, &[x, w, row])
}

fn make_matmul_scale(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let product = op(egraph, subst, "a");
    let Op::MatMul(matmul) = &product else { return None };
    let [x, w, c] = ["x", "w", "c"].map(|name| id(egraph, subst, name));
    let w_shape = egraph[w].data.ty()?.shape.clone();
    let len = columns(&product, &w_shape)?.clone();
    let factor = vector(egraph, c, &len)?;
    let factor = if matmul.trans_b { reshape(egraph, factor, vec![len, Extent::ONE])? } else { factor };
    let scaled = binary(egraph, BinaryFn::Mul, w, factor)?;
    add_op(egraph, product, &[x, scaled])
}

//! What stands before a convolution or product goes into it: factors, terms and transposes of its operands.

use adze_ir::attrs::F64;
use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_const, add_op};
use adze_ir::exact::{Exactness, NORM_LINEAR};
use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, Clip, Concat, Gather, Gemm, MatMul, Op, Reduce, ReduceFn};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use egg::{Id, Subst};

use super::support::{along_axis, binary, find, float, id, numbers, op, reshape, transpose, ty, vector};

const MOVES_LAST: Condition = Condition { name: "the transpose moves its last axis", holds: moves_last };

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "transpose-into-left-operand",
        left: &["(matmul ?m (transpose ?p ?x) ?y)"],
        right: "(matmul{trans_a} (transpose ?x) ?y)",
        conditions: &[
            Condition { name: "it is read by rows", holds: |m| matches!(m.op("m"), Op::MatMul(op) if !op.trans_a) },
            MOVES_LAST,
        ],
        exactness: Exactness::Exact,
        sound: "the product reads rows as columns",
        helps: "the transposed copy is not made, or is one of whole rows",
        make: |g, s| {
            let (Op::MatMul(product), x, y) = (op(g, s, "m"), id(g, s, "x"), id(g, s, "y")) else { return None };
            let x = swapped(g, s, x)?;
            add_op(g, MatMul { trans_a: true, ..product }, &[x, y])
        },
    },
    Rule {
        name: "transpose-into-right-operand",
        left: &["(matmul ?m ?y (transpose ?p ?x))"],
        right: "(matmul{trans_b} ?y (transpose ?x))",
        conditions: &[
            Condition { name: "it is read by rows", holds: |m| matches!(m.op("m"), Op::MatMul(op) if !op.trans_b) },
            MOVES_LAST,
        ],
        exactness: Exactness::Exact,
        sound: "the product reads rows as columns",
        helps: "the transposed copy is not made, or is one of whole rows",
        make: |g, s| {
            let (Op::MatMul(product), x, y) = (op(g, s, "m"), id(g, s, "x"), id(g, s, "y")) else { return None };
            let x = swapped(g, s, x)?;
            add_op(g, MatMul { trans_b: true, ..product }, &[y, x])
        },
    },
    Rule {
        name: "product-turned",
        left: &["(matmul ?m ?x ?y)"],
        right: "(transpose (matmul ?y (transpose ?x)))",
        conditions: &[
            Condition {
                name: "rows are multiplied by rows",
                holds: |m| matches!(m.op("m"), Op::MatMul(op) if !op.trans_a && op.trans_b),
            },
            Condition { name: "both are computed", holds: |m| !m.fixed("x") && !m.fixed("y") },
            Condition { name: "the left one has fewer rows", holds: fewer_rows },
        ],
        exactness: Exactness::Exact,
        sound: "every number is the sum of the same products",
        helps: "the larger operand is read by rows, once, and the smaller one is what is transposed",
        make: |g, s| {
            let [x, y] = ["x", "y"].map(|name| id(g, s, name));
            let x = with_last_swapped(g, x)?;
            let product = add_op(g, MatMul { trans_a: false, trans_b: false }, &[y, x])?;
            with_last_swapped(g, product)
        },
    },
    Rule {
        name: "factor-before-product",
        left: &["(matmul ?a (mul ?m ?x ?c) ?w)", "(gemm ?a (mul ?m ?x ?c) ?w)", "(gemm ?a (mul ?m ?x ?c) ?w ?b)"],
        right: "(matmul ?a ?x (mul ?w c'))",
        conditions: &[
            Condition { name: "the right operand is a constant matrix of floats", holds: constant_matrix },
            Condition { name: "the factors are constant", holds: |m| m.fixed("c") },
            Condition { name: "they are a row, or one for all", holds: summed_row },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "a product is linear in each row of the right operand",
        helps: "a normalisation of inputs costs nothing",
        make: make_factor_before,
    },
    Rule {
        name: "term-before-product",
        left: &["(matmul ?a (add ?m ?x ?c) ?w)", "(gemm ?a (add ?m ?x ?c) ?w)", "(gemm ?a (add ?m ?x ?c) ?w ?b)"],
        right: "(gemm ?a ?x ?w (add ?b c'·w))",
        conditions: &[
            Condition { name: "the right operand is a constant matrix of floats", holds: constant_matrix },
            Condition { name: "the terms are constant", holds: |m| m.fixed("c") },
            Condition { name: "they are a row, or one for all", holds: summed_row },
            Condition { name: "what is added after is constant", holds: |m| m.find("b").is_none() || m.fixed("b") },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "a product distributes over the sum of its left operands",
        helps: "a normalisation of inputs costs nothing",
        make: make_term_before,
    },
    Rule {
        name: "factor-before-conv",
        left: &["(conv ?a (mul ?m ?x ?c) ?w)", "(conv ?a (mul ?m ?x ?c) ?w ?b)"],
        right: "(conv ?a ?x (mul ?w c') ?b)",
        conditions: &[
            Condition { name: "weights are constant floats", holds: |m| m.fixed("w") && float(m, "w") },
            Condition { name: "the factors are constant", holds: |m| m.fixed("c") },
            Condition { name: "they are one per input channel, without groups, or one for all", holds: input_channels },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "a convolution is linear in the weights of each input channel, and padding stays zero",
        helps: "one multiplication per input less; weights are scaled at compile time",
        make: make_factor_conv,
    },
    Rule {
        name: "term-before-conv",
        left: &["(conv ?a (add ?m ?x ?c) ?w)", "(conv ?a (add ?m ?x ?c) ?w ?b)"],
        right: "(conv ?a ?x ?w (add ?b Σ w·c'))",
        conditions: &[
            Condition { name: "weights are constant floats", holds: |m| m.fixed("w") && float(m, "w") },
            Condition { name: "the terms are constant", holds: |m| m.fixed("c") },
            Condition { name: "they are one per input channel, without groups, or one for all", holds: input_channels },
            Condition {
                name: "nothing is padded",
                holds: |m| matches!(m.op("a"), Op::Conv(op) if op.pads.iter().all(|&p| p <= 0)),
            },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "every window sees every term once for each of its weights",
        helps: "one addition per input less",
        make: make_term_conv,
    },
    Rule {
        name: "product-of-product",
        left: &["(matmul ?a (matmul ?b ?x ?v) ?w)"],
        right: "(matmul ?x (matmul ?v ?w))",
        conditions: &[
            Condition {
                name: "both right operands are constant matrices of floats",
                holds: |m| constant_matrix(m) && m.fixed("v") && m.ty("v").is_some_and(|v| v.rank() == 2),
            },
            Condition {
                name: "nothing is transposed",
                holds: |m| {
                    ["a", "b"].iter().all(|name| matches!(m.op(name), Op::MatMul(op) if !op.trans_a && !op.trans_b))
                },
            },
            Condition { name: "their product has fewer elements than both have", holds: narrower },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "matrix products are associative up to roundings",
        helps: "fewer multiplications where the middle is wide",
        make: |g, s| {
            let [x, v, w] = ["x", "v", "w"].map(|name| id(g, s, name));
            let product = MatMul { trans_a: false, trans_b: false };
            let weights = add_op(g, product.clone(), &[v, w])?;
            add_op(g, product, &[x, weights])
        },
    },
    Rule {
        name: "product-with-one-hot",
        left: &[
            "(matmul ?a (cast ?t (equal ?q (reshape ?r ?i) ?c)) ?w)",
            "(matmul ?a (cast ?t (equal ?q ?c (reshape ?r ?i))) ?w)",
        ],
        right: "(gather (concat ?w 0 0) (clip ?i))",
        conditions: &[
            Condition { name: "indices are compared with 0, 1, .. along a last axis of their own", holds: one_hot },
            Condition {
                name: "the table is a finite constant matrix",
                holds: |m| constant_matrix(m) && table_finite(m),
            },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "every sum has one term that is not zero, or none where the index is outside of the table: those read zeros",
        helps: "rows are looked up instead of multiplied with",
        make: make_lookup,
    },
];

fn constant_matrix(m: &Match<'_>) -> bool {
    m.fixed("w") && float(m, "w") && m.ty("w").is_some_and(|w| w.rank() == 2)
}

fn moves_last(m: &Match<'_>) -> bool {
    matches!(m.op("p"), Op::Transpose(p) if p.perm.len() >= 2 && p.perm.last() != Some(&(p.perm.len() - 1)))
}

/// The operand with the last two axes of its transpose swapped.
fn swapped(egraph: &mut EGraph, subst: &Subst, x: Id) -> Option<Id> {
    let Op::Transpose(by) = op(egraph, subst, "p") else { return None };
    let mut perm = by.perm;
    let last = perm.len().checked_sub(2)?;
    perm.swap(last, last + 1);
    transpose(egraph, x, perm)
}

/// A value with its last two axes swapped.
fn with_last_swapped(egraph: &mut EGraph, x: Id) -> Option<Id> {
    let last = ty(egraph, x)?.rank().checked_sub(2)?;
    transpose(egraph, x, (0..last).chain([last + 1, last]).collect())
}

fn fewer_rows(m: &Match<'_>) -> bool {
    let rows = |name: &str| m.ty(name).and_then(|ty| ty.shape.iter().rev().nth(1)?.as_const());
    rows("x").zip(rows("y")).is_some_and(|(x, y)| x < y)
}

/// Whether operands of a product are transposed: left and right.
fn flags(op: &Op) -> Option<[bool; 2]> {
    match op {
        Op::MatMul(op) => Some([op.trans_a, op.trans_b]),
        Op::Gemm(op) => Some([op.trans_a, op.trans_b]),
        _ => None,
    }
}

/// Whether the constant is a row, or one number, along the axis that the product sums over.
fn summed_row(m: &Match<'_>) -> bool {
    let (Some(x), Some(c)) = (m.ty("x"), m.ty("c")) else { return false };
    let plain = flags(m.op("a")).is_some_and(|[left, _]| !left);
    plain && x.rank() >= 2 && c.dtype == x.dtype && along_axis(m, "c", x.rank(), x.rank() - 1, &x.shape[x.rank() - 1])
}

/// The constant as a vector over the axis that the product sums over.
fn row(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (x, c) = (id(egraph, subst, "x"), id(egraph, subst, "c"));
    let len = ty(egraph, x)?.shape.last()?.clone();
    vector(egraph, c, &len)
}

fn make_factor_before(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let product = op(egraph, subst, "a");
    let [x, w] = ["x", "w"].map(|name| id(egraph, subst, name));
    let factors = row(egraph, subst)?;
    let len = ty(egraph, factors)?.shape[0].clone();
    let factors = if flags(&product)?[1] { factors } else { reshape(egraph, factors, vec![len, Extent::ONE])? };
    let scaled = binary(egraph, BinaryFn::Mul, w, factors)?;
    let operands: Vec<Id> = [x, scaled].into_iter().chain(find(egraph, subst, "b")).collect();
    add_op(egraph, product, &operands)
}

fn make_term_before(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let product = op(egraph, subst, "a");
    let (alpha, beta) = match &product {
        Op::Gemm(op) => (op.alpha, op.beta),
        _ => (F64::new(1.0), F64::new(1.0)),
    };
    let [trans_a, trans_b] = flags(&product)?;
    let [x, w] = ["x", "w"].map(|name| id(egraph, subst, name));
    let terms = row(egraph, subst)?;
    let len = ty(egraph, terms)?.shape[0].clone();
    let terms = reshape(egraph, terms, vec![Extent::ONE, len])?;
    // Scaled as the product is; what was added stays scaled by beta.
    let of_terms = Gemm { alpha, beta, trans_a: false, trans_b };
    let operands: Vec<Id> = [terms, w].into_iter().chain(find(egraph, subst, "b")).collect();
    let row = add_op(egraph, of_terms, &operands)?;
    add_op(egraph, Gemm { alpha, beta: F64::new(1.0), trans_a, trans_b }, &[x, w, row])
}

fn input_channels(m: &Match<'_>) -> bool {
    let (Op::Conv(conv), Some(x), Some(c)) = (m.op("a"), m.ty("x"), m.ty("c")) else { return false };
    let fits = along_axis(m, "c", x.rank(), 1, &x.shape[1]) && c.dtype == x.dtype;
    fits && (conv.group == 1 || c.elems() == Extent::ONE)
}

/// Weights times the constant of their input channel.
fn by_channel(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let [w, c] = ["w", "c"].map(|name| id(egraph, subst, name));
    let (rank, elems) = (ty(egraph, w)?.rank(), ty(egraph, c)?.elems());
    let mut shape = vec![Extent::ONE; rank];
    shape[1] = elems;
    let factors = reshape(egraph, c, shape)?;
    binary(egraph, BinaryFn::Mul, w, factors)
}

fn make_factor_conv(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (conv, x) = (op(egraph, subst, "a"), id(egraph, subst, "x"));
    let scaled = by_channel(egraph, subst)?;
    let operands: Vec<Id> = [x, scaled].into_iter().chain(find(egraph, subst, "b")).collect();
    add_op(egraph, conv, &operands)
}

fn make_term_conv(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (conv, [x, w]) = (op(egraph, subst, "a"), ["x", "w"].map(|name| id(egraph, subst, name)));
    let scaled = by_channel(egraph, subst)?;
    let axes = (1..ty(egraph, w)?.rank()).collect();
    let sum = add_op(egraph, Reduce { function: ReduceFn::Sum, axes, keep_dims: false }, &[scaled])?;
    let bias = match find(egraph, subst, "b") {
        None => sum,
        Some(b) => binary(egraph, BinaryFn::Add, b, sum)?,
    };
    add_op(egraph, conv, &[x, w, bias])
}

fn narrower(m: &Match<'_>) -> bool {
    let (Some(v), Some(w)) = (m.ty("v"), m.ty("w")) else { return false };
    let extents = [&v.shape[0], &v.shape[1], &w.shape[1]].map(Extent::as_const);
    matches!(extents, [Some(k), Some(middle), Some(n)] if k * n < k * middle + middle * n)
}

fn one_hot(m: &Match<'_>) -> bool {
    let (Op::Reshape(to), Some(i), Some(c), Some(w)) = (m.op("r"), m.ty("i"), m.ty("c"), m.ty("w")) else {
        return false;
    };
    let own_axis = to.shape.split_last().is_some_and(|(last, rest)| *last == Extent::ONE && rest == i.shape);
    let counts = numbers(m, "c").is_some_and(|values| values.iter().enumerate().all(|(at, v)| *v == at as f64));
    let row = c.shape.last() == Some(&c.elems()) && c.rank() <= to.shape.len();
    let plain = flags(m.op("a")) == Some([false, false]) && c.shape.last() == w.shape.first();
    own_axis && counts && row && plain && matches!(i.dtype, DType::I32 | DType::I64)
}

fn table_finite(m: &Match<'_>) -> bool {
    m.data("w").is_some_and(|w| w.to_f64().iter().all(|v| v.is_finite()))
}

fn make_lookup(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let [i, w] = ["i", "w"].map(|name| id(egraph, subst, name));
    let table = ty(egraph, w)?.clone();
    let [rows, columns] = table.fixed_shape()?.try_into().ok()?;
    // Behind the table: a row of zeros for what is too large, and one that -1 counts to from the end.
    let zeros = add_const(egraph, Tensor::zeros(table.dtype, &[2, columns]));
    let table = add_op(egraph, Concat { axis: 0 }, &[w, zeros])?;
    let (min, max) = (Some(F64::new(-1.0)), Some(F64::new(rows as f64)));
    let inside = add_op(egraph, Clip { min, max }, &[i])?;
    add_op(egraph, Gather { axis: 0 }, &[table, inside])
}

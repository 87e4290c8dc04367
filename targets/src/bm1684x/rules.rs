//! Rules that the chip hands to the e-graph: what its products and windows want of bytes.
//!
//! They run in the pass `integers`, while weights are as they were exported.

mod transposed;

use adze_ir::egraph::{Condition, EGraph, Family, Match, Rule, add_op};
use adze_ir::exact::Exactness;
use adze_ir::extent::Extent;
use adze_ir::ops::{Dequantize, Op, QLinearMatMul, ReduceFn, Transpose};
use adze_ir::quant::Requantize;
use adze_ir::types::DType;
use egg::{Id, Subst};

/// The families.
pub const FAMILIES: &[Family] = &[Family {
    name: "products-of-bytes",
    about: "Products and maxima of bytes become such, where there are commands for bytes and none for floats.",
    pass: "integers",
    machine: Some("bm1684x"),
    rules: RULES,
}];

const RULES: &[Rule] = &[
    Rule {
        name: "conv-transpose-as-conv",
        left: &[
            "(quantize ?q (conv_transpose ?a ?x (dequantize ?e ?w ?ws ?wz)) ?ys ?yz)",
            "(quantize ?q (conv_transpose ?a ?x (dequantize ?e ?w ?ws ?wz) ?b) ?ys ?yz)",
        ],
        right: "(slice (depth_to_space{crd} (quantize ?q (conv ?x (dequantize w' ws' wz') b') ?ys ?yz)))",
        conditions: transposed::CONDITIONS,
        exactness: Exactness::Lsb(1),
        sound: "with a stride of s, every s-th element of the result is a convolution by every s-th tap of the kernel, back to \
                front; all of these smaller kernels make s · s times the channels, which move into space, and what pads take \
                away is cut off",
        helps: "sums of bytes, which there are commands for, and no zeros between elements that are multiplied",
        make: transposed::make,
    },
    Rule {
        name: "integer-product-of-two",
        left: &["(quantize ?q (matmul ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz)) ?ys ?yz)"],
        right: "(qlinear_matmul{f32_rne} ?x ?xs ?xz ?w ?ws ?wz ?ys ?yz)",
        conditions: &[
            Condition { name: "matrices of bytes that are computed, with one scale each", holds: factors },
            Condition { name: "the left one as it is", holds: |m| matches!(m.op("a"), Op::MatMul(a) if !a.trans_a) },
            Condition {
                name: "an 8-bit result with one scale",
                holds: |m| matches!(m.op("q"), Op::Quantize(q) if is_byte(q.to)) && m.is_affine("ys", "yz"),
            },
            Condition { name: "sums fit 32 bits", holds: sums_fit },
        ],
        exactness: Exactness::Lsb(1),
        sound: "the same sum of products in whole units, rounded once instead of at every term",
        helps: "products of bytes are twice as many per cycle as those of half floats, and there are none of 32-bit floats",
        make: make_product,
    },
    Rule {
        name: "dequantize-after-max",
        left: &["(reduce ?a (dequantize ?d ?x ?s ?z))"],
        right: "(dequantize ?d (reduce ?a ?x) ?s ?z)",
        conditions: &[
            Condition {
                name: "the largest elements",
                holds: |m| matches!(m.op("a"), Op::Reduce(reduce) if reduce.function == ReduceFn::Max),
            },
            Condition { name: "one positive scale", holds: |m| m.is_affine("s", "z") },
            Condition { name: "of any elements", holds: not_empty },
        ],
        exactness: Exactness::Exact,
        sound: "a positive scale keeps order",
        helps: "a quarter of the bytes are read, by commands that there are for bytes only without a type for floats",
        make: |g, s| {
            let [x, scale, zero] = ids(g, s, ["x", "s", "z"]);
            let reduce = Match { egraph: g, subst: s }.op("a").clone();
            let largest = add_op(g, reduce, &[x])?;
            add_op(g, Dequantize { axis: 0, block: 0 }, &[largest, scale, zero])
        },
    },
];

fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

/// The classes of variables.
fn ids<const N: usize>(egraph: &EGraph, subst: &Subst, names: [&str; N]) -> [Id; N] {
    names.map(|name| Match { egraph, subst }.id(name))
}

fn not_empty(m: &Match<'_>) -> bool {
    m.ty("x").is_some_and(|x| x.shape.iter().all(|extent| extent.as_const().is_some_and(|extent| extent > 0)))
}

fn factors(m: &Match<'_>) -> bool {
    let bytes = |name: &str| m.ty(name).is_some_and(|ty| is_byte(ty.dtype) && ty.rank() >= 2) && !m.fixed(name);
    bytes("x") && bytes("w") && m.is_affine("xs", "xz") && m.is_affine("ws", "wz")
}

fn sums_fit(m: &Match<'_>) -> bool {
    let terms = m.ty("x").and_then(|x| x.shape.last()).and_then(Extent::as_const);
    terms.is_some_and(|terms| terms.saturating_mul(255 * 255) < i64::from(i32::MAX))
}

fn make_product(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let m = Match { egraph, subst };
    let Op::MatMul(product) = m.op("a") else { return None };
    let (turned, rank) = (product.trans_b, m.ty("w")?.rank());
    let mut operands = ids(egraph, subst, ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]);
    if turned {
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank.checked_sub(2)?, rank - 1);
        operands[3] = add_op(egraph, Transpose { perm }, &operands[3..4])?;
    }
    add_op(egraph, QLinearMatMul { contract: Requantize::F32Rne }, &operands)
}

//! Floats between integers into integers: what `dequantize`, an operator and `quantize` mean together.
//!
//! The rules need the quantized weights as they were exported, so they run before constants are folded, in the pass
//! `integers`. Every `quantize` and `dequantize` has its zero point written out there. A NaN that reaches `quantize` is
//! outside of what ONNX defines; the rules marked `lsb(0)` give another integer for it, and the same for every number.
//!
//! In the order in which a compiler without an e-graph would best take them: what stands in the way first, sums that stay floats last.

use adze_ir::attrs::F64;
use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_const, add_op};
use adze_ir::exact::{Exactness, NORM_LINEAR};
use adze_ir::extent::Extent;
use adze_ir::ops::{
    BinaryFn, Cast, Clip, Conv, ConvInteger, Dequantize, MatMulInteger, MatMulStored, MaxPool, Op, Pad, PadMode,
    QLinearConv, QLinearMatMul, Quantize, Transpose,
};
use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};
use egg::{Id, Subst};

use super::support::{binary, find, id, op, reshape, value};

macro_rules! after_movement {
    ($($op:literal),*) => { &[$(concat!("(", $op, " ?a (dequantize ?d ?x ?s ?z))")),*] };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "relu-after-quantize",
        left: &["(quantize ?q (relu ?r ?x) ?s ?z)"],
        right: "(clip{min = z} (quantize ?q ?x ?s ?z))",
        conditions: &[Condition { name: "one positive scale", holds: |m| m.is_affine("s", "z") }],
        exactness: Exactness::Lsb(0),
        sound: "quantizing keeps order, and zero is stored as the zero point",
        helps: "the bound joins that of the stored type",
        make: |g, s| make_clip(g, s, Some(0.0), None),
    },
    Rule {
        name: "clip-after-quantize",
        left: &["(quantize ?q (clip ?r ?x) ?s ?z)"],
        right: "(clip{quantized bounds} (quantize ?q ?x ?s ?z))",
        conditions: &[
            Condition { name: "one positive scale", holds: |m| m.is_affine("s", "z") },
            Condition { name: "floats", holds: |m| m.ty("x").is_some_and(|ty| ty.dtype == DType::F32) },
        ],
        exactness: Exactness::Lsb(0),
        sound: "quantizing keeps order, so that it maps bounds to bounds",
        helps: "the bounds join those of the stored type",
        make: |g, s| {
            let Op::Clip(clip) = op(g, s, "r") else { return None };
            make_clip(g, s, clip.min.map(F64::get), clip.max.map(F64::get))
        },
    },
    Rule {
        name: "quantize-of-dequantize",
        left: &["(quantize ?q (dequantize ?d ?x ?s ?z) ?t ?y)"],
        right: "?x",
        conditions: &[Condition { name: "the same parameters and dtype, scales normal", holds: same_parameters }],
        exactness: Exactness::Exact,
        sound: "(x - z) · s / s is within two roundings of a whole number below 2^17, so it rounds to it",
        helps: "nothing is computed",
        make: |g, s| Some(id(g, s, "x")),
    },
    Rule {
        name: "dequantize-after-movement",
        left: after_movement!("reshape", "transpose", "slice", "expand", "tile", "depth_to_space", "space_to_depth"),
        right: "(dequantize ?d (.. ?x) ?s ?z)",
        conditions: &[Condition { name: "one scale", holds: |m| one(m, "s") && one(m, "z") }],
        exactness: Exactness::Exact,
        sound: "elements are moved, never changed",
        helps: "a quarter of the bytes are moved",
        make: make_after,
    },
    Rule {
        name: "dequantize-after-gather",
        left: &["(gather ?a (dequantize ?d ?x ?s ?z) ?i)"],
        right: "(mul (cast{f32} (gather ?a ?x ?i)) (gather ?a ?s ?i))",
        conditions: &[
            Condition { name: "rows of a constant table", holds: rows_of_table },
            Condition { name: "one scale, or one per row, and no zero points", holds: scale_per_row },
        ],
        exactness: Exactness::Exact,
        sound: "a row is multiplied by its scale before or after it is looked up",
        helps: "the table stays as it is stored, and only the rows that are looked up become floats",
        make: make_gather,
    },
    Rule {
        name: "dequantize-after-max-pool",
        left: &["(max_pool ?a (dequantize ?d ?x ?s ?z))"],
        right: "(dequantize ?d (max_pool ?a ?x) ?s ?z)",
        conditions: &[
            Condition { name: "one positive scale", holds: |m| m.is_affine("s", "z") },
            Condition { name: "no window lies in the padding", holds: windows_inside },
        ],
        exactness: Exactness::Exact,
        sound: "a positive scale keeps order",
        helps: "a quarter of the bytes are read",
        make: make_after,
    },
    Rule {
        name: "quantize-before-concat",
        left: &[
            "(quantize ?q (concat ?a ?x0 ?x1) ?s ?z)",
            "(quantize ?q (concat ?a ?x0 ?x1 ?x2) ?s ?z)",
            "(quantize ?q (concat ?a ?x0 ?x1 ?x2 ?x3) ?s ?z)",
            "(quantize ?q (concat ?a ?x0 ?x1 ?x2 ?x3 ?x4) ?s ?z)",
            "(quantize ?q (concat ?a ?x0 ?x1 ?x2 ?x3 ?x4 ?x5) ?s ?z)",
        ],
        right: "(concat ?a (quantize ?q ?x0 ?s ?z) ..)",
        conditions: &[Condition { name: "one scale", holds: |m| one(m, "s") && one(m, "z") }],
        exactness: Exactness::Exact,
        sound: "every element is quantized by itself",
        helps: "parts that have these parameters already are not touched, the others are moved as bytes",
        make: make_concat,
    },
    Rule {
        name: "quantize-before-pad",
        left: &["(quantize ?q (pad ?a ?x) ?s ?z)", "(quantize ?q (pad ?a ?x ?v) ?s ?z)"],
        right: "(pad ?a (quantize ?q ?x ?s ?z) (quantize ?q ?v ?s ?z))",
        conditions: &[
            Condition { name: "one scale", holds: |m| one(m, "s") && one(m, "z") },
            Condition { name: "the fill is a constant", holds: |m| m.find("v").is_none() || m.data("v").is_some() },
        ],
        exactness: Exactness::Exact,
        sound: "every element is quantized by itself",
        helps: "bytes are padded, or the padding joins a convolution",
        make: make_pad,
    },
    Rule {
        name: "integer-conv",
        left: &[
            "(quantize ?q (conv ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz)) ?ys ?yz)",
            "(quantize ?q (conv ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz) ?b) ?ys ?yz)",
        ],
        right: "(qlinear_conv{f32_rne} ?x ?xs ?xz ?w ?ws ?wz ?ys ?yz ?b / (xs · ws))",
        conditions: &[
            Condition {
                name: "bytes, and weights of at most a byte, with one scale each or one per output channel",
                holds: conv_operands,
            },
            Condition { name: "an 8-bit result with one scale", holds: |m| result(m) },
            Condition {
                name: "the bias is a multiple of the sums' unit",
                holds: |m| units(m, &conv_scales(m)).is_some(),
            },
        ],
        exactness: Exactness::Lsb(1),
        sound: "the same sum of products in whole units, rounded once instead of at every term",
        helps: "integers travel between operators, and products of bytes are four times as many per instruction",
        make: make_conv,
    },
    Rule {
        name: "integer-matmul",
        left: &[
            "(quantize ?q (matmul ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz)) ?ys ?yz)",
            "(quantize ?q (gemm ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz)) ?ys ?yz)",
            "(quantize ?q (gemm ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz) ?b) ?ys ?yz)",
            "(quantize ?q (add ?p (matmul ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz)) ?b) ?ys ?yz)",
            "(quantize ?q (add ?p ?b (matmul ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz))) ?ys ?yz)",
        ],
        right: "(qlinear_matmul{f32_rne} ?x ?xs ?xz ?w ?ws ?wz ?ys ?yz ?b / (xs · ws))",
        conditions: &[
            Condition { name: "bytes, and a constant matrix of at most a byte each", holds: matmul_operands },
            Condition { name: "an 8-bit result with one scale", holds: |m| result(m) },
            Condition {
                name: "the bias is a multiple of the sums' unit",
                holds: |m| units(m, &matmul_scales(m)).is_some(),
            },
        ],
        exactness: Exactness::Lsb(1),
        sound: "the same sum of products in whole units, rounded once instead of at every term",
        helps: "integers travel between operators, and products of bytes are four times as many per instruction",
        make: make_matmul,
    },
    Rule {
        name: "pad-into-integer-conv",
        left: &[
            "(qlinear_conv ?a (pad ?p ?x ?v) ?xs ?xz ?w ?ws ?wz ?ys ?yz)",
            "(qlinear_conv ?a (pad ?p ?x ?v) ?xs ?xz ?w ?ws ?wz ?ys ?yz ?b)",
        ],
        right: "(qlinear_conv{pads + p} ?x ..)",
        conditions: &[
            Condition { name: "zero points are added", holds: adds_zero_points },
            Condition { name: "only spatial axes grow, none shrinks", holds: spatial_only },
        ],
        exactness: Exactness::Exact,
        sound: "a quantized convolution reads zero points outside its operand",
        helps: "the padded copy need not be made",
        make: make_padded_conv,
    },
    Rule {
        name: "matmul-of-stored-weights",
        left: &["(matmul ?a ?x (dequantize ?e ?w ?s ?z))"],
        right: "(matmul_stored ?x ?w ?s ?z)",
        conditions: STORED_MATRIX,
        exactness: Exactness::Exact,
        sound: "the definition",
        helps: "weights stay small in the object, and are dequantized in registers",
        make: make_stored,
    },
    Rule {
        name: "gemm-of-stored-weights",
        left: &["(gemm ?a ?x (dequantize ?e ?w ?s ?z))", "(gemm ?a ?x (dequantize ?e ?w ?s ?z) ?c)"],
        right: "(add (matmul_stored ?x ?w ?s ?z) ?c)",
        conditions: STORED_MATRIX,
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the definition, but for a rounding before the term is added",
        helps: "weights stay small in the object, and are dequantized in registers",
        make: make_stored,
    },
    Rule {
        name: "integer-sums-of-conv",
        left: &[
            "(conv ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz))",
            "(conv ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz) ?b)",
        ],
        right: "(add (mul (cast{f32} (conv_integer ?x ?w ?xz)) xs · ws) ?b)",
        conditions: &[
            Condition {
                name: "bytes, and weights of at most a byte, with one scale each or one per output channel",
                holds: conv_operands,
            },
            Condition { name: "weights without zero points", holds: symmetric_weights },
            Condition { name: "sums fit 32 bits", holds: |m| sums_fit(m, &conv_scales(m)) },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the same sum of products in whole units, without a rounding before the last",
        helps: "weights stay bytes where the result is a float, and products of bytes are four times as many per instruction",
        make: make_conv_sums,
    },
    Rule {
        name: "integer-sums-of-matmul",
        left: &[
            "(matmul ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz))",
            "(gemm ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz))",
            "(gemm ?a (dequantize ?d ?x ?xs ?xz) (dequantize ?e ?w ?ws ?wz) ?b)",
        ],
        right: "(add (mul (cast{f32} (matmul_integer ?x ?w ?xz)) xs · ws) ?b)",
        conditions: &[
            Condition { name: "bytes, and a constant matrix of at most a byte each", holds: matmul_operands },
            Condition { name: "weights without zero points", holds: symmetric_weights },
            Condition { name: "sums fit 32 bits", holds: |m| sums_fit(m, &matmul_scales(m)) },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the same sum of products in whole units, without a rounding before the last",
        helps: "weights stay bytes where the result is a float, and products of bytes are four times as many per instruction",
        make: make_matmul_sums,
    },
];

fn one(m: &Match<'_>, name: &str) -> bool {
    m.ty(name).is_some_and(|ty| ty.rank() == 0)
}

fn is_byte(ty: Option<&TensorType>) -> bool {
    ty.is_some_and(|ty| matches!(ty.dtype, DType::I8 | DType::U8))
}

/// At most a byte, as weights are.
fn is_small(ty: Option<&TensorType>) -> bool {
    is_byte(ty) || ty.is_some_and(|ty| matches!(ty.dtype, DType::I2 | DType::U2 | DType::I4 | DType::U4))
}

fn result(m: &Match<'_>) -> bool {
    let Op::Quantize(q) = m.op("q") else { return false };
    matches!(q.to, DType::I8 | DType::U8) && m.is_affine("ys", "yz")
}

/// The left operand has one scale, the right one is constant with one, or one per slice of `axis`.
fn operands(m: &Match<'_>, axis: usize) -> bool {
    let Op::Dequantize(weights) = m.op("e") else { return false };
    let per_slice = one(m, "ws") || (weights.block == 0 && weights.axis == axis);
    let constant = m.data("w").is_some() && m.data("wz").is_some() && m.scales("ws").is_some();
    is_byte(m.ty("x")) && is_small(m.ty("w")) && m.is_affine("xs", "xz") && constant && per_slice
}

fn conv_operands(m: &Match<'_>) -> bool {
    operands(m, 0)
}

fn matmul_operands(m: &Match<'_>) -> bool {
    let plain = match m.op("a") {
        Op::MatMul(op) => !op.trans_a,
        Op::Gemm(op) => !op.trans_a && op.alpha == F64::new(1.0) && op.beta == F64::new(1.0),
        _ => false,
    };
    let matrix = m.ty("w").is_some_and(|w| w.rank() == 2) && m.ty("x").is_some_and(|x| x.rank() >= 2);
    plain && matrix && operands(m, if columns_first(m) { 0 } else { 1 })
}

/// Whether the weights are `[n, k]`.
fn columns_first(m: &Match<'_>) -> bool {
    match m.op("a") {
        Op::MatMul(op) => op.trans_b,
        Op::Gemm(op) => op.trans_b,
        _ => false,
    }
}

/// The unit of the sums per output channel.
fn conv_scales(m: &Match<'_>) -> Vec<f64> {
    let channels = m.ty("w").and_then(|w| w.shape.first()?.as_const());
    sum_scales(m, channels)
}

fn matmul_scales(m: &Match<'_>) -> Vec<f64> {
    let columns = m.ty("w").and_then(|w| w.shape.get(usize::from(!columns_first(m)))?.as_const());
    sum_scales(m, columns)
}

fn sum_scales(m: &Match<'_>, count: Option<i64>) -> Vec<f64> {
    let (Some(x), Some(w)) = (m.scales("xs"), m.scales("ws")) else { return Vec::new() };
    let count = count.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    (0..count).map(|i| f64::from(x[0]) * f64::from(w[if w.len() == 1 { 0 } else { i }])).collect()
}

/// Part of a float bias that may be missing from a multiple of the sums' unit: a rounding of the scale and one of the
/// product.
const BIAS_ROUNDINGS: f64 = 4.0 * f32::EPSILON as f64;
/// Biases and sums stay below this together.
const LARGEST_SUM: f64 = i32::MAX as f64;

/// The bias in units of the sums, none where there is no bias; nothing when it is no multiple of them, or sums may
/// leave 32 bits.
fn units(m: &Match<'_>, scales: &[f64]) -> Option<Option<Tensor>> {
    let w = m.ty("w")?;
    let terms = w.elems().as_const()? as f64 / scales.len().max(1) as f64;
    let room = LARGEST_SUM - terms * 255.0 * 255.0;
    if room < 0.0 {
        return None;
    }
    let Some(bias) = m.find("b") else { return Some(None) };
    let bias = value(m.egraph, bias)?;
    // A row for the last axis or the channels: everything else broadcasts another way.
    let row = bias.shape().iter().rev().skip(1).all(|&n| n == 1);
    if !row || bias.dtype() != DType::F32 || !(bias.elems() == 1 || bias.elems() == scales.len()) {
        return None;
    }
    let values = bias.to_f64();
    let whole: Option<Vec<i128>> = scales
        .iter()
        .enumerate()
        .map(|(i, scale)| {
            let value = values[if values.len() == 1 { 0 } else { i }];
            let units = (value / scale).round_ties_even();
            let near = (units * scale - value).abs() <= value.abs() * BIAS_ROUNDINGS;
            (near && units.abs() <= room).then_some(units as i128)
        })
        .collect();
    Some(Some(Tensor::from_ints(DType::I32, &[scales.len()], &whole?)))
}

fn quantized_operands(egraph: &EGraph, subst: &Subst) -> Vec<Id> {
    ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"].iter().map(|name| id(egraph, subst, name)).collect()
}

fn make_conv(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let Op::Conv(conv) = op(egraph, subst, "a") else { return None };
    let matched = Match { egraph, subst };
    let bias = units(&matched, &conv_scales(&matched))?;
    let mut operands = quantized_operands(egraph, subst);
    operands.extend(bias.map(|bias| add_const(egraph, bias)));
    let contract = Requantize::F32Rne;
    let (strides, pads, dilations) = (conv.strides, conv.pads, conv.dilations);
    add_op(egraph, QLinearConv { strides, pads, dilations, group: conv.group, contract }, &operands)
}

fn make_matmul(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let matched = Match { egraph, subst };
    let (turned, bias) = (columns_first(&matched), units(&matched, &matmul_scales(&matched))?);
    let mut operands = quantized_operands(egraph, subst);
    if turned {
        operands[3] = add_op(egraph, Transpose { perm: vec![1, 0] }, &operands[3..4])?;
    }
    operands.extend(bias.map(|bias| add_const(egraph, bias)));
    add_op(egraph, QLinearMatMul { contract: Requantize::F32Rne }, &operands)
}

fn symmetric_weights(m: &Match<'_>) -> bool {
    m.data("wz").is_some_and(|zeros| zeros.to_ints().iter().all(|&zero| zero == 0))
}

/// Whether sums of products of bytes stay within 32 bits, whatever the operands are.
fn sums_fit(m: &Match<'_>, scales: &[f64]) -> bool {
    let elems = m.ty("w").and_then(|w| w.elems().as_const());
    elems.is_some_and(|elems| elems as f64 / scales.len().max(1) as f64 * 255.0 * 255.0 < LARGEST_SUM)
}

fn make_conv_sums(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let Op::Conv(conv) = op(egraph, subst, "a") else { return None };
    let scales = conv_scales(&Match { egraph, subst });
    let [x, w, zero] = ["x", "w", "xz"].map(|name| id(egraph, subst, name));
    let spatial = conv.strides.len();
    let Conv { strides, pads, dilations, group } = conv;
    let sums = add_op(egraph, ConvInteger { strides, pads, dilations, group }, &[x, w, zero])?;
    let mut shape = vec![Extent::ONE; spatial + 1];
    shape[0] = egraph[w].data.ty()?.shape.first()?.clone();
    let scales = add_const(egraph, Tensor::from_f64(DType::F32, &[scales.len()], &scales));
    let scales = reshape(egraph, scales, shape.clone())?;
    let bias = match find(egraph, subst, "b") {
        Some(bias) => Some(reshape(egraph, bias, shape)?),
        None => None,
    };
    scaled_sums(egraph, sums, scales, bias)
}

fn make_matmul_sums(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let matched = Match { egraph, subst };
    let (turned, scales) = (columns_first(&matched), matmul_scales(&matched));
    let [x, mut w, zero] = ["x", "w", "xz"].map(|name| id(egraph, subst, name));
    if turned {
        w = add_op(egraph, Transpose { perm: vec![1, 0] }, &[w])?;
    }
    let sums = add_op(egraph, MatMulInteger {}, &[x, w, zero])?;
    let scales = add_const(egraph, Tensor::from_f64(DType::F32, &[scales.len()], &scales));
    let bias = find(egraph, subst, "b");
    scaled_sums(egraph, sums, scales, bias)
}

/// Sums of integers as floats, scaled, and the bias.
fn scaled_sums(egraph: &mut EGraph, sums: Id, scales: Id, bias: Option<Id>) -> Option<Id> {
    let sums = add_op(egraph, Cast { to: DType::F32 }, &[sums])?;
    let scaled = binary(egraph, BinaryFn::Mul, sums, scales)?;
    match bias {
        Some(bias) => binary(egraph, BinaryFn::Add, scaled, bias),
        None => Some(scaled),
    }
}

fn make_clip(egraph: &mut EGraph, subst: &Subst, min: Option<f64>, max: Option<f64>) -> Option<Id> {
    let Op::Quantize(quantize) = op(egraph, subst, "q") else { return None };
    let [x, s, z] = ["x", "s", "z"].map(|name| id(egraph, subst, name));
    let (low, high) = quantize.to.int_range()?;
    let bound = |egraph: &EGraph, bound: Option<f64>| match bound {
        None => Some(None),
        Some(bound) => Some(Some(stored(egraph, &quantize, [s, z], bound)?)),
    };
    let (min, max) = (bound(egraph, min)?, bound(egraph, max)?);
    let quantized = add_op(egraph, quantize.clone(), &[x, s, z])?;
    // Bounds of the stored type do nothing.
    let (min, max) = (min.filter(|&v| v > low), max.filter(|&v| v < high));
    if min.is_none() && max.is_none() {
        return Some(quantized);
    }
    let number = |v: i128| F64::new(v as f64);
    add_op(egraph, Clip { min: min.map(number), max: max.map(number) }, &[quantized])
}

/// The integer that stands for a number.
fn stored(egraph: &EGraph, quantize: &Quantize, [scale, zero]: [Id; 2], number: f64) -> Option<i128> {
    let (scale, zero) = (value(egraph, scale)?, value(egraph, zero)?);
    let number = Tensor::from_f64(DType::F32, &[], &[number]);
    let results = Op::from(quantize.clone()).eval(&[Some(&number), Some(&scale), Some(&zero)], &|_| None).ok()?;
    results.first()?.to_ints().first().copied()
}

fn same_parameters(m: &Match<'_>) -> bool {
    let (Op::Quantize(q), Op::Dequantize(d)) = (m.op("q"), m.op("d")) else { return false };
    let same = |a: &str, b: &str| m.data(a).is_some() && m.data(a) == m.data(b);
    let lie_alike = one(m, "s") || (q.axis, q.block) == (d.axis, d.block);
    let dtype = m.ty("x").is_some_and(|x| x.dtype == q.to);
    dtype && lie_alike && m.scales("s").is_some() && same("s", "t") && same("z", "y")
}

fn make_after(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let [x, s, z] = ["x", "s", "z"].map(|name| id(egraph, subst, name));
    let moved = add_op(egraph, op(egraph, subst, "a"), &[x])?;
    add_op(egraph, Dequantize { axis: 0, block: 0 }, &[moved, s, z])
}

fn rows_of_table(m: &Match<'_>) -> bool {
    let rows = matches!(m.op("a"), Op::Gather(gather) if gather.axis == 0);
    rows && m.data("x").is_some() && m.ty("x").is_some_and(|x| x.rank() >= 2)
}

fn scale_per_row(m: &Match<'_>) -> bool {
    let (Op::Dequantize(scales), Some(zeros)) = (m.op("d"), m.data("z")) else { return false };
    let per_row = one(m, "s") || (scales.axis == 0 && scales.block == 0);
    let plain = m.data("s").is_some_and(|s| s.dtype() == DType::F32);
    per_row && plain && zeros.to_ints().iter().all(|&zero| zero == 0)
}

fn make_gather(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let [x, mut s, i] = ["x", "s", "i"].map(|name| id(egraph, subst, name));
    let gather = op(egraph, subst, "a");
    let ty = egraph[x].data.ty()?.clone();
    if egraph[s].data.ty()?.rank() > 0 {
        let mut shape = vec![Extent::ONE; ty.rank()];
        shape[0] = ty.shape[0].clone();
        s = reshape(egraph, s, shape)?;
        s = add_op(egraph, gather.clone(), &[s, i])?;
    }
    let found = add_op(egraph, gather, &[x, i])?;
    let found = add_op(egraph, Cast { to: DType::F32 }, &[found])?;
    binary(egraph, BinaryFn::Mul, found, s)
}

/// Padding as wide as the window would let it see nothing but padding.
fn windows_inside(m: &Match<'_>) -> bool {
    let Op::MaxPool(MaxPool { kernel, pads, dilations, .. }) = m.op("a") else { return false };
    let reach = kernel.iter().zip(dilations).map(|(k, d)| (k - 1) * d + 1);
    dilations.iter().all(|&d| d == 1) && pads.iter().zip(reach.clone().chain(reach)).all(|(&pad, reach)| pad < reach)
}

fn make_concat(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let Op::Quantize(quantize) = op(egraph, subst, "q") else { return None };
    let quantize = Quantize { axis: 0, ..quantize };
    let [s, z] = ["s", "z"].map(|name| id(egraph, subst, name));
    let parts = ["x0", "x1", "x2", "x3", "x4", "x5"].into_iter().map_while(|name| find(egraph, subst, name));
    let parts: Vec<Id> = parts.collect();
    let parts: Option<Vec<Id>> = parts.into_iter().map(|x| add_op(egraph, quantize.clone(), &[x, s, z])).collect();
    add_op(egraph, op(egraph, subst, "a"), &parts?)
}

fn make_pad(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let Op::Quantize(quantize) = op(egraph, subst, "q") else { return None };
    let quantize = Quantize { axis: 0, ..quantize };
    let [x, s, z] = ["x", "s", "z"].map(|name| id(egraph, subst, name));
    let given = find(egraph, subst, "v").map(|v| value(egraph, v)).unwrap_or(Some(Tensor::zeros(DType::F32, &[])))?;
    let fill = stored(egraph, &quantize, [s, z], given.to_f64().first().copied()?)?;
    let fill = add_const(egraph, Tensor::from_ints(quantize.to, &[], &[fill]));
    let quantized = add_op(egraph, quantize, &[x, s, z])?;
    add_op(egraph, op(egraph, subst, "a"), &[quantized, fill])
}

const STORED_MATRIX: &[Condition] = &[
    Condition { name: "a constant matrix of at most 8 bits", holds: stored_matrix },
    Condition { name: "blocks along the sum, or a scale per column", holds: blocks_along_sum },
];

fn stored_matrix(m: &Match<'_>) -> bool {
    let one = F64::new(1.0);
    let plain = match m.op("a") {
        Op::MatMul(product) => !product.trans_a,
        Op::Gemm(product) => !product.trans_a && product.alpha == one && product.beta == one,
        _ => false,
    };
    let matrix = m.data("w").is_some_and(|w| w.shape().len() == 2 && w.dtype().bits() <= 8);
    plain && matrix && m.data("s").is_some() && m.data("z").is_some() && m.ty("x").is_some_and(is_float)
}

fn is_float(ty: &TensorType) -> bool {
    ty.dtype == DType::F32 && ty.rank() >= 2
}

fn blocks_along_sum(m: &Match<'_>) -> bool {
    let Op::Dequantize(scales) = m.op("e") else { return false };
    let sum = usize::from(columns_first(m));
    match m.ty("s").map_or(0, TensorType::rank) {
        0 => true,
        2 => scales.axis == sum && scales.block > 0,
        _ => scales.axis != sum,
    }
}

fn make_stored(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let Op::Dequantize(scales) = op(egraph, subst, "e") else { return None };
    let operands = ["x", "w", "s", "z"].map(|name| id(egraph, subst, name));
    let (axis, block) = (scales.axis, scales.block);
    let trans_b = columns_first(&Match { egraph, subst });
    let product = add_op(egraph, MatMulStored { trans_b, axis, block }, &operands)?;
    match find(egraph, subst, "c") {
        Some(term) => binary(egraph, BinaryFn::Add, product, term),
        None => Some(product),
    }
}

fn adds_zero_points(m: &Match<'_>) -> bool {
    let fill = m.data("v").map(Tensor::to_ints);
    let constant = matches!(m.op("p"), Op::Pad(Pad { mode: PadMode::Constant, .. }));
    constant && fill.is_some() && fill == m.data("xz").map(Tensor::to_ints)
}

fn spatial_only(m: &Match<'_>) -> bool {
    let (Op::Pad(pad), Op::QLinearConv(conv)) = (m.op("p"), m.op("a")) else { return false };
    let amounts = |extents: &[Extent]| {
        extents.iter().enumerate().all(|(axis, e)| e.as_const().is_some_and(|v| if axis < 2 { v == 0 } else { v >= 0 }))
    };
    amounts(&pad.before) && amounts(&pad.after) && conv.pads.iter().all(|&p| p >= 0)
}

fn make_padded_conv(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Pad(pad), Op::QLinearConv(conv)) = (op(egraph, subst, "p"), op(egraph, subst, "a")) else { return None };
    let added = pad.before[2..].iter().chain(&pad.after[2..]);
    let pads: Option<Vec<i64>> =
        conv.pads.iter().zip(added).map(|(have, more)| Some(have + more.as_const()?)).collect();
    let mut operands = quantized_operands(egraph, subst);
    operands.extend(find(egraph, subst, "b"));
    add_op(egraph, QLinearConv { pads: pads?, ..conv }, &operands)
}

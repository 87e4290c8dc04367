//! Rules that CPUs hand to the e-graph, for what only they have kernels for: convolutions by minimal filtering, taken where that
//! is cheaper, and convolutions of floats whose weights stay as they are stored.
//!
//! Minimal filtering keeps the weights as they are; what transforming them costs in stored bytes is part of a machine's proposal.

use adze_ir::egraph::{Condition, EGraph, Family, Match, Rule, add_op};
use adze_ir::exact::{Exactness, NORM_WINOGRAD};
use adze_ir::extent::Extent;
use adze_ir::ops::{Conv, ConvStored, Op, WINOGRAD_WINDOW, WinogradConv};
use adze_ir::types::DType;
use egg::{Id, Subst};

/// The families.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "winograd",
        about: "Convolutions of 3 x 3 windows by minimal filtering, where that is cheaper.",
        pass: "saturate",
        machine: Some("CPUs"),
        rules: WINOGRAD,
    },
    Family {
        name: "stored",
        about: "Convolutions of floats keep the integers that their weights are stored as.",
        pass: "integers",
        machine: Some("CPUs"),
        rules: STORED,
    },
];

const LEFT: &[&str] = &["(conv ?a ?x ?w)", "(conv ?a ?x ?w ?b)"];

const CONDITIONS: &[Condition] = &[
    Condition { name: "weights are constant", holds: |m| m.fixed("w") },
    Condition { name: "windows of neighbours, one step apart, without groups", holds: dense },
    Condition { name: "images of `f32`, windows of 3 x 3", holds: images },
];

const SOUND: &str = "both are the same sums of products of finite numbers; products of sums round more, and what is infinite makes \
                     its tile NaN";

const WINOGRAD: &[Rule] = &[
    Rule {
        name: "conv-by-tiles-of-4x4",
        left: LEFT,
        right: "(winograd_conv{tile=4} ?x ?w ?b)",
        conditions: CONDITIONS,
        exactness: Exactness::Norm(NORM_WINOGRAD[1]),
        sound: SOUND,
        helps: "a quarter of the multiplications, for weights four times as large",
        make: |g, s| make(g, s, 4),
    },
    Rule {
        name: "conv-by-tiles-of-2x2",
        left: LEFT,
        right: "(winograd_conv{tile=2} ?x ?w ?b)",
        conditions: CONDITIONS,
        exactness: Exactness::Norm(NORM_WINOGRAD[0]),
        sound: SOUND,
        helps: "2.25 times fewer multiplications, for weights 1.8 times as large; small images fill its tiles better",
        make: |g, s| make(g, s, 2),
    },
];

const STORED: &[Rule] = &[Rule {
    name: "conv-of-stored-weights",
    left: &["(conv ?a ?x (dequantize ?e ?w ?s ?z))", "(conv ?a ?x (dequantize ?e ?w ?s ?z) ?b)"],
    right: "(conv_stored ?x ?w ?s ?z ?b)",
    conditions: &[
        Condition { name: "constant weights of at most 8 bits", holds: stored },
        Condition { name: "one scale, or one per output channel", holds: scale_per_channel },
        Condition { name: "images of `f32`", holds: |m| m.ty("x").is_some_and(|ty| ty.dtype == DType::F32) },
    ],
    exactness: Exactness::Exact,
    sound: "the definition",
    helps: "weights stay small in the object, and are dequantized in registers",
    make: make_stored,
}];

fn stored(m: &Match<'_>) -> bool {
    let small = m.data("w").is_some_and(|w| w.dtype().bits() <= 8);
    small && m.data("s").is_some() && m.data("z").is_some()
}

fn scale_per_channel(m: &Match<'_>) -> bool {
    let Op::Dequantize(scales) = m.op("e") else { return false };
    let one = m.ty("s").is_some_and(|ty| ty.rank() <= 1 && ty.elems() == Extent::ONE);
    one || (scales.axis == 0 && scales.block == 0)
}

fn make_stored(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let m = Match { egraph, subst };
    let Op::Conv(Conv { strides, pads, dilations, group }) = m.op("a").clone() else { return None };
    let operands: Vec<Id> = ["x", "w", "s", "z"].map(|name| m.id(name)).into_iter().chain(m.find("b")).collect();
    add_op(egraph, ConvStored { strides, pads, dilations, group }, &operands)
}

fn dense(m: &Match<'_>) -> bool {
    let Op::Conv(conv) = m.op("a") else { return false };
    conv.strides.iter().chain(&conv.dilations).all(|&step| step == 1) && conv.group == 1
}

fn images(m: &Match<'_>) -> bool {
    let (Some(x), Some(w)) = (m.ty("x"), m.ty("w")) else { return false };
    x.dtype == DType::F32 && w.rank() == 4 && w.shape[2..].iter().all(|k| *k == WINOGRAD_WINDOW.into())
}

fn make(egraph: &mut EGraph, subst: &Subst, tile: i64) -> Option<Id> {
    let m = Match { egraph, subst };
    let Op::Conv(conv) = m.op("a") else { return None };
    let op = WinogradConv { tile, pads: conv.pads.clone() };
    let operands: Vec<Id> = ["x", "w"].map(|name| m.id(name)).into_iter().chain(m.find("b")).collect();
    add_op(egraph, op, &operands)
}

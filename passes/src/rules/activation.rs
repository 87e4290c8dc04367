//! Activations that exporters write out in elementary functions.

use adze_ir::attrs::F64;
use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::{Exactness, NORM_TRANSCENDENTAL};
use adze_ir::ops::{Gelu, HardSigmoid, Op, Swish, Unary, UnaryFn};
use egg::{Id, Subst};

use super::support::{id, is_number, near};

/// A spelling of the tanh form of gelu: what stands before and after the sum with 1, and the cubic term.
macro_rules! gelu_tanh {
    ($before:literal, $after:literal, $cube:literal) => {
        concat!($before, "(tanh ?t (mul ?r (add ?q ?x ", $cube, ") ?slope)) ?one", $after)
    };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "silu",
        left: &["(mul ?m ?x (sigmoid ?s ?x))", "(mul ?m (sigmoid ?s ?x) ?x)"],
        right: "(swish{alpha=1} ?x)",
        conditions: &[],
        exactness: Exactness::Ulp(2),
        sound: "the definition; one rounding instead of two",
        helps: "one pass over the tensor, and an epilogue of a convolution",
        make: |g, s| unary(g, s, Swish { alpha: F64::new(1.0) }),
    },
    Rule {
        name: "hard-swish",
        left: &["(mul ?m ?x (hard_sigmoid ?h ?x))", "(mul ?m (hard_sigmoid ?h ?x) ?x)"],
        right: "(hard_swish ?x)",
        conditions: &[Condition { name: "slope 1/6 and offset 1/2", holds: sixth_and_half }],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; roundings differ",
        helps: "one pass over the tensor, and an epilogue of a convolution",
        make: |g, s| unary(g, s, Unary { function: UnaryFn::HardSwish }),
    },
    Rule {
        name: "hard-swish-of-clip",
        left: &[
            "(div ?d (mul ?m ?x (clip ?c (add ?p ?x ?three))) ?six)",
            "(mul ?d (mul ?m ?x (clip ?c (add ?p ?x ?three))) ?sixth)",
        ],
        right: "(hard_swish ?x)",
        conditions: &[
            Condition { name: "clipped to 0..6", holds: |m| clips(m, 0.0, 6.0) },
            Condition { name: "constants 3 and 6", holds: three_and_six },
        ],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; roundings differ",
        helps: "one pass over the tensor, and an epilogue of a convolution",
        make: |g, s| unary(g, s, Unary { function: UnaryFn::HardSwish }),
    },
    Rule {
        name: "hard-sigmoid",
        left: &[
            "(div ?d (clip ?c (add ?p ?x ?three)) ?six)",
            "(div ?d (clip ?c (add ?p ?three ?x)) ?six)",
            "(mul ?d (clip ?c (add ?p ?x ?three)) ?sixth)",
        ],
        right: "(hard_sigmoid{alpha=1/6, beta=1/2} ?x)",
        conditions: &[
            Condition { name: "clipped to 0..6", holds: |m| clips(m, 0.0, 6.0) },
            Condition { name: "constants 3 and 6", holds: three_and_six },
        ],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "min(max(x + 3, 0), 6) / 6 = min(max(x / 6 + 1/2, 0), 1)",
        helps: "one pass over the tensor",
        make: |g, s| unary(g, s, HardSigmoid { alpha: F64::new(1.0 / 6.0), beta: F64::new(0.5) }),
    },
    Rule {
        name: "gelu-erf",
        left: &[
            "(mul ?m (mul ?n ?x (add ?p (erf ?e (div ?d ?x ?root)) ?one)) ?half)",
            "(mul ?m (mul ?n (add ?p (erf ?e (div ?d ?x ?root)) ?one) ?x) ?half)",
            "(mul ?m (mul ?n ?x ?half) (add ?p (erf ?e (div ?d ?x ?root)) ?one))",
            "(mul ?m (add ?p (erf ?e (div ?d ?x ?root)) ?one) (mul ?n ?x ?half))",
            "(mul ?m ?x (mul ?n (add ?p (erf ?e (div ?d ?x ?root)) ?one) ?half))",
            "(mul ?m (mul ?n (add ?p (erf ?e (div ?d ?x ?root)) ?one) ?half) ?x)",
            "(mul ?m (mul ?n ?x (add ?p (erf ?e (mul ?d ?x ?inv)) ?one)) ?half)",
            "(mul ?m (mul ?n ?x ?half) (add ?p (erf ?e (mul ?d ?x ?inv)) ?one))",
        ],
        right: "(gelu ?x)",
        conditions: &[
            Condition { name: "constants 1/2 and 1", holds: |m| is_number(m, "half", 0.5) && is_number(m, "one", 1.0) },
            Condition { name: "divisor √2", holds: root_of_two },
        ],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; gelu keeps digits that 1 + erf cancels, so it differs towards the true value",
        helps: "one pass over the tensor instead of five, and an epilogue of a matrix product",
        make: |g, s| unary(g, s, Gelu { tanh: false }),
    },
    Rule {
        name: "gelu-tanh",
        left: &[
            gelu_tanh!("(mul ?m ?x (mul ?n (add ?p ", ") ?half))", "(mul ?c1 ?x (mul ?c2 ?x (mul ?c3 ?x ?cubic)))"),
            gelu_tanh!("(mul ?m (mul ?n ?x (add ?p ", ")) ?half)", "(mul ?c1 ?x (mul ?c2 ?x (mul ?c3 ?x ?cubic)))"),
            gelu_tanh!("(mul ?m (mul ?n ?x ?half) (add ?p ", "))", "(mul ?c1 ?x (mul ?c2 ?x (mul ?c3 ?x ?cubic)))"),
            gelu_tanh!("(mul ?m ?x (mul ?n (add ?p ", ") ?half))", "(mul ?c1 (pow ?c2 ?x ?three) ?cubic)"),
            gelu_tanh!("(mul ?m (mul ?n ?x (add ?p ", ")) ?half)", "(mul ?c1 (pow ?c2 ?x ?three) ?cubic)"),
            gelu_tanh!("(mul ?m (mul ?n ?x ?half) (add ?p ", "))", "(mul ?c1 (pow ?c2 ?x ?three) ?cubic)"),
            gelu_tanh!("(mul ?m ?x (mul ?n (add ?p ", ") ?half))", "(mul ?c1 (mul ?c2 ?x (mul ?c3 ?x ?x)) ?cubic)"),
            gelu_tanh!("(mul ?m (mul ?n ?x (add ?p ", ")) ?half)", "(mul ?c1 (mul ?c2 ?x (mul ?c3 ?x ?x)) ?cubic)"),
            gelu_tanh!("(mul ?m (mul ?n ?x ?half) (add ?p ", "))", "(mul ?c1 (mul ?c2 ?x (mul ?c3 ?x ?x)) ?cubic)"),
        ],
        right: "(gelu{tanh} ?x)",
        conditions: &[
            Condition { name: "constants 1/2 and 1", holds: |m| is_number(m, "half", 0.5) && is_number(m, "one", 1.0) },
            Condition { name: "constants 0.044715 and √(2/π), and the third power", holds: tanh_constants },
        ],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; roundings differ",
        helps: "one pass over the tensor instead of eight, and an epilogue of a matrix product",
        make: |g, s| unary(g, s, Gelu { tanh: true }),
    },
    Rule {
        name: "mish",
        left: &["(mul ?m ?x (tanh ?t (softplus ?s ?x)))", "(mul ?m (tanh ?t (softplus ?s ?x)) ?x)"],
        right: "(mish ?x)",
        conditions: &[],
        exactness: Exactness::Norm(NORM_TRANSCENDENTAL),
        sound: "the definition; one rounding instead of three",
        helps: "one pass over the tensor",
        make: |g, s| unary(g, s, Unary { function: UnaryFn::Mish }),
    },
];

fn unary(egraph: &mut EGraph, subst: &Subst, op: impl Into<Op>) -> Option<Id> {
    let x = id(egraph, subst, "x");
    add_op(egraph, op, &[x])
}

fn sixth_and_half(m: &Match<'_>) -> bool {
    matches!(m.op("h"), Op::HardSigmoid(op) if near(op.alpha, 1.0 / 6.0) && near(op.beta, 0.5))
}

fn clips(m: &Match<'_>, lo: f64, hi: f64) -> bool {
    matches!(m.op("c"), Op::Clip(op) if op.min == Some(F64::new(lo)) && op.max == Some(F64::new(hi)))
}

fn root_of_two(m: &Match<'_>) -> bool {
    match m.find("root") {
        Some(_) => is_number(m, "root", std::f64::consts::SQRT_2),
        None => is_number(m, "inv", std::f64::consts::FRAC_1_SQRT_2),
    }
}

fn three_and_six(m: &Match<'_>) -> bool {
    let six = if m.find("six").is_some() { is_number(m, "six", 6.0) } else { is_number(m, "sixth", 1.0 / 6.0) };
    is_number(m, "three", 3.0) && six
}

fn tanh_constants(m: &Match<'_>) -> bool {
    let cube = m.find("c3").is_some() || is_number(m, "three", 3.0);
    cube && is_number(m, "cubic", 0.044715) && is_number(m, "slope", (2.0 / std::f64::consts::PI).sqrt())
}

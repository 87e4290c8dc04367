//! The rule set of the e-graph stage, one file per family.

mod activation;
mod algebra;
mod attention;
mod conv;
mod linear;
pub(crate) mod merge;
mod movement;
mod norm;
mod operand;
mod pad;
mod pool;
mod quantized;
mod reshape;
mod rotary;
mod slice;
pub(crate) mod stack;
pub(crate) mod support;
#[cfg(test)]
mod tests;
mod winograd;

use adze_ir::egraph::Rule;

/// Rules of one theme.
pub struct Family {
    /// Kebab-case.
    pub name: &'static str,
    /// What they are for, one sentence.
    pub about: &'static str,
    /// The pass that runs them.
    pub pass: &'static str,
    /// In the order they are documented.
    pub rules: &'static [Rule],
}

/// All families, in the order they are documented.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "algebra",
        about: "Arithmetic with fewer operations, or cheaper ones.",
        pass: "saturate",
        rules: algebra::RULES,
    },
    Family {
        name: "linear",
        about: "Scales and terms go into the weights of convolutions and products.",
        pass: "saturate",
        rules: linear::RULES,
    },
    Family {
        name: "conv",
        about: "Transposed convolutions take what follows them, and convolutions that are products become such.",
        pass: "saturate",
        rules: conv::RULES,
    },
    Family {
        name: "operand",
        about: "What stands before a convolution or product goes into it.",
        pass: "saturate",
        rules: operand::RULES,
    },
    Family {
        name: "activation",
        about: "Activations that exporters write out become one operator again.",
        pass: "saturate",
        rules: activation::RULES,
    },
    Family {
        name: "norm",
        about: "Normalisations and softmax that exporters write out become one operator again.",
        pass: "saturate",
        rules: norm::RULES,
    },
    Family {
        name: "attention",
        about: "Attention that exporters write out becomes one operator again.",
        pass: "saturate",
        rules: attention::RULES,
    },
    Family {
        name: "rotary",
        about: "Rotary position embedding that exporters write out becomes one operator again.",
        pass: "saturate",
        rules: rotary::RULES,
    },
    Family {
        name: "movement",
        about: "What only moves elements is moved until it cancels.",
        pass: "saturate",
        rules: movement::RULES,
    },
    Family {
        name: "reshape",
        about: "Reshapes get out of the way, and those that are other operators become such.",
        pass: "saturate",
        rules: reshape::RULES,
    },
    Family {
        name: "slice",
        about: "Selections and concatenations cancel, join, and move to where less is computed.",
        pass: "saturate",
        rules: slice::RULES,
    },
    Family { name: "pad", about: "Padding goes into what reads it.", pass: "saturate", rules: pad::RULES },
    Family {
        name: "winograd",
        about: "Convolutions of 3 x 3 windows by minimal filtering, where that is cheaper.",
        pass: "saturate",
        rules: winograd::RULES,
    },
    Family { name: "pool", about: "Pools become simpler pools.", pass: "saturate", rules: pool::RULES },
    Family {
        name: "quantized",
        about: "Operators between integers compute in integers.",
        pass: "integers",
        rules: quantized::RULES,
    },
];

/// The rules of the pass `saturate`, sorted by name.
pub fn rules() -> Vec<&'static Rule> {
    of_pass("saturate")
}

/// The rules of the pass `integers`, sorted by name.
pub fn integer_rules() -> Vec<&'static Rule> {
    of_pass("integers")
}

/// What takes batch normalisation, scales and biases into weights: a compiler without an e-graph does that too.
const CANONICAL: [&str; 5] =
    ["batch-norm-as-scale-and-bias", "bias-into-conv", "bias-into-gemm", "scale-into-conv", "scale-into-matmul"];

/// The rules that [`Optimizer::Canonical`](crate::pass::Optimizer::Canonical) runs.
pub(crate) fn canonical() -> Vec<&'static Rule> {
    rules().into_iter().filter(|rule| CANONICAL.contains(&rule.name)).collect()
}

/// The rules of a pass in the order they are documented.
pub(crate) fn in_order(pass: &str) -> Vec<&'static Rule> {
    FAMILIES.iter().filter(|family| family.pass == pass).flat_map(|family| family.rules).collect()
}

fn of_pass(pass: &str) -> Vec<&'static Rule> {
    let mut rules = in_order(pass);
    rules.sort_by_key(|rule| rule.name);
    rules
}

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

use adze_ir::egraph::{Family, Rule};

use crate::pass::{Optimizer, PassCx};

/// All families, in the order they are documented.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "algebra",
        about: "Arithmetic with fewer operations, or cheaper ones.",
        pass: "saturate",
        machine: None,
        rules: algebra::RULES,
    },
    Family {
        name: "linear",
        about: "Scales and terms go into the weights of convolutions and products.",
        pass: "saturate",
        machine: None,
        rules: linear::RULES,
    },
    Family {
        name: "conv",
        about: "Transposed convolutions take what follows them, and convolutions that are products become such.",
        pass: "saturate",
        machine: None,
        rules: conv::RULES,
    },
    Family {
        name: "operand",
        about: "What stands before a convolution or product goes into it.",
        pass: "saturate",
        machine: None,
        rules: operand::RULES,
    },
    Family {
        name: "activation",
        about: "Activations that exporters write out become one operator again.",
        pass: "saturate",
        machine: None,
        rules: activation::RULES,
    },
    Family {
        name: "norm",
        about: "Normalisations and softmax that exporters write out become one operator again.",
        pass: "saturate",
        machine: None,
        rules: norm::RULES,
    },
    Family {
        name: "attention",
        about: "Attention that exporters write out becomes one operator again.",
        pass: "saturate",
        machine: None,
        rules: attention::RULES,
    },
    Family {
        name: "rotary",
        about: "Rotary position embedding that exporters write out becomes one operator again.",
        pass: "saturate",
        machine: None,
        rules: rotary::RULES,
    },
    Family {
        name: "movement",
        about: "What only moves elements is moved until it cancels.",
        pass: "saturate",
        machine: None,
        rules: movement::RULES,
    },
    Family {
        name: "reshape",
        about: "Reshapes get out of the way, and those that are other operators become such.",
        pass: "saturate",
        machine: None,
        rules: reshape::RULES,
    },
    Family {
        name: "slice",
        about: "Selections and concatenations cancel, join, and move to where less is computed.",
        pass: "saturate",
        machine: None,
        rules: slice::RULES,
    },
    Family {
        name: "pad",
        about: "Padding goes into what reads it.",
        pass: "saturate",
        machine: None,
        rules: pad::RULES,
    },
    Family { name: "pool", about: "Pools become simpler pools.", pass: "saturate", machine: None, rules: pool::RULES },
    Family {
        name: "quantized",
        about: "Operators between integers compute in integers.",
        pass: "integers",
        machine: None,
        rules: quantized::RULES,
    },
];

/// The rules of a pass in the order they are documented, those that a machine hands over last.
pub fn in_order(pass: &str, handed: &'static [Family]) -> Vec<&'static Rule> {
    FAMILIES.iter().chain(handed).filter(|family| family.pass == pass).flat_map(|family| family.rules).collect()
}

/// The rules of a pass, sorted by name.
pub fn rules(pass: &str, handed: &'static [Family]) -> Vec<&'static Rule> {
    let mut rules = in_order(pass, handed);
    rules.sort_by_key(|rule| rule.name);
    rules
}

/// The rules that a pass goes through for these costs: in their order where it is greedy.
pub(crate) fn of_pass(pass: &str, cx: &PassCx<'_>) -> Vec<&'static Rule> {
    let handed = cx.costs.families();
    if cx.options.optimizer == Optimizer::Greedy { in_order(pass, handed) } else { rules(pass, handed) }
}

/// What takes batch normalisation, scales and biases into weights: a compiler without an e-graph does that too.
const CANONICAL: [&str; 5] =
    ["batch-norm-as-scale-and-bias", "bias-into-conv", "bias-into-gemm", "scale-into-conv", "scale-into-matmul"];

/// The rules that [`Optimizer::Canonical`] runs.
pub(crate) fn canonical() -> Vec<&'static Rule> {
    rules("saturate", &[]).into_iter().filter(|rule| CANONICAL.contains(&rule.name)).collect()
}

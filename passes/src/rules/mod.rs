//! The rule set of the e-graph stage, one file per theme.

mod activation;
mod linear;
mod movement;
mod pad;
mod pool;
mod quantized;
mod support;
#[cfg(test)]
mod tests;

use adze_ir::egraph::Rule;

/// The rules of the pass `saturate`, sorted by name.
pub fn rules() -> Vec<&'static Rule> {
    sorted(&[linear::RULES, activation::RULES, movement::RULES, pad::RULES, pool::RULES])
}

/// The rules of the pass `integers`, sorted by name.
pub fn integer_rules() -> Vec<&'static Rule> {
    sorted(&[quantized::RULES])
}

fn sorted(themes: &[&'static [Rule]]) -> Vec<&'static Rule> {
    let mut rules: Vec<&'static Rule> = themes.iter().copied().flatten().collect();
    rules.sort_by_key(|rule| rule.name);
    rules
}

//! The rule set of the e-graph stage, one file per theme.

mod activation;
mod linear;
mod movement;
mod pad;
mod support;
#[cfg(test)]
mod tests;

use adze_ir::egraph::Rule;

/// All rules, sorted by name.
pub fn rules() -> Vec<&'static Rule> {
    let themes = [linear::RULES, activation::RULES, movement::RULES, pad::RULES];
    let mut rules: Vec<&'static Rule> = themes.into_iter().flatten().collect();
    rules.sort_by_key(|rule| rule.name);
    rules
}

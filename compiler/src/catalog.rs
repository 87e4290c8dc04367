//! The rules as a reader sees them: one record, a list, and the page `docs/rules.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use adze_ir::egraph::{Family, Rule};
use adze_passes::rules::FAMILIES;

/// The families of rules that every machine is compiled for with, then those that machines hand over.
pub fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().chain(adze_targets::families())
}

/// What a rule did to a corpus of models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times that it changed an e-graph.
    pub fired: u64,
    /// Times that what was taken rests on it.
    pub taken: u64,
    /// Models in which that is so.
    pub models: u64,
    /// Estimated cycles that all models together would take more without this one rule.
    pub won: u64,
}

/// How [`COUNTS`] is made.
pub const COUNTS_COMMAND: &str = "cargo test -p adze-compiler --test models -- --ignored rule_counts";

/// The counts as they were measured: a comment with the corpus, then a line per rule.
pub const COUNTS: &str = include_str!("catalog.tsv");

/// Reads counts: rule, fired, taken, models, won; tabs in between. Lines that are something else are left out.
pub fn parse_counts(text: &str) -> BTreeMap<String, Counts> {
    let line = |line: &str| {
        let mut fields = line.split('\t');
        let name = fields.next()?.to_owned();
        let mut number = || fields.next()?.parse::<u64>().ok();
        Some((name, Counts { fired: number()?, taken: number()?, models: number()?, won: number()? }))
    };
    text.lines().filter(|l| !l.starts_with('#')).filter_map(line).collect()
}

/// Writes counts, rules in the order of the families.
pub fn print_counts(about: &str, counts: &BTreeMap<String, Counts>) -> String {
    let mut out = format!("# {about}\n# rule\tfired\ttaken\tmodels\twon\n");
    for rule in families().flat_map(|family| family.rules) {
        let Counts { fired, taken, models, won } = counts.get(rule.name).copied().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}\t{fired}\t{taken}\t{models}\t{won}", rule.name);
    }
    out
}

/// The family and record of a rule.
pub fn find(name: &str) -> Option<(&'static Family, &'static Rule)> {
    families().find_map(|family| Some((family, family.rules.iter().find(|rule| rule.name == name)?)))
}

/// Names that have a part of this one in them, for messages.
pub fn similar(name: &str) -> Vec<&'static str> {
    let parts: Vec<&str> = name.split('-').filter(|part| part.len() > 2).collect();
    let like = |rule: &&Rule| parts.iter().any(|part| rule.name.contains(part));
    families().flat_map(|family| family.rules).filter(like).map(|rule| rule.name).collect()
}

/// The conditions of a rule, `none` without any.
fn conditions(rule: &Rule) -> String {
    match rule.conditions {
        [] => "none".to_owned(),
        conditions => conditions.iter().map(|condition| condition.name).collect::<Vec<_>>().join("; "),
    }
}

/// Every family with its rules, a few lines each.
pub fn list() -> String {
    let mut out = String::new();
    for family in families() {
        let _ = writeln!(out, "{} ({}): {}", family.name, run_by(family), family.about);
        for rule in family.rules {
            let more = match rule.left.len() - 1 {
                0 => String::new(),
                1 => "  (and another left side)".to_owned(),
                more => format!("  (and {more} more left sides)"),
            };
            let _ = writeln!(out, "\n  {}  {}", rule.name, rule.exactness);
            let _ = writeln!(out, "      {}{more}\n   => {}", rule.left.first().unwrap_or(&""), rule.right);
            if !rule.conditions.is_empty() {
                let _ = writeln!(out, "   if {}", conditions(rule));
            }
        }
        out.push('\n');
    }
    out
}

/// One record in full.
pub fn record(family: &Family, rule: &Rule, counts: &BTreeMap<String, Counts>) -> String {
    let mut out = format!("{}\n", rule.name);
    let mut line = |label: &str, text: &str| {
        let _ = writeln!(out, "  {label:12} {text}");
    };
    line("family", &format!("{}, {}", family.name, run_by(family)));
    for (at, left) in rule.left.iter().enumerate() {
        line(if at == 0 { "left" } else { "" }, left);
    }
    line("right", rule.right);
    line("conditions", &conditions(rule));
    line("exactness", &rule.exactness.to_string());
    line("sound", rule.sound);
    line("helps", rule.helps);
    line("corpus", &in_corpus(counts.get(rule.name).copied().unwrap_or_default()));
    out
}

/// The pass that runs a family, and for which machine.
fn run_by(family: &Family) -> String {
    let machine = family.machine.map(|machine| format!(" for {machine} only")).unwrap_or_default();
    format!("run by the pass `{}`{machine}", family.pass)
}

fn in_corpus(counts: Counts) -> String {
    let Counts { fired, taken, models, won } = counts;
    match (fired, taken) {
        (0, _) => "never applies".to_owned(),
        (_, 0) => format!("applies {fired} times, never taken"),
        _ => format!("taken {taken} of {fired} times, in {models} models; without it {} more cycles", grouped(won)),
    }
}

/// `12 345 678`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// The page `docs/rules.md`.
pub fn page() -> String {
    let (counts, about) = (parse_counts(COUNTS), COUNTS.lines().next().unwrap_or_default().trim_start_matches("# "));
    let mut out = format!(
        "# Rewrite rules\n\n\
         What the e-graph stage knows. Written by `cargo test -p adze-compiler rules_page` with `ADZE_BLESS=1` from the records in\n\
         `passes/src/rules` and of the targets, and the counts in `compiler/src/catalog.tsv`; `adze rules NAME` prints one record. How forms are chosen:\n\
         [egraph.md](egraph.md).\n\n\
         A left side is a pattern over operators: the first word is the operator, the first variable its attributes, the others its\n\
         operands. *Fired* counts applications that changed an e-graph, *taken* those that the chosen form rests on, *won* the\n\
         estimated cycles that the corpus would take more without this one rule (rules that can stand in for each other win\n\
         nothing alone). Corpus: {about}; made by\n\n    {COUNTS_COMMAND}\n\n\
         | family | rules | for |\n|---|---:|---|\n"
    );
    for family in families() {
        let _ = writeln!(out, "| [{0}](#{0}) | {1} | {2} |", family.name, family.rules.len(), family.about);
    }
    for family in families() {
        let _ = write!(out, "\n## {}\n\n{} These are {}.\n\n", family.name, family.about, run_by(family));
        out.push_str("| rule | exactness | fired | taken | models | won |\n|---|---|---:|---:|---:|---:|\n");
        for rule in family.rules {
            let Counts { fired, taken, models, won } = counts.get(rule.name).copied().unwrap_or_default();
            let won = grouped(won);
            let _ = writeln!(out, "| {} | {} | {fired} | {taken} | {models} | {won} |", rule.name, rule.exactness);
        }
        for rule in family.rules {
            let _ = write!(out, "\n### {}\n\n```text\n{}\n=> {}\n```\n\n", rule.name, rule.left.join("\n"), rule.right);
            for (label, text) in [("If", conditions(rule).as_str()), ("Sound", rule.sound), ("Helps", rule.helps)] {
                if label != "If" || !rule.conditions.is_empty() {
                    let _ = writeln!(out, "- {label}: {text}.");
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_page_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules.md");
        if std::env::var_os("ADZE_BLESS").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == page(), "refresh with: ADZE_BLESS=1 cargo test -p adze-compiler rules_page");
    }

    /// A rule that changes nothing anywhere goes, with its cases.
    #[test]
    fn every_rule_is_taken_somewhere() {
        let counts = parse_counts(COUNTS);
        let rules = families().flat_map(|family| family.rules).map(|rule| rule.name);
        let idle: Vec<&str> = rules.filter(|name| counts.get(*name).is_none_or(|counts| counts.taken == 0)).collect();
        assert_eq!(idle, Vec::<&str>::new(), "no graph of the corpus is other than without these");
    }

    #[test]
    fn counts_read_back() {
        let of = |name: &str, fired| (name.to_owned(), Counts { fired, taken: 2, models: 1, won: 77 });
        let counts: BTreeMap<String, Counts> = [of("silu", 3), of("mish", 4)].into();
        let again = parse_counts(&print_counts("two models", &counts));
        assert_eq!(again.len(), families().map(|family| family.rules.len()).sum::<usize>());
        assert_eq!((again["silu"], again["mish"]), (counts["silu"], counts["mish"]));
        assert_eq!(again["hard-swish"], Counts::default());
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
    }
}

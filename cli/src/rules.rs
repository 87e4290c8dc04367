//! `adze rules`.

use adze_compiler::Error;
use adze_compiler::catalog;
use clap::Args;

use crate::diag::Failure;
use crate::io::print;

/// Arguments of `rules`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  adze rules                       every family and rule
  adze rules scale-into-conv       one rule in full: all left sides, why it is sound, why it helps

The page docs/rules.md says for each rule how often it applies to a corpus and what it wins there.")]
pub struct RulesArgs {
    /// A rule, printed in full
    name: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// [`Error::Options`] for an unknown rule.
pub fn rules(args: &RulesArgs) -> Result<(), Failure> {
    let Some(name) = &args.name else {
        print(&catalog::list());
        return Ok(());
    };
    let Some((family, rule)) = catalog::find(name) else {
        let near = catalog::similar(name);
        let near = if near.is_empty() { "see `adze rules`".to_owned() } else { near.join(", ") };
        return Err(Error::Options(format!("rule: found `{name}`, accepted: {near}")).into());
    };
    print(&catalog::record(family, rule, &catalog::parse_counts(catalog::COUNTS)));
    Ok(())
}

//! The `adze` command: arguments and rendering of diagnostics, nothing else.

mod args;
mod bench;
mod bug;
mod check;
mod compile;
mod diag;
mod explain;
mod fit;
mod html;
mod io;
mod layers;
mod npu;
mod opt;
mod quantize;
mod report;
mod roofline;
mod rules;
mod run;
mod show;
mod targets;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use diag::{Failure, MessageFormat};

/// Ahead-of-time compiler from ONNX models to code for edge devices.
///
/// Exit codes: 0 all is well; 1 broken model, data or I/O; 2 wrong arguments; 3 a comparison over its threshold;
/// 77 valid but not supported yet; 70 a bug of adze.
#[derive(Parser)]
#[command(
    name = "adze",
    version,
    max_term_width = 120,
    after_help = "\
Start here:
  adze compile model.onnx --target x86_64-linux -o out/   compile
  adze run model.onnx --input in.npz --top 5              run on this machine
  adze check model.onnx --case recorded.npz               compare with recorded outputs
  adze quantize model.onnx --calib data.npz -o int8.onnx  make it small
  adze fit model.onnx --arena 256k                        does it fit, and why not"
)]
struct Cli {
    /// How diagnostics are written to standard error
    #[arg(long, global = true, value_enum, default_value_t = MessageFormat::Text)]
    message_format: MessageFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile a model to an object, a static library, a C header and a manifest
    Compile(compile::CompileArgs),
    /// Go on from the text of a stage: run passes by name, or all that is left down to a package
    Opt(opt::OptArgs),
    /// Run a model on inputs and print or write its outputs
    Run(run::RunArgs),
    /// Make a float model an integer one, from samples of its inputs
    Quantize(quantize::QuantizeArgs),
    /// Print a model at any stage, a node's neighbourhood, operator counts or the memory plan
    Show(show::ShowArgs),
    /// Say why a node became what it became: rewrites, alternatives with costs, what later passes did
    Explain(explain::ExplainArgs),
    /// Compare compiled code with recorded outputs or the interpreter, per output and per node
    Check(check::CheckArgs),
    /// Say what a model takes on each target and what would make it fit; writes nothing
    Fit(fit::FitArgs),
    /// Report what a build costs, as stable text or JSON
    Report(report::ReportArgs),
    /// List the commands of a package for a neural processor, or of the package that a model would become
    Disasm(npu::DisasmArgs),
    /// Compare two reports
    Diff(report::DiffArgs),
    /// Time a compiled model on this machine
    Bench(bench::BenchArgs),
    /// List the machines that code can be made for
    Targets,
    /// List the rewrite rules, or print one in full
    Rules(rules::RulesArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match bug::guard(|| run_command(&cli.command)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.report(cli.message_format),
        Err(panic) => Failure::from(adze_compiler::Error::Bug(panic)).report(cli.message_format),
    }
}

fn run_command(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Quantize(args) => quantize::quantize(args),
        Command::Show(args) => show::show(args),
        Command::Explain(args) => explain::explain(args),
        Command::Check(args) => check::check(args),
        Command::Compile(args) => compile::compile(args),
        Command::Opt(args) => opt::opt(args),
        Command::Fit(args) => fit::fit(args),
        Command::Report(args) => report::report(args),
        Command::Disasm(args) => npu::disasm(args),
        Command::Diff(args) => report::diff(args),
        Command::Bench(args) => bench::bench(args),
        Command::Rules(args) => rules::rules(args),
        Command::Targets => {
            targets::targets();
            Ok(())
        }
    }
}

//! The `adze` command: arguments and rendering of diagnostics, nothing else.

mod args;
mod bench;
mod check;
mod compile;
mod diag;
mod io;
mod opt;
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
#[command(name = "adze", version, max_term_width = 120)]
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
    /// Print a model after import
    Show(show::ShowArgs),
    /// Compare a model's outputs with recorded ones
    Check(check::CheckArgs),
    /// Time a compiled model on this machine
    Bench(bench::BenchArgs),
    /// List the machines that code can be made for
    Targets,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result: Result<(), Failure> = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Show(args) => show::show(args),
        Command::Check(args) => check::check(args),
        Command::Compile(args) => compile::compile(args),
        Command::Opt(args) => opt::opt(args),
        Command::Bench(args) => bench::bench(args),
        Command::Targets => {
            targets::targets();
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(cli.message_format),
    }
}

//! `adze compile`.

use std::path::{Path, PathBuf};

use adze_compiler::Error;
use adze_compiler::build::{BuildOptions, build};
use adze_compiler::load::{load, supply_weights};
use adze_compiler::package::{Package, WriteOptions, write_package};
use adze_compiler::replay::write_weights;
use adze_compiler::stage::{Artifact, Stage, Trace};
use adze_ir::graph::State;
use adze_targets::cpu::Machine;
use clap::Args;

use crate::args::ModelArgs;
use crate::diag::Failure;

/// Arguments of `compile`.
#[derive(Args, Debug)]
pub struct CompileArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder for object, static library, header and manifest, written whole or not at all; with --stop-after, the file
    /// for the text (standard output without it)
    #[arg(short, long, value_name = "DIR|FILE", required_unless_present = "stop_after")]
    output: Option<PathBuf>,
    /// Stop after a stage and write its text, for `adze opt`: import, a pass, graph, tile, planned or kernel
    #[arg(long, value_name = "STAGE")]
    stop_after: Option<String>,
    /// With --stop-after: also write the constants that the text names by digest (.npz)
    #[arg(long, value_name = "FILE", requires = "stop_after")]
    weights_out: Option<PathBuf>,
    #[command(flatten)]
    build: BuildArgs,
    /// Also write a Makefile rule that names every file the package depends on
    #[arg(long, value_name = "FILE")]
    depfile: Option<PathBuf>,
    /// Print what was written
    #[arg(short, long)]
    verbose: bool,
}

/// Choices of code generation.
#[derive(Args, Clone, Debug)]
pub struct BuildArgs {
    /// Machine to make code for: see `adze targets`; the default is this machine
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Most threads that may enter a call together
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: u32,
    /// Most bytes of the arena; `k` and `M` stand for KiB and MiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub arena_limit: Option<u64>,
    /// Constant data beyond this many bytes goes to a separate file
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "1024M")]
    pub inline_weights: u64,
}

impl BuildArgs {
    /// The build options.
    ///
    /// # Errors
    /// [`Error::Options`] for an unknown target.
    pub fn options(&self) -> Result<BuildOptions, Error> {
        let machine = match &self.target {
            Some(name) => Machine::from_name(name).map_err(|e| Error::Options(e.to_string()))?,
            None => Machine::host()
                .ok_or_else(|| Error::Options("no code generator for this machine: choose one with --target".into()))?,
        };
        if self.threads == 0 || self.threads > 1024 {
            return Err(Error::Options(format!("--threads: found {}, accepted: 1 to 1024", self.threads)));
        }
        Ok(BuildOptions {
            max_threads: self.threads,
            arena_limit: self.arena_limit,
            inline_weights_limit: usize::try_from(self.inline_weights).unwrap_or(usize::MAX),
            ..BuildOptions::new(machine)
        })
    }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['k', 'K', 'M']) {
        Some(number) if text.ends_with('M') => (number, 1 << 20),
        Some(number) => (number, 1 << 10),
        None => (text, 1),
    };
    let number: u64 = number.parse().map_err(|_| format!("found `{text}`, accepted: a number, then `k` or `M`"))?;
    number.checked_mul(unit).ok_or_else(|| format!("found `{text}`, accepted: less than 2^64 bytes"))
}

/// Adds the states that the command line declares.
///
/// # Errors
/// [`Error::Options`] for names that the model does not have.
pub fn declare_states(graph: &mut adze_ir::graph::Graph, model: &ModelArgs) -> Result<(), Error> {
    for state in &model.states {
        let input = graph.inputs().iter().position(|&v| graph.value(v).name.as_deref() == Some(state.input.as_str()));
        let output = graph.outputs().iter().position(|o| *o.name == *state.output);
        let (Some(input), Some(output)) = (input, output) else {
            let missing =
                if input.is_none() { format!("input `{}`", state.input) } else { format!("output `{}`", state.output) };
            return Err(Error::Options(format!("--state: the model has no {missing}")));
        };
        graph.states.push(State { input, output, append: state.append });
    }
    adze_ir::verify::verify_graph(graph).map_err(|violations| {
        let lines: Vec<String> = violations.iter().map(|v| v.to_string()).collect();
        Error::Options(lines.join("\n"))
    })
}

/// Runs the command.
///
/// # Errors
/// What stopped it; nothing is written then.
pub fn compile(args: &CompileArgs) -> Result<(), Failure> {
    let options = args.build.options()?;
    let mut loaded = load(&args.model.model, &args.model.import_options())?;
    let mut dependencies = loaded.files.clone();
    if let Some(weights) = &args.model.weights {
        supply_weights(&mut loaded.graph, weights)?;
        dependencies.push(weights.clone());
    }
    declare_states(&mut loaded.graph, &args.model)?;
    if let Some(name) = &args.stop_after {
        let stage = Stage::from_name(name)?;
        let imported = Artifact::Graph(Box::new(loaded.graph), 0);
        let artifact = imported.advance(stage, &options, &mut Trace::default())?;
        return Ok(write_stage(&artifact, args.output.as_deref(), args.weights_out.as_deref())?);
    }
    let Some(folder) = &args.output else { return Err(Error::Options("--output: give a folder".into()).into()) };
    let built = build(&loaded.graph, &options)?;
    let write = WriteOptions { depfile: args.depfile.clone(), dependencies };
    if args.verbose {
        for note in &built.notes {
            println!("note: {note}");
        }
    }
    write_files(&built.package, folder, &write, args.verbose)
}

/// Writes the text of a stage to a file or standard output, and its weights if asked for.
///
/// # Errors
/// [`Error`] when a file cannot be written.
pub fn write_stage(artifact: &Artifact, output: Option<&Path>, weights: Option<&Path>) -> Result<(), Error> {
    if let Some(path) = weights {
        write_weights(artifact, path)?;
    }
    let text = artifact.to_string();
    match output {
        Some(path) => std::fs::write(path, text).map_err(|source| Error::Write { path: path.into(), source }),
        None => {
            crate::io::print(&text);
            Ok(())
        }
    }
}

/// Writes a package and lists its files if asked to.
///
/// # Errors
/// [`Error`] when it cannot be written.
pub fn write_files(package: &Package, folder: &Path, write: &WriteOptions, list: bool) -> Result<(), Failure> {
    let files = write_package(package, folder, write).map_err(Error::from)?;
    if list {
        for file in files {
            println!("{}", file.display());
        }
    }
    Ok(())
}

//! `adze compile`.

use std::path::{Path, PathBuf};

use adze_compiler::Error;
use adze_compiler::build::{BuildOptions, fallbacks, finish_after};
use adze_compiler::link::{Linked, link};
use adze_compiler::load::{load, supply_weights};
use adze_compiler::package::{Package, WriteOptions, write_package};
use adze_compiler::replay::write_weights;
use adze_compiler::stage::{Artifact, Stage, Trace};
use adze_ir::graph::{Graph, State};
use adze_ir::quant::Requantize;
use adze_passes::pass::{Optimizer, PassOptions};
use adze_passes::pipeline;
use adze_targets::cpu::{CodegenError, Machine};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use crate::args::ModelArgs;
use crate::diag::Failure;
use crate::opt::print_runs;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emit {
    /// Object and static library
    Object,
    /// Also a shared library, through the system's linker
    Shared,
    /// Also a program that reads raw tensors from files and writes raw outputs, through the system's C compiler
    Exe,
}

/// Arguments of `compile`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  adze compile model.onnx --target x86_64-linux -o out/           object, library, header, manifest
  adze compile model.onnx --target c99 -o out/                    C99 source instead of object and library
  adze compile model.onnx --target bm1684x -o model.bmodel        commands for a neural processor, as one file
  adze compile model.onnx --target bm1684x -o out/                the same, with phases of a CPU for what it does not run
  adze compile model.onnx --cpu x86-64-v2,x86-64-v3,x86-64-v4 -o out/   three versions, chosen by `init`
  adze compile model.onnx --dim batch=1 --dim seq=1..32 -o out/   one object for all lengths up to 32
  adze compile model.onnx --state h=h_out -o out/                 a state that is updated in place
  adze compile model.onnx --emit exe -o out/                      a program that runs the model once
  adze compile model.onnx --stop-after tile -o m.tile --weights-out m.npz
  adze opt m.tile --weights m.npz -o out/                         the same package, from the text")]
pub struct CompileArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder for object and static library (or C99 source), header and manifest, written whole or not at all; with --stop-after, the file
    /// for the text (standard output without it, and for `-`)
    #[arg(short, long, value_name = "DIR|FILE", required_unless_present = "stop_after")]
    output: Option<PathBuf>,
    /// Stop after a stage and write its text, for `adze opt`: import, a pass, graph, tile, planned or kernel
    #[arg(long, value_name = "STAGE")]
    stop_after: Option<String>,
    /// With --stop-after: also write the constants that the text names by digest (.npz)
    #[arg(long, value_name = "FILE", requires = "stop_after")]
    weights_out: Option<PathBuf>,
    /// What to make
    #[arg(long, value_enum, default_value_t = Emit::Object)]
    emit: Emit,
    #[command(flatten)]
    build: BuildArgs,
    #[command(flatten)]
    npu: crate::npu::NpuArgs,
    /// Also write a Makefile rule that names every file the package depends on
    #[arg(long, value_name = "FILE")]
    depfile: Option<PathBuf>,
    /// Compare every region that rules rewrote with what it was, on random inputs through the interpreter, and say what came of
    /// it (standard error)
    #[arg(long)]
    validate: bool,
    /// Print what was written
    #[arg(short, long)]
    verbose: bool,
    /// Print what each pass did, and how long it took, to standard error
    #[arg(long)]
    times: bool,
}

/// What becomes of subnormal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subnormals {
    /// Taken for zeros
    Flush,
    /// Computed
    Keep,
}

/// How the e-graph stage works; for benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimizerArg {
    /// All rules in one e-graph
    Joint,
    /// The same rules one after another, each wherever it matches
    Greedy,
    /// Only batch normalisation, scales and biases into weights; quantized networks compute in floats
    Canonical,
    /// The same, and quantized networks compute in integers
    CanonicalIntegers,
}

/// Choices of code generation.
#[derive(Args, Clone, Debug)]
pub struct BuildArgs {
    /// Machine to make code for: see `adze targets`; the default is this machine
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// CPU to make code for: native, or a name as GCC and LLVM spell it (x86-64-v3, cortex-a53; see `adze targets`). With
    /// several of one architecture the package holds a version for each, and the best one that the CPU runs is chosen once
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub cpu: Vec<String>,
    /// Most threads that may enter a call together
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: u32,
    /// Most bytes of the arena; `k` and `M` stand for KiB and MiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub arena_limit: Option<u64>,
    /// Subnormal numbers (below 1.2e-38 in f32): zeros while the model runs, where the machine can do so, or computed, which
    /// x86 does a hundred times slower
    #[arg(long, value_enum, default_value_t = Subnormals::Flush)]
    pub subnormals: Subnormals,
    /// Constant data beyond this many bytes goes to a separate file
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "1024M")]
    pub inline_weights: u64,
    /// How integer products and convolutions round their results: f32_rne as ONNX means it, or in integers, at most one unit
    /// away, for machines without floats: mulshift_half_up, mulshift_tflite
    #[arg(long, value_name = "CONTRACT", value_parser = parse_contract)]
    pub contract: Option<Requantize>,
    /// How the e-graph stage works
    #[arg(long, value_enum, default_value_t = OptimizerArg::Joint, hide = true)]
    pub optimizer: OptimizerArg,
}

fn parse_contract(text: &str) -> Result<Requantize, String> {
    let accepted = || Requantize::ALL.iter().map(|contract| contract.name()).collect::<Vec<_>>().join(", ");
    Requantize::from_name(text).ok_or_else(|| format!("found `{text}`, accepted: {}", accepted()))
}

impl BuildArgs {
    /// The build options.
    ///
    /// # Errors
    /// [`Error::Options`] for an unknown target or CPU.
    pub fn options(&self) -> Result<BuildOptions, Error> {
        let mut machines = self.machines()?;
        let machine = machines.pop().ok_or_else(|| {
            Error::Options("no code generator for this machine: choose one with --target or --cpu".into())
        })?;
        if self.threads == 0 || self.threads > 1024 {
            return Err(Error::Options(format!("--threads: found {}, accepted: 1 to 1024", self.threads)));
        }
        Ok(BuildOptions {
            fallbacks: machines,
            max_threads: self.threads,
            arena_limit: self.arena_limit,
            flush: self.subnormals == Subnormals::Flush,
            passes: PassOptions {
                optimizer: match self.optimizer {
                    OptimizerArg::Joint => Optimizer::Joint,
                    OptimizerArg::Greedy => Optimizer::Greedy,
                    OptimizerArg::Canonical => Optimizer::Canonical,
                    OptimizerArg::CanonicalIntegers => Optimizer::CanonicalIntegers,
                },
                contract: self.contract,
                ..PassOptions::default()
            },
            inline_weights_limit: usize::try_from(self.inline_weights).unwrap_or(usize::MAX),
            ..BuildOptions::new(machine)
        })
    }

    /// The options for a command that makes code of one version.
    ///
    /// # Errors
    /// [`Error::Options`], also for several CPUs.
    pub fn single(&self) -> Result<BuildOptions, Error> {
        let options = self.options()?;
        if options.fallbacks.is_empty() {
            return Ok(options);
        }
        Err(Error::Options(format!(
            "--cpu: found {}, accepted: one CPU; several are for a package",
            self.cpu.join(", ")
        )))
    }

    /// The machines code is made for, the most demanding one last.
    fn machines(&self) -> Result<Vec<Machine>, Error> {
        let refused = |e: CodegenError| Error::Options(e.to_string());
        let target = self.target.as_deref().map(Machine::from_name).transpose().map_err(refused)?;
        if self.cpu.is_empty() {
            return Ok(target.or_else(Machine::host).into_iter().collect());
        }
        let mut machines: Vec<Machine> =
            self.cpu.iter().map(|cpu| Machine::from_cpu(cpu)).collect::<Result<_, _>>().map_err(refused)?;
        machines.sort_by_key(Machine::rank);
        machines.dedup();
        let arch = target.as_ref().unwrap_or(&machines[0]).arch;
        if let Some(other) = machines.iter().find(|machine| machine.arch != arch) {
            let accepted = target.as_ref().map_or(machines[0].name, |target| target.name);
            return Err(Error::Options(format!(
                "--cpu: found {}, accepted: CPUs of the instruction set of {accepted}",
                other.name
            )));
        }
        Ok(machines)
    }
}

/// A number of bytes, with `k` or `M` for KiB and MiB.
///
/// # Errors
/// What was found and what is accepted.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
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
pub fn declare_states(graph: &mut Graph, model: &ModelArgs) -> Result<(), Error> {
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
    if crate::npu::is_npu(args.build.target.as_deref()) {
        return compile_npu(args);
    }
    args.npu.refuse()?;
    let mut options = args.build.options()?;
    options.passes.validate = args.validate;
    let mut loaded = load(&args.model.model, &args.model.import_options())?;
    let mut dependencies = loaded.files.clone();
    // The text of a stage names its constants; code needs their bytes.
    if args.model.weights.is_some() || args.stop_after.is_none() {
        supply_weights(&mut loaded.graph, args.model.weights.as_deref())?;
    }
    dependencies.extend(args.model.weights.clone());
    declare_states(&mut loaded.graph, &args.model)?;
    if let Some(name) = &args.stop_after {
        let mut options = args.build.single()?;
        options.passes.validate = args.validate;
        let stage = Stage::from_name(name)?;
        let imported = Artifact::Graph(Box::new(loaded.graph), 0);
        let mut trace = Trace::default();
        let artifact = imported.advance(stage, &options, &mut trace)?;
        print_validated(&trace);
        if args.times {
            print_runs(&trace);
        }
        return Ok(write_stage(&artifact, args.output.as_deref(), args.weights_out.as_deref())?);
    }
    let Some(folder) = &args.output else { return Err(Error::Options("--output: give a folder".into()).into()) };
    let mut trace = Trace::default();
    let package = with_progress(loaded.graph, &options, &mut trace)?;
    print_validated(&trace);
    if args.times {
        print_runs(&trace);
    }
    let linked = match args.emit {
        Emit::Object => Vec::new(),
        Emit::Shared => vec![link(&package, &options.machine, Linked::Shared)?],
        Emit::Exe => vec![link(&package, &options.machine, Linked::Executable)?],
    };
    let write = WriteOptions { depfile: args.depfile.clone(), dependencies, linked };
    if args.verbose {
        trace.notes.iter().for_each(|note| println!("note: {note}"));
        trace.report.missed.iter().for_each(|missed| println!("note: {missed}"));
    }
    write_files(&package, folder, &write, args.verbose)
}

/// Says what came of `--validate`.
pub fn print_validated(trace: &Trace) {
    trace.report.validated.iter().for_each(|region| eprintln!("validated: {region}"));
}

/// Compiles for a neural processor; the one stage that has a text is that of phases.
fn compile_npu(args: &CompileArgs) -> Result<(), Failure> {
    let stage = args.stop_after.as_deref();
    if let Some(other) = stage.filter(|stage| *stage != "phases") {
        let accepted = "accepted for a neural processor: phases (`adze disasm` lists commands)";
        return Err(Error::Options(format!("--stop-after: found {other}, {accepted}")).into());
    }
    let refused = args.emit != Emit::Object || args.validate || args.times || args.depfile.is_some();
    let build = &args.build;
    if refused || !build.cpu.is_empty() || build.contract.is_some() || !args.model.states.is_empty() {
        let accepted = "--emit, --cpu, --contract, --depfile, --state, --times, --validate: accepted for a neural processor: \
                        none of them";
        return Err(Error::Options(accepted.into()).into());
    }
    let mut loaded = load(&args.model.model, &args.model.import_options())?;
    supply_weights(&mut loaded.graph, args.model.weights.as_deref())?;
    match (stage, &args.output) {
        (Some(_), file) => {
            let text = adze_compiler::npu::phased::phases(&loaded.graph, args.npu.float())?.to_string();
            Ok(write_text(&text, file.as_deref())?)
        }
        (None, Some(output)) => crate::npu::compile(&loaded.graph, &args.npu, output, args.verbose),
        (None, None) => Err(Error::Options("--output: give a folder or a `.bmodel`".into()).into()),
    }
}

/// Builds a graph, saying on a terminal how far it is. Silent when standard error is none.
fn with_progress(graph: Graph, options: &BuildOptions, trace: &mut Trace) -> Result<Package, Error> {
    let bar = ProgressBar::new_spinner();
    if !options.fallbacks.is_empty() {
        bar.set_message("versions for other CPUs");
        bar.tick();
    }
    let earlier = fallbacks(&graph, options)?;
    let mut artifact = Artifact::Graph(Box::new(graph), 0);
    let passes = (1..=pipeline::DEFAULT.len()).map(|n| (Stage::Graph(n), pipeline::DEFAULT[n - 1]));
    let later = [(Stage::Tile, "lowering"), (Stage::Planned, "planning memory")];
    for (stage, what) in passes.chain(later) {
        bar.set_message(what);
        bar.tick();
        artifact = artifact.advance(stage, options, trace)?;
    }
    bar.set_message("choosing kernels and making code");
    bar.tick();
    let package = finish_after(earlier, artifact, options, trace);
    bar.finish_and_clear();
    package
}

/// Writes the text of a stage to a file or standard output, and its weights if asked for.
///
/// # Errors
/// [`Error`] when a file cannot be written.
pub fn write_stage(artifact: &Artifact, output: Option<&Path>, weights: Option<&Path>) -> Result<(), Error> {
    if let Some(path) = weights {
        write_weights(artifact, path)?;
    }
    write_text(&artifact.to_string(), output)
}

/// Writes a text to a file, or to standard output for none and `-`.
fn write_text(text: &str, output: Option<&Path>) -> Result<(), Error> {
    match output.filter(|path| path.as_os_str() != "-") {
        Some(path) => std::fs::write(path, text).map_err(|source| Error::Write { path: path.into(), source }),
        None => {
            crate::io::print(text);
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

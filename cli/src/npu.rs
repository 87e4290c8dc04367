//! What the commands do for neural processors, and `adze disasm`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use adze_compiler::build::BuildOptions;
use adze_compiler::load::{load, supply_weights};
use adze_compiler::npu::phased::{self, Phased};
use adze_compiler::npu::{report, timeline};
use adze_compiler::package::{WriteOptions, write_folder};
use adze_compiler::{Error, npu};
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_targets::bm1684x::cost;
use adze_targets::bm1684x::isa::Engine;
use adze_targets::bm1684x::profile::events;
use adze_targets::bm1684x::program::Program;
use adze_targets::cpu::Machine;
use clap::Args;

use crate::args::ModelArgs;
use crate::diag::Failure;
use crate::io::print;

/// A type of 16 bits.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FloatType {
    /// IEEE half precision: 11 bits, up to 65,504
    F16,
    /// Brain floats: 8 bits, the range of f32
    Bf16,
}

/// The CPU of the chip itself, which runs Linux.
const HOST: &str = "aarch64-linux";

/// Choices for a neural processor.
#[derive(Args, Debug)]
pub struct NpuArgs {
    /// With --target bm1684x: compute the model's floats in this type of 16 bits. Without it, what computes in 32-bit floats is
    /// refused, but for inputs and outputs of an integer network
    #[arg(long, value_name = "TYPE", value_enum)]
    float: Option<FloatType>,
    /// With --target bm1684x: refuse what the chip does not run, instead of giving it to a CPU
    #[arg(long)]
    no_cpu: bool,
    /// With --target bm1684x: the CPU that runs what the chip does not: see `adze targets`; aarch64-linux, the chip's own, without
    /// it (x86_64-linux for a card in a PC)
    #[arg(long, value_name = "NAME", conflicts_with = "no_cpu")]
    host: Option<String>,
}

impl NpuArgs {
    /// The type, if one was given.
    pub fn float(&self) -> Option<npu::Float> {
        self.float.map(|float| match float {
            FloatType::F16 => npu::Float::F16,
            FloatType::Bf16 => npu::Float::Bf16,
        })
    }

    /// Refuses the options for a target that is no neural processor.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn refuse(&self) -> Result<(), Error> {
        let given = [("--float", self.float.is_some()), ("--no-cpu", self.no_cpu), ("--host", self.host.is_some())];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Error::Options(format!("{option}: accepted with --target bm1684x"))),
            None => Ok(()),
        }
    }

    /// The CPU for phases of it, if there may be some.
    ///
    /// # Errors
    /// [`Error::Options`] for an unknown name.
    pub fn host(&self) -> Result<Option<BuildOptions>, Error> {
        if self.no_cpu {
            return Ok(None);
        }
        let machine = Machine::from_name(self.host.as_deref().unwrap_or(HOST));
        Ok(Some(BuildOptions::new(machine.map_err(|error| Error::Options(format!("--host: {error}")))?)))
    }

    /// A graph in phases.
    fn phased(&self, graph: &Graph, host: Option<BuildOptions>) -> Result<Phased, Error> {
        match host {
            Some(host) => phased::compile(graph, self.float(), &host),
            None => phased::alone(graph, self.float()),
        }
    }
}

/// Whether a target's name is that of a neural processor.
pub fn is_npu(target: Option<&str>) -> bool {
    target == Some(npu::BM1684X)
}

/// Compiles a graph to a file of the chip alone (`.bmodel`), or to a folder that also has what a CPU does.
///
/// # Errors
/// What stopped it; nothing is written then.
pub fn compile(graph: &Graph, args: &NpuArgs, output: &Path, verbose: bool) -> Result<(), Failure> {
    let written = if output.extension().is_some_and(|extension| extension == "bmodel") {
        let phased = phased::alone(graph, args.float()).map_err(|error| match error {
            Error::Unsupported(what) if !args.no_cpu => Error::Unsupported(format!(
                "{what}\na folder as --output takes phases of a CPU for what the chip does not run"
            )),
            error => error,
        })?;
        let bytes = phased.bmodel()?;
        std::fs::write(output, &bytes).map_err(|source| Error::Write { path: output.to_owned(), source })?;
        (phased, vec![(output.to_owned(), bytes.len())])
    } else {
        let phased = args.phased(graph, args.host()?)?;
        let files = phased.files()?;
        let paths = write_folder(&files, output, &WriteOptions::default()).map_err(Error::from)?;
        let sizes = files.iter().map(|(_, bytes)| bytes.len());
        (phased, paths.into_iter().zip(sizes).collect())
    };
    let (phased, files) = written;
    if verbose {
        files.iter().for_each(|(path, bytes)| println!("{}: {bytes} bytes", path.display()));
        for phase in &phased.phases.phases {
            phase.reasons.iter().for_each(|reason| println!("; on the CPU: {reason}"));
        }
        phased.programs().for_each(|program| print(&summary(program)));
    }
    Ok(())
}

/// The outputs of a graph on the simulator of adze or the vendor's, and this machine's CPU.
///
/// # Errors
/// What compiling or running gives.
pub fn outputs(graph: &Graph, args: &NpuArgs, inputs: &[Tensor], vendor: bool) -> Result<Vec<Tensor>, Error> {
    if args.host.is_some() {
        return Err(Error::Options("--host: found one for a run, which is on this machine, accepted: none".into()));
    }
    let host = crate::run::machine(None)?;
    args.phased(graph, (!args.no_cpu).then(|| BuildOptions::new(host)))?.run(inputs, vendor)
}

/// Arguments of `disasm`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  adze disasm m.bmodel                        what the package does, with estimated cycles and the nodes it is for
  adze disasm model.onnx                      compile and list
  adze disasm m.bmodel --timeline m.json      also when, for https://ui.perfetto.dev")]
pub struct DisasmArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    npu: NpuArgs,
    /// Also write when every command runs and which banks of local memory it touches, as trace events in JSON
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
}

/// Lists the commands of a program.
///
/// # Errors
/// What stopped it.
pub fn disasm(args: &DisasmArgs) -> Result<(), Failure> {
    let path = &args.model.model;
    let programs = if path.extension().is_some_and(|extension| extension == "bmodel") {
        npu::open(path)?
    } else {
        let mut loaded = load(path, &args.model.import_options())?;
        supply_weights(&mut loaded.graph, args.model.weights.as_deref())?;
        let phased = args.npu.phased(&loaded.graph, args.npu.host()?)?;
        phased.programs().cloned().collect()
    };
    if let Some(file) = &args.timeline {
        let write = std::fs::write(file, timeline::timeline(&programs.iter().collect::<Vec<_>>()));
        write.map_err(|source| Error::Write { path: file.clone(), source })?;
    }
    programs.iter().for_each(|program| print(&listing(program)));
    Ok(())
}

/// Prints what runs where and what takes how long, by nodes.
///
/// # Errors
/// What compiling gives.
pub fn print_report(graph: &Graph, args: &NpuArgs, json: bool) -> Result<(), Failure> {
    let report = report::report(&args.phased(graph, args.host()?)?);
    match json {
        true => println!("{}", serde_json::to_string_pretty(&report).map_err(|e| Error::Bug(e.to_string()))?),
        false => print(&report.to_string()),
    }
    Ok(())
}

/// What a program takes, and where it is not the model bit for bit.
fn summary(program: &Program) -> String {
    let notes = program.notes.iter().map(|note| format!("; {note}\n")).collect::<String>();
    format!("{}{notes}", sizes(program))
}

/// Cycles, commands, bytes.
fn sizes(program: &Program) -> String {
    let streams = &program.streams;
    let [tiu, gdma] = [(Engine::Tiu, &streams.tiu), (Engine::Gdma, &streams.gdma)]
        .map(|(engine, commands)| (commands.len(), cost::busy(engine, commands)));
    format!(
        "; `{}`: {} estimated cycles; compute {} commands, {} cycles; copies {} commands, {} cycles\n\
         ; {} bytes of constants, {} of inputs and outputs, {} of {} bytes per lane\n",
        program.name,
        program.cycles(),
        tiu.0,
        tiu.1,
        gdma.0,
        gdma.1,
        program.coefficients.len(),
        program.context[1],
        streams.peak_bytes,
        adze_targets::bm1684x::machine::LANE_BYTES,
    )
}

/// The commands of both engines in the order in which they are estimated to start.
fn listing(program: &Program) -> String {
    let mut text = summary(program);
    for port in &program.inputs {
        let _ = writeln!(text, "; input `{}` {}{:?} at {:#x}", port.name, port.dtype, port.shape, port.address);
    }
    for port in &program.outputs {
        let _ = writeln!(text, "; output `{}` {}{:?} at {:#x}", port.name, port.dtype, port.shape, port.address);
    }
    for event in events(program) {
        let names = event.names.iter().map(|name| format!(" `{name}`")).collect::<String>();
        let comment = if names.is_empty() { String::new() } else { format!(" ;{names}") };
        let _ = writeln!(text, "{:>9} {:>9}  {}{comment}", event.span.start, event.span.end, event.command);
    }
    text
}

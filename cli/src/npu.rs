//! What the commands do for neural processors, and `adze disasm`.

use std::fmt::Write as _;
use std::path::Path;

use adze_compiler::load::{load, supply_weights};
use adze_compiler::{Error, npu};
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_targets::bm1684x::cost::{self, Span};
use adze_targets::bm1684x::isa::{Command, Engine};
use adze_targets::bm1684x::program::Program;
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

/// What floats become on a neural processor.
#[derive(Args, Debug)]
pub struct FloatArgs {
    /// With --target bm1684x: compute the model's floats in this type of 16 bits. Without it, what computes in 32-bit floats is
    /// refused, but for inputs and outputs of an integer network
    #[arg(long, value_name = "TYPE", value_enum)]
    float: Option<FloatType>,
}

impl FloatArgs {
    /// The type, if one was given.
    pub fn float(&self) -> Option<npu::Float> {
        self.float.map(|float| match float {
            FloatType::F16 => npu::Float::F16,
            FloatType::Bf16 => npu::Float::Bf16,
        })
    }

    /// Refuses the option for a target that is no neural processor.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn refuse(&self) -> Result<(), Error> {
        match self.float {
            Some(_) => Err(Error::Options("--float: accepted with --target bm1684x".into())),
            None => Ok(()),
        }
    }
}

/// Whether a target's name is that of a neural processor.
pub fn is_npu(target: Option<&str>) -> bool {
    target == Some(npu::BM1684X)
}

/// Compiles a graph to a package of one file.
///
/// # Errors
/// What stopped it; nothing is written then.
pub fn compile(graph: &Graph, float: &FloatArgs, file: &Path, verbose: bool) -> Result<(), Failure> {
    let program = npu::compile(graph, float.float())?;
    let bytes = npu::package(&program)?;
    std::fs::write(file, &bytes).map_err(|source| Error::Write { path: file.to_owned(), source })?;
    if verbose {
        println!("{}: {} bytes", file.display(), bytes.len());
        print(&summary(&program));
    }
    Ok(())
}

/// The outputs of a graph on the simulator of adze or the vendor's.
///
/// # Errors
/// What compiling or running gives.
pub fn outputs(graph: &Graph, float: &FloatArgs, inputs: &[Tensor], vendor: bool) -> Result<Vec<Tensor>, Error> {
    let program = npu::compile(graph, float.float())?;
    if vendor { npu::run_vendor(&program, inputs) } else { npu::run(&program, inputs) }
}

/// Arguments of `disasm`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  adze disasm m.bmodel        what the package does, with estimated cycles
  adze disasm model.onnx      compile and list; with the nodes that commands are for")]
pub struct DisasmArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    float: FloatArgs,
}

/// Lists the commands of a program.
///
/// # Errors
/// What stopped it.
pub fn disasm(args: &DisasmArgs) -> Result<(), Failure> {
    let path = &args.model.model;
    let program = if path.extension().is_some_and(|extension| extension == "bmodel") {
        npu::open(path)?
    } else {
        let mut loaded = load(path, &args.model.import_options())?;
        supply_weights(&mut loaded.graph, args.model.weights.as_deref())?;
        npu::compile(&loaded.graph, args.float.float())?
    };
    print(&listing(&program));
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
    let streams = &program.streams;
    let [tiu, gdma] = cost::timeline(&streams.tiu, &streams.gdma);
    let mut lines: Vec<(Span, &Command, String)> = Vec::new();
    let sides = [(&streams.tiu, tiu, &streams.tiu_names), (&streams.gdma, gdma, &streams.gdma_names)];
    for (commands, spans, names) in sides {
        for (index, (command, span)) in commands.iter().zip(spans).enumerate() {
            let names = names.get(index).map_or(&[][..], Vec::as_slice);
            let names = names.iter().map(|name| format!(" `{name}`")).collect::<String>();
            lines.push((span, command, names));
        }
    }
    lines.sort_by_key(|(span, command, _)| (span.start, command.engine(), command.id));
    let mut text = summary(program);
    for port in &program.inputs {
        let _ = writeln!(text, "; input `{}` {}{:?} at {:#x}", port.name, port.dtype, port.shape, port.address);
    }
    for port in &program.outputs {
        let _ = writeln!(text, "; output `{}` {}{:?} at {:#x}", port.name, port.dtype, port.shape, port.address);
    }
    for (span, command, names) in lines {
        let comment = if names.is_empty() { String::new() } else { format!(" ;{names}") };
        let _ = writeln!(text, "{:>9} {:>9}  {command}{comment}", span.start, span.end);
    }
    text
}

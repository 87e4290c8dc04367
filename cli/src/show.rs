//! `adze show`.

use std::fmt::Write as _;

use adze_compiler::Error;
use adze_compiler::load::{load, supply_weights};
use adze_compiler::replay::read_stage;
use adze_compiler::stage::{Artifact, Stage, Trace};
use adze_ir::graph::Graph;
use adze_ir::text::Spelling as _;
use adze_ir::tile::Program;
use adze_targets::cpu::Machine;
use adze_targets::cpu::emit::Emitter;
use adze_targets::cpu::module::Module;
use clap::Args;

use crate::args::ModelArgs;
use crate::compile::{BuildArgs, declare_states};
use crate::diag::Failure;
use crate::io::print;

/// Arguments of `show`.
#[derive(Args, Debug)]
#[command(after_help = "\
Stages:
  import    the graph as it was read           memory    the memory plan, a bar per buffer
  PASS      the graph after that pass          kernel    vector kernels and the steps that call them
  graph     the graph after all passes         clif      kernels as Cranelift's input
  tile      loops, buffers, leaves             asm       kernels as the target's instructions
  planned   the same with every buffer placed

Examples:
  adze show model.onnx --ops                             how many of which operator
  adze show model.onnx --stage graph --node conv1        what became of a node, and its neighbours
  adze show model.onnx --stage memory                    who is alive when, and where")]
pub struct ShowArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    build: BuildArgs,
    /// What to show: import, a pass, graph, tile, planned, memory, kernel, clif or asm
    #[arg(long, value_name = "STAGE", default_value = "import")]
    stage: String,
    /// Only nodes whose source name contains this, with what feeds and uses them
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Count operators instead of printing them
    #[arg(long)]
    ops: bool,
}

/// Runs the command.
///
/// # Errors
/// What stopped it.
pub fn show(args: &ShowArgs) -> Result<(), Failure> {
    let (stage, code) = match args.stage.as_str() {
        "clif" | "asm" => (Stage::Kernel, Some(args.stage == "asm")),
        name => (Stage::from_name(name)?, None),
    };
    // An import alone needs no machine that code can be made for.
    let machine = if stage == Stage::Graph(0) && args.build.target.is_none() { Machine::host() } else { None };
    let options = match machine {
        Some(machine) => adze_compiler::build::BuildOptions::new(machine),
        None => args.build.single()?,
    };
    let mut trace = Trace::default();
    let artifact = start(args, &options.machine)?;
    if artifact.stage() > stage {
        return Err(
            Error::Options(format!("`{}` is beyond `{}` already", args.model.model.display(), args.stage)).into()
        );
    }
    let artifact = artifact.advance(stage, &options, &mut trace)?;
    let text = match (&artifact, code) {
        (_, None) if args.ops => count(&artifact),
        (Artifact::Graph(graph, _), _) => match &args.node {
            Some(name) => neighbourhood(&graph.compact(), name),
            None => graph.compact().to_string(),
        },
        (Artifact::Tile(program), _) => program_text(program, args.node.as_deref()),
        (Artifact::Planned(program), _) if args.stage == "memory" => memory(program, &trace),
        (Artifact::Planned(program), _) => program_text(program, args.node.as_deref()),
        (Artifact::Kernel(module), None) => match &args.node {
            Some(name) => lines_with(&module.to_string(), name),
            None => module.to_string(),
        },
        (Artifact::Kernel(module), Some(asm)) => machine_code(module, &options.machine, asm, args.node.as_deref())?,
    };
    if let Some(name) = args.node.as_ref().filter(|_| text.is_empty()) {
        return Err(
            Error::Options(format!("--node: no source name at stage `{}` contains `{name}`", args.stage)).into()
        );
    }
    print(&text);
    Ok(())
}

/// The model, or the text of a later stage.
fn start(args: &ShowArgs, machine: &Machine) -> Result<Artifact, Error> {
    let path = &args.model.model;
    if path.extension().is_some_and(|e| e == "tile" || e == "kernel") {
        let mut artifact = read_stage(path, machine)?;
        if args.model.weights.is_some() {
            adze_compiler::replay::supply(&mut artifact, args.model.weights.as_deref())?;
        }
        return Ok(artifact);
    }
    let mut loaded = load(path, &args.model.import_options())?;
    if args.model.weights.is_some() {
        supply_weights(&mut loaded.graph, args.model.weights.as_deref())?;
    }
    declare_states(&mut loaded.graph, &args.model)?;
    Ok(Artifact::Graph(Box::new(loaded.graph), 0))
}

/// How many of which operator, leaf or kernel.
fn count(artifact: &Artifact) -> String {
    let mut counts: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    let mut add = |name: &str| *counts.entry(name.to_owned()).or_insert(0) += 1;
    match artifact {
        Artifact::Graph(graph, _) => graph.compact().nodes().for_each(|(_, node)| add(node.op.spelling())),
        Artifact::Tile(program) | Artifact::Planned(program) => {
            program.for_each_leaf(&mut |leaf| add(leaf.op.spelling()));
        }
        Artifact::Kernel(module) => module.kernels.iter().for_each(|kernel| add(&kernel.name)),
    }
    let mut out = String::new();
    for (name, count) in counts {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{count:6} {name}");
    }
    out
}

/// The lines of the text form whose node, or a direct neighbour of it, carries the name.
fn neighbourhood(graph: &Graph, name: &str) -> String {
    let hit = |node: &adze_ir::graph::Node| node.loc.names().iter().any(|n| n.contains(name));
    let mut shown = std::collections::BTreeSet::new();
    for (id, node) in graph.nodes() {
        let uses_hit = node.inputs.iter().flatten().any(|&v| graph.producer(v).is_some_and(|(_, p)| hit(p)));
        if hit(node) || uses_hit {
            shown.insert(id);
        }
        if hit(node) {
            shown.extend(node.inputs.iter().flatten().filter_map(|&v| graph.producer(v).map(|(id, _)| id)));
        }
    }
    let text = graph.to_string();
    let lines: Vec<&str> = text.lines().collect();
    let first = 1 + graph.inputs().len();
    let nodes = graph.nodes().enumerate().filter(|(_, (id, _))| shown.contains(id));
    nodes.filter_map(|(position, _)| Some(format!("{}\n", lines.get(first + position)?))).collect()
}

fn program_text(program: &Program, node: Option<&str>) -> String {
    let text = program.to_string();
    node.map_or_else(|| text.clone(), |name| lines_with(&text, name))
}

/// The lines whose source names contain a name.
fn lines_with(text: &str, name: &str) -> String {
    let hit = |line: &&str| line.split_once(" loc(").is_some_and(|(_, names)| names.contains(name));
    text.lines().filter(hit).map(|line| format!("{}\n", line.trim_start())).collect()
}

/// Columns of the picture of a memory plan.
const WIDTH: u32 = 60;

/// The plan as a table with a bar per buffer: columns are the steps of the program, `#` where the buffer is alive.
fn memory(program: &Program, trace: &Trace) -> String {
    let mut out = String::new();
    for memory in &trace.plan.memories {
        let last = memory.buffers.iter().map(|b| b.last).max().unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "memory {}: {} bytes ({} KiB), no plan takes less than {} bytes; steps 0..={last}",
            memory.memory,
            memory.bytes,
            memory.bytes.unsigned_abs().div_ceil(1024),
            memory.bound
        );
        let column = |step: u32| u64::from(step) * u64::from(WIDTH - 1) / u64::from(last.max(1));
        for b in &memory.buffers {
            let (from, to) = (column(b.first), column(b.last));
            let bar: String = (0..u64::from(WIDTH)).map(|c| if (from..=to).contains(&c) { '#' } else { '.' }).collect();
            let ty = program.buffers[b.buffer].ty();
            let _ = writeln!(out, "  {:>9} +{:<9} {bar} {} {} {ty}", b.offset, b.size, b.buffer, b.name);
        }
    }
    out
}

/// Every kernel as Cranelift sees it or as instructions.
fn machine_code(module: &Module, machine: &Machine, asm: bool, only: Option<&str>) -> Result<String, Error> {
    let mut emitter = Emitter::new(machine).map_err(|e| Error::Bug(e.to_string()))?;
    let mut out = String::new();
    for kernel in module.kernels.iter().filter(|k| only.is_none_or(|name| k.name.contains(name))) {
        let code = if asm { emitter.asm(kernel) } else { emitter.clif(kernel).map(|func| func.to_string()) };
        let code = code.map_err(|e| Error::Unsupported(e.to_string()))?;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "; kernel @{}\n{code}", kernel.name);
    }
    Ok(out)
}

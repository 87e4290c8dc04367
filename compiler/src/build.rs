//! Building a model: graph → passes → tile program → memory plan → machine code → package.

use std::path::PathBuf;

use adze_ir::graph::Graph;
use adze_ir::propose::PlainMachine;
use adze_ir::tile::{Binding, Program, Role};
use adze_ir::types::TensorType;
use adze_ir::verify::verify_program;
use adze_passes::lower::{LowerOptions, lower};
use adze_passes::memory::{Plan, plan};
use adze_passes::pass::{PassError, PassOptions};
use adze_passes::pipeline::{self, Report, Runner};
use adze_targets::cpu::Machine;
use adze_targets::cpu::backend::{self, BackendError, CodeObject, CodegenOptions};

use crate::error::Error;
use crate::package::{self, Dim, MANIFEST_VERSION, Manifest, NodeInfo, Package, Phase, StateInfo, TensorInfo};

/// Choices of a build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Machine code is made for.
    pub machine: Machine,
    /// Most threads that may enter a call together.
    pub max_threads: u32,
    /// Constant data beyond this many bytes goes to a separate file.
    pub inline_weights_limit: usize,
    /// Most bytes of the arena.
    pub arena_limit: Option<u64>,
}

impl BuildOptions {
    /// Defaults for a machine: one thread, up to 1 GB of constants in the object.
    pub fn new(machine: Machine) -> Self {
        Self { machine, max_threads: 1, inline_weights_limit: 1 << 30, arena_limit: None }
    }
}

/// A built model.
#[derive(Clone, Debug)]
pub struct Built {
    /// The planned program.
    pub program: Program,
    /// Its memory plan.
    pub plan: Plan,
    /// What was missed on the way, for reports.
    pub notes: Vec<String>,
    /// What is written or run.
    pub package: Package,
}

/// Runs the pipeline of passes, or the part of it up to a pass.
///
/// # Errors
/// [`Error::Options`] for an unknown pass, [`Error::Bug`] for what a pass breaks.
pub fn optimise(graph: &Graph, stop_after: Option<&str>) -> Result<(Graph, Report), Error> {
    let mut graph = graph.clone();
    let options = PassOptions::default();
    let runner = Runner { options: &options, costs: &PlainMachine, verify: true, stop_after };
    let report = runner.run(&mut graph, pipeline::DEFAULT, &mut |_, _| {}).map_err(|error| match error {
        PassError::Unknown { .. } => Error::Options(error.to_string()),
        _ => Error::Bug(error.to_string()),
    })?;
    Ok((graph, report))
}

/// Builds a graph.
///
/// # Errors
/// [`Error`] when a node has no kernel, memory does not suffice or an invariant is broken.
pub fn build(graph: &Graph, options: &BuildOptions) -> Result<Built, Error> {
    let (graph, report) = optimise(graph, None)?;
    let lowered = lower(&graph, LowerOptions::default()).map_err(|e| Error::Unsupported(e.to_string()))?;
    let mut program = lowered.program;
    let plan = plan(&mut program).map_err(|e| Error::Options(e.to_string()))?;
    verify_program(&program).map_err(|violations| {
        let lines: Vec<String> = violations.iter().map(|v| format!("  {v}")).collect();
        Error::Bug(format!("the tile program is broken after planning:\n{}", lines.join("\n")))
    })?;
    let symbol = format!("adze_{}", package::c_identifier(&program.name));
    let codegen =
        CodegenOptions { symbol, max_threads: options.max_threads, inline_weights_limit: options.inline_weights_limit };
    let code = backend::compile(&program, &options.machine, &codegen).map_err(|error| match error {
        BackendError::Unsupported(_) => Error::Unsupported(error.to_string()),
        other => Error::Bug(other.to_string()),
    })?;
    if let Some(limit) = options.arena_limit.filter(|limit| code.arena_bytes > *limit) {
        return Err(Error::Options(format!("the arena takes {} bytes, the limit is {limit}", code.arena_bytes)));
    }
    let package = package_of(&program, code, &options.machine);
    let missed = report.missed.iter().map(ToString::to_string);
    let notes = lowered.notes.into_iter().chain(missed).collect();
    Ok(Built { program, plan, notes, package })
}

fn package_of(program: &Program, code: CodeObject, machine: &Machine) -> Package {
    let name = package::c_identifier(&program.name);
    let of_role = |bindings: &[Binding], pick: &dyn Fn(&Role) -> bool| -> Vec<TensorInfo> {
        let chosen = bindings.iter().filter(|b| pick(&program.buffers[program.root(b.view.buffer)].role));
        chosen.map(|b| tensor_info(program, b)).collect()
    };
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: name.clone(),
        target: machine.triple.to_string(),
        cpu: machine.name.to_owned(),
        dims: program.dims.iter().map(|(n, r)| Dim { name: n.to_string(), lo: r.lo, hi: r.hi }).collect(),
        inputs: of_role(&program.inputs, &|r| matches!(r, Role::Input(_))),
        outputs: of_role(&program.outputs, &|r| !matches!(r, Role::State(_))),
        states: program.states.iter().map(|s| state_info(program, s)).collect(),
        arena_bytes: code.arena_bytes,
        weights_bytes: code.weights_bytes,
        weights_file: if code.weights.is_some() { format!("{name}.weights") } else { String::new() },
        phases: vec![Phase { device: "cpu".into(), entry: format!("adze_{name}_step") }],
        nodes: code
            .steps
            .iter()
            .map(|(kernel, loc)| NodeInfo {
                kernel: kernel.clone(),
                source: loc.names().iter().map(|n| n.to_string()).collect(),
            })
            .collect(),
    };
    Package { manifest, object: code.object, weights: code.weights }
}

fn tensor_info(program: &Program, binding: &Binding) -> TensorInfo {
    let buffer = &program.buffers[binding.view.buffer];
    let ty = TensorType::new(buffer.dtype, binding.view.sizes.clone());
    TensorInfo {
        name: binding.name.to_string(),
        dtype: buffer.dtype.to_string(),
        shape: binding.view.sizes.iter().map(|e| e.to_string()).collect(),
        max_bytes: u64::try_from(ty.max_bytes(&program.dims)).unwrap_or(0),
        quantization: String::new(),
    }
}

fn state_info(program: &Program, state: &adze_ir::graph::State) -> StateInfo {
    let before = &program.inputs[state.input];
    let buffer = &program.buffers[program.root(before.view.buffer)];
    StateInfo {
        before: Some(tensor_info(program, before)),
        after: program.outputs[state.output].name.to_string(),
        appends: state.append.is_some(),
        axis: state.append.map_or(0, |a| u32::try_from(a.axis).unwrap_or(u32::MAX)),
        capacity: state.append.map_or(0, |a| a.capacity),
        bytes: u64::try_from(buffer.bytes().upper(&program.dims)).unwrap_or(0),
    }
}

/// Files that a build reads, for `--depfile`.
pub type Dependencies = Vec<PathBuf>;

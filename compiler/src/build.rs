//! Building a model: graph → passes → tile program → memory plan → machine code → package.

use std::path::PathBuf;

use adze_ir::extent::Dims;
use adze_ir::graph::{Graph, State};
use adze_ir::tile::Program;
use adze_passes::memory::Plan;
use adze_passes::pass::PassOptions;
use adze_targets::cpu::backend::{self, BackendError, CodeObject};
use adze_targets::cpu::driver::{Base, Step};
use adze_targets::cpu::module::{Module, Port};
use adze_targets::cpu::{CodegenError, Machine};

use crate::error::Error;
use crate::package::{self, Dim, MANIFEST_VERSION, Manifest, NodeInfo, Package, Phase, StateInfo, TensorInfo};
use crate::stage::{Artifact, Stage, Trace, to_kernels};

/// Choices of a build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Machine code is made for; the most demanding one where there are several.
    pub machine: Machine,
    /// Less demanding machines of the same instruction set that the package also has code for, the least demanding first.
    pub fallbacks: Vec<Machine>,
    /// Most threads that may enter a call together.
    pub max_threads: u32,
    /// Constant data beyond this many bytes goes to a separate file.
    pub inline_weights_limit: usize,
    /// Most bytes of the arena.
    pub arena_limit: Option<u64>,
    /// Subnormal numbers are taken for zeros, where the machine can do so.
    pub flush: bool,
    /// Options of the passes.
    pub passes: PassOptions,
}

impl BuildOptions {
    /// Defaults for a machine: one thread, up to 1 GB of constants in the object.
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            fallbacks: Vec::new(),
            max_threads: 1,
            inline_weights_limit: 1 << 30,
            arena_limit: None,
            flush: true,
            passes: PassOptions::default(),
        }
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

/// Builds a graph.
///
/// # Errors
/// [`Error`] when a node has no kernel, memory does not suffice or an invariant is broken.
pub fn build(graph: &Graph, options: &BuildOptions) -> Result<Built, Error> {
    let mut trace = Trace::default();
    let earlier = fallbacks(graph, options)?;
    let imported = Artifact::Graph(Box::new(graph.clone()), 0);
    let planned = imported.advance(Stage::Planned, options, &mut trace)?;
    let Artifact::Planned(program) = &planned else {
        return Err(Error::Bug("planning gives a planned program".into()));
    };
    let program = (**program).clone();
    let package = finish_after(earlier, planned, options, &mut trace)?;
    let missed = trace.report.missed.iter().map(ToString::to_string);
    let notes = trace.notes.iter().cloned().chain(missed).collect();
    Ok(Built { program, plan: trace.plan, notes, package })
}

/// A version of a model and the machine it is for.
pub type Version = (Module, Machine);

/// The versions for [`BuildOptions::fallbacks`], to go before what [`finish_after`] is given.
///
/// # Errors
/// As [`build`].
pub fn fallbacks(graph: &Graph, options: &BuildOptions) -> Result<Vec<Version>, Error> {
    let mut versions: Vec<Version> = Vec::new();
    for machine in &options.fallbacks {
        let own = BuildOptions { machine: machine.clone(), fallbacks: Vec::new(), ..options.clone() };
        let imported = Artifact::Graph(Box::new(graph.clone()), 0);
        let planned = imported.advance(Stage::Planned, &own, &mut Trace::default())?;
        let module = module_after(&versions, planned, &own, &mut Trace::default())?;
        versions.push((module, machine.clone()));
    }
    Ok(versions)
}

/// The kernels of a further version, which shares constants with the one before it.
fn module_after(
    earlier: &[Version],
    artifact: Artifact,
    options: &BuildOptions,
    trace: &mut Trace,
) -> Result<Module, Error> {
    let artifact = artifact.advance(Stage::Planned, options, trace)?;
    let shared = earlier.last().map_or(&[][..], |(module, _)| &module.constants);
    let module = match artifact {
        Artifact::Planned(program) => to_kernels(&program, options, shared)?,
        Artifact::Kernel(module) if earlier.is_empty() => *module,
        _ => return Err(Error::Options("a text of kernels is for one CPU".into())),
    };
    let arena = u64::try_from(module.arena_bytes).unwrap_or(u64::MAX);
    match options.arena_limit.filter(|limit| arena > *limit) {
        Some(limit) => Err(Error::Options(format!("the arena takes {arena} bytes, the limit is {limit}"))),
        None => Ok(module),
    }
}

/// Goes on from any stage to a package.
///
/// # Errors
/// As [`build`].
pub fn finish(artifact: Artifact, options: &BuildOptions, trace: &mut Trace) -> Result<Package, Error> {
    finish_after(Vec::new(), artifact, options, trace)
}

/// [`finish`] for a package that also holds earlier versions.
///
/// # Errors
/// As [`build`].
pub fn finish_after(
    mut versions: Vec<Version>,
    artifact: Artifact,
    options: &BuildOptions,
    trace: &mut Trace,
) -> Result<Package, Error> {
    let module = module_after(&versions, artifact, options, trace)?;
    versions.push((module, options.machine.clone()));
    let manifest = manifest_of(&versions);
    let prefix = format!("adze_{}", manifest.name);
    let CodeObject { code, weights, .. } = backend::emit(versions, &prefix).map_err(|error| match error {
        BackendError::Codegen(CodegenError::Versions { .. }) => Error::Options(error.to_string()),
        other => Error::Bug(other.to_string()),
    })?;
    Ok(Package { manifest, code, weights })
}

/// What a package says of itself. The last version is the one with all constants.
fn manifest_of(versions: &[Version]) -> Manifest {
    let (module, machine) = versions.last().expect("a package has a version");
    let name = package::c_identifier(&module.name);
    let dims = module.dims();
    let ports = |ports: &[Port]| -> Vec<TensorInfo> {
        let own = ports.iter().filter(|p| !matches!(p.place, Base::State(_)));
        own.map(|p| tensor_info(p, &dims)).collect()
    };
    let external = module.driver.external_weights;
    let mut nodes = Vec::new();
    versions.iter().for_each(|(version, _)| list_nodes(version, &version.driver.steps, &mut nodes));
    let arena = versions.iter().map(|(version, _)| version.arena_bytes).max().unwrap_or(0);
    Manifest {
        version: MANIFEST_VERSION,
        name: name.clone(),
        target: machine.target(),
        cpu: versions.iter().map(|(_, machine)| machine.name).collect::<Vec<_>>().join(","),
        dims: dims.iter().map(|(n, r)| Dim { name: n.to_string(), lo: r.lo, hi: r.hi }).collect(),
        inputs: ports(&module.inputs),
        outputs: ports(&module.outputs),
        states: module.states.iter().map(|(s, bytes)| state_info(module, s, *bytes)).collect(),
        arena_bytes: u64::try_from(arena).unwrap_or(u64::MAX),
        weights_bytes: u64::try_from(module.weights_bytes()).unwrap_or(u64::MAX),
        weights_file: if external { format!("{name}.weights") } else { String::new() },
        phases: vec![Phase { device: "cpu".into(), entry: format!("adze_{name}_step"), ..Phase::default() }],
        nodes,
        tensors: Vec::new(),
    }
}

/// Kernel and source nodes of every call, in order.
fn list_nodes(module: &Module, steps: &[Step], nodes: &mut Vec<NodeInfo>) {
    for step in steps {
        match step {
            Step::For { body, .. } => list_nodes(module, body, nodes),
            Step::Call { kernel, node, .. } => {
                let kernel = module.kernels.get(*kernel).map_or_else(String::new, |k| k.name.clone());
                let source = module.locs.get(*node as usize);
                let source = source.map_or_else(Vec::new, |l| l.names().iter().map(|n| n.to_string()).collect());
                nodes.push(NodeInfo { kernel, source });
            }
        }
    }
}

fn tensor_info(port: &Port, dims: &Dims) -> TensorInfo {
    TensorInfo {
        name: port.name.to_string(),
        dtype: port.ty.dtype.to_string(),
        shape: port.ty.shape.iter().map(|e| e.to_string()).collect(),
        max_bytes: u64::try_from(port.ty.max_bytes(dims)).unwrap_or(0),
        quantization: String::new(),
    }
}

fn state_info(module: &Module, state: &State, bytes: i64) -> StateInfo {
    StateInfo {
        before: module.inputs.get(state.input).map(|port| tensor_info(port, &module.dims())),
        after: module.outputs.get(state.output).map_or_else(String::new, |port| port.name.to_string()),
        appends: state.append.is_some(),
        axis: state.append.map_or(0, |a| u32::try_from(a.axis).unwrap_or(u32::MAX)),
        capacity: state.append.map_or(0, |a| a.capacity),
        bytes: u64::try_from(bytes).unwrap_or(0),
    }
}

/// Files that a build reads, for `--depfile`.
pub type Dependencies = Vec<PathBuf>;

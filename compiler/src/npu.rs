//! Networks for neural processors: the passes that they want, and the package.

pub mod fit;
pub mod phased;
pub mod report;
#[cfg(test)]
mod tests;
pub mod timeline;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_passes::pass::PassOptions;
use adze_targets::bm1684x::isa::Prec;
use adze_targets::bm1684x::program::OpenError;
use adze_targets::bm1684x::{ChipModel, CompileError, Program, RunError};

use crate::error::Error;
use crate::stage::{Trace, run_pass};

/// The target's name.
pub const BM1684X: &str = "bm1684x";

/// Passes before lowering: integer operators, constants evaluated, nothing that a CPU's kernels want. `integers` runs twice: a
/// `quantize` that only the first run moves up can end another operator.
const PASSES: &[&str] =
    &["canonicalize", "integers", "integers", "saturate", "fold-constants", "canonicalize", "dead-code"];

/// What floats become on a neural processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// Half floats.
    F16,
    /// Brain floats.
    Bf16,
}

impl Float {
    /// The type on the chip.
    fn prec(self) -> Prec {
        match self {
            Float::F16 => Prec::Fp16,
            Float::Bf16 => Prec::Bf16,
        }
    }
}

/// Compiles a graph for the BM1684X, with a type of 16 bits for its floats where it has some.
///
/// # Errors
/// [`Error::Unsupported`] names the node, what was found and what would be accepted.
pub fn compile(graph: &Graph, float: Option<Float>) -> Result<Program, Error> {
    Program::compile(&lowered(graph, float)?, float.map(Float::prec)).map_err(compile_error)
}

/// [`compile`] for less local memory than there is: so many bytes per lane.
///
/// # Errors
/// As [`compile`].
pub fn compile_within(graph: &Graph, float: Option<Float>, lane_bytes: u32) -> Result<Program, Error> {
    Program::compile_within(&lowered(graph, float)?, float.map(Float::prec), lane_bytes).map_err(compile_error)
}

/// A graph after the passes that the target wants, chosen by its prices and with its own rules: what the chip computes to the last
/// bit, but for what its page lists.
///
/// # Errors
/// [`Error::Bug`] and what passes give.
pub fn lowered(graph: &Graph, float: Option<Float>) -> Result<Graph, Error> {
    let (mut trace, mut graph) = (Trace::default(), graph.clone());
    let model = ChipModel::new(float.map(Float::prec));
    for pass in passes(float) {
        graph = run_pass(&graph, pass, &PassOptions::default(), &model, &mut trace)?;
    }
    Ok(graph)
}

/// The passes before lowering, in order. Between integers there is nothing for the rules of `saturate` where no floats are made.
pub fn passes(float: Option<Float>) -> Vec<&'static str> {
    PASSES.iter().copied().filter(|pass| *pass != "saturate" || float.is_some()).collect()
}

fn compile_error(error: CompileError) -> Error {
    match error {
        CompileError::Unsupported(unsupported) => Error::Unsupported(unsupported.to_string()),
        CompileError::Bug(what) => Error::Bug(what),
    }
}

/// The bytes of a program's package.
///
/// # Errors
/// [`Error::Bug`].
pub fn package(program: &Program) -> Result<Vec<u8>, Error> {
    program.to_bmodel().map_err(|error| Error::Bug(error.to_string()))
}

/// Reads a package: a program for each of its networks.
///
/// # Errors
/// [`Error::Read`] and [`Error::Options`] for what is none.
pub fn open(path: &Path) -> Result<Vec<Program>, Error> {
    let file = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Program::all_from_bmodel(&file).map_err(|error: OpenError| match error {
        OpenError::Decode { .. } => Error::Unsupported(format!("`{}`: {error}", path.display())),
        error => Error::Values(format!("`{}`: {error}", path.display())),
    })
}

/// Runs a program on the simulator of adze.
///
/// # Errors
/// [`Error::Options`] for inputs that it does not have, [`Error::Bug`] for commands that the simulator refuses.
pub fn run(program: &Program, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    program.run(inputs).map_err(|error| match error {
        RunError::Input { .. } => Error::Options(error.to_string()),
        RunError::Memory(_) => Error::Unsupported(error.to_string()),
        error => Error::Bug(error.to_string()),
    })
}

/// The script that runs a package in the vendor's runtime.
const RUN_BMODEL: &str = include_str!("npu/run_bmodel.py");

/// Where the vendor's libraries are: `$ADZE_TPU_MLIR`, then the cache of `.ci/run`.
///
/// # Errors
/// [`Error::Options`] says where it was looked for.
pub fn vendor_libraries() -> Result<PathBuf, Error> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("ADZE_CACHE").or_else(|| Some(variable("HOME")?.join(".cache/adze")));
    let cached = cache.map(|cache| cache.join("tpu_mlir/wheel/tpu_mlir/lib"));
    let found = variable("ADZE_TPU_MLIR").or(cached).filter(|folder| folder.join("libbmrt.so.1.0").exists());
    found.ok_or_else(|| {
        Error::Options(
            "the vendor's simulator: found none, accepted: ADZE_TPU_MLIR set to `tpu_mlir/lib` of the unpacked PyPI wheel \
             `tpu_mlir` 1.30.2 (x86-64 Linux)"
                .into(),
        )
    })
}

/// Runs a program in the vendor's runtime on the vendor's simulator, in a child process.
///
/// # Errors
/// [`Error::Options`] without the vendor's libraries, [`Error::Link`] when the runtime refuses the program.
pub fn run_vendor(program: &Program, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    run_vendor_file(&package(program)?, program, inputs)
}

/// [`run_vendor`] of a package that may hold other networks too.
fn run_vendor_file(package: &[u8], program: &Program, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let libraries = vendor_libraries()?;
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("adze-vendor-{}-{run}", std::process::id()));
    let result = run_vendor_in([&folder, &libraries], package, program, inputs);
    // What is left of a failed run is of no use to anyone.
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn run_vendor_in(
    [folder, libraries]: [&Path; 2],
    package: &[u8],
    program: &Program,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, Error> {
    let write = |name: &str, bytes: &[u8]| -> Result<PathBuf, Error> {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|source| Error::Write { path: path.clone(), source })?;
        Ok(path)
    };
    std::fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
    let mut command = Command::new("python3");
    command.arg(write("run_bmodel.py", RUN_BMODEL.as_bytes())?).arg(libraries);
    command.arg(write("model.bmodel", package)?).arg(&program.name).current_dir(folder);
    for (index, (tensor, port)) in inputs.iter().zip(&program.inputs).enumerate() {
        let name = format!("in{index}.bin");
        write(&name, tensor.bytes())?;
        let (_, shape) = port.in_package();
        let shape = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        command.arg(format!("{name}:{shape}"));
    }
    command.arg("--");
    let size = |port: &adze_targets::bm1684x::program::Port| port.dtype.bytes_for(port.shape.iter().product());
    for (index, port) in program.outputs.iter().enumerate() {
        command.arg(format!("out{index}.bin:{}", size(port)));
    }
    let output = command.output().map_err(|error| Error::Link(format!("cannot start `python3`: {error}")))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).lines().rev().take(8).map(str::to_owned).collect::<Vec<_>>();
        let said = said.into_iter().rev().collect::<Vec<_>>().join("\n");
        return Err(Error::Link(format!("the vendor's runtime refuses the model ({}):\n{said}", output.status)));
    }
    let read = |(index, port): (usize, &adze_targets::bm1684x::program::Port)| {
        let path = folder.join(format!("out{index}.bin"));
        let bytes = std::fs::read(&path).map_err(|source| Error::Read { path, source })?;
        Tensor::new(port.dtype, port.shape.clone(), bytes).map_err(|error| Error::Link(error.to_string()))
    };
    program.outputs.iter().enumerate().map(read).collect()
}

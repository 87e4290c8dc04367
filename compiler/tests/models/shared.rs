//! The shared models: where they are, what the manifest says, how they are built and run.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use adze_compiler::build::{BuildOptions, Built, build};
use adze_compiler::execute::Executable;
use adze_compiler::load::{load, shapes_of};
use adze_compiler::onnx::{ErrorKind, ImportOptions, InputValue, input_names};
use adze_compiler::{Error, data};
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_targets::cpu::Machine;
use serde::Deserialize;

/// What `manifest.json` says, as far as tests read it.
#[derive(Deserialize)]
struct Manifest {
    models: Vec<Model>,
}

/// A model and its recorded cases.
#[derive(Deserialize)]
pub struct Model {
    /// Name, also the stem of its files.
    pub name: String,
    file: PathBuf,
    pub dynamic: bool,
    pub cases: Vec<Case>,
    #[serde(skip)]
    folder: PathBuf,
}

/// A recorded case.
#[derive(Deserialize)]
pub struct Case {
    pub case: String,
    file: PathBuf,
    /// How far ONNX Runtime's optimised run is from the recorded outputs.
    pub max_abs_diff_ort_optimised: f64,
    /// Multiply-accumulates, where they were counted.
    pub macs: Option<u64>,
}

/// Says what is missing; with `ADZE_REQUIRE` set that is a failure.
pub fn skip(missing: &str) {
    assert!(std::env::var_os("ADZE_REQUIRE").is_none(), "ADZE_REQUIRE is set and this is missing: {missing}");
    eprintln!("skipped: {missing}");
}

/// All models, or nothing (after [`skip`]) when they are not there.
pub fn models() -> Vec<Model> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("ADZE_SHARED").map_or_else(beside, PathBuf::from).join("models");
    let Ok(text) = std::fs::read_to_string(folder.join("manifest.json")) else {
        skip("the shared models (`ADZE_SHARED` or `../shared`)");
        return Vec::new();
    };
    let manifest: Manifest = serde_json::from_str(&text).unwrap();
    manifest.models.into_iter().map(|model| Model { folder: folder.clone(), ..model }).collect()
}

/// One model by name; `None` when the models are not there.
pub fn model(name: &str) -> Option<Model> {
    let models = models();
    let there = !models.is_empty();
    let found = models.into_iter().find(|m| m.name == name);
    assert!(found.is_some() || !there, "the manifest has no `{name}`");
    found
}

impl Model {
    /// Path of the ONNX file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.file)
    }

    /// Inputs and outputs of a recorded case, by position.
    pub fn tensors(&self, case: &Case) -> (Vec<Tensor>, Vec<Tensor>) {
        let tensors: BTreeMap<String, Tensor> =
            data::read(&self.folder.join(&case.file)).unwrap().into_iter().collect();
        let list = |stem: &str| (0..).map_while(|index| tensors.get(&format!("{stem}_{index}")).cloned()).collect();
        (list("in"), list("out"))
    }

    /// The graph for inputs of these shapes, and the inputs it takes.
    ///
    /// Where it can only be imported with its integer scalars known (trip counts, sample rates), these become constants.
    pub fn graph_for(&self, inputs: &[Tensor]) -> Result<(Graph, Vec<Tensor>), Error> {
        let named: Vec<(String, Tensor)> = input_names(&self.path())?.into_iter().zip(inputs.iter().cloned()).collect();
        match self.import(&named, &|_| false) {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.import(&named, &|t| t.dtype().is_int() && t.shape().is_empty())
            }
            other => other,
        }
    }

    fn import(
        &self,
        named: &[(String, Tensor)],
        constant: &dyn Fn(&Tensor) -> bool,
    ) -> Result<(Graph, Vec<Tensor>), Error> {
        let (fixed, free): (Vec<_>, Vec<_>) = named.iter().cloned().partition(|(_, tensor)| constant(tensor));
        let values = fixed.into_iter().map(|(name, tensor)| (name, InputValue::Tensor(tensor))).collect();
        let options = ImportOptions { shapes: shapes_of(&free), values, ..Default::default() };
        let loaded = load(&self.path(), &options)?;
        Ok((loaded.graph, free.into_iter().map(|(_, tensor)| tensor).collect()))
    }
}

/// Builds for the machine the tests run on.
pub fn build_here(graph: &Graph) -> Result<Built, Error> {
    build_with(graph, &BuildOptions::new(host()))
}

/// The machine the tests run on.
pub fn host() -> Machine {
    Machine::host().expect("the tests run on a machine that code can be made for")
}

/// Builds. A panic is an error here, so that it is reported with the model's name.
pub fn build_with(graph: &Graph, options: &BuildOptions) -> Result<Built, Error> {
    catch_unwind(AssertUnwindSafe(|| build(graph, options))).unwrap_or_else(|_| Err(Error::Bug("panic".into())))
}

/// Runs the built object once.
pub fn run(built: &Built, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let executable = Executable::new(built)?;
    let mut call = executable.prepare(inputs)?;
    executable.run(&mut call)?;
    executable.outputs(&mut call)
}

/// Seeded values of the tensors' shapes, within the range of the values they have.
pub fn like(tensors: &[Tensor], random: &mut fastrand::Rng) -> Vec<Tensor> {
    tensors.iter().map(|t| values_like(t, t.shape(), random)).collect()
}

/// Seeded values of another shape, within the range of the values that the tensor has.
pub fn values_like(tensor: &Tensor, shape: &[usize], random: &mut fastrand::Rng) -> Tensor {
    let count: usize = shape.iter().product();
    if tensor.dtype().is_float() {
        let values = tensor.to_f64();
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let (lo, hi) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        // A tensor of zeros (a first state) or of nothing tells no range.
        let (lo, hi) = if lo < hi { (lo, hi) } else { (-1.0, 1.0) };
        let values: Vec<f64> = (0..count).map(|_| lo + random.f64() * (hi - lo)).collect();
        return Tensor::from_f64(tensor.dtype(), shape, &values);
    }
    let values = tensor.to_ints();
    let (lo, hi) = (values.iter().copied().min().unwrap_or(0), values.iter().copied().max().unwrap_or(1));
    let range = i64::try_from(lo).unwrap()..=i64::try_from(hi).unwrap();
    let values: Vec<i128> = (0..count).map(|_| i128::from(random.i64(range.clone()))).collect();
    Tensor::from_ints(tensor.dtype(), shape, &values)
}

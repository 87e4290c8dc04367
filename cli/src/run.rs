//! `adze run`.

use std::path::PathBuf;

use adze_compiler::build::{BuildOptions, build};
use adze_compiler::execute::Executable;
use adze_compiler::load::{load, shapes_of};
use adze_compiler::{Error, data};
use adze_ir::eval::eval_graph;
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_targets::cpu::Machine;
use clap::Args;

use crate::args::ModelArgs;
use crate::diag::Failure;
use crate::io::{InputArgs, complete, write_folder};

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: InputArgs,
    /// Write the outputs to a .npz (or a single one to a .npy or .pb)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the outputs to a folder as `output_0.pb`, `output_1.pb`, ..
    #[arg(long, value_name = "DIR")]
    outputs: Option<PathBuf>,
    /// Print the positions and values of the K largest elements of each output's last axis
    #[arg(long, value_name = "K")]
    top: Option<usize>,
    /// Evaluate with the reference interpreter instead of compiled code
    #[arg(long)]
    interpret: bool,
    /// Machine to make code for, of those that this one can run, or `c99` by way of its C compiler, or `bm1684x` on a simulator
    #[arg(long, value_name = "NAME", conflicts_with = "interpret")]
    target: Option<String>,
    /// With --target bm1684x: in the vendor's runtime on the vendor's simulator, found by ADZE_TPU_MLIR
    #[arg(long, requires = "target")]
    vendor_sim: bool,
    #[command(flatten)]
    npu: crate::npu::NpuArgs,
}

/// Loads a model with open dimensions bound to the shapes of the given inputs.
///
/// # Errors
/// What loading or reading the inputs gives.
pub fn load_bound(model: &ModelArgs, input: &InputArgs) -> Result<(Graph, Vec<Tensor>), Error> {
    let mut options = model.import_options();
    let given = input.read().or_else(|error| {
        // Values of kinds that no supported model has are not broken: say what the model needs.
        load(&model.model, &options)?;
        Err(error)
    })?;
    let names = input_names(model)?;
    let given = given.by_name(&names)?;
    // A folder stands for the whole case: what it lacks is not made up.
    if let Some(folder) = &input.folder {
        let fixed = |name: &String| model.values.iter().any(|(value, _)| value == name);
        let is_given = |name: &String| given.iter().any(|(given, _)| given == name);
        if let Some(index) = names.iter().position(|name| !is_given(name) && !fixed(name)) {
            let name = &names[index];
            return Err(Error::Options(format!("`{}` has no `input_{index}.pb` for input `{name}`", folder.display())));
        }
    }
    for (name, shape) in shapes_of(&given) {
        options.shapes.entry(name).or_insert(shape);
    }
    options.shapes.retain(|name, _| !options.values.contains_key(name));
    let mut loaded = load(&model.model, &options)?;
    adze_compiler::load::supply_weights(&mut loaded.graph, model.weights.as_deref())?;
    let inputs = complete(&loaded.graph, &given, input.seed)?;
    Ok((loaded.graph, inputs))
}

/// Names of the inputs as the model declares them, also those that an option makes constant.
fn input_names(model: &ModelArgs) -> Result<Vec<String>, Error> {
    if model.model.extension().is_some_and(|e| e == "onnx") {
        return Ok(adze_compiler::onnx::input_names(&model.model)?);
    }
    let loaded = load(&model.model, &Default::default())?;
    let name = |&v: &_| loaded.graph.value(v).name.as_deref().unwrap_or_default().to_owned();
    Ok(loaded.graph.inputs().iter().map(name).collect())
}

/// The machine of that name, or this one.
///
/// # Errors
/// [`Error`] for an unknown name, or when there is no code generator for this machine.
pub fn machine(name: Option<&str>) -> Result<Machine, Error> {
    match name {
        Some(name) => Machine::from_name(name).map_err(|e| Error::Options(e.to_string())),
        None => Machine::host().ok_or_else(|| Error::Unsupported("no code generator for this machine".into())),
    }
}

/// The outputs of a graph, from code compiled for a machine, or without one from the interpreter.
///
/// # Errors
/// What building or running gives.
pub fn evaluate(graph: &Graph, inputs: &[Tensor], machine: Option<&Machine>) -> Result<Vec<Tensor>, Error> {
    let Some(machine) = machine else { return Ok(eval_graph(graph, inputs)?) };
    let built = build(graph, &BuildOptions::new(machine.clone()))?;
    let executable = Executable::new(&built)?;
    let mut call = executable.prepare(inputs)?;
    executable.run(&mut call)?;
    executable.outputs(&mut call)
}

/// Runs the command.
///
/// # Errors
/// What stopped it.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let (graph, inputs) = load_bound(&args.model, &args.input)?;
    let outputs = if crate::npu::is_npu(args.target.as_deref()) {
        crate::npu::outputs(&graph, &args.npu, &inputs, args.vendor_sim)?
    } else if args.vendor_sim {
        return Err(Error::Options("--vendor-sim: accepted with --target bm1684x".into()).into());
    } else {
        args.npu.refuse()?;
        let machine = (!args.interpret).then(|| machine(args.target.as_deref())).transpose()?;
        evaluate(&graph, &inputs, machine.as_ref())?
    };
    let names: Vec<String> = graph.outputs().iter().map(|o| o.name.to_string()).collect();
    if let Some(folder) = &args.outputs {
        write_folder(folder, &names, &outputs)?;
    }
    if let Some(file) = &args.output {
        let named: Vec<(String, Tensor)> = names.iter().cloned().zip(outputs.iter().cloned()).collect();
        data::write(file, &named).map_err(Error::from)?;
    }
    for (name, tensor) in names.iter().zip(&outputs) {
        match args.top {
            Some(k) => print_top(name, tensor, k),
            None if args.output.is_none() && args.outputs.is_none() => println!("{name}: {tensor:?}"),
            None => {}
        }
    }
    Ok(())
}

fn print_top(name: &str, tensor: &Tensor, k: usize) {
    let values = tensor.to_f64();
    let row = tensor.shape().last().copied().unwrap_or(1).max(1);
    for (index, values) in values.chunks(row).enumerate() {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        let best: Vec<String> = order.iter().take(k).map(|&i| format!("{i} ({:.6})", values[i])).collect();
        println!("{name}[{index}]: {}", best.join(", "));
    }
}

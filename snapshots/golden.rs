//! Golden tests: one per file of `testdata/`, output in the mirrored folder here. The oracle runs before the snapshot.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use adze_compiler::build::{BuildOptions, Built, build};
use adze_compiler::compare::{Tolerance, compare};
use adze_compiler::execute::Executable;
use adze_compiler::load::load;
use adze_compiler::npu::phased;
use adze_compiler::onnx::ImportOptions;
use adze_compiler::quantize::samples::Samples;
use adze_compiler::quantize::table::Table;
use adze_compiler::quantize::{Options, quantize};
use adze_compiler::stage::{Artifact, Stage, Trace};
use adze_compiler::{Error, data};
use adze_ir::eval::{eval_graph, eval_program};
use adze_ir::exact::{Exactness, NORM_LINEAR, NORM_TRANSCENDENTAL};
use adze_ir::graph::Graph;
use adze_ir::propose::PlainMachine;
use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::text::{parse_graph, parse_program};
use adze_ir::types::DType;
use adze_ir::verify::{verify_graph, verify_program};
use adze_passes::lower::{LowerOptions, lower};
use adze_passes::pass::PassOptions;
use adze_passes::pipeline::{Runner, exactness_of};
use adze_targets::cpu::Machine;
use adze_targets::cpu::backend::Code;
use adze_targets::cpu::c99::{PRELUDE, kernel_function};
use adze_targets::cpu::emit::Emitter;
use adze_targets::cpu::exec::{Buffer, Loaded};
use adze_targets::cpu::kernel::{interp, text, verify};
use adze_targets::cpu::object::ObjectBuilder;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter, GasFormatter, Instruction};

use support::{agree, graph, inputs, lines, snapshot, snapshot_in};

type Outcome = datatest_stable::Result<()>;

/// What compiled code keeps to: other orders of sums, functions as polynomials.
const CODE: Exactness = Exactness::Norm(NORM_LINEAR + NORM_TRANSCENDENTAL);

/// `graph/`: what is printed parses back to the same, and computes the same.
fn round_trip(path: &Path) -> Outcome {
    let graph = graph(&std::fs::read_to_string(path)?)?;
    let printed = graph.to_string();
    let again = support::graph(&printed)?;
    assert_eq!(again.to_string(), printed);
    let inputs = inputs(&graph)?;
    agree("printing", Exactness::Exact, &graph, &eval_graph(&graph, &inputs)?, &eval_graph(&again, &inputs)?);
    Ok(())
}

/// `verify/`: refused, with the words after `// error: ` and on that line. The verifier names the value or node of it.
fn refused(path: &Path) -> Outcome {
    let text = std::fs::read_to_string(path)?;
    let marked: Vec<(usize, &str, &str)> = text
        .lines()
        .enumerate()
        .filter_map(|(at, line)| line.split_once("// error: ").map(|(code, words)| (at + 1, code, words)))
        .collect();
    let [(line, code, words)] = marked[..] else { return Err("one line says `// error: ...`".into()) };
    let message = match parse_graph(&text) {
        Err(error) => {
            assert_eq!(error.pos.line as usize, line, "{error}");
            error.to_string()
        }
        Ok(graph) => {
            let violations = verify_graph(&graph).err().ok_or("the graph verifies")?;
            let message = lines(&violations);
            let words = code.split(|c: char| c.is_whitespace() || "()=,".contains(c));
            let is_name = |w: &&str| w.starts_with(['%', '"']) && w.len() > 1;
            let mut names: Vec<String> = words.clone().filter(is_name).map(|w| w.trim_matches('"').into()).collect();
            names.extend(words.filter(|w| !w.is_empty()).map(|w| format!("`{w}`")));
            let named = message.contains(code.trim()) || names.iter().any(|name| message.contains(name));
            assert!(named, "`{message}` names nothing of line {line}");
            message
        }
    };
    assert!(message.contains(words), "`{message}` does not say `{words}`");
    Ok(())
}

/// Inputs and outputs of a recorded case, by position.
fn recorded(path: &Path) -> Result<(Vec<Tensor>, Vec<Tensor>), Error> {
    let tensors: BTreeMap<String, Tensor> = data::read(path)?.into_iter().collect();
    let list = |stem: &str| (0..).map_while(|index| tensors.get(&format!("{stem}_{index}")).cloned()).collect();
    Ok((list("in"), list("out")))
}

/// `import/`: the imported graph, once it computes what ONNX Runtime recorded.
fn import(path: &Path) -> Outcome {
    let graph = load(path, &ImportOptions::default())?.graph;
    let (inputs, expected) = recorded(&path.with_extension("ort.npz"))?;
    let half =
        graph.nodes().flat_map(|(_, n)| &n.outputs).any(|&v| matches!(graph.ty(v).dtype, DType::F16 | DType::Bf16));
    let tolerance = if half { Tolerance::F16 } else { Tolerance::F32 }.or_zero();
    let found = eval_graph(&graph, &inputs)?;
    assert_eq!(found.len(), expected.len(), "the number of outputs");
    for (found, expected) in found.iter().zip(&expected) {
        let difference = compare(found, expected, tolerance).ok_or("an output of another type")?;
        assert_eq!(difference.beyond, 0, "{difference:?}: {found:?} instead of {expected:?}");
    }
    snapshot(path, &graph.to_string());
    Ok(())
}

/// `passes/`: the graph after the passes of the first line, once it computes the same.
fn passes(path: &Path) -> Outcome {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().next().unwrap_or_default();
    let shape = "the first line is `// run: opt --passes=...`, then perhaps ` --contract ...`";
    let arguments = line.strip_prefix("// run: opt --passes=").ok_or(shape)?;
    let (names, contract) = arguments.split_once(" --contract ").unwrap_or((arguments, ""));
    let names: Vec<&str> = names.split(',').collect();
    let before = graph(&text)?;
    let mut after = before.clone();
    let options = PassOptions { contract: Requantize::from_name(contract), ..PassOptions::default() };
    let runner = Runner { options: &options, costs: &PlainMachine, verify: true, stop_after: None };
    let report = runner.run(&mut after, &names, &mut |_, _| {})?;
    let inputs = inputs(&before)?;
    let (expected, found) = (eval_graph(&before, &inputs)?, eval_graph(&after, &inputs)?);
    agree(line, exactness_of(&names)?, &before, &expected, &found);
    let missed: String = report.missed.iter().map(|m| format!("// missed: {m}\n")).collect();
    snapshot(path, &format!("{missed}{after}"));
    Ok(())
}

/// `lower/`: the tile program, once its interpreter agrees with that of the graph, before and after print and parse.
fn lowering(path: &Path) -> Outcome {
    let graph = graph(&std::fs::read_to_string(path)?)?;
    let lowered = lower(&graph, LowerOptions::default())?;
    let program = lowered.program;
    verify_program(&program).map_err(|violations| lines(&violations))?;
    let inputs = inputs(&graph)?;
    let expected = eval_graph(&graph, &inputs)?;
    agree("lowering", Exactness::Exact, &graph, &expected, &eval_program(&program, &inputs)?);
    let printed = program.to_string();
    let again = parse_program(&printed)?;
    assert_eq!(again.to_string(), printed);
    let notes: String = lowered.notes.iter().map(|note| format!("// note: {note}\n")).collect();
    snapshot(path, &format!("{notes}{printed}"));
    Ok(())
}

fn run_here(graph: &Graph, inputs: &[Tensor]) -> Result<Option<Vec<Tensor>>, Error> {
    let Some(machine) = Machine::host() else { return Ok(None) };
    run(&build(graph, &BuildOptions::new(machine))?, inputs).map(Some)
}

fn run(built: &Built, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let executable = Executable::new(built)?;
    let mut call = executable.prepare(inputs)?;
    executable.run(&mut call)?;
    executable.outputs(&mut call)
}

/// `kernel/*.graph`: kernels and steps for x86-64-v3, once the machine code of this host computes what the interpreter does.
fn kernels(path: &Path) -> Outcome {
    let graph = graph(&std::fs::read_to_string(path)?)?;
    let inputs = inputs(&graph)?;
    if let Some(found) = run_here(&graph, &inputs)? {
        agree("machine code", CODE, &graph, &eval_graph(&graph, &inputs)?, &found);
    }
    let options = BuildOptions::new(Machine::from_name("x86_64-v3")?);
    let imported = Artifact::Graph(Box::new(graph), 0);
    let kernels = imported.advance(Stage::Kernel, &options, &mut Trace::default())?;
    snapshot(path, &kernels.to_string());
    Ok(())
}

/// `kernel/*.graph` as what Cranelift is given for x86-64-v2, once that computes the same.
fn clif(path: &Path) -> Outcome {
    let graph = graph(&std::fs::read_to_string(path)?)?;
    let inputs = inputs(&graph)?;
    let machine = Machine::from_name("x86_64-v2")?;
    let options = BuildOptions::new(machine.clone());
    if cfg!(target_arch = "x86_64") {
        let found = run(&build(&graph, &options)?, &inputs)?;
        agree("code by Cranelift", CODE, &graph, &eval_graph(&graph, &inputs)?, &found);
    }
    let imported = Artifact::Graph(Box::new(graph), 0);
    let Artifact::Kernel(module) = imported.advance(Stage::Kernel, &options, &mut Trace::default())? else {
        return Err("the last stage is that of kernels".into());
    };
    let mut emitter = Emitter::new(&machine)?;
    let mut text = String::new();
    for kernel in &module.kernels {
        text += &format!("; {}\n{}\n", kernel.name, emitter.clif(kernel)?);
    }
    snapshot_in("clif", path, &text);
    Ok(())
}

/// `kernel/*.graph` and `kernel/*.kernel` as C99, without what all files share, once it computes the same.
fn c99(path: &Path) -> Outcome {
    let text = std::fs::read_to_string(path)?;
    if path.extension().is_some_and(|extension| extension == "kernel") {
        // What the function computes is tested on random kernels.
        snapshot_in("c99", path, &kernel_function(&text::parse(&text)?, "kernel")?);
        return Ok(());
    }
    let graph = graph(&text)?;
    let inputs = inputs(&graph)?;
    let built = build(&graph, &BuildOptions::new(Machine::from_name("c99")?))?;
    agree("C", CODE, &graph, &eval_graph(&graph, &inputs)?, &run(&built, &inputs)?);
    let Code::Source(source) = built.package.code else { return Err("no source".into()) };
    let (_, own) = source.split_once(PRELUDE).ok_or("a source without prelude")?;
    snapshot_in("c99", path, own);
    Ok(())
}

/// Room for any array of a kernel in `testdata/kernel`.
const ELEMS: usize = 4096;

/// `kernel/*.kernel`: the innermost loop as x86-64-v3 runs it, once machine code and the interpreter of kernels agree.
fn machine_code(path: &Path) -> Outcome {
    let kernel = text::parse(&std::fs::read_to_string(path)?)?;
    assert_eq!(verify(&kernel), vec![]);
    let memory = |of: usize| -> Vec<u8> {
        let value = |i: usize| ((i * 37 + of) % 101) as f32 / 50.0 - 1.0;
        (0..ELEMS).flat_map(|i| value(i).to_le_bytes()).collect()
    };
    let mut expected: Vec<Vec<u8>> = (0..kernel.params.len()).map(memory).collect();
    let mut found: Vec<Buffer> = expected.iter().map(|bytes| Buffer::from_bytes(bytes)).collect();
    let mut slices: Vec<&mut [u8]> = expected.iter_mut().map(Vec::as_mut_slice).collect();
    interp::run(&kernel, &mut slices, &[], (0, 2), interp::Options::default())?;
    if let Some(machine) = Machine::host().filter(|machine| machine.has_fma) {
        let mut object = ObjectBuilder::new(&machine)?;
        object.add_kernel(&kernel)?;
        let loaded = Loaded::new(&object.finish()?)?;
        assert_eq!(loaded.call_kernel(&kernel.name, &mut found, &[], 0, 2)?, 0);
        for (found, expected) in found.iter_mut().zip(&expected) {
            assert!(found.as_mut() == expected.as_slice(), "machine code and the kernel's interpreter differ");
        }
    }
    let machine = Machine::from_name("x86_64-v3")?;
    let code = Emitter::new(&machine)?.compile(&kernel)?;
    snapshot(path, &listing(&code.bytes)?);
    Ok(())
}

/// The smallest loop with a vector FMA, addresses counted from its start.
fn listing(code: &[u8]) -> Result<String, String> {
    let all: Vec<Instruction> = Decoder::new(64, code, DecoderOptions::NONE).iter().collect();
    let is_fma = |i: &Instruction| format!("{:?}", i.mnemonic()).starts_with("Vfmadd");
    let loops = all.iter().filter(|i| i.flow_control() == FlowControl::ConditionalBranch).filter_map(|branch| {
        let (start, end) = (branch.near_branch_target(), branch.ip());
        let inside = usize::try_from(start).ok().zip(usize::try_from(branch.next_ip()).ok());
        let body: Vec<&Instruction> = all.iter().filter(|i| i.ip() >= start && i.ip() <= end).collect();
        (start < end && body.iter().any(|i| is_fma(i))).then_some((body.len(), inside?))
    });
    let (_, (start, end)) = loops.min().ok_or("no loop with a vector FMA")?;
    let mut text = String::new();
    let mut formatter = GasFormatter::new();
    for instruction in Decoder::new(64, &code[start..end], DecoderOptions::NONE) {
        formatter.format(&instruction, &mut text);
        text.push('\n');
    }
    Ok(text)
}

/// `diag/`: what the user sees of a model that is broken or uses what is not supported.
fn diagnostics(path: &Path) -> Outcome {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let error = load(path, &ImportOptions::default()).err().ok_or("the model is accepted")?;
    let code = error.exit_code();
    assert_eq!(code, if name.starts_with("unsupported_") { 77 } else { 1 }, "exit code of `{error}`");
    let folder = path.parent().and_then(Path::to_str).unwrap_or_default();
    let seen = error.to_string().replace(folder, "testdata/diag");
    snapshot(path, &format!("{}::{:?}, exit code {code}\n{seen}", error.stage(), error.kind()));
    Ok(())
}

/// `quantize/`: a graph with the ranges of the table beside it, which is all that quantization looks at here.
fn quantized(path: &Path) -> Outcome {
    let float = graph(&std::fs::read_to_string(path)?)?;
    let table = Some(Table::read(&path.with_extension("table"))?);
    let options = Options { table, correct_bias: false, search_scales: false, ..Options::default() };
    let build = BuildOptions::new(Machine::host().ok_or("no code generator for this machine")?);
    let found = quantize(&float, &Samples::default(), &options, &build, &mut |_, _, _| {})?;
    verify_graph(&found.graph).map_err(|violations| lines(&violations))?;
    let inputs = inputs(&float)?;
    for (expected, found) in eval_graph(&float, &inputs)?.iter().zip(eval_graph(&found.graph, &inputs)?) {
        let difference = compare(&found, expected, Tolerance::F32).ok_or("an output of another type")?;
        assert!(difference.sqnr > 20.0, "{difference:?}");
    }
    snapshot(path, &format!("{}\n{}\n{}", found.table, lines(&found.left), found.graph));
    Ok(())
}

/// `phases/`: the phases on a neural processor and the CPU, once they compute the same on the simulator and this machine.
fn phases(path: &Path) -> Outcome {
    let graph = graph(&std::fs::read_to_string(path)?)?;
    if let Some(machine) = Machine::host() {
        let inputs = inputs(&graph)?;
        let found = phased::compile(&graph, None, &BuildOptions::new(machine))?.run(&inputs, false)?;
        agree("phases", Exactness::Exact, &graph, &eval_graph(&graph, &inputs)?, &found);
    }
    snapshot(path, &phased::phases(&graph, None)?.to_string());
    Ok(())
}

/// The cases of `testdata/import` whose graphs are worth reading; all of them run in the compiler's tests.
const IMPORTED: &str = concat!(
    r"(^|/)(activations|attention_opset23|average_pool_include_pad_ceil|batch_norm_opset7|clip_opset6_attributes",
    r"|clip_opset11_missing_min|constant_forms|conv_auto_pad_same_lower|conv_bias_asymmetric_pads|conv_transpose_1d_same_upper",
    r"|dropout_identity_inference|dynamic_quantize_matmul_integer|einsum_attention_scores|function_proto|gemm_column_bias_opset7",
    r"|if_constant_condition|layer_normalization_two_axes_no_bias|loop_constant_trip_count",
    r"|pad_opset10_negative|qdq_conv|reduce_axes_input|reshape_zero_minus_one|resize_linear_sizes_half_pixel|shape_arithmetic",
    r"|slice_opset13_negative_step|softmax_opset11_flattens|split_opset18_num_outputs|symbolic_dims_conv)\.onnx$",
);

datatest_stable::harness! {
    { test = round_trip, root = "../testdata/graph", pattern = r"\.graph$" },
    { test = refused, root = "../testdata/verify", pattern = r"\.graph$" },
    { test = import, root = "../testdata/import", pattern = IMPORTED },
    { test = passes, root = "../testdata/passes", pattern = r"\.graph$" },
    { test = lowering, root = "../testdata/lower", pattern = r"\.graph$" },
    { test = kernels, root = "../testdata/kernel", pattern = r"\.graph$" },
    { test = clif, root = "../testdata/kernel", pattern = r"\.graph$" },
    { test = c99, root = "../testdata/kernel", pattern = r"\.(graph|kernel)$" },
    { test = machine_code, root = "../testdata/kernel", pattern = r"\.kernel$" },
    { test = quantized, root = "../testdata/quantize", pattern = r"\.graph$" },
    { test = phases, root = "../testdata/phases", pattern = r"\.graph$" },
    { test = diagnostics, root = "../testdata/diag", pattern = r"\.onnx$" },
}

//! Packages with phases on a neural processor and the CPU, as C: the generated source and the objects, built by the system's C
//! compiler around a caller (`device.c`) whose hooks ask this process for what the simulator computes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use adze_compiler::build::BuildOptions;
use adze_compiler::npu;
use adze_compiler::npu::phased::{self, Phased};
use adze_compiler::package::{WriteOptions, write_folder};
use adze_ir::eval::eval_graph;
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use adze_targets::bm1684x::Program;
use adze_targets::cpu::Machine;

use crate::shared::skip;

/// The caller.
const DEVICE: &str = include_str!("device.c");

fn graph() -> Graph {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/phases/bytes_around_a_running_sum.graph");
    parse_graph(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        std::fs::remove_dir_all(&path).unwrap();
    }
    path
}

/// Builds the caller around a package; none where there is no C compiler.
fn program(phased: &Phased, at: &Path) -> Option<PathBuf> {
    let files = phased.files().unwrap();
    write_folder(&files, at, &WriteOptions::default()).unwrap();
    std::fs::write(at.join("device.c"), DEVICE).unwrap();
    let sources = files.iter().map(|(name, _)| name).filter(|name| name.ends_with(".c") || name.ends_with(".o"));
    let name = &phased.manifest().name;
    let mut cc = Command::new("cc");
    cc.current_dir(at).args([
        "-std=c99",
        "-pedantic",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-O1",
        "-pthread",
        "-o",
        "caller",
    ]);
    cc.args([
        format!("-DHEADER=\"{name}.h\""),
        format!("-DNAME={name}"),
        format!("-DUPPER={}", name.to_ascii_uppercase()),
    ]);
    match cc.arg("device.c").args(sources).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => return None,
    }
    Some(at.join("caller"))
}

/// Runs the caller, doing its jobs.
fn call(phased: &Phased, program: &Path, inputs: &[Tensor], threads: usize) -> Vec<u8> {
    let mut child =
        Command::new(program).arg(threads.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    inputs.iter().for_each(|tensor| to.write_all(tensor.bytes()).unwrap());
    to.flush().unwrap();
    let mut line = String::new();
    while from.read_line(&mut line).unwrap() > 0 {
        if line.trim() == "done" {
            let mut outputs = Vec::new();
            from.read_to_end(&mut outputs).unwrap();
            assert!(child.wait().unwrap().success());
            return outputs;
        }
        let network = line.trim().strip_prefix("job ").unwrap();
        let program = phased.programs().find(|program| program.name == network).unwrap();
        let read = |port: &adze_targets::bm1684x::program::Port| {
            let mut bytes = vec![0; port.dtype.bytes_for(port.shape.iter().product())];
            from.read_exact(&mut bytes).unwrap();
            Tensor::new(port.dtype, port.shape.clone(), bytes).unwrap()
        };
        let inputs: Vec<Tensor> = program.inputs.iter().map(read).collect();
        program.run(&inputs).unwrap().iter().for_each(|tensor| to.write_all(tensor.bytes()).unwrap());
        to.flush().unwrap();
        line.clear();
    }
    panic!("the caller ended early: {}", child.wait().unwrap());
}

/// The package computes in C what the interpreter does, with one thread and with two, from objects and from source.
#[test]
fn phases_from_c() {
    let graph = graph();
    let input = &graph.ty(graph.inputs()[0]).fixed_shape().unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    let bytes = (0..input.iter().product()).map(|_| rng.u8(..)).collect();
    let inputs = [Tensor::new(adze_ir::types::DType::I8, input.clone(), bytes).unwrap()];
    let expected = eval_graph(&graph, &inputs).unwrap();
    let expected: Vec<u8> = expected.iter().flat_map(|tensor| tensor.bytes().to_vec()).collect();
    for machine in [Machine::host(), Machine::from_name("c99").ok()].into_iter().flatten() {
        let host = BuildOptions { max_threads: 2, ..BuildOptions::new(machine) };
        let phased = phased::compile(&graph, None, &host).unwrap();
        assert_eq!(phased.parts.len(), 3, "{}", phased.phases);
        let at = folder(&format!("phases-{}", host.machine.name));
        let Some(program) = program(&phased, &at) else { return skip("a C compiler (`cc`)") };
        for threads in [1, 2] {
            assert_eq!(call(&phased, &program, &inputs, threads), expected, "{}", host.machine.name);
        }
    }
}

/// One file holds the networks of all phases, each of which the vendor's runtime finds there.
#[test]
fn networks_of_phases_are_in_one_file() {
    let Some(machine) = Machine::host() else { return skip("a code generator for this machine") };
    let graph = graph();
    let phased = phased::compile(&graph, None, &BuildOptions::new(machine)).unwrap();
    let read = Program::all_from_bmodel(&phased.bmodel().unwrap()).unwrap();
    assert_eq!(read.len(), 2);
    for (read, made) in read.iter().zip(phased.programs()) {
        assert_eq!(
            (&read.name, &read.streams.tiu, &read.streams.gdma),
            (&made.name, &made.streams.tiu, &made.streams.gdma)
        );
    }
    if npu::vendor_libraries().is_err() {
        return skip("the vendor's libraries (`ADZE_TPU_MLIR`)");
    }
    let bytes = (0..4 * 5 * 6).map(|i| (i * 37) as u8).collect();
    let inputs = [Tensor::new(adze_ir::types::DType::I8, vec![1, 4, 5, 6], bytes).unwrap()];
    assert_eq!(phased.run(&inputs, true).unwrap(), eval_graph(&graph, &inputs).unwrap());
}

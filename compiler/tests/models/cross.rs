//! Cross-compiled objects, linked into a static program without a C library and run by user-mode QEMU, against the
//! recorded cases.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use adze_compiler::build::BuildOptions;
use adze_compiler::compare::{Tolerance, compare};
use adze_compiler::package::{Manifest, Package, header};
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_targets::cpu::Machine;

use crate::shared::{Case, Model, build_with, models, skip};

/// Models that have to pass on each machine.
const BAR: usize = 5;
/// Multiply-accumulates of the largest case that an emulator is given; with `ADZE_ALL` set there is no limit.
const MACS: u64 = 13_000_000;
/// The same of machines that differ in the length of registers only.
const FEW_MACS: u64 = 3_000_000;

/// A machine and how its programs are built and run here.
struct Target {
    machine: &'static str,
    clang: &'static [&'static str],
    emulator: &'static [&'static str],
    /// Multiply-accumulates of its largest case.
    macs: u64,
}

const RISCV: &[&str] =
    &["--target=riscv64-unknown-none-elf", "-march=rv64gc", "-mabi=lp64d", "-mcmodel=medany", "-mno-relax"];

const ARM: &[&str] = &["--target=aarch64-unknown-none-elf"];

// Emulated cores without dot products of bytes, with them, and with those of mixed signs.
const AARCH64: Target =
    Target { machine: "aarch64", clang: ARM, emulator: &["qemu-aarch64", "-cpu", "cortex-a53"], macs: MACS };
const AARCH64_DOT: Target =
    Target { machine: "cortex-a55", emulator: &["qemu-aarch64", "-cpu", "cortex-a76"], ..AARCH64 };
const AARCH64_MIXED_DOT: Target =
    Target { machine: "neoverse-v1", emulator: &["qemu-aarch64", "-cpu", "max"], ..AARCH64 };
const RISCV64: Target = Target { machine: "riscv64gc", clang: RISCV, emulator: &["qemu-riscv64"], macs: MACS };
const RISCV64_VECTOR: Target = Target {
    machine: "riscv64gcv",
    clang: RISCV,
    emulator: &["qemu-riscv64", "-cpu", "rv64,v=true,vlen=128"],
    macs: MACS,
};
const RISCV64_256: Target = Target {
    machine: "riscv64gcv_zvl256b",
    emulator: &["qemu-riscv64", "-cpu", "rv64,v=true,vlen=256"],
    macs: FEW_MACS,
    ..RISCV64_VECTOR
};
const RISCV64_512: Target = Target {
    machine: "riscv64gcv_zvl512b",
    emulator: &["qemu-riscv64", "-cpu", "rv64,v=true,vlen=512"],
    macs: FEW_MACS,
    ..RISCV64_VECTOR
};
/// Registers longer than promised.
const RISCV64_LONGER: Target = Target { emulator: RISCV64_512.emulator, macs: FEW_MACS, ..RISCV64_VECTOR };

#[test]
fn aarch64() {
    recorded_cases(&AARCH64);
}

#[test]
fn aarch64_with_dot_products() {
    recorded_cases(&AARCH64_DOT);
}

#[test]
fn aarch64_with_mixed_dot_products() {
    recorded_cases(&AARCH64_MIXED_DOT);
}

#[test]
fn riscv64() {
    recorded_cases(&RISCV64);
}

#[test]
fn riscv64_with_vectors() {
    recorded_cases(&RISCV64_VECTOR);
}

#[test]
fn riscv64_with_vectors_of_256_bits() {
    recorded_cases(&RISCV64_256);
}

#[test]
fn riscv64_with_vectors_of_512_bits() {
    recorded_cases(&RISCV64_512);
}

#[test]
fn riscv64_with_longer_registers_than_promised() {
    recorded_cases(&RISCV64_LONGER);
}

fn recorded_cases(target: &Target) {
    let tools = ["clang", "ld.lld", target.emulator[0]];
    let missing: Vec<&str> = tools.into_iter().filter(|t| !is_installed(t)).collect();
    if !missing.is_empty() {
        return skip(&missing.join(", "));
    }
    let all = std::env::var_os("ADZE_ALL").is_some();
    let (mut good, mut bad, mut table) = (0, Vec::new(), String::new());
    let models = models();
    for model in &models {
        let case = &model.cases[0];
        if !all && case.macs.is_none_or(|macs| macs > target.macs) {
            continue;
        }
        // What has no kernel for the host either is listed by the recorded cases there.
        let Some(result) = check(model, case, target) else { continue };
        match result {
            Ok(max_abs) => {
                good += 1;
                // Writing to a string cannot fail.
                let _ = writeln!(
                    table,
                    "{:<12} {:<30} {} ok, max abs {max_abs:.2e}",
                    target.machine, model.name, case.case
                );
            }
            // Version 7.2 trips over its own assertion on some vector instructions; that tells nothing about the code.
            Err(why) if why.contains("translate.c") && why.contains("Assertion") => {
                let _ = writeln!(
                    table,
                    "{:<12} {:<30} {} stopped by a bug of the emulator",
                    target.machine, model.name, case.case
                );
            }
            Err(why) => bad.push(format!("{} {}: {why}", model.name, case.case)),
        }
    }
    eprint!("{table}");
    assert!(bad.is_empty(), "on {}:\n{}", target.machine, bad.join("\n"));
    assert!(models.is_empty() || good >= BAR, "{good} models ran on {}, the bar is {BAR}", target.machine);
}

fn is_installed(program: &str) -> bool {
    let run = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

/// Instructions of each model's code per multiply-accumulate, counted by a plugin of the emulator: a table, no test.
///
/// `cargo test -p adze-compiler --test models -- --ignored --nocapture instructions`
#[test]
#[ignore = "prints a table"]
fn instructions() {
    let missing: Vec<&str> =
        ["cc", "clang", "ld.lld", "qemu-aarch64"].into_iter().filter(|t| !is_installed(t)).collect();
    if !missing.is_empty() {
        return skip(&missing.join(", "));
    }
    let plugin = counting_plugin();
    let all = std::env::var_os("ADZE_ALL").is_some();
    println!("{:12} {:30} {:>12} {:>14} {:>8}", "machine", "model", "MAC", "instructions", "per MAC");
    for target in [&AARCH64, &AARCH64_DOT, &AARCH64_MIXED_DOT] {
        for model in &models() {
            let case = &model.cases[0];
            let Some(macs) = case.macs.filter(|macs| *macs > 0 && (all || *macs <= MACS)) else { continue };
            match count(model, case, target, &plugin) {
                Some(Ok(count)) => {
                    let each = count as f64 / macs as f64;
                    println!("{:12} {:30} {macs:12} {count:14} {each:8.3}", target.machine, model.name);
                }
                Some(Err(why)) => println!("{:12} {:30} {why}", target.machine, model.name),
                None => {}
            }
        }
    }
}

/// Builds the plugin for the emulator's version.
fn counting_plugin() -> PathBuf {
    let version = finish(Command::new("qemu-aarch64").arg("--version")).unwrap();
    let version = String::from_utf8_lossy(&version);
    let major = version.split_whitespace().find_map(|word| word.split_once('.')?.0.parse::<u32>().ok()).unwrap_or(0);
    let plugin = Path::new(env!("CARGO_TARGET_TMPDIR")).join("count.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/count.c");
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]);
    cc.arg(format!("-DVERSION={}", if major < 9 { 1 } else { 2 })).arg("-o").arg(&plugin).arg(source);
    finish(&mut cc).unwrap();
    plugin
}

/// Instructions that run inside of the model's code; `None` when there is none.
fn count(model: &Model, case: &Case, target: &Target, plugin: &Path) -> Option<Result<u64, String>> {
    let (inputs, recorded) = model.tensors(case);
    let (graph, inputs) = model.graph_for(&inputs).ok()?;
    let machine = Machine::from_name(target.machine).expect("a machine of the table");
    let built = build_with(&graph, &BuildOptions::new(machine)).ok()?;
    let folder = tempfile_folder(&format!("{}-{}-count", model.name, target.machine));
    let counted = link(&built.package, target, &inputs, &recorded, &folder).and_then(|()| {
        let (lo, hi) = code_range(&folder)?;
        let plugin = format!("{},lo={lo:x},hi={hi:x}", plugin.display());
        let output = emulate(target, &["-plugin", &plugin], &folder)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let count = said.lines().find_map(|line| line.strip_prefix("instructions ")?.parse().ok());
        count.ok_or(said)
    });
    std::fs::remove_dir_all(&folder).unwrap();
    Some(counted)
}

/// Where the linker put the model's code.
fn code_range(folder: &Path) -> Result<(u64, u64), String> {
    let map = std::fs::read_to_string(folder.join("app.map")).map_err(|e| e.to_string())?;
    let section = |line: &str| {
        let mut words = line.split_whitespace();
        let [start, _, size] = [(); 3].map(|()| words.next().and_then(|word| u64::from_str_radix(word, 16).ok()));
        line.contains("model.o:(.text").then_some((start?, start? + size?))
    };
    let sections: Vec<(u64, u64)> = map.lines().filter_map(section).collect();
    let (lo, hi) = (sections.iter().map(|s| s.0).min(), sections.iter().map(|s| s.1).max());
    lo.zip(hi).ok_or_else(|| "no code of the model in the map".into())
}

/// The largest difference from the recorded outputs; `None` when the model has no code.
fn check(model: &Model, case: &Case, target: &Target) -> Option<Result<f64, String>> {
    let (inputs, recorded) = model.tensors(case);
    let (graph, inputs) = model.graph_for(&inputs).ok()?;
    let machine = Machine::from_name(target.machine).expect("a machine of the table");
    let built = match build_with(&graph, &BuildOptions::new(machine)) {
        Ok(built) => built,
        Err(adze_compiler::Error::Unsupported(_)) => return None,
        Err(error) => return Some(Err(error.to_string())),
    };
    // Two targets may share a machine.
    let emulator = target.emulator.last().copied().unwrap_or_default().replace([',', '='], "_");
    let folder = tempfile_folder(&format!("{}-{}-{emulator}", model.name, target.machine));
    let result = run(&built.package, target, &inputs, &recorded, &folder);
    if result.is_ok() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    Some(result.and_then(|outputs| compare_all(case, &graph, &outputs, &recorded)))
}

fn compare_all(case: &Case, graph: &Graph, outputs: &[Tensor], recorded: &[Tensor]) -> Result<f64, String> {
    let mut max_abs = 0.0f64;
    for (index, (found, reference)) in outputs.iter().zip(recorded).enumerate() {
        let tolerance = Tolerance::of_graph(graph, reference.dtype()).or_twice(case.max_abs_diff_ort_optimised);
        let d = compare(found, reference, tolerance).ok_or_else(|| format!("output {index} is of another type"))?;
        if d.beyond > 0 {
            return Err(format!("output {index}: {d:?}"));
        }
        max_abs = max_abs.max(d.max_abs);
    }
    Ok(max_abs)
}

/// A fresh folder under the build's own for temporary files.
fn tempfile_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Links the object with the runner and runs it; the outputs have the types of the recorded ones.
fn run(
    package: &Package,
    target: &Target,
    inputs: &[Tensor],
    recorded: &[Tensor],
    folder: &Path,
) -> Result<Vec<Tensor>, String> {
    link(package, target, inputs, recorded, folder)?;
    let mut bytes = emulate(target, &[], folder)?.stdout;
    let expected: usize = recorded.iter().map(|t| t.bytes().len()).sum();
    if bytes.len() != expected {
        return Err(format!("{} bytes of outputs, expected {expected}", bytes.len()));
    }
    let take = |reference: &Tensor| {
        let rest = bytes.split_off(reference.bytes().len());
        let own = std::mem::replace(&mut bytes, rest);
        Tensor::new(reference.dtype(), reference.shape().to_vec(), own).map_err(|e| e.to_string())
    };
    recorded.iter().map(take).collect()
}

/// Links the object with the runner, which reads what is written beside them.
fn link(
    package: &Package,
    target: &Target,
    inputs: &[Tensor],
    recorded: &[Tensor],
    folder: &Path,
) -> Result<(), String> {
    std::fs::write(folder.join("model.o"), package.code.object().expect("an object")).unwrap();
    std::fs::write(folder.join("model.h"), header(&package.manifest)).unwrap();
    compile_runner(&package.manifest, target, inputs, recorded, folder)?;
    let input: Vec<u8> = inputs.iter().flat_map(|t| t.bytes().iter().copied()).collect();
    std::fs::write(folder.join("input"), input).unwrap();
    let options = ["-nostdlib", "-static", "--fatal-warnings", "-z", "noexecstack", "-Map=app.map", "-o", "app"];
    finish(Command::new("ld.lld").args(options).args(["runner.o", "model.o"]).current_dir(folder)).map(|_| ())
}

/// Runs the program, with more options for the emulator.
fn emulate(target: &Target, options: &[&str], folder: &Path) -> Result<Output, String> {
    let mut app = Command::new("timeout");
    app.arg("300").args(target.emulator).args(options).arg("./app").current_dir(folder);
    app.stdin(std::fs::File::open(folder.join("input")).unwrap());
    finished(&mut app)
}

fn compile_runner(
    manifest: &Manifest,
    target: &Target,
    inputs: &[Tensor],
    outputs: &[Tensor],
    folder: &Path,
) -> Result<(), String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = |tensors: &[Tensor]| tensors.iter().map(|t| t.bytes().len().to_string()).collect::<Vec<_>>().join(",");
    let total = |tensors: &[Tensor]| tensors.iter().map(|t| t.bytes().len()).sum::<usize>();
    let mut clang = Command::new("clang");
    clang.args(target.clang).args(["-O2", "-std=c11", "-ffreestanding", "-fno-builtin", "-fno-stack-protector"]);
    clang.args(["-fno-pie", "-Wall", "-Werror", "-c", "-o", "runner.o"]).arg(here.join("tests/models/runner.c"));
    clang.arg("-I").arg(here.join("../testdata/samples/freestanding")).args(["-I", "."]);
    clang.arg("-DMODEL_HEADER=\"model.h\"");
    clang.arg(format!("-DINIT=adze_{}_init", manifest.name)).arg(format!("-DRUN=adze_{}_run", manifest.name));
    clang.arg(format!("-DARENA_BYTES={}", manifest.arena_bytes));
    clang.arg(format!("-DINPUT_BYTES={}", list(inputs))).arg(format!("-DINPUT_TOTAL={}", total(inputs)));
    clang.arg(format!("-DOUTPUT_BYTES={}", list(outputs))).arg(format!("-DOUTPUT_TOTAL={}", total(outputs)));
    finish(clang.current_dir(folder)).map(|_| ())
}

/// Runs a command to its end and gives what it wrote; what it said when it failed.
fn finish(command: &mut Command) -> Result<Vec<u8>, String> {
    finished(command).map(|output| output.stdout)
}

fn finished(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("{:?}: {}\n{}", command.get_program(), output.status, String::from_utf8_lossy(&output.stderr)))
}

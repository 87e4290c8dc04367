//! Models as C99: compiled without warnings by every C compiler there is, and run on this machine against the recorded
//! cases.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use adze_compiler::build::{BuildOptions, Built};
use adze_compiler::compare::{Tolerance, compare};
use adze_compiler::package::header;
use adze_targets::cpu::Machine;
use adze_targets::cpu::backend::Code;

use crate::shared::{Case, Model, build_with, models, run, skip};

/// Models that have to pass.
const BAR: usize = 5;
/// Multiply-accumulates of the largest case; with `ADZE_ALL` set there is no limit.
const MACS: u64 = 3_000_000;
/// Compilers and what they compile for; the first one also runs the models.
const COMPILERS: [&[&str]; 3] = [
    &["cc"],
    &["arm-none-eabi-gcc", "-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-d16"],
    &["clang", "--target=riscv32-unknown-none-elf", "-march=rv32imafc", "-mabi=ilp32f"],
];
const STRICT: &[&str] = &["-std=c99", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-O2", "-c", "-o", "model.o"];

#[test]
fn scalars() {
    recorded_cases("c99");
}

#[test]
fn lanes() {
    recorded_cases("c99-simd");
}

fn recorded_cases(machine: &str) {
    let (compilers, missing): (Vec<&&[&str]>, Vec<&&[&str]>) = COMPILERS.iter().partition(|c| is_installed(c[0]));
    missing.iter().for_each(|compiler| skip(compiler[0]));
    if compilers.first().is_none_or(|first| first[0] != "cc") {
        return;
    }
    let all = std::env::var_os("ADZE_ALL").is_some();
    let (mut good, mut bad, mut table) = (0, Vec::new(), String::new());
    let models = models();
    for model in &models {
        let case = &model.cases[0];
        if !all && case.macs.is_none_or(|macs| macs > MACS) {
            continue;
        }
        match check(model, case, machine, &compilers) {
            None => {}
            Some(Ok(max_abs)) => {
                good += 1;
                // Writing to a string cannot fail.
                let _ = writeln!(table, "{machine:<8} {:<30} {} ok, max abs {max_abs:.2e}", model.name, case.case);
            }
            Some(Err(why)) => bad.push(format!("{} {}: {why}", model.name, case.case)),
        }
    }
    eprint!("{table}");
    assert!(bad.is_empty(), "{machine}:\n{}", bad.join("\n"));
    assert!(models.is_empty() || good >= BAR, "{good} models ran, the bar is {BAR}");
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// The largest difference from the recorded outputs; `None` when the model has no code.
fn check(model: &Model, case: &Case, machine: &str, compilers: &[&&[&str]]) -> Option<Result<f64, String>> {
    let (inputs, recorded) = model.tensors(case);
    let (graph, inputs) = model.graph_for(&inputs).ok()?;
    let built = match build_with(&graph, &BuildOptions::new(Machine::from_name(machine).unwrap())) {
        Ok(built) => built,
        Err(adze_compiler::Error::Unsupported(_)) => return None,
        Err(error) => return Some(Err(error.to_string())),
    };
    let compare_all = || {
        compilers.iter().try_for_each(|compiler| compile(&built, compiler))?;
        let outputs = run(&built, &inputs).map_err(|e| e.to_string())?;
        let mut max_abs = 0.0f64;
        for (index, (found, reference)) in outputs.iter().zip(&recorded).enumerate() {
            let tolerance = Tolerance::of_graph(&graph, reference.dtype()).or_twice(case.max_abs_diff_ort_optimised);
            let d = compare(found, reference, tolerance).ok_or_else(|| format!("output {index} is of another type"))?;
            if d.beyond > 0 {
                return Err(format!("output {index}: {d:?}"));
            }
            max_abs = max_abs.max(d.max_abs);
        }
        Ok(max_abs)
    };
    Some(compare_all())
}

/// Compiles the package's source without warnings.
fn compile(built: &Built, compiler: &[&str]) -> Result<(), String> {
    let Code::Source(source) = &built.package.code else { return Err("no source".into()) };
    let name = &built.package.manifest.name;
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{}", built.package.manifest.cpu, compiler[0]));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{name}.c")), source).unwrap();
    std::fs::write(folder.join(format!("{name}.h")), header(&built.package.manifest)).unwrap();
    let mut command = Command::new(compiler[0]);
    command.args(&compiler[1..]).args(STRICT).arg(format!("{name}.c")).current_dir(&folder);
    let output = command.output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        let said: String = String::from_utf8_lossy(&output.stderr).chars().take(2000).collect();
        return Err(format!("{}, in {}: {said}", compiler[0], folder.display()));
    }
    std::fs::remove_dir_all(&folder).unwrap();
    Ok(())
}

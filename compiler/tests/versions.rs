//! Packages that hold a version for each of several CPUs: the one that runs is the best that the CPU has.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use adze_compiler::build::{BuildOptions, Built, build};
use adze_compiler::data;
use adze_compiler::execute::Executable;
use adze_compiler::link::{Linked, link};
use adze_compiler::load::load;
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_targets::cpu::Machine;

/// What QEMU's user-mode emulator has of instructions under the name of a CPU, and the version for that.
const CPUS: &[(&str, Option<&str>)] = &[
    // No SSE4.2.
    ("core2duo", None),
    ("Nehalem", Some("x86_64-v2")),
    // AVX without AVX2.
    ("SandyBridge", Some("x86_64-v2")),
    ("Haswell", Some("x86_64-v3")),
    // AVX-512 is not emulated.
    ("max", Some("x86_64-v3")),
];

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path)
}

fn machines(names: &[&str]) -> Vec<Machine> {
    names.iter().map(|name| Machine::from_name(name).unwrap()).collect()
}

fn package(graph: &Graph, mut versions: Vec<Machine>) -> Built {
    let machine = versions.pop().unwrap();
    build(graph, &BuildOptions { fallbacks: versions, ..BuildOptions::new(machine) }).unwrap()
}

fn digits() -> (Graph, Tensor) {
    let graph = load(&testdata("models/digits_cnn.onnx"), &Default::default()).unwrap().graph;
    let image = data::read(&testdata("models/digit_7.npy")).unwrap().remove(0).1;
    (graph, image)
}

fn output(built: &Built, input: &Tensor) -> Vec<u8> {
    let executable = Executable::new(built).unwrap();
    let mut call = executable.prepare(std::slice::from_ref(input)).unwrap();
    executable.run(&mut call).unwrap();
    executable.outputs(&mut call).unwrap()[0].bytes().to_vec()
}

#[test]
fn this_machine_runs_its_best_version() {
    let (graph, image) = digits();
    let runnable = Machine::runnable();
    let alone: Vec<Vec<u8>> =
        runnable.iter().map(|machine| output(&package(&graph, vec![machine.clone()]), &image)).collect();
    for count in 1..=runnable.len() {
        let several = package(&graph, runnable[..count].to_vec());
        assert_eq!(output(&several, &image), alone[count - 1], "{}", several.package.manifest.cpu);
    }
    // Another order of sums: the first two differ, or the test above says nothing.
    assert_ne!(alone.first(), alone.get(1));
}

#[test]
fn every_cpu_gets_the_best_version_it_runs() {
    let missing = ["qemu-x86_64", "cc"].into_iter().find(|tool| Command::new(tool).arg("--version").output().is_err());
    if let Some(tool) = missing {
        assert!(std::env::var_os("ADZE_REQUIRE").is_none(), "ADZE_REQUIRE is set and this is missing: {tool}");
        return eprintln!("skipped: {tool}");
    }
    let (graph, image) = digits();
    let versions = machines(&["x86_64-v2", "x86_64-v3", "x86_64-v4"]);
    let folder = std::env::temp_dir().join(format!("adze-versions-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("image"), image.bytes()).unwrap();
    let program = |versions: &[Machine], name: &str| {
        let built = package(&graph, versions.to_vec());
        let (_, bytes) = link(&built.package, versions.last().unwrap(), Linked::Executable).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let several = program(&versions, "several");
    let alone: Vec<PathBuf> = versions[..2].iter().map(|m| program(std::slice::from_ref(m), m.name)).collect();
    let on = |cpu: &str, program: &Path| {
        Command::new("qemu-x86_64").args(["-cpu", cpu]).arg(program).arg(folder.join("image")).output().unwrap()
    };
    for (cpu, version) in CPUS {
        let found = on(cpu, &several);
        let Some(version) = version else {
            assert!(String::from_utf8_lossy(&found.stderr).contains("status 5"), "{cpu}: {found:?}");
            continue;
        };
        let index = versions.iter().position(|machine| machine.name == *version).unwrap();
        let expected = on("max", &alone[index]);
        assert!(!expected.stdout.is_empty() && found.stdout == expected.stdout, "{cpu} runs another than {version}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

//! A package has the same bytes however many models a process compiles at a time, and in which order.
//!
//! The compiler has no threads of its own; what could tell runs apart are tables that all threads of a process share (egg numbers
//! names in the order in which they are first seen), the seeds of hash tables and addresses. So each side is a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use adze_compiler::build::{BuildOptions, build};
use adze_compiler::package::{WriteOptions, write_package};
use adze_targets::cpu::Machine;

use crate::shared::{Model, models};

/// Small ones of every kind; with `ADZE_ALL` set all are compiled.
const FEW: &[&str] = &[
    "mlperf_kws_dscnn_f32",
    "mlperf_kws_dscnn_int8",
    "dtln_stage1",
    "g1_humanoid_policy",
    "clinc_intent_bert_dynamic_int8",
    "stories260k_llama_f32",
];

/// How many models the part of the test that is a process of its own compiles at a time, and where it leaves them.
const THREADS: &str = "ADZE_TEST_JOBS";

#[test]
fn bytes_do_not_depend_on_threads() {
    if models().is_empty() {
        return;
    }
    let [one, many] = [1, 3].map(compiled_by);
    let named = |(path, bytes): (&PathBuf, &Vec<u8>)| (many.get(path) != Some(bytes)).then(|| path.clone());
    assert_eq!(one.iter().filter_map(named).collect::<Vec<_>>(), Vec::<PathBuf>::new(), "differ");
    assert_eq!(one.len(), many.len());
    // Object, library, header and both manifests each.
    assert!(one.len() >= 5 * FEW.len(), "{:?}", one.keys());
}

/// The files of all packages that a process with so many threads writes.
fn compiled_by(threads: usize) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("jobs-{threads}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "jobs::packages", "--ignored", "--nocapture"])
        .env(THREADS, format!("{threads}:{}", folder.display()))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut files = BTreeMap::new();
    for package in std::fs::read_dir(&folder).unwrap() {
        for file in std::fs::read_dir(package.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            files.insert(path.strip_prefix(&folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
    files
}

#[test]
#[ignore = "a part of bytes_do_not_depend_on_threads, which starts it"]
fn packages() {
    let Ok(given) = std::env::var(THREADS) else { return };
    let (threads, folder) = given.split_once(':').unwrap();
    let (threads, folder): (usize, &Path) = (threads.parse().unwrap(), folder.as_ref());
    let all = std::env::var_os("ADZE_ALL").is_some();
    let mut wanted: Vec<Model> = models().into_iter().filter(|m| all || FEW.contains(&m.name.as_str())).collect();
    if threads > 1 {
        wanted.reverse();
    }
    let next = AtomicUsize::new(0);
    let work =
        || while wanted.get(next.fetch_add(1, Ordering::Relaxed)).map(|model| compile(model, folder)).is_some() {};
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
}

fn compile(model: &Model, folder: &Path) {
    let (inputs, _) = model.tensors(&model.cases[0]);
    // What cannot be imported or has no kernel is listed by the recorded cases.
    let Ok((graph, _)) = model.graph_for(&inputs) else { return };
    let machine = Machine::from_name("x86_64-v3").unwrap();
    let Ok(built) = build(&graph, &BuildOptions::new(machine)) else { return };
    write_package(&built.package, &folder.join(&model.name), &WriteOptions::default()).unwrap();
}

//! Arena per model beside the live-range bound and ONNX Runtime's, and models under an arena limit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use adze_compiler::build::{BuildOptions, Built};
use adze_compiler::compare::{Tolerance, compare};
use adze_ir::graph::Graph;
use adze_ir::tile::memory;
use adze_targets::cpu::Machine;
use serde::Deserialize;

use crate::shared::{build_here, build_with, host, model, models, run};

/// A model's numbers in `testdata/ort_memory.json`, which `cli/benches/memory.py --json` writes.
#[derive(Deserialize)]
struct OrtMemory {
    case: String,
    arena_bytes: u64,
}

fn ort_memory() -> BTreeMap<String, OrtMemory> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/ort_memory.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn arenas() {
    let models = models();
    if models.is_empty() {
        return;
    }
    let ort = ort_memory();
    // The same numbers on every machine: forms that want working memory are chosen by its costs.
    let options = BuildOptions::new(Machine::from_name("x86_64-v3").unwrap());
    let mut table = format!("{:<34} {:<12} {:>9} {:>9} {:>9} {:>9}\n", "KiB", "case", "arena", "plan", "bound", "ORT");
    let mut bad = Vec::new();
    for model in &models {
        let measured = ort.get(&model.name);
        let case = model.cases.iter().find(|c| measured.is_some_and(|m| m.case == c.case)).unwrap_or(&model.cases[0]);
        let built = model.graph_for(&model.tensors(case).0).and_then(|(graph, _)| build_with(&graph, &options));
        // What has no kernel yet is listed by the recorded cases.
        let Ok(built) = built else { continue };
        let (bytes, bound) = plan_and_bound(&built);
        if bytes as f64 > bound as f64 * 1.1 {
            bad.push(format!("{}: {bytes} bytes, {bound} alive at once", model.name));
        }
        let kib = |bytes: f64| format!("{:.1}", bytes / 1024.0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{:<34} {:<12} {:>9} {:>9} {:>9} {:>9}",
            model.name,
            case.case,
            kib(built.package.manifest.arena_bytes as f64),
            kib(bytes as f64),
            kib(bound as f64),
            measured.map_or("-".into(), |m| kib(m.arena_bytes as f64)),
        );
    }
    assert!(bad.is_empty(), "plans over 1.1 of the bound:\n{}\n{table}", bad.join("\n"));
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("arena", table);
    });
}

/// Bytes of the arena's plan and the most that are alive at once, which the allocator has no part in computing.
fn plan_and_bound(built: &Built) -> (i64, i64) {
    let arena = built.plan.memories.iter().find(|m| &*m.memory == memory::ARENA);
    arena.map_or((0, 0), |m| (m.bytes, m.bound))
}

fn limited(graph: &Graph, limit: u64) -> Built {
    let options = BuildOptions { arena_limit: Some(limit), ..BuildOptions::new(host()) };
    build_with(graph, &options).unwrap_or_else(|e| panic!("at most {limit} bytes: {e}"))
}

/// At most 60% of the arena, and the same results.
#[test]
fn tiled_under_a_limit() {
    for name in ["mlperf_vww_mobilenetv1_f32", "mobilenet_v2_f32"] {
        let Some(model) = model(name) else { return };
        let (inputs, recorded) = model.tensors(&model.cases[0]);
        let (graph, inputs) = model.graph_for(&inputs).unwrap();
        let whole = build_here(&graph).unwrap();
        let limit = whole.package.manifest.arena_bytes * 60 / 100;
        let tiled = limited(&graph, limit);
        let arena = tiled.package.manifest.arena_bytes;
        eprintln!("{name}: {} bytes whole, {arena} under {limit}", whole.package.manifest.arena_bytes);
        assert!(arena <= limit, "{name}: {arena} bytes, the limit is {limit}");
        let (found, untiled) = (run(&tiled, &inputs).unwrap(), run(&whole, &inputs).unwrap());
        for (reference, what) in [(&recorded, "recorded"), (&untiled, "untiled")] {
            for (found, reference) in found.iter().zip(reference) {
                let d = compare(found, reference, Tolerance::of(reference.dtype())).unwrap();
                assert_eq!(d.beyond, 0, "{name} tiled, against the {what} outputs: {d:?}");
            }
        }
    }
}

/// What cannot fit names the layer that stands in the way.
#[test]
fn limit_out_of_reach() {
    let Some(model) = model("mlperf_vww_mobilenetv1_f32") else { return };
    let (inputs, _) = model.tensors(&model.cases[0]);
    let (graph, _) = model.graph_for(&inputs).unwrap();
    let options = BuildOptions { arena_limit: Some(1000), ..BuildOptions::new(host()) };
    let error = build_with(&graph, &options).expect_err("1000 bytes are not enough").to_string();
    assert!(error.contains("blocks the arena limit"), "{error}");
}

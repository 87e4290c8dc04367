//! Every stage goes through its text, and the rest of the pipeline then gives the same package byte for byte.
//!
//! A few models by default, all of them with `ADZE_REPLAY=all`.

use std::path::Path;

use adze_compiler::Error;
use adze_compiler::build::{BuildOptions, finish};
use adze_compiler::package::Package;
use adze_compiler::replay::{read_stage, supply, write_weights};
use adze_compiler::stage::{Artifact, Stage, Trace};
use adze_ir::graph::Graph;
use adze_passes::pipeline;
use adze_targets::cpu::Machine;

use crate::shared::models;

/// A convolutional net, one with recurrent layers, one with open dimensions, and an attention model.
const FEW: &[&str] = &["mlperf_kws_dscnn_f32", "dtln_stage1", "g1_humanoid_policy", "magika_v3_3", "silero_vad"];

#[test]
fn every_stage_replays() {
    let all = std::env::var("ADZE_REPLAY").is_ok_and(|v| v == "all");
    let mut bad = Vec::new();
    let mut replayed = 0;
    for model in models().iter().filter(|m| all || FEW.contains(&m.name.as_str())) {
        let (inputs, _) = model.tensors(&model.cases[0]);
        let Ok((graph, _)) = model.graph_for(&inputs) else { continue };
        match replay(&model.name, &graph) {
            Ok(differing) => {
                replayed += 1;
                bad.extend(differing.into_iter().map(|stage| format!("{}: {stage}", model.name)));
            }
            // What has no kernel yet is listed by the recorded cases.
            Err(Error::Unsupported(_)) => {}
            Err(error) => bad.push(format!("{}: {error}", model.name)),
        }
    }
    eprintln!("{replayed} models replayed");
    assert_eq!(bad, Vec::<String>::new());
}

/// The stages that lead to another package.
fn replay(name: &str, graph: &Graph) -> Result<Vec<String>, Error> {
    // Cross-compiling works on every host, so the test does not depend on this one.
    let options = BuildOptions::new(Machine::from_name("x86_64-v3").unwrap());
    let mut trace = Trace::default();
    let mut artifact = Artifact::Graph(Box::new(graph.clone()), 0);
    let expected = finish(artifact.clone(), &options, &mut trace)?;
    let stages: Vec<Stage> = (0..=pipeline::DEFAULT.len()).map(Stage::Graph).collect();
    let mut differing = Vec::new();
    for stage in stages.into_iter().chain([Stage::Tile, Stage::Planned, Stage::Kernel]) {
        artifact = artifact.advance(stage, &options, &mut trace)?;
        match through_text(name, &artifact, &options) {
            Ok(found) if same(&found, &expected) => {}
            Ok(_) => differing.push(format!("{stage:?} gives other bytes")),
            Err(error) => differing.push(format!("{stage:?}: {error}")),
        }
    }
    Ok(differing)
}

fn through_text(name: &str, artifact: &Artifact, options: &BuildOptions) -> Result<Package, Error> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (text, weights) = (folder.join(format!("{name}.replay")), folder.join(format!("{name}.replay.npz")));
    std::fs::write(&text, artifact.to_string()).unwrap();
    write_weights(artifact, &weights)?;
    let mut read = read_stage(&text, &options.machine)?;
    assert_eq!(read.stage(), artifact.stage());
    supply(&mut read, Some(&weights))?;
    let package = finish(read, options, &mut Trace::default());
    for file in [text, weights] {
        std::fs::remove_file(file).unwrap();
    }
    package
}

fn same(a: &Package, b: &Package) -> bool {
    a.code == b.code && a.weights == b.weights && a.manifest == b.manifest
}

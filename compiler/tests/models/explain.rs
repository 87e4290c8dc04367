//! What `adze explain` says of nodes of real networks, as texts to be read.

use adze_compiler::build::BuildOptions;
use adze_compiler::explain::explain;
use adze_targets::cpu::Machine;

use crate::shared::model;

/// Models and nodes: convolutions with paddings, terms and activations around them, a GELU written out, a recurrent cell.
const NODES: &[(&str, &str, &str)] = &[
    ("mobilenet_v2_f32", "depthwise", "input.15_te_transform_prequant"),
    ("mobilenet_v2_f32", "add", "input.35_te_transform_prequant"),
    ("clinc_intent_bert_f32", "gelu", "Erf_71"),
    ("clinc_intent_bert_f32", "query", "Add_30"),
    ("silero_vad_v6", "encoder", "/encoder/0/reparam_conv/Conv"),
    ("silero_vad_v6", "lstm", "/decoder/rnn/LSTM"),
];

#[test]
fn nodes() {
    let options = BuildOptions::new(Machine::from_name("x86_64-v3").unwrap());
    for (name, what, node) in NODES {
        let Some(model) = model(name) else { return };
        let (graph, _) = model.graph_for(&model.tensors(&model.cases[0]).0).unwrap();
        let text = explain(&graph, node, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(format!("explain_{name}_{what}"), text);
        });
    }
}

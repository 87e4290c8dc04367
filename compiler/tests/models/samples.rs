//! Photographs as samples: a folder of JPEG files, which an image network recognizes.

use adze_compiler::build::BuildOptions;
use adze_compiler::quantize::samples::{Preprocess, read_samples};
use adze_compiler::quantize::taps::Taps;

use crate::shared::{host, model};

const STEPS: &str = "resize=224,crop=224,div=255,sub=0.485;0.456;0.406,div=0.229;0.224;0.225,chw";

/// Files are named by their class.
#[test]
fn photographs_are_recognized() {
    let Some(model) = model("mobilenet_v2_f32") else { return };
    let folder = model.path().with_file_name("data").join("imagenet224_200");
    let (recorded, _) = model.tensors(&model.cases[0]);
    let (graph, _) = model.graph_for(&recorded).unwrap();
    let mut samples = read_samples(&graph, &folder, &STEPS.parse::<Preprocess>().unwrap()).unwrap();
    assert_eq!(samples.inputs.len(), 200);
    samples.thin(20);
    let mut right = 0;
    let taps = Taps::new(&graph, &[graph.outputs()[0].value], &samples, &BuildOptions::new(host())).unwrap();
    taps.run(&samples, &mut |index, tensors| {
        let scores = tensors[0].to_f64();
        let class = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        right += usize::from(samples.names[index] == format!("{class:04}.jpg"));
        Ok(())
    })
    .unwrap();
    // 19 with Pillow's pixels in ONNX Runtime.
    assert!(right >= 18, "{right} of 20");
}

//! The command as a user sees it: help, exit codes, stages through text, linked outputs.

#![expect(clippy::unwrap_used, reason = "a test that cannot run the command has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use adze_compiler::compare::{Tolerance, compare};
use adze_compiler::data;
use adze_ir::egraph::{parse_egraph, print_egraph};
use adze_ir::tensor::Tensor;

/// The model that ships with the project.
fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/models/digits_cnn.onnx")
}

/// An empty folder for a test.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        fs::remove_dir_all(&path).unwrap();
    }
    fs::create_dir_all(&path).unwrap();
    path
}

fn adze(at: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_adze")).args(args).current_dir(at).env("COLUMNS", "120").output().unwrap()
}

/// Runs a command that has to succeed; gives its standard output.
fn good(at: &Path, args: &[&str]) -> String {
    let output = adze(at, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every file of a folder with its bytes.
fn files(at: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(at)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn help() {
    let at = folder("help");
    let commands = [
        "", "compile", "opt", "quantize", "run", "show", "explain", "check", "fit", "report", "diff", "bench",
        "targets", "rules",
    ];
    let mut text = String::new();
    for command in commands {
        let args: Vec<&str> = [command, "--help"].into_iter().filter(|a| !a.is_empty()).collect();
        text.push_str(&format!("$ adze {}\n{}\n", args.join(" "), good(&at, &args)));
    }
    // Trailing blanks are clap's, not ours.
    let text: Vec<&str> = text.lines().map(str::trim_end).collect();
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("help", text.join("\n"));
    });
}

#[test]
fn stages_replay_to_the_same_package() {
    let at = folder("stages");
    let model = model();
    let model = model.to_str().unwrap();
    good(&at, &["compile", model, "--target", "x86_64-linux", "-o", "whole"]);
    for stage in ["import", "canonicalize", "fuse", "graph", "tile", "planned", "kernel"] {
        let stop = ["compile", model, "--target", "x86_64-linux", "--stop-after", stage];
        good(&at, &[&stop[..], &["-o", "stage.txt", "--weights-out", "stage.npz"]].concat());
        let out = format!("from-{stage}");
        good(&at, &["opt", "stage.txt", "--weights", "stage.npz", "--target", "x86_64-linux", "-o", &out]);
        assert!(files(&at.join(&out)) == files(&at.join("whole")), "{stage} gives another package");
        // Without its weights the text is not enough.
        let output = adze(&at, &["opt", "stage.txt", "--target", "x86_64-linux", "-o", "none"]);
        assert_eq!(output.status.code(), Some(2), "{stage}");
        assert!(!at.join("none").exists());
    }
}

#[test]
fn exit_codes() {
    let at = folder("exit");
    let model = model();
    let model = model.to_str().unwrap();
    fs::write(at.join("broken.onnx"), b"not a model").unwrap();
    let code = |args: &[&str]| adze(&at, args).status.code();
    assert_eq!(code(&["show", model]), Some(0));
    assert_eq!(code(&["show", "broken.onnx"]), Some(1));
    assert_eq!(code(&["show", "absent.onnx"]), Some(1));
    assert_eq!(code(&["show"]), Some(2));
    assert_eq!(code(&["show", model, "--stage", "nowhere"]), Some(2));
    assert_eq!(code(&["fit", model, "--target", "x86_64-v3", "--flash", "1k"]), Some(3));
    let unsupported = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/diag/unsupported_resize_mode.onnx");
    assert_eq!(code(&["show", unsupported.to_str().unwrap()]), Some(77));
}

/// A network of which a neural processor runs a part: a folder with what each device runs, one file only without a CPU.
#[test]
fn phases_of_a_neural_processor() {
    let at = folder("phases");
    let graph = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/phases/bytes_around_a_running_sum.graph");
    let graph = graph.to_str().unwrap();
    let cnn = model();
    let (cnn, npu) = (cnn.to_str().unwrap(), ["--target", "bm1684x"]);
    good(&at, &[&["compile", graph, "-o", "out"][..], &npu].concat());
    let names: Vec<String> = files(&at.join("out")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["net.bmodel", "net.c", "net.h", "net.json", "net.manifest", "net_1.o"]);
    let first = files(&at.join("out"));
    good(&at, &[&["compile", graph, "-o", "out"][..], &npu].concat());
    assert_eq!(files(&at.join("out")), first, "the same bytes again");
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(at.join("out/net.json")).unwrap()).unwrap();
    let devices: Vec<&str> =
        manifest["phases"].as_array().unwrap().iter().map(|phase| phase["device"].as_str().unwrap()).collect();
    assert_eq!(devices, ["bm1684x", "cpu", "bm1684x"]);
    let listing = good(&at, &["disasm", "out/net.bmodel"]);
    assert!(listing.contains("`net_0`") && listing.contains("`net_2`"), "{listing}");
    let text = good(&at, &[&["compile", graph, "--stop-after", "phases"][..], &npu].concat());
    assert!(text.contains("phase 1 on cpu ($1) -> ($2)"), "{text}");
    good(&at, &[&["run", graph, "--seed", "3", "--output", "npu.npz"][..], &npu].concat());
    good(&at, &["run", graph, "--seed", "3", "--interpret", "--output", "int.npz"]);
    assert_eq!(data::read(&at.join("npu.npz")).unwrap(), data::read(&at.join("int.npz")).unwrap());
    for (command, words) in [("fit", "`cum_sum` at sum: found"), ("report", "180 bytes cross between devices")] {
        let said = good(&at, &[&[command, graph][..], &npu].concat());
        assert!(said.contains(words), "{said}");
    }
    let refused: &[(&[&str], i32, &str)] = &[
        (&["compile", graph, "-o", "one.bmodel"], 77, "a folder as --output takes phases"),
        (&["compile", graph, "-o", "other", "--no-cpu"], 77, "node `sum` (cum_sum)"),
        (&["fit", graph, "--no-cpu"], 3, ""),
        (&["compile", graph, "-o", "other", "--host", "z80"], 2, "--host"),
        (&["compile", graph, "-o", "other", "--stop-after", "tile"], 2, "accepted for a neural processor: phases"),
        (&["run", graph, "--host", "x86_64-v3"], 2, "--host"),
        (&["compile", cnn, "-o", "other"], 77, "no node is left for bm1684x"),
    ];
    for (args, code, words) in refused {
        let output = adze(&at, &[args, &npu[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {said}");
        let flat = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words), "{args:?}: {said}");
    }
    assert!(!at.join("other").exists() && !at.join("one.bmodel").exists());
}

/// Inputs, options and places that do not go together end in a message and the documented code, never in made-up values.
#[test]
fn what_is_wrong_is_said() {
    let at = folder("wrong");
    let (cnn, mlp) = (model(), model().with_file_name("digits_mlp.onnx"));
    let (cnn, mlp) = (cnn.to_str().unwrap(), mlp.to_str().unwrap());
    fs::write(at.join("empty.npy"), b"").unwrap();
    fs::write(at.join("file"), b"").unwrap();
    fs::create_dir(at.join("nothing")).unwrap();
    let image = |shape: &[usize], dtype| Tensor::zeros(dtype, shape);
    let write = |name: &str, tensor: Tensor| data::write(&at.join(name), &[("image".into(), tensor)]).unwrap();
    write("double.npy", image(&[1, 1, 8, 8], adze_ir::types::DType::F64));
    write("scalar.npy", image(&[], adze_ir::types::DType::F32));
    write("image.npy", image(&[1, 1, 8, 8], adze_ir::types::DType::F32));
    fs::write(at.join("text.graph"), good(&at, &["show", cnn])).unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["run", cnn, "--input", "absent.npy"], 1, "absent.npy"),
        (&["run", cnn, "--input", "empty.npy"], 1, "empty.npy"),
        (&["run", cnn, "--input", "file"], 2, ".npy, .npz, .pb"),
        (&["run", cnn, "--input", "double.npy"], 2, "accepted: f32[1,1,8,8]"),
        (&["run", cnn, "--input", "scalar.npy"], 2, "found scalar, accepted: 1x1x8x8"),
        (&["run", cnn, "--input", "mask=image.npy"], 2, "no input `mask`"),
        (&["run", cnn, "--inputs", "absent"], 1, "absent"),
        (&["run", cnn, "--inputs", "nothing"], 2, "no `input_0.pb` for input `image`"),
        (&["run", cnn, "--input", "image.npy", "--output", "x.txt"], 2, ".npy, .npz, .pb"),
        (&["run", cnn, "--input", "image.npy", "--outputs", "file"], 1, "file"),
        (&["run", mlp, "--dim", "batch=1000000000"], 2, "random bytes"),
        (&["show", cnn, "--dim", "batch=2"], 2, "no dimension `batch`"),
        (&["show", mlp, "--dim", "batch=5..1"], 2, "lo..hi"),
        (&["show", cnn, "--shape", "image=1x1x9x9"], 2, "accepted: 1x1x8x8"),
        (&["show", cnn, "--state", "image=logits"], 2, "becomes"),
        (&["compile", cnn, "-o", "file"], 1, "file"),
        (&["compile", cnn, "-o", "out", "--target", "z80"], 2, "x86_64-v3"),
        (&["compile", cnn, "-o", "out", "--threads", "0"], 2, "1 to 1024"),
        (&["compile", cnn, "-o", "out", "--arena-limit", "0"], 2, "accepted: over 64"),
        (&["check", cnn, "--case", "image.npy"], 2, "out_0"),
        (&["check", cnn, "--accept-twice", "nan"], 2, "zero or a positive number"),
        (&["show", cnn, "--node", "nowhere"], 2, "`nowhere`"),
        (&["run", "text.graph"], 2, "--weights"),
    ];
    for (args, code, said) in cases {
        let output = adze(&at, args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {message}");
        assert!(message.contains(said), "{args:?}: {message}");
        assert!(!at.join("out").exists(), "{args:?}");
    }
}

#[test]
fn reports_are_stable_and_comparable() {
    let at = folder("report");
    let model = model();
    let model = model.to_str().unwrap();
    let a = good(&at, &["report", model, "--target", "x86_64-v3", "--json"]);
    assert_eq!(a, good(&at, &["report", model, "--target", "x86_64-v3", "--json"]));
    fs::write(at.join("a.json"), &a).unwrap();
    fs::write(at.join("b.json"), good(&at, &["report", model, "--target", "aarch64", "--json"])).unwrap();
    assert_eq!(good(&at, &["diff", "a.json", "a.json"]), "");
    let differs = adze(&at, &["diff", "a.json", "b.json"]);
    assert_eq!(differs.status.code(), Some(3));
    assert!(String::from_utf8(differs.stdout).unwrap().starts_with("target: x86_64-v3 -> aarch64\n"));
}

/// Compiled code against the interpreter, and a wrong recorded output that must be noticed.
#[cfg(target_arch = "x86_64")]
#[test]
fn check_finds_differences() {
    let at = folder("check");
    let model = model();
    let model = model.to_str().unwrap();
    let text = good(&at, &["check", model, "--seed", "3", "--per-node", "--json"]);
    assert!(text.lines().count() > 4 && text.lines().all(|line| line.contains("\"good\":true")), "{text}");
    good(&at, &["run", model, "--seed", "3", "--output", "out.npz"]);
    let case = adze(&at, &["check", model, "--case", "out.npz"]);
    assert_eq!(case.status.code(), Some(2), "a case without `out_0` compares nothing");
}

/// Every rule is listed and has a record; one that is not there is refused with some that are like it.
#[test]
fn rules_are_listed() {
    let at = folder("rules");
    let list = good(&at, &["rules"]);
    for rule in adze_compiler::catalog::families().flat_map(|family| family.rules) {
        assert!(list.contains(&format!("\n  {}  {}\n", rule.name, rule.exactness)), "{}", rule.name);
    }
    let record = good(&at, &["rules", "gelu-erf"]);
    for words in ["(div ?d ?x ?root)", "(mul ?d ?x ?inv)", "divisor √2", "norm(16·eps)", "sound", "helps", "taken"] {
        assert!(record.contains(words), "{words}: {record}");
    }
    let output = adze(&at, &["rules", "gelu-tanh-erf"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("gelu-erf"));
}

/// A node of the shipped network: what was read, the rewrites, what runs; a name that is none or several is refused.
#[test]
fn nodes_are_explained() {
    let at = folder("explain");
    let model = model();
    let model = model.to_str().unwrap();
    let graph = good(&at, &["show", model]);
    let name = graph.lines().find_map(|line| line.split_once("= conv ")?.1.split_once("loc(\"")).unwrap().1;
    let name = name.split('"').next().unwrap();
    let text = good(&at, &["explain", model, "--target", "x86_64-v3", "--node", name]);
    for words in ["as read\n", "conv %0", "\nin the end\n", "cycles"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(text, good(&at, &["explain", model, "--target", "x86_64-v3", "--node", name]));
    for (node, said) in [("nowhere", "no node `nowhere`"), ("", "is in the names of")] {
        let output = adze(&at, &["explain", model, "--node", node]);
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(message.contains(said), "{message}");
    }
}

/// Regions as text that parses back, as JSON whose edges lead somewhere, as dot; and what is asked for wrongly.
#[test]
fn regions_are_dumped() {
    let at = folder("dump");
    let passes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/passes");
    let mut several = 0;
    for folder in ["saturate", "integers"] {
        for entry in fs::read_dir(passes.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let path = path.to_str().unwrap();
            let dump = |form| good(&at, &["explain", path, "--target", "x86_64-v3", "--region", "0", "--dump", form]);
            let text = dump("text");
            let plain: Vec<&str> = text.lines().map(|line| line.split(" // ").next().unwrap()).collect();
            let (egraph, root) = parse_egraph(&text).unwrap_or_else(|error| panic!("{path}: {error}\n{text}"));
            assert_eq!(print_egraph(&egraph, root, &|_, _| String::new()), plain.join("\n") + "\n", "{path}");
            several += usize::from(egraph.total_number_of_nodes() > egraph.number_of_classes());

            let json: serde_json::Value = serde_json::from_str(&dump("json")).unwrap();
            let nodes = json["nodes"].as_object().unwrap();
            let children = nodes.values().flat_map(|node| node["children"].as_array().unwrap());
            assert!(children.into_iter().all(|child| nodes.contains_key(child.as_str().unwrap())), "{path}");
            let roots = json["root_eclasses"].as_array().unwrap();
            assert!(
                !roots.is_empty() && roots.iter().all(|r| nodes.values().any(|node| node["eclass"] == *r)),
                "{path}"
            );
            assert!(dump("dot").starts_with("digraph"), "{path}");
        }
    }
    assert!(several > 3, "{several} regions have classes of several e-nodes");
    let graph = passes.join("saturate/scale_per_column_goes_into_weights.graph");
    let graph = graph.to_str().unwrap();
    assert_eq!(good(&at, &["explain", graph, "--target", "x86_64-v3"]).lines().count(), 2);
    for (args, said) in [
        (&["--region", "1", "--dump", "text"][..], "accepted: 0 to 0"),
        (&["--node", "Mul_2", "--dump", "dot"], "no node `Mul_2`"),
        (&["--region", "0"], "--dump"),
    ] {
        let output = adze(&at, &[&["explain", graph][..], args].concat());
        let message = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(said), "{message}");
    }
}

/// The page is browsed in headless Chromium: search, classes, costs, what was taken, the log of rewrites.
#[test]
fn pages_are_browsed() {
    let at = folder("page");
    let there =
        |command: &str| Command::new(command).arg("--version").output().is_ok_and(|output| output.status.success());
    if let Some(missing) = ["python3", "chromium", "chromedriver"].into_iter().find(|command| !there(command)) {
        assert!(std::env::var_os("ADZE_REQUIRE").is_none(), "ADZE_REQUIRE is set and this is missing: {missing}");
        eprintln!("skipped: {missing}");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let graph = root.join("../testdata/passes/saturate/scale_per_column_goes_into_weights.graph");
    let dump = ["--target", "x86_64-v3", "--node", "Mul_1", "--dump", "html", "-o", "page.html"];
    good(&at, &[&["explain", graph.to_str().unwrap()][..], &dump].concat());
    let page = root.join("tests/page.py");
    let browsed = Command::new("python3").arg(page).arg("page.html").current_dir(&at).output().unwrap();
    assert!(browsed.status.success(), "{}", String::from_utf8_lossy(&browsed.stderr));
}

/// The program that the system's compiler links gives what `run` gives.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn executable() {
    let at = folder("exe");
    if Command::new("cc").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI is set and there is no C compiler");
        eprintln!("skipped: no C compiler");
        return;
    }
    let model = model();
    let model = model.to_str().unwrap();
    good(&at, &["compile", model, "--target", "x86_64-v2", "--emit", "exe", "-o", "out"]);
    let pixels: Vec<f32> = (0..64u8).map(|i| f32::from(i % 17) / 16.0).collect();
    let image = Tensor::from_f32(&[1, 1, 8, 8], &pixels);
    fs::write(at.join("image.bin"), image.bytes()).unwrap();
    data::write(&at.join("image.npy"), &[("image".to_owned(), image)]).unwrap();
    let run = Command::new(at.join("out/digits_cnn")).arg("image.bin").current_dir(&at).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    good(&at, &["run", model, "--interpret", "--input", "image.npy", "--output", "logits.npy"]);
    let expected = data::read(&at.join("logits.npy")).unwrap().remove(0).1;
    let found = Tensor::new(expected.dtype(), expected.shape().to_vec(), run.stdout).unwrap();
    let difference = compare(&found, &expected, Tolerance::of(expected.dtype())).unwrap();
    assert_eq!(difference.beyond, 0, "{found:?} is not {expected:?}");
}

/// CPUs that are none, or that no program can choose between, are argument errors that say what would do.
#[test]
fn cpus_that_do_not_fit() {
    let at = folder("cpus");
    let model = model();
    for (cpus, message) in [
        ("c99,c99-simd", "versions for c99, c99-simd"),
        ("riscv64gc,riscv64gcv", "versions for riscv64gc, riscv64gcv"),
        ("haswell,cortex-a53", "accepted: CPUs of the instruction set of"),
        ("cortex-m99", "cortex-a76"),
    ] {
        let output = adze(&at, &["compile", model.to_str().unwrap(), "--cpu", cpus, "-o", "out"]);
        let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(2), "{cpus}: {said}");
        assert!(said.contains(message), "{cpus}: {said}");
        assert!(!at.join("out").exists());
    }
}

/// Without a linker there is a clear error and no folder.
#[test]
fn missing_linker() {
    let at = folder("linker");
    let model = model();
    let args = ["compile", model.to_str().unwrap(), "--target", "x86_64-v2", "--emit", "shared", "-o", "out"];
    let output = Command::new(env!("CARGO_BIN_EXE_adze"))
        .args(args)
        .current_dir(&at)
        .env("CC", "no-such-compiler")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-compiler"));
    assert!(!at.join("out").exists());
}

#[test]
fn quantize_and_check() {
    let at = folder("quantize");
    let model = model();
    let (model, calib) = (model.to_str().unwrap(), model.with_file_name("digits_calib.npy"));
    let samples = ["--calib", calib.to_str().unwrap(), "--preprocess", "div=16", "--samples", "40"];
    let outputs = ["-o", "a.onnx", "-o", "a.graph", "--weights-out", "a.npz", "--table-out", "a.table"];
    let said = good(&at, &[&["quantize", model][..], &samples, &outputs].concat());
    assert_eq!(said, "3 products with i8 weights\n");
    // Text and ONNX are the same network.
    let digit = Path::new(model).with_file_name("digit_7.npy");
    let digit = digit.to_str().unwrap();
    let from_onnx = good(&at, &["run", "a.onnx", "--input", digit]);
    assert_eq!(from_onnx, good(&at, &["run", "a.graph", "--weights", "a.npz", "--input", digit]));
    assert!(good(&at, &["run", "a.onnx", "--input", digit, "--top", "1"]).contains(": 7 ("));
    // The table can be fed back, and edited.
    let table = fs::read_to_string(at.join("a.table")).unwrap();
    fs::write(at.join("b.table"), table.replacen(": i8", ": f32", 1)).unwrap();
    let said = good(&at, &[&["quantize", model, "--table", "b.table", "-o", "b.onnx"][..], &samples].concat());
    assert!(said.contains("2 products") && said.contains("left in floats"), "{said}");

    let layers = ["check", "a.onnx", "--quantized-vs-float", model, "--json"];
    let said = good(&at, &[&layers[..], &samples, &["--min-sqnr", "10"]].concat());
    assert!(said.lines().count() >= 4 && said.lines().all(|line| line.contains("\"isolated\"")), "{said}");
    let output = adze(&at, &[&layers[..], &samples, &["--min-sqnr", "100"]].concat());
    assert_eq!(output.status.code(), Some(3));

    for (words, code, message) in [
        (&["-o", "c.txt"][..], 2, "accepted: a file named .onnx or .graph"),
        (&["-o", "c.graph"], 2, "--weights-out"),
        (&["-o", "c.onnx", "--keep", "nothing"], 2, "no node `nothing`"),
        (&["-o", "c.onnx", "--block", "32"], 2, "--activation-dtype none"),
        (&["-o", "c.onnx", "--calib", "a.npz"], 2, "accepted: `image` or `in_0`"),
        (&["-o", "c.onnx", "--table", "a.graph"], 1, "expected `table`"),
    ] {
        let given = if words.contains(&"--calib") { &[][..] } else { &samples[..] };
        let output = adze(&at, &[&["quantize", model][..], given, words].concat());
        let error = String::from_utf8_lossy(&output.stderr).replace("\n", " ");
        assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
        assert!(error.split_whitespace().collect::<Vec<_>>().join(" ").contains(message), "{words:?}: {error}");
    }
}

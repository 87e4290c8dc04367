//! How near the innermost loops of sums of products come to what an AArch64 core can start, by LLVM's model of it.
//!
//! `cargo bench -p adze-targets --bench loops [-- filter] [--list]` needs LLVM's tools (`llvm-mc`, `llvm-mca`), the newest
//! that are found. For every layer and core the loop with most multiply-adds among those without loops inside goes through
//! `llvm-mca`, and so does a row of independent multiply-adds of the same kind: the quotient of their cycles per
//! multiply-add is the share printed. `--list` prints the loops too.

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use adze_ir::ops::{ConvInteger, MatMulInteger, Op};
use adze_ir::types::{DType, Layout, TensorType};
use adze_targets::cpu::Machine;
use adze_targets::cpu::emit::Emitter;
use support::{Layer, conv, matmul};

/// A machine, what LLVM calls the core, and the fewest cycles of a whole-vector multiply-add or dot product there.
///
/// LLVM has the model of Cortex-A57 for Cortex-A76; that of Neoverse N1 is the same core's, for servers. Two pipes of 128
/// bits take one each per cycle. The two pipes of Cortex-A55 are 64 bits wide, so that one starts per cycle; LLVM's model
/// says so for all whole-vector operations but `fmla`, and lets nothing but `fmla` finish out of order, where Arm's guide
/// has no such difference. So there `sdot` is looked at as the `fmla` of the same registers, whose latency is the same,
/// and cycles are never fewer than Arm's; the last column is what LLVM says about the loop as it is, by its own limit.
const CORES: [(&str, &str, f64); 3] =
    [("cortex-a55", "cortex-a55", 1.0), ("cortex-a76", "cortex-a76", 0.5), ("cortex-a76", "neoverse-n1", 0.5)];
/// Shares that the loops have to reach.
const BAR: f64 = 0.8;
const ITERATIONS: u32 = 200;
const BRANCH_BACK: u32 = 0x5400_0000;

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let lists = std::env::args().any(|a| a == "--list");
    let (Some(mc), Some(mca)) = (newest("llvm-mc"), newest("llvm-mca")) else {
        println!("no llvm-mc and llvm-mca: nothing looked at");
        return;
    };
    let tools = Tools { mc, mca };
    let mut least = f64::INFINITY;
    for (name, core, documented) in CORES {
        let machine = Machine::from_name(name).expect("a machine of the table");
        println!("code for {name} on {core}: {} with its model {}", tools.mca, tools.model(core));
        for layer in layers().into_iter().filter(|layer| layer.name.contains(&filter)) {
            let Some(found) = inner_loop(&layer, &machine, &tools) else { continue };
            let products = f64::from(found.products);
            let own = products * tools.limit(core, &found.kind) / tools.cycles(core, &found.lines);
            let lines = if machine.narrow_loads { as_fmla(&found.lines) } else { found.lines.clone() };
            let limit = documented.max(if machine.narrow_loads { 0.0 } else { tools.limit(core, &found.kind) });
            let cycles = tools.cycles(core, &lines).max(products * limit);
            let share = products * limit / cycles;
            least = least.min(share);
            println!(
                "  {:28} {:4} instructions, {:3} {:5} in {cycles:6.1} cycles: {:5.1} %  ({:5.1} %)",
                layer.name,
                found.lines.len(),
                found.products,
                found.kind,
                100.0 * share,
                100.0 * own
            );
            if lists {
                println!("    {}", found.lines.join("\n    "));
            }
        }
    }
    println!("least {:.1} %, wanted {:.0} %", 100.0 * least, 100.0 * BAR);
    assert!(!filter.is_empty() || least >= BAR, "a loop is below the bar");
}

/// Every `sdot` as an `fmla`.
fn as_fmla(lines: &[String]) -> Vec<String> {
    let map = |line: &String| match line.strip_prefix("sdot ") {
        Some(rest) => format!("fmla {}", rest.replace(".16b", ".4s").replace(".4b[", ".s[")),
        None => line.clone(),
    };
    lines.iter().map(map).collect()
}

/// Products and convolutions of networks, in `f32` and in bytes.
fn layers() -> Vec<Layer> {
    vec![
        matmul(64, 256, 256, false),
        matmul(49, 1024, 1024, false),
        conv("1x1", [64, 384, 14], 1, 1, 1),
        conv("1x1", [384, 64, 14], 1, 1, 1),
        conv("3x3", [64, 64, 56], 3, 1, 1),
        conv("3x3", [256, 256, 14], 3, 1, 1),
        bytes_conv(DType::I8, [64, 64, 28], 3),
        bytes_conv(DType::U8, [64, 64, 28], 3),
        bytes_conv(DType::I8, [64, 384, 14], 1),
        bytes_matmul(64, 256, 256),
    ]
}

fn bytes_conv(dtype: DType, [ci, co, h]: [usize; 3], k: usize) -> Layer {
    let op = ConvInteger { strides: vec![1; 2], pads: vec![0; 4], dilations: vec![1; 2], group: 1 };
    let out = h + 1 - k;
    let name = format!("{} {h}x{h} {ci}->{co} k{k}", if dtype == DType::I8 { "s8" } else { "u8" });
    let of = |dtype, shape: &[usize]| TensorType::fixed(dtype, shape);
    let last = |ty: TensorType| ty.with_layout(Layout::channels_last(4));
    of_bytes(
        name,
        op.into(),
        [last(of(dtype, &[1, ci, h, h])), of(DType::I8, &[co, ci, k, k])],
        last(of(DType::I32, &[1, co, out, out])),
    )
}

fn bytes_matmul(m: usize, k: usize, n: usize) -> Layer {
    let of = |dtype, shape: &[usize]| TensorType::fixed(dtype, shape);
    let operands = [of(DType::I8, &[m, k]), of(DType::I8, &[k, n])];
    of_bytes(format!("s8 {m}x{k}x{n}"), MatMulInteger {}.into(), operands, of(DType::I32, &[m, n]))
}

fn of_bytes(name: String, op: Op, inputs: [TensorType; 2], output: TensorType) -> Layer {
    Layer { name, op, inputs: inputs.into(), outputs: vec![output], macs: 0.0, fixed: vec![false, true] }
}

struct Loop {
    lines: Vec<String>,
    /// Multiply-adds of vectors.
    products: u32,
    /// Name of their instruction.
    kind: String,
}

/// The loop without loops inside that has most multiply-adds, of the kernel that the first schedule gives.
fn inner_loop(layer: &Layer, machine: &Machine, tools: &Tools) -> Option<Loop> {
    let draft = layer.draft(machine, None).expect("the layer has kernels");
    let mut emitter = Emitter::new(machine).expect("the machine has an emitter");
    let code = emitter.compile(&draft.lowered.first()?.kernel).expect("the kernel compiles");
    let words: Vec<u32> =
        code.bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
    // Conditional branches back, with where they lead.
    let loops: Vec<(usize, usize)> = (0..words.len())
        .filter(|&at| words[at] & 0xff00_0010 == BRANCH_BACK && words[at] & 0x0080_0000 != 0)
        .filter_map(|at| Some((at.checked_sub(0x8_0000 - (words[at] >> 5 & 0x7_ffff) as usize)?, at)))
        .collect();
    let inner = loops.iter().filter(|(from, to)| !loops.iter().any(|(f, t)| f >= from && t < to));
    inner.map(|&(from, to)| tools.read(&words[from..=to])).max_by_key(|found| found.products)
}

struct Tools {
    mc: String,
    mca: String,
}

impl Tools {
    /// The words as text, and the multiply-adds among them.
    fn read(&self, words: &[u32]) -> Loop {
        let bytes: String =
            words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("{byte:#04x} ")).collect();
        let text = run(&self.mc, &["--disassemble", "--triple=aarch64", "--mattr=+v8.6a,+i8mm,+dotprod"], &bytes);
        let lines: Vec<String> =
            text.lines().map(|line| line.trim().replace('\t', " ")).filter(|line| !line.starts_with('.')).collect();
        let kinds = ["fmla", "sdot", "usdot", "sudot", "smull"];
        let of = |kind: &str| lines.iter().filter(|line| line.starts_with(kind) && line.contains(".4s")).count() as u32;
        let kind = kinds.into_iter().max_by_key(|kind| of(kind)).unwrap_or(kinds[0]);
        Loop { products: of(kind), kind: kind.into(), lines }
    }

    /// Cycles of one turn.
    fn cycles(&self, core: &str, lines: &[String]) -> f64 {
        let (core, turns) = (format!("-mcpu={core}"), format!("-iterations={ITERATIONS}"));
        let options = ["-mtriple=aarch64", &core, "-mattr=+v8.6a,+i8mm,+dotprod", &turns];
        let text = run(&self.mca, &options, &lines.join("\n"));
        let line = text.lines().find(|line| line.starts_with("Total Cycles:")).unwrap_or_else(|| panic!("{text}"));
        let cycles: f64 = line.split_whitespace().last().and_then(|word| word.parse().ok()).expect("a number");
        cycles / f64::from(ITERATIONS)
    }

    /// Cycles of one multiply-add among as many independent ones as there are registers for.
    fn limit(&self, core: &str, kind: &str) -> f64 {
        let (operand, lane) = if kind == "fmla" { ("4s", "s[0]") } else { ("16b", "4b[0]") };
        let lines: Vec<String> = (0..24).map(|sum| format!("{kind} v{sum}.4s, v30.{operand}, v31.{lane}")).collect();
        self.cycles(core, &lines) / lines.len() as f64
    }

    /// The units of the core tell whose model it is.
    fn model(&self, core: &str) -> String {
        let core = format!("-mcpu={core}");
        let text = run(&self.mca, &["-mtriple=aarch64", &core, "-iterations=1"], "nop");
        let unit = text.lines().find_map(|line| line.split_once(" - ").filter(|_| line.starts_with('[')));
        unit.map_or_else(|| "?".into(), |(_, unit)| unit.trim().split("Unit").next().unwrap_or("?").to_owned())
    }
}

/// The newest version of a tool that is installed.
fn newest(tool: &str) -> Option<String> {
    let versions = (14..30).rev().map(|version| format!("{tool}-{version}"));
    versions
        .chain([tool.to_owned()])
        .find(|name| Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok())
}

fn run(program: &str, options: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it is installed");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

//! Runs kernels as C99: one program of the system's C compiler, memory through standard input and output.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use adze_targets::cpu::c99::{INCLUDES, PRELUDE, kernel_function};
use adze_targets::cpu::kernel::Kernel;

/// A call of a kernel.
pub struct Case<'a> {
    pub kernel: &'a Kernel,
    /// One part per parameter.
    pub memory: &'a [Vec<u8>],
    pub range: (i64, i64),
}

/// Runs every case; gives status and memory after. `None` without a C compiler.
pub fn run(cases: &[Case<'_>], flags: &[&str]) -> Option<Vec<(i32, Vec<Vec<u8>>)>> {
    if Command::new("cc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("ADZE_REQUIRE").is_none(), "ADZE_REQUIRE is set and this is missing: cc");
        eprintln!("skipped: cc");
        return None;
    }
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let stem = format!("c99_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(stem);
    let sources = [("c", kernels(cases)), ("main.c", main_source(cases))].map(|(extension, text)| {
        let path = program.with_extension(extension);
        std::fs::write(&path, text).unwrap();
        path
    });
    let [kernels, main] = &sources;
    let object = program.with_extension("o");
    compile(&[flags, &["-ffreestanding", "-c"]].concat(), &object, &[kernels]);
    let sanitize: Vec<&str> = flags.iter().filter(|f| f.starts_with("-fsanitize")).copied().collect();
    compile(&sanitize, &program, &[main, &object]);
    let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let memory: Vec<u8> = cases.iter().flat_map(|case| case.memory.concat()).collect();
    let mut input = child.stdin.take().unwrap();
    let feed = std::thread::spawn(move || input.write_all(&memory).unwrap());
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    assert!(output.status.success(), "{flags:?}: {}, see {}", output.status, kernels.display());
    for path in sources.iter().chain([&object, &program]) {
        std::fs::remove_file(path).unwrap();
    }
    let mut rest = output.stdout.as_slice();
    let mut take = |len: usize| {
        let (head, tail) = rest.split_at(len);
        rest = tail;
        head.to_vec()
    };
    let results = cases.iter().map(|case| {
        let status = i32::from_le_bytes(take(4).try_into().unwrap());
        (status, case.memory.iter().map(|part| take(part.len())).collect())
    });
    Some(results.collect())
}

fn compile(flags: &[&str], output: &Path, sources: &[&PathBuf]) {
    let run = Command::new("cc").arg("-std=c99").args(flags).arg("-o").arg(output).args(sources).output().unwrap();
    assert!(run.status.success(), "{flags:?} {sources:?}:\n{}", String::from_utf8_lossy(&run.stderr));
}

/// All kernels, each with an entry that takes pointers in a row.
fn kernels(cases: &[Case<'_>]) -> String {
    let mut out = format!("{INCLUDES}{PRELUDE}");
    for (index, &Case { kernel, .. }) in cases.iter().enumerate() {
        out.push_str(&kernel_function(kernel, &format!("kernel_{index}")).unwrap());
        let mut args: Vec<String> = (0..kernel.params.len()).map(|p| format!("p[{p}]")).collect();
        args.extend((!kernel.dims.is_empty()).then(|| "0".into()));
        args.extend(["lo".into(), "hi".into()]);
        let entry = format!("int32_t run_{index}(void *const *p, int64_t lo, int64_t hi)");
        writeln!(out, "{entry};\n{entry} {{ return kernel_{index}({}); }}", args.join(", ")).unwrap();
    }
    out
}

fn main_source(cases: &[Case<'_>]) -> String {
    let mut out = String::from("#include <stdint.h>\n#include <stdio.h>\n");
    let mut body = String::new();
    for (index, &Case { memory, range: (lo, hi), .. }) in cases.iter().enumerate() {
        writeln!(out, "int32_t run_{index}(void *const *p, int64_t lo, int64_t hi);").unwrap();
        let bytes: Vec<String> = memory.iter().map(|part| part.len().to_string()).collect();
        writeln!(body, "  {{\n    static const size_t bytes[] = {{{}}};", bytes.join(", ")).unwrap();
        writeln!(body, "    if (!call(run_{index}, bytes, {}, {lo}, {hi})) return 1;\n  }}", memory.len()).unwrap();
    }
    let most = cases.iter().flat_map(|case| case.memory.iter().map(Vec::len)).max().unwrap_or(0);
    let parts = cases.iter().map(|case| case.memory.len()).max().unwrap_or(0);
    // Parts start at odd addresses: kernels need no alignment.
    write!(
        out,
        "static unsigned char memory[{parts}][{most} + 3];
static int call(int32_t (*run)(void *const *, int64_t, int64_t), const size_t *bytes, int count, int64_t lo, int64_t hi) {{
  void *p[{parts}];
  int32_t status;
  for (int i = 0; i < count; i++) {{
    p[i] = memory[i] + 1;
    if (fread(p[i], 1, bytes[i], stdin) != bytes[i]) return 0;
  }}
  status = run(p, lo, hi);
  fwrite(&status, sizeof status, 1, stdout);
  for (int i = 0; i < count; i++) fwrite(p[i], 1, bytes[i], stdout);
  return 1;
}}
int main(void) {{
{body}  return 0;
}}
"
    )
    .unwrap();
    out
}

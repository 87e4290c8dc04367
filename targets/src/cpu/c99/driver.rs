//! The exported functions `init`, `step` and `run`: what `cpu/driver.rs` builds for objects, as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use adze_ir::extent::{Extent, Sym};

use super::super::driver::{ARENA_HEADER_BYTES, Base, Pointer, Step};
use super::super::module::Module;
use super::extent;
use super::names::{Names, comment};

/// Checks of a call, for all models the same.
const CALL: &str = "
static int adze_misaligned(const void *p) { return p == 0 || ((uintptr_t)p & 63u) != 0; }
static int adze_bad_call(const adze_call *call) {
  return call->size < sizeof(adze_call) || adze_misaligned(call->arena);
}
";

/// The barrier between threads. What it needs of the compiler can be given from outside.
const BARRIER: &str = "
#if !defined(ADZE_ATOMIC_ADD)
#if !defined(__GNUC__)
#error \"several threads need ADZE_ATOMIC_ADD(p, n), ADZE_ATOMIC_LOAD(p) and ADZE_ATOMIC_STORE(p, n) of uint32_t\"
#endif
typedef uint32_t __attribute__((may_alias)) adze_word;
#define ADZE_ATOMIC_ADD(p, n) __atomic_fetch_add((adze_word *)(p), (n), __ATOMIC_SEQ_CST)
#define ADZE_ATOMIC_LOAD(p) __atomic_load_n((adze_word *)(p), __ATOMIC_SEQ_CST)
#define ADZE_ATOMIC_STORE(p, n) __atomic_store_n((adze_word *)(p), (n), __ATOMIC_SEQ_CST)
#endif
/* The last thread to arrive frees the others: a counter and a generation at the start of the arena. */
static void adze_barrier(unsigned char *arena, uint32_t threads) {
  uint32_t mine;
  if (threads == 1) return;
  mine = ADZE_ATOMIC_LOAD(arena + 4);
  if (ADZE_ATOMIC_ADD(arena, 1u) + 1u == threads) {
    ADZE_ATOMIC_STORE(arena, 0u);
    ADZE_ATOMIC_STORE(arena + 4, mine + 1u);
  } else {
    while (ADZE_ATOMIC_LOAD(arena + 4) == mine) {
    }
  }
}
/* A thread's part of a range: whole steps, the same split whatever the data. */
static int64_t adze_part(int64_t lo, int64_t hi, uint32_t threads, uint32_t thread) {
  int64_t chunk = (hi - lo + (int64_t)threads - 1) / (int64_t)threads;
  return adze_min(lo + chunk * (int64_t)thread, hi);
}
";

/// The text of the exported functions. `kernels`: the C name of each kernel; `inside`: the weights are in this file.
pub(super) fn functions(module: &Module, prefix: &str, kernels: &[String], inside: bool) -> String {
    let driver = &module.driver;
    let mut out = CALL.to_owned();
    if driver.max_threads > 1 {
        out.push_str(BARRIER);
    }
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "
int32_t {prefix}_init(adze_call *call) {{
  unsigned char *const arena = (unsigned char *)call->arena;
  if (adze_bad_call(call)) return ADZE_BAD_CALL;
  for (int i = 0; i < {ARENA_HEADER_BYTES}; i++) arena[i] = 0;
  return ADZE_OK;
}}

int32_t {prefix}_step(adze_call *call, uint32_t phase, uint32_t thread_id) {{
"
    );
    let mut walk = Walk { module, kernels, inside, names: Names::default(), symbols: BTreeMap::new(), out, depth: 1 };
    walk.enter();
    walk.steps(&driver.steps);
    walk.leave();
    let mut out = walk.out;
    let _ = write!(
        out,
        "}}

int32_t {prefix}_run(adze_call *call) {{
  if (adze_bad_call(call) || call->thread_count > 1) return ADZE_BAD_CALL;
  return {prefix}_step(call, 0, 0);
}}
"
    );
    out
}

/// Kinds of tensors of the caller: field of the call, local name, C type of a pointer.
const TABLES: [(&str, &str, &str); 3] = [
    ("inputs", "input", "const unsigned char *"),
    ("outputs", "output", "unsigned char *"),
    ("states", "state", "unsigned char *"),
];

struct Walk<'a> {
    module: &'a Module,
    kernels: &'a [String],
    inside: bool,
    names: Names,
    symbols: BTreeMap<Sym, String>,
    out: String,
    depth: usize,
}

impl Walk<'_> {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{:indent$}{text}", "", indent = 2 * self.depth);
    }

    fn extent(&self, e: &Extent) -> String {
        extent::extent(e, &|name| self.symbols.get(name).cloned().unwrap_or_default())
    }

    fn threaded(&self) -> bool {
        self.module.driver.max_threads > 1
    }

    /// Checks of the call, and the names that the steps use.
    fn enter(&mut self) {
        let driver = &self.module.driver;
        self.line("int32_t status = ADZE_OK;");
        let bases = used_bases(&driver.steps);
        if self.threaded() {
            self.line("const uint32_t threads = call->thread_count > 1 ? call->thread_count : 1;");
        }
        let slots = driver.slots.len();
        if slots > 0 {
            self.line(&format!("int64_t dims[{slots}];"));
        }
        self.line("if (adze_bad_call(call) || phase != 0) return ADZE_BAD_CALL;");
        if self.threaded() {
            let most = driver.max_threads;
            self.line(&format!("if (threads > {most} || thread_id >= threads) return ADZE_BAD_CALL;"));
        } else {
            self.line("if (call->thread_count > 1 || thread_id != 0) return ADZE_BAD_CALL;");
        }
        if driver.external_weights {
            self.line("if (adze_misaligned(call->weights)) return ADZE_BAD_CALL;");
        }
        for ((field, _, _), count) in TABLES.iter().zip(driver.pointers) {
            if count > 0 {
                self.line(&format!("if (call->{field} == 0) return ADZE_BAD_CALL;"));
                let all = format!("for (int i = 0; i < {count}; i++)");
                self.line(&format!("{all} if (call->{field}[i] == 0) return ADZE_BAD_CALL;"));
            }
        }
        self.dims();
        for base in bases {
            self.base(base);
        }
    }

    fn dims(&mut self) {
        let driver = &self.module.driver;
        if !driver.dims.is_empty() {
            self.line("if (call->dims == 0) return ADZE_BAD_CALL;");
        }
        for (index, (name, range)) in driver.dims.iter().enumerate() {
            let own = self.names.fresh(name);
            self.line(&format!("const int64_t {own} = call->dims[{index}];"));
            self.line(&format!("if ({own} < {} || {own} > {}) return ADZE_EXTENT_RANGE;", range.lo, range.hi));
            self.symbols.insert(name.clone(), own);
            self.slot(name);
        }
    }

    /// Puts a symbol's value where kernels read it.
    fn slot(&mut self, name: &Sym) {
        if let Some(slot) = self.module.driver.slots.iter().position(|slot| slot == name) {
            let own = self.symbols.get(name).cloned().unwrap_or_default();
            self.line(&format!("dims[{slot}] = {own};"));
        }
    }

    /// Declares what pointers of that kind count from.
    fn base(&mut self, base: Base) {
        let from_call = |kind: usize, index: u32| {
            let (field, name, ty) = TABLES[kind];
            // `const` of the pointer, so that a compiler need not read it again after a kernel wrote memory.
            format!("{ty}const {name}{index} = ({ty})call->{field}[{index}];")
        };
        let declaration = match base {
            Base::Input(index) => from_call(0, index),
            Base::Output(index) => from_call(1, index),
            Base::State(index) => from_call(2, index),
            Base::Arena => "unsigned char *const arena = (unsigned char *)call->arena;".to_owned(),
            Base::Weights => {
                let from = match (self.inside, self.module.driver.external_weights) {
                    (true, _) => "adze_weights",
                    (_, true) => "call->weights",
                    // Without constant data a pointer to it leads to zero bytes: any address will do.
                    _ => "call->arena",
                };
                format!("const unsigned char *const weights = (const unsigned char *){from};")
            }
        };
        self.line(&declaration);
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::For { var, lo, hi, step, body } => self.for_loop(var, lo, hi, *step, body),
                Step::Call { kernel, pointers, lo, hi, node } => self.call(*kernel, pointers, lo, hi, *node),
            }
        }
    }

    fn for_loop(&mut self, var: &Sym, lo: &Extent, hi: &Extent, step: i64, body: &[Step]) {
        let (lo, hi) = (self.extent(lo), self.extent(hi));
        let own = self.names.fresh(var);
        self.line(&format!("for (int64_t {own} = {lo}, {own}_end = {hi}; {own} < {own}_end; {own} += {step}) {{"));
        self.depth += 1;
        let outer = self.symbols.insert(var.clone(), own);
        self.slot(var);
        self.steps(body);
        if let Some(outer) = outer {
            self.symbols.insert(var.clone(), outer);
        }
        self.depth -= 1;
        self.line("}");
    }

    fn call(&mut self, kernel: usize, pointers: &[Pointer], lo: &Extent, hi: &Extent, node: u32) {
        if let Some(loc) = self.module.locs.get(node as usize).filter(|loc| !loc.is_empty()) {
            let names = loc.names().iter().map(|n| comment(n)).collect::<Vec<_>>().join(", ");
            self.line(&format!("/* {names} */"));
        }
        let mut args: Vec<String> = pointers.iter().map(|p| self.pointer(p)).collect();
        if self.module.kernels.get(kernel).is_some_and(|k| !k.dims.is_empty()) {
            args.push("dims".into());
        }
        let (lo, hi) = (self.extent(lo), self.extent(hi));
        if self.threaded() {
            let part = |thread: &str| format!("adze_part({lo}, {hi}, threads, {thread})");
            args.extend([part("thread_id"), part("thread_id + 1u")]);
        } else {
            args.extend([lo, hi]);
        }
        let name = self.kernels.get(kernel).map_or("", String::as_str);
        self.line(&format!(
            "if (status == ADZE_OK && (status = {name}({})) != ADZE_OK) call->node = {node};",
            args.join(", ")
        ));
        if self.threaded() {
            self.line("adze_barrier((unsigned char *)call->arena, threads);");
        }
    }

    fn pointer(&self, pointer: &Pointer) -> String {
        let base = match pointer.base {
            Base::Input(index) => format!("{}{index}", TABLES[0].1),
            Base::Output(index) => format!("{}{index}", TABLES[1].1),
            Base::State(index) => format!("{}{index}", TABLES[2].1),
            Base::Arena => "arena".to_owned(),
            Base::Weights => "weights".to_owned(),
        };
        let mut text = base;
        if pointer.offset != Extent::ZERO {
            text = format!(
                "{text} + {}",
                extent::operand(&pointer.offset, &|name| self.symbols.get(name).cloned().unwrap_or_default())
            );
        }
        if pointer.per_thread != 0 && self.threaded() {
            text = format!("{text} + {} * (int64_t)thread_id", pointer.per_thread);
        }
        text
    }

    /// Thread 0 writes the outputs' extents; everyone returns its status.
    fn leave(&mut self) {
        let extents: Vec<String> = self.module.driver.output_extents.iter().map(|e| self.extent(e)).collect();
        if !extents.is_empty() {
            self.line("if (call->extents != 0 && thread_id == 0) {");
            self.depth += 1;
            for (index, extent) in extents.iter().enumerate() {
                self.line(&format!("call->extents[{index}] = {extent};"));
            }
            self.depth -= 1;
            self.line("}");
        }
        self.line("return status;");
    }
}

/// What pointers count from, without repetition.
fn used_bases(steps: &[Step]) -> std::collections::BTreeSet<Base> {
    let mut bases = std::collections::BTreeSet::new();
    for step in steps {
        match step {
            Step::For { body, .. } => bases.extend(used_bases(body)),
            Step::Call { pointers, .. } => bases.extend(pointers.iter().map(|p| p.base)),
        }
    }
    bases
}

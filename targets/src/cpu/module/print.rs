//! Module to text.

use std::fmt::{self, Write};

use adze_ir::text::{print_dims, print_state};

use super::{Module, Port};
use crate::cpu::driver::{Base, Pointer, Step};
use crate::cpu::kernel::text;

/// Writes a module: interface, data, steps, then every kernel.
pub(super) fn print_module(module: &Module, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let driver = &module.driver;
    write!(f, "module @{:?} for {:?}", &*module.name, module.machine)?;
    print_dims(&module.dims(), f)?;
    let weights = if driver.external_weights { "outside" } else { "inside" };
    let [inputs, outputs, states] = driver.pointers;
    let subnormals = if driver.flush { "flush" } else { "keep" };
    write!(f, " threads={} weights={weights} subnormals={subnormals}", driver.max_threads)?;
    write!(f, " arena={}", module.arena_bytes)?;
    write!(f, " pointers({inputs}, {outputs}, {states})")?;
    writeln!(f, " slots({}) {{", driver.slots.iter().map(|s| s.to_string()).collect::<Vec<_>>().join(", "))?;
    for (word, ports) in [("input", &module.inputs), ("output", &module.outputs)] {
        for Port { name, ty, place } in ports {
            writeln!(f, "  {word} {:?} : {ty} = {place}", &**name)?;
        }
    }
    for (state, bytes) in &module.states {
        f.write_str("  ")?;
        print_state(f, state)?;
        writeln!(f, " bytes={bytes}")?;
    }
    for (offset, entry) in &module.constants {
        writeln!(f, "  data {offset} {:?} : {}", entry.digest().to_string(), entry.ty())?;
    }
    print_steps(module, &driver.steps, 1, f)?;
    f.write_str("}\n")?;
    module.kernels.iter().try_for_each(|kernel| f.write_str(&text::print(kernel)))
}

fn print_steps(module: &Module, steps: &[Step], depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let indent = 2 * depth;
    for step in steps {
        match step {
            Step::For { var, lo, hi, step, body } => {
                writeln!(f, "{:indent$}for {var} in {lo}..{hi} step {step} {{", "")?;
                print_steps(module, body, depth + 1, f)?;
                writeln!(f, "{:indent$}}}", "")?;
            }
            Step::Call { kernel, pointers, lo, hi, node } => {
                let name = module.kernels.get(*kernel).map_or("?", |k| &k.name);
                let pointers: Vec<String> = pointers.iter().map(pointer_text).collect();
                write!(f, "{:indent$}call @{name}({}) in {lo}..{hi}", "", pointers.join(", "))?;
                match module.locs.get(*node as usize) {
                    Some(loc) if !loc.is_empty() => writeln!(f, " {loc}")?,
                    _ => f.write_char('\n')?,
                }
            }
        }
    }
    Ok(())
}

fn pointer_text(pointer: &Pointer) -> String {
    let each = if pointer.per_thread == 0 { String::new() } else { format!(" each {}", pointer.per_thread) };
    format!("{} + {}{each}", pointer.base, pointer.offset)
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Base::Input(index) => write!(f, "input {index}"),
            Base::Output(index) => write!(f, "output {index}"),
            Base::State(index) => write!(f, "state {index}"),
            Base::Arena => f.write_str("arena"),
            Base::Weights => f.write_str("weights"),
        }
    }
}

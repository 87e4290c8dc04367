//! What a module has to satisfy before code is made of it.
//!
//! - It is for the machine that code is made for.
//! - Every kernel verifies, and reads dimensions from slots that there are.
//! - Extents of steps mention dimensions and variables of enclosing loops only; loop variables have a slot.
//! - Pointers of the caller are among those that the driver checks; calls give as many as the kernel takes.
//! - There is at least one thread, and the arena holds the driver's header.

use std::collections::BTreeSet;

use adze_ir::extent::{Extent, Sym};

use super::Module;
use crate::cpu::Machine;
use crate::cpu::driver::{ARENA_HEADER_BYTES, Base, Step};
use crate::cpu::kernel::verify;

/// Most pointers, dimensions and slots: tables of 32-bit offsets on the stack.
const MAX_TABLE: usize = 1 << 16;

impl Module {
    /// All violations, as text.
    pub fn verify(&self, machine: &Machine) -> Vec<String> {
        let mut out = Vec::new();
        if self.machine != machine.name {
            out.push(format!("the module: found kernels for `{}`, accepted: `{}`", self.machine, machine.name));
        }
        let driver = &self.driver;
        if driver.max_threads == 0 || self.arena_bytes < ARENA_HEADER_BYTES {
            out.push(format!("found {} threads and {} bytes of arena", driver.max_threads, self.arena_bytes));
        }
        if driver.slots.len() > MAX_TABLE || driver.pointers.iter().any(|&n| n as usize > MAX_TABLE) {
            out.push(format!("found more than {MAX_TABLE} slots or pointers"));
        }
        for kernel in &self.kernels {
            out.extend(verify(kernel).iter().map(|v| format!("kernel `{}`: {v}", kernel.name)));
            for dim in kernel.dims.iter().filter(|d| d.slot as usize >= driver.slots.len()) {
                out.push(format!(
                    "kernel `{}`: `{}` in slot {} of {}",
                    kernel.name,
                    dim.name,
                    dim.slot,
                    driver.slots.len()
                ));
            }
        }
        let mut scope: Vec<Sym> = driver.dims.iter().map(|(name, _)| name.clone()).collect();
        for port in self.inputs.iter().chain(&self.outputs) {
            port.ty.shape.iter().for_each(|e| in_scope(e, &scope, "a tensor's shape", &mut out));
            self.base(port.place, &mut out);
        }
        self.steps(&driver.steps, &mut scope, &mut out);
        out
    }

    fn base(&self, base: Base, out: &mut Vec<String>) {
        let [inputs, outputs, states] = self.driver.pointers;
        let (index, count) = match base {
            Base::Input(index) => (index, inputs),
            Base::Output(index) => (index, outputs),
            Base::State(index) => (index, states),
            Base::Arena | Base::Weights => return,
        };
        if index >= count {
            out.push(format!("a pointer: found `{base}`, accepted: below {count}"));
        }
    }

    fn steps(&self, steps: &[Step], scope: &mut Vec<Sym>, out: &mut Vec<String>) {
        for step in steps {
            match step {
                Step::For { var, lo, hi, step, body } => {
                    [lo, hi].into_iter().for_each(|e| in_scope(e, scope, "a loop's bound", out));
                    if *step <= 0 || !self.driver.slots.contains(var) || scope.contains(var) {
                        out.push(format!(
                            "a loop over `{var}` by {step}: accepted: a fresh variable with a slot, by 1 or more"
                        ));
                    }
                    scope.push(var.clone());
                    self.steps(body, scope, out);
                    scope.pop();
                }
                Step::Call { kernel, pointers, lo, hi, .. } => {
                    [lo, hi].into_iter().for_each(|e| in_scope(e, scope, "a call's range", out));
                    for pointer in pointers {
                        in_scope(&pointer.offset, scope, "a pointer", out);
                        self.base(pointer.base, out);
                    }
                    match self.kernels.get(*kernel) {
                        Some(kernel) if kernel.params.len() == pointers.len() => {}
                        Some(kernel) => {
                            out.push(format!("a call of `{}` with {} pointers", kernel.name, pointers.len()))
                        }
                        None => out.push(format!("a call of kernel {kernel} of {}", self.kernels.len())),
                    }
                }
            }
        }
    }
}

fn in_scope(extent: &Extent, scope: &[Sym], what: &str, out: &mut Vec<String>) {
    let mut symbols = BTreeSet::new();
    extent.symbols(&mut symbols);
    for symbol in symbols.iter().filter(|s| !scope.contains(s)) {
        out.push(format!("{what}: found `{symbol}`, which is no dimension and no loop variable in scope"));
    }
}

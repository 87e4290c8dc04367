//! Cores as data: what operations take, and how fast each level of memory is.

use serde::Deserialize;

use crate::cpu::machine::{Arch, Machine};

/// What operations take on a core, in cycles, and its memory. A vector here is one register of the machine.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Core {
    /// Multiply-add.
    pub fma: f64,
    /// Other arithmetic.
    pub arith: f64,
    /// Division, square root.
    pub divide: f64,
    /// Move between lanes.
    pub shuffle: f64,
    /// Share of such a move that keeps arithmetic waiting for a port of both.
    pub shared: f64,
    /// Conversion between formats.
    pub convert: f64,
    /// Load.
    pub load: f64,
    /// Store.
    pub store: f64,
    /// Scalar integer operation.
    pub int: f64,
    /// Any operation, at the front end.
    pub issue: f64,
    /// Factor of the latencies that loops carry.
    pub chain: f64,
    /// Operations that the core looks ahead; 1 in order.
    pub window: f64,
    /// The end of a loop that is not foreseen.
    pub entry: f64,
    /// A branch.
    pub branch: f64,
    /// Starting a kernel.
    pub start: f64,
    /// Share of the shorter of computing and waiting for memory that the longer one does not hide.
    pub overlap: f64,
    /// Bytes of the first cache.
    pub l1_bytes: f64,
    /// Bytes of the second cache.
    pub l2_bytes: f64,
    /// Bytes of the third cache; 0 without one.
    pub l3_bytes: f64,
    /// Bytes per cycle from the second cache.
    pub l2_rate: f64,
    /// Bytes per cycle from the third cache.
    pub l3_rate: f64,
    /// Bytes per cycle from memory.
    pub dram_rate: f64,
}

/// A table of cores that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table of cores: {0}")]
pub struct CoreError(String);

/// The table: a section per machine, or per instruction set for those without one of their own.
const TABLE: &str = include_str!("cores.toml");

impl Core {
    /// The core of a machine.
    ///
    /// # Panics
    /// If the table that is compiled in is broken; a test reads every row.
    pub fn of(machine: &Machine) -> Core {
        let name = match machine.arch {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::Riscv64 => "riscv64",
            Arch::C99 => "c99",
        };
        let cores = Core::table(TABLE).expect("the table of cores is well formed");
        // Dot products are all that machines of one name differ in.
        let plain = machine.name.trim_end_matches("-vnni");
        let found = cores.get(machine.name).or_else(|| cores.get(plain)).or_else(|| cores.get(name));
        found.cloned().expect("every instruction set has a row")
    }

    /// Names of the constants, as in the table.
    pub const NAMES: &'static [&'static str] = &[
        "fma",
        "arith",
        "divide",
        "shuffle",
        "shared",
        "convert",
        "load",
        "store",
        "int",
        "issue",
        "chain",
        "window",
        "entry",
        "branch",
        "start",
        "overlap",
        "l1_bytes",
        "l2_bytes",
        "l3_bytes",
        "l2_rate",
        "l3_rate",
        "dram_rate",
    ];

    /// The constant of that name.
    pub fn constant_mut(&mut self, name: &str) -> Option<&mut f64> {
        Some(match name {
            "fma" => &mut self.fma,
            "arith" => &mut self.arith,
            "divide" => &mut self.divide,
            "shuffle" => &mut self.shuffle,
            "shared" => &mut self.shared,
            "convert" => &mut self.convert,
            "load" => &mut self.load,
            "store" => &mut self.store,
            "int" => &mut self.int,
            "issue" => &mut self.issue,
            "chain" => &mut self.chain,
            "window" => &mut self.window,
            "entry" => &mut self.entry,
            "branch" => &mut self.branch,
            "start" => &mut self.start,
            "overlap" => &mut self.overlap,
            "l1_bytes" => &mut self.l1_bytes,
            "l2_bytes" => &mut self.l2_bytes,
            "l3_bytes" => &mut self.l3_bytes,
            "l2_rate" => &mut self.l2_rate,
            "l3_rate" => &mut self.l3_rate,
            "dram_rate" => &mut self.dram_rate,
            _ => return None,
        })
    }

    /// Reads a table of cores.
    ///
    /// # Errors
    /// [`CoreError`] says what is wrong.
    pub fn table(text: &str) -> Result<std::collections::BTreeMap<String, Core>, CoreError> {
        toml::from_str(text).map_err(|e| CoreError(e.to_string()))
    }

    /// Cycles per byte that is read again after so many others.
    pub fn byte_cycles(&self, distance: f64) -> f64 {
        if distance <= self.l1_bytes {
            0.0
        } else if distance <= self.l2_bytes {
            1.0 / self.l2_rate
        } else if distance <= self.l3_bytes {
            1.0 / self.l3_rate
        } else {
            1.0 / self.dram_rate
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_core() {
        for name in Machine::NAMES {
            let core = Core::of(&Machine::from_name(name).unwrap());
            assert!(core.fma > 0.0 && core.byte_cycles(1e9) > core.byte_cycles(1e4), "{name}");
        }
    }

    #[test]
    fn constants_go_by_their_names() {
        let mut core = Core::of(&Machine::from_name("aarch64").unwrap());
        for name in Core::NAMES {
            *core.constant_mut(name).unwrap() = 7.0;
        }
        let text = format!("{core:?}");
        assert_eq!(text.matches(": 7.0").count(), text.matches(": ").count(), "every one is named");
        assert_eq!(core.constant_mut("speed"), None);
    }

    #[test]
    fn a_broken_table_is_an_error() {
        assert!(Core::table("[x]\nfma = 1").is_err());
    }
}

//! Phases: a model as parts of its graph that run one after another, each on one device.
//!
//! What an accelerator does not run is done by the CPU, in the same package: [`partition()`] asks the accelerator which nodes
//! of a graph it has no commands for, and cuts the graph there. Accelerators know nothing of phases, and phases nothing of any
//! one of them. See `docs/abi.md` for how a package of phases is called.

mod cut;
mod glue;
mod partition;

use std::fmt;
use std::sync::Arc;

use adze_ir::graph::Graph;
use adze_ir::types::TensorType;

pub use glue::{Arena, glue};
pub use partition::{Answer, Refused, partition};

/// Where a phase runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The processor that calls the model.
    Cpu,
    /// The accelerator.
    Accelerator,
}

/// A tensor that phases hand on, or one of the model's inputs and outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossing {
    /// Its name: that of the value, or a number. No two are the same.
    pub name: Arc<str>,
    /// Type, of fixed shape.
    pub ty: TensorType,
}

impl Crossing {
    /// Its size.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.ty.max_bytes(&Default::default())).unwrap_or(0)
    }
}

/// Why a node is not on the accelerator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Source nodes.
    pub names: Vec<Arc<str>>,
    /// Operator.
    pub op: &'static str,
    /// What was found and what would be accepted there.
    pub why: String,
}

/// A part of a model on one device.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Where it runs.
    pub device: Device,
    /// What it does; its name is that of the model, with the phase's position where there are several.
    pub graph: Graph,
    /// The graph's inputs, as positions in [`Phases::tensors`].
    pub inputs: Vec<usize>,
    /// The graph's outputs, as positions in [`Phases::tensors`].
    pub outputs: Vec<usize>,
    /// On the CPU, why its nodes are there.
    pub reasons: Vec<Reason>,
}

impl Phase {
    /// Number of nodes, constants left out.
    pub fn nodes(&self) -> usize {
        self.graph.nodes().filter(|(_, node)| !node.inputs.is_empty()).count()
    }
}

/// A model in phases.
#[derive(Clone, Debug)]
pub struct Phases {
    /// The model's name.
    pub name: Arc<str>,
    /// The accelerator's name.
    pub accelerator: String,
    /// Inputs of the model first, then what phases make, in that order.
    pub tensors: Vec<Crossing>,
    /// Number of inputs.
    pub inputs: usize,
    /// The model's outputs by name, as positions in `tensors`.
    pub outputs: Vec<(Arc<str>, usize)>,
    /// The phases in order.
    pub phases: Vec<Phase>,
}

impl Phases {
    /// The name of a phase's device: `cpu`, or the accelerator's.
    pub fn device_name(&self, device: Device) -> &str {
        match device {
            Device::Cpu => "cpu",
            Device::Accelerator => &self.accelerator,
        }
    }

    /// The phase that makes a tensor; none for an input of the model.
    pub fn maker(&self, tensor: usize) -> Option<usize> {
        self.phases.iter().position(|phase| phase.outputs.contains(&tensor))
    }

    /// Bytes that one device makes and another one reads, each tensor once. The model's inputs and outputs are not among them.
    pub fn crossing_bytes(&self) -> u64 {
        let crosses = |&tensor: &usize| {
            let Some(maker) = self.maker(tensor) else { return false };
            let reads = |phase: &Phase| phase.device != self.phases[maker].device && phase.inputs.contains(&tensor);
            self.phases.iter().any(reads)
        };
        (0..self.tensors.len()).filter(crosses).map(|tensor| self.tensors[tensor].bytes()).sum()
    }
}

impl fmt::Display for Phases {
    /// For reading, by `adze compile --stop-after phases`: the tensors, then each phase with why it is where it is, and its graph.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |tensors: &[usize]| tensors.iter().map(|t| format!("${t}")).collect::<Vec<_>>().join(", ");
        writeln!(f, "phases @{} {{", self.name)?;
        for (index, tensor) in self.tensors.iter().enumerate() {
            let role = if index < self.inputs { "input" } else { "tensor" };
            writeln!(f, "  {role} ${index} {:?} : {}", tensor.name, tensor.ty)?;
        }
        for (index, phase) in self.phases.iter().enumerate() {
            let (inputs, outputs) = (list(&phase.inputs), list(&phase.outputs));
            writeln!(f, "  phase {index} on {} ({inputs}) -> ({outputs})", self.device_name(phase.device))?;
        }
        for (name, tensor) in &self.outputs {
            writeln!(f, "  output {name:?} = ${tensor}")?;
        }
        writeln!(f, "}} // {} bytes cross between devices", self.crossing_bytes())?;
        for (index, phase) in self.phases.iter().enumerate() {
            writeln!(f, "\n// phase {index} on {}", self.device_name(phase.device))?;
            for reason in &phase.reasons {
                writeln!(f, "//   {reason}")?;
            }
            write!(f, "{}", phase.graph)?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        write!(f, "{names} ({}): {}", self.op, self.why)
    }
}

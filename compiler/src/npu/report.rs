//! What is said about a network on a neural processor: what runs where, what takes how long, and what crosses.

use std::fmt;

use adze_targets::bm1684x::Program;
use adze_targets::bm1684x::machine::LANE_BYTES;
use adze_targets::bm1684x::profile::{Row, rows};
use serde::Serialize;

use super::BM1684X;
use super::phased::{Part, Phased};
use crate::phases::Reason;

/// A network on the processor, by nodes.
#[derive(Clone, Debug, Serialize)]
pub struct NpuReport {
    /// The processor.
    pub target: String,
    /// Estimated cycles of a call, at 1 GHz.
    pub cycles: u64,
    /// Most bytes of local memory in use at once, per lane.
    pub lane_bytes: u32,
    /// Constants, bytes.
    pub constant_bytes: usize,
    /// Inputs, outputs and what does not fit into local memory, bytes.
    pub context_bytes: u64,
    /// The phases in order.
    pub phases: Vec<PhaseLine>,
    /// Bytes that one device makes and another reads.
    pub crossing_bytes: u64,
    /// A line for each set of nodes that commands are for, by when it begins; and for each node on the CPU.
    pub lines: Vec<Line>,
    /// Where results are not the model's bit for bit.
    pub notes: Vec<String>,
}

/// A phase.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseLine {
    /// Where it runs.
    pub device: String,
    /// Number of nodes.
    pub nodes: usize,
    /// Bytes that it reads: inputs of the model, and what other phases make.
    pub input_bytes: u64,
    /// Bytes that it makes for outputs of the model and other phases.
    pub output_bytes: u64,
    /// Estimated cycles at 1 GHz; on a CPU unknown.
    pub cycles: Option<u64>,
}

/// What is done for some nodes.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The nodes; none for ends of streams.
    pub nodes: Vec<String>,
    /// Position of the phase.
    pub phase: usize,
    /// Where they run.
    pub device: String,
    /// Why there; empty for the processor.
    pub why: String,
    /// Number of commands.
    pub commands: usize,
    /// Cycles of the compute unit.
    pub compute: u64,
    /// Cycles of the copy engine.
    pub copies: u64,
    /// Bytes from and to DDR memory.
    pub ddr_bytes: u64,
    /// Share of the products that the compute unit could do in its cycles.
    pub utilisation: f64,
    /// First cycle of the phase, and the one behind the last.
    pub span: (u64, u64),
}

/// Reports on compiled phases.
pub fn report(phased: &Phased) -> NpuReport {
    let phases = &phased.phases;
    let mut lines = Vec::new();
    let mut list = Vec::new();
    for (index, (phase, part)) in phases.phases.iter().zip(&phased.parts).enumerate() {
        let bytes = |tensors: &[usize]| tensors.iter().map(|&tensor| phases.tensors[tensor].bytes()).sum();
        let device = phases.device_name(phase.device).to_owned();
        let cycles = match part {
            Part::Npu(program) => {
                lines.extend(command_lines(program, index));
                Some(program.cycles())
            }
            Part::Cpu(_) => {
                lines.extend(phase.reasons.iter().map(|reason| cpu_line(index, reason)));
                None
            }
        };
        let (input_bytes, output_bytes) = (bytes(&phase.inputs), bytes(&phase.outputs));
        list.push(PhaseLine { device, nodes: phase.nodes(), input_bytes, output_bytes, cycles });
    }
    let programs = || phased.programs();
    NpuReport {
        target: BM1684X.into(),
        cycles: programs().map(Program::cycles).sum(),
        lane_bytes: programs().map(|program| program.streams.peak_bytes).max().unwrap_or(0),
        constant_bytes: programs().map(|program| program.coefficients.len()).sum(),
        context_bytes: programs().map(|program| program.context[1]).max().unwrap_or(0),
        phases: list,
        crossing_bytes: phases.crossing_bytes(),
        lines,
        notes: programs().flat_map(|program| program.notes.clone()).collect(),
    }
}

/// What a program does, which is that of a phase.
pub fn command_lines(program: &Program, phase: usize) -> Vec<Line> {
    let line = |row: &Row| Line {
        nodes: row.names.iter().map(ToString::to_string).collect(),
        phase,
        device: BM1684X.into(),
        why: String::new(),
        commands: row.commands,
        compute: row.compute,
        copies: row.copies,
        ddr_bytes: row.ddr_bytes,
        utilisation: row.utilisation(),
        span: row.span,
    };
    rows(program).iter().map(line).collect()
}

fn cpu_line(phase: usize, reason: &Reason) -> Line {
    Line {
        nodes: reason.names.iter().map(ToString::to_string).collect(),
        phase,
        device: "cpu".into(),
        why: format!("`{}`: {}", reason.op, reason.why),
        commands: 0,
        compute: 0,
        copies: 0,
        ddr_bytes: 0,
        utilisation: 0.0,
        span: (0, 0),
    }
}

impl fmt::Display for NpuReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_cpu: usize = self.phases.iter().filter(|phase| phase.cycles.is_none()).map(|phase| phase.nodes).sum();
        if on_cpu == 0 {
            writeln!(f, "{}: {} estimated cycles; every node runs there, none on a CPU", self.target, self.cycles)?;
        } else {
            writeln!(
                f,
                "{}: {} estimated cycles there in {} phases; {on_cpu} nodes on the CPU; {} bytes cross between devices",
                self.target,
                self.cycles,
                self.phases.len(),
                self.crossing_bytes
            )?;
        }
        writeln!(
            f,
            "{} bytes of constants, {} of inputs, outputs and spills, {} of {LANE_BYTES} bytes of local memory per lane",
            self.constant_bytes, self.context_bytes, self.lane_bytes
        )?;
        writeln!(
            f,
            "{:>9} {:>9} {:>9} {:>9} {:>10} {:>5}  nodes",
            "from", "to", "compute", "copies", "DDR bytes", "MACs"
        )?;
        for (index, phase) in self.phases.iter().enumerate() {
            if self.phases.len() > 1 {
                let (reads, makes) = (phase.input_bytes, phase.output_bytes);
                writeln!(f, "phase {index} on {}: {} nodes, {reads} bytes in, {makes} out", phase.device, phase.nodes)?;
            }
            self.lines.iter().filter(|line| line.phase == index).try_for_each(|line| write!(f, "{line}"))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes.join(", ");
        if self.commands == 0 {
            return writeln!(f, "{:>9}  {nodes}: {}", self.device, self.why);
        }
        writeln!(
            f,
            "{:>9} {:>9} {:>9} {:>9} {:>10} {:>4.0}%  {nodes}",
            self.span.0,
            self.span.1,
            self.compute,
            self.copies,
            self.ddr_bytes,
            100.0 * self.utilisation,
        )
    }
}

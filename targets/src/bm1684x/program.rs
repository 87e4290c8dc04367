//! A compiled network: streams, constants, and where inputs and outputs lie.

use std::sync::Arc;

use adze_ir::graph::{Graph, ValueId};
use adze_ir::tensor::{Tensor, TensorError};
use adze_ir::types::DType;

use super::bmodel::{self, Group, Model, Net, ReadError, Stage, Stream};
use super::cost;
use super::hazard::{self, Hazard};
use super::isa::{Command, DecodeError, EncodeError, Engine, Prec, decode_stream};
use super::lower::{AllUnsupported, Unsupported};
use super::machine::{DDR_BASE, LANE_BYTES};
use super::operands::operands;
use super::plan::Streams;
use super::search::{Found, search};
use super::sim::{self, Memory, SimError};
use super::view::Space;

/// Streams in a package are padded to a multiple of this.
const STREAM_ALIGN: usize = 128;
/// Most DDR bytes that the simulator makes room for.
const SIMULATED_DDR: u64 = 1 << 31;

/// Why a network is not compiled.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// Valid, but without commands.
    #[error(transparent)]
    Unsupported(#[from] AllUnsupported),
    /// A broken invariant of ours.
    #[error("{0}")]
    Bug(String),
}

/// Why a program does not run on the simulator.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RunError {
    /// Inputs that are not those of the program.
    #[error("input {index}: found {found}, accepted: {accepted}")]
    Input {
        /// Position.
        index: usize,
        /// What is there.
        found: String,
        /// What should be.
        accepted: String,
    },
    /// The program needs more memory than is simulated.
    #[error("the program needs {0} bytes of DDR memory, accepted: at most 2 GiB")]
    Memory(u64),
    /// The simulator refuses a command.
    #[error(transparent)]
    Sim(#[from] SimError),
    /// A command of ours does not fit into its form.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Results that are no tensors.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// A file that holds no program of one network with one set of shapes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// Not a `.bmodel`.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// One that is not for this chip, or of another form.
    #[error("{what}: found {found}, accepted: {accepted}")]
    Other {
        /// Where.
        what: &'static str,
        /// What is there.
        found: String,
        /// What could be.
        accepted: &'static str,
    },
    /// A stream that does not decode.
    #[error("{engine:?} stream: {error}")]
    Decode {
        /// The engine.
        engine: Engine,
        /// Why.
        error: DecodeError,
    },
}

/// An input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<usize>,
    /// First byte in DDR memory, as an address.
    pub address: u64,
}

impl From<Unsupported> for CompileError {
    fn from(one: Unsupported) -> Self {
        CompileError::Unsupported(one.into())
    }
}

impl Port {
    /// Type and shape in a package: integers of 64 bits, which it does not know, are pairs of those of 32 bits.
    pub fn in_package(&self) -> (DType, Vec<usize>) {
        let mut shape = self.shape.clone();
        if self.dtype != DType::I64 {
            return (self.dtype, shape);
        }
        match shape.last_mut() {
            Some(last) => *last *= 2,
            None => shape.push(2),
        }
        (DType::I32, shape)
    }

    fn bytes(&self) -> usize {
        self.dtype.bytes_for(self.shape.iter().product())
    }
}

/// A compiled network.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Name of the network.
    pub name: String,
    /// Commands.
    pub streams: Streams,
    /// Constants, from the start of DDR memory on.
    pub coefficients: Vec<u8>,
    /// First address of inputs, outputs and what does not fit into local memory, and bytes of them.
    pub context: [u64; 2],
    /// Inputs in order.
    pub inputs: Vec<Port>,
    /// Outputs in order.
    pub outputs: Vec<Port>,
    /// Where results are not the model's bit for bit, by nodes; not in a package.
    pub notes: Vec<String>,
}

impl Program {
    /// Compiles a graph that went through the passes which make networks integer. Floats get the type `half` of 16 bits; without
    /// one there are none but at borders of integers, in 32 bits.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn compile(graph: &Graph, half: Option<Prec>) -> Result<Program, CompileError> {
        Self::compile_within(graph, half, LANE_BYTES)
    }

    /// [`Program::compile`] with less local memory than there is: so many bytes per lane.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn compile_within(graph: &Graph, half: Option<Prec>, lane_bytes: u32) -> Result<Program, CompileError> {
        let ports = |values: &mut dyn Iterator<Item = (ValueId, String)>| -> Result<Vec<Port>, CompileError> {
            values.map(|(value, name)| port(graph, value, name)).collect()
        };
        let name = |value: ValueId| graph.value(value).name.as_deref().unwrap_or_default().to_owned();
        let mut inputs = ports(&mut graph.inputs().iter().map(|&value| (value, name(value))))?;
        let mut outputs = ports(&mut graph.outputs().iter().map(|output| (output.value, output.name.to_string())))?;
        let bytes = |ports: &[Port]| ports.iter().map(|port| port.bytes() as u64).collect::<Vec<_>>();
        let Found { draft, ddr, streams } = search(graph, half, [bytes(&inputs), bytes(&outputs)], lane_bytes)?;
        hazard::check(&streams.tiu, &streams.gdma).map_err(|hazard: Hazard| CompileError::Bug(hazard.to_string()))?;
        for (ports, addresses) in [(&mut inputs, &ddr.inputs), (&mut outputs, &ddr.outputs)] {
            ports.iter_mut().zip(addresses).for_each(|(port, &address)| port.address = address);
        }
        let name = graph.name.to_string();
        let (coefficients, context, notes) = (draft.coefficients(), ddr.context, draft.notes);
        Ok(Program { name, streams, coefficients, context, inputs, outputs, notes })
    }

    /// Estimated cycles at 1 GHz.
    pub fn cycles(&self) -> u64 {
        cost::total(&self.streams.tiu, &self.streams.gdma)
    }

    /// The program as a `.bmodel`.
    ///
    /// # Errors
    /// [`EncodeError`] for a command of ours that does not fit into its form: a bug.
    pub fn to_bmodel(&self) -> Result<Vec<u8>, EncodeError> {
        Self::all_to_bmodel(&[self])
    }

    /// Several programs as one `.bmodel`, each a network by its name.
    ///
    /// # Errors
    /// As [`Program::to_bmodel`].
    pub fn all_to_bmodel(programs: &[&Program]) -> Result<Vec<u8>, EncodeError> {
        let nets = programs.iter().map(|program| program.net()).collect::<Result<_, _>>()?;
        Ok(Model { chip: CHIP.into(), nets }.write())
    }

    fn net(&self) -> Result<Net, EncodeError> {
        let stream = |commands: &[Command]| -> Result<Stream, EncodeError> {
            let mut bytes = encode(commands)?;
            bytes.resize(bytes.len().next_multiple_of(STREAM_ALIGN), 0);
            Ok(Stream { count: commands.len() as u32, bytes })
        };
        let tensor = |port: &Port| {
            let (dtype, shape) = port.in_package();
            bmodel::Tensor {
                name: port.name.clone(),
                dtype,
                address: port.address,
                bytes: port.bytes() as u64,
                shape: shape.into_iter().map(|d| d as u64).collect(),
                scale: 1.0,
                zero_point: 0,
            }
        };
        let stage = Stage {
            inputs: self.inputs.iter().map(tensor).collect(),
            outputs: self.outputs.iter().map(tensor).collect(),
            context: self.context,
            coefficients_at: DDR_BASE,
            coefficients: self.coefficients.clone(),
            groups: vec![Group { tiu: stream(&self.streams.tiu)?, gdma: stream(&self.streams.gdma)? }],
            notes: write_names([&self.streams.tiu_names, &self.streams.gdma_names]).into_bytes(),
        };
        Ok(Net { name: self.name.clone(), stages: vec![stage] })
    }

    /// The program of a `.bmodel`; names of nodes are in it if adze wrote it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn from_bmodel(file: &[u8]) -> Result<Program, OpenError> {
        let mut all = Self::all_from_bmodel(file)?;
        match (all.pop(), all.len()) {
            (Some(program), 0) => Ok(program),
            (None, _) => Err(other("networks", "none".into(), "1")),
            (Some(_), others) => Err(other("networks", (others + 1).to_string(), "1")),
        }
    }

    /// The programs of a `.bmodel`, one for each of its networks.
    ///
    /// # Errors
    /// As [`Program::from_bmodel`].
    pub fn all_from_bmodel(file: &[u8]) -> Result<Vec<Program>, OpenError> {
        let model = Model::read(file)?;
        if model.chip != CHIP {
            return Err(other("chip", format!("`{}`", model.chip), "`BM1684X`"));
        }
        model.nets.iter().map(Self::from_net).collect()
    }

    fn from_net(net: &Net) -> Result<Program, OpenError> {
        let [stage] = &net.stages[..] else {
            return Err(other("sets of shapes", net.stages.len().to_string(), "1"));
        };
        let [group] = &stage.groups[..] else {
            return Err(other("groups of commands", stage.groups.len().to_string(), "1"));
        };
        let decode = |engine, stream: &Stream| {
            decode_stream(engine, &stream.bytes).map_err(|error| OpenError::Decode { engine, error })
        };
        let (tiu, gdma) = (decode(Engine::Tiu, &group.tiu)?, decode(Engine::Gdma, &group.gdma)?);
        let [tiu_names, gdma_names] = read_names(&String::from_utf8_lossy(&stage.notes));
        let port = |tensor: &bmodel::Tensor| {
            let shape = tensor.shape.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
            let elems = shape.ok().filter(|s| adze_ir::tensor::checked_elems(s).is_some_and(|n| n < 1 << 40));
            let shape = elems.ok_or_else(|| other("tensor", format!("shape {:?}", tensor.shape), "one in memory"))?;
            Ok(Port { name: tensor.name.clone(), dtype: tensor.dtype, shape, address: tensor.address })
        };
        Ok(Program {
            name: net.name.clone(),
            streams: Streams { peak_bytes: top(&tiu).max(top(&gdma)), tiu, gdma, tiu_names, gdma_names },
            coefficients: stage.coefficients.clone(),
            context: stage.context,
            inputs: stage.inputs.iter().map(port).collect::<Result<_, OpenError>>()?,
            outputs: stage.outputs.iter().map(port).collect::<Result<_, OpenError>>()?,
            notes: Vec::new(),
        })
    }

    /// Runs the program on the simulator: its commands are encoded, and what the bytes decode to runs.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.check_inputs(inputs)?;
        let end = self.context[0].saturating_sub(DDR_BASE).saturating_add(self.context[1]);
        let bytes = end.max(self.coefficients.len() as u64);
        if bytes > SIMULATED_DDR {
            return Err(RunError::Memory(bytes));
        }
        // Memory that nobody wrote is not zero: what reads it shows.
        let mut memory = Memory::new(bytes as usize, 0xa5);
        memory.ddr[..self.coefficients.len()].copy_from_slice(&self.coefficients);
        for (port, tensor) in self.inputs.iter().zip(inputs) {
            let range = self.range(port, &memory)?;
            memory.ddr[range].copy_from_slice(tensor.bytes());
        }
        let (tiu, gdma) = (encode(&self.streams.tiu)?, encode(&self.streams.gdma)?);
        sim::run(&mut memory, &tiu, &gdma)?;
        let read = |port: &Port| -> Result<Tensor, RunError> {
            let bytes = memory.ddr[self.range(port, &memory)?].to_vec();
            Ok(Tensor::new(port.dtype, port.shape.clone(), bytes)?)
        };
        self.outputs.iter().map(read).collect()
    }

    fn range(&self, port: &Port, memory: &Memory) -> Result<std::ops::Range<usize>, RunError> {
        let start = port.address.checked_sub(DDR_BASE).and_then(|at| usize::try_from(at).ok());
        let range = start.and_then(|start| Some(start..start.checked_add(port.bytes())?));
        range.filter(|range| range.end <= memory.ddr.len()).ok_or(RunError::Memory(port.address))
    }

    fn check_inputs(&self, inputs: &[Tensor]) -> Result<(), RunError> {
        let wrong = |index: usize, found: String, accepted: String| Err(RunError::Input { index, found, accepted });
        if inputs.len() != self.inputs.len() {
            return wrong(inputs.len(), format!("{} inputs", inputs.len()), self.inputs.len().to_string());
        }
        for (index, (port, tensor)) in self.inputs.iter().zip(inputs).enumerate() {
            if (tensor.dtype(), tensor.shape()) != (port.dtype, &port.shape) {
                let found = format!("{}{:?}", tensor.dtype(), tensor.shape());
                return wrong(index, found, format!("{}{:?}", port.dtype, port.shape));
            }
        }
        Ok(())
    }
}

/// The byte of a lane behind the last one that commands touch.
fn top(commands: &[Command]) -> u32 {
    let views = commands.iter().flat_map(|command| operands(&command.body).unwrap_or_default());
    let local = views.filter(|operand| operand.view.space == Space::Local);
    let end = local.map(|operand| operand.view.span().1).max().unwrap_or(0);
    u32::try_from(end).unwrap_or(u32::MAX)
}

/// Names of the nodes that commands are for: a line for each command, names with tabs in front.
fn write_names(engines: [&[Vec<Arc<str>>]; 2]) -> String {
    let mut text = String::new();
    for (engine, commands) in ["tiu", "gdma"].into_iter().zip(engines) {
        for names in commands {
            text.push_str(engine);
            for name in names {
                text.push('\t');
                text.extend(name.chars().map(|c| if c.is_control() { ' ' } else { c }));
            }
            text.push('\n');
        }
    }
    text
}

/// What [`write_names`] wrote; lines of others are skipped.
fn read_names(text: &str) -> [Vec<Vec<Arc<str>>>; 2] {
    ["tiu", "gdma"].map(|engine| {
        let words = text.lines().map(|line| line.split('\t'));
        let own = words.filter_map(|mut words| (words.next() == Some(engine)).then_some(words));
        own.map(|names| names.map(Arc::from).collect()).collect()
    })
}

/// The chip's name in packages.
const CHIP: &str = "BM1684X";

/// Commands one after the other.
///
/// # Errors
/// [`EncodeError`].
pub fn encode(commands: &[Command]) -> Result<Vec<u8>, EncodeError> {
    let encoded: Result<Vec<Vec<u8>>, EncodeError> = commands.iter().map(Command::encode).collect();
    Ok(encoded?.concat())
}

fn other(what: &'static str, found: String, accepted: &'static str) -> OpenError {
    OpenError::Other { what, found, accepted }
}

fn port(graph: &Graph, value: ValueId, name: String) -> Result<Port, CompileError> {
    let ty = graph.ty(value);
    let fixed = ty.fixed_shape();
    let refused = || {
        let accepted = "fixed shapes (--dim, --shape)".into();
        Unsupported { place: format!("`{name}`"), names: Vec::new(), node: None, found: ty.to_string(), accepted }
    };
    let shape = fixed.ok_or_else(refused)?;
    Ok(Port { name, dtype: ty.dtype, shape, address: 0 })
}

//! A model on a neural processor and a CPU: its phases compiled, their package, and runs.

use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_targets::bm1684x::isa::Prec;
use adze_targets::bm1684x::{CompileError, Program};
use adze_targets::cpu::backend::Code;
use prost::Message as _;

use super::{BM1684X, Float, compile_error, lowered};
use crate::build::{BuildOptions, Built, build};
use crate::error::Error;
use crate::execute::Executable;
use crate::package::{MANIFEST_VERSION, Manifest, NamedFile, NodeInfo, Phase, TensorInfo, c_identifier, header};
use crate::phases::{Answer, Arena, Crossing, Phases, Refused, glue, partition};

/// A compiled phase.
#[derive(Clone, Debug)]
pub enum Part {
    /// For the neural processor.
    Npu(Box<Program>),
    /// For the CPU.
    Cpu(Box<Built>),
}

/// A model whose phases are compiled.
#[derive(Clone, Debug)]
pub struct Phased {
    /// The phases.
    pub phases: Phases,
    /// What was made of each.
    pub parts: Vec<Part>,
}

/// Compiles a graph for the BM1684X, and what that has no commands for, for a CPU.
///
/// # Errors
/// [`Error::Unsupported`] when not even a part of it runs there, or a node does nowhere.
pub fn compile(graph: &Graph, float: Option<Float>, host: &BuildOptions) -> Result<Phased, Error> {
    let half = float.map(Float::prec);
    let (mut phases, programs) = partition(&lowered(graph, float)?, BM1684X, &mut |graph| answer(graph, half))?;
    // Constants of CPU phases are in their objects: a package has no separate weights.
    let host = BuildOptions { inline_weights_limit: usize::MAX, ..host.clone() };
    let mut parts = Vec::new();
    for (phase, program) in phases.phases.iter_mut().zip(programs) {
        phase.graph.name = c_identifier(&phase.graph.name).into();
        parts.push(match program {
            Some(program) => Part::Npu(Box::new(Program { name: phase.graph.name.to_string(), ..program })),
            None => Part::Cpu(Box::new(build(&phase.graph, &host)?)),
        });
    }
    Ok(Phased { phases, parts })
}

/// Compiles a graph for the BM1684X alone: one phase, whose network has the model's name.
///
/// # Errors
/// [`Error::Unsupported`] for everything that it has no commands for.
pub fn alone(graph: &Graph, float: Option<Float>) -> Result<Phased, Error> {
    let half = float.map(Float::prec);
    let compile = |graph: &Graph| Program::compile(graph, half).map(Answer::Made).map_err(compile_error);
    let (phases, programs) = partition(&lowered(graph, float)?, BM1684X, &mut |graph| compile(graph))?;
    Ok(Phased { phases, parts: programs.into_iter().flatten().map(|program| Part::Npu(Box::new(program))).collect() })
}

/// The phases of a graph, without what is made of them.
///
/// # Errors
/// As [`compile`].
pub fn phases(graph: &Graph, float: Option<Float>) -> Result<Phases, Error> {
    let half = float.map(Float::prec);
    Ok(partition(&lowered(graph, float)?, BM1684X, &mut |graph| answer(graph, half))?.0)
}

/// What the processor makes of a graph.
fn answer(graph: &Graph, half: Option<Prec>) -> Result<Answer<Program>, Error> {
    let all = match Program::compile(graph, half) {
        Ok(program) => return Ok(Answer::Made(program)),
        Err(CompileError::Unsupported(all)) => all,
        Err(other) => return Err(compile_error(other)),
    };
    let refused = all.0.iter().map(|one| {
        let why = format!("found {}, accepted on {BM1684X}: {}", one.found, one.accepted);
        Some(Refused { node: one.node?, why })
    });
    match refused.collect::<Option<Vec<_>>>() {
        Some(list) if !list.is_empty() => Ok(Answer::Refused(list)),
        // What stands in the way is no node's fault.
        _ => Err(compile_error(CompileError::Unsupported(all))),
    }
}

impl Phased {
    /// The programs of the neural processor, in order.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.parts.iter().filter_map(|part| match part {
            Part::Npu(program) => Some(&**program),
            Part::Cpu(_) => None,
        })
    }

    /// What is compiled for the CPU, in order.
    pub fn built(&self) -> impl Iterator<Item = &Built> {
        self.parts.iter().filter_map(|part| match part {
            Part::Npu(_) => None,
            Part::Cpu(built) => Some(&**built),
        })
    }

    /// The networks of all phases of the processor, as one `.bmodel`.
    ///
    /// # Errors
    /// [`Error::Bug`].
    pub fn bmodel(&self) -> Result<Vec<u8>, Error> {
        let programs: Vec<&Program> = self.programs().collect();
        Program::all_to_bmodel(&programs).map_err(|error| Error::Bug(error.to_string()))
    }

    /// Where what lies in the arena is.
    pub fn arena(&self) -> Arena {
        let own = |part: &Part| match part {
            Part::Npu(_) => 0,
            Part::Cpu(built) => built.package.manifest.arena_bytes,
        };
        Arena::new(&self.phases, &self.parts.iter().map(own).collect::<Vec<_>>())
    }

    /// Runs the phases in this process: those of the processor on the simulator of adze or in the vendor's runtime, those of the
    /// CPU as they are in the package.
    ///
    /// # Errors
    /// [`Error::Options`] for inputs that the model does not have, and what running gives.
    pub fn run(&self, inputs: &[Tensor], vendor: bool) -> Result<Vec<Tensor>, Error> {
        if inputs.len() != self.phases.inputs {
            let (found, accepted) = (inputs.len(), self.phases.inputs);
            return Err(Error::Options(format!("found {found} inputs, accepted: {accepted}")));
        }
        let mut values: Vec<Option<Tensor>> = inputs.iter().cloned().map(Some).collect();
        values.resize(self.phases.tensors.len(), None);
        let get = |values: &[Option<Tensor>], tensor: usize| {
            values[tensor].clone().ok_or_else(|| Error::Bug(format!("tensor {tensor} is read before it is made")))
        };
        let package = vendor.then(|| self.bmodel()).transpose()?;
        for (phase, part) in self.phases.phases.iter().zip(&self.parts) {
            let inputs = phase.inputs.iter().map(|&tensor| get(&values, tensor)).collect::<Result<Vec<_>, _>>()?;
            let outputs = match (part, &package) {
                (Part::Npu(program), Some(package)) => super::run_vendor_file(package, program, &inputs)?,
                (Part::Npu(program), None) => super::run(program, &inputs)?,
                (Part::Cpu(built), _) => {
                    let executable = Executable::new(built)?;
                    let mut call = executable.prepare(&inputs)?;
                    executable.run(&mut call)?;
                    executable.outputs(&mut call)?
                }
            };
            phase.outputs.iter().zip(outputs).for_each(|(&tensor, value)| values[tensor] = Some(value));
        }
        self.phases.outputs.iter().map(|(_, tensor)| get(&values, *tensor)).collect()
    }

    /// What the package says of itself.
    pub fn manifest(&self) -> Manifest {
        let name = c_identifier(&self.phases.name);
        let info = |tensor: &Crossing, name: &str| TensorInfo {
            name: name.to_owned(),
            dtype: tensor.ty.dtype.to_string(),
            shape: tensor.ty.shape.iter().map(ToString::to_string).collect(),
            max_bytes: tensor.bytes(),
            quantization: String::new(),
        };
        let narrow = |list: &[usize]| list.iter().map(|&at| u32::try_from(at).unwrap_or(u32::MAX)).collect();
        let phase = |phase: &crate::phases::Phase| Phase {
            device: self.phases.device_name(phase.device).to_owned(),
            entry: match phase.device {
                crate::phases::Device::Cpu => format!("adze_{}_step", c_identifier(&phase.graph.name)),
                crate::phases::Device::Accelerator => phase.graph.name.to_string(),
            },
            inputs: narrow(&phase.inputs),
            outputs: narrow(&phase.outputs),
        };
        let tensors: Vec<TensorInfo> = self.phases.tensors.iter().map(|tensor| info(tensor, &tensor.name)).collect();
        let weights = |part: &Part| match part {
            Part::Npu(program) => program.coefficients.len() as u64,
            Part::Cpu(built) => built.package.manifest.weights_bytes,
        };
        Manifest {
            version: MANIFEST_VERSION,
            target: BM1684X.into(),
            cpu: self.built().next().map_or_else(String::new, |built| built.package.manifest.cpu.clone()),
            dims: Vec::new(),
            inputs: tensors[..self.phases.inputs].to_vec(),
            outputs: self.phases.outputs.iter().map(|(name, at)| info(&self.phases.tensors[*at], name)).collect(),
            states: Vec::new(),
            arena_bytes: self.arena().bytes,
            weights_bytes: self.parts.iter().map(weights).sum(),
            weights_file: String::new(),
            phases: self.phases.phases.iter().map(phase).collect(),
            nodes: self.nodes().concat(),
            tensors,
            name,
        }
    }

    /// What each phase does, as the manifest lists it: a network of the processor is one entry.
    fn nodes(&self) -> Vec<Vec<NodeInfo>> {
        let one = |part: &Part| match part {
            Part::Cpu(built) => built.package.manifest.nodes.clone(),
            Part::Npu(program) => {
                let names = program.streams.tiu_names.iter().chain(&program.streams.gdma_names).flatten();
                let names: std::collections::BTreeSet<&str> = names.map(|name| &**name).collect();
                let source = names.into_iter().map(str::to_owned).collect();
                vec![NodeInfo { kernel: format!("{BM1684X} {}", program.name), source }]
            }
        };
        self.parts.iter().map(one).collect()
    }

    /// The files of the package: the processor's, objects of the CPU's phases, what runs them in order, and the manifest.
    ///
    /// # Errors
    /// [`Error::Bug`].
    pub fn files(&self) -> Result<Vec<NamedFile<'static>>, Error> {
        let manifest = self.manifest();
        let name = &manifest.name;
        let first = self.nodes().into_iter().scan(0, |sum, nodes| Some(std::mem::replace(sum, *sum + nodes.len())));
        let source = glue(&self.phases, &self.arena(), &first.collect::<Vec<_>>());
        let json = serde_json::to_string_pretty(&manifest).map_err(|error| Error::Bug(error.to_string()))?;
        let mut files: Vec<NamedFile<'static>> = vec![
            (format!("{name}.bmodel"), self.bmodel()?.into()),
            (format!("{name}.c"), source.into_bytes().into()),
            (format!("{name}.h"), header(&manifest).into_bytes().into()),
            (format!("{name}.manifest"), manifest.encode_to_vec().into()),
            (format!("{name}.json"), format!("{json}\n").into_bytes().into()),
        ];
        for built in self.built() {
            let own = &built.package.manifest.name;
            match &built.package.code {
                Code::Object(bytes) => files.push((format!("{own}.o"), bytes.clone().into())),
                Code::Source(text) => {
                    files.push((format!("{own}.c"), text.clone().into_bytes().into()));
                    files.push((format!("{own}.h"), header(&built.package.manifest).into_bytes().into()));
                }
            }
        }
        Ok(files)
    }
}

//! Running a built model in this process: the very object that a package holds.

use std::collections::BTreeMap;

use adze_ir::extent::{Extent, Sym};
use adze_ir::tensor::Tensor;
use adze_ir::tile::{Binding, Program, Role};
use adze_ir::types::TensorType;
use adze_targets::cpu::backend::Code;
use adze_targets::cpu::driver::status;
use adze_targets::cpu::exec::{Buffer, Called, Loaded, RawCall};
use adze_targets::cpu::module::Module;

use crate::build::Built;
use crate::error::Error;
use crate::link::compile_source;

/// Most memory that a call in this process is given: more is a dimension bound to a number that was not meant.
pub const MAX_CALL_BYTES: usize = 16 << 30;

/// A built model in executable memory.
pub struct Executable<'a> {
    built: &'a Built,
    loaded: Loaded,
}

/// A call with its memory: can be repeated.
pub struct Call {
    raw: RawCall,
    dims: BTreeMap<Sym, i64>,
}

fn bug(error: impl std::fmt::Display) -> Error {
    Error::Bug(error.to_string())
}

impl<'a> Executable<'a> {
    /// Places the object in memory; source is compiled by the system's C compiler first.
    ///
    /// # Errors
    /// [`Error`] when it is for another machine, or there is no C compiler.
    pub fn new(built: &'a Built) -> Result<Self, Error> {
        let loaded = match &built.package.code {
            Code::Object(bytes) => Loaded::new(bytes),
            Code::Source(_) => Loaded::new(&compile_source(&built.package)?),
        };
        let loaded = loaded.map_err(|e| Error::Options(e.to_string()))?;
        Ok(Self { built, loaded })
    }

    fn program(&self) -> &Program {
        &self.built.program
    }

    /// Allocates the memory of a call, fills in the inputs (states too) and prepares the arena.
    ///
    /// # Errors
    /// [`Error::Options`] for inputs of other types.
    pub fn prepare(&self, inputs: &[Tensor]) -> Result<Call, Error> {
        let program = self.program();
        let dims = bind(program, inputs)?;
        let lookup = |name: &str| dims.get(name).copied();
        let size = |extent: Extent| extent.eval(&lookup).and_then(|b| usize::try_from(b).ok()).unwrap_or(0);
        let arena = usize::try_from(self.built.package.manifest.arena_bytes).map_err(bug)?;
        let needed = program
            .buffers
            .values()
            .filter(|b| matches!(b.role, Role::Input(_) | Role::Output(_) | Role::State(_)))
            .fold(arena, |sum, buffer| sum.saturating_add(size(buffer.bytes())));
        if needed > MAX_CALL_BYTES {
            let found = format!("a call of {needed} bytes of arena, inputs and outputs");
            return Err(Error::Options(format!("{found}, accepted in this process: up to {MAX_CALL_BYTES}")));
        }
        let mut tensors: [Vec<Buffer>; 3] = Default::default();
        for buffer in program.buffers.values() {
            let (kind, index) = match buffer.role {
                Role::Input(i) => (0, i as usize),
                Role::Output(i) => (1, i as usize),
                Role::State(i) => (2, i as usize),
                _ => continue,
            };
            // A place for every position; empty tensors still have an address.
            while tensors[kind].len() <= index {
                tensors[kind].push(Buffer::new(64));
            }
            tensors[kind][index] = Buffer::new(size(buffer.bytes()).max(64));
        }
        for (binding, tensor) in program.inputs.iter().zip(inputs) {
            let (kind, index) = place(program, binding)?;
            copy(program, binding, &lookup, &mut tensors[kind][index], &mut tensor.bytes().to_vec(), true)?;
        }
        let weights = self.built.package.weights.as_ref().map(|bytes| Buffer::from_bytes(bytes));
        let arena = Buffer::new(arena);
        let values = program.dims.keys().map(|name| dims.get(name).copied().unwrap_or(0)).collect();
        let extents = program.outputs.iter().map(|o| o.view.sizes.len()).sum();
        let mut raw = RawCall::new(tensors, weights, arena, values, extents);
        let code = self.loaded.call_run(&self.symbol("init"), &mut raw).map_err(bug)?;
        self.check(i64::from(code), &raw)?;
        Ok(Call { raw, dims })
    }

    fn symbol(&self, function: &str) -> String {
        format!("adze_{}_{function}", self.built.package.manifest.name)
    }

    /// Puts new values into an input, or into a state.
    ///
    /// # Errors
    /// [`Error::Options`] for a position or a type that the model does not have under the call's dimensions.
    pub fn feed(&self, call: &mut Call, index: usize, tensor: &Tensor) -> Result<(), Error> {
        let program = self.program();
        let Some(binding) = program.inputs.get(index) else {
            return Err(Error::Options(format!("no input {index}, the model has {}", program.inputs.len())));
        };
        check_input(program, binding, tensor, &call.dims)?;
        let (kind, index) = place(program, binding)?;
        let lookup = |name: &str| call.dims.get(name).copied();
        copy(program, binding, &lookup, &mut call.raw.tensors[kind][index], &mut tensor.bytes().to_vec(), true)
    }

    /// Gives a named dimension another value for the next runs. States stay as they are; inputs whose extents depend on
    /// the dimension have to be fed again.
    ///
    /// # Errors
    /// [`Error::Options`] for a dimension that the model does not have, or one that a state's size depends on.
    pub fn set_dim(&self, call: &mut Call, name: &str, value: i64) -> Result<(), Error> {
        let program = self.program();
        let Some(slot) = program.dims.keys().position(|dim| &**dim == name) else {
            return Err(Error::Options(format!("no dimension `{name}`")));
        };
        let old = call.dims.insert(name.into(), value);
        for buffer in program.buffers.values() {
            let (kind, index) = match buffer.role {
                Role::Input(i) => (0, i as usize),
                Role::Output(i) => (1, i as usize),
                Role::State(i) => (2, i as usize),
                _ => continue,
            };
            let size = buffer.bytes().eval(&|name| call.dims.get(name).copied());
            let size = size.and_then(|b| usize::try_from(b).ok()).unwrap_or(0);
            let there = &mut call.raw.tensors[kind][index];
            if size <= there.as_ref().len() {
                continue;
            }
            if kind == 2 {
                if let Some(old) = old {
                    call.dims.insert(name.into(), old);
                }
                return Err(Error::Options(format!("the size of state `{}` depends on `{name}`", buffer.name)));
            }
            *there = Buffer::new(size);
        }
        call.raw.dims[slot] = value;
        call.raw.refresh();
        Ok(())
    }

    /// Runs the call once.
    ///
    /// # Errors
    /// [`Error::Options`] naming the node and what went wrong.
    pub fn run(&self, call: &mut Call) -> Result<(), Error> {
        let code = self.loaded.call_run(&self.symbol("run"), &mut call.raw).map_err(bug)?;
        self.check(i64::from(code), &call.raw)
    }

    /// Runs the call once on so many threads, at most [`BuildOptions::max_threads`](crate::build::BuildOptions::max_threads).
    ///
    /// # Errors
    /// [`Error::Options`] naming the node and what went wrong; that of the first thread that has one.
    pub fn run_on(&self, call: &mut Call, threads: u32) -> Result<(), Error> {
        for phase in 0..self.built.package.manifest.phases.len() {
            let phase = u32::try_from(phase).map_err(bug)?;
            let codes = self.loaded.call_step(&self.symbol("step"), &mut call.raw, phase, threads).map_err(bug)?;
            codes.into_iter().try_for_each(|code| self.check(i64::from(code), &call.raw))?;
        }
        Ok(())
    }

    /// Runs the call once on this thread, kernel by kernel. `module` is what the package was made of.
    ///
    /// # Errors
    /// [`Error::Bug`] when it is not, or a kernel fails.
    pub fn walk(&self, call: &mut Call, module: &Module, observe: &mut dyn FnMut(Called<'_>)) -> Result<(), Error> {
        self.loaded.walk(&module.driver, &module.kernels, &mut call.raw, observe).map_err(bug)
    }

    fn check(&self, code: i64, raw: &RawCall) -> Result<(), Error> {
        let nodes = &self.built.package.manifest.nodes;
        let node = nodes.get(raw.node() as usize).map(|n| n.source.join(", ")).unwrap_or_default();
        match code {
            status::OK => Ok(()),
            status::INDEX_RANGE => Err(Error::Values(format!("an index is out of range at node `{node}`"))),
            status::EXTENT_RANGE => Err(Error::Options("a dimension is outside of its declared range".into())),
            status::LOOP_CAP => Err(Error::Values(format!("a loop ran to its cap at node `{node}`"))),
            status::NO_VERSION => Err(Error::Options("this CPU runs none of the versions in the package".into())),
            other => Err(Error::Bug(format!("the compiled code returned status {other}"))),
        }
    }

    /// The outputs of the last run.
    ///
    /// # Errors
    /// [`Error::Bug`] when an output's size cannot be told.
    pub fn outputs(&self, call: &mut Call) -> Result<Vec<Tensor>, Error> {
        let program = self.program();
        let dims = &call.dims;
        let lookup = |name: &str| dims.get(name).copied();
        let tensors = &mut call.raw.tensors;
        let read = |binding: &Binding| {
            let (kind, index) = place(program, binding)?;
            let dtype = program.buffers[binding.view.buffer].dtype;
            let shape: Option<Vec<usize>> =
                binding.view.sizes.iter().map(|e| usize::try_from(e.eval(&lookup)?).ok()).collect();
            let shape = shape.ok_or_else(|| bug("an output without a size"))?;
            let mut bytes = vec![0; dtype.bytes_for(shape.iter().product())];
            copy(program, binding, &lookup, &mut tensors[kind][index], &mut bytes, false)?;
            Tensor::new(dtype, shape, bytes).map_err(bug)
        };
        program.outputs.iter().map(read).collect()
    }
}

/// Kind and position of the caller's buffer behind a binding.
fn place(program: &Program, binding: &Binding) -> Result<(usize, usize), Error> {
    match program.buffers[program.root(binding.view.buffer)].role {
        Role::Input(i) => Ok((0, i as usize)),
        Role::Output(i) => Ok((1, i as usize)),
        Role::State(i) => Ok((2, i as usize)),
        _ => Err(bug(format!("`{}` is not bound to memory of the caller", binding.name))),
    }
}

/// Values of the dimensions, and a check of every input against its type.
fn bind(program: &Program, inputs: &[Tensor]) -> Result<BTreeMap<Sym, i64>, Error> {
    if inputs.len() != program.inputs.len() {
        return Err(Error::Options(format!("{} inputs given, the model takes {}", inputs.len(), program.inputs.len())));
    }
    let mut dims: BTreeMap<Sym, i64> = BTreeMap::new();
    for (binding, tensor) in program.inputs.iter().zip(inputs) {
        for (extent, &found) in binding.view.sizes.iter().zip(tensor.shape()) {
            if let (Some(sym), Ok(found)) = (extent.as_sym(), i64::try_from(found)) {
                dims.entry(sym.clone()).or_insert(found);
            }
        }
    }
    for (binding, tensor) in program.inputs.iter().zip(inputs) {
        check_input(program, binding, tensor, &dims)?;
    }
    Ok(dims)
}

fn check_input(program: &Program, binding: &Binding, tensor: &Tensor, dims: &BTreeMap<Sym, i64>) -> Result<(), Error> {
    let sizes = &binding.view.sizes;
    let is = |extent: &Extent, found: usize| {
        extent.eval(&|name| dims.get(name).copied()).is_some_and(|e| i64::try_from(found) == Ok(e))
    };
    let fits = program.buffers[binding.view.buffer].dtype == tensor.dtype()
        && sizes.len() == tensor.shape().len()
        && sizes.iter().zip(tensor.shape()).all(|(extent, &found)| is(extent, found));
    if fits {
        return Ok(());
    }
    let dtype = program.buffers[binding.view.buffer].dtype;
    let accepted = TensorType::new(dtype, sizes.clone());
    Err(Error::Options(format!("input `{}`: found {}, accepted: {accepted}", binding.name, tensor.ty())))
}

/// Copies between dense bytes and the box that a binding shows of its buffer.
fn copy(
    program: &Program,
    binding: &Binding,
    lookup: &dyn Fn(&str) -> Option<i64>,
    buffer: &mut Buffer,
    dense: &mut [u8],
    write: bool,
) -> Result<(), Error> {
    let declared = &program.buffers[binding.view.buffer];
    let start = declared.alias.as_ref().map_or(Some(0), |(_, start)| start.eval(lookup));
    let addressing = adze_ir::tile::Addressing::new(declared, program.memory_of(declared), lookup);
    let (Some(start), Some(addressing)) = (start, addressing) else { return Err(bug("a binding without a size")) };
    let value = |e: &Extent| e.eval(lookup).ok_or_else(|| bug("a binding without a size"));
    let mut terms = Vec::new();
    for (axis, (offset, size)) in binding.view.offsets.iter().zip(&binding.view.sizes).enumerate() {
        terms.push(addressing.terms(axis, value(offset)?, value(size)?));
    }
    let bits = join_neighbours(&mut terms, declared.dtype.bits() as usize);
    let mut at = 0;
    let memory = buffer.as_mut();
    adze_ir::tile::for_each_address(&terms, &mut |address| {
        if let Some(address) = address.and_then(|a| usize::try_from(a + start * 8).ok()) {
            if write {
                adze_ir::tile::copy_bits(dense, at, memory, address, bits);
            } else {
                adze_ir::tile::copy_bits(memory, address, dense, at, bits);
            }
        }
        at += bits;
    });
    Ok(())
}

/// Joins the last axes of a box as far as their elements lie one after the other, whole bytes each; what is left to visit are
/// runs of so many bits.
fn join_neighbours(terms: &mut [Vec<Option<i64>>], bits: usize) -> usize {
    let mut run = bits;
    for axis in terms.iter_mut().rev().filter(|_| bits.is_multiple_of(8)) {
        let follows = |pair: &[Option<i64>]| pair[0].zip(pair[1]).map(|(a, b)| usize::try_from(b - a)) == Some(Ok(run));
        if !axis.windows(2).all(follows) {
            break;
        }
        run *= axis.len();
        axis.truncate(1);
    }
    run
}

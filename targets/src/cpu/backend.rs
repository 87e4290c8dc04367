//! From a planned tile program to an object, by way of a [`Module`]: kernels for every leaf, the steps that call them,
//! constant data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adze_ir::extent::{DimRange, Dims, Extent, Sym};
use adze_ir::graph::ConstEntry;
use adze_ir::loc::Loc;
use adze_ir::tensor::Tensor;
use adze_ir::tile::{self, Binding, BufferId, For, Leaf, Program, RecipeError, Role, Stmt, View, WindowPlace};
use adze_ir::types::{DType, TensorType};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::DataId;

use super::c99;
use super::cost::Core;
use super::driver::{self, ARENA_HEADER_BYTES, Base, BuildContext, Driver, Imports, Pointer, Step};
use super::emit::{around, can_flush, choose};
use super::kernel::{Kernel, text};
use super::lower::{Bounds, LeafCx, Operand, PtrRole, Unsupported};
use super::machine::{Arch, CodegenError, Machine};
use super::module::{Module, Port};
use super::object::{FunctionId, KernelId, ObjectBuilder, Refs};
use super::propose::lower_best;

/// Alignment of every constant, scratch area and the arena, bytes.
const ALIGN: i64 = 64;

/// Choices of code generation.
#[derive(Clone, Debug)]
pub struct CodegenOptions {
    /// Most threads that may enter a call together.
    pub max_threads: u32,
    /// Constant data beyond this many bytes goes to a separate file.
    pub inline_weights_limit: usize,
    /// Subnormal numbers are taken for zeros, where the machine can do so.
    pub flush: bool,
}

/// What code is made as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// ELF object.
    Object(Vec<u8>),
    /// C99.
    Source(String),
}

impl Code {
    /// The object, unless it is source.
    pub fn object(&self) -> Option<&[u8]> {
        match self {
            Self::Object(bytes) => Some(bytes),
            Self::Source(_) => None,
        }
    }
}

/// Code of a model and what a package has to say about it.
#[derive(Clone, Debug)]
pub struct CodeObject {
    /// The code.
    pub code: Code,
    /// Constant data when it is not in the object.
    pub weights: Option<Vec<u8>>,
    /// Bytes of constant data.
    pub weights_bytes: u64,
    /// Bytes of working memory, driver's header and scratch included.
    pub arena_bytes: u64,
}

/// Why a program has no code.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Leaves without a kernel, all of them.
    #[error("{}", .0.iter().map(|(op, loc, error)| format!("`{op}` {loc}: {error}")).collect::<Vec<_>>().join("\n"))]
    Unsupported(Vec<(String, Loc, Unsupported)>),
    /// The code generator refused.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
    /// A constant cannot be made.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The program is not one for a CPU, or not planned.
    #[error("{0}")]
    Program(String),
    /// The module breaks its invariants.
    #[error("{}", .0.join("\n"))]
    Module(Vec<String>),
}

/// Chooses kernels for a planned program. `shared` are the constants of an earlier version of the model, by offset: they
/// keep their places, and what both need is held once.
///
/// # Errors
/// [`BackendError`]; all leaves without a kernel are reported together.
pub fn select(
    program: &Program,
    machine: &Machine,
    options: &CodegenOptions,
    shared: &[(i64, ConstEntry)],
) -> Result<Module, BackendError> {
    let mut backend = Backend::new(program, machine, shared);
    let steps = backend.block(&program.body)?;
    if !backend.unsupported.is_empty() {
        return Err(BackendError::Unsupported(backend.unsupported));
    }
    backend.finish(steps, options)
}

/// Makes code of a module for each version of a model, the least demanding machine first: usually one. The exported
/// functions are `<prefix>_init`, `<prefix>_step` and `<prefix>_run`. Each module was selected with the constants of the one
/// before it.
///
/// Takes the modules apart, so that constant data are not held twice.
///
/// # Errors
/// [`BackendError::Module`] for a module that breaks its invariants or lacks the bytes of a constant,
/// [`BackendError::Codegen`] for what Cranelift refuses or for versions that no instruction tells apart.
pub fn emit(mut versions: Vec<(Module, Machine)>, prefix: &str) -> Result<CodeObject, BackendError> {
    let violations: Vec<String> = versions.iter().flat_map(|(module, machine)| module.verify(machine)).collect();
    if !violations.is_empty() {
        return Err(BackendError::Module(violations));
    }
    let arena_bytes = versions.iter().map(|(module, _)| module.arena_bytes).max().unwrap_or(0);
    let Some((last, machine)) = versions.last_mut() else {
        return Err(BackendError::Program("a model without a version".into()));
    };
    let (arch, external) = (machine.arch, last.driver.external_weights);
    let weights_bytes = last.weights_bytes() as u64;
    let places = last.constants.iter().map(|(offset, entry)| (*offset, entry.ty())).collect();
    let weights = concatenate(std::mem::take(&mut last.constants), weights_bytes)?;
    versions.iter_mut().for_each(|(module, _)| module.driver.external_weights = external);
    let (inside, outside) = if external { (Vec::new(), Some(weights)) } else { (weights, None) };
    let code = match (arch, &versions[..]) {
        (Arch::C99, [(module, _)]) => Code::Source(c99::source(module, prefix, &c99::Data { bytes: inside, places })?),
        _ => Code::Object(object(&versions, inside, prefix)?),
    };
    Ok(CodeObject {
        code,
        weights: outside,
        weights_bytes,
        arena_bytes: u64::try_from(arena_bytes).unwrap_or(u64::MAX),
    })
}

fn object(versions: &[(Module, Machine)], weights: Vec<u8>, prefix: &str) -> Result<Vec<u8>, BackendError> {
    let machines: Vec<Machine> = versions.iter().map(|(_, machine)| machine.clone()).collect();
    // Before anything else: whether they can be told apart does not depend on how code is made.
    let chooser = if machines.len() > 1 { Some(choose::code(&machines)?) } else { None };
    let mut object = ObjectBuilder::new(&machines[0])?;
    let conv = object.call_conv();
    let data = if weights.is_empty() { None } else { Some(object.add_data("weights", weights, 64)?) };
    let init = object.declare_function(&format!("{prefix}_init"), &driver::run_signature(conv), true)?;
    let step = object.declare_function(&format!("{prefix}_step"), &driver::step_signature(conv), true)?;
    let run = object.declare_function(&format!("{prefix}_run"), &driver::run_signature(conv), true)?;
    let add = |code| object.add_function("choose", &driver::choose_signature(conv), code);
    let choose = chooser.as_ref().map(add).transpose()?;
    if let [(module, machine)] = versions {
        define_step(&mut object, step, module, machine, (data, 0))?;
    } else {
        let (mut steps, mut first_node) = (Vec::new(), 0);
        for (module, machine) in versions {
            let name = format!("step_{}", machine.name.replace('-', "_"));
            let own = object.declare_function(&name, &driver::step_signature(conv), false)?;
            object.for_version(machine)?;
            define_step(&mut object, own, module, machine, (data, first_node))?;
            first_node += u32::try_from(module.locs.len()).unwrap_or(u32::MAX);
            steps.push(own);
        }
        object.define_function(step, |func, refs| {
            let steps: Vec<_> = steps.iter().map(|own| refs.function(func, *own)).collect();
            driver::build_dispatch(func, &mut context(refs), &steps);
            Ok(())
        })?;
    }
    object.define_function(init, |func, refs| {
        let choose = choose.map(|choose| refs.function(func, choose));
        driver::build_init(func, &mut context(refs), choose);
        Ok(())
    })?;
    object.define_function(run, |func, refs| {
        let step = refs.function(func, step);
        driver::build_run(func, &mut context(refs), step);
        Ok(())
    })?;
    Ok(object.finish()?)
}

fn context(refs: &Refs<'_>) -> BuildContext {
    BuildContext { builder: FunctionBuilderContext::new(), config: refs.frontend_config() }
}

/// Adds a version's kernels and the walk over them. `place`: the constant data, and the number of its first call.
fn define_step(
    object: &mut ObjectBuilder,
    step: FunctionId,
    module: &Module,
    machine: &Machine,
    (data, first_node): (Option<DataId>, u32),
) -> Result<(), BackendError> {
    let kernels: Vec<KernelId> = module.kernels.iter().map(|k| object.add_kernel(k)).collect::<Result<_, _>>()?;
    let mut walk = step;
    if let Some(around) = around(machine, module.driver.flush) {
        let conv = machine.kernel_call_conv();
        let enter = object.add_function("enter", &driver::enter_signature(conv), &around.enter)?;
        let leave = object.add_function("leave", &driver::leave_signature(conv), &around.leave)?;
        walk = object.declare_function("walk", &driver::step_signature(object.call_conv()), false)?;
        object.define_function(step, |func, refs| {
            let calls = [enter, walk, leave].map(|f| refs.function(func, f));
            driver::build_around(func, &mut context(refs), calls);
            Ok(())
        })?;
    }
    object.define_function(walk, |func, refs| {
        let imports = Imports {
            kernels: kernels.iter().map(|k| refs.kernel(func, *k)).collect(),
            weights: data.map(|d| refs.data(func, d)),
            first_node,
        };
        driver::build_step(func, &mut context(refs), &module.driver, &imports);
        Ok(())
    })?;
    Ok(())
}

/// All constant data, each entry freed once it is copied.
fn concatenate(constants: Vec<(i64, ConstEntry)>, bytes: u64) -> Result<Vec<u8>, BackendError> {
    let mut all = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    let some = !constants.is_empty();
    for (offset, entry) in constants {
        let Some(data) = entry.data() else {
            return Err(BackendError::Module(vec![format!(
                "constant {} has no bytes: supply weights",
                entry.digest()
            )]));
        };
        all.resize(usize::try_from(offset).unwrap_or(0), 0);
        all.extend_from_slice(data.bytes());
    }
    if some && all.is_empty() {
        // Empty constants have an address too.
        all.push(0);
    }
    Ok(all)
}

struct Backend<'a> {
    program: &'a Program,
    machine: &'a Machine,
    core: Core,
    /// Dimensions and the loop variables in scope anywhere, with their ranges.
    symbols: Dims,
    kernels: Vec<Kernel>,
    /// Position of each kernel by what it does: its text without its name.
    kernel_by_text: BTreeMap<String, usize>,
    kernel_names: BTreeSet<String>,
    /// Constant data by offset.
    data: Vec<(i64, ConstEntry)>,
    data_bytes: i64,
    /// Where constant data of a content lie.
    data_places: BTreeMap<[u8; 16], i64>,
    /// Where a weight buffer's bytes lie in the constant data, once a kernel asks for them.
    weight_offsets: BTreeMap<BufferId, i64>,
    constants: BTreeMap<BufferId, Tensor>,
    scratch_base: i64,
    scratch_bytes: i64,
    locs: Vec<Loc>,
    unsupported: Vec<(String, Loc, Unsupported)>,
}

impl<'a> Backend<'a> {
    fn new(program: &'a Program, machine: &'a Machine, shared: &[(i64, ConstEntry)]) -> Self {
        let mut symbols = program.dims.clone();
        loop_ranges(&program.body, &mut symbols);
        let arena = program
            .buffers
            .values()
            .filter(|b| &*b.memory == tile::memory::ARENA && b.alias.is_none())
            .filter_map(|b| Some((b.offset.as_ref()?.clone() + b.bytes()).upper(&symbols)))
            .max()
            .unwrap_or(0);
        Self {
            program,
            machine,
            core: Core::of(machine),
            symbols,
            kernels: Vec::new(),
            kernel_by_text: BTreeMap::new(),
            kernel_names: BTreeSet::new(),
            data: shared.to_vec(),
            data_bytes: shared.last().map_or(0, |(offset, entry)| offset + entry.ty().max_bytes(&Dims::new())),
            data_places: shared.iter().map(|(offset, entry)| (entry.digest().0, *offset)).collect(),
            weight_offsets: BTreeMap::new(),
            constants: BTreeMap::new(),
            scratch_base: align(ARENA_HEADER_BYTES + arena),
            scratch_bytes: 0,
            locs: Vec::new(),
            unsupported: Vec::new(),
        }
    }

    fn block(&mut self, body: &[Stmt]) -> Result<Vec<Step>, BackendError> {
        let mut steps = Vec::new();
        for stmt in body {
            match stmt {
                Stmt::For(For { var, lo, hi, step, body, .. }) => {
                    let body = self.block(body)?;
                    steps.push(Step::For { var: var.clone(), lo: lo.clone(), hi: hi.clone(), step: *step, body });
                }
                Stmt::Leaf(leaf) => self.leaf(leaf, &mut steps)?,
                Stmt::Dma(_) | Stmt::Wait(_) => {
                    return Err(BackendError::Program("a copy between memories in a CPU program".into()));
                }
            }
        }
        Ok(steps)
    }

    fn leaf(&mut self, leaf: &Leaf, steps: &mut Vec<Step>) -> Result<(), BackendError> {
        let mut inputs = Vec::with_capacity(leaf.inputs.len());
        let mut places = Vec::with_capacity(leaf.inputs.len());
        for view in &leaf.inputs {
            let placed = view.as_ref().map(|view| self.operand(view)).transpose()?;
            places.push(placed.as_ref().map(|(_, byte_offset)| byte_offset.clone()));
            inputs.push(placed.map(|(operand, _)| operand));
        }
        let mut outputs = Vec::with_capacity(leaf.outputs.len());
        let mut targets = Vec::with_capacity(leaf.outputs.len());
        for view in &leaf.outputs {
            let (operand, byte_offset) = self.operand(view)?;
            outputs.push(operand);
            targets.push(byte_offset);
        }
        let cx = LeafCx {
            op: &leaf.op,
            inputs: &inputs,
            outputs: &outputs,
            dims: &self.symbols,
            machine: self.machine,
            schedule: leaf.schedule.as_ref(),
        };
        let lowered = match lower_best(&cx, &self.core) {
            Ok(lowered) => lowered,
            Err(error) => {
                self.unsupported.push((leaf.op.to_string(), leaf.loc.clone(), error));
                return Ok(());
            }
        };
        for part in lowered {
            let mut scratch = 0;
            let mut pointers = Vec::with_capacity(part.pointers.len());
            for role in &part.pointers {
                pointers.push(match role {
                    PtrRole::Input(index) => {
                        let view = leaf.inputs[*index].as_ref().expect("kernels read operands that are there");
                        self.pointer(view, places[*index].clone().unwrap_or(Extent::ZERO))?
                    }
                    PtrRole::Output(index) => self.pointer(&leaf.outputs[*index], targets[*index].clone())?,
                    PtrRole::Packed(weight) => {
                        let offset = self.place(weight.data.clone());
                        Pointer { base: Base::Weights, offset: offset.into(), per_thread: 0 }
                    }
                    PtrRole::Scratch(bytes) => {
                        let bytes = align(bytes.upper(&self.symbols));
                        let offset = (self.scratch_base, scratch);
                        scratch += bytes;
                        // The stride between threads is known when all leaves are.
                        Pointer { base: Base::Arena, offset: (offset.0 + offset.1).into(), per_thread: -1 }
                    }
                });
            }
            self.scratch_bytes = self.scratch_bytes.max(scratch);
            let node = u32::try_from(self.locs.len()).unwrap_or(u32::MAX);
            self.locs.push(leaf.loc.clone());
            let kernel = self.kernel(part.kernel);
            steps.push(Step::Call { kernel, pointers, lo: Extent::ZERO, hi: part.range, node });
        }
        Ok(())
    }

    /// Position of a kernel; those that differ only by name are one.
    fn kernel(&mut self, mut kernel: Kernel) -> usize {
        let printed = text::print(&kernel);
        let content = printed.split_once('(').map_or(printed.as_str(), |(_, rest)| rest);
        if let Some(&position) = self.kernel_by_text.get(content) {
            return position;
        }
        let stem = kernel.name.clone();
        let mut count = 1;
        while !self.kernel_names.insert(kernel.name.clone()) {
            count += 1;
            kernel.name = format!("{stem}_{count}");
        }
        self.kernel_by_text.insert(content.to_owned(), self.kernels.len());
        self.kernels.push(kernel);
        self.kernels.len() - 1
    }

    /// A view as kernels see it, and the bytes from its buffer's start to the pointer they are given.
    fn operand(&mut self, view: &View) -> Result<(Operand, Extent), BackendError> {
        let buffer = &self.program.buffers[view.buffer];
        let held = buffer.held_shape();
        let strides = buffer.layout.strides(&held).ok_or_else(|| {
            BackendError::Program(format!(
                "buffer `{}` has a blocked layout, which CPU kernels do not read",
                buffer.name
            ))
        })?;
        let mut starts = view.offsets.clone();
        if let Some(window) = &buffer.window {
            starts[window.axis] = match &window.place {
                WindowPlace::From(origin) => starts[window.axis].clone() - origin.clone(),
                WindowPlace::Rolling => starts[window.axis].modulo(&window.rows),
            };
        }
        let first =
            starts.iter().zip(&strides).fold(Extent::ZERO, |sum, (at, stride)| sum + at.clone() * stride.clone());
        let constant = match &buffer.role {
            Role::Weight(_) if view.is_whole(buffer) => Some(self.constant(view.buffer)?),
            _ => None,
        };
        let mut operand = Operand {
            dtype: buffer.dtype,
            shape: view.sizes.clone(),
            strides,
            offset: Extent::ZERO,
            bounds: None,
            constant,
        };
        let bits = i64::from(buffer.dtype.bits());
        if let Some(fill) = view.fill {
            operand.offset = first;
            operand.bounds = Some(Bounds { starts: view.offsets.clone(), limits: buffer.shape.clone(), fill });
            return Ok((operand, Extent::ZERO));
        }
        if bits < 8 {
            // The first element may be the second of its byte: kernels count from the buffer's start.
            operand.offset = first;
            return Ok((operand, Extent::ZERO));
        }
        Ok((operand, first * (bits / 8).into()))
    }

    fn constant(&mut self, id: BufferId) -> Result<Tensor, BackendError> {
        if let Some(tensor) = self.constants.get(&id) {
            return Ok(tensor.clone());
        }
        let Role::Weight(recipe) = &self.program.buffers[id].role else {
            return Err(BackendError::Program("a constant without a recipe".into()));
        };
        let tensor = recipe.eval(&self.program.consts)?;
        self.constants.insert(id, tensor.clone());
        Ok(tensor)
    }

    /// A pointer into the memory of a view's buffer, `bytes` past the buffer's first one.
    fn pointer(&mut self, view: &View, bytes: Extent) -> Result<Pointer, BackendError> {
        let (root, start) = match &self.program.buffers[view.buffer].alias {
            Some((root, start)) => (*root, start.clone()),
            None => (view.buffer, Extent::ZERO),
        };
        let buffer = &self.program.buffers[root];
        let (base, offset) = match &buffer.role {
            Role::Input(index) => (Base::Input(*index), Extent::ZERO),
            Role::Output(index) => (Base::Output(*index), Extent::ZERO),
            Role::State(index) => (Base::State(*index), Extent::ZERO),
            Role::Weight(_) => (Base::Weights, self.weight_offset(root)?.into()),
            Role::Temp => {
                let offset = buffer
                    .offset
                    .clone()
                    .ok_or_else(|| BackendError::Program(format!("buffer `{}` has no place in memory", buffer.name)))?;
                (Base::Arena, offset + ARENA_HEADER_BYTES.into())
            }
        };
        Ok(Pointer { base, offset: offset + start + bytes, per_thread: 0 })
    }

    fn weight_offset(&mut self, id: BufferId) -> Result<i64, BackendError> {
        if let Some(&offset) = self.weight_offsets.get(&id) {
            return Ok(offset);
        }
        let tensor = self.constant(id)?;
        let buffer = &self.program.buffers[id];
        let data = if buffer.layout.is_plain() && buffer.window.is_none() {
            tensor
        } else {
            let bytes = tile::pack(buffer, &tensor)
                .ok_or_else(|| BackendError::Program("a constant that does not fit its buffer".into()))?;
            let shape = vec![bytes.len()];
            Tensor::new(DType::U8, shape, bytes).map_err(|e| BackendError::Program(e.to_string()))?
        };
        let offset = self.place(data);
        self.weight_offsets.insert(id, offset);
        Ok(offset)
    }

    /// Where constant data lie; appended at an aligned place unless they are there already.
    fn place(&mut self, data: Tensor) -> i64 {
        let bytes = i64::try_from(data.bytes().len()).unwrap_or(i64::MAX);
        let entry = ConstEntry::new("", data);
        let digest = entry.digest().0;
        if let Some(&offset) = self.data_places.get(&digest) {
            return offset;
        }
        let offset = align(self.data_bytes);
        self.data_bytes = offset + bytes;
        self.data.push((offset, entry));
        self.data_places.insert(digest, offset);
        offset
    }

    fn finish(self, mut steps: Vec<Step>, options: &CodegenOptions) -> Result<Module, BackendError> {
        let program = self.program;
        let threads = options.max_threads.max(1);
        set_per_thread(&mut steps, self.scratch_bytes);
        let count = |pick: fn(&Role) -> bool| program.buffers.values().filter(|b| pick(&b.role)).count() as u32;
        let inputs = program.inputs.iter().map(|b| port(program, b)).collect::<Result<Vec<_>, _>>()?;
        let outputs = program.outputs.iter().map(|b| port(program, b)).collect::<Result<Vec<_>, _>>()?;
        let state_bytes = |s: &adze_ir::graph::State| {
            program.buffers[program.root(program.inputs[s.input].view.buffer)].bytes().upper(&program.dims)
        };
        let driver = Driver {
            dims: program.dims.iter().map(|(name, range)| (name.clone(), *range)).collect(),
            slots: self.symbols.keys().cloned().collect::<Vec<Sym>>(),
            steps,
            output_extents: outputs.iter().flat_map(|o| o.ty.shape.iter().cloned()).collect(),
            max_threads: threads,
            external_weights: usize::try_from(self.data_bytes).is_ok_and(|b| b > options.inline_weights_limit),
            flush: options.flush && can_flush(self.machine),
            pointers: [
                count(|r| matches!(r, Role::Input(_))),
                count(|r| matches!(r, Role::Output(_))),
                count(|r| matches!(r, Role::State(_))),
            ],
        };
        Ok(Module {
            name: program.name.clone(),
            machine: self.machine.name.to_owned(),
            inputs,
            outputs,
            states: program.states.iter().map(|s| (s.clone(), state_bytes(s))).collect(),
            constants: self.data,
            arena_bytes: self.scratch_base + self.scratch_bytes * i64::from(threads),
            kernels: self.kernels,
            driver,
            locs: self.locs,
        })
    }
}

/// A tensor at the border of the model, as callers see it.
fn port(program: &Program, binding: &Binding) -> Result<Port, BackendError> {
    let place = match program.buffers[program.root(binding.view.buffer)].role {
        Role::Input(index) => Base::Input(index),
        Role::Output(index) => Base::Output(index),
        Role::State(index) => Base::State(index),
        _ => return Err(BackendError::Program(format!("`{}` is not in memory of the caller", binding.name))),
    };
    let ty = TensorType::new(program.buffers[binding.view.buffer].dtype, binding.view.sizes.clone());
    Ok(Port { name: binding.name.clone(), ty, place })
}

fn align(bytes: i64) -> i64 {
    bytes.div_euclid(ALIGN) * ALIGN + if bytes % ALIGN == 0 { 0 } else { ALIGN }
}

fn set_per_thread(steps: &mut [Step], bytes: i64) {
    for step in steps {
        match step {
            Step::For { body, .. } => set_per_thread(body, bytes),
            Step::Call { pointers, .. } => {
                pointers.iter_mut().filter(|p| p.per_thread < 0).for_each(|p| p.per_thread = bytes);
            }
        }
    }
}

/// Adds the ranges of all loop variables.
fn loop_ranges(body: &[Stmt], symbols: &mut Dims) {
    for stmt in body {
        if let Stmt::For(inner) = stmt {
            let (lo, hi) = (inner.lo.range(symbols), inner.hi.range(symbols));
            let range = DimRange { lo: lo.lo, hi: (hi.hi - 1).max(lo.lo) };
            let name: Arc<str> = inner.var.clone();
            // The same name in two loops: the range that holds for both.
            let joined =
                symbols.get(&name).map_or(range, |r| DimRange { lo: r.lo.min(range.lo), hi: r.hi.max(range.hi) });
            symbols.insert(name, joined);
            loop_ranges(&inner.body, symbols);
        }
    }
}

//! From a planned tile program to an object: kernels for every leaf, the driver that calls them, constant data.

use std::collections::BTreeMap;
use std::sync::Arc;

use adze_ir::extent::{DimRange, Dims, Extent, Sym};
use adze_ir::loc::Loc;
use adze_ir::tensor::Tensor;
use adze_ir::tile::{self, BufferId, For, Leaf, Program, RecipeError, Role, Stmt, View, WindowPlace};
use cranelift_frontend::FunctionBuilderContext;

use super::driver::{self, ARENA_HEADER_BYTES, Base, BuildContext, Driver, Imports, Pointer, Step};
use super::lower::{Bounds, LeafCx, Operand, PtrRole, Unsupported, lower_leaf};
use super::machine::{CodegenError, Machine};
use super::object::{KernelId, ObjectBuilder};

/// Alignment of every constant, scratch area and the arena, bytes.
const ALIGN: i64 = 64;

/// Choices of code generation.
#[derive(Clone, Debug)]
pub struct CodegenOptions {
    /// Prefix of the exported symbols: `<prefix>_init`, `<prefix>_step`, `<prefix>_run`.
    pub symbol: String,
    /// Most threads that may enter a call together.
    pub max_threads: u32,
    /// Constant data beyond this many bytes goes to a separate file.
    pub inline_weights_limit: usize,
}

/// Machine code of a model and what a package has to say about it.
#[derive(Clone, Debug)]
pub struct CodeObject {
    /// ELF object.
    pub object: Vec<u8>,
    /// Constant data when it is not in the object.
    pub weights: Option<Vec<u8>>,
    /// Bytes of constant data.
    pub weights_bytes: u64,
    /// Bytes of working memory, driver's header and scratch included.
    pub arena_bytes: u64,
    /// The kernel and the source nodes of each step, in order.
    pub steps: Vec<(String, Loc)>,
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
}

/// Compiles a planned program.
///
/// # Errors
/// [`BackendError`]; all leaves without a kernel are reported together.
pub fn compile(program: &Program, machine: &Machine, options: &CodegenOptions) -> Result<CodeObject, BackendError> {
    let mut backend = Backend::new(program, machine)?;
    let steps = backend.block(&program.body)?;
    if !backend.unsupported.is_empty() {
        return Err(BackendError::Unsupported(backend.unsupported));
    }
    backend.finish(steps, options)
}

struct Backend<'a> {
    program: &'a Program,
    machine: &'a Machine,
    object: ObjectBuilder,
    /// Dimensions and the loop variables in scope anywhere, with their ranges.
    symbols: Dims,
    kernels: Vec<KernelId>,
    weights: Vec<u8>,
    /// Where a weight buffer's bytes lie in `weights`, once a kernel asks for them.
    weight_offsets: BTreeMap<BufferId, i64>,
    /// Packed data by content.
    packed: BTreeMap<[u8; 16], i64>,
    constants: BTreeMap<BufferId, Tensor>,
    scratch_base: i64,
    scratch_bytes: i64,
    steps: Vec<(String, Loc)>,
    unsupported: Vec<(String, Loc, Unsupported)>,
}

impl<'a> Backend<'a> {
    fn new(program: &'a Program, machine: &'a Machine) -> Result<Self, BackendError> {
        let mut symbols = program.dims.clone();
        loop_ranges(&program.body, &mut symbols);
        let arena = program
            .buffers
            .values()
            .filter(|b| &*b.memory == tile::memory::ARENA && b.alias.is_none())
            .filter_map(|b| Some((b.offset.as_ref()?.clone() + b.bytes()).upper(&symbols)))
            .max()
            .unwrap_or(0);
        Ok(Self {
            program,
            machine,
            object: ObjectBuilder::new(machine)?,
            symbols,
            kernels: Vec::new(),
            weights: Vec::new(),
            weight_offsets: BTreeMap::new(),
            packed: BTreeMap::new(),
            constants: BTreeMap::new(),
            scratch_base: align(ARENA_HEADER_BYTES + arena),
            scratch_bytes: 0,
            steps: Vec::new(),
            unsupported: Vec::new(),
        })
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
        let cx =
            LeafCx { op: &leaf.op, inputs: &inputs, outputs: &outputs, dims: &self.symbols, machine: self.machine };
        let lowered = match lower_leaf(&cx) {
            Ok(lowered) => lowered,
            Err(error) => {
                self.unsupported.push((leaf.op.to_string(), leaf.loc.clone(), error));
                return Ok(());
            }
        };
        for part in lowered {
            let kernel = self.object.add_kernel(&part.kernel)?;
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
                        let offset = self.pack(&weight.data);
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
            let node = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
            self.steps.push((part.kernel.name.clone(), leaf.loc.clone()));
            let position = self.kernels.iter().position(|k| *k == kernel).unwrap_or_else(|| {
                self.kernels.push(kernel);
                self.kernels.len() - 1
            });
            steps.push(Step::Call { kernel: position, pointers, lo: Extent::ZERO, hi: part.range, node });
        }
        Ok(())
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
        let bytes = tile::pack(&self.program.buffers[id], &tensor)
            .ok_or_else(|| BackendError::Program("a constant that does not fit its buffer".into()))?;
        let offset = append(&mut self.weights, &bytes);
        self.weight_offsets.insert(id, offset);
        Ok(offset)
    }

    fn pack(&mut self, data: &Tensor) -> i64 {
        let weights = &mut self.weights;
        *self.packed.entry(data.digest().0).or_insert_with(|| append(weights, data.bytes()))
    }

    fn finish(mut self, mut steps: Vec<Step>, options: &CodegenOptions) -> Result<CodeObject, BackendError> {
        let threads = i64::from(options.max_threads.max(1));
        let per_thread = self.scratch_bytes;
        set_per_thread(&mut steps, per_thread);
        let external = self.weights.len() > options.inline_weights_limit;
        let count = |pick: fn(&Role) -> bool| self.program.buffers.values().filter(|b| pick(&b.role)).count() as u32;
        let plan = Driver {
            dims: self.program.dims.iter().map(|(name, range)| (name.clone(), *range)).collect(),
            slots: self.symbols.keys().cloned().collect::<Vec<Sym>>(),
            steps,
            output_extents: self.program.outputs.iter().flat_map(|o| o.view.sizes.clone()).collect(),
            max_threads: options.max_threads.max(1),
            external_weights: external,
            pointers: [
                count(|r| matches!(r, Role::Input(_))),
                count(|r| matches!(r, Role::Output(_))),
                count(|r| matches!(r, Role::State(_))),
            ],
        };
        let weights_bytes = self.weights.len() as u64;
        let weights = std::mem::take(&mut self.weights);
        let (inside, outside) = if external { (Vec::new(), Some(weights)) } else { (weights, None) };
        self.define_functions(&plan, inside, &options.symbol)?;
        Ok(CodeObject {
            object: self.object.finish()?,
            weights: outside,
            weights_bytes,
            arena_bytes: u64::try_from(self.scratch_base + per_thread * threads).unwrap_or(u64::MAX),
            steps: self.steps,
        })
    }

    fn define_functions(&mut self, plan: &Driver, weights: Vec<u8>, symbol: &str) -> Result<(), BackendError> {
        let conv = self.object.call_conv();
        let data = if weights.is_empty() { None } else { Some(self.object.add_data("weights", weights, 64)?) };
        let init = self.object.declare_function(&format!("{symbol}_init"), &driver::run_signature(conv), true)?;
        let step = self.object.declare_function(&format!("{symbol}_step"), &driver::step_signature(conv), true)?;
        let run = self.object.declare_function(&format!("{symbol}_run"), &driver::run_signature(conv), true)?;
        let kernels = &self.kernels;
        let context = |refs: &super::object::Refs<'_>| BuildContext {
            builder: FunctionBuilderContext::new(),
            config: refs.frontend_config(),
        };
        self.object.define_function(init, |func, refs| {
            driver::build_init(func, &mut context(refs));
            Ok(())
        })?;
        self.object.define_function(step, |func, refs| {
            let imports = Imports {
                kernels: kernels.iter().map(|k| refs.kernel(func, *k)).collect(),
                weights: data.map(|d| refs.data(func, d)),
                step: None,
            };
            driver::build_step(func, &mut context(refs), plan, &imports);
            Ok(())
        })?;
        self.object.define_function(run, |func, refs| {
            let imports = Imports { kernels: Vec::new(), weights: None, step: Some(refs.function(func, step)) };
            driver::build_run(func, &mut context(refs), &imports);
            Ok(())
        })?;
        Ok(())
    }
}

fn align(bytes: i64) -> i64 {
    bytes.div_euclid(ALIGN) * ALIGN + if bytes % ALIGN == 0 { 0 } else { ALIGN }
}

/// Appends bytes at an aligned place and gives it.
fn append(weights: &mut Vec<u8>, bytes: &[u8]) -> i64 {
    let start = weights.len().next_multiple_of(ALIGN as usize);
    weights.resize(start, 0);
    weights.extend_from_slice(bytes);
    start as i64
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

//! Interpreter of the tile IR: plain, and strict about memory.
//!
//! It moves bytes itself and calls only [`Op::eval`](crate::ops::Op::eval) for leaves. Buffers with a planned offset share
//! the bytes of their memory, so a wrong plan gives wrong data. Bytes that nothing was written to are *undefined*: reading
//! them is an error. The destination of a copy is undefined from the start of the copy to its wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use cranelift_entity::EntityRef;

use crate::extent::{Extent, Sym};
use crate::loc::Loc;
use crate::ops::EvalError;
use crate::tensor::Tensor;
use crate::tile::{
    Addressing, BufferId, Dma, For, Leaf, Program, RecipeError, Role, Stmt, View, Walk, copy_bits, for_each_address,
    pack, scopes,
};
use crate::types::DType;

/// Why a program cannot be evaluated on these inputs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TileError {
    /// The number of inputs differs.
    #[error("{found} inputs given, the program takes {expected}")]
    Inputs {
        /// Inputs given.
        found: usize,
        /// Inputs of the program.
        expected: usize,
    },
    /// An input has another type.
    #[error("input {index} `{name}`: found {dtype}{shape:?}, accepted: {accepted}")]
    Input {
        /// Position.
        index: usize,
        /// Name.
        name: Arc<str>,
        /// Dtype found.
        dtype: DType,
        /// Shape found.
        shape: Vec<usize>,
        /// What is declared.
        accepted: String,
    },
    /// A weight cannot be made.
    #[error("weight {buffer}: {error}")]
    Weight {
        /// The buffer.
        buffer: BufferId,
        /// Why.
        error: RecipeError,
    },
    /// A buffer has no address: an extent without a value, a layout that does not fit, more than 2^32 bytes.
    #[error("{0} cannot be placed in memory")]
    Buffer(BufferId),
    /// An extent has no value.
    #[error("`{0}` has no value")]
    Unbound(Extent),
    /// A read of bytes that nothing defined was written to, of an index that a window no longer holds, or of the
    /// destination of a copy before its wait.
    #[error("{loc} reads undefined elements of {buffer} `{name}`")]
    Undefined {
        /// The buffer.
        buffer: BufferId,
        /// Its name.
        name: Arc<str>,
        /// The statement.
        loc: String,
    },
    /// A read without fill value, or a write, outside of a buffer or its window.
    #[error("{loc} goes outside of {buffer} `{name}`")]
    Outside {
        /// The buffer.
        buffer: BufferId,
        /// Its name.
        name: Arc<str>,
        /// The statement.
        loc: String,
    },
    /// A leaf cannot be evaluated, or its results are not what its views say.
    #[error("leaf `{op}` {loc}: {error}")]
    Leaf {
        /// The operator.
        op: String,
        /// The source nodes.
        loc: Loc,
        /// What is wrong.
        error: EvalError,
    },
}

/// What the observer of a program is shown after each leaf.
pub struct LeafEvent<'a> {
    /// The leaf.
    pub leaf: &'a Leaf,
    /// Values of named dimensions and of the loop variables around it.
    pub symbols: &'a BTreeMap<Sym, i64>,
    /// The operands as it read them, fill values included.
    pub inputs: &'a [Option<Tensor>],
    /// The results.
    pub results: &'a [Tensor],
}

/// Called after every leaf.
pub type LeafObserver<'a> = dyn FnMut(LeafEvent<'_>) + 'a;

/// The outputs of a program on these inputs (states among them).
///
/// # Errors
/// [`TileError`].
pub fn eval_program(program: &Program, inputs: &[Tensor]) -> Result<Vec<Tensor>, TileError> {
    eval_program_observed(program, inputs, &mut |_| {})
}

/// [`eval_program`], showing the results of every leaf to an observer.
///
/// # Errors
/// As for [`eval_program`].
pub fn eval_program_observed(
    program: &Program,
    inputs: &[Tensor],
    observe: &mut LeafObserver<'_>,
) -> Result<Vec<Tensor>, TileError> {
    let symbols = bind(program, inputs)?;
    let mut machine = Machine::new(program, symbols)?;
    machine.load(inputs)?;
    machine.block(&program.body, &mut 0, observe)?;
    program.outputs.iter().map(|output| machine.read(&output.view, "the caller")).collect()
}

/// Values of the named dimensions that these inputs imply, every input checked against its binding.
fn bind(program: &Program, inputs: &[Tensor]) -> Result<BTreeMap<Sym, i64>, TileError> {
    if inputs.len() != program.inputs.len() {
        return Err(TileError::Inputs { found: inputs.len(), expected: program.inputs.len() });
    }
    let mut symbols: BTreeMap<Sym, i64> = BTreeMap::new();
    for (binding, tensor) in program.inputs.iter().zip(inputs) {
        for (extent, &found) in binding.view.sizes.iter().zip(tensor.shape()) {
            if let (Some(sym), Ok(found)) = (extent.as_sym(), i64::try_from(found)) {
                symbols.entry(sym.clone()).or_insert(found);
            }
        }
    }
    for (index, (binding, tensor)) in program.inputs.iter().zip(inputs).enumerate() {
        let sizes = &binding.view.sizes;
        let lookup = |name: &str| symbols.get(name).copied();
        let fits = program.buffers[binding.view.buffer].dtype == tensor.dtype()
            && sizes.len() == tensor.shape().len()
            && sizes.iter().zip(tensor.shape()).all(|(e, &d)| e.eval(&lookup) == i64::try_from(d).ok());
        let in_range = symbols.iter().all(|(s, v)| program.dims.get(s).is_none_or(|r| (r.lo..=r.hi).contains(v)));
        if !fits || !in_range {
            return Err(TileError::Input {
                index,
                name: binding.name.clone(),
                dtype: tensor.dtype(),
                shape: tensor.shape().to_vec(),
                accepted: format!("{sizes:?} with {:?}", program.dims),
            });
        }
    }
    Ok(symbols)
}

/// Bytes and which of them are defined.
#[derive(Default)]
struct Storage {
    bytes: Vec<u8>,
    defined: Vec<bool>,
}

impl Storage {
    fn grow(&mut self, bytes: usize) {
        if self.bytes.len() < bytes {
            self.bytes.resize(bytes, 0);
            self.defined.resize(bytes, false);
        }
    }
}

/// Where a buffer lies: a storage and its first bit there.
#[derive(Clone, Copy)]
struct Place {
    storage: usize,
    bit: i64,
}

struct Pending {
    tag: u32,
    view: View,
    symbols: BTreeMap<Sym, i64>,
    data: Tensor,
}

struct Machine<'a> {
    program: &'a Program,
    symbols: BTreeMap<Sym, i64>,
    storages: Vec<Storage>,
    places: Vec<Place>,
    /// For windowed buffers, the index of the whole axis that each held row was last written for.
    rows: BTreeMap<BufferId, Vec<Option<i64>>>,
    pending: Vec<Pending>,
    /// Buffers to forget at the start of each iteration, by loop in order of the heads.
    scoped: BTreeMap<usize, Vec<BufferId>>,
}

/// Largest buffer that is interpreted.
const MAX_BYTES: i64 = 1 << 32;

impl<'a> Machine<'a> {
    fn new(program: &'a Program, symbols: BTreeMap<Sym, i64>) -> Result<Self, TileError> {
        let mut scoped: BTreeMap<usize, Vec<BufferId>> = BTreeMap::new();
        for (buffer, inside) in scopes(program, &Walk::of(program)) {
            scoped.entry(inside).or_default().push(buffer);
        }
        let mut machine = Self {
            program,
            symbols,
            storages: Vec::new(),
            places: vec![Place { storage: 0, bit: 0 }; program.buffers.len()],
            rows: BTreeMap::new(),
            pending: Vec::new(),
            scoped,
        };
        machine.place()?;
        Ok(machine)
    }

    /// Gives every buffer its bytes: planned ones share those of their memory, aliases those of their base.
    fn place(&mut self) -> Result<(), TileError> {
        let mut memories: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, buffer) in self.program.buffers.iter().filter(|(_, b)| b.alias.is_none()) {
            let bytes = self.span_bytes(id)?;
            let offset = match &buffer.offset {
                Some(offset) => Some(self.value(offset)?),
                None => None,
            };
            let shared = offset.and_then(|_| memories.get(&*buffer.memory).copied());
            let storage = shared.unwrap_or(self.storages.len());
            if storage == self.storages.len() {
                self.storages.push(Storage::default());
            }
            let start = offset.unwrap_or(0);
            let end =
                start.checked_add(bytes).filter(|e| start >= 0 && *e <= MAX_BYTES).ok_or(TileError::Buffer(id))?;
            if offset.is_some() {
                memories.insert(&buffer.memory, storage);
            }
            self.storages[storage].grow(usize::try_from(end).map_err(|_| TileError::Buffer(id))?);
            self.places[id.index()] = Place { storage, bit: start * 8 };
        }
        for (id, buffer) in self.program.buffers.iter() {
            if let Some((base, offset)) = &buffer.alias {
                let offset = self.value(offset)?;
                let place = self.places[base.index()];
                let end = (place.bit / 8).saturating_add(offset).saturating_add(self.span_bytes(id)?);
                let room = self.storages[place.storage].bytes.len() as i64;
                if offset < 0 || end > room {
                    return Err(TileError::Buffer(id));
                }
                self.places[id.index()] = Place { bit: place.bit + offset * 8, ..place };
            }
        }
        Ok(())
    }

    fn span_bytes(&self, id: BufferId) -> Result<i64, TileError> {
        let mut buffer = self.program.buffers[id].clone();
        // The origin of a window may depend on loop variables; the span does not.
        if let Some(window) = &mut buffer.window {
            window.place = crate::tile::WindowPlace::Rolling;
        }
        let memory = self.program.memory_of(&buffer);
        let addressing = Addressing::new(&buffer, memory, &self.lookup()).ok_or(TileError::Buffer(id))?;
        let bytes = addressing.span_bits / 8 + i64::from(addressing.span_bits % 8 != 0);
        if bytes <= MAX_BYTES { Ok(bytes) } else { Err(TileError::Buffer(id)) }
    }

    fn lookup(&self) -> impl Fn(&str) -> Option<i64> {
        |name| self.symbols.get(name).copied()
    }

    fn value(&self, extent: &Extent) -> Result<i64, TileError> {
        extent.eval(&self.lookup()).ok_or_else(|| TileError::Unbound(extent.clone()))
    }

    /// Fills weights and inputs in.
    fn load(&mut self, inputs: &[Tensor]) -> Result<(), TileError> {
        for (id, buffer) in self.program.buffers.iter() {
            let Role::Weight(recipe) = &buffer.role else { continue };
            let tensor = recipe.eval(&self.program.consts).map_err(|error| TileError::Weight { buffer: id, error })?;
            if self.program.memory_of(buffer).lanes > 1 {
                self.write(&View::whole(id, buffer), &tensor, "the package")?;
                continue;
            }
            let bytes = pack(buffer, &tensor).ok_or(TileError::Buffer(id))?;
            let place = self.places[id.index()];
            let storage = &mut self.storages[place.storage];
            let start = (place.bit / 8) as usize;
            let end = start + bytes.len();
            storage.grow(end);
            storage.bytes[start..end].copy_from_slice(&bytes);
            storage.defined[start..end].fill(true);
        }
        for (binding, tensor) in self.program.inputs.iter().zip(inputs) {
            self.write(&binding.view, tensor, "the caller")?;
        }
        Ok(())
    }

    fn block(&mut self, body: &[Stmt], loops: &mut usize, observe: &mut LeafObserver<'_>) -> Result<(), TileError> {
        for stmt in body {
            match stmt {
                Stmt::For(inner) => self.for_loop(inner, loops, observe)?,
                Stmt::Leaf(leaf) => self.leaf(leaf, observe)?,
                Stmt::Dma(dma) => self.dma(dma)?,
                Stmt::Wait(tag) => self.wait(*tag)?,
            }
        }
        Ok(())
    }

    fn for_loop(&mut self, inner: &For, loops: &mut usize, observe: &mut LeafObserver<'_>) -> Result<(), TileError> {
        let (lo, hi) = (self.value(&inner.lo)?, self.value(&inner.hi)?);
        let number = *loops;
        *loops += 1;
        let mut after = *loops;
        count_loops(&inner.body, &mut after);
        let mut at = lo;
        while at < hi {
            self.symbols.insert(inner.var.clone(), at);
            for buffer in self.scoped.get(&number).cloned().unwrap_or_default() {
                self.forget(buffer)?;
            }
            let mut nested = number + 1;
            self.block(&inner.body, &mut nested, observe)?;
            match at.checked_add(inner.step.max(1)) {
                Some(next) => at = next,
                None => break,
            }
        }
        self.symbols.remove(&inner.var);
        *loops = after;
        Ok(())
    }

    /// Makes all that a buffer holds undefined, lane by lane.
    fn forget(&mut self, id: BufferId) -> Result<(), TileError> {
        let mut buffer = self.program.buffers[id].clone();
        (buffer.shape, buffer.window) = (buffer.held_shape(), None);
        let memory = self.program.memory_of(&buffer);
        let addressing = Addressing::new(&buffer, memory, &self.lookup()).ok_or(TileError::Buffer(id))?;
        let place = self.places[id.index()];
        let terms: Vec<_> =
            addressing.shape.iter().enumerate().map(|(axis, &size)| addressing.terms(axis, 0, size)).collect();
        let storage = &mut self.storages[place.storage];
        for_each_address(&terms, &mut |address| {
            let bit = place.bit + address.unwrap_or(0);
            storage.defined[(bit / 8) as usize..((bit + addressing.elem_bits + 7) / 8) as usize].fill(false);
        });
        Ok(())
    }

    fn leaf(&mut self, leaf: &Leaf, observe: &mut LeafObserver<'_>) -> Result<(), TileError> {
        let what = || format!("leaf `{}` {}", leaf.op.name(), leaf.loc);
        let fail = |error| TileError::Leaf { op: leaf.op.to_string(), loc: leaf.loc.clone(), error };
        let inputs: Vec<Option<Tensor>> = leaf
            .inputs
            .iter()
            .map(|view| view.as_ref().map(|view| self.read(view, &what())).transpose())
            .collect::<Result<_, _>>()?;
        let operands: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
        let results = leaf.op.eval(&operands, &self.lookup()).map_err(fail)?;
        if results.len() != leaf.outputs.len() {
            return Err(fail(EvalError::Value(format!("{} results", results.len()))));
        }
        for (view, tensor) in leaf.outputs.iter().zip(&results) {
            let sizes = view.sizes.iter().map(|e| self.value(e)).collect::<Result<Vec<_>, _>>()?;
            let same = sizes.iter().zip(tensor.shape()).all(|(a, b)| usize::try_from(*a) == Ok(*b));
            if !same || sizes.len() != tensor.shape().len() || self.program.buffers[view.buffer].dtype != tensor.dtype()
            {
                return Err(fail(EvalError::Value(format!("a result is {}, its view {sizes:?}", tensor.ty()))));
            }
            self.write(view, tensor, &what())?;
        }
        observe(LeafEvent { leaf, symbols: &self.symbols, inputs: &inputs, results: &results });
        Ok(())
    }

    fn dma(&mut self, dma: &Dma) -> Result<(), TileError> {
        let data = self.read(&dma.src, "a copy")?;
        // Undefined until it has landed.
        let zeros = Tensor::zeros(data.dtype(), data.shape());
        self.write(&dma.dst, &zeros, "a copy")?;
        let (place, terms, addressing) = self.locate(&dma.dst)?;
        let storage = &mut self.storages[place.storage];
        for_each_address(&terms, &mut |address| {
            if let Some(address) = address {
                let bit = place.bit + address;
                let bytes = (bit / 8) as usize..((bit + addressing.elem_bits + 7) / 8) as usize;
                storage.defined[bytes].fill(false);
            }
        });
        self.pending.push(Pending { tag: dma.tag, view: dma.dst.clone(), symbols: self.symbols.clone(), data });
        Ok(())
    }

    fn wait(&mut self, tag: u32) -> Result<(), TileError> {
        let (landed, pending) = std::mem::take(&mut self.pending).into_iter().partition(|p| p.tag == tag);
        self.pending = pending;
        for copy in landed {
            let now = std::mem::replace(&mut self.symbols, copy.symbols);
            self.write(&copy.view, &copy.data, "a copy")?;
            self.symbols = now;
        }
        Ok(())
    }

    /// Address terms of a view, per axis.
    #[expect(clippy::type_complexity, reason = "three parts of one address")]
    fn locate(&self, view: &View) -> Result<(Place, Vec<Vec<Option<i64>>>, Addressing), TileError> {
        let buffer = &self.program.buffers[view.buffer];
        let memory = self.program.memory_of(buffer);
        let addressing = Addressing::new(buffer, memory, &self.lookup()).ok_or(TileError::Buffer(view.buffer))?;
        if view.offsets.len() != addressing.shape.len() || view.sizes.len() != addressing.shape.len() {
            return Err(TileError::Buffer(view.buffer));
        }
        let mut terms = Vec::with_capacity(view.sizes.len());
        for axis in 0..view.sizes.len() {
            let (offset, size) = (self.value(&view.offsets[axis])?, self.value(&view.sizes[axis])?);
            if !(0..=MAX_BYTES).contains(&size) {
                return Err(TileError::Unbound(view.sizes[axis].clone()));
            }
            terms.push(addressing.terms(axis, offset, size));
        }
        Ok((self.places[view.buffer.index()], terms, addressing))
    }

    fn outside(&self, view: &View, what: &str) -> TileError {
        let name = self.program.buffers[view.buffer].name.clone();
        TileError::Outside { buffer: view.buffer, name, loc: what.into() }
    }

    /// The rows that a view touches along the windowed axis: held position and index of the whole axis.
    fn window_rows(&self, view: &View, addressing: &Addressing, what: &str) -> Result<Vec<(usize, i64)>, TileError> {
        let Some((axis, rows, _)) = addressing.window else { return Ok(Vec::new()) };
        let (offset, size) = (self.value(&view.offsets[axis])?, self.value(&view.sizes[axis])?);
        let inside = (offset..offset + size).filter(|i| (0..addressing.shape[axis]).contains(i));
        inside
            .map(|index| match usize::try_from(addressing.held_index(axis, index)) {
                Ok(held) if (held as i64) < rows => Ok((held, index)),
                _ => Err(self.outside(view, what)),
            })
            .collect()
    }

    fn read(&self, view: &View, what: &str) -> Result<Tensor, TileError> {
        let buffer = &self.program.buffers[view.buffer];
        let (place, terms, addressing) = self.locate(view)?;
        let shape: Vec<usize> = terms.iter().map(Vec::len).collect();
        let elems = crate::tensor::checked_elems(&shape).filter(|n| *n as i64 <= MAX_BYTES);
        let elems = elems.ok_or(TileError::Buffer(view.buffer))?;
        let undefined = || TileError::Undefined { buffer: view.buffer, name: buffer.name.clone(), loc: what.into() };
        if let Some(written) = addressing.window.and_then(|_| self.rows.get(&view.buffer)) {
            let rows = self.window_rows(view, &addressing, what)?;
            if rows.iter().any(|&(held, index)| written.get(held).copied().flatten() != Some(index)) {
                return Err(undefined());
            }
        }
        let bits = addressing.elem_bits as usize;
        let fill = view.fill.map(|fill| Tensor::from_f64(buffer.dtype, &[1], &[fill.get()]));
        let mut bytes = vec![0u8; buffer.dtype.bytes_for(elems)];
        let storage = &self.storages[place.storage];
        let (mut to, mut missing, mut outside) = (0usize, false, false);
        for_each_address(&terms, &mut |address| {
            match (address, &fill) {
                (Some(address), _) => {
                    let from = (place.bit + address) as usize;
                    missing |= !storage.defined[from / 8..(from + bits).div_ceil(8)].iter().all(|d| *d);
                    copy_bits(&storage.bytes, from, &mut bytes, to, bits);
                }
                (None, Some(fill)) => copy_bits(fill.bytes(), 0, &mut bytes, to, bits),
                (None, None) => outside = true,
            }
            to += bits;
        });
        if outside {
            return Err(self.outside(view, what));
        }
        if missing {
            return Err(undefined());
        }
        Tensor::new(buffer.dtype, shape, bytes).map_err(|_| TileError::Buffer(view.buffer))
    }

    fn write(&mut self, view: &View, tensor: &Tensor, what: &str) -> Result<(), TileError> {
        let (place, terms, addressing) = self.locate(view)?;
        if terms.iter().flatten().any(Option::is_none) {
            return Err(self.outside(view, what));
        }
        if let Some((_, rows, _)) = addressing.window {
            let touched = self.window_rows(view, &addressing, what)?;
            let written = self.rows.entry(view.buffer).or_insert_with(|| vec![None; rows as usize]);
            for (held, index) in touched {
                written[held] = Some(index);
            }
        }
        let bits = addressing.elem_bits as usize;
        let storage = &mut self.storages[place.storage];
        let mut from = 0usize;
        for_each_address(&terms, &mut |address| {
            if let Some(address) = address {
                let to = (place.bit + address) as usize;
                copy_bits(tensor.bytes(), from, &mut storage.bytes, to, bits);
                storage.defined[to / 8..(to + bits).div_ceil(8)].fill(true);
            }
            from += bits;
        });
        Ok(())
    }
}

fn count_loops(body: &[Stmt], count: &mut usize) {
    for stmt in body {
        if let Stmt::For(inner) = stmt {
            *count += 1;
            count_loops(&inner.body, count);
        }
    }
}

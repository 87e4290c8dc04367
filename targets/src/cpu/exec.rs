//! In-process execution of generated objects on the host: one of the three modules with `unsafe`.
//!
//! The very bytes that are shipped are placed in one mapping (sections in a row, relocations applied while it is
//! writable), which then becomes executable and read-only. Generated objects hold no writable data.
#![expect(unsafe_code, reason = "calling generated code")]

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use adze_ir::extent::{Extent, Sym};
use memmap2::{Mmap, MmapMut};
use object::elf::{R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32};
use object::{Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionIndex, SectionKind};
use thiserror::Error;

use super::driver::{Base, Driver, Pointer, Step};
use super::kernel::Kernel;

/// Why an object cannot be run here.
#[derive(Debug, Error)]
pub enum ExecError {
    /// The bytes are no object.
    #[error("not an object file: {0}")]
    Object(#[from] object::Error),
    /// The object is for another machine, or this one has no loader.
    #[error("object for {found:?} cannot run in this process, accepted: {accepted:?}")]
    Machine {
        /// Its architecture.
        found: object::Architecture,
        /// That of the process.
        accepted: object::Architecture,
    },
    /// The object holds writable data.
    #[error("section `{0}` is writable; generated objects keep no state")]
    Writable(String),
    /// A relocation of a kind that the code generator does not make.
    #[error("relocation {0:?} is unknown")]
    Relocation(RelocationFlags),
    /// A relocation does not reach its target or lies outside of its section.
    #[error("relocation out of range")]
    RelocationRange,
    /// A symbol is missing.
    #[error("symbol `{0}` is not defined")]
    Symbol(String),
    /// The call does not fit the function.
    #[error("{0}")]
    Call(String),
    /// Memory could not be had or protected.
    #[error("mapping memory: {0}")]
    Map(#[from] io::Error),
}

/// Memory handed to generated code, aligned to 64 bytes.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// Zeroed memory.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + 64];
        let start = bytes.as_ptr().align_offset(64).min(64);
        Self { bytes, start, len }
    }

    /// A copy of the given bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut buffer = Self::new(bytes.len());
        buffer.as_mut().copy_from_slice(bytes);
        buffer
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// An object in executable memory.
#[derive(Debug)]
pub struct Loaded {
    memory: Mmap,
    functions: BTreeMap<String, usize>,
}

/// Position of every loaded section in the mapping.
type Placement = BTreeMap<usize, usize>;

impl Loaded {
    /// Places an object in memory.
    ///
    /// # Errors
    /// [`ExecError`] when the object is for another machine or not of the form the code generator makes.
    pub fn new(bytes: &[u8]) -> Result<Self, ExecError> {
        let file = object::File::parse(bytes)?;
        let accepted = match std::env::consts::ARCH {
            "x86_64" => object::Architecture::X86_64,
            _ => object::Architecture::Unknown,
        };
        if file.architecture() != accepted {
            return Err(ExecError::Machine { found: file.architecture(), accepted });
        }
        let (placement, len) = place(&file)?;
        let mut memory = MmapMut::map_anon(len.max(1))?;
        for (&index, &start) in &placement {
            let data = file.section_by_index(SectionIndex(index))?.uncompressed_data()?;
            memory[start..start + data.len()].copy_from_slice(&data);
        }
        for &index in placement.keys() {
            relocate(&file, &placement, SectionIndex(index), &mut memory)?;
        }
        let mut functions = BTreeMap::new();
        for symbol in file.symbols() {
            if let (Some(index), Ok(name)) = (symbol.section_index(), symbol.name())
                && let Some(start) = placement.get(&index.0)
            {
                functions.insert(name.to_owned(), start + symbol.address() as usize);
            }
        }
        Ok(Self { memory: memory.make_exec()?, functions })
    }

    fn address(&self, name: &str) -> Result<*const u8, ExecError> {
        let offset = self.functions.get(name).ok_or_else(|| ExecError::Symbol(name.into()))?;
        self.memory.get(*offset).map(std::ptr::from_ref).ok_or_else(|| ExecError::Symbol(name.into()))
    }

    /// Calls a kernel: one pointer per parameter, the dimensions by slot, the tile range. Returns its status.
    ///
    /// The buffers must be as large as the kernel's offsets reach; running it in the interpreter first tells.
    ///
    /// # Errors
    /// [`ExecError::Symbol`] when the object has no such kernel.
    pub fn call_kernel(
        &self,
        name: &str,
        buffers: &mut [Buffer],
        dims: &[i64],
        lo: i64,
        hi: i64,
    ) -> Result<i64, ExecError> {
        let mut pointers: Vec<*mut u8> = buffers.iter_mut().map(|b| b.as_mut().as_mut_ptr()).collect();
        let entry = self.address(name)?;
        // SAFETY: `entry` is the start of a kernel, whose machine signature is this one on x86-64 (`kernel::ir`); the
        // mapping lives as long as `self`. The kernel was verified, reads `dims` by the slots it declares and touches
        // memory only through `pointers`, each exclusive for the call.
        unsafe {
            type Entry = unsafe extern "sysv64" fn(*mut *mut u8, *const i64, i64, i64) -> i64;
            let kernel: Entry = std::mem::transmute(entry);
            Ok(kernel(pointers.as_mut_ptr(), dims.as_ptr(), lo, hi))
        }
    }

    /// Does what `step` does on one thread, saying after every kernel call how long it took.
    ///
    /// # Errors
    /// [`ExecError`] when the object is not that of the driver and its kernels, or a kernel fails.
    pub fn walk(
        &self,
        driver: &Driver,
        kernels: &[Kernel],
        call: &mut RawCall,
        observe: &mut dyn FnMut(Called<'_>),
    ) -> Result<(), ExecError> {
        call.refresh();
        let entries = kernels.iter().map(|k| self.address(&k.name)).collect::<Result<Vec<_>, _>>()?;
        let inside = self.address("weights").map_or(0, |p| p as u64);
        let weights = if driver.external_weights { call.words[4] } else { inside };
        let (tables, arena, dims) = (call.pointers.clone(), call.words[5], vec![0; driver.slots.len().max(1)]);
        let symbols = BTreeMap::new();
        let mut walk = Walk { driver, entries, weights, arena, tables, symbols, dims, observe };
        for ((name, _), value) in driver.dims.iter().zip(&call.dims) {
            walk.set(name, *value);
        }
        let around = self.address("enter").ok().zip(self.address("leave").ok());
        let Some((enter, leave)) = around else { return walk.steps(&driver.steps) };
        // SAFETY: `enter` and `leave` have these machine signatures (`emit::Around`) and touch nothing but control registers.
        let (enter, leave) = unsafe {
            type Enter = unsafe extern "sysv64" fn() -> u64;
            type Leave = unsafe extern "sysv64" fn(u64);
            (std::mem::transmute::<*const u8, Enter>(enter), std::mem::transmute::<*const u8, Leave>(leave))
        };
        // SAFETY: as above; what `enter` sets is undone before anything else runs.
        let before = unsafe { enter() };
        let result = walk.steps(&driver.steps);
        // SAFETY: as above.
        unsafe { leave(before) };
        result
    }

    /// Calls an exported function `int32_t f(adze_call *)` such as `init` or `run`.
    ///
    /// # Errors
    /// [`ExecError::Symbol`] when the object has no such function.
    pub fn call_run(&self, name: &str, call: &mut RawCall) -> Result<i32, ExecError> {
        let entry = self.address(name)?;
        // SAFETY: exported driver functions of one pointer have this signature; `RawCall` holds pointers to live memory
        // of the sizes that its builder checked against the package's manifest.
        unsafe {
            let run: unsafe extern "C" fn(*mut u64) -> i32 = std::mem::transmute(entry);
            Ok(run(call.words.as_mut_ptr()))
        }
    }

    /// Calls an exported function `int32_t f(adze_call *, uint32_t phase, uint32_t thread_id)` on so many threads at the same
    /// time, each with its own id. Returns their statuses.
    ///
    /// The code must be made for so many threads; it refuses more.
    ///
    /// # Errors
    /// [`ExecError::Symbol`] when the object has no such function.
    pub fn call_step(&self, name: &str, call: &mut RawCall, phase: u32, threads: u32) -> Result<Vec<i32>, ExecError> {
        let entry = self.address(name)? as usize;
        call.words[0] = CALL_BYTES | u64::from(threads) << 32;
        let words = call.words.as_mut_ptr() as usize;
        // SAFETY: as in `call_run`; `step` has two more integers. The threads share the call, which nobody else has: of it
        // and of the memory behind it each writes only its own part, and they meet at barriers before one reads what
        // another wrote (`driver`). All of them end before the call is given back.
        let step = move |thread| unsafe {
            let step: unsafe extern "C" fn(*mut u64, u32, u32) -> i32 = std::mem::transmute(entry);
            step(words as *mut u64, phase, thread)
        };
        let statuses = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || step(thread))).collect();
            let own = step(0);
            let others = others.into_iter().map(|other| other.join().expect("compiled code does not panic"));
            std::iter::once(own).chain(others).collect()
        });
        call.words[0] = CALL_BYTES | 1 << 32;
        Ok(statuses)
    }
}

/// Size of the struct `adze_call`, which begins with it; the number of threads is the other half of the word.
const CALL_BYTES: u64 = 80;

/// A kernel call that was made.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    /// Position among the calls of the driver.
    pub node: u32,
    /// Position among the kernels.
    pub kernel: usize,
    /// Dimensions and loop variables by slot.
    pub dims: &'a [i64],
    /// The part of the outermost loop.
    pub range: (i64, i64),
    /// How long it took, the clock's own time included.
    pub seconds: f64,
}

/// The steps of a driver, walked here instead of by its compiled form, so that every call can be timed.
struct Walk<'a> {
    driver: &'a Driver,
    entries: Vec<*const u8>,
    weights: u64,
    arena: u64,
    tables: [Vec<u64>; 3],
    symbols: BTreeMap<Sym, i64>,
    dims: Vec<i64>,
    observe: &'a mut dyn FnMut(Called<'_>),
}

impl Walk<'_> {
    fn extent(&self, extent: &Extent) -> Result<i64, ExecError> {
        let value = extent.eval(&|name| self.symbols.get(name).copied());
        value.ok_or_else(|| ExecError::Call(format!("`{extent}` has no value")))
    }

    fn set(&mut self, name: &Sym, value: i64) {
        self.symbols.insert(name.clone(), value);
        if let Some(slot) = self.driver.slots.iter().position(|slot| slot == name) {
            self.dims[slot] = value;
        }
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), ExecError> {
        for step in steps {
            match step {
                Step::For { var, lo, hi, step, body } => {
                    let (mut at, hi) = (self.extent(lo)?, self.extent(hi)?);
                    while at < hi {
                        self.set(var, at);
                        self.steps(body)?;
                        at += step;
                    }
                }
                Step::Call { kernel, pointers, lo, hi, node } => {
                    let addresses: Result<Vec<u64>, _> = pointers.iter().map(|p| self.address(p)).collect();
                    let range = (self.extent(lo)?, self.extent(hi)?);
                    self.call(*kernel, addresses?, range, *node)?;
                }
            }
        }
        Ok(())
    }

    fn address(&self, pointer: &Pointer) -> Result<u64, ExecError> {
        let entry = |kind: usize, index: u32| self.tables[kind].get(index as usize).copied();
        let base = match pointer.base {
            Base::Input(index) => entry(0, index),
            Base::Output(index) => entry(1, index),
            Base::State(index) => entry(2, index),
            Base::Arena => Some(self.arena),
            Base::Weights => Some(self.weights),
        };
        let base = base.ok_or_else(|| ExecError::Call(format!("`{}` is not given", pointer.base)))?;
        Ok(base.wrapping_add_signed(self.extent(&pointer.offset)?))
    }

    fn call(&mut self, kernel: usize, mut pointers: Vec<u64>, range: (i64, i64), node: u32) -> Result<(), ExecError> {
        let entry = self.entries[kernel];
        // SAFETY: as in `call_kernel`; the pointers are those that the compiled driver would hand over, into memory whose
        // sizes the builder of the call checked against the package's manifest.
        let (status, seconds) = unsafe {
            type Entry = unsafe extern "sysv64" fn(*mut u64, *const i64, i64, i64) -> i64;
            let kernel: Entry = std::mem::transmute(entry);
            let start = Instant::now();
            let status = kernel(pointers.as_mut_ptr(), self.dims.as_ptr(), range.0, range.1);
            (status, start.elapsed().as_secs_f64())
        };
        (self.observe)(Called { node, kernel, dims: &self.dims, range, seconds });
        if status == 0 { Ok(()) } else { Err(ExecError::Call(format!("call {node} returned status {status}"))) }
    }
}

/// An `adze_call` struct as 64-bit words, with the memory its pointers lead to.
#[derive(Debug)]
pub struct RawCall {
    words: Vec<u64>,
    /// Inputs, outputs, states in the order of the package.
    pub tensors: [Vec<Buffer>; 3],
    /// External weights, when the package has any.
    pub weights: Option<Buffer>,
    /// Working memory.
    pub arena: Buffer,
    /// Values of the named dimensions.
    pub dims: Vec<i64>,
    /// Actual extents of the outputs, written by the call.
    pub extents: Vec<i64>,
    pointers: [Vec<u64>; 3],
}

impl RawCall {
    /// A call for one thread. `extents` is the number of output extents.
    pub fn new(
        tensors: [Vec<Buffer>; 3],
        weights: Option<Buffer>,
        arena: Buffer,
        dims: Vec<i64>,
        extents: usize,
    ) -> Self {
        let (words, pointers) = (vec![0; 10], Default::default());
        let mut call = Self { words, tensors, weights, arena, dims, extents: vec![0; extents], pointers };
        call.refresh();
        call
    }

    /// Reads the pointers anew, after a buffer was replaced.
    pub fn refresh(&mut self) {
        let address = |buffer: &mut Buffer| buffer.as_mut().as_mut_ptr() as u64;
        for (pointers, tensors) in self.pointers.iter_mut().zip(&mut self.tensors) {
            *pointers = tensors.iter_mut().map(address).collect();
        }
        self.words = vec![
            CALL_BYTES | 1 << 32,
            self.pointers[0].as_ptr() as u64,
            self.pointers[1].as_ptr() as u64,
            self.pointers[2].as_ptr() as u64,
            self.weights.as_mut().map_or(0, address),
            address(&mut self.arena),
            self.dims.as_ptr() as u64,
            self.extents.as_mut_ptr() as u64,
            0,
            0,
        ];
    }

    /// The id of the node that a failed call reported.
    pub fn node(&self) -> u32 {
        self.words[8] as u32
    }
}

fn place(file: &object::File<'_>) -> Result<(Placement, usize), ExecError> {
    let mut placement = Placement::new();
    let mut end = 0usize;
    for section in file.sections() {
        match section.kind() {
            SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => {}
            SectionKind::Data | SectionKind::UninitializedData | SectionKind::Tls if section.size() > 0 => {
                return Err(ExecError::Writable(section.name()?.into()));
            }
            _ => continue,
        }
        let align = usize::try_from(section.align().max(1)).map_err(|_| ExecError::RelocationRange)?;
        let size = usize::try_from(section.size()).map_err(|_| ExecError::RelocationRange)?;
        let start = end.checked_next_multiple_of(align.min(4096)).ok_or(ExecError::RelocationRange)?;
        end = start.checked_add(size).filter(|&e| e <= 1 << 31).ok_or(ExecError::RelocationRange)?;
        placement.insert(section.index().0, start);
    }
    Ok((placement, end))
}

fn relocate(
    file: &object::File<'_>,
    placement: &Placement,
    index: SectionIndex,
    memory: &mut MmapMut,
) -> Result<(), ExecError> {
    let base = memory.as_ptr() as i64;
    for (offset, relocation) in file.section_by_index(index)?.relocations() {
        let target = match relocation.target() {
            RelocationTarget::Symbol(symbol) => {
                let symbol = file.symbol_by_index(symbol)?;
                let section = symbol.section_index().and_then(|index| placement.get(&index.0));
                let missing = || ExecError::Symbol(symbol.name().unwrap_or_default().into());
                *section.ok_or_else(missing)? as i64 + symbol.address() as i64
            }
            RelocationTarget::Section(section) => *placement.get(&section.0).ok_or(ExecError::RelocationRange)? as i64,
            _ => return Err(ExecError::Relocation(relocation.flags())),
        };
        let place = placement[&index.0] + usize::try_from(offset).map_err(|_| ExecError::RelocationRange)?;
        let value = target + relocation.addend();
        let bytes = match relocation.flags() {
            RelocationFlags::Elf { r_type } if r_type == R_X86_64_PC32 || r_type == R_X86_64_PLT32 => {
                let distance = i32::try_from(value - place as i64).map_err(|_| ExecError::RelocationRange)?;
                distance.to_le_bytes().to_vec()
            }
            RelocationFlags::Elf { r_type } if r_type == R_X86_64_64 => (base + value).to_le_bytes().to_vec(),
            flags => return Err(ExecError::Relocation(flags)),
        };
        let slot = memory.get_mut(place..place + bytes.len()).ok_or(ExecError::RelocationRange)?;
        slot.copy_from_slice(&bytes);
    }
    Ok(())
}

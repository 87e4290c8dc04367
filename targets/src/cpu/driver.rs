//! The driver: the exported functions of a package, as CLIF that walks the tile loops and calls kernels.
//!
//! `init`, `step` and `run` take the versioned `adze_call` struct of the header (`docs/abi.md`). `step` evaluates every
//! extent from the call's dimensions, hands each kernel its pointers and its share of the tile range, and meets the other
//! threads at a barrier after each kernel, so results do not depend on the number of threads.

use std::collections::BTreeMap;

use adze_ir::extent::{Atom, DimRange, Extent, Sym};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, AtomicRmwOp, Block, FuncRef, Function, InstBuilder, MemFlagsData as MemFlags, Signature, StackSlot,
    StackSlotData, StackSlotKind, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

/// Byte offsets of `adze_call` on 64-bit targets, as in the header.
pub mod call {
    /// `uint32_t size`.
    pub const SIZE: i32 = 0;
    /// `uint32_t thread_count`.
    pub const THREAD_COUNT: i32 = 4;
    /// `const void *const *inputs`.
    pub const INPUTS: i32 = 8;
    /// `void *const *outputs`.
    pub const OUTPUTS: i32 = 16;
    /// `void *const *states`.
    pub const STATES: i32 = 24;
    /// `const void *weights`.
    pub const WEIGHTS: i32 = 32;
    /// `void *arena`.
    pub const ARENA: i32 = 40;
    /// `const int64_t *dims`.
    pub const DIMS: i32 = 48;
    /// `int64_t *extents`.
    pub const EXTENTS: i32 = 56;
    /// `uint32_t node`.
    pub const NODE: i32 = 64;
    /// What there is of the struct for phases of a CPU; the accelerator's hooks follow.
    pub const BYTES: u32 = 72;
}

/// Bytes at the start of the arena that belong to the driver: barrier counter, barrier generation, CPU version.
pub const ARENA_HEADER_BYTES: i64 = 64;
const BARRIER_COUNT: i32 = 0;
const BARRIER_GENERATION: i32 = 4;
/// The chosen version counted from 1, where there are several.
const VERSION: i32 = 8;

/// Status codes of the exported functions, as in the header; kernels return the same ones.
pub mod status {
    /// All went well.
    pub const OK: i64 = 0;
    /// An index in the data is out of range.
    pub const INDEX_RANGE: i64 = 1;
    /// A dimension is outside its declared range.
    pub const EXTENT_RANGE: i64 = 2;
    /// A loop ran to its cap.
    pub const LOOP_CAP: i64 = 3;
    /// The call is malformed.
    pub const BAD_CALL: i64 = 4;
    /// The CPU runs none of the versions of the code.
    pub const NO_VERSION: i64 = 5;
}

/// What a pointer counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base {
    /// A graph input of the call.
    Input(u32),
    /// A graph output of the call.
    Output(u32),
    /// A state of the call.
    State(u32),
    /// The arena of the call.
    Arena,
    /// Constant data, in the object or in the weights file.
    Weights,
}

/// An address that a kernel is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// What it counts from.
    pub base: Base,
    /// Bytes past it, over named dimensions and loop variables.
    pub offset: Extent,
    /// Bytes that each thread's own copy takes; 0 when all threads share it.
    pub per_thread: i64,
}

/// A step of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A loop over tiles; every thread walks it.
    For {
        /// Loop variable.
        var: Sym,
        /// First value.
        lo: Extent,
        /// Values stay below.
        hi: Extent,
        /// Distance of values.
        step: i64,
        /// What is done for each.
        body: Vec<Step>,
    },
    /// A kernel call; the threads share `lo..hi`.
    Call {
        /// Position in [`Imports::kernels`].
        kernel: usize,
        /// Its pointers, in order of its parameters.
        pointers: Vec<Pointer>,
        /// Start of the tile range.
        lo: Extent,
        /// End of the tile range.
        hi: Extent,
        /// Reported when it fails.
        node: u32,
    },
}

/// What the driver of a package does.
#[derive(Clone, Debug, Default)]
pub struct Driver {
    /// Named dimensions in the order of `adze_call.dims`.
    pub dims: Vec<(Sym, DimRange)>,
    /// Dimensions and loop variables in the order in which kernels read them.
    pub slots: Vec<Sym>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Extents of all outputs, one after the other.
    pub output_extents: Vec<Extent>,
    /// Most threads a call may bring; the arena holds scratch for so many.
    pub max_threads: u32,
    /// Constant data comes with the call instead of being in the object.
    pub external_weights: bool,
    /// Subnormal numbers are taken for zeros, where the machine can do so.
    pub flush: bool,
    /// Number of input, output and state pointers that have to be there.
    pub pointers: [u32; 3],
}

/// What the object gives the driver.
#[derive(Clone, Debug)]
pub struct Imports {
    /// One function per kernel.
    pub kernels: Vec<FuncRef>,
    /// Constant data in the object, unless it comes with the call.
    pub weights: Option<cranelift_codegen::ir::GlobalValue>,
    /// What a failed call's number counts from: the calls of earlier versions.
    pub first_node: u32,
}

/// `int32_t step(adze_call *, uint32_t phase, uint32_t thread_id)`.
pub fn step_signature(conv: CallConv) -> Signature {
    let mut signature = Signature::new(conv);
    signature.params = vec![AbiParam::new(types::I64), AbiParam::new(types::I32), AbiParam::new(types::I32)];
    signature.returns = vec![AbiParam::new(types::I32)];
    signature
}

/// `int32_t run(adze_call *)`, also `init`'s.
pub fn run_signature(conv: CallConv) -> Signature {
    let mut signature = Signature::new(conv);
    signature.params = vec![AbiParam::new(types::I64)];
    signature.returns = vec![AbiParam::new(types::I32)];
    signature
}

/// `int64_t kernel(uint8_t *const *pointers, const int64_t *dims, int64_t lo, int64_t hi)`.
pub fn kernel_signature(conv: CallConv) -> Signature {
    let mut signature = Signature::new(conv);
    signature.params = vec![AbiParam::new(types::I64); 4];
    signature.returns = vec![AbiParam::new(types::I64)];
    signature
}

/// What building functions needs besides the function.
pub struct BuildContext {
    /// Reusable memory of the builder.
    pub builder: FunctionBuilderContext,
    /// Of the target instruction set.
    pub config: TargetFrontendConfig,
}

/// `uint32_t choose(void)`, see [`super::emit::choose`].
pub fn choose_signature(conv: CallConv) -> Signature {
    let mut signature = Signature::new(conv);
    signature.returns = vec![AbiParam::new(types::I32)];
    signature
}

/// Builds the body of `init`: checks the struct, clears the arena's header and, where there are several versions, writes the
/// chosen one there.
pub fn build_init(func: &mut Function, context: &mut BuildContext, choose: Option<FuncRef>) {
    let mut b = FunctionBuilder::new(func, &mut context.builder);
    let entry = entry_block(&mut b);
    let call = b.block_params(entry)[0];
    check_struct(&mut b, call);
    let arena = b.ins().load(types::I64, MemFlags::trusted(), call, call::ARENA);
    let zero = b.ins().iconst(types::I64, 0);
    for word in 0..ARENA_HEADER_BYTES / 8 {
        b.ins().store(MemFlags::trusted(), zero, arena, i32::try_from(word * 8).expect("the header is small"));
    }
    if let Some(choose) = choose {
        let chosen = b.ins().call(choose, &[]);
        let chosen = b.inst_results(chosen)[0];
        let none = b.ins().icmp_imm_s(IntCC::Equal, chosen, 0);
        reject_if(&mut b, none, status::NO_VERSION);
        b.ins().store(MemFlags::trusted(), chosen, arena, VERSION);
    }
    return_status(&mut b, status::OK);
    b.seal_all_blocks();
    b.finalize(context.config);
}

/// Builds the body of `run`: the only phase of a CPU package, on the calling thread alone.
pub fn build_run(func: &mut Function, context: &mut BuildContext, step: FuncRef) {
    let mut b = FunctionBuilder::new(func, &mut context.builder);
    let entry = entry_block(&mut b);
    let call = b.block_params(entry)[0];
    check_struct(&mut b, call);
    let threads = b.ins().load(types::I32, MemFlags::trusted(), call, call::THREAD_COUNT);
    let many = b.ins().icmp_imm_s(IntCC::UnsignedGreaterThan, threads, 1);
    reject_if(&mut b, many, status::BAD_CALL);
    let zero = b.ins().iconst(types::I32, 0);
    let result = b.ins().call(step, &[call, zero, zero]);
    let result = b.inst_results(result)[0];
    b.ins().return_(&[result]);
    b.seal_all_blocks();
    b.finalize(context.config);
}

/// Builds the body of `step` where there are several versions: calls that of the version which `init` chose.
pub fn build_dispatch(func: &mut Function, context: &mut BuildContext, versions: &[FuncRef]) {
    let mut b = FunctionBuilder::new(func, &mut context.builder);
    let entry = entry_block(&mut b);
    let parameters = b.block_params(entry).to_vec();
    check_struct(&mut b, parameters[0]);
    let arena = b.ins().load(types::I64, MemFlags::trusted(), parameters[0], call::ARENA);
    let chosen = b.ins().load(types::I32, MemFlags::trusted(), arena, VERSION);
    for (number, version) in (1..).zip(versions) {
        let (take, next) = (b.create_block(), b.create_block());
        let this = b.ins().icmp_imm_s(IntCC::Equal, chosen, number);
        b.ins().brif(this, take, &[], next, &[]);
        b.switch_to_block(take);
        let result = b.ins().call(*version, &parameters);
        let result = b.inst_results(result)[0];
        b.ins().return_(&[result]);
        b.switch_to_block(next);
    }
    // An arena that `init` has not seen.
    return_status(&mut b, status::BAD_CALL);
    b.seal_all_blocks();
    b.finalize(context.config);
}

/// `uint64_t enter(void)`, see [`super::emit::Around`].
pub fn enter_signature(conv: CallConv) -> Signature {
    let mut signature = Signature::new(conv);
    signature.returns = vec![AbiParam::new(types::I64)];
    signature
}

/// `void leave(uint64_t)`.
pub fn leave_signature(conv: CallConv) -> Signature {
    let mut signature = Signature::new(conv);
    signature.params = vec![AbiParam::new(types::I64)];
    signature
}

/// Builds the body of `step` where the machine wants something done around it: `walk` between `enter` and `leave`.
pub fn build_around(func: &mut Function, context: &mut BuildContext, [enter, walk, leave]: [FuncRef; 3]) {
    let mut b = FunctionBuilder::new(func, &mut context.builder);
    let entry = entry_block(&mut b);
    let parameters = b.block_params(entry).to_vec();
    let before = b.ins().call(enter, &[]);
    let before = b.inst_results(before)[0];
    let result = b.ins().call(walk, &parameters);
    let result = b.inst_results(result)[0];
    b.ins().call(leave, &[before]);
    b.ins().return_(&[result]);
    b.seal_all_blocks();
    b.finalize(context.config);
}

/// Builds the body of `step`, or of the step of one version.
pub fn build_step(func: &mut Function, context: &mut BuildContext, driver: &Driver, imports: &Imports) {
    let mut b = FunctionBuilder::new(func, &mut context.builder);
    let entry = entry_block(&mut b);
    let &[call, phase, thread] = b.block_params(entry) else { unreachable!("the signature has three parameters") };
    let mut walk = Walk::enter(b, context.config, driver, imports, call, phase, thread);
    walk.steps(&driver.steps);
    walk.finish();
}

fn entry_block(b: &mut FunctionBuilder<'_>) -> Block {
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    entry
}

fn return_status(b: &mut FunctionBuilder<'_>, code: i64) {
    let code = b.ins().iconst(types::I32, code);
    b.ins().return_(&[code]);
}

/// Returns the status when the condition holds; goes on in a new block otherwise.
fn reject_if(b: &mut FunctionBuilder<'_>, condition: Value, code: i64) {
    let (bad, good) = (b.create_block(), b.create_block());
    b.set_cold_block(bad);
    b.ins().brif(condition, bad, &[], good, &[]);
    b.switch_to_block(bad);
    return_status(b, code);
    b.switch_to_block(good);
}

/// The struct is large enough and the arena is there and aligned.
fn check_struct(b: &mut FunctionBuilder<'_>, call: Value) {
    let size = b.ins().load(types::I32, MemFlags::trusted(), call, call::SIZE);
    let small = b.ins().icmp_imm_s(IntCC::UnsignedLessThan, size, i64::from(call::BYTES));
    reject_if(b, small, status::BAD_CALL);
    let arena = b.ins().load(types::I64, MemFlags::trusted(), call, call::ARENA);
    reject_unless_aligned(b, arena);
}

/// Not null, and a multiple of 64.
fn reject_unless_aligned(b: &mut FunctionBuilder<'_>, pointer: Value) {
    let null = b.ins().icmp_imm_s(IntCC::Equal, pointer, 0);
    reject_if(b, null, status::BAD_CALL);
    let low = b.ins().band_imm_s(pointer, 63);
    let skewed = b.ins().icmp_imm_s(IntCC::NotEqual, low, 0);
    reject_if(b, skewed, status::BAD_CALL);
}

/// The state of building `step`.
struct Walk<'a, 'f> {
    b: FunctionBuilder<'f>,
    config: TargetFrontendConfig,
    driver: &'a Driver,
    imports: &'a Imports,
    call: Value,
    thread: Value,
    threads: Value,
    arena: Value,
    weights: Option<Value>,
    tables: [Option<Value>; 3],
    /// Dimensions, then loop variables, as kernels read them.
    dims: StackSlot,
    /// One pointer per parameter of the kernel being called.
    pointers: StackSlot,
    status: Variable,
    symbols: BTreeMap<Sym, Value>,
}

impl<'a, 'f> Walk<'a, 'f> {
    fn enter(
        mut b: FunctionBuilder<'f>,
        config: TargetFrontendConfig,
        driver: &'a Driver,
        imports: &'a Imports,
        call: Value,
        phase: Value,
        thread: Value,
    ) -> Self {
        check_struct(&mut b, call);
        let bad_phase = b.ins().icmp_imm_s(IntCC::NotEqual, phase, 0);
        reject_if(&mut b, bad_phase, status::BAD_CALL);
        let threads = b.ins().load(types::I32, MemFlags::trusted(), call, call::THREAD_COUNT);
        let one = b.ins().iconst(types::I32, 1);
        let threads = b.ins().umax(threads, one);
        let too_many = b.ins().icmp_imm_s(IntCC::UnsignedGreaterThan, threads, i64::from(driver.max_threads.max(1)));
        reject_if(&mut b, too_many, status::BAD_CALL);
        let no_such = b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, thread, threads);
        reject_if(&mut b, no_such, status::BAD_CALL);
        let arena = b.ins().load(types::I64, MemFlags::trusted(), call, call::ARENA);
        let weights = weights(&mut b, driver, imports, call);
        let tables = [(0, call::INPUTS), (1, call::OUTPUTS), (2, call::STATES)].map(|(kind, offset)| {
            (driver.pointers[kind] > 0).then(|| pointer_table(&mut b, call, offset, driver.pointers[kind]))
        });
        let slots = u32::try_from(driver.slots.len()).expect("few dimensions").max(1);
        let dims = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, slots * 8, 3));
        let most = most_pointers(&driver.steps).max(1);
        let pointers = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, most * 8, 3));
        let status = b.declare_var(types::I64);
        let zero = b.ins().iconst(types::I64, status::OK);
        b.def_var(status, zero);
        let thread = b.ins().uextend(types::I64, thread);
        let threads = b.ins().uextend(types::I64, threads);
        let symbols = BTreeMap::new();
        let mut walk = Self {
            b,
            config,
            driver,
            imports,
            call,
            thread,
            threads,
            arena,
            weights,
            tables,
            dims,
            pointers,
            status,
            symbols,
        };
        walk.read_dims();
        walk
    }

    /// Reads the dimensions, checks them against their ranges and copies them to where kernels read them.
    fn read_dims(&mut self) {
        if self.driver.dims.is_empty() {
            return;
        }
        let table = self.b.ins().load(types::I64, MemFlags::trusted(), self.call, call::DIMS);
        let null = self.b.ins().icmp_imm_s(IntCC::Equal, table, 0);
        reject_if(&mut self.b, null, status::BAD_CALL);
        for (index, (name, range)) in self.driver.dims.iter().enumerate() {
            let offset = slot_offset(index);
            let value = self.b.ins().load(types::I64, MemFlags::trusted(), table, offset);
            let low = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, value, range.lo);
            reject_if(&mut self.b, low, status::EXTENT_RANGE);
            let high = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, value, range.hi);
            reject_if(&mut self.b, high, status::EXTENT_RANGE);
            self.store_slot(name, value);
            self.symbols.insert(name.clone(), value);
        }
    }

    /// Puts a dimension's or loop variable's value where kernels read it.
    fn store_slot(&mut self, name: &Sym, value: Value) {
        if let Some(position) = self.driver.slots.iter().position(|slot| slot == name) {
            self.b.ins().stack_store(types::I64, value, self.dims, slot_offset(position));
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::For { var, lo, hi, step, body } => self.for_loop(var, lo, hi, *step, body),
                Step::Call { kernel, pointers, lo, hi, node } => self.kernel_call(*kernel, pointers, lo, hi, *node),
            }
        }
    }

    fn for_loop(&mut self, var: &Sym, lo: &Extent, hi: &Extent, step: i64, body: &[Step]) {
        let (lo, hi) = (self.extent(lo), self.extent(hi));
        let (head, inner, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let index = self.b.append_block_param(head, types::I64);
        self.b.ins().jump(head, &[lo.into()]);
        self.b.switch_to_block(head);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, index, hi);
        self.b.ins().brif(more, inner, &[], exit, &[]);
        self.b.switch_to_block(inner);
        self.store_slot(var, index);
        let outer = self.symbols.insert(var.clone(), index);
        self.steps(body);
        match outer {
            Some(outer) => self.symbols.insert(var.clone(), outer),
            None => self.symbols.remove(var),
        };
        let next = self.b.ins().iadd_imm_s(index, step);
        self.b.ins().jump(head, &[next.into()]);
        self.b.switch_to_block(exit);
    }

    /// Calls a kernel on this thread's share of the range unless something failed before; then waits for the others.
    fn kernel_call(&mut self, kernel: usize, pointers: &[Pointer], lo: &Extent, hi: &Extent, node: u32) {
        let (run, done) = (self.b.create_block(), self.b.create_block());
        let so_far = self.b.use_var(self.status);
        self.b.ins().brif(so_far, done, &[], run, &[]);
        self.b.switch_to_block(run);
        for (index, pointer) in pointers.iter().enumerate() {
            let address = self.address(pointer);
            self.b.ins().stack_store(types::I64, address, self.pointers, slot_offset(index));
        }
        let (lo, hi) = self.share(lo, hi);
        let table = self.b.ins().stack_addr(types::I64, self.pointers, 0);
        let dims = self.b.ins().stack_addr(types::I64, self.dims, 0);
        let call = self.b.ins().call(self.imports.kernels[kernel], &[table, dims, lo, hi]);
        let result = self.b.inst_results(call)[0];
        self.b.def_var(self.status, result);
        let failed = self.b.create_block();
        self.b.set_cold_block(failed);
        self.b.ins().brif(result, failed, &[], done, &[]);
        self.b.switch_to_block(failed);
        let node = self.b.ins().iconst(types::I32, i64::from(self.imports.first_node + node));
        self.b.ins().store(MemFlags::trusted(), node, self.call, call::NODE);
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(done);
        if self.driver.max_threads > 1 {
            self.barrier();
        }
    }

    /// This thread's part of `lo..hi`: whole tiles, the same split whatever the data.
    fn share(&mut self, lo: &Extent, hi: &Extent) -> (Value, Value) {
        let (lo, hi) = (self.extent(lo), self.extent(hi));
        if self.driver.max_threads <= 1 {
            return (lo, hi);
        }
        let count = self.b.ins().isub(hi, lo);
        let more = self.b.ins().iadd(count, self.threads);
        let more = self.b.ins().iadd_imm_s(more, -1);
        let chunk = self.b.ins().udiv(more, self.threads);
        let skip = self.b.ins().imul(chunk, self.thread);
        let start = self.b.ins().iadd(lo, skip);
        let start = self.b.ins().smin(start, hi);
        let end = self.b.ins().iadd(start, chunk);
        let end = self.b.ins().smin(end, hi);
        (start, end)
    }

    fn address(&mut self, pointer: &Pointer) -> Value {
        let base = match pointer.base {
            Base::Arena => self.arena,
            // Without constant data a pointer to it leads to zero bytes: any address will do.
            Base::Weights => self.weights.unwrap_or(self.arena),
            Base::Input(index) => self.table_entry(0, index),
            Base::Output(index) => self.table_entry(1, index),
            Base::State(index) => self.table_entry(2, index),
        };
        let offset = self.extent(&pointer.offset);
        let address = self.b.ins().iadd(base, offset);
        if pointer.per_thread == 0 {
            return address;
        }
        let own = self.b.ins().imul_imm_s(self.thread, pointer.per_thread);
        self.b.ins().iadd(address, own)
    }

    fn table_entry(&mut self, kind: usize, index: u32) -> Value {
        let table = self.tables[kind].expect("the table of used pointers is loaded");
        self.b.ins().load(types::I64, MemFlags::trusted(), table, slot_offset(index as usize))
    }

    /// Counter and generation in the arena's header: the last thread to arrive frees the others.
    fn barrier(&mut self) {
        let flags = MemFlags::trusted();
        let (meet, last, wait, go) =
            (self.b.create_block(), self.b.create_block(), self.b.create_block(), self.b.create_block());
        let alone = self.b.ins().icmp_imm_s(IntCC::Equal, self.threads, 1);
        self.b.ins().brif(alone, go, &[], meet, &[]);
        self.b.switch_to_block(meet);
        let count = self.b.ins().iadd_imm_s(self.arena, i64::from(BARRIER_COUNT));
        let generation = self.b.ins().iadd_imm_s(self.arena, i64::from(BARRIER_GENERATION));
        let mine = self.b.ins().atomic_load(types::I32, flags, generation);
        let one = self.b.ins().iconst(types::I32, 1);
        let before = self.b.ins().atomic_rmw(types::I32, flags, AtomicRmwOp::Add, count, one);
        let arrived = self.b.ins().iadd_imm_s(before, 1);
        let threads = self.b.ins().ireduce(types::I32, self.threads);
        let is_last = self.b.ins().icmp(IntCC::Equal, arrived, threads);
        self.b.ins().brif(is_last, last, &[], wait, &[]);
        self.b.switch_to_block(last);
        let zero = self.b.ins().iconst(types::I32, 0);
        self.b.ins().atomic_store(flags, zero, count);
        let next = self.b.ins().iadd_imm_s(mine, 1);
        self.b.ins().atomic_store(flags, next, generation);
        self.b.ins().jump(go, &[]);
        self.b.switch_to_block(wait);
        let now = self.b.ins().atomic_load(types::I32, flags, generation);
        let same = self.b.ins().icmp(IntCC::Equal, now, mine);
        self.b.ins().brif(same, wait, &[], go, &[]);
        self.b.switch_to_block(go);
    }

    /// Thread 0 writes the outputs' extents; everyone returns its status.
    fn finish(mut self) {
        if !self.driver.output_extents.is_empty() {
            let (write, done) = (self.b.create_block(), self.b.create_block());
            let table = self.b.ins().load(types::I64, MemFlags::trusted(), self.call, call::EXTENTS);
            let zero = self.b.ins().iconst(types::I64, 0);
            let nothing = self.b.ins().select(self.thread, zero, table);
            self.b.ins().brif(nothing, write, &[], done, &[]);
            self.b.switch_to_block(write);
            for (index, extent) in self.driver.output_extents.iter().enumerate() {
                let value = self.extent(extent);
                self.b.ins().store(MemFlags::trusted(), value, table, slot_offset(index));
            }
            self.b.ins().jump(done, &[]);
            self.b.switch_to_block(done);
        }
        let result = self.b.use_var(self.status);
        let result = self.b.ins().ireduce(types::I32, result);
        self.b.ins().return_(&[result]);
        self.b.seal_all_blocks();
        self.b.finalize(self.config);
    }

    fn extent(&mut self, extent: &Extent) -> Value {
        let symbols = &self.symbols;
        emit_extent(&mut self.b, extent, &|name| symbols.get(name).copied())
    }
}

fn weights(b: &mut FunctionBuilder<'_>, driver: &Driver, imports: &Imports, call: Value) -> Option<Value> {
    if driver.external_weights {
        let pointer = b.ins().load(types::I64, MemFlags::trusted(), call, call::WEIGHTS);
        reject_unless_aligned(b, pointer);
        return Some(pointer);
    }
    imports.weights.map(|data| b.ins().symbol_value(types::I64, data))
}

/// The table of pointers, each of which has to be there.
fn pointer_table(b: &mut FunctionBuilder<'_>, call: Value, offset: i32, count: u32) -> Value {
    let table = b.ins().load(types::I64, MemFlags::trusted(), call, offset);
    let null = b.ins().icmp_imm_s(IntCC::Equal, table, 0);
    reject_if(b, null, status::BAD_CALL);
    for index in 0..count {
        let pointer = b.ins().load(types::I64, MemFlags::trusted(), table, slot_offset(index as usize));
        let null = b.ins().icmp_imm_s(IntCC::Equal, pointer, 0);
        reject_if(b, null, status::BAD_CALL);
    }
    table
}

fn most_pointers(steps: &[Step]) -> u32 {
    let count = |step: &Step| match step {
        Step::For { body, .. } => most_pointers(body),
        Step::Call { pointers, .. } => u32::try_from(pointers.len()).unwrap_or(u32::MAX),
    };
    steps.iter().map(count).max().unwrap_or(0)
}

fn slot_offset(index: usize) -> i32 {
    i32::try_from(index * 8).expect("tables of pointers and dimensions are small")
}

/// Code for an integer expression.
///
/// # Panics
/// When a symbol has no value: the tile verifier rules that out.
pub fn emit_extent(b: &mut FunctionBuilder<'_>, extent: &Extent, lookup: &dyn Fn(&str) -> Option<Value>) -> Value {
    let (terms, constant) = extent.terms();
    let mut sum: Option<Value> = None;
    for (atoms, coefficient) in terms {
        let mut product: Option<Value> = None;
        for atom in atoms {
            let value = emit_atom(b, atom, lookup);
            product = Some(match product {
                Some(product) => b.ins().imul(product, value),
                None => value,
            });
        }
        let product = product.expect("a term has an atom");
        let scaled = if *coefficient == 1 { product } else { b.ins().imul_imm_s(product, *coefficient) };
        sum = Some(match sum {
            Some(sum) => b.ins().iadd(sum, scaled),
            None => scaled,
        });
    }
    match sum {
        None => b.ins().iconst(types::I64, constant),
        Some(sum) if constant == 0 => sum,
        Some(sum) => b.ins().iadd_imm_s(sum, constant),
    }
}

fn emit_atom(b: &mut FunctionBuilder<'_>, atom: &Atom, lookup: &dyn Fn(&str) -> Option<Value>) -> Value {
    match atom {
        Atom::Sym(name) => lookup(name).unwrap_or_else(|| panic!("symbol `{name}` has no value in the driver")),
        Atom::Min(x, y) => {
            let (x, y) = (emit_extent(b, x, lookup), emit_extent(b, y, lookup));
            b.ins().smin(x, y)
        }
        Atom::Max(x, y) => {
            let (x, y) = (emit_extent(b, x, lookup), emit_extent(b, y, lookup));
            b.ins().smax(x, y)
        }
        Atom::FloorDiv(x, y) => {
            let dividend = emit_extent(b, x, lookup);
            if let Some(shift) = y.as_const().filter(|d| d.count_ones() == 1 && *d > 0).map(i64::trailing_zeros) {
                return b.ins().sshr_imm_s(dividend, i64::from(shift));
            }
            let divisor = emit_extent(b, y, lookup);
            let one = b.ins().iconst(types::I64, 1);
            // A divisor is positive wherever its quotient is used; where it is not used it must not trap.
            let divisor = b.ins().smax(divisor, one);
            let quotient = b.ins().sdiv(dividend, divisor);
            let back = b.ins().imul(quotient, divisor);
            let rest = b.ins().isub(dividend, back);
            let negative = b.ins().sshr_imm_s(rest, 63);
            b.ins().iadd(quotient, negative)
        }
    }
}

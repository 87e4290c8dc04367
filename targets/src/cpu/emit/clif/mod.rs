//! Kernel IR to CLIF: 128-bit vectors, or scalars on machines without them.
//!
//! A kernel value is a row of *parts*: registers that hold consecutive lanes (see `lanes.rs`). What a machine
//! cannot do on vectors is done lane by lane, so every verified kernel has code everywhere; the exception is a strict
//! `f64` FMA where there is none, which is refused.
//!
//! Statements are emitted in order and compiled without scheduling: the author of a kernel decides.

mod arith;
mod convert;
mod lanes;

use adze_ir::extent::Extent;
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, AbiParam, BlockArg, InstBuilder, MemFlagsData, Signature, types};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_entity::{EntityRef, SecondaryMap};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::KernelCode;
use super::address::{self, Reach, Scalars, Scopes};
use crate::cpu::kernel::first;
use crate::cpu::kernel::ir::{Block, Cond, For, HI, Kernel, LO, Op, Stmt, Value};
use crate::cpu::kernel::types::Type;
use crate::cpu::machine::{CodegenError, Machine};

/// Emits kernels for one machine.
pub struct Emitter {
    machine: Machine,
    isa: OwnedTargetIsa,
    frontend: FunctionBuilderContext,
}

impl Emitter {
    /// An emitter for that machine.
    ///
    /// # Errors
    /// Those of [`Machine::isa`].
    pub fn new(machine: &Machine) -> Result<Self, CodegenError> {
        // Cranelift has no wider vectors.
        let machine = Machine { vector_bytes: machine.vector_bytes.min(16), ..machine.clone() };
        Ok(Self { isa: machine.isa(false)?, machine, frontend: FunctionBuilderContext::new() })
    }

    /// Signature of kernels: `fn(ptrs, dims, lo, hi) -> status`.
    pub fn signature(machine: &Machine) -> Signature {
        let mut signature = Signature::new(machine.kernel_call_conv());
        signature.params = vec![AbiParam::new(types::I64); 4];
        signature.returns = vec![AbiParam::new(types::I64)];
        signature
    }

    /// The CLIF of a kernel.
    ///
    /// # Errors
    /// [`CodegenError::Unsupported`] or [`CodegenError::Malformed`].
    pub fn clif(&mut self, kernel: &Kernel) -> Result<clif::Function, CodegenError> {
        let mut func =
            clif::Function::with_name_signature(clif::UserFuncName::user(0, 0), Self::signature(&self.machine));
        let mut builder = FunctionBuilder::new(&mut func, &mut self.frontend);
        let kernel = first::split(kernel, |_, _| false);
        let result = Body::new(&kernel, &self.machine, &mut builder).emit();
        if let Err(error) = result {
            // A half-built function must not be finalized; a fresh context replaces the used one.
            self.frontend = FunctionBuilderContext::new();
            return Err(error);
        }
        builder.seal_all_blocks();
        builder.finalize(self.isa.frontend_config());
        Ok(func)
    }

    /// Machine code of a verified kernel.
    ///
    /// # Errors
    /// [`CodegenError`]; [`CodegenError::Generator`] when Cranelift refuses or wants to call a library.
    pub fn compile(&mut self, kernel: &Kernel) -> Result<KernelCode, CodegenError> {
        let failed = |problem: String| CodegenError::Generator { function: kernel.name.clone(), problem };
        let mut context = Context::for_function(self.clif(kernel)?);
        let code =
            context.compile(&*self.isa, &mut ControlPlane::default()).map_err(|e| failed(format!("{:?}", e.inner)))?;
        if !code.buffer.relocs().is_empty() {
            return Err(failed(format!("kernel wants {:?}", code.buffer.relocs()[0])));
        }
        Ok(KernelCode { bytes: code.code_buffer().to_vec(), align: code.buffer.alignment.max(32) })
    }

    /// The instructions of a verified kernel as text, with virtual labels; for reading only.
    ///
    /// # Errors
    /// Those of [`Emitter::compile`].
    pub fn asm(&mut self, kernel: &Kernel) -> Result<String, CodegenError> {
        let failed = |problem: String| CodegenError::Generator { function: kernel.name.clone(), problem };
        let mut context = Context::for_function(self.clif(kernel)?);
        context.set_disasm(true);
        let code =
            context.compile(&*self.isa, &mut ControlPlane::default()).map_err(|e| failed(format!("{:?}", e.inner)))?;
        code.vcode.clone().ok_or_else(|| failed("no listing".into()))
    }
}

/// Lanes of a value as CLIF values; see [`lanes::Shape`].
type Parts = Vec<clif::Value>;

/// A kernel value with its type, while it is being computed.
#[derive(Clone, Debug)]
struct Val {
    ty: Type,
    parts: Parts,
}

/// The body of one kernel under construction.
struct Body<'a, 'b> {
    kernel: &'a Kernel,
    machine: &'a Machine,
    b: &'a mut FunctionBuilder<'b>,
    values: SecondaryMap<Value, Parts>,
    scopes: Scopes<'a, clif::Value>,
}

impl<'a, 'b> Body<'a, 'b> {
    fn new(kernel: &'a Kernel, machine: &'a Machine, b: &'a mut FunctionBuilder<'b>) -> Self {
        Self { kernel, machine, b, values: SecondaryMap::new(), scopes: Scopes::new(kernel, Reach::default()) }
    }

    fn emit(mut self) -> Result<(), CodegenError> {
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        let args = self.b.block_params(entry).to_vec();
        let flags = MemFlagsData::trusted();
        for param in self.kernel.params.keys() {
            let base = self.b.ins().load(types::I64, flags, args[0], param.index() as i32 * 8);
            self.scopes.define_base(param, base);
        }
        self.scopes.open();
        for dim in &self.kernel.dims {
            let offset =
                i32::try_from(u64::from(dim.slot) * 8).map_err(|_| self.malformed("dimension slot too large"))?;
            let value = self.b.ins().load(types::I64, flags, args[1], offset);
            self.scopes.define(dim.name.clone(), value);
        }
        self.scopes.define(LO.into(), args[2]);
        self.scopes.define(HI.into(), args[3]);
        let kernel = self.kernel;
        self.stmts(&kernel.body)?;
        let ok = self.b.ins().iconst(types::I64, 0);
        self.b.ins().return_(&[ok]);
        Ok(())
    }

    fn malformed(&self, problem: impl Into<String>) -> CodegenError {
        CodegenError::Malformed { kernel: self.kernel.name.clone(), problem: problem.into() }
    }

    fn unsupported(&self, op: impl Into<String>) -> CodegenError {
        let (kernel, machine) = (self.kernel.name.clone(), self.machine.name.into());
        CodegenError::Unsupported { kernel, op: op.into(), machine }
    }

    fn val(&self, value: Value) -> Val {
        Val { ty: self.kernel.values[value], parts: self.values[value].clone() }
    }

    fn stmts(&mut self, stmts: &[Stmt]) -> Result<(), CodegenError> {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), CodegenError> {
        match stmt {
            Stmt::Let { result, op } => {
                let parts = self.op(self.kernel.values[*result], op)?;
                self.values[*result] = parts;
            }
            Stmt::Store { addr, value } => {
                let (base, disp) = self.scopes.address(&mut Ins(self.b), addr)?;
                let value = self.val(*value);
                self.store(&value, base, disp);
            }
            Stmt::StoreFirst { .. } => return Err(super::unsplit(self.kernel)),
            Stmt::Bind { sym, value } => {
                let scalar = self.values[*value][0];
                self.scopes.define(sym.clone(), scalar);
            }
            Stmt::For(f) => self.for_loop(f)?,
            Stmt::If { cond, then, other, results } => self.branch(cond, then, other, results)?,
            Stmt::Guard { cond, status } => {
                let holds = self.cond(cond)?;
                let (fail, go_on) = (self.b.create_block(), self.b.create_block());
                self.b.ins().brif(holds, go_on, &[], fail, &[]);
                self.b.set_cold_block(fail);
                self.b.switch_to_block(fail);
                let status = self.b.ins().iconst(types::I64, *status);
                self.b.ins().return_(&[status]);
                self.b.switch_to_block(go_on);
            }
            // Cranelift has no prefetch instruction.
            Stmt::Prefetch { .. } => {}
        }
        Ok(())
    }

    fn cond(&mut self, cond: &Cond) -> Result<clif::Value, CodegenError> {
        match cond {
            Cond::Extent(a, cmp, b) => {
                let (a, b) = (self.extent(a)?, self.extent(b)?);
                Ok(self.b.ins().icmp(lanes::int_cc(*cmp), a, b))
            }
            Cond::Value(mask) => Ok(self.values[*mask][0]),
        }
    }

    /// The loop is rotated: one test before, one at the end of each iteration. Pointers that the body needs advance with
    /// the loop variable; invariant ones are computed before (see [`address`]).
    fn for_loop(&mut self, f: &For) -> Result<(), CodegenError> {
        let (lo, hi) = (self.extent(&f.lo)?, self.extent(&f.hi)?);
        let plan = self.scopes.plan_loop(&mut Ins(self.b), f)?;
        let (body, exit) = (self.b.create_block(), self.b.create_block());
        let mut inits = Vec::new();
        for (&init, &arg) in f.inits.iter().zip(&f.args) {
            let parts = self.values[init].clone();
            let kind = self.shape(self.kernel.values[arg]).part;
            self.values[arg] = parts.iter().map(|_| self.b.append_block_param(body, kind)).collect();
            inits.extend(parts);
        }
        let results: Vec<Parts> = f.results.iter().map(|&r| self.exit_params(exit, r)).collect();
        let var = self.b.append_block_param(body, types::I64);
        let moving: Vec<clif::Value> =
            plan.starts.iter().map(|_| self.b.append_block_param(body, types::I64)).collect();
        let entry: Vec<BlockArg> = inits.iter().chain([&lo]).chain(&plan.starts).map(|&v| BlockArg::Value(v)).collect();
        let leave: Vec<BlockArg> = inits.iter().map(|&v| BlockArg::Value(v)).collect();
        let runs = f.lo.as_const().zip(f.hi.as_const()).map(|(lo, hi)| lo < hi);
        match runs {
            Some(true) => {
                self.b.ins().jump(body, &entry);
            }
            _ => {
                let any = self.b.ins().icmp(IntCC::SignedLessThan, lo, hi);
                self.b.ins().brif(any, body, &entry, exit, &leave);
            }
        }
        self.b.switch_to_block(body);
        self.scopes.open();
        self.scopes.define(f.var.clone(), var);
        self.scopes.define_pointers(&plan, &moving);
        self.stmts(&f.body.stmts)?;
        let mut next: Vec<BlockArg> = Vec::new();
        for &y in &f.body.yields {
            next.extend(self.values[y].iter().map(|&v| BlockArg::Value(v)));
        }
        let leave = next.clone();
        let after = self.b.ins().iadd_imm_s(var, f.step);
        next.push(BlockArg::Value(after));
        for (pointer, step) in moving.iter().zip(&plan.steps) {
            let moved = match step {
                address::Advance::Bytes(bytes) => self.b.ins().iadd_imm_s(*pointer, *bytes),
                address::Advance::Value(bytes) => self.b.ins().iadd(*pointer, *bytes),
            };
            next.push(BlockArg::Value(moved));
        }
        let more = self.b.ins().icmp(IntCC::SignedLessThan, after, hi);
        self.b.ins().brif(more, body, &next, exit, &leave);
        self.scopes.close();
        self.b.switch_to_block(exit);
        for (&result, parts) in f.results.iter().zip(results) {
            self.values[result] = parts;
        }
        Ok(())
    }

    fn exit_params(&mut self, block: clif::Block, value: Value) -> Parts {
        let shape = self.shape(self.kernel.values[value]);
        (0..shape.count).map(|_| self.b.append_block_param(block, shape.part)).collect()
    }

    fn branch(&mut self, cond: &Cond, then: &Block, other: &Block, results: &[Value]) -> Result<(), CodegenError> {
        let cond = self.cond(cond)?;
        let (yes, no, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let joined: Vec<Parts> = results.iter().map(|&r| self.exit_params(join, r)).collect();
        self.b.ins().brif(cond, yes, &[], no, &[]);
        for (label, block) in [(yes, then), (no, other)] {
            self.b.switch_to_block(label);
            self.scopes.open();
            self.stmts(&block.stmts)?;
            self.scopes.close();
            let args: Vec<BlockArg> =
                block.yields.iter().flat_map(|&y| &self.values[y]).map(|&v| BlockArg::Value(v)).collect();
            self.b.ins().jump(join, &args);
        }
        self.b.switch_to_block(join);
        for (&result, parts) in results.iter().zip(joined) {
            self.values[result] = parts;
        }
        Ok(())
    }

    fn op(&mut self, ty: Type, op: &Op) -> Result<Parts, CodegenError> {
        let val = match op {
            Op::Const(bits) => self.constant(ty, bits),
            Op::Extent(extent) => Val { ty, parts: vec![self.extent(extent)?] },
            Op::Splat(a) => {
                let scalar = self.values[*a][0];
                self.splat(ty, scalar)
            }
            Op::LoadFirst(..) => return Err(super::unsplit(self.kernel)),
            Op::Load(addr) => {
                let (base, disp) = self.scopes.address(&mut Ins(self.b), addr)?;
                self.load(ty, base, disp)
            }
            Op::Un(op, a) => {
                let a = self.val(*a);
                self.un(*op, &a)
            }
            Op::Bin(op, a, b) => {
                let (a, b) = (self.val(*a), self.val(*b));
                self.bin(*op, &a, &b)
            }
            Op::Shift(op, a, by) => {
                let (a, by) = (self.val(*a), self.values[*by][0]);
                self.shift(*op, &a, by)
            }
            Op::Fma(a, b, c) => {
                let (a, b, c) = (self.val(*a), self.val(*b), self.val(*c));
                self.fma(&a, &b, &c)?
            }
            Op::MulAdd(a, b, c) => {
                let (a, b, c) = (self.val(*a), self.val(*b), self.val(*c));
                self.muladd(&a, &b, &c)
            }
            Op::Cmp(cmp, a, b) => {
                let (a, b) = (self.val(*a), self.val(*b));
                self.cmp(*cmp, &a, &b)
            }
            Op::Select(mask, a, b) => {
                let (mask, a, b) = (self.val(*mask), self.val(*a), self.val(*b));
                self.select(&mask, &a, &b)
            }
            Op::Cvt(cvt, a) => {
                let a = self.val(*a);
                self.cvt(*cvt, &a, ty)
            }
            Op::Reduce(op, a) => {
                let a = self.val(*a);
                self.reduce(*op, &a)
            }
            Op::Extract(a, lane) => {
                let a = self.val(*a);
                let scalar = self.extract(&a, *lane);
                Val { ty, parts: vec![scalar] }
            }
            Op::Insert(a, lane, scalar) => {
                let (a, scalar) = (self.val(*a), self.values[*scalar][0]);
                self.insert(&a, *lane, scalar)
            }
            Op::Shuffle(a, b, pick) => {
                let (a, b) = (self.val(*a), self.val(*b));
                self.shuffle(&a, &b, pick)
            }
            Op::Dot4 { a_signed, acc, a, b } => {
                let (acc, a, b) = (self.val(*acc), self.val(*a), self.val(*b));
                self.dot4(*a_signed, &acc, &a, &b)
            }
        };
        Ok(val.parts)
    }

    fn extent(&mut self, extent: &Extent) -> Result<clif::Value, CodegenError> {
        self.scopes.extent(&mut Ins(self.b), extent)
    }
}

/// 64-bit arithmetic in CLIF.
struct Ins<'a, 'b>(&'a mut FunctionBuilder<'b>);

impl Scalars for Ins<'_, '_> {
    type Value = clif::Value;

    fn number(&mut self, value: i64) -> clif::Value {
        self.0.ins().iconst(types::I64, value)
    }

    fn add(&mut self, a: clif::Value, b: clif::Value) -> clif::Value {
        self.0.ins().iadd(a, b)
    }

    fn add_number(&mut self, a: clif::Value, by: i64) -> clif::Value {
        self.0.ins().iadd_imm_s(a, by)
    }

    fn mul(&mut self, a: clif::Value, b: clif::Value) -> clif::Value {
        self.0.ins().imul(a, b)
    }

    fn mul_number(&mut self, a: clif::Value, by: i64) -> clif::Value {
        match by {
            -1 => self.0.ins().ineg(a),
            _ if by > 0 && by & (by - 1) == 0 => self.0.ins().ishl_imm_s(a, i64::from(by.trailing_zeros())),
            _ => self.0.ins().imul_imm_s(a, by),
        }
    }

    fn shift_right(&mut self, a: clif::Value, by: u32) -> clif::Value {
        self.0.ins().sshr_imm_s(a, i64::from(by))
    }

    fn min(&mut self, a: clif::Value, b: clif::Value) -> clif::Value {
        let less = self.0.ins().icmp(IntCC::SignedLessThan, a, b);
        self.0.ins().select(less, a, b)
    }

    fn max(&mut self, a: clif::Value, b: clif::Value) -> clif::Value {
        let more = self.0.ins().icmp(IntCC::SignedGreaterThan, a, b);
        self.0.ins().select(more, a, b)
    }

    fn floor_div(&mut self, a: clif::Value, b: clif::Value) -> clif::Value {
        let one = self.number(1);
        let positive = self.0.ins().icmp(IntCC::SignedGreaterThan, b, one);
        let divisor = self.0.ins().select(positive, b, one);
        let quotient = self.0.ins().sdiv(a, divisor);
        let product = self.0.ins().imul(quotient, divisor);
        let down = self.0.ins().icmp(IntCC::SignedLessThan, a, product);
        let down = self.0.ins().uextend(types::I64, down);
        self.0.ins().isub(quotient, down)
    }
}

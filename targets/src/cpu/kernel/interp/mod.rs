//! Plain interpreter of kernels: the oracle of the emitters, with which it shares nothing.
//!
//! Every operation rounds as [`super::ir`] states, every access is checked against the memory it is given, and the error
//! names the statement.

mod scalar;

use adze_ir::extent::{Extent, Sym};
use thiserror::Error;

use super::ir::{Addr, BinOp, Block, Cond, Cvt, For, HI, Kernel, LO, Op, STATUS_OK, Stmt, Value};
use super::text::print_stmt;
use super::types::{Elem, Type};

/// Why a run stopped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InterpError {
    /// A load or store outside of the memory it was given.
    #[error("`{stmt}`: bytes {start}..{end} of `{param}`, which has {len}")]
    OutOfBounds {
        /// The statement.
        stmt: String,
        /// The parameter.
        param: String,
        /// First byte.
        start: i128,
        /// End of the access.
        end: i128,
        /// Bytes there are.
        len: usize,
    },
    /// An extent without value: unknown symbol, overflow or division by zero.
    #[error("`{stmt}`: extent `{extent}` has no value")]
    Extent {
        /// The statement.
        stmt: String,
        /// The extent.
        extent: String,
    },
    /// The call does not fit the kernel, or the kernel was not verified.
    #[error("{0}")]
    Call(String),
    /// The run took more statements than allowed.
    #[error("more than {0} statements")]
    Steps(u64),
}

/// How to interpret.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether `muladd` rounds once.
    pub fuse_muladd: bool,
    /// Most statements to execute.
    pub max_steps: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { fuse_muladd: true, max_steps: 1 << 40 }
    }
}

/// Runs a verified kernel on memory (bytes, one slice per parameter, in order). Returns the status.
///
/// # Errors
/// [`InterpError`], naming the statement.
pub fn run(
    kernel: &Kernel,
    memory: &mut [&mut [u8]],
    dims: &[i64],
    (lo, hi): (i64, i64),
    options: Options,
) -> Result<i64, InterpError> {
    if memory.len() != kernel.params.len() {
        let problem = format!("`{}` takes {} pointers, found {}", kernel.name, kernel.params.len(), memory.len());
        return Err(InterpError::Call(problem));
    }
    let mut symbols = Vec::new();
    for dim in &kernel.dims {
        let missing = || InterpError::Call(format!("dimension slot {} of `{}` is not given", dim.slot, dim.name));
        symbols.push((dim.name.clone(), *dims.get(dim.slot as usize).ok_or_else(missing)?));
    }
    symbols.extend([(LO.into(), lo), (HI.into(), hi)]);
    let values = vec![Vec::new(); kernel.values.len()];
    let mut machine = Machine { kernel, memory, symbols, values, options, steps: 0 };
    match machine.stmts(&kernel.body)? {
        Some(status) => Ok(status),
        None => Ok(STATUS_OK),
    }
}

struct Machine<'a, 'm> {
    kernel: &'a Kernel,
    memory: &'a mut [&'m mut [u8]],
    symbols: Vec<(Sym, i64)>,
    /// Bits of every lane; masks are 0 or 1.
    values: Vec<Vec<u64>>,
    options: Options,
    steps: u64,
}

/// `Some` when a guard failed.
type Flow = Result<Option<i64>, InterpError>;

impl Machine<'_, '_> {
    fn get(&self, value: Value) -> &[u64] {
        &self.values[value.as_u32() as usize]
    }

    fn set(&mut self, value: Value, lanes: Vec<u64>) {
        self.values[value.as_u32() as usize] = lanes;
    }

    fn ty(&self, value: Value) -> Type {
        self.kernel.values[value]
    }

    fn extent(&self, extent: &Extent, stmt: &Stmt) -> Result<i64, InterpError> {
        let lookup = |name: &str| self.symbols.iter().rev().find(|(s, _)| **s == *name).map(|(_, v)| *v);
        extent
            .eval(&lookup)
            .ok_or_else(|| InterpError::Extent { stmt: print_stmt(self.kernel, stmt), extent: extent.to_string() })
    }

    fn stmts(&mut self, stmts: &[Stmt]) -> Flow {
        for stmt in stmts {
            self.steps += 1;
            if self.steps > self.options.max_steps {
                return Err(InterpError::Steps(self.options.max_steps));
            }
            if let Some(status) = self.stmt(stmt)? {
                return Ok(Some(status));
            }
        }
        Ok(None)
    }

    fn stmt(&mut self, stmt: &Stmt) -> Flow {
        match stmt {
            Stmt::Let { result, op } => {
                let lanes = self.op(stmt, self.ty(*result), op)?;
                self.set(*result, lanes);
            }
            Stmt::Store { addr, value } => {
                let bytes = self.ty(*value).elem.bytes() as usize;
                let data: Vec<u8> =
                    self.get(*value).iter().flat_map(|lane| lane.to_le_bytes()[..bytes].to_vec()).collect();
                let start = self.bounds(stmt, addr, data.len())?;
                self.memory[addr.param.as_u32() as usize][start..start + data.len()].copy_from_slice(&data);
            }
            Stmt::StoreFirst { addr, count, value } => {
                let (count, bytes) = (usize::from(*count), self.ty(*value).elem.bytes() as usize);
                let lanes = self.get(*value).iter().take(count);
                let data: Vec<u8> = lanes.flat_map(|lane| lane.to_le_bytes()[..bytes].to_vec()).collect();
                let start = self.bounds(stmt, addr, data.len())?;
                self.memory[addr.param.as_u32() as usize][start..start + data.len()].copy_from_slice(&data);
            }
            Stmt::Bind { sym, value } => {
                let value = self.get(*value)[0] as i64;
                self.symbols.push((sym.clone(), value));
            }
            Stmt::For(f) => return self.for_loop(stmt, f),
            Stmt::If { cond, then, other, results } => {
                let block = if self.cond(cond, stmt)? { then } else { other };
                return self.scoped(block, results);
            }
            Stmt::Guard { cond, status } => {
                if !self.cond(cond, stmt)? {
                    return Ok(Some(*status));
                }
            }
            Stmt::Prefetch { .. } => {}
        }
        Ok(None)
    }

    /// Runs a block and hands its yields to `results`; what it bound is forgotten.
    fn scoped(&mut self, block: &Block, results: &[Value]) -> Flow {
        let depth = self.symbols.len();
        let status = self.stmts(&block.stmts)?;
        self.symbols.truncate(depth);
        if status.is_none() {
            let yields: Vec<Vec<u64>> = block.yields.iter().map(|&y| self.get(y).to_vec()).collect();
            for (&result, lanes) in results.iter().zip(yields) {
                self.set(result, lanes);
            }
        }
        Ok(status)
    }

    fn for_loop(&mut self, stmt: &Stmt, f: &For) -> Flow {
        let (mut i, hi) = (self.extent(&f.lo, stmt)?, self.extent(&f.hi, stmt)?);
        for (&arg, &init) in f.args.iter().zip(&f.inits) {
            self.set(arg, self.get(init).to_vec());
        }
        while i < hi {
            let depth = self.symbols.len();
            self.symbols.push((f.var.clone(), i));
            let status = self.scoped(&f.body, &f.args)?;
            self.symbols.truncate(depth);
            if status.is_some() {
                return Ok(status);
            }
            self.steps += 1;
            if self.steps > self.options.max_steps {
                return Err(InterpError::Steps(self.options.max_steps));
            }
            i = i.saturating_add(f.step);
        }
        for (&result, &arg) in f.results.iter().zip(&f.args) {
            self.set(result, self.get(arg).to_vec());
        }
        Ok(None)
    }

    fn cond(&self, cond: &Cond, stmt: &Stmt) -> Result<bool, InterpError> {
        Ok(match cond {
            Cond::Extent(a, cmp, b) => {
                let (a, b) = (self.extent(a, stmt)?, self.extent(b, stmt)?);
                scalar::compare_ints(*cmp, a as u64, b as u64, 64)
            }
            Cond::Value(value) => self.get(*value)[0] != 0,
        })
    }

    fn bounds(&self, stmt: &Stmt, addr: &Addr, bytes: usize) -> Result<usize, InterpError> {
        let decl = &self.kernel.params[addr.param];
        let offset = self.extent(&addr.offset, stmt)?;
        let start = i128::from(offset) * i128::from(decl.dtype.bits().div_ceil(8));
        let (end, len) = (start + bytes as i128, self.memory[addr.param.as_u32() as usize].len());
        if start < 0 || end > len as i128 {
            let (stmt, param) = (print_stmt(self.kernel, stmt), decl.name.to_string());
            return Err(InterpError::OutOfBounds { stmt, param, start, end, len });
        }
        Ok(start as usize)
    }

    fn op(&self, stmt: &Stmt, ty: Type, op: &Op) -> Result<Vec<u64>, InterpError> {
        let lanes = usize::from(ty.lanes);
        Ok(match op {
            Op::Const(bits) if bits.len() == 1 => vec![bits[0]; lanes],
            Op::Const(bits) => bits.clone(),
            Op::Extent(extent) => vec![self.extent(extent, stmt)? as u64],
            Op::Splat(a) => vec![self.get(*a)[0]; lanes],
            Op::Load(addr) => {
                let bytes = ty.elem.bytes() as usize;
                let start = self.bounds(stmt, addr, lanes * bytes)?;
                let memory = &self.memory[addr.param.as_u32() as usize][start..start + lanes * bytes];
                memory.chunks_exact(bytes).map(read).collect()
            }
            Op::LoadFirst(addr, count) => {
                let (count, bytes) = (usize::from(*count), ty.elem.bytes() as usize);
                let start = self.bounds(stmt, addr, count * bytes)?;
                let memory = &self.memory[addr.param.as_u32() as usize][start..start + count * bytes];
                memory.chunks_exact(bytes).map(read).chain(std::iter::repeat(0)).take(lanes).collect()
            }
            Op::Un(op, a) => self.get(*a).iter().map(|&x| scalar::un(*op, ty.elem, x)).collect(),
            Op::Bin(op, a, b) => self.zip(*a, *b, |x, y| scalar::bin(*op, ty.elem, x, y)),
            Op::Shift(op, a, by) => {
                let by = self.get(*by)[0] as u32 % ty.elem.bits();
                self.get(*a).iter().map(|&x| scalar::shift(*op, ty.elem, x, by)).collect()
            }
            Op::Fma(a, b, c) => self.fma(ty.elem, [*a, *b, *c], true),
            Op::MulAdd(a, b, c) => self.fma(ty.elem, [*a, *b, *c], self.options.fuse_muladd),
            Op::Cmp(cmp, a, b) => {
                let elem = self.ty(*a).elem;
                self.zip(*a, *b, |x, y| u64::from(scalar::compare(*cmp, elem, x, y)))
            }
            Op::Select(mask, a, b) => {
                let (mask, a, b) = (self.get(*mask), self.get(*a), self.get(*b));
                (0..lanes).map(|i| if mask[i] != 0 { a[i] } else { b[i] }).collect()
            }
            Op::Cvt(Cvt::Bits, a) => scalar::bitcast(self.get(*a), self.ty(*a).elem, ty.elem),
            Op::Cvt(cvt, a) => {
                let from = self.ty(*a).elem;
                self.get(*a).iter().map(|&x| scalar::convert(*cvt, from, ty.elem, x)).collect()
            }
            Op::Reduce(op, a) => vec![reduce(*op, ty.elem, self.get(*a))],
            Op::Extract(a, lane) => vec![self.get(*a)[usize::from(*lane)]],
            Op::Insert(a, lane, scalar) => {
                let mut lanes = self.get(*a).to_vec();
                lanes[usize::from(*lane)] = self.get(*scalar)[0];
                lanes
            }
            Op::Shuffle(a, b, pick) => {
                let row = [self.get(*a), self.get(*b)].concat();
                pick.iter().map(|&p| row[usize::from(p)]).collect()
            }
            Op::Dot4 { a_signed, acc, a, b } => self.dot4(*a_signed, *acc, *a, *b),
        })
    }

    fn zip(&self, a: Value, b: Value, f: impl Fn(u64, u64) -> u64) -> Vec<u64> {
        self.get(a).iter().zip(self.get(b)).map(|(&x, &y)| f(x, y)).collect()
    }

    fn fma(&self, elem: Elem, [a, b, c]: [Value; 3], fused: bool) -> Vec<u64> {
        let (a, b, c) = (self.get(a), self.get(b), self.get(c));
        (0..a.len())
            .map(|i| {
                if fused {
                    return scalar::fma(elem, a[i], b[i], c[i]);
                }
                scalar::bin(BinOp::Add, elem, scalar::bin(BinOp::Mul, elem, a[i], b[i]), c[i])
            })
            .collect()
    }

    fn dot4(&self, a_signed: bool, acc: Value, a: Value, b: Value) -> Vec<u64> {
        let (a, b) = (self.get(a), self.get(b));
        let product = |j: usize| {
            let x = if a_signed { i32::from(a[j] as i8) } else { i32::from(a[j] as u8) };
            x * i32::from(b[j] as i8)
        };
        let lane = |(i, &acc): (usize, &u64)| {
            u64::from((4 * i..4 * i + 4).fold(acc as i32, |sum, j| sum.wrapping_add(product(j))) as u32)
        };
        self.get(acc).iter().enumerate().map(lane).collect()
    }
}

fn read(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

fn reduce(op: BinOp, elem: Elem, lanes: &[u64]) -> u64 {
    let mut lanes = lanes.to_vec();
    while lanes.len() > 1 {
        let high = lanes.split_off(lanes.len() / 2);
        lanes = lanes.iter().zip(high).map(|(&low, high)| scalar::bin(op, elem, low, high)).collect();
    }
    lanes[0]
}

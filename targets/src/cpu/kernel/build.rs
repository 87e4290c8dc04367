//! Builder of kernels: loops and branches as closures, one method per operation.
//!
//! ```
//! use adze_ir::types::DType;
//! use adze_targets::cpu::kernel::{Access, BinOp, KernelBuilder, Type};
//!
//! // y[i] = x[i] + x[i] for i in lo..hi, four at a time, then one at a time.
//! let mut b = KernelBuilder::new("double_f32");
//! let x = b.param("x", DType::F32, Access::In);
//! let y = b.param("y", DType::F32, Access::Out);
//! let (lo, hi) = b.range();
//! b.strips(lo, hi, 4, |b, i, lanes| {
//!     let v = b.load_as(x, i.clone(), Type::F32.with_lanes(lanes));
//!     let sum = b.add(v, v);
//!     b.store_as(y, i, sum);
//! });
//! let kernel = b.finish();
//! ```
//!
//! The builder takes types on trust; the verifier says what is wrong.

use adze_ir::extent::{Extent, Sym};
use adze_ir::minifloat::Minifloat;
use adze_ir::types::DType;
use cranelift_entity::PrimaryMap;

use super::ir::*;
use super::minifloat;
use super::types::{Elem, Type};

/// The fewest lanes that what is left is worth a strip of.
const LEAST_LANES: u16 = 4;

/// Widths of the strips for so many elements, the widest first: each half of the one before it where elements are left for it, the
/// last one 1. Where the number is not known, one in between is enough.
pub fn widths(extent: &Extent, lanes: u16) -> Vec<u16> {
    let halves = std::iter::successors(Some(lanes / 2), |w| Some(w / 2)).take_while(|w| *w >= LEAST_LANES);
    let Some(mut left) = extent.as_const() else {
        let mut widths = vec![lanes.max(1), (lanes / 4).max(LEAST_LANES), 1];
        widths.dedup_by(|next, before| *next >= *before);
        return widths;
    };
    let mut widths = Vec::new();
    for width in std::iter::once(lanes.max(1)).chain(halves).chain([1]) {
        if left >= i64::from(width) {
            widths.push(width);
            left %= i64::from(width);
        }
    }
    if widths.is_empty() { vec![1] } else { widths }
}

/// Where whole strips from `lo` on end.
fn whole(lo: &Extent, hi: &Extent, width: u16) -> Extent {
    let left = (hi.clone() - lo.clone()).maximum(&Extent::ZERO);
    let step = Extent::from(i64::from(width));
    if width == 1 { hi.clone() } else { lo.clone() + left.floordiv(&step) * step }
}

/// Writes one [`Kernel`].
pub struct KernelBuilder {
    kernel: Kernel,
    open: Vec<Vec<Stmt>>,
    fresh: u32,
}

impl KernelBuilder {
    /// Starts an empty kernel.
    pub fn new(name: impl Into<String>) -> Self {
        let (params, values) = (PrimaryMap::new(), PrimaryMap::new());
        let kernel = Kernel { name: name.into(), params, dims: Vec::new(), values, body: Vec::new() };
        Self { kernel, open: vec![Vec::new()], fresh: 0 }
    }

    /// Declares a pointer parameter; the order is that of the call's `ptrs`.
    pub fn param(&mut self, name: &str, dtype: DType, access: Access) -> Param {
        self.kernel.params.push(ParamDecl { name: name.into(), dtype, access })
    }

    /// Declares a dimension that the kernel reads from `dims[slot]` and returns its symbol. A name declared before is
    /// not declared again.
    pub fn dim(&mut self, name: &str, slot: u32) -> Extent {
        if !self.kernel.dims.iter().any(|dim| &*dim.name == name) {
            self.kernel.dims.push(DimDecl { name: name.into(), slot });
        }
        Extent::sym(name)
    }

    /// The range of the outermost parallel loop that a call works on.
    pub fn range(&self) -> (Extent, Extent) {
        (Extent::sym(LO), Extent::sym(HI))
    }

    /// The dtype of a parameter.
    pub fn dtype(&self, param: Param) -> DType {
        self.kernel.params[param].dtype
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> Type {
        self.kernel.values[value]
    }

    /// The kernel. Verify it before use.
    pub fn finish(mut self) -> Kernel {
        self.kernel.body = self.open.pop().unwrap_or_default();
        self.kernel
    }

    /// Appends a statement.
    pub fn stmt(&mut self, stmt: Stmt) {
        self.open.last_mut().expect("the kernel's body stays open until finish").push(stmt);
    }

    /// Appends `let result = op` of the given type.
    pub fn op(&mut self, ty: Type, op: Op) -> Value {
        let result = self.kernel.values.push(ty);
        self.stmt(Stmt::Let { result, op });
        result
    }

    fn symbol(&mut self, prefix: &str) -> Sym {
        loop {
            let name = format!("{prefix}{}", self.fresh);
            self.fresh += 1;
            if !self.kernel.dims.iter().any(|dim| *dim.name == *name) {
                return name.into();
            }
        }
    }

    fn block(&mut self, body: impl FnOnce(&mut Self) -> Vec<Value>) -> Block {
        self.open.push(Vec::new());
        let yields = body(self);
        let stmts = self.open.pop().expect("pushed above; nested blocks are balanced");
        Block { stmts, yields }
    }

    fn fresh_like(&mut self, values: &[Value]) -> Vec<Value> {
        values.iter().map(|&v| self.kernel.values.push(self.kernel.values[v])).collect()
    }

    // Control.

    /// `for i in lo..hi step step` carrying values: the closure gets the loop variable and the carried values and
    /// returns those of the next iteration. Returns the carried values after the loop.
    pub fn for_(
        &mut self,
        lo: impl Into<Extent>,
        hi: impl Into<Extent>,
        step: i64,
        inits: &[Value],
        body: impl FnOnce(&mut Self, Extent, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let var = self.symbol("i");
        let args = self.fresh_like(inits);
        let body = self.block(|b| body(b, Extent::sym(var.clone()), &args));
        let results = self.fresh_like(inits);
        let (lo, hi, inits) = (lo.into(), hi.into(), inits.to_vec());
        self.stmt(Stmt::For(Box::new(For { var, lo, hi, step, inits, args, body, results: results.clone() })));
        results
    }

    /// A loop that carries nothing.
    pub fn loop_(
        &mut self,
        lo: impl Into<Extent>,
        hi: impl Into<Extent>,
        step: i64,
        body: impl FnOnce(&mut Self, Extent),
    ) {
        self.for_(lo, hi, step, &[], |b, i, _| {
            body(b, i);
            Vec::new()
        });
    }

    /// Walks `lo..hi` in whole strips of `lanes`, what is left in narrower ones, and the rest one by one: the body is
    /// written for each width that can occur.
    pub fn strips(
        &mut self,
        lo: impl Into<Extent>,
        hi: impl Into<Extent>,
        lanes: u16,
        body: impl FnMut(&mut Self, Extent, u16),
    ) {
        let (lo, hi) = (lo.into(), hi.into());
        let widths = widths(&(hi.clone() - lo.clone()), lanes);
        self.strips_of(lo, hi, &widths, body);
    }

    /// The same in strips of these widths, one after another.
    pub fn strips_of(
        &mut self,
        lo: impl Into<Extent>,
        hi: impl Into<Extent>,
        widths: &[u16],
        mut body: impl FnMut(&mut Self, Extent, u16),
    ) {
        self.fold_strips((lo.into(), hi.into()), widths, &[], |b, i, width, _| {
            body(b, i, width);
            Vec::new()
        });
    }

    /// Walks `lo..hi` like [`strips_of`](Self::strips_of), carrying values: the same number for each width, those of one width next
    /// to each other; the body gets and gives those of its own.
    pub fn fold_strips(
        &mut self,
        (mut lo, hi): (Extent, Extent),
        widths: &[u16],
        values: &[Value],
        mut body: impl FnMut(&mut Self, Extent, u16, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let (mut folded, each) = (Vec::with_capacity(values.len()), values.len() / widths.len().max(1));
        for (at, &width) in widths.iter().enumerate() {
            let (own, end) = (&values[at * each..(at + 1) * each], whole(&lo, &hi, width));
            folded.extend(self.for_(lo, end.clone(), i64::from(width), own, |b, i, own| body(b, i, width, own)));
            lo = end;
        }
        folded
    }

    /// All lanes of such values joined into one of each kind, by one operation per kind.
    pub fn join_strips(&mut self, ops: &[BinOp], values: &[Value]) -> Vec<Value> {
        let mut kinds = Vec::with_capacity(ops.len());
        for (kind, &op) in ops.iter().enumerate() {
            let mut joined = None;
            for &value in values[kind..].iter().step_by(ops.len()) {
                let one = if self.ty(value).is_scalar() { value } else { self.reduce(op, value) };
                joined = Some(joined.map_or(one, |joined| self.bin(op, joined, one)));
            }
            kinds.extend(joined);
        }
        kinds
    }

    /// `if cond` with values: both closures return the same number of values of the same types.
    pub fn if_else(
        &mut self,
        cond: Cond,
        then: impl FnOnce(&mut Self) -> Vec<Value>,
        other: impl FnOnce(&mut Self) -> Vec<Value>,
    ) -> Vec<Value> {
        let then = self.block(then);
        let other = self.block(other);
        let results = self.fresh_like(&then.yields);
        self.stmt(Stmt::If { cond, then, other, results: results.clone() });
        results
    }

    /// `if cond` for its effects.
    pub fn if_(&mut self, cond: Cond, then: impl FnOnce(&mut Self)) {
        self.if_else(
            cond,
            |b| {
                then(b);
                Vec::new()
            },
            |_| Vec::new(),
        );
    }

    /// Returns `status` from the kernel unless the condition holds.
    pub fn guard(&mut self, cond: Cond, status: i64) {
        self.stmt(Stmt::Guard { cond, status });
    }

    /// Makes a scalar `i64` a symbol of extents.
    pub fn index(&mut self, value: Value) -> Extent {
        let sym = self.symbol("x");
        self.stmt(Stmt::Bind { sym: sym.clone(), value });
        Extent::sym(sym)
    }

    // Memory.

    /// Reads `lanes` elements in the memory form of the parameter (see [`Elem::of_memory`]; bytes for 4-bit types).
    pub fn load(&mut self, param: Param, offset: impl Into<Extent>, lanes: u16) -> Value {
        let elem = Elem::of_memory(self.dtype(param)).unwrap_or(Elem::I8);
        self.op(Type::vec(elem, lanes), Op::Load(Addr { param, offset: offset.into() }))
    }

    /// Writes a value that is in the memory form of the parameter.
    pub fn store(&mut self, param: Param, offset: impl Into<Extent>, value: Value) {
        self.stmt(Stmt::Store { addr: Addr { param, offset: offset.into() }, value });
    }

    /// Reads `ty.lanes` elements and converts them to `ty` by value: half floats to `f32`, integers by their sign,
    /// `bool` to 0 and 1 or a mask.
    pub fn load_as(&mut self, param: Param, offset: impl Into<Extent>, ty: Type) -> Value {
        let dtype = self.dtype(param);
        let raw = self.load(param, offset, ty.lanes);
        self.from_memory(raw, dtype, ty.elem)
    }

    /// [`KernelBuilder::load_as`] of the first `count` lanes; the others are what zeros convert to.
    pub fn load_first_as(&mut self, param: Param, offset: impl Into<Extent>, ty: Type, count: u16) -> Value {
        if count == ty.lanes {
            return self.load_as(param, offset, ty);
        }
        let dtype = self.dtype(param);
        let elem = Elem::of_memory(dtype).unwrap_or(Elem::I8);
        let addr = Addr { param, offset: offset.into() };
        let raw = self.op(Type::vec(elem, ty.lanes), Op::LoadFirst(addr, count));
        self.from_memory(raw, dtype, ty.elem)
    }

    /// Reads one element into every lane of `ty`, converted as by [`KernelBuilder::load_as`]: after it is repeated, since
    /// machines repeat from memory for nothing and convert vectors.
    pub fn splat_as(&mut self, param: Param, offset: impl Into<Extent>, ty: Type) -> Value {
        let dtype = self.dtype(param);
        let scalar = self.load(param, offset, 1);
        let raw = if ty.is_scalar() { scalar } else { self.splat(scalar, ty.lanes) };
        self.from_memory(raw, dtype, ty.elem)
    }

    /// Converts to the parameter's dtype by value (`f32` to half floats, integers by keeping the low bits, masks to 0
    /// and 1) and writes.
    pub fn store_as(&mut self, param: Param, offset: impl Into<Extent>, value: Value) {
        let dtype = self.dtype(param);
        let raw = self.to_memory(value, dtype);
        self.store(param, offset, raw);
    }

    /// Writes the first `count` lanes of a value that is in the memory form of the parameter.
    pub fn store_first(&mut self, param: Param, offset: impl Into<Extent>, value: Value, count: u16) {
        let addr = Addr { param, offset: offset.into() };
        if count == self.ty(value).lanes {
            self.stmt(Stmt::Store { addr, value });
        } else {
            self.stmt(Stmt::StoreFirst { addr, count, value });
        }
    }

    /// A value in the memory form of `dtype`, converted to `elem`.
    pub fn from_memory(&mut self, raw: Value, dtype: DType, elem: Elem) -> Value {
        let signed = matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
        if let Some(format) = Minifloat::of(dtype).filter(|_| elem.is_float()) {
            let wide = minifloat::decode(self, raw, format);
            return self.float_to(wide, elem);
        }
        let half = match dtype {
            DType::F16 => Some(Cvt::FromF16),
            DType::Bf16 => Some(Cvt::FromBf16),
            _ => None,
        };
        match half {
            Some(cvt) if elem.is_float() => {
                let wide = self.cvt(cvt, raw, Elem::F32);
                self.float_to(wide, elem)
            }
            _ if dtype == DType::Bool && elem.is_mask() => {
                let zero = self.zero(self.ty(raw));
                let mask = self.cmp(Cmp::Ne, raw, zero);
                self.mask_to(mask, elem)
            }
            _ => self.convert(raw, signed, elem),
        }
    }

    /// A value converted to the memory form of `dtype`.
    pub fn to_memory(&mut self, value: Value, dtype: DType) -> Value {
        let from = self.ty(value).elem;
        if let Some(format) = Minifloat::of(dtype).filter(|_| from.is_float()) {
            let single = self.single_before(value);
            return minifloat::encode(self, single, format);
        }
        match (dtype, from) {
            (DType::F16 | DType::Bf16, Elem::F32 | Elem::F64) => {
                let single = self.single_before(value);
                self.cvt(if dtype == DType::F16 { Cvt::ToF16 } else { Cvt::ToBf16 }, single, Elem::I16)
            }
            (_, from) if from.is_mask() => {
                let elem = Elem::of_memory(dtype).unwrap_or(Elem::I8);
                let mask = self.mask_to(value, elem.mask());
                let ty = self.ty(mask).with_elem(elem);
                let (one, zero) = (self.number(1.0, ty), self.zero(ty));
                self.select(mask, one, zero)
            }
            _ => {
                let signed = matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
                self.convert(value, signed, Elem::of_memory(dtype).unwrap_or(Elem::I8))
            }
        }
    }

    /// Numeric conversion: integers extend by `signed` or keep their low bits, float to integer saturates.
    pub fn convert(&mut self, value: Value, signed: bool, elem: Elem) -> Value {
        let from = self.ty(value).elem;
        if from == elem {
            return value;
        }
        match (from.is_float(), elem.is_float()) {
            (true, true) => self.float_to(value, elem),
            (false, false) => self.int_to(value, signed, elem),
            (false, true) => {
                // What was less than 32 bits has room for a sign, and more machines convert signed integers.
                let narrow = from.bits() < 32;
                let wide = if narrow { self.int_to(value, signed, Elem::I32) } else { value };
                self.cvt(if signed || narrow { Cvt::FromS } else { Cvt::FromU }, wide, elem)
            }
            (true, false) => {
                let wide = if elem.bits() < 32 { Elem::I32 } else { elem };
                let int = self.cvt(if signed { Cvt::ToS } else { Cvt::ToU }, value, wide);
                self.int_to(int, signed, elem)
            }
        }
    }

    /// A float as `f32`, so that rounding it to fewer bits is the only rounding.
    fn single_before(&mut self, value: Value) -> Value {
        if self.ty(value).elem == Elem::F64 { minifloat::demote_to_odd(self, value) } else { value }
    }

    fn float_to(&mut self, value: Value, elem: Elem) -> Value {
        match (self.ty(value).elem, elem) {
            (Elem::F32, Elem::F64) => self.cvt(Cvt::Promote, value, elem),
            (Elem::F64, Elem::F32) => self.cvt(Cvt::Demote, value, elem),
            _ => value,
        }
    }

    fn int_to(&mut self, value: Value, signed: bool, elem: Elem) -> Value {
        let from = self.ty(value).elem;
        match elem.bits().cmp(&from.bits()) {
            std::cmp::Ordering::Greater if signed => self.cvt(Cvt::SExt, value, elem),
            std::cmp::Ordering::Greater => self.cvt(Cvt::UExt, value, elem),
            std::cmp::Ordering::Less => self.cvt(Cvt::Wrap, value, elem),
            std::cmp::Ordering::Equal => value,
        }
    }

    /// A mask beside lanes of another width.
    pub fn mask_to(&mut self, mask: Value, elem: Elem) -> Value {
        match elem.bits().cmp(&self.ty(mask).elem.bits()) {
            std::cmp::Ordering::Greater => self.cvt(Cvt::SExt, mask, elem.mask()),
            std::cmp::Ordering::Less => self.cvt(Cvt::Wrap, mask, elem.mask()),
            std::cmp::Ordering::Equal => mask,
        }
    }

    /// Hint that memory will be read soon.
    pub fn prefetch(&mut self, param: Param, offset: impl Into<Extent>) {
        self.stmt(Stmt::Prefetch { addr: Addr { param, offset: offset.into() } });
    }

    // Constants and scalars.

    /// The same bits in every lane.
    pub fn bits(&mut self, bits: u64, ty: Type) -> Value {
        let keep = if ty.elem.bits() == 64 { u64::MAX } else { (1 << ty.elem.bits()) - 1 };
        self.op(ty, Op::Const(vec![bits & keep]))
    }

    /// One bit pattern per lane.
    pub fn lanes(&mut self, bits: Vec<u64>, ty: Type) -> Value {
        self.op(ty, Op::Const(bits))
    }

    /// A number in every lane: rounded to `f32`, or truncated to an integer, as the type asks.
    pub fn number(&mut self, number: f64, ty: Type) -> Value {
        let bits = match ty.elem {
            Elem::F32 => u64::from((number as f32).to_bits()),
            Elem::F64 => number.to_bits(),
            _ => number as i64 as u64,
        };
        self.bits(bits, ty)
    }

    /// An integer in every lane (integer types).
    pub fn int(&mut self, number: i64, ty: Type) -> Value {
        self.bits(number as u64, ty)
    }

    /// An `f32` in every lane.
    pub fn f32(&mut self, number: f32, lanes: u16) -> Value {
        self.bits(u64::from(number.to_bits()), Type::vec(Elem::F32, lanes))
    }

    /// An `f64` in every lane.
    pub fn f64(&mut self, number: f64, lanes: u16) -> Value {
        self.bits(number.to_bits(), Type::vec(Elem::F64, lanes))
    }

    /// An `i32` in every lane.
    pub fn i32(&mut self, number: i32, lanes: u16) -> Value {
        self.int(i64::from(number), Type::vec(Elem::I32, lanes))
    }

    /// Zero in every lane (false for masks).
    pub fn zero(&mut self, ty: Type) -> Value {
        self.bits(0, ty)
    }

    /// The value of an extent, as scalar `i64`.
    pub fn extent(&mut self, extent: impl Into<Extent>) -> Value {
        self.op(Type::I64, Op::Extent(extent.into()))
    }

    /// A scalar in `lanes` lanes; the scalar itself for one lane.
    pub fn splat(&mut self, scalar: Value, lanes: u16) -> Value {
        if lanes == 1 {
            return scalar;
        }
        self.op(self.ty(scalar).with_lanes(lanes), Op::Splat(scalar))
    }

    // Arithmetic, lane by lane.

    /// See [`UnOp`].
    pub fn un(&mut self, op: UnOp, a: Value) -> Value {
        self.op(self.ty(a), Op::Un(op, a))
    }

    /// See [`BinOp`].
    pub fn bin(&mut self, op: BinOp, a: Value, b: Value) -> Value {
        self.op(self.ty(a), Op::Bin(op, a, b))
    }

    /// `a + b`.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.bin(BinOp::Add, a, b)
    }

    /// `a - b`.
    pub fn sub(&mut self, a: Value, b: Value) -> Value {
        self.bin(BinOp::Sub, a, b)
    }

    /// `a * b`.
    pub fn mul(&mut self, a: Value, b: Value) -> Value {
        self.bin(BinOp::Mul, a, b)
    }

    /// `a / b` (floats).
    pub fn div(&mut self, a: Value, b: Value) -> Value {
        self.bin(BinOp::Div, a, b)
    }

    /// Shifts every lane by a constant.
    pub fn shift(&mut self, op: Shift, a: Value, by: u32) -> Value {
        let by = self.int(i64::from(by), Type::I32);
        self.shift_by(op, a, by)
    }

    /// Shifts every lane by a scalar `i32`.
    pub fn shift_by(&mut self, op: Shift, a: Value, by: Value) -> Value {
        self.op(self.ty(a), Op::Shift(op, a, by))
    }

    /// `a * b + c`, rounded once.
    pub fn fma(&mut self, a: Value, b: Value, c: Value) -> Value {
        self.op(self.ty(a), Op::Fma(a, b, c))
    }

    /// `a * b + c`, rounded once or twice as the machine likes.
    pub fn muladd(&mut self, a: Value, b: Value, c: Value) -> Value {
        self.op(self.ty(a), Op::MulAdd(a, b, c))
    }

    /// See [`Cmp`].
    pub fn cmp(&mut self, cmp: Cmp, a: Value, b: Value) -> Value {
        self.op(self.ty(a).mask(), Op::Cmp(cmp, a, b))
    }

    /// `a` where the mask is true, else `b`.
    pub fn select(&mut self, mask: Value, a: Value, b: Value) -> Value {
        self.op(self.ty(a), Op::Select(mask, a, b))
    }

    /// See [`Cvt`]; the lanes stay (use [`KernelBuilder::bitcast`] to change them).
    pub fn cvt(&mut self, cvt: Cvt, a: Value, elem: Elem) -> Value {
        self.op(self.ty(a).with_elem(elem), Op::Cvt(cvt, a))
    }

    /// The same bits as another type of the same total width.
    pub fn bitcast(&mut self, a: Value, ty: Type) -> Value {
        self.op(ty, Op::Cvt(Cvt::Bits, a))
    }

    // Across lanes.

    /// All lanes combined, in the order that [`Op::Reduce`] states; the value itself for one lane.
    pub fn reduce(&mut self, op: BinOp, a: Value) -> Value {
        if self.ty(a).is_scalar() {
            return a;
        }
        self.op(self.ty(a).with_lanes(1), Op::Reduce(op, a))
    }

    /// One lane.
    pub fn extract(&mut self, a: Value, lane: u16) -> Value {
        self.op(self.ty(a).with_lanes(1), Op::Extract(a, lane))
    }

    /// The vector with one lane replaced.
    pub fn insert(&mut self, a: Value, lane: u16, scalar: Value) -> Value {
        self.op(self.ty(a), Op::Insert(a, lane, scalar))
    }

    /// Lanes picked from `a` and `b` in a row.
    pub fn shuffle(&mut self, a: Value, b: Value, pick: Vec<u16>) -> Value {
        let lanes = u16::try_from(pick.len()).unwrap_or(u16::MAX);
        self.op(self.ty(a).with_lanes(lanes), Op::Shuffle(a, b, pick))
    }

    /// `acc[i] + Σ_j a[4i+j] * b[4i+j]`; see [`Op::Dot4`].
    pub fn dot4(&mut self, a_signed: bool, acc: Value, a: Value, b: Value) -> Value {
        self.op(self.ty(acc), Op::Dot4 { a_signed, acc, a, b })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Strips cover every element once, and none is wider than what is left.
    #[test]
    fn widths_cover_what_there_is() {
        for lanes in [1, 2, 4, 8, 16, 32, 64] {
            for count in 1..200i64 {
                let widths = widths(&count.into(), lanes);
                let left = widths.iter().fold(count, |left, &width| left % i64::from(width));
                assert!(
                    left == 0 && widths.iter().all(|&w| w <= lanes && i64::from(w) <= count),
                    "{count}: {widths:?}"
                );
                assert!(widths.windows(2).all(|pair| pair[0] > pair[1]), "{count}: {widths:?}");
                assert!(count < i64::from(lanes) || widths[0] == lanes, "{count}: {widths:?}");
            }
            let open = widths(&Extent::sym(Sym::from("n")), lanes);
            assert_eq!((open[0], *open.last().unwrap()), (lanes, 1));
        }
    }

    #[test]
    fn loops_carry_values() {
        let mut b = KernelBuilder::new("sum");
        let x = b.param("x", DType::F32, Access::In);
        let n = b.dim("n", 0);
        let zero = b.f32(0.0, 4);
        let sum = b.for_(0, n, 4, &[zero], |b, i, acc| {
            let v = b.load(x, i, 4);
            vec![b.add(acc[0], v)]
        });
        assert_eq!(b.ty(sum[0]), Type::F32X4);
        let kernel = b.finish();
        assert_eq!(kernel.body.len(), 2);
    }
}

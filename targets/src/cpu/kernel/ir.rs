//! The kernel IR: kernels, statements, operations.
//!
//! A kernel is called as `fn(ptrs: *const *mut u8, dims: *const i64, lo: i64, hi: i64) -> i64`: `ptrs` holds one base
//! address per parameter in order of declaration, `dims` the values of the model's named dimensions, `lo..hi` the part
//! of the outermost parallel loop this call works on. It returns [`STATUS_OK`] or the status of a failed
//! [`Stmt::Guard`]. Kernels allocate nothing, call nothing and keep no state.
//!
//! Floating point: every operation rounds once, to nearest, ties to even, in its own format, except [`Op::MulAdd`].
//! Sign and payload of a NaN result are unspecified. Integers wrap.

use adze_ir::extent::{Extent, Sym};
use adze_ir::types::DType;
use adze_ir::word_enum;
use cranelift_entity::{PrimaryMap, entity_impl};

use super::types::Type;

/// Status of a call that did everything it was asked to.
pub const STATUS_OK: i64 = 0;
/// Name of the first range parameter of every kernel.
pub const LO: &str = "lo";
/// Name of the second range parameter of every kernel.
pub const HI: &str = "hi";

/// An SSA value; spelt `%n` in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(u32);
entity_impl!(Value, "%");

/// A pointer parameter; spelt by its name in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Param(u32);
entity_impl!(Param, "param");

word_enum! {
    /// What a kernel does to a parameter's memory.
    pub enum Access {
        /// Read only.
        In = "in",
        /// Written before it is read.
        Out = "out",
        /// Read and written.
        InOut = "inout",
        /// Constant data of the model; read only.
        Weight = "weight",
        /// Working memory of this call, of no value before or after; may be read and written.
        Scratch = "scratch",
    }
}

impl Access {
    /// Whether stores are allowed.
    pub fn writes(self) -> bool {
        matches!(self, Self::Out | Self::InOut | Self::Scratch)
    }
}

/// A pointer parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamDecl {
    /// Name in text.
    pub name: Sym,
    /// Element type: the unit of offsets and what is loaded (see [`super::types::Elem::of_memory`]).
    pub dtype: DType,
    /// What the kernel does to it.
    pub access: Access,
}

/// A named dimension the kernel reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DimDecl {
    /// Symbol in the kernel's extents.
    pub name: Sym,
    /// Position in the call's `dims`.
    pub slot: u32,
}

/// A kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// What it does, as a name: `gemm_f32_4x8_k256_relu6`.
    pub name: String,
    /// Pointer parameters.
    pub params: PrimaryMap<Param, ParamDecl>,
    /// Dimensions it reads.
    pub dims: Vec<DimDecl>,
    /// Type of every value.
    pub values: PrimaryMap<Value, Type>,
    /// Statements.
    pub body: Vec<Stmt>,
}

/// A memory access: `offset` elements of the parameter's dtype past its base. Needs no alignment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Addr {
    /// The parameter.
    pub param: Param,
    /// Elements past its base, over dimensions, `lo`, `hi`, loop variables and bound indices.
    pub offset: Extent,
}

/// Condition of an `if` or guard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cond {
    /// A signed comparison of two extents.
    Extent(Extent, Cmp, Extent),
    /// A scalar mask.
    Value(Value),
}

/// A block of statements that yields values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// Statements.
    pub stmts: Vec<Stmt>,
    /// Values it yields to its loop or branch.
    pub yields: Vec<Value>,
}

/// A loop: `for var in lo..hi step step`.
#[derive(Clone, Debug, PartialEq)]
pub struct For {
    /// The loop variable, a symbol inside the body.
    pub var: Sym,
    /// First value.
    pub lo: Extent,
    /// Values stay below it.
    pub hi: Extent,
    /// Distance of values; positive.
    pub step: i64,
    /// Value before the first iteration of each carried value.
    pub inits: Vec<Value>,
    /// The carried values inside the body.
    pub args: Vec<Value>,
    /// Body; yields the carried values of the next iteration.
    pub body: Block,
    /// The carried values after the last iteration (the inits when there is none).
    pub results: Vec<Value>,
}

/// A statement. Symbols and values are visible to the end of the block that defines them.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// `result = op`.
    Let {
        /// The value defined; its type is in [`Kernel::values`].
        result: Value,
        /// The operation.
        op: Op,
    },
    /// Writes every lane of `value` to consecutive elements.
    Store {
        /// Where.
        addr: Addr,
        /// What; its element is the memory form of the parameter's dtype.
        value: Value,
    },
    /// Writes only the first lanes of `value`; nothing beyond them is touched.
    StoreFirst {
        /// Where.
        addr: Addr,
        /// How many lanes: at least one, fewer than the value has.
        count: u16,
        /// What; its element is the memory form of the parameter's dtype.
        value: Value,
    },
    /// Makes a scalar `i64` a symbol of extents (such as a loaded gather index).
    Bind {
        /// The symbol.
        sym: Sym,
        /// Its value.
        value: Value,
    },
    /// A loop.
    For(Box<For>),
    /// A branch; both sides yield one value per result.
    If {
        /// Chooses the side.
        cond: Cond,
        /// Taken when the condition holds.
        then: Block,
        /// Taken otherwise.
        other: Block,
        /// What the taken side yields.
        results: Vec<Value>,
    },
    /// Returns `status` from the kernel unless the condition holds.
    Guard {
        /// Must hold to go on.
        cond: Cond,
        /// What is returned otherwise; not [`STATUS_OK`].
        status: i64,
    },
    /// Hint that the memory will be read soon.
    Prefetch {
        /// Where; may lie outside of the memory.
        addr: Addr,
    },
}

word_enum! {
    /// Operation on one value, lane by lane.
    pub enum UnOp {
        /// `-x`; flips the sign of floats, wraps integers.
        Neg = "neg",
        /// `|x|`; integers wrap at the smallest value.
        Abs = "abs",
        /// Square root (floats).
        Sqrt = "sqrt",
        /// Round towards negative infinity (floats).
        Floor = "floor",
        /// Round towards positive infinity (floats).
        Ceil = "ceil",
        /// Round towards zero (floats).
        Trunc = "trunc",
        /// Round to nearest, ties to even (floats).
        Nearest = "nearest",
        /// Flip every bit (integers), or the truth value (masks).
        Not = "not",
    }
}

word_enum! {
    /// Operation on two values of one type, lane by lane.
    pub enum BinOp {
        /// Sum (floats, integers).
        Add = "add",
        /// Difference (floats, integers).
        Sub = "sub",
        /// Product (floats, integers).
        Mul = "mul",
        /// Quotient (floats).
        Div = "div",
        /// IEEE 754-2019 `minimum`: NaN when either is, `-0 < +0`. Costs several instructions on x86-64.
        Min = "min",
        /// IEEE 754-2019 `maximum`: NaN when either is, `-0 < +0`. Costs several instructions on x86-64.
        Max = "max",
        /// `if x < y { x } else { y }` (floats): the second operand when either is NaN or both are zero. One instruction
        /// on x86-64.
        MinSel = "minsel",
        /// `if x > y { x } else { y }` (floats): the second operand when either is NaN or both are zero. `maxsel(0, x)`
        /// keeps a NaN of `x`. One instruction on x86-64.
        MaxSel = "maxsel",
        /// Signed quotient towards zero; 0 for a zero divisor, wraps for the smallest value by -1.
        DivS = "div_s",
        /// Unsigned quotient; 0 for a zero divisor.
        DivU = "div_u",
        /// Signed remainder with the sign of the dividend; 0 for a zero divisor.
        RemS = "rem_s",
        /// Unsigned remainder; 0 for a zero divisor.
        RemU = "rem_u",
        /// Signed smaller (integers).
        MinS = "min_s",
        /// Signed larger (integers).
        MaxS = "max_s",
        /// Unsigned smaller (integers).
        MinU = "min_u",
        /// Unsigned larger (integers).
        MaxU = "max_u",
        /// Bitwise and (integers, masks).
        And = "and",
        /// Bitwise or (integers, masks).
        Or = "or",
        /// Bitwise exclusive or (integers, masks).
        Xor = "xor",
    }
}

word_enum! {
    /// Shift of integer lanes.
    pub enum Shift {
        /// Left.
        Left = "shl",
        /// Right, copying the sign.
        RightS = "shr_s",
        /// Right, filling with zeros.
        RightU = "shr_u",
    }
}

word_enum! {
    /// Comparison. On floats `eq ne lt le gt ge` (only `ne` holds for NaN); on integers they are signed, the `_u` forms
    /// unsigned.
    pub enum Cmp {
        /// Equal.
        Eq = "eq",
        /// Not equal.
        Ne = "ne",
        /// Less.
        Lt = "lt",
        /// Less or equal.
        Le = "le",
        /// Greater.
        Gt = "gt",
        /// Greater or equal.
        Ge = "ge",
        /// Less, unsigned.
        LtU = "lt_u",
        /// Less or equal, unsigned.
        LeU = "le_u",
        /// Greater, unsigned.
        GtU = "gt_u",
        /// Greater or equal, unsigned.
        GeU = "ge_u",
    }
}

word_enum! {
    /// Conversion of every lane to the element of the result.
    pub enum Cvt {
        /// Sign-extend an integer or widen a mask.
        SExt = "sext",
        /// Zero-extend an integer.
        UExt = "uext",
        /// Keep the low bits of an integer, or narrow a mask.
        Wrap = "wrap",
        /// Signed integer to a narrower signed one, saturating.
        SatS = "sat_s",
        /// Signed integer to a narrower unsigned one, saturating.
        SatU = "sat_u",
        /// `f32` to `f64`.
        Promote = "promote",
        /// `f64` to `f32`.
        Demote = "demote",
        /// Signed integer (`i32`, `i64`) to float.
        FromS = "from_s",
        /// Unsigned integer (`i32`, `i64`) to float.
        FromU = "from_u",
        /// Float to signed integer (`i32`, `i64`) towards zero, saturating; NaN is 0.
        ToS = "to_s",
        /// Float to unsigned integer (`i32`, `i64`) towards zero, saturating; NaN is 0.
        ToU = "to_u",
        /// Bits of an `f16` (`i16`) to `f32`.
        FromF16 = "from_f16",
        /// `f32` to the bits of an `f16`.
        ToF16 = "to_f16",
        /// Bits of a `bf16` (`i16`) to `f32`.
        FromBf16 = "from_bf16",
        /// `f32` to the bits of a `bf16`.
        ToBf16 = "to_bf16",
        /// The same bits as another element; the total width stays, so lanes may change (little endian). A mask is all
        /// ones where true, and is true where the highest bit is set.
        Bits = "bits",
    }
}

/// An operation; operands are of the result's type unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Bits of each lane; a single entry stands for all lanes.
    Const(Vec<u64>),
    /// The value of an extent, as `i64`.
    Extent(Extent),
    /// A scalar in every lane.
    Splat(Value),
    /// Reads consecutive elements.
    Load(Addr),
    /// Reads only so many first lanes, at least one and fewer than there are; the others are zero. Nothing beyond is touched.
    LoadFirst(Addr, u16),
    /// Lane by lane.
    Un(UnOp, Value),
    /// Lane by lane.
    Bin(BinOp, Value, Value),
    /// Shifts every lane by a scalar `i32`, modulo the lane's width.
    Shift(Shift, Value, Value),
    /// `a * b + c`, rounded once.
    Fma(Value, Value, Value),
    /// `a * b + c`, rounded once or twice as the machine likes: for sums of products.
    MulAdd(Value, Value, Value),
    /// Mask of the operands' lanes.
    Cmp(Cmp, Value, Value),
    /// The second where the mask (first) is true, else the third.
    Select(Value, Value, Value),
    /// Conversion; the result's type says to what.
    Cvt(Cvt, Value),
    /// All lanes combined to a scalar: upper half with lower half until one is left. Floats: `add mul min max minsel
    /// maxsel`; integers: `add mul min_s max_s min_u max_u and or xor`; masks: `and or`.
    Reduce(BinOp, Value),
    /// One lane as a scalar.
    Extract(Value, u16),
    /// The vector with one lane replaced by a scalar.
    Insert(Value, u16, Value),
    /// Lane `i` of the result is lane `pick[i]` of both operands in a row (each of the same type; the result's lane
    /// count is that of the list).
    Shuffle(Value, Value, Vec<u16>),
    /// `acc[i] + Σ_j a[4i+j] * b[4i+j]` with `acc: i32xN` (result type), `a`, `b`: `i8x4N`; `b` is signed.
    Dot4 {
        /// Whether `a` is signed.
        a_signed: bool,
        /// `i32xN`.
        acc: Value,
        /// `i8x4N`.
        a: Value,
        /// `i8x4N`, signed.
        b: Value,
    },
}

impl Op {
    /// Calls `f` on every operand.
    pub fn for_each_operand(&self, mut f: impl FnMut(Value)) {
        match self {
            Op::Const(_) | Op::Extent(_) | Op::Load(_) | Op::LoadFirst(..) => {}
            Op::Splat(a) | Op::Un(_, a) | Op::Cvt(_, a) | Op::Reduce(_, a) | Op::Extract(a, _) => f(*a),
            Op::Bin(_, a, b) | Op::Shift(_, a, b) | Op::Cmp(_, a, b) | Op::Insert(a, _, b) | Op::Shuffle(a, b, _) => {
                f(*a);
                f(*b);
            }
            Op::Fma(a, b, c) | Op::MulAdd(a, b, c) | Op::Select(a, b, c) | Op::Dot4 { acc: a, a: b, b: c, .. } => {
                f(*a);
                f(*b);
                f(*c);
            }
        }
    }
}

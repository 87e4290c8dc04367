//! What the kernel families share: the parameters of a kernel, the anchor of a leaf and the epilogues behind it.

use adze_ir::extent::Extent;
use adze_ir::ops::{BodyRef, BodyStep, Op};
use adze_ir::types::DType;

use super::operand::{LeafCx, Lowered, Operand, PackedWeight, PtrRole, Unsupported};
use crate::cpu::kernel::{Access, Elem, KernelBuilder, Param};

/// The kernel of a leaf while it is written: its builder and what its pointers are bound to.
pub(super) struct Leaf<'a> {
    /// What is lowered.
    pub cx: &'a LeafCx<'a>,
    /// The code so far.
    pub b: KernelBuilder,
    roles: Vec<PtrRole>,
}

/// A tensor that a kernel reads or writes.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// Its pointer.
    pub param: Param,
    /// Elements from the pointer to index 0.
    pub base: Extent,
}

impl<'a> Leaf<'a> {
    /// Starts a kernel that knows every symbol of the leaf's operands.
    pub fn new(cx: &'a LeafCx<'a>, name: &str) -> Self {
        let b = cx.builder(name);
        Self { cx, b, roles: Vec::new() }
    }

    /// A parameter for the leaf's operand of that position, which must be present.
    pub fn input(&mut self, index: usize) -> Result<Stream, Unsupported> {
        let operand = input(self.cx, index)?;
        let param = self.b.param(&format!("in{index}_{}", self.roles.len()), operand.dtype, Access::In);
        self.roles.push(PtrRole::Input(index));
        Ok(Stream { param, base: operand.offset.clone() })
    }

    /// A parameter for the leaf's result of that position.
    pub fn output(&mut self, index: usize) -> Result<Stream, Unsupported> {
        self.result(index, Access::Out)
    }

    /// [`Leaf::output`] with what the kernel does to it.
    pub fn result(&mut self, index: usize, access: Access) -> Result<Stream, Unsupported> {
        let operand = output(self.cx, index)?;
        let param = self.b.param(&format!("out{index}"), operand.dtype, access);
        self.roles.push(PtrRole::Output(index));
        Ok(Stream { param, base: operand.offset.clone() })
    }

    /// A parameter for constant data.
    pub fn packed(&mut self, weight: PackedWeight) -> Stream {
        let param = self.b.param(&format!("w{}", self.roles.len()), weight.data.dtype(), Access::Weight);
        self.roles.push(PtrRole::Packed(weight));
        Stream { param, base: Extent::ZERO }
    }

    /// A parameter for working memory of `elems` elements per thread.
    pub fn scratch(&mut self, dtype: DType, elems: Extent) -> Stream {
        let param = self.b.param(&format!("tmp{}", self.roles.len()), dtype, Access::Scratch);
        let bytes = elems * i64::from(dtype.bits().div_ceil(8)).into();
        self.roles.push(PtrRole::Scratch(bytes));
        Stream { param, base: Extent::ZERO }
    }

    /// The finished kernel over `0..range`.
    pub fn finish(self, range: Extent) -> Lowered {
        Lowered { kernel: self.b.finish(), pointers: self.roles, range }
    }
}

/// The operand of that position.
pub(super) fn input<'a>(cx: &LeafCx<'a>, index: usize) -> Result<&'a Operand, Unsupported> {
    let missing = || unsupported(format!("input {index} left out"), "a value");
    cx.inputs.get(index).and_then(Option::as_ref).ok_or_else(missing)
}

/// The result of that position.
pub(super) fn output<'a>(cx: &LeafCx<'a>, index: usize) -> Result<&'a Operand, Unsupported> {
    cx.outputs.get(index).ok_or_else(|| unsupported(format!("no result {index}"), "a result"))
}

/// Shorthand for the error.
pub(super) fn unsupported(found: impl Into<String>, accepted: impl Into<String>) -> Unsupported {
    Unsupported { found: found.into(), accepted: accepted.into() }
}

/// A leaf taken apart: the operator that decides the kernel, and what happens to its result in registers.
pub(super) struct Anchor<'a> {
    /// The operator.
    pub op: &'a Op,
    /// Positions of its operands among the leaf's.
    pub inputs: Vec<Option<usize>>,
    /// The steps after it.
    pub epilogues: &'a [BodyStep],
}

impl<'a> Anchor<'a> {
    /// Takes a leaf apart.
    pub fn of(cx: &LeafCx<'a>) -> Result<Self, Unsupported> {
        let Op::Fused(fused) = cx.op else {
            let inputs = cx.inputs.iter().enumerate().map(|(i, operand)| operand.as_ref().map(|_| i)).collect();
            return Ok(Self { op: cx.op, inputs, epilogues: &[] });
        };
        let position = |r: &Option<BodyRef>| match r {
            None => Ok(None),
            Some(BodyRef::Param(index)) => Ok(Some(*index as usize)),
            Some(BodyRef::Step(_)) => Err(unsupported("an anchor that reads a step", "operands of the fusion")),
        };
        let Some(anchor) = fused.steps.first() else { return Err(unsupported("an empty fusion", "one step or more")) };
        let inputs = anchor.inputs.iter().map(position).collect::<Result<_, _>>()?;
        Ok(Self { op: &anchor.op, inputs, epilogues: &fused.steps[1..] })
    }

    /// Position among the leaf's operands of the anchor's operand, if it is there.
    pub fn position(&self, index: usize) -> Option<usize> {
        self.inputs.get(index).copied().flatten()
    }

    /// Position among the leaf's operands of an operand that has to be there.
    pub fn need(&self, index: usize) -> Result<usize, Unsupported> {
        self.position(index).ok_or_else(|| unsupported(format!("operand {index} left out"), "a value"))
    }
}

/// The element that a family computes in.
pub(super) fn compute_elem(dtype: DType) -> Result<Elem, Unsupported> {
    Ok(match dtype {
        DType::F16 | DType::Bf16 | DType::F32 => Elem::F32,
        DType::F64 => Elem::F64,
        DType::I32 | DType::U32 => Elem::I32,
        DType::I64 | DType::U64 => Elem::I64,
        other => return Err(unsupported(format!("dtype {other}"), "f16, bf16, f32, f64, i32, u32, i64 or u64")),
    })
}

/// The dtype in memory of a compute element.
pub(super) fn elem_dtype(elem: Elem) -> DType {
    match elem {
        Elem::F64 => DType::F64,
        Elem::I32 => DType::I32,
        Elem::I64 => DType::I64,
        _ => DType::F32,
    }
}

/// Lanes of that element in a vector register of the machine; 1 without vectors.
pub(super) fn lanes_of(cx: &LeafCx<'_>, elem: Elem) -> u16 {
    u16::try_from((cx.machine.vector_bytes / elem.bytes()).max(1)).unwrap_or(1)
}

/// Strides of an operand that broadcasts to `shape`, one per axis of `shape`.
pub(super) fn broadcast_strides(operand: &Operand, shape: &[Extent]) -> Result<Vec<Extent>, Unsupported> {
    let Some(missing) = shape.len().checked_sub(operand.rank()) else {
        return Err(unsupported(
            format!("operand of rank {}", operand.rank()),
            format!("rank {} or less", shape.len()),
        ));
    };
    let mut strides = vec![Extent::ZERO; missing];
    for (axis, extent) in operand.shape.iter().enumerate() {
        let want = &shape[missing + axis];
        strides.push(match extent {
            e if *e == Extent::ONE => Extent::ZERO,
            e if e == want => operand.strides[axis].clone(),
            e => return Err(unsupported(format!("extent {e} against {want}"), "equal extents, or 1")),
        });
    }
    Ok(strides)
}

/// One loop of a kernel: how far it goes and how far each stream moves per index.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Number of indices.
    pub extent: Extent,
    /// Elements per index, one per stream.
    pub strides: Vec<Extent>,
}

impl Axis {
    /// Whether `self` (outer) followed by `inner` is one long axis for every stream.
    fn joins(&self, inner: &Axis) -> bool {
        let step = |s: &Extent| s.clone() * inner.extent.clone();
        self.strides.iter().zip(&inner.strides).all(|(outer, inner)| *outer == step(inner))
    }
}

/// Joins neighbouring axes that every stream walks as one, and drops axes of extent 1.
pub(super) fn join_axes(axes: Vec<Axis>) -> Vec<Axis> {
    let mut joined: Vec<Axis> = Vec::new();
    for axis in axes {
        if axis.extent == Extent::ONE {
            continue;
        }
        match joined.last_mut() {
            Some(outer) if outer.joins(&axis) => {
                *outer = Axis { extent: outer.extent.clone() * axis.extent, strides: axis.strides };
            }
            _ => joined.push(axis),
        }
    }
    joined
}

/// The flat index `flat` of axes with these counts, taken apart; counts of 1 give the constant 0.
pub(super) fn decode(b: &mut KernelBuilder, flat: Extent, counts: &[Extent]) -> Vec<Extent> {
    let mut indices = vec![Extent::ZERO; counts.len()];
    let last = counts.iter().position(|c| *c != Extent::ONE);
    let mut rest = flat;
    for (axis, count) in counts.iter().enumerate().rev() {
        if *count == Extent::ONE {
            continue;
        }
        if last == Some(axis) {
            indices[axis] = rest.clone();
            break;
        }
        let quotient = bind(b, rest.floordiv(count));
        indices[axis] = bind(b, rest - quotient.clone() * count.clone());
        rest = quotient;
    }
    indices
}

/// The extent as a symbol, computed here once; constants and symbols stay.
pub(super) fn bind(b: &mut KernelBuilder, extent: Extent) -> Extent {
    if extent.as_const().is_some() || extent.as_sym().is_some() {
        return extent;
    }
    let value = b.extent(extent);
    b.index(value)
}

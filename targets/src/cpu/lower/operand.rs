//! What a kernel family is given and what it returns.

use adze_ir::attrs::F64;
use std::collections::BTreeSet;

use adze_ir::extent::{Dims, Extent};
use adze_ir::ops::Op;
use adze_ir::propose::Schedule;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use crate::cpu::kernel::{Kernel, KernelBuilder};

/// A tensor in memory as a leaf sees it: element `i` lies `offset + Σ i[a] · strides[a]` elements past the pointer.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// Element type.
    pub dtype: DType,
    /// Logical shape of the view.
    pub shape: Vec<Extent>,
    /// Elements from one index to the next, per logical axis; 0 where the view repeats itself.
    pub strides: Vec<Extent>,
    /// Elements from the pointer to index 0, over dimensions and tile-loop variables. With [`Bounds`] it may lie outside.
    pub offset: Extent,
    /// Where the view may reach beyond its buffer; `None` when it lies inside.
    pub bounds: Option<Bounds>,
    /// The value, when it is a constant whose bytes are known at compile time.
    pub constant: Option<Tensor>,
}

/// The part of a view that exists: along axis `a`, indices `i` with `0 <= starts[a] + i < limits[a]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// Position of index 0 in the buffer, per axis; negative in the padding before.
    pub starts: Vec<Extent>,
    /// Extent of the buffer, per axis.
    pub limits: Vec<Extent>,
    /// What is read elsewhere.
    pub fill: F64,
}

impl Operand {
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Whether the elements lie one after the other in row-major order.
    pub fn is_dense(&self) -> bool {
        let mut step = Extent::ONE;
        for (extent, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *extent != Extent::ONE && *stride != step {
                return false;
            }
            step = step * extent.clone();
        }
        true
    }
}

/// A leaf with all that its lowering may depend on.
pub struct LeafCx<'a> {
    /// The operator; extents among its attributes may mention dimensions.
    pub op: &'a Op,
    /// Its operands; `None` where an optional one is left out.
    pub inputs: &'a [Option<Operand>],
    /// Its results.
    pub outputs: &'a [Operand],
    /// Ranges of the named dimensions and tile-loop variables. Kernels find the value of each in the array they are
    /// given, at its position in this map.
    pub dims: &'a Dims,
    /// The machine.
    pub machine: &'a crate::cpu::Machine,
    /// How it is computed, where that was chosen: one of [`super::schedules`].
    pub schedule: Option<&'a Schedule>,
}

impl LeafCx<'_> {
    /// A builder that knows the dimensions which the leaf's operands and attributes mention.
    pub fn builder(&self, name: &str) -> KernelBuilder {
        let mut symbols = BTreeSet::new();
        for operand in self.inputs.iter().flatten().chain(self.outputs) {
            let bounds = operand.bounds.iter().flat_map(|b| b.starts.iter().chain(&b.limits));
            let extents = operand.shape.iter().chain(&operand.strides).chain([&operand.offset]).chain(bounds);
            extents.for_each(|extent| extent.symbols(&mut symbols));
        }
        // Never fails: the map only looks.
        let _ = self.op.map_extents(&mut |extent: &Extent| {
            extent.symbols(&mut symbols);
            Ok::<_, std::convert::Infallible>(extent.clone())
        });
        let mut builder = KernelBuilder::new(name);
        for (slot, name) in self.dims.keys().enumerate() {
            if symbols.contains(name) {
                builder.dim(name, u32::try_from(slot).expect("few dimensions"));
            }
        }
        builder
    }
}

/// What a pointer parameter of a kernel is bound to, in order of the kernel's parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum PtrRole {
    /// The leaf's operand of that position.
    Input(usize),
    /// The leaf's result of that position.
    Output(usize),
    /// Constant data made at compile time.
    Packed(PackedWeight),
    /// Working memory of that many bytes, one piece per thread.
    Scratch(Extent),
}

/// Constant data in the order a kernel reads it, and the elements it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedWeight {
    /// What was done, for reports: `pack_kn16`.
    pub transform: String,
    /// The data.
    pub data: Tensor,
}

impl PackedWeight {
    /// Bytes of the data, which are not made for this.
    pub fn bytes(&self) -> usize {
        self.data.dtype().bytes_for(self.data.elems())
    }
}

/// One kernel of a lowered leaf.
#[derive(Clone, Debug, PartialEq)]
pub struct Lowered {
    /// The code.
    pub kernel: Kernel,
    /// What each parameter points to.
    pub pointers: Vec<PtrRole>,
    /// End of the tile range, which starts at 0: the threads share it.
    pub range: Extent,
}

/// Why a leaf has no kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, accepted: {accepted}")]
pub struct Unsupported {
    /// What the model has.
    pub found: String,
    /// What has a kernel.
    pub accepted: String,
}

//! What an operator function sees of the node it imports: operands, attributes, and a way to emit our operators.

use std::sync::Arc;

use adze_ir::attrs::F64;
use adze_ir::extent::{Dims, Extent};
use adze_ir::loc::Loc;
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, Shape, TensorType};
use onnx_protobuf::NodeProto;

use super::attrs::Attrs;
use super::error::Fault;
use super::import::Importer;
use super::value::Value;

/// A node being imported.
pub(super) struct NodeCx<'i, 'a> {
    pub(super) importer: &'i mut Importer<'a>,
    pub(super) node: &'a NodeProto,
    pub(super) attrs: Attrs<'a>,
    pub(super) inputs: Vec<Option<Value>>,
    /// Version of the operator's domain.
    pub(super) opset: i64,
    pub(super) loc: Loc,
    /// Set when a branch lacks a result because of a fault that is already noted.
    pub(super) missing: bool,
}

/// What an operator function gives: the values of the node's results, in order.
pub(super) type Outputs = Result<Vec<Value>, Fault>;

impl<'a> NodeCx<'_, 'a> {
    /// The operand at a position, if it is there.
    pub(super) fn opt(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index).and_then(Option::as_ref)
    }

    /// The operand at a position.
    pub(super) fn input(&self, index: usize) -> Result<Value, Fault> {
        self.opt(index).cloned().ok_or_else(|| Fault::model(format!("input {index} left out"), "a value"))
    }

    /// Refuses operands past those that the operator function reads.
    pub(super) fn at_most(&self, count: usize) -> Result<(), Fault> {
        match self.inputs.iter().skip(count).position(Option::is_some) {
            None => Ok(()),
            Some(extra) => {
                Err(Fault::unsupported(format!("input {}", count + extra), format!("{count} inputs at most")))
            }
        }
    }

    /// Whether the node wants the result at a position.
    pub(super) fn wants(&self, index: usize) -> bool {
        self.node.output.get(index).is_some_and(|name| !name.is_empty())
    }

    /// Refuses a result that our operator does not give.
    pub(super) fn at_most_outputs(&self, count: usize) -> Result<(), Fault> {
        match (count..self.node.output.len()).find(|&index| self.wants(index)) {
            None => Ok(()),
            Some(extra) => Err(Fault::unsupported(format!("result {extra}"), format!("{count} results at most"))),
        }
    }

    /// The integers of an operand that must be known at import, if it is there.
    pub(super) fn opt_extents(&self, index: usize) -> Result<Option<Vec<Extent>>, Fault> {
        let Some(value) = self.opt(index) else { return Ok(None) };
        value.as_extents().map(Some).ok_or_else(|| {
            let found = format!("input {index} ({}) computed at run time", value.ty);
            Fault::unsupported(found, "a constant, or integers computed from shapes")
        })
    }

    /// The integers of an operand that must be known at import.
    pub(super) fn extents(&self, index: usize) -> Result<Vec<Extent>, Fault> {
        self.input(index)?;
        self.opt_extents(index).map(Option::unwrap_or_default)
    }

    /// The integers of an operand that must be constant, if it is there.
    pub(super) fn opt_ints(&self, index: usize) -> Result<Option<Vec<i64>>, Fault> {
        let Some(values) = self.opt_extents(index)? else { return Ok(None) };
        let constants: Option<Vec<i64>> = values.iter().map(Extent::as_const).collect();
        constants.map(Some).ok_or_else(|| {
            let found = values.iter().find(|v| v.as_const().is_none()).map(Extent::to_string).unwrap_or_default();
            Fault::unsupported(format!("input {index} depends on a dimension: {found}"), "a constant")
        })
    }

    /// The one constant integer of an operand.
    pub(super) fn int(&self, index: usize) -> Result<i64, Fault> {
        self.input(index)?;
        match self.opt_ints(index)?.as_deref() {
            Some(&[value]) => Ok(value),
            other => Err(Fault::model(format!("input {index} with {} elements", other.map_or(0, <[i64]>::len)), "one")),
        }
    }

    /// An operand that must be constant, if it is there.
    pub(super) fn opt_tensor(&self, index: usize) -> Result<Option<Tensor>, Fault> {
        let Some(value) = self.opt(index) else { return Ok(None) };
        let found = || Fault::unsupported(format!("input {index} ({}) computed at run time", value.ty), "a constant");
        value.as_tensor().cloned().map(Some).ok_or_else(found)
    }

    /// The one constant number of an operand, if it is there.
    pub(super) fn opt_number(&self, index: usize) -> Result<Option<f64>, Fault> {
        let Some(tensor) = self.opt_tensor(index)? else { return Ok(None) };
        if tensor.elems() != 1 {
            return Err(Fault::model(format!("input {index} with {} elements", tensor.elems()), "one"));
        }
        Ok(tensor.to_f64().first().copied())
    }

    /// A float attribute as our operators keep it.
    pub(super) fn f64(&self, name: &'static str, default: f32) -> Result<F64, Fault> {
        Ok(self.attrs.float(name)?.unwrap_or(default).into())
    }

    /// The ranges of named dimensions.
    pub(super) fn dims(&self) -> &Dims {
        &self.importer.graph.dims
    }

    /// Applies an operator whose operands are all there and that has one result.
    pub(super) fn emit1(&mut self, op: impl Into<Op>, inputs: &[&Value]) -> Result<Value, Fault> {
        let inputs: Vec<Option<&Value>> = inputs.iter().map(|&value| Some(value)).collect();
        let mut results = self.emit(op, &inputs)?;
        match (results.pop(), results.is_empty()) {
            (Some(value), true) => Ok(value),
            _ => Err(Fault::bug("an operator that should have one result")),
        }
    }

    /// Applies an operator.
    pub(super) fn emit(&mut self, op: impl Into<Op>, inputs: &[Option<&Value>]) -> Outputs {
        self.importer.emit(&op.into(), inputs, &self.loc)
    }

    /// A scalar constant.
    pub(super) fn scalar(&self, dtype: DType, value: f64) -> Value {
        Value::tensor(Tensor::from_f64(dtype, &[], &[value]), "", self.loc.clone())
    }

    /// A constant that an operator is made with.
    pub(super) fn made(&mut self, dtype: DType, shape: &[usize], values: &[f64]) -> Result<Value, Fault> {
        let tensor = Tensor::from_f64(dtype, shape, values);
        self.importer.count_folded(tensor.bytes().len())?;
        Ok(Value::tensor(tensor, "", self.loc.clone()))
    }

    /// Integers as an `i64` value, known at import.
    pub(super) fn shape_value(&self, shape: &[usize], values: Vec<Extent>) -> Value {
        let name: Arc<str> = self.node.output.first().map_or("", String::as_str).into();
        Value::extents(DType::I64, shape, values, &name, self.loc.clone())
    }

    /// The operand under another shape of equal size; itself when the shape is the same.
    pub(super) fn reshape(&mut self, value: &Value, shape: Shape) -> Result<Value, Fault> {
        if value.ty.shape == shape {
            return Ok(value.clone());
        }
        self.emit1(adze_ir::ops::Reshape { shape }, &[value])
    }
}

/// A non-negative axis below `rank`.
pub(super) fn axis_in(axis: i64, rank: usize) -> Result<usize, Fault> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let resolved = if axis < 0 { axis.checked_add(signed).unwrap_or(-1) } else { axis };
    match usize::try_from(resolved) {
        Ok(resolved) if resolved < rank => Ok(resolved),
        _ => Err(Fault::model(format!("axis {axis}"), format!("an axis of rank {rank}"))),
    }
}

/// Distinct non-negative axes below `rank`, in the given order.
pub(super) fn axes_in(axes: &[i64], rank: usize) -> Result<Vec<usize>, Fault> {
    let mut resolved = Vec::with_capacity(axes.len().min(rank));
    for &axis in axes {
        let axis = axis_in(axis, rank)?;
        if resolved.contains(&axis) {
            return Err(Fault::model(format!("axis {axis} twice"), "distinct axes"));
        }
        resolved.push(axis);
    }
    Ok(resolved)
}

/// The type's constant extent along an axis.
pub(super) fn fixed_dim(ty: &TensorType, axis: usize) -> Result<i64, Fault> {
    let dim = ty.shape.get(axis).ok_or_else(|| Fault::model(format!("rank {}", ty.rank()), format!("over {axis}")))?;
    dim.as_const().ok_or_else(|| {
        Fault::unsupported(
            format!("dimension {axis} = {dim}"),
            "a fixed dimension here: bind it with `--dim` or `--shape`",
        )
    })
}

//! Values without operands: constants, symbolic integers, ranges.

use super::shape::{attribute, concrete, constant, need_extent};
use super::{EvalError, OpDef, Operands, TypeError, op};

use crate::attrs::{AttrValue, Attribute};
use crate::extent::Extent;
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// Index of a constant in the table of its graph or program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConstId(u32);
cranelift_entity::entity_impl!(ConstId, "const");

impl Attribute for ConstId {
    const ACCEPTS: &'static str = "the number of a constant";
    fn to_attr(&self) -> Option<AttrValue> {
        i64::from(self.0).to_attr()
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        i64::from_attr(value).and_then(|v| u32::try_from(v).ok()).map(ConstId::from_u32)
    }
}

op! {
    /// A constant of the graph's table; its type comes from there, so the type rule and evaluation live with the graph.
    pub struct Constant = "constant" (0..=0) {
        /// Which one.
        id: ConstId,
    }
}

op! {
    /// Integers that depend on named dimensions: what shape arithmetic leaves behind where a tensor is needed.
    ///
    /// - result: `dtype[len(values)]`, or `dtype[]` when `scalar`.
    pub struct ExtentValue = "extents" (0..=0) {
        /// The values.
        values: Vec<Extent>,
        /// Rank 0 instead of rank 1; then there is one value.
        scalar: bool,
        /// Integer dtype of the result.
        dtype: DType,
    }
}

op! {
    /// `start, start + step, ...`: `dtype[count]`.
    ///
    /// Source: ONNX `Range` (opset 11) with operands known from shape arithmetic.
    pub struct Iota = "iota" (0..=0) {
        /// First value.
        start: Extent,
        /// Difference of neighbours.
        step: Extent,
        /// Number of values.
        count: Extent,
        /// Integer or floating dtype of the result.
        dtype: DType,
    }
}

impl OpDef for Constant {
    /// Refuses: the type stands in the graph's table, so [`crate::graph::Graph::infer`] answers before it comes here.
    fn infer(&self, _: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        Err(attribute("id", self.id, "a constant asked for through its graph, whose table holds the type"))
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let _ = inputs;
        Err(attribute("id", self.id, "a constant asked for through its graph, whose table holds the value").into())
    }
}

impl OpDef for ExtentValue {
    fn infer(&self, _: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        if !self.dtype.is_int() {
            return Err(attribute("dtype", self.dtype, "an integer dtype"));
        }
        if self.scalar && self.values.len() != 1 {
            return Err(attribute("values", format!("{} values", self.values.len()), "one value for a scalar"));
        }
        let shape = if self.scalar { Shape::new() } else { vec![self.values.len().into()] };
        Ok(vec![TensorType::new(self.dtype, shape)])
    }

    fn eval(&self, _: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let values: Result<Vec<i128>, EvalError> = self.values.iter().map(|v| constant(v).map(i128::from)).collect();
        Ok(vec![exact_ints(self.dtype, &concrete(&types[0])?, &values?)?])
    }
}

impl OpDef for Iota {
    fn infer(&self, _: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        if self.dtype == DType::Bool {
            return Err(attribute("dtype", self.dtype, "an integer or floating-point dtype"));
        }
        need_extent("count", &self.count)?;
        Ok(vec![TensorType::new(self.dtype, vec![self.count.clone()])])
    }

    fn eval(&self, _: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (start, step) = (i128::from(constant(&self.start)?), i128::from(constant(&self.step)?));
        let shape = concrete(&types[0])?;
        let values: Vec<i128> = (0..shape[0]).map(|i| start + step * i as i128).collect();
        Ok(vec![exact_ints(self.dtype, &shape, &values)?])
    }
}

/// Integers as a tensor, refusing what an integer dtype cannot hold; floats are rounded to nearest even.
fn exact_ints(dtype: DType, shape: &[usize], values: &[i128]) -> Result<Tensor, EvalError> {
    if let Some((lo, hi)) = dtype.int_range()
        && let Some(value) = values.iter().find(|v| !(lo..=hi).contains(v))
    {
        return Err(EvalError::Value(format!("value {value} is out of the range {lo}..={hi} of {dtype}")));
    }
    Ok(Tensor::from_ints(dtype, shape, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;

    fn eval(op: impl Into<Op>, dims: &dyn Fn(&str) -> Option<i64>) -> Result<Tensor, EvalError> {
        op.into().eval(&[], dims).map(|mut results| results.remove(0))
    }

    #[test]
    fn extents_and_ranges() {
        let n = |name: &str| (name == "n").then_some(5);
        let values = vec![Extent::sym("n") + 1.into(), 2.into()];
        let op = ExtentValue { values: values.clone(), scalar: false, dtype: DType::I64 };
        assert_eq!(eval(op.clone(), &n), Ok(Tensor::vec_i64(&[6, 2])));
        assert!(matches!(eval(op, &|_| None), Err(EvalError::UnboundDim(_))));
        assert!(Op::from(ExtentValue { values, scalar: true, dtype: DType::I64 }).infer(&[]).is_err());
        let scalar = ExtentValue { values: vec![300.into()], scalar: true, dtype: DType::I32 };
        assert_eq!(eval(scalar.clone(), &n).map(|t| (t.shape().to_vec(), t.to_i64())), Ok((vec![], vec![300])));
        let narrow = ExtentValue { dtype: DType::U8, ..scalar };
        assert!(matches!(eval(narrow, &n), Err(EvalError::Value(text)) if text.contains("300") && text.contains("u8")));
        let iota = Iota { start: 3.into(), step: (-2).into(), count: Extent::sym("n"), dtype: DType::F32 };
        assert_eq!(eval(iota.clone(), &n), Ok(Tensor::from_f32(&[5], &[3.0, 1.0, -1.0, -3.0, -5.0])));
        assert_eq!(eval(iota.clone(), &|_| Some(0)).map(|t| t.elems()), Ok(0));
        assert!(eval(iota, &|_| Some(-1)).is_err());
    }

    #[test]
    fn constants_are_the_graphs_business() {
        let op = Op::from(Constant { id: ConstId::from_u32(3) });
        assert!(op.infer(&[]).is_err_and(|e| e.to_string().contains("const3")));
    }
}

//! Operators whose type rule and evaluation are still to be written; shrinks to nothing.

use super::{EvalError, OpDef, Operands, TypeError};
use crate::tensor::Tensor;
use crate::types::TensorType;

macro_rules! pending {
    ($($Name:ident),* $(,)?) => { $(
        impl OpDef for super::$Name {
            fn infer(&self, _: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
                Err(TypeError::Arity { found: stringify!($Name).into(), accepted: "an operator that is written".into() })
            }
            fn eval(&self, _: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
                Err(EvalError::Value(concat!(stringify!($Name), " is not written yet").into()))
            }
        }
    )* };
}

pending! {
    Constant,
    ExtentValue,
    Iota,
    Clip,
    LeakyRelu,
    Elu,
    Celu,
    Selu,
    HardSigmoid,
    Gelu,
    Swish,
    ThresholdedRelu,
    Shrink,
    IsInf,
    PRelu,
    Cast,
    Where,
    Softmax,
    LogSoftmax,
    Hardmax,
    BatchNorm,
    LayerNorm,
    RmsNorm,
    InstanceNorm,
    GroupNorm,
    LpNorm,
    Lrn,
    Reshape,
    Transpose,
    Slice,
    Concat,
    Split,
    Pad,
    Expand,
    Tile,
    Relayout,
    DepthToSpace,
    SpaceToDepth,
    Trilu,
    Gather,
    GatherElements,
    GatherNd,
    ScatterElements,
    ScatterNd,
    OneHot,
    Resize,
    Quantize,
    Dequantize,
    DynamicQuantize,
    MatMulInteger,
    ConvInteger,
    QLinearConv,
    QLinearMatMul,
    Lstm,
    Gru,
    Rnn,
    Attention,
    RotaryEmbedding,
}

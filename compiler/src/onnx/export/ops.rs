//! One ONNX node, or the few that mean the same, for each operator.

use adze_ir::attrs::F64;
use adze_ir::extent::Extent;
use adze_ir::graph::Node;
use adze_ir::ops::*;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use onnx_protobuf::AttributeProto;
use onnx_protobuf::attribute_proto::AttributeType;

use super::super::tensor::elem_type_of;
use super::{Exporter, attribute, cells, int, ints, string};
use crate::error::Error;

pub(super) type Attributes = Vec<AttributeProto>;

/// A float attribute. ONNX keeps them in 32 bits, as they were when they were read.
#[expect(clippy::as_conversions, reason = "rounds to the width of the format")]
pub(super) fn float(name: &str, value: F64) -> AttributeProto {
    AttributeProto { f: value.get() as f32, ..attribute(name, AttributeType::FLOAT) }
}

pub(super) fn flag(name: &str, value: bool) -> AttributeProto {
    int(name, i64::from(value))
}

pub(super) fn index(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn axes(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&v| index(v)).collect()
}

/// Adds the nodes of one operator.
pub(super) fn export(cx: &mut Exporter<'_>, node: &Node) -> Result<(), Error> {
    let inputs: Vec<String> = node.inputs.iter().map(|v| v.map_or_else(String::new, |v| cx.name(v))).collect();
    let outputs: Vec<String> = node.outputs.iter().map(|&v| cx.name(v)).collect();
    let mut plain = |op: &str, attributes: Attributes| {
        cx.emit(op, &inputs, &outputs, attributes);
        Ok(())
    };
    match &node.op {
        Op::Constant(_) => Err(Error::Bug("constants are initializers".into())),
        Op::Unary(op) => plain(unary_name(op.function), Vec::new()),
        Op::Binary(op) => binary(cx, op.function, &inputs, &outputs),
        Op::Where(_) => plain("Where", Vec::new()),
        Op::Cast(op) => plain("Cast", vec![int("to", elem_type_of(op.to).into())]),
        Op::LeakyRelu(op) => plain("LeakyRelu", vec![float("alpha", op.alpha)]),
        Op::Elu(op) => plain("Elu", vec![float("alpha", op.alpha)]),
        Op::Celu(op) => plain("Celu", vec![float("alpha", op.alpha)]),
        Op::Selu(op) => plain("Selu", vec![float("alpha", op.alpha), float("gamma", op.gamma)]),
        Op::HardSigmoid(op) => plain("HardSigmoid", vec![float("alpha", op.alpha), float("beta", op.beta)]),
        Op::Gelu(op) => plain("Gelu", vec![string("approximate", if op.tanh { "tanh" } else { "none" })]),
        Op::ThresholdedRelu(op) => plain("ThresholdedRelu", vec![float("alpha", op.alpha)]),
        Op::Shrink(op) => plain("Shrink", vec![float("bias", op.bias), float("lambd", op.lambd)]),
        Op::IsInf(op) => {
            let (positive, negative) = (!op.ignore_positive, !op.ignore_negative);
            plain("IsInf", vec![flag("detect_positive", positive), flag("detect_negative", negative)])
        }
        Op::PRelu(_) => plain("PRelu", Vec::new()),
        Op::Conv(op) => plain("Conv", window(&op.strides, &op.pads, &op.dilations, op.group)),
        // The same function; ONNX does not say how it is computed.
        Op::WinogradConv(op) => {
            let conv = op.conv();
            plain("Conv", window(&conv.strides, &conv.pads, &conv.dilations, conv.group))
        }
        Op::ConvTranspose(op) => {
            let mut attributes = window(&op.strides, &op.pads, &op.dilations, op.group);
            attributes.push(ints("output_padding", &op.output_padding));
            plain("ConvTranspose", attributes)
        }
        Op::Gemm(op) => plain(
            "Gemm",
            vec![
                float("alpha", op.alpha),
                float("beta", op.beta),
                flag("transA", op.trans_a),
                flag("transB", op.trans_b),
            ],
        ),
        Op::Einsum(op) => plain("Einsum", vec![string("equation", &op.equation)]),
        Op::MaxPool(op) => plain("MaxPool", pool(&op.kernel, &op.strides, &op.pads, &op.dilations)),
        Op::AveragePool(op) => {
            let mut attributes = pool(&op.kernel, &op.strides, &op.pads, &op.dilations);
            attributes.push(flag("count_include_pad", op.count_include_pad));
            attributes.push(flag("ceil_mode", op.ceil_pads.iter().any(|&p| p != 0)));
            plain("AveragePool", attributes)
        }
        Op::LpPool(op) => {
            let mut attributes = pool(&op.kernel, &op.strides, &op.pads, &op.dilations);
            attributes.push(int("p", op.p));
            plain("LpPool", attributes)
        }
        Op::ArgReduce(op) => {
            let name = if op.function == ReduceFn::Max { "ArgMax" } else { "ArgMin" };
            let attributes =
                vec![int("axis", index(op.axis)), flag("keepdims", op.keep_dims), flag("select_last_index", op.last)];
            plain(name, attributes)
        }
        Op::BatchNorm(op) => plain("BatchNormalization", vec![float("epsilon", op.epsilon)]),
        Op::LayerNorm(op) => {
            plain("LayerNormalization", vec![int("axis", index(op.axis)), float("epsilon", op.epsilon)])
        }
        Op::InstanceNorm(op) => plain("InstanceNormalization", vec![float("epsilon", op.epsilon)]),
        Op::GroupNorm(op) => {
            plain("GroupNormalization", vec![float("epsilon", op.epsilon), int("num_groups", op.groups)])
        }
        Op::LpNorm(op) => plain("LpNormalization", vec![int("axis", index(op.axis)), int("p", op.p)]),
        Op::Lrn(op) => plain(
            "LRN",
            vec![float("alpha", op.alpha), float("beta", op.beta), float("bias", op.bias), int("size", op.size)],
        ),
        Op::Transpose(op) => plain("Transpose", vec![ints("perm", &axes(&op.perm))]),
        Op::Concat(op) => plain("Concat", vec![int("axis", index(op.axis))]),
        Op::Relayout(_) => plain("Identity", Vec::new()),
        Op::DepthToSpace(op) => {
            let mode = if op.crd { "CRD" } else { "DCR" };
            plain("DepthToSpace", vec![int("blocksize", op.block), string("mode", mode)])
        }
        Op::SpaceToDepth(op) if !op.crd => plain("SpaceToDepth", vec![int("blocksize", op.block)]),
        Op::Gather(op) => plain("Gather", vec![int("axis", index(op.axis))]),
        Op::GatherElements(op) => plain("GatherElements", vec![int("axis", index(op.axis))]),
        Op::GatherNd(op) => plain("GatherND", vec![int("batch_dims", index(op.batch_dims))]),
        Op::ScatterElements(op) => {
            plain("ScatterElements", vec![int("axis", index(op.axis)), string("reduction", op.function.name())])
        }
        Op::ScatterNd(op) => plain("ScatterND", vec![string("reduction", op.function.name())]),
        Op::Quantize(op) => {
            let mut attributes = vec![int("axis", index(op.axis)), int("block_size", index(op.block))];
            attributes.push(int("output_dtype", elem_type_of(op.to).into()));
            plain("QuantizeLinear", attributes)
        }
        Op::Dequantize(op) => {
            plain("DequantizeLinear", vec![int("axis", index(op.axis)), int("block_size", index(op.block))])
        }
        Op::DynamicQuantize(_) => plain("DynamicQuantizeLinear", Vec::new()),
        Op::MatMulInteger(_) => plain("MatMulInteger", Vec::new()),
        Op::ConvInteger(op) => plain("ConvInteger", window(&op.strides, &op.pads, &op.dilations, op.group)),
        Op::QLinearConv(op) => plain("QLinearConv", window(&op.strides, &op.pads, &op.dilations, op.group)),
        Op::QLinearMatMul(_) if node.inputs.len() == 8 => plain("QLinearMatMul", Vec::new()),
        Op::Lstm(_) | Op::Gru(_) | Op::Rnn(_) => cells::export(cx, &node.op, inputs, &outputs),
        Op::RmsNorm(op) => {
            let attributes = vec![int("axis", index(op.axis)), float("epsilon", op.epsilon)];
            plain("RMSNormalization", attributes)?;
            cx.opset = cx.opset.max(23);
            Ok(())
        }
        Op::Attention(op) => {
            let attributes = vec![float("scale", op.scale), flag("is_causal", op.causal), float("softcap", op.softcap)];
            let inputs = with_whole_mask(cx, node, inputs)?;
            cx.emit("Attention", &inputs, &outputs, attributes);
            cx.opset = cx.opset.max(23);
            Ok(())
        }
        Op::RotaryEmbedding(op) => {
            let attributes = vec![flag("interleaved", op.interleaved), int("rotary_embedding_dim", op.rotary_dim)];
            plain("RotaryEmbedding", attributes)?;
            cx.opset = cx.opset.max(23);
            Ok(())
        }
        Op::BitCast(op) => {
            plain("BitCast", vec![int("to", elem_type_of(op.to).into())])?;
            cx.opset = cx.opset.max(26);
            Ok(())
        }
        Op::ExtentValue(_) | Op::Iota(_) => source(cx, &node.op, outputs),
        Op::Reshape(_) | Op::Expand(_) | Op::Tile(_) | Op::Slice(_) | Op::Split(_) | Op::Pad(_) | Op::Trilu(_) => {
            movement(cx, node, inputs, &outputs)
        }
        Op::Clip(_) | Op::Swish(_) | Op::MatMul(_) | Op::MatMulStored(_) | Op::ConvStored(_) => {
            composed(cx, node, inputs, &outputs)
        }
        Op::Reduce(_) | Op::CumSum(_) | Op::CumProd(_) | Op::TopK(_) | Op::OneHot(_) | Op::Resize(_) => {
            with_operands(cx, node, inputs, &outputs)
        }
        Op::Softmax(op) => rows(cx, node, "Softmax", op.axis, op.flatten, inputs, &outputs),
        Op::LogSoftmax(op) => rows(cx, node, "LogSoftmax", op.axis, op.flatten, inputs, &outputs),
        Op::Hardmax(op) => rows(cx, node, "Hardmax", op.axis, op.flatten, inputs, &outputs),
        Op::SpaceToDepth(_) | Op::QLinearMatMul(_) | Op::Choice(_) | Op::Fused(_) => Err(Error::Unsupported(format!(
            "export: found `{}` {}, accepted: operators that ONNX has, before fusion",
            node.op.name(),
            node.loc
        ))),
    }
}

/// The operands of attention, with a mask of the scores' last two axes: the standard lets a mask broadcast there, ONNX Runtime
/// does not.
fn with_whole_mask(cx: &mut Exporter<'_>, node: &Node, mut inputs: Vec<String>) -> Result<Vec<String>, Error> {
    let [Some(q), Some(k), _, Some(mask)] = node.inputs[..] else { return Ok(inputs) };
    let scores = [cx.graph.ty(q).shape[2].clone(), cx.graph.ty(k).shape[2].clone()];
    if !cx.graph.ty(mask).shape.ends_with(&scores) {
        let shape = cx.shape(&scores)?;
        inputs[3] = cx.value("Expand", &[inputs[3].clone(), shape], Vec::new());
    }
    Ok(inputs)
}

fn unary_name(function: UnaryFn) -> &'static str {
    match function {
        UnaryFn::Identity => "Identity",
        UnaryFn::Neg => "Neg",
        UnaryFn::Abs => "Abs",
        UnaryFn::Relu => "Relu",
        UnaryFn::Sigmoid => "Sigmoid",
        UnaryFn::Tanh => "Tanh",
        UnaryFn::Exp => "Exp",
        UnaryFn::Log => "Log",
        UnaryFn::Sqrt => "Sqrt",
        UnaryFn::Reciprocal => "Reciprocal",
        UnaryFn::Erf => "Erf",
        UnaryFn::Floor => "Floor",
        UnaryFn::Ceil => "Ceil",
        UnaryFn::Round => "Round",
        UnaryFn::Sign => "Sign",
        UnaryFn::Sin => "Sin",
        UnaryFn::Cos => "Cos",
        UnaryFn::Tan => "Tan",
        UnaryFn::Asin => "Asin",
        UnaryFn::Acos => "Acos",
        UnaryFn::Atan => "Atan",
        UnaryFn::Sinh => "Sinh",
        UnaryFn::Cosh => "Cosh",
        UnaryFn::Asinh => "Asinh",
        UnaryFn::Acosh => "Acosh",
        UnaryFn::Atanh => "Atanh",
        UnaryFn::Softplus => "Softplus",
        UnaryFn::Softsign => "Softsign",
        UnaryFn::HardSwish => "HardSwish",
        UnaryFn::Mish => "Mish",
        UnaryFn::Not => "Not",
        UnaryFn::BitNot => "BitwiseNot",
        UnaryFn::IsNan => "IsNaN",
    }
}

fn binary(cx: &mut Exporter<'_>, function: BinaryFn, inputs: &[String], outputs: &[String]) -> Result<(), Error> {
    let (name, attributes) = match function {
        BinaryFn::Add => ("Add", Vec::new()),
        BinaryFn::Sub => ("Sub", Vec::new()),
        BinaryFn::Mul => ("Mul", Vec::new()),
        BinaryFn::Div => ("Div", Vec::new()),
        BinaryFn::Pow => ("Pow", Vec::new()),
        BinaryFn::Min => ("Min", Vec::new()),
        BinaryFn::Max => ("Max", Vec::new()),
        BinaryFn::Mod => ("Mod", Vec::new()),
        BinaryFn::Fmod => ("Mod", vec![int("fmod", 1)]),
        BinaryFn::And => ("And", Vec::new()),
        BinaryFn::Or => ("Or", Vec::new()),
        BinaryFn::Xor => ("Xor", Vec::new()),
        BinaryFn::Equal => ("Equal", Vec::new()),
        BinaryFn::Less => ("Less", Vec::new()),
        BinaryFn::LessOrEqual => ("LessOrEqual", Vec::new()),
        BinaryFn::Greater => ("Greater", Vec::new()),
        BinaryFn::GreaterOrEqual => ("GreaterOrEqual", Vec::new()),
        BinaryFn::BitAnd => ("BitwiseAnd", Vec::new()),
        BinaryFn::BitOr => ("BitwiseOr", Vec::new()),
        BinaryFn::BitXor => ("BitwiseXor", Vec::new()),
        BinaryFn::ShiftLeft => ("BitShift", vec![string("direction", "LEFT")]),
        BinaryFn::ShiftRight => ("BitShift", vec![string("direction", "RIGHT")]),
    };
    cx.emit(name, inputs, outputs, attributes);
    Ok(())
}

fn window(strides: &[i64], pads: &[i64], dilations: &[i64], group: i64) -> Attributes {
    vec![ints("strides", strides), ints("pads", pads), ints("dilations", dilations), int("group", group)]
}

/// Dilations of one are left out: ONNX Runtime's integer form of a pool does not know the attribute.
fn pool(kernel: &[i64], strides: &[i64], pads: &[i64], dilations: &[i64]) -> Attributes {
    let mut attributes = vec![ints("kernel_shape", kernel), ints("strides", strides), ints("pads", pads)];
    if dilations.iter().any(|&d| d != 1) {
        attributes.push(ints("dilations", dilations));
    }
    attributes
}

/// Values that no operand gives.
fn source(cx: &mut Exporter<'_>, op: &Op, outputs: Vec<String>) -> Result<(), Error> {
    let value = match op {
        Op::ExtentValue(op) => {
            let value = match op.values.as_slice() {
                [only] if op.scalar => cx.scalar(only)?,
                values => cx.shape(values)?,
            };
            cx.as_dtype(value, op.dtype)
        }
        Op::Iota(op) => {
            let end = op.start.clone() + op.step.clone() * op.count.clone();
            let bounds = [cx.scalar(&op.start)?, cx.scalar(&end)?, cx.scalar(&op.step)?];
            let value = cx.value("Range", &bounds, Vec::new());
            cx.as_dtype(value, op.dtype)
        }
        other => return Err(Error::Bug(format!("`{}` has operands", other.name()))),
    };
    cx.emit("Identity", &[value], &outputs, Vec::new());
    Ok(())
}

fn movement(cx: &mut Exporter<'_>, node: &Node, mut inputs: Vec<String>, outputs: &[String]) -> Result<(), Error> {
    let (name, attributes) = match &node.op {
        Op::Reshape(op) => {
            inputs.push(cx.shape(&op.shape)?);
            ("Reshape", vec![int("allowzero", 1)])
        }
        Op::Expand(op) => {
            inputs.push(cx.shape(&op.shape)?);
            ("Expand", Vec::new())
        }
        Op::Tile(op) => {
            inputs.push(cx.shape(&op.repeats)?);
            ("Tile", Vec::new())
        }
        Op::Split(op) => {
            inputs.push(cx.shape(&op.sizes)?);
            ("Split", vec![int("axis", index(op.axis))])
        }
        Op::Trilu(op) => {
            inputs.push(cx.constant(&Tensor::from_ints(DType::I64, &[], &[op.k.into()])));
            ("Trilu", vec![flag("upper", !op.lower)])
        }
        Op::Slice(op) => {
            let end = |i: usize| {
                let end = op.starts[i].clone() + op.sizes[i].clone() * Extent::from(op.steps[i]);
                // Before the first element: a negative number would count from the end.
                if end.as_const().is_some_and(|e| e < 0) { Extent::from(-(i64::MAX)) } else { end }
            };
            let ends: Vec<Extent> = (0..op.axes.len()).map(end).collect();
            inputs.push(cx.shape(&op.starts)?);
            inputs.push(cx.shape(&ends)?);
            inputs.push(cx.ints(&axes(&op.axes)));
            inputs.push(cx.ints(&op.steps));
            ("Slice", Vec::new())
        }
        Op::Pad(op) => {
            let amounts: Vec<Extent> = op.before.iter().chain(&op.after).cloned().collect();
            let amounts = cx.shape(&amounts)?;
            inputs.insert(1, amounts);
            ("Pad", vec![string("mode", op.mode.name())])
        }
        other => return Err(Error::Bug(format!("`{}` moves nothing", other.name()))),
    };
    cx.emit(name, &inputs, outputs, attributes);
    Ok(())
}

/// Operators that ONNX spells with more than one node, or with bounds as operands.
fn composed(cx: &mut Exporter<'_>, node: &Node, mut inputs: Vec<String>, outputs: &[String]) -> Result<(), Error> {
    match &node.op {
        Op::Clip(op) => {
            let dtype = node.outputs.first().map_or(DType::F32, |&v| cx.graph.ty(v).dtype);
            for bound in [op.min, op.max] {
                let bound = bound.map(|b| cx.constant(&Tensor::from_f64(dtype, &[], &[b.get()])));
                inputs.push(bound.unwrap_or_default());
            }
            cx.emit("Clip", &inputs, outputs, Vec::new());
        }
        Op::Swish(op) => {
            let dtype = node.outputs.first().map_or(DType::F32, |&v| cx.graph.ty(v).dtype);
            let alpha = cx.constant(&Tensor::from_f64(dtype, &[], &[op.alpha.get()]));
            let scaled = cx.value("Mul", &[inputs[0].clone(), alpha], Vec::new());
            let gate = cx.value("Sigmoid", &[scaled], Vec::new());
            cx.emit("Mul", &[inputs[0].clone(), gate], outputs, Vec::new());
        }
        Op::MatMul(op) => {
            for (at, turned) in [(0, op.trans_a), (1, op.trans_b)] {
                if turned {
                    inputs[at] = turned_operand(cx, node, at, &inputs[at]);
                }
            }
            cx.emit("MatMul", &inputs, outputs, Vec::new());
        }
        Op::ConvStored(op) => {
            let attributes = vec![int("axis", 0)];
            inputs[1] = cx.value("DequantizeLinear", &inputs[1..4], attributes);
            inputs.drain(2..4);
            cx.emit("Conv", &inputs, outputs, window(&op.strides, &op.pads, &op.dilations, op.group));
        }
        Op::MatMulStored(op) => {
            let attributes = vec![int("axis", index(op.axis)), int("block_size", index(op.block))];
            let mut weights = cx.value("DequantizeLinear", &inputs[1..], attributes);
            if op.trans_b {
                weights = turned_operand(cx, node, 1, &weights);
            }
            cx.emit("MatMul", &[inputs[0].clone(), weights], outputs, Vec::new());
        }
        other => return Err(Error::Bug(format!("`{}` is one node", other.name()))),
    }
    Ok(())
}

/// An operand with its last two axes exchanged.
fn turned_operand(cx: &mut Exporter<'_>, node: &Node, at: usize, name: &str) -> String {
    let rank = node.inputs[at].map_or(2, |v| cx.graph.ty(v).rank());
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 1, rank - 2);
    cx.value("Transpose", &[name.to_owned()], vec![ints("perm", &axes(&perm))])
}

/// Operators some of whose parameters are operands in ONNX.
fn with_operands(cx: &mut Exporter<'_>, node: &Node, mut inputs: Vec<String>, outputs: &[String]) -> Result<(), Error> {
    let (name, attributes) = match &node.op {
        Op::Reduce(op) => {
            inputs.push(cx.ints(&axes(&op.axes)));
            let name = match op.function {
                ReduceFn::Sum => "ReduceSum",
                ReduceFn::Mean => "ReduceMean",
                ReduceFn::Max => "ReduceMax",
                ReduceFn::Min => "ReduceMin",
                ReduceFn::Prod => "ReduceProd",
                ReduceFn::L1 => "ReduceL1",
                ReduceFn::L2 => "ReduceL2",
                ReduceFn::LogSum => "ReduceLogSum",
                ReduceFn::LogSumExp => "ReduceLogSumExp",
                ReduceFn::SumSquare => "ReduceSumSquare",
            };
            (name, vec![flag("keepdims", op.keep_dims), flag("noop_with_empty_axes", op.axes.is_empty())])
        }
        Op::CumSum(op) => {
            inputs.push(cx.constant(&Tensor::from_ints(DType::I64, &[], &[i128::from(index(op.axis))])));
            ("CumSum", vec![flag("exclusive", op.exclusive), flag("reverse", op.reverse)])
        }
        Op::CumProd(op) => {
            cx.opset = cx.opset.max(26);
            inputs.push(cx.constant(&Tensor::from_ints(DType::I64, &[], &[i128::from(index(op.axis))])));
            ("CumProd", vec![flag("exclusive", op.exclusive), flag("reverse", op.reverse)])
        }
        Op::TopK(op) => {
            inputs.push(cx.shape(std::slice::from_ref(&op.k))?);
            ("TopK", vec![int("axis", index(op.axis)), flag("largest", !op.smallest)])
        }
        Op::OneHot(op) => {
            let depth = cx.scalar(&op.depth)?;
            inputs.insert(1, depth);
            ("OneHot", vec![int("axis", index(op.axis))])
        }
        Op::Resize(op) => return resize(cx, node, op, inputs, outputs),
        other => return Err(Error::Bug(format!("`{}` has no such parameters", other.name()))),
    };
    cx.emit(name, &inputs, outputs, attributes);
    Ok(())
}

/// By scales where they give the very sizes, as models state them; by sizes where those are the scales.
#[expect(clippy::as_conversions, reason = "scales are compared as the numbers they are")]
fn resize(
    cx: &mut Exporter<'_>,
    node: &Node,
    op: &Resize,
    mut inputs: Vec<String>,
    outputs: &[String],
) -> Result<(), Error> {
    let shape = node.inputs[0].map(|v| cx.graph.ty(v).shape.clone()).unwrap_or_default();
    let axes: Vec<(&Extent, &Extent, f64)> =
        shape.iter().zip(&op.sizes).zip(&op.scales).map(|((len, size), scale)| (len, size, scale.get())).collect();
    let gives = |&(len, size, scale): &(&Extent, &Extent, f64)| match (len.as_const(), size.as_const()) {
        (Some(len), Some(size)) => (len as f64 * scale).floor() == size as f64,
        _ => scale.fract() == 0.0 && len.clone() * Extent::from(scale as i64) == *size,
    };
    let is_ratio = |&(len, size, scale): &(&Extent, &Extent, f64)| match (len.as_const(), size.as_const()) {
        (Some(len), Some(size)) => (size as f64 / len as f64) as f32 == scale as f32,
        _ => len == size && scale == 1.0,
    };
    inputs.push(String::new());
    if axes.iter().all(gives) {
        let scales: Vec<f64> = op.scales.iter().map(|s| s.get()).collect();
        inputs.push(cx.constant(&Tensor::from_f64(DType::F32, &[scales.len()], &scales)));
    } else if axes.iter().all(is_ratio) {
        inputs.push(String::new());
        inputs.push(cx.shape(&op.sizes)?);
    } else {
        let scales: Vec<String> = op.scales.iter().map(|s| s.to_string()).collect();
        return Err(Error::Unsupported(format!(
            "export: `resize` {}: found scales [{}] that do not give the sizes, accepted: scales or sizes alone",
            node.loc,
            scales.join(", ")
        )));
    }
    let nearest = match op.nearest {
        NearestMode::RoundPreferFloor => "round_prefer_floor",
        NearestMode::RoundPreferCeil => "round_prefer_ceil",
        NearestMode::Floor => "floor",
        NearestMode::Ceil => "ceil",
    };
    let attributes = vec![
        string("mode", op.mode.name()),
        string("coordinate_transformation_mode", op.coords.name()),
        string("nearest_mode", nearest),
        float("cubic_coeff_a", op.cubic_a),
        flag("exclude_outside", op.exclude_outside),
    ];
    cx.emit("Resize", &inputs, outputs, attributes);
    Ok(())
}

/// A function of rows: all axes from one on, or that one.
fn rows(
    cx: &mut Exporter<'_>,
    node: &Node,
    name: &str,
    axis: usize,
    flatten: bool,
    inputs: Vec<String>,
    outputs: &[String],
) -> Result<(), Error> {
    let shape = cx.graph.ty(node.outputs[0]).shape.clone();
    if !flatten || axis + 1 == shape.len() {
        cx.emit(name, &inputs, outputs, vec![int("axis", index(axis))]);
        return Ok(());
    }
    let matrix = [Extent::product(&shape[..axis]), Extent::product(&shape[axis..])];
    let (matrix, whole) = (cx.shape(&matrix)?, cx.shape(&shape)?);
    let flat = cx.value("Reshape", &[inputs[0].clone(), matrix], vec![int("allowzero", 1)]);
    let result = cx.value(name, &[flat], vec![int("axis", 1)]);
    cx.emit("Reshape", &[result, whole], outputs, vec![int("allowzero", 1)]);
    Ok(())
}

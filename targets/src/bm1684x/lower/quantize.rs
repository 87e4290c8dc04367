//! What stands between integers: a `quantize` with the float operators in front of it.
//!
//! Elementwise operators on one tensor of bytes are a table ([`super::tables`]), on two a sum ([`super::sums`]). Averages are sums
//! of integers with one rounding, ties to even: the mean itself, where the model adds up rounded floats. So they differ by at
//! most one unit, and only where the mean is within rounding of a tie.

use std::collections::BTreeSet;

use adze_ir::graph::{Node, NodeId, ValueId};
use adze_ir::ops::{AveragePool, Op, Quantize, ReduceFn};
use adze_ir::quant::Requantize;
use adze_ir::tile;
use adze_ir::types::DType;

use super::super::isa::{Prec, Requant};
use super::super::machine::MAX_WINDOW;
use super::build::{Home, Place};
use super::commands::{Constants, Scales, command_words};
use super::requant::{Contract, byte_range};
use super::{Lowering, Refusal, pool, refuse, window_strides};

/// Float operators between integers.
pub(super) struct Cone {
    /// The operators, in order.
    pub(super) nodes: Vec<NodeId>,
    /// The integers they start from.
    pub(super) leaves: Vec<ValueId>,
}

/// A scale and zero point that are the same for the whole tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    pub(super) scale: f32,
    pub(super) zero: i64,
}

/// Operators that compute each element from those at its position, and how it is stored.
pub fn is_elementwise(op: &Op) -> bool {
    let other = matches!(op, Op::Where(_) | Op::Fused(_));
    (tile::is_elementwise(op) && !other) || matches!(op, Op::Dequantize(_) | Op::Quantize(_) | Op::BatchNorm(_))
}

/// Whether every window of an average has all of its elements, in the tensor or in pads that commands have room for.
pub(super) fn is_mean_of_all(pool: &AveragePool) -> bool {
    let small = pool.pads.iter().all(|pad| (0..=MAX_WINDOW.into()).contains(pad));
    let counted = pool.count_include_pad || pool.pads.iter().all(|&pad| pad == 0);
    let dense = pool.dilations.iter().all(|&dilation| dilation == 1);
    small && counted && dense && pool.ceil_pads.iter().all(|&pad| pad == 0)
}

impl Lowering<'_> {
    /// Lowers a `quantize` and what is in front of it.
    pub(super) fn quantize(&mut self, node: &Node, op: &Quantize) -> Result<Home, Refusal> {
        let to = self.affine(node)?;
        if node.inputs[0].is_some_and(|value| self.values.contains_key(&value)) && !self.is_one(node) {
            return self.quantize_floats(node, to, op.to);
        }
        let producer = node.inputs[0].and_then(|value| self.graph.producer(value)).map(|(_, node)| node.clone());
        if let Some(anchor) = producer {
            match &anchor.op {
                Op::AveragePool(pool) if is_mean_of_all(pool) => {
                    let [kernel, strides] = [&pool.kernel, &pool.strides].map(|v| <[i64; 2]>::try_from(v.as_slice()));
                    let (Ok(kernel), Ok(strides), &[up, lf, dn, rt]) = (kernel, strides, &pool.pads[..]) else {
                        return refuse(format!("an average over {} axes", pool.kernel.len()), "2");
                    };
                    let pads = [up, lf, dn, rt].map(|pad| pad as u32);
                    return self.average(node, &anchor, kernel, strides, pads, to, op.to);
                }
                Op::Reduce(mean) if mean.function == ReduceFn::Mean && mean.axes == [2, 3] => {
                    let value = anchor.inputs[0].expect("a reduction has an operand");
                    let [_, _, h, w] = self.shape(value)?.map(i64::from);
                    return self.average(node, &anchor, [h, w], [1, 1], [0; 4], to, op.to);
                }
                Op::Softmax(softmax) => return self.softmax(node, &anchor, softmax, to, op.to),
                _ => {}
            }
        }
        let cone = self.cone(node)?;
        match cone.leaves[..] {
            [leaf] => self.table(node, &cone, leaf),
            [a, b] => self.sum(node, &cone, [a, b], to, op.to),
            _ => refuse(format!("{} tensors of integers", cone.leaves.len()), "one or two"),
        }
    }

    /// Scale and zero point of a `quantize` or `dequantize`.
    pub(super) fn affine(&self, node: &Node) -> Result<Affine, Refusal> {
        let scale = self.constant(node, 1)?.to_f64();
        let zero = match node.inputs.get(2).copied().flatten() {
            Some(_) => self.constant(node, 2)?.to_i64(),
            None => vec![0],
        };
        match (&scale[..], &zero[..]) {
            (&[scale], &[zero]) => Ok(Affine { scale: scale as f32, zero }),
            _ => refuse("a scale per channel between integers", "a scale per tensor"),
        }
    }

    /// The integers behind a value of floats, if a `dequantize` gives it.
    pub(super) fn dequantized(&self, value: Option<ValueId>) -> Result<(ValueId, Affine), Refusal> {
        let producer = value.and_then(|value| self.graph.producer(value)).map(|(_, node)| node);
        match producer {
            Some(node) if matches!(node.op, Op::Dequantize(_)) => {
                let x = node.inputs[0].expect("a dequantize has an operand");
                Ok((x, self.affine(node)?))
            }
            Some(node) => refuse(format!("floats of a `{}`", node.op.name()), "those of a `dequantize`"),
            None => refuse("floats from outside", "those of a `dequantize`"),
        }
    }

    /// An average over windows, whose pads count as zeros.
    #[expect(clippy::too_many_arguments, reason = "operand, geometry and numbers of one average")]
    fn average(
        &mut self,
        node: &Node,
        anchor: &Node,
        kernel: [i64; 2],
        strides: [i64; 2],
        pads: [u32; 4],
        to: Affine,
        dtype: DType,
    ) -> Result<Home, Refusal> {
        let (value, from) = self.dequantized(anchor.inputs[0])?;
        let x = self.home(value)?;
        let shape = self.shape(node.outputs[0])?;
        let count = kernel[0] * kernel[1];
        let kernel = kernel.map(|k| k as u32);
        let padded = [x.shape[2] + pads[0] + pads[2], x.shape[3] + pads[1] + pads[3]];
        let strides = window_strides(padded, shape, kernel, strides)?;
        let signed = dtype == DType::I8;
        let (lo, hi) = byte_range(x.signed);
        let contract = Contract {
            contract: Requantize::F32Rne,
            scale: (f64::from(from.scale) / (count as f64 * f64::from(to.scale))) as f32,
            bias: -count * from.zero,
            zero: to.zero,
            range: byte_range(signed),
            sums: (lo * count, hi * count),
        };
        let way = self.way(std::slice::from_ref(&contract))?;
        let sums = self.draft.tensor(Prec::Int32, true, shape);
        let mut pool = pool(x, sums, kernel, strides);
        (pool.eu, pool.opd1_const, pool.opd1_addr) = (1, 1, 1);
        [pool.opd0_up_pad, pool.opd0_lf_pad, pool.opd0_dn_pad, pool.opd0_rt_pad] = pads;
        pool.opd3_addr = from.zero as u32 & 0xff;
        let places = vec![("opd0_addr", Place::Local(x.buffer, 0)), ("res0_addr", Place::Local(sums.buffer, 0))];
        self.draft.push(pool, places);
        if way.adds_bias() && contract.bias != 0 {
            self.draft.with_constant(2, sums, Prec::Int32, contract.bias as u32, sums);
        }
        let constants = Constants { table: Scales::Words(command_words(&way)), bias: None };
        let result = self.draft.tensor(Prec::Int8, signed, shape);
        self.draft.requantize(sums, &way, constants, to.zero, result);
        Ok(result)
    }

    /// The elementwise operators in front of a node, down to integers.
    pub(super) fn cone(&self, node: &Node) -> Result<Cone, Refusal> {
        let mut nodes = BTreeSet::new();
        let mut leaves = Vec::new();
        let mut open: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        while let Some(value) = open.pop() {
            let Some((id, node)) = self.graph.producer(value) else {
                let found = format!(
                    "`{}` of {}",
                    self.graph.value(value).name.as_deref().unwrap_or("input"),
                    self.graph.ty(value).dtype
                );
                return refuse(found, "inputs of i8 or u8 (quantize outside of the model)");
            };
            if matches!(node.op, Op::Constant(_)) {
                continue;
            }
            if !is_elementwise(&node.op) {
                return refuse(format!("floats of a `{}`", node.op.name()), "elementwise operators, averages, softmax");
            }
            nodes.insert(id);
            let operands = node.inputs.iter().flatten().copied();
            match (&node.op, node.inputs[0]) {
                (Op::Dequantize(_), Some(x)) if self.graph.constant(x).is_none() => {
                    self.affine(node)?;
                    if !leaves.contains(&x) {
                        leaves.push(x);
                    }
                }
                _ => open.extend(operands),
            }
        }
        let order = self.graph.order().iter().copied().filter(|id| nodes.contains(id));
        let shape = self.graph.ty(node.outputs[0]).fixed_shape();
        if leaves.iter().any(|&leaf| self.graph.ty(leaf).fixed_shape() != shape) {
            return refuse("operands of different shapes", "operands of the shape of the result");
        }
        leaves.sort();
        Ok(Cone { nodes: order.collect(), leaves })
    }

    /// `(x - zero) · scale` as floats.
    pub(super) fn dequantize(&mut self, x: Home, by: Affine) -> Home {
        let result = self.draft.tensor(Prec::Fp32, true, x.shape);
        let [n, c, h, w] = x.shape;
        let rq = Requant {
            eu: 3,
            opd0_sign: x.signed.into(),
            opd2_sign: 1,
            res0_prec: Prec::Fp32.code(),
            opd1_const: 1,
            opd0_prec: x.prec.code(),
            res0_n: n,
            res0_c: c,
            res0_h: h,
            res0_w: w,
            opd1_addr: u32::from(by.zero as u16),
            opd2_addr: by.scale.to_bits(),
            ..Requant::default()
        };
        self.draft
            .push(rq, vec![("opd0_addr", Place::Local(x.buffer, 0)), ("res0_addr", Place::Local(result.buffer, 0))]);
        result
    }
}

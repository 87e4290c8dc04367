//! Elementwise operators on floats.

use adze_ir::attrs::F64;
use adze_ir::graph::Node;
use adze_ir::ops::{BinaryFn, Op, UnaryFn};

use super::super::super::isa::Prec;
use super::super::super::machine::LANES;
use super::super::super::sim::from_float;
use super::super::build::{Home, Image, Place, lane_bytes};
use super::super::places::{Source, spread};
use super::super::{Lowering, Refusal, extents, refuse};

/// Operations of elementwise arithmetic.
pub(in super::super) const MUL: u32 = 0;
pub(in super::super) const ADD: u32 = 2;
pub(in super::super) const SUB: u32 = 3;
pub(super) const MAX: u32 = 4;
pub(super) const MIN: u32 = 5;
pub(super) const DIV: u32 = 12;

/// Bytes per lane of fp32 that a function works on at once: it has several such tensors.
const PART_BYTES: u64 = 1 << 13;

/// The bit pattern of a float in a type. A finite number that the type has no room for becomes the largest one: as an infinity
/// a mask of large numbers would make what is no number of zeros.
pub(in super::super) fn bits(value: f32, prec: Prec) -> u32 {
    let most = if prec == Prec::Fp16 { half::f16::MAX.to_f32() } else { f32::MAX };
    let bounded = if value.is_finite() { value.clamp(-most, most) } else { value };
    from_float(bounded, prec)
}

/// Floats of a type as they lie in memory.
pub(in super::super) fn bytes(values: &[f32], prec: Prec) -> Vec<u8> {
    let width = prec.bytes() as usize;
    values.iter().flat_map(|&v| bits(v, prec).to_le_bytes().into_iter().take(width)).collect()
}

/// The bit pattern of minus infinity.
pub(super) fn lowest(prec: Prec) -> u32 {
    bits(f32::NEG_INFINITY, prec)
}

impl Lowering<'_> {
    /// Lowers an operator on two tensors.
    pub(super) fn float_binary(&mut self, node: &Node, function: BinaryFn) -> Result<Home, Refusal> {
        let shape = self.shape(node.outputs[0])?;
        let constant = |index: usize| node.inputs[index].is_some_and(|value| self.graph.constant(value).is_some());
        let mut inverse = false;
        let eu = match function {
            BinaryFn::Add => ADD,
            BinaryFn::Sub => SUB,
            BinaryFn::Mul => MUL,
            BinaryFn::Min => MIN,
            BinaryFn::Max => MAX,
            BinaryFn::Div => {
                self.need_half("a division")?;
                inverse = constant(1);
                if inverse { MUL } else { DIV }
            }
            BinaryFn::Pow => return self.power(node),
            other => return refuse(format!("`{other}` of floats"), "add, sub, mul, div, min, max, pow"),
        };
        let kept = self.type_of(node.outputs[0]);
        let prec = if eu == DIV { Prec::Fp32 } else { kept };
        let a = self.operand(node, 0, shape, prec, false)?;
        let b = self.operand(node, 1, shape, prec, inverse)?;
        let result = self.float(prec, shape);
        self.draft.arithmetic(eu, [a, b], result);
        Ok(self.as_float(result, kept))
    }

    /// A constant power: 2 or 1/2.
    fn power(&mut self, node: &Node) -> Result<Home, Refusal> {
        self.need_half("a power")?;
        let exponent = self.constant(node, 1)?.to_f64();
        let x = self.input(node, 0)?;
        let x = self.as_float(x, self.type_of(node.outputs[0]));
        match exponent[..] {
            [2.0] => {
                let result = self.float(x.prec, x.shape);
                self.draft.binary(MUL, x, x, result);
                Ok(result)
            }
            [0.5] => Ok(self.in_wide(x, Self::root)),
            _ => refuse(format!("exponents {exponent:?}"), "2 or 0.5"),
        }
    }

    /// An operand of a result of this shape in a type; `inverse` takes that of a constant.
    pub(super) fn operand(
        &mut self,
        node: &Node,
        index: usize,
        shape: [u32; 4],
        prec: Prec,
        inverse: bool,
    ) -> Result<Source, Refusal> {
        let Some(value) = node.inputs.get(index).copied().flatten() else {
            return refuse(format!("no operand {index}"), "one");
        };
        let rank = self.graph.ty(node.outputs[0]).rank();
        let Some(own) = self.graph.ty(value).fixed_shape() else { return refuse("an open shape", "fixed shapes") };
        let ones = rank.saturating_sub(own.len());
        let own = extents(&[vec![1; ones], own].concat())?;
        if self.graph.constant(value).is_none() {
            let home = self.home(value)?;
            let home = if home.shape == own { home } else { self.draft.reshape(home, own) };
            let home = self.as_float(home, prec);
            return self.spread(home, shape);
        }
        let values = self.constant(node, index)?.to_f64();
        let of = |v: f64| if inverse { (1.0 / v) as f32 } else { v as f32 };
        let values: Vec<f32> = values.into_iter().map(of).collect();
        if let [value] = values[..] {
            return Ok(Source::Value(bits(value, prec)));
        }
        if own == [1, shape[1], 1, 1] {
            let es = prec.bytes() as usize;
            let mut image = Image::new(shape[1]);
            let rows: Vec<Vec<u8>> = values.iter().map(|&value| bytes(&[value], prec)).collect();
            let at = image.section(&rows, es, es);
            let constants = self.draft.constants(&image);
            return Ok(Source::Strided(Place::Local(constants, at), [0, 1, 0, 0]));
        }
        self.repeated_constant(values, own, prec, shape)
    }

    /// Constants of a shape, repeated to another.
    pub(in super::super) fn repeated_constant(
        &mut self,
        mut values: Vec<f32>,
        mut own: [u32; 4],
        prec: Prec,
        shape: [u32; 4],
    ) -> Result<Source, Refusal> {
        if own[1] == 1 && shape[1] > 1 {
            let plane = (own[2] * own[3]) as usize;
            own[1] = shape[1].min(LANES);
            values = values.chunks(plane).flat_map(|plane| plane.repeat(own[1] as usize)).collect();
            let home = self.draft.load_constant(&bytes(&values, prec), prec, own);
            return Ok(spread(home, [own[0], 1, own[2], own[3]], shape));
        }
        let home = self.draft.load_constant(&bytes(&values, prec), prec, own);
        self.spread(home, shape)
    }

    /// A tensor repeated to a shape.
    pub(in super::super) fn spread(&mut self, home: Home, shape: [u32; 4]) -> Result<Source, Refusal> {
        let own = home.shape;
        if own.iter().zip(shape).any(|(&a, b)| a != b && a != 1) {
            return refuse(format!("shape {own:?} for {shape:?}"), "shapes that broadcast");
        }
        let home = if own[1] == 1 && shape[1] > 1 { self.draft.spread(home, shape[1].min(LANES)) } else { home };
        Ok(spread(home, own, shape))
    }

    /// Lowers a function of one tensor.
    pub(super) fn float_unary(&mut self, node: &Node) -> Result<Home, Refusal> {
        let exact = matches!(&node.op, Op::Clip(_))
            || matches!(&node.op, Op::Unary(op) if matches!(op.function, UnaryFn::Relu | UnaryFn::Identity | UnaryFn::Neg | UnaryFn::Abs));
        if !exact {
            self.need_half(&format!("`{}`", node.op.name()))?;
        }
        let x = self.input(node, 0)?;
        if x.prec.is_int() {
            return refuse(format!("`{}` of integers", node.op.name()), "floats");
        }
        Ok(match &node.op {
            Op::Clip(op) => {
                let [low, high] = [op.min, op.max].map(|bound| bound.map(|b: F64| b.get() as f32));
                self.bounded(x, low, high)
            }
            Op::LeakyRelu(op) => self.leaky(x, Source::Value(bits(op.alpha.get() as f32, x.prec))),
            Op::PRelu(_) => {
                let slope = self.operand(node, 1, x.shape, x.prec, false)?;
                self.leaky(x, slope)
            }
            Op::HardSigmoid(op) => self.hard_sigmoid(x, op.alpha.get() as f32, op.beta.get() as f32),
            Op::Swish(op) => {
                let alpha = op.alpha.get() as f32;
                self.in_wide(x, |s, x| s.swish(x, alpha))
            }
            Op::Gelu(op) if op.tanh => self.in_wide(x, Self::gelu_tanh),
            Op::Gelu(_) => self.in_wide(x, Self::gelu),
            Op::Unary(op) => return self.unary(x, op.function),
            op => return refuse(format!("`{}` of floats", op.name()), "an operator that the chip's page lists"),
        })
    }

    fn unary(&mut self, x: Home, function: UnaryFn) -> Result<Home, Refusal> {
        Ok(match function {
            UnaryFn::Identity => x,
            UnaryFn::Relu => self.bounded(x, Some(0.0), None),
            UnaryFn::Neg => self.with(MUL, x, -1.0),
            UnaryFn::Abs => {
                let negative = self.with(MUL, x, -1.0);
                self.draft.binary(MAX, x, negative, negative);
                negative
            }
            UnaryFn::HardSwish => {
                let gate = self.hard_sigmoid(x, 1.0 / 6.0, 0.5);
                self.draft.binary(MUL, x, gate, gate);
                gate
            }
            UnaryFn::Exp => self.in_wide(x, Self::exp),
            UnaryFn::Log => {
                let result = self.in_wide(x, Self::log);
                self.as_float(result, self.real)
            }
            UnaryFn::Sigmoid => self.in_wide(x, |s, x| s.sigmoid(x, 1.0)),
            UnaryFn::Tanh => self.in_wide(x, Self::tanh),
            UnaryFn::Erf => self.in_wide(x, Self::erf),
            UnaryFn::Sqrt => self.in_wide(x, Self::root),
            UnaryFn::Reciprocal => self.in_wide(x, Self::inverse),
            UnaryFn::Floor => self.in_wide(x, |s, x| s.whole(x, 3)),
            UnaryFn::Ceil => self.in_wide(x, |s, x| s.whole(x, 4)),
            UnaryFn::Round => self.in_wide(x, |s, x| s.whole(x, 0)),
            other => return refuse(format!("`{other}` of floats"), "a function that the chip's page lists"),
        })
    }

    /// `x op value` in a new tensor.
    pub(super) fn with(&mut self, eu: u32, x: Home, value: f32) -> Home {
        let result = self.float(x.prec, x.shape);
        self.draft.with_constant(eu, x, x.prec, bits(value, x.prec), result);
        result
    }

    /// The same in place.
    pub(super) fn with_in(&mut self, eu: u32, x: Home, value: f32) {
        self.draft.with_constant(eu, x, x.prec, bits(value, x.prec), x);
    }

    fn bounded(&mut self, x: Home, low: Option<f32>, high: Option<f32>) -> Home {
        match (low, high) {
            (None, None) => x,
            (Some(low), None) => self.with(MAX, x, low),
            (None, Some(high)) => self.with(MIN, x, high),
            (Some(low), Some(high)) => {
                let result = self.with(MAX, x, low);
                self.with_in(MIN, result, high);
                result
            }
        }
    }

    /// `max(x, 0) + slope · min(x, 0)`.
    fn leaky(&mut self, x: Home, slope: Source) -> Home {
        let (above, below) = (self.with(MAX, x, 0.0), self.with(MIN, x, 0.0));
        self.draft.arithmetic(MUL, [Source::dense(below), slope], below);
        self.draft.binary(ADD, above, below, above);
        above
    }

    fn hard_sigmoid(&mut self, x: Home, alpha: f32, beta: f32) -> Home {
        let result = self.with(MUL, x, alpha);
        self.with_in(ADD, result, beta);
        self.with_in(MAX, result, 0.0);
        self.with_in(MIN, result, 1.0);
        result
    }

    /// A function in fp32, part by part; it may overwrite its operand.
    pub(super) fn in_wide(&mut self, x: Home, mut function: impl FnMut(&mut Self, Home) -> Home) -> Home {
        let [n, c, h, w] = x.shape;
        let result = self.float(x.prec, x.shape);
        // A part is of one size along all axes but H, or W where there is only that.
        let (axis, whole) = if h > 1 { (2, h) } else { (3, w) };
        let part = |size: u32| if axis == 2 { [n, c, size, w] } else { [n, c, h, size] };
        let size = (1..=whole).rev().find(|&size| lane_bytes(Prec::Fp32, part(size)) <= PART_BYTES).unwrap_or(1);
        for start in (0..whole).step_by(size as usize) {
            let from = self.float(Prec::Fp32, part(size.min(whole - start)));
            let mut at = [0; 4];
            at[axis] = start;
            self.draft.convert_from(x, from, at);
            let made = function(self, from);
            self.draft.convert_into(made, result, at);
        }
        result
    }
}

//! Softmax, layer normalisation and positions of extremes: rows of fp32, along W.

use adze_ir::graph::Node;
use adze_ir::ops::{ArgReduce, LayerNorm, ReduceFn, Softmax};

use super::super::super::isa::Prec;
use super::super::build::Home;
use super::super::places::Source;
use super::super::{Lowering, Refusal, place_of, refuse};
use super::pointwise::{ADD, DIV, MAX, MIN, MUL, SUB};

impl Lowering<'_> {
    /// The tensor with an axis exchanged with the last one; the same again undoes it.
    pub(in super::super) fn with_last(&mut self, x: Home, axis: usize) -> Home {
        let mut axes = [0, 1, 2, 3];
        axes.swap(axis, 3);
        let shape = axes.map(|axis| x.shape[axis]);
        self.permuted(x, axes, shape)
    }

    /// Lowers a softmax.
    pub(super) fn float_softmax(&mut self, node: &Node, op: &Softmax) -> Result<Home, Refusal> {
        self.need_half("a softmax")?;
        let x = self.input(node, 0)?;
        let value = node.inputs[0].expect("a softmax has an operand");
        let rank = self.graph.ty(value).rank();
        let shape = self.shape(node.outputs[0])?;
        if op.flatten && op.axis + 1 < rank {
            let leading: u32 = x.shape[..place_of(rank, op.axis)].iter().product();
            let rows = self.draft.reshape(x, [leading, 1, 1, x.shape.iter().product::<u32>() / leading]);
            let result = self.softmax_rows(rows)?;
            return Ok(self.draft.reshape(result, shape));
        }
        let axis = place_of(rank, op.axis);
        let [n, c, h, w] = x.shape;
        if axis == 1 && h * w == 1 {
            let rows = self.draft.reshape(x, [n, 1, 1, c]);
            let result = self.softmax_rows(rows)?;
            return Ok(self.draft.reshape(result, shape));
        }
        if axis == 3 && w == shape[3] {
            return self.softmax_rows(x);
        }
        let turned = self.with_last(x, axis);
        let result = self.softmax_rows(turned)?;
        Ok(self.with_last(result, axis))
    }

    fn softmax_rows(&mut self, x: Home) -> Result<Home, Refusal> {
        self.by_rows(x, Self::softmax_wide)
    }

    fn softmax_wide(&mut self, wide: Home) -> Result<Home, Refusal> {
        let [n, c, h, w] = wide.shape;
        let largest = self.windows(4, wide, [n, c, h, 1], [1, w], [1, 1], [0; 4], 1.0);
        let below = self.float(Prec::Fp32, wide.shape);
        let largest = self.spread(largest, wide.shape)?;
        self.draft.arithmetic(SUB, [Source::dense(wide), largest], below);
        let exp = self.exp(below);
        let sum = self.windows(1, exp, [n, c, h, 1], [1, w], [1, 1], [0; 4], 1.0);
        let sum = self.spread(sum, exp.shape)?;
        self.draft.arithmetic(DIV, [Source::dense(exp), sum], exp);
        Ok(exp)
    }

    /// Lowers a normalisation over the last axes.
    pub(super) fn layer_norm(&mut self, node: &Node, op: &LayerNorm) -> Result<Home, Refusal> {
        self.need_half("a normalisation")?;
        let mut x = self.input(node, 0)?;
        let shape = self.shape(node.outputs[0])?;
        let rank = self.graph.ty(node.outputs[0]).rank();
        let [n, c, h, w] = x.shape;
        let kernel = match place_of(rank, op.axis) {
            3 => [1, w],
            2 => [h, w],
            1 if h * w == 1 => {
                x = self.draft.reshape(x, [n, 1, 1, c]);
                [1, c]
            }
            _ => {
                return refuse(
                    format!("a normalisation from axis {} of rank {rank} on", op.axis),
                    "the last axes, at most H and W",
                );
            }
        };
        let [n, c, h, w] = x.shape;
        let few = [n, c, h / kernel[0], w / kernel[1]];
        let mean_of = 1.0 / (kernel[0] * kernel[1]) as f32;
        let wide = self.as_float(x, Prec::Fp32);
        let mean = self.windows(1, wide, few, kernel, [1, 1], [0; 4], mean_of);
        let mean = self.spread(mean, x.shape)?;
        let centred = self.float(Prec::Fp32, x.shape);
        self.draft.arithmetic(SUB, [Source::dense(wide), mean], centred);
        let square = self.float(Prec::Fp32, x.shape);
        self.draft.binary(MUL, centred, centred, square);
        let variance = self.windows(1, square, few, kernel, [1, 1], [0; 4], mean_of);
        self.with_in(ADD, variance, op.epsilon.get() as f32);
        let inverse = self.inverse_root(variance);
        let inverse = self.spread(inverse, x.shape)?;
        self.draft.arithmetic(MUL, [Source::dense(centred), inverse], centred);
        let result = self.draft.reshape(centred, shape);
        for (index, eu) in [(1, MUL), (2, ADD)] {
            if node.inputs.get(index).copied().flatten().is_some() {
                let by = self.operand(node, index, shape, Prec::Fp32, false)?;
                self.draft.arithmetic(eu, [Source::dense(result), by], result);
            }
        }
        Ok(self.as_float(result, self.real))
    }

    /// Lowers the position of the largest or smallest element along an axis, as integers of 32 bits. What equals the extreme
    /// gets a 1 and everything else a 0; the positions of the ones are compared in floats, which are exact there.
    pub(in super::super) fn arg_reduce(&mut self, node: &Node, op: &ArgReduce) -> Result<Home, Refusal> {
        let x = self.input(node, 0)?;
        if x.prec.is_int() && x.prec != Prec::Int8 {
            return refuse("integers of 32 bits", "i8, u8 or floats");
        }
        let value = node.inputs[0].expect("a reduction has an operand");
        let axis = place_of(self.graph.ty(value).rank(), op.axis);
        let [n, c, h, w] = x.shape;
        let rows = match axis {
            1 if h * w == 1 => self.draft.reshape(x, [n, 1, 1, c]),
            axis => self.with_last(x, axis),
        };
        let [n, c, h, w] = rows.shape;
        let wide = self.as_float(rows, Prec::Fp32);
        // In a tensor of its own; infinities would leave no number as the difference.
        let values = self.with(MUL, wide, if op.function == ReduceFn::Min { -1.0 } else { 1.0 });
        self.with_in(MIN, values, f32::MAX);
        self.with_in(MAX, values, f32::MIN);
        let largest = self.windows(4, values, [n, c, h, 1], [1, w], [1, 1], [0; 4], 1.0);
        let largest = self.spread(largest, values.shape)?;
        self.draft.arithmetic(SUB, [Source::dense(values), largest], values);
        // The least difference of two floats is beyond -1 by then.
        self.with_in(MUL, values, 1e30);
        self.with_in(MUL, values, 1e30);
        self.with_in(ADD, values, 1.0);
        self.with_in(MAX, values, 0.0);
        let order = (0..w).map(|at| if op.last { at + 1 } else { w - at } as f32).collect();
        let order = self.repeated_constant(order, [1, 1, 1, w], Prec::Fp32, values.shape)?;
        self.draft.arithmetic(MUL, [Source::dense(values), order], values);
        let best = self.windows(4, values, [n, c, h, 1], [1, w], [1, 1], [0; 4], 1.0);
        if !op.last {
            self.with_in(MUL, best, -1.0);
        }
        self.with_in(ADD, best, if op.last { -1.0 } else { w as f32 });
        let found = self.draft.tensor(Prec::Int32, true, best.shape);
        self.draft.convert(best, found);
        let turned = axis != 3 && rows.shape != [n, 1, 1, w];
        let found = if turned { self.with_last(found, axis) } else { found };
        let shape = self.shape(node.outputs[0])?;
        Ok(self.draft.reshape(found, shape))
    }
}

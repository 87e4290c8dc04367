//! Largest bytes along axes.

use adze_ir::graph::Node;
use adze_ir::ops::{Reduce, ReduceFn};

use super::super::isa::Pool;
use super::build::{Home, Place};
use super::{Lowering, Refusal, place_of, pool, refuse};

impl Lowering<'_> {
    /// Lowers a reduction of bytes.
    pub(super) fn largest(&mut self, node: &Node, op: &Reduce) -> Result<Home, Refusal> {
        if op.function != ReduceFn::Max {
            return refuse(format!("a reduction of bytes by `{}`", op.function), "max");
        }
        let mut x = self.input(node, 0)?;
        let rank = node.inputs[0].map_or(0, |value| self.graph.ty(value).rank());
        let mut over: [bool; 4] = [false; 4];
        op.axes.iter().for_each(|&axis| over[place_of(rank, axis)] = true);
        // N and C one after the other, from where the last axis is.
        for axis in [0, 1] {
            if over[axis] && x.shape[axis] > 1 {
                let turned = self.with_last(x, axis);
                let most = self.largest_of(turned, [1, turned.shape[3]]);
                x = self.with_last(most, axis);
            }
        }
        let kernel = [2, 3].map(|axis| if over[axis] { x.shape[axis] } else { 1 });
        let most = if kernel == [1, 1] { x } else { self.largest_of(x, kernel) };
        let shape = self.shape(node.outputs[0])?;
        Ok(self.draft.reshape(most, shape))
    }

    /// The largest bytes of windows that cover their axes.
    pub(super) fn largest_of(&mut self, x: Home, kernel: [u32; 2]) -> Home {
        let [n, c, h, w] = x.shape;
        let over = |extent: u32, kernel: u32| if kernel == 1 { extent } else { 1 };
        let result = self.draft.tensor(x.prec, x.signed, [n, c, over(h, kernel[0]), over(w, kernel[1])]);
        let pool = Pool { eu: 4, ..pool(x, result, kernel, [1, 1]) };
        let places = vec![("opd0_addr", Place::Local(x.buffer, 0)), ("res0_addr", Place::Local(result.buffer, 0))];
        self.draft.push(pool, places);
        result
    }
}

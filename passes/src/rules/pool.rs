//! Pools whose windows are one element thick along an axis.

use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::Exactness;
use adze_ir::extent::Extent;
use adze_ir::ops::{MaxPool, Op, Slice};
use egg::{Id, Subst};

use super::support::{id, op, reshape};

pub(super) const RULES: &[Rule] = &[Rule {
    name: "max-pool-along-fewer-axes",
    left: &["(max_pool ?a ?x)"],
    right: "(slice (max_pool ?x)), the first spatial axis counted among the channels",
    conditions: &[Condition { name: "windows are one element thick along the first of several axes", holds: thin }],
    exactness: Exactness::Exact,
    sound: "a pool treats every channel by itself, and a window of one element chooses it",
    helps: "what exporters write as a pool over volumes is one over images, whose channels are vectors",
    make: make_thinner,
}];

/// The window of the first spatial axis is one element, nothing is padded there, and it is not the only axis.
fn thin(m: &Match<'_>) -> bool {
    let Op::MaxPool(pool) = m.op("a") else { return false };
    let axes = pool.kernel.len();
    axes > 1 && pool.kernel[0] == 1 && pool.pads[0] == 0 && pool.pads[axes] == 0
}

fn make_thinner(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let Op::MaxPool(pool) = op(egraph, subst, "a") else { return None };
    let x = id(egraph, subst, "x");
    let shape = egraph[x].data.ty()?.shape.clone();
    let [images, channels, depth, rest @ ..] = &shape[..] else { return None };
    let axes = pool.kernel.len();
    let pads = [&pool.pads[1..axes], &pool.pads[axes + 1..]].concat();
    let tail = |values: &[i64]| values[1..].to_vec();
    let flat =
        MaxPool { kernel: tail(&pool.kernel), strides: tail(&pool.strides), pads, dilations: tail(&pool.dilations) };
    let start = [images.clone(), channels.clone() * depth.clone()];
    let x = reshape(egraph, x, start.into_iter().chain(rest.iter().cloned()).collect())?;
    let pooled = add_op(egraph, flat, &[x])?;
    let image = egraph[pooled].data.ty()?.shape[2..].to_vec();
    let whole =
        |depth: &Extent| -> Vec<Extent> { [images, channels, depth].into_iter().chain(&image).cloned().collect() };
    if pool.strides[0] == 1 {
        return reshape(egraph, pooled, whole(depth));
    }
    let kept = depth.ceildiv(&pool.strides[0].into());
    let every = |axis: usize| Slice {
        axes: vec![axis],
        starts: vec![Extent::ZERO],
        sizes: vec![kept.clone()],
        steps: vec![pool.strides[0]],
    };
    if *channels == Extent::ONE {
        let sliced = add_op(egraph, every(1), &[pooled])?;
        return reshape(egraph, sliced, whole(&kept));
    }
    let unfolded = reshape(egraph, pooled, whole(depth))?;
    add_op(egraph, every(2), &[unfolded])
}

//! Rotary position embedding, written out.

use adze_ir::egraph::{Condition, EGraph, ENode, Match, Rule, add_op};
use adze_ir::exact::{Exactness, NORM_LINEAR};
use adze_ir::extent::Extent;
use adze_ir::ops::{Expand, Op, RotaryEmbedding, Slice, UnaryFn};
use egg::{Id, Subst};

use super::support::{id, op_of, padded, reshape, transpose, ty, value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "rotary-of-halves",
        left: &["(add ?p (mul ?m ?a ?b) (mul ?m ?c ?d))"],
        right: "(rotary_embedding ?x ?cos ?sin)",
        conditions: &[
            Condition {
                name: "one product is of a tensor and a row for each position, the other of its halves, the second one \
                       negative and in front, and such a row",
                holds: |m| halves(m.egraph, m.subst).is_some(),
            },
            Condition {
                name: "rows have the same numbers in both halves",
                holds: |m| {
                    halves(m.egraph, m.subst)
                        .is_none_or(|found| [found.cos, found.sin].iter().all(|row| repeats(m.egraph, *row, DEPTH)))
                },
            },
        ],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the definition; the operator reads the first half of each row, heads come before positions in it",
        helps: "one pass over the tensor instead of six",
        make: |g, s| {
            let found = halves(g, s)?;
            let half = ty(g, found.x)?.shape[3].floordiv(&2.into());
            let [cos, sin] = [found.cos, found.sin].map(|row| first_half(g, row, &half));
            rotate(g, found.x, found.heads, [cos?, sin?], false)
        },
    },
    Rule {
        name: "rotary-of-neighbours",
        left: &[
            "(reshape ?r (concat ?c \
                (reshape ?o (sub ?d (mul ?m ?cos (reshape ?h (@get ?t))) (mul ?m ?sin ?odd))) \
                (reshape ?o (add ?p (mul ?m ?sin (reshape ?h (@get ?t))) (mul ?m ?cos ?odd)))))",
            "(reshape ?r (concat ?c \
                (reshape ?o (sub ?d (mul ?m (reshape ?h (@get ?t)) ?cos) (mul ?m ?odd ?sin))) \
                (reshape ?o (add ?p (mul ?m (reshape ?h (@get ?t)) ?sin) (mul ?m ?odd ?cos)))))",
        ],
        right: "(transpose (rotary_embedding{interleaved} (transpose ?x) ?cos ?sin))",
        conditions: &[Condition {
            name: "neighbours of a last axis are turned by the angles of their position",
            holds: |m| turned(m.egraph, m.subst).is_some(),
        }],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the definition; heads come before positions in the operator",
        helps: "one pass over the tensor instead of a dozen",
        make: make_neighbours,
    },
];

/// The only operand of an operator in a class that `accept` takes.
fn operand_of(egraph: &EGraph, class: Id, accept: impl Fn(&Op) -> bool) -> Option<Id> {
    egraph[class].nodes.iter().find_map(|node| {
        let op = op_of(egraph, node)?;
        node.children.get(1).copied().filter(|_| accept(op))
    })
}

/// The operand `[batch, positions, heads, size]` whose neighbours are turned.
fn turned(egraph: &EGraph, subst: &Subst) -> Option<Id> {
    let m = Match { egraph, subst };
    let (Op::Reshape(joined), Op::Reshape(single), Op::Reshape(half), Op::Concat(concat)) =
        (m.op("r"), m.op("o"), m.op("h"), m.op("c"))
    else {
        return None;
    };
    let [b, s, heads, d] = &joined.shape[..] else { return None };
    let pairs = d.floordiv(&2.into());
    let shape = [b.clone(), s.clone(), heads.clone(), pairs.clone()];
    let with = |last: i64| -> Vec<Extent> { shape.iter().cloned().chain([last.into()]).collect() };
    if half.shape != shape || single.shape != with(1) || concat.axis != 4 {
        return None;
    }
    // Both halves come from one split, the second as its second result.
    let split = egraph.find(m.id("t"));
    let second = operand_of(egraph, m.id("odd"), |op| op == m.op("h"))?;
    let is_second = |node: &ENode| node.is("@get") && node.payload == 1 && egraph.find(node.children[0]) == split;
    let apart = operand_of(
        egraph,
        split,
        |op| matches!(op, Op::Split(split) if split.axis == 4 && split.sizes == [Extent::ONE, Extent::ONE]),
    )?;
    let x = operand_of(egraph, apart, |op| matches!(op, Op::Reshape(to) if to.shape == with(2)))?;
    // One row of angles per position.
    let angles = |name: &str| {
        let [batch, rows, one, columns] = &m.ty(name)?.shape[..] else { return None };
        Some((batch == b || *batch == Extent::ONE) && rows == s && *one == Extent::ONE && *columns == pairs)
    };
    let fits = angles("cos")? && angles("sin")? && egraph[second].nodes.iter().any(is_second);
    (fits && ty(egraph, x)?.shape == joined.shape).then_some(x)
}

fn make_neighbours(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let x = turned(egraph, subst)?;
    let tables = ["cos", "sin"].map(|name| id(egraph, subst, name));
    rotate(egraph, x, 2, tables, true)
}

/// The operator on a tensor whose heads are that axis (1 or 2), with tables that broadcast to it, half as wide.
fn rotate(egraph: &mut EGraph, x: Id, heads: usize, tables: [Id; 2], interleaved: bool) -> Option<Id> {
    let shape = ty(egraph, x)?.shape.clone();
    let rows = vec![shape[0].clone(), shape[3 - heads].clone(), shape[3].floordiv(&2.into())];
    let mut table = |angles: Id| {
        let mut own = padded(&ty(egraph, angles)?.shape, 4);
        own.remove(heads);
        let angles = reshape(egraph, angles, own)?;
        if ty(egraph, angles)?.shape == rows {
            Some(angles)
        } else {
            add_op(egraph, Expand { shape: rows.clone() }, &[angles])
        }
    };
    let (cos, sin) = (table(tables[0])?, table(tables[1])?);
    let perm = if heads == 1 { vec![0, 1, 2, 3] } else { vec![0, 2, 1, 3] };
    let heads_first = transpose(egraph, x, perm.clone())?;
    let turned = add_op(egraph, RotaryEmbedding { interleaved, rotary_dim: 0 }, &[heads_first, cos, sin])?;
    transpose(egraph, turned, perm)
}

/// Operators that two halves of a row are followed through.
const DEPTH: usize = 12;

/// `x · cos + (−second half of x, first half of x) · sin`.
struct Halves {
    /// Of rank 4.
    x: Id,
    cos: Id,
    sin: Id,
    /// The axis of `x` along which rows are the same.
    heads: usize,
}

fn halves(egraph: &EGraph, subst: &Subst) -> Option<Halves> {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| egraph.find(id(egraph, subst, name)));
    let both = |[p, q]: [Id; 2]| [[p, q], [q, p]];
    let ways = [([a, b], [c, d]), ([c, d], [a, b])];
    ways.into_iter().flat_map(|(plain, swapped)| both(plain).map(|p| both(swapped).map(|s| (p, s)))).flatten().find_map(
        |([x, cos], [swapped, sin])| {
            let heads = (1..3).find(|&heads| [cos, sin].iter().all(|row| is_row(egraph, *row, x, heads)))?;
            swaps(egraph, swapped, x).then_some(Halves { x, cos, sin, heads })
        },
    )
}

/// Whether a value has one row for each position of another one, whose heads are that axis.
fn is_row(egraph: &EGraph, row: Id, x: Id, heads: usize) -> bool {
    let (Some(row), Some(x)) = (ty(egraph, row), ty(egraph, x)) else { return false };
    if x.rank() != 4 || row.rank() > 4 {
        return false;
    }
    let own = padded(&row.shape, 4);
    let batch = own[0] == x.shape[0] || own[0] == Extent::ONE;
    batch && own[heads] == Extent::ONE && own[3 - heads] == x.shape[3 - heads] && own[3] == x.shape[3]
}

/// Whether a class is the second half of another one's last axis, negative, before the first half.
fn swaps(egraph: &EGraph, swapped: Id, x: Id) -> bool {
    egraph[swapped].nodes.iter().any(|node| {
        let (Some(Op::Concat(concat)), [_, first, second]) = (op_of(egraph, node), &node.children[..]) else {
            return false;
        };
        let negative = |op: &Op| matches!(op, Op::Unary(unary) if unary.function == UnaryFn::Neg);
        concat.axis == 3
            && is_half(egraph, *second, x, 0)
            && operand_of(egraph, *first, negative).is_some_and(|half| is_half(egraph, half, x, 1))
    })
}

/// Whether a class is the first (0) or second (1) half of a value's last axis.
fn is_half(egraph: &EGraph, half: Id, x: Id, at: u32) -> bool {
    let Some(whole) = ty(egraph, x).map(|ty| ty.shape[3].clone()) else { return false };
    let len = whole.floordiv(&2.into());
    if len.clone() * Extent::from(2) != whole {
        return false;
    }
    let is_x = |id: &Id| egraph.find(*id) == egraph.find(x);
    egraph[half].nodes.iter().any(|node| {
        if node.is("@get") {
            let halved = |op: &Op| matches!(op, Op::Split(split) if split.axis == 3 && split.sizes == [len.clone(), len.clone()]);
            return node.payload == at && operand_of(egraph, node.children[0], halved).is_some_and(|of| is_x(&of));
        }
        let start = len.clone() * Extent::from(i64::from(at));
        let slice = matches!(op_of(egraph, node), Some(Op::Slice(slice))
            if slice.axes == [3] && slice.starts == [start] && slice.sizes == [len.clone()] && slice.steps == [1]);
        slice && node.children.get(1).is_some_and(is_x)
    })
}

/// Whether the last axis of a value is twice the same numbers, by the operators that it comes from.
fn repeats(egraph: &EGraph, row: Id, depth: usize) -> bool {
    let (Some(depth), Some(shape)) = (depth.checked_sub(1), ty(egraph, row).map(|ty| ty.shape.clone())) else {
        return false;
    };
    let Some(last) = shape.last().filter(|last| **last != Extent::ONE) else { return true };
    if let Some(constant) = value(egraph, row) {
        let width = constant.shape().last().copied().unwrap_or(1);
        let values = constant.to_f64();
        let same =
            |row: &[f64]| row[..width / 2].iter().zip(&row[width / 2..]).all(|(a, b)| a.to_bits() == b.to_bits());
        return width % 2 == 0 && values.chunks_exact(width.max(1)).all(same);
    }
    egraph[row].nodes.iter().any(|node| {
        let Some(op) = op_of(egraph, node) else { return false };
        let of = |at: usize| node.children.get(at + 1).is_some_and(|&child| repeats(egraph, child, depth));
        let rank_of = |at: usize| node.children.get(at + 1).and_then(|&child| ty(egraph, child)).map(|ty| ty.rank());
        let keeps_last = |at: usize| {
            node.children.get(at + 1).and_then(|&child| ty(egraph, child)?.shape.last().cloned()).as_ref() == Some(last)
        };
        match op {
            Op::Concat(concat) => {
                let twice = |first: &Id, second: &Id| egraph.find(*first) == egraph.find(*second);
                concat.axis + 1 == shape.len() && matches!(&node.children[1..], [first, second] if twice(first, second))
            }
            Op::Unary(_) | Op::Cast(_) | Op::Expand(_) => of(0),
            Op::Binary(_) => of(0) && of(1),
            Op::Reshape(_) => keeps_last(0) && of(0),
            Op::Transpose(transpose) => transpose.perm.last() == Some(&(shape.len() - 1)) && of(0),
            Op::Slice(slice) => !slice.axes.contains(&(shape.len() - 1)) && of(0),
            Op::Gather(gather) => rank_of(0).is_some_and(|rank| gather.axis + 1 < rank) && of(0),
            _ => false,
        }
    })
}

/// The first half of the last axis.
fn first_half(egraph: &mut EGraph, row: Id, half: &Extent) -> Option<Id> {
    let axis = ty(egraph, row)?.rank().checked_sub(1)?;
    let slice = Slice { axes: vec![axis], starts: vec![Extent::ZERO], sizes: vec![half.clone()], steps: vec![1] };
    add_op(egraph, slice, &[row])
}

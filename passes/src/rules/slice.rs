//! Slices, concatenations, gathers and expansions: cancelled, joined, and moved up so that less is computed.

use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::Exactness;
use adze_ir::extent::Extent;
use adze_ir::ops::{Concat, Op, Slice};
use adze_ir::types::DType;
use egg::{Id, Subst};

use super::support::{binary, broadcasts_to, each_unary, find, id, op, reshape, through, ty, value};

macro_rules! of_expanded {
    ($($op:literal),*) => {
        &[$(concat!("(", $op, " ?a (expand ?e ?x) ?y)"), concat!("(", $op, " ?a ?l (expand ?e ?x))")),*]
    };
}

/// Variables of the parts of a concatenation.
const PARTS: [&str; 8] = ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"];
/// Parts of one concatenation that rules make.
const MAX_PARTS: usize = 16;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "slice-of-slice",
        left: &["(slice ?s (slice ?t ?x))"],
        right: "(slice{both} ?x)",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "the second selection is made among the first",
        helps: "one copy instead of two",
        make: make_composed,
    },
    Rule {
        name: "slice-of-concat",
        left: &[
            "(slice ?s (concat ?a ?x0 ?x1))",
            "(slice ?s (concat ?a ?x0 ?x1 ?x2))",
            "(slice ?s (concat ?a ?x0 ?x1 ?x2 ?x3))",
            "(slice ?s (concat ?a ?x0 ?x1 ?x2 ?x3 ?x4))",
        ],
        right: "(slice ?xi), or ?xi",
        conditions: &[Condition {
            name: "the selection lies in one part",
            holds: |m| part_of(m.egraph, m.subst).is_some(),
        }],
        exactness: Exactness::Exact,
        sound: "every element of a concatenation is one of a part",
        helps: "parts that are taken out again are not copied",
        make: |g, s| {
            let (part, slice) = part_of(g, s)?;
            make_slice(g, part, slice)
        },
    },
    Rule {
        name: "concat-of-slices",
        left: &["(concat ?a (slice ?s ?x) (slice ?t ?x))"],
        right: "(slice{both} ?x), or ?x",
        conditions: &[Condition {
            name: "the second begins where the first ends",
            holds: |m| adjacent(m.egraph, m.subst).is_some(),
        }],
        exactness: Exactness::Exact,
        sound: "neighbouring elements in order are one slice",
        helps: "what is split and put together again is not touched",
        make: |g, s| {
            let (slice, x) = (adjacent(g, s)?, id(g, s, "x"));
            make_slice(g, x, slice)
        },
    },
    Rule {
        name: "concat-of-concat",
        left: &[
            "(concat ?a ?x0 ?x1)",
            "(concat ?a ?x0 ?x1 ?x2)",
            "(concat ?a ?x0 ?x1 ?x2 ?x3)",
            "(concat ?a ?x0 ?x1 ?x2 ?x3 ?x4)",
        ],
        right: "(concat ?a .. parts of its parts ..)",
        conditions: &[Condition {
            name: "a part is a concatenation along the same axis",
            holds: |m| flat(m.egraph, m.subst).is_some(),
        }],
        exactness: Exactness::Exact,
        sound: "concatenation is associative",
        helps: "every element is copied once",
        make: |g, s| {
            let (parts, axis) = flat(g, s)?;
            add_op(g, Concat { axis }, &parts)
        },
    },
    Rule {
        name: "slice-before-unary",
        left: each_unary!("(slice ?s (", " ?a ?x))", "log"),
        right: "(f ?a (slice ?s ?x))",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "an elementwise function does not see positions",
        helps: "nothing is computed that is thrown away",
        make: |g, s| through(g, s, "s", "a"),
    },
    Rule {
        name: "slice-before-pool",
        left: &["(slice ?s (max_pool ?a ?x))", "(slice ?s (average_pool ?a ?x))"],
        right: "(pool ?a (slice ?s ?x))",
        conditions: &[Condition {
            name: "images or channels are selected",
            holds: |m| matches!(m.op("s"), Op::Slice(slice) if slice.axes.iter().all(|&axis| axis < 2)),
        }],
        exactness: Exactness::Exact,
        sound: "a pool treats every channel of every image by itself",
        helps: "channels that are thrown away are not pooled",
        make: |g, s| through(g, s, "s", "a"),
    },
    Rule {
        name: "slice-before-reshape",
        left: &["(slice ?s (reshape ?r ?x))"],
        right: "(reshape (slice ?x))",
        conditions: &[Condition {
            name: "the selection is an even one of one axis of the operand",
            holds: |m| before_reshape(m.egraph, m.subst).is_some(),
        }],
        exactness: Exactness::Exact,
        sound: "a reshape keeps the order of the elements, so places along one axis are places along the other",
        helps: "less is moved, and shuffles of channels become slices",
        make: |g, s| {
            let (slice, x) = (before_reshape(g, s)?, id(g, s, "x"));
            let (Op::Slice(outer), Op::Reshape(to)) = (op(g, s, "s"), op(g, s, "r")) else { return None };
            let mut shape = to.shape;
            outer.axes.iter().zip(&outer.sizes).for_each(|(&axis, size)| shape[axis] = size.clone());
            let made = make_slice(g, x, slice)?;
            reshape(g, made, shape)
        },
    },
    Rule {
        name: "gather-of-range",
        left: &["(gather ?g ?x ?i)"],
        right: "(reshape (slice ?x))",
        conditions: &[Condition {
            name: "the indices are constant neighbours in order",
            holds: |m| range(m.egraph, m.subst).is_some(),
        }],
        exactness: Exactness::Exact,
        sound: "the same elements",
        helps: "a run of memory instead of places that are looked up",
        make: |g, s| {
            let (slice, x, i) = (range(g, s)?, id(g, s, "x"), id(g, s, "i"));
            let Op::Gather(gather) = op(g, s, "g") else { return None };
            let (from, indices) = (ty(g, x)?.shape.clone(), ty(g, i)?.shape.clone());
            let made = make_slice(g, x, slice)?;
            reshape(g, made, [&from[..gather.axis], &indices, &from[gather.axis + 1..]].concat())
        },
    },
    Rule {
        name: "gather-of-wider-indices",
        left: &["(gather ?g ?x (cast ?c ?i))"],
        right: "(gather ?g ?x ?i)",
        conditions: &[Condition { name: "the cast keeps every index", holds: widens }],
        exactness: Exactness::Exact,
        sound: "the same indices",
        helps: "they are not stored in eight bytes each",
        make: |g, s| {
            let (gather, x, i) = (op(g, s, "g"), id(g, s, "x"), id(g, s, "i"));
            add_op(g, gather, &[x, i])
        },
    },
    Rule {
        name: "expand-into-binary",
        left: of_expanded!("add", "sub", "mul", "div", "max", "min", "equal", "less", "greater"),
        right: "(f ?a ?x ?y)",
        conditions: &[Condition { name: "the result has the same shape without it", holds: covers }],
        exactness: Exactness::Exact,
        sound: "elementwise functions broadcast",
        helps: "what is repeated is not stored",
        make: |g, s| {
            let (Op::Binary(function), x) = (op(g, s, "a"), id(g, s, "x")) else { return None };
            match find(g, s, "y") {
                Some(y) => binary(g, function.function, x, y),
                None => {
                    let l = id(g, s, "l");
                    binary(g, function.function, l, x)
                }
            }
        },
    },
];

/// Adds a slice; none where it takes everything.
fn make_slice(egraph: &mut EGraph, x: Id, slice: Slice) -> Option<Id> {
    let shape = &ty(egraph, x)?.shape;
    let whole = |at: usize| {
        slice.starts[at] == Extent::ZERO && slice.steps[at] == 1 && slice.sizes[at] == shape[slice.axes[at]]
    };
    let kept: Vec<usize> = (0..slice.axes.len()).filter(|&at| !whole(at)).collect();
    if kept.is_empty() {
        return Some(x);
    }
    let slice = Slice {
        axes: kept.iter().map(|&at| slice.axes[at]).collect(),
        starts: kept.iter().map(|&at| slice.starts[at].clone()).collect(),
        sizes: kept.iter().map(|&at| slice.sizes[at].clone()).collect(),
        steps: kept.iter().map(|&at| slice.steps[at]).collect(),
    };
    add_op(egraph, slice, &[x])
}

fn make_composed(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Slice(outer), Op::Slice(mut slice)) = (op(egraph, subst, "s"), op(egraph, subst, "t")) else {
        return None;
    };
    for (at, &axis) in outer.axes.iter().enumerate() {
        let (start, size, step) = (outer.starts[at].clone(), outer.sizes[at].clone(), outer.steps[at]);
        match slice.axes.iter().position(|&a| a == axis) {
            None => {
                slice.axes.push(axis);
                slice.starts.push(start);
                slice.sizes.push(size);
                slice.steps.push(step);
            }
            Some(inner) => {
                let first = slice.starts[inner].clone();
                slice.starts[inner] = first + start * slice.steps[inner].into();
                slice.sizes[inner] = size;
                slice.steps[inner] = slice.steps[inner].checked_mul(step)?;
            }
        }
    }
    let x = id(egraph, subst, "x");
    make_slice(egraph, x, slice)
}

/// The part that a slice of a concatenation takes from, and what it takes of it.
fn part_of(egraph: &EGraph, subst: &Subst) -> Option<(Id, Slice)> {
    let (Op::Slice(mut slice), Op::Concat(concat)) = (op(egraph, subst, "s"), op(egraph, subst, "a")) else {
        return None;
    };
    let at = slice.axes.iter().position(|&axis| axis == concat.axis)?;
    let (start, size) = (slice.starts[at].as_const()?, slice.sizes[at].as_const().filter(|&size| size > 0)?);
    let end = start + (size - 1) * slice.steps[at];
    let (low, high) = (start.min(end), start.max(end));
    let mut before = 0;
    for part in PARTS.iter().map_while(|name| find(egraph, subst, name)) {
        let len = ty(egraph, part)?.shape[concat.axis].as_const()?;
        if low >= before && high < before + len {
            slice.starts[at] = (start - before).into();
            return Some((part, slice));
        }
        before += len;
    }
    None
}

/// One slice for two that are put together along an axis.
fn adjacent(egraph: &EGraph, subst: &Subst) -> Option<Slice> {
    let (Op::Slice(first), Op::Slice(second), Op::Concat(concat)) =
        (op(egraph, subst, "s"), op(egraph, subst, "t"), op(egraph, subst, "a"))
    else {
        return None;
    };
    let at = first.axes.iter().position(|&axis| axis == concat.axis)?;
    let step = first.steps[at];
    let next = first.starts[at].clone() + first.sizes[at].clone() * step.into();
    let mut wanted = first.clone();
    wanted.starts[at] = next;
    wanted.sizes[at].clone_from(second.sizes.get(at)?);
    if second != wanted {
        return None;
    }
    let mut both = first;
    both.sizes[at] = both.sizes[at].clone() + second.sizes[at].clone();
    Some(both)
}

/// The parts of a concatenation with those that are concatenations along its axis taken apart, if there are any.
fn flat(egraph: &EGraph, subst: &Subst) -> Option<(Vec<Id>, usize)> {
    let Op::Concat(concat) = op(egraph, subst, "a") else { return None };
    let parts: Vec<Id> = PARTS.iter().map_while(|name| find(egraph, subst, name)).collect();
    let mut flat = Vec::new();
    for &part in &parts {
        match parts_of(egraph, part, concat.axis) {
            Some(inner) => flat.extend(inner),
            None => flat.push(part),
        }
    }
    (flat.len() > parts.len() && flat.len() <= MAX_PARTS).then_some((flat, concat.axis))
}

/// The most parts that a class is known to be the concatenation of.
fn parts_of(egraph: &EGraph, id: Id, axis: usize) -> Option<&[Id]> {
    let along = |attr: Id| matches!(egraph[attr].data.attr.map(|a| egraph.analysis.op(a)), Some(Op::Concat(c)) if c.axis == axis);
    let concats = egraph[id].nodes.iter().filter(|node| node.children.first().is_some_and(|&attr| along(attr)));
    concats.map(|node| &node.children[1..]).filter(|parts| parts.len() > 1).max_by_key(|parts| parts.len())
}

/// What a slice of a reshape takes of the operand, where that is an even selection along one of its axes.
fn before_reshape(egraph: &EGraph, subst: &Subst) -> Option<Slice> {
    let m = Match { egraph, subst };
    let (Op::Slice(outer), Op::Reshape(to), Some(x)) = (m.op("s"), m.op("r"), m.ty("x")) else { return None };
    let ([axis], [start], [size], [step]) = (&outer.axes[..], &outer.starts[..], &outer.sizes[..], &outer.steps[..])
    else {
        return None;
    };
    let (outside, inside) = (product(&to.shape[..*axis])?, product(&to.shape[axis + 1..])?);
    let (start, size, len) = (start.as_const()?, size.as_const()?, to.shape[*axis].as_const()?);
    if size == 0 || x.elems() == Extent::ZERO {
        return None;
    }
    // The axis of the operand that the places lie on, with what is outside and inside of it.
    let mut before = 1;
    for (at, extent) in x.shape.iter().enumerate() {
        let own = extent.as_const()?;
        let after = product(&x.shape[at + 1..])?;
        if own > 1 && before <= outside && after <= inside && outside % before == 0 && inside % after == 0 {
            let (rows, run) = (outside / before, inside / after);
            // The axis is `rows` times `len` runs of `run` elements.
            let (start, size, step) = if rows == 1 && *step == 1 {
                (start * run, size * run, 1)
            } else if rows == 1 && run == 1 {
                (start, size, *step)
            } else if size == 1 && run == 1 {
                (start, rows, len)
            } else {
                return None;
            };
            let slice =
                Slice { axes: vec![at], starts: vec![start.into()], sizes: vec![size.into()], steps: vec![step] };
            return Some(slice);
        }
        before *= own;
    }
    None
}

fn product(extents: &[Extent]) -> Option<i64> {
    Extent::product(extents).as_const()
}

/// The slice that a gather with constant indices takes.
fn range(egraph: &EGraph, subst: &Subst) -> Option<Slice> {
    let Op::Gather(gather) = op(egraph, subst, "g") else { return None };
    let indices = value(egraph, id(egraph, subst, "i"))?.to_i64();
    let len = ty(egraph, id(egraph, subst, "x"))?.shape[gather.axis].as_const()?;
    let wrapped: Vec<i64> = indices.iter().map(|&i| if i < 0 { i + len } else { i }).collect();
    let (&first, &last) = (wrapped.first()?, wrapped.last()?);
    let in_order = wrapped.windows(2).all(|pair| pair[1] == pair[0] + 1) && first >= 0 && last < len;
    let size = i64::try_from(wrapped.len()).ok()?;
    in_order.then(|| Slice {
        axes: vec![gather.axis],
        starts: vec![first.into()],
        sizes: vec![size.into()],
        steps: vec![1],
    })
}

fn widens(m: &Match<'_>) -> bool {
    let (Op::Cast(cast), Some(from)) = (m.op("c"), m.ty("i").map(|ty| ty.dtype)) else { return false };
    let whole = |dtype: DType| dtype.int_range().filter(|_| dtype.is_int());
    matches!((whole(from), whole(cast.to)), (Some((a, b)), Some((c, d))) if c <= a && b <= d)
}

fn covers(m: &Match<'_>) -> bool {
    let other = if m.find("y").is_some() { "y" } else { "l" };
    matches!((m.op("e"), m.ty(other)), (Op::Expand(to), Some(other)) if broadcasts_to(&to.shape, &other.shape))
}

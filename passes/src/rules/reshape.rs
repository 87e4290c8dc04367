//! Reshapes: composed, moved past what does not see shapes, and those that are other operators in disguise.

use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::Exactness;
use adze_ir::extent::Extent;
use adze_ir::ops::{DepthToSpace, Op, Pad, SpaceToDepth};
use egg::{Id, Subst};

use super::support::{
    binary, broadcasts_to, each_unary, find, id, moves_units, op, padded, reshape, solid, through, ty,
};

macro_rules! through_binary {
    ($($op:literal),*) => { &[$(concat!("(", $op, " ?a (reshape ?r ?x) ?c)")),*] };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "reshape-of-reshape",
        left: &["(reshape ?r (reshape ?q ?x))"],
        right: "(reshape ?r ?x), or ?x",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "the elements keep their order",
        helps: "what reshapes hid is seen",
        make: |g, s| {
            let (Op::Reshape(to), x) = (op(g, s, "r"), id(g, s, "x")) else { return None };
            reshape(g, x, to.shape)
        },
    },
    Rule {
        name: "reshape-after-unary",
        left: each_unary!("(", " ?a (reshape ?r ?x))", "log"),
        right: "(reshape ?r (f ?a ?x))",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "an elementwise function does not see shapes",
        helps: "the function meets the operator before the reshape and joins it",
        make: |g, s| through(g, s, "a", "r"),
    },
    Rule {
        name: "reshape-after-binary",
        left: through_binary!("add", "sub", "mul", "div", "max", "min"),
        right: "(reshape ?r (f ?a ?x (reshape ?c)))",
        conditions: &[
            Condition { name: "the other operand is constant", holds: |m| m.fixed("c") },
            Condition { name: "the reshape moves axes of extent 1 only", holds: |m| unit_reshape(m, "r", "x") },
            Condition { name: "the constant broadcasts to it", holds: constant_fits },
        ],
        exactness: Exactness::Exact,
        sound: "an elementwise function does not see axes of extent 1; those of the constant are moved along",
        helps: "a bias meets the convolution or product before the reshape and joins it",
        make: make_after_binary,
    },
    Rule {
        name: "reshape-before-pad",
        left: &["(reshape ?r (pad ?p ?x))", "(reshape ?r (pad ?p ?x ?v))"],
        right: "(pad (reshape ?x) ?v)",
        conditions: &[
            Condition { name: "the reshape moves axes of extent 1 only", holds: padded_units },
            Condition { name: "those are not padded", holds: unit_axes_unpadded },
        ],
        exactness: Exactness::Exact,
        sound: "axes of extent 1 can stand anywhere",
        helps: "padding reaches the operator that it is for",
        make: make_before_pad,
    },
    Rule {
        name: "depth-to-space",
        left: &["(reshape ?r (transpose ?p (reshape ?q ?x)))"],
        right: "(depth_to_space ?x)",
        conditions: &[Condition {
            name: "square blocks of channels are moved into space",
            holds: |m| to_space(m.egraph, m.subst).is_some(),
        }],
        exactness: Exactness::Exact,
        sound: "the definition",
        helps: "one move of two axes instead of a transpose of six",
        make: |g, s| {
            let (made, x) = (to_space(g, s)?, id(g, s, "x"));
            add_op(g, made, &[x])
        },
    },
    Rule {
        name: "space-to-depth",
        left: &["(reshape ?r (transpose ?p (reshape ?q ?x)))"],
        right: "(space_to_depth ?x)",
        conditions: &[Condition {
            name: "square blocks of space are moved into channels",
            holds: |m| to_depth(m.egraph, m.subst).is_some(),
        }],
        exactness: Exactness::Exact,
        sound: "the definition",
        helps: "one move of two axes instead of a transpose of six",
        make: |g, s| {
            let (made, x) = (to_depth(g, s)?, id(g, s, "x"));
            add_op(g, made, &[x])
        },
    },
];

fn unit_reshape(m: &Match<'_>, reshape: &str, x: &str) -> bool {
    matches!((m.op(reshape), m.ty(x)), (Op::Reshape(to), Some(x)) if moves_units(&x.shape, &to.shape))
}

fn constant_fits(m: &Match<'_>) -> bool {
    matches!((m.op("r"), m.ty("c")), (Op::Reshape(to), Some(c)) if broadcasts_to(&c.shape, &to.shape))
}

fn make_after_binary(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Binary(function), Op::Reshape(to)) = (op(egraph, subst, "a"), op(egraph, subst, "r")) else { return None };
    let (x, c) = (id(egraph, subst, "x"), id(egraph, subst, "c"));
    let from = ty(egraph, x)?.shape.clone();
    let constant = padded(&ty(egraph, c)?.shape, to.shape.len());
    let mut shape = vec![Extent::ONE; from.len()];
    for (axis, target) in solid(&from).into_iter().zip(solid(&to.shape)) {
        shape[axis] = constant.get(target)?.clone();
    }
    let c = reshape(egraph, c, shape)?;
    let made = binary(egraph, function.function, x, c)?;
    reshape(egraph, made, to.shape)
}

/// The shape that a pad gives.
fn pad_shape(m: &Match<'_>) -> Option<Vec<Extent>> {
    let (Op::Pad(pad), Some(x)) = (m.op("p"), m.ty("x")) else { return None };
    let sides = pad.before.iter().zip(&pad.after);
    Some(x.shape.iter().zip(sides).map(|(len, (b, a))| len.clone() + b.clone() + a.clone()).collect())
}

fn padded_units(m: &Match<'_>) -> bool {
    matches!((m.op("r"), pad_shape(m)), (Op::Reshape(to), Some(from)) if moves_units(&from, &to.shape))
}

fn unit_axes_unpadded(m: &Match<'_>) -> bool {
    let (Op::Pad(pad), Some(shape)) = (m.op("p"), pad_shape(m)) else { return false };
    let unpadded = |axis: usize| pad.before[axis] == Extent::ZERO && pad.after[axis] == Extent::ZERO;
    (0..shape.len()).all(|axis| shape[axis] != Extent::ONE || unpadded(axis))
}

fn make_before_pad(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Pad(pad), Op::Reshape(to)) = (op(egraph, subst, "p"), op(egraph, subst, "r")) else { return None };
    let x = id(egraph, subst, "x");
    let from = ty(egraph, x)?.shape.clone();
    let padded = |axis: usize| pad.before[axis] != Extent::ZERO || pad.after[axis] != Extent::ZERO;
    // An axis of extent 1 that is padded is long afterwards.
    let long = (0..from.len()).filter(|&axis| from[axis] != Extent::ONE || padded(axis));
    let rank = to.shape.len();
    let (mut shape, mut before, mut after) =
        (vec![Extent::ONE; rank], vec![Extent::ZERO; rank], vec![Extent::ZERO; rank]);
    for (axis, target) in long.zip(solid(&to.shape)) {
        shape[target] = from[axis].clone();
        before[target] = pad.before[axis].clone();
        after[target] = pad.after[axis].clone();
    }
    let x = reshape(egraph, x, shape)?;
    let operands: Vec<Id> = std::iter::once(x).chain(find(egraph, subst, "v")).collect();
    add_op(egraph, Pad { mode: pad.mode, before, after }, &operands)
}

/// Shapes before, between and after, and the permutation between, of a reshaped transpose of a reshape.
fn views(egraph: &EGraph, subst: &Subst) -> Option<([Vec<Extent>; 3], Vec<usize>)> {
    let m = Match { egraph, subst };
    let (Op::Reshape(r), Op::Transpose(p), Op::Reshape(q)) = (m.op("r"), m.op("p"), m.op("q")) else { return None };
    Some(([m.ty("x")?.shape.clone(), q.shape.clone(), r.shape.clone()], p.perm.clone()))
}

fn to_space(egraph: &EGraph, subst: &Subst) -> Option<DepthToSpace> {
    let ([from, middle, to], perm) = views(egraph, subst)?;
    let ([n, _, h, w], [n2, a, b, c, h2, w2]) = (&from[..], &middle[..]) else { return None };
    // Depth-column-row: blocks outermost; column-row-depth: innermost.
    let (depth, rows, columns, crd) = match perm[..] {
        [0, 3, 4, 1, 5, 2] => (c, a, b, false),
        [0, 1, 4, 2, 5, 3] => (a, b, c, true),
        _ => return None,
    };
    let block = rows.as_const().filter(|&block| columns.as_const() == Some(block) && block > 1)?;
    let size = Extent::from(block);
    let wanted = [n.clone(), depth.clone(), h.clone() * size.clone(), w.clone() * size];
    let same = [n, h, w] == [n2, h2, w2] && to == wanted;
    same.then_some(DepthToSpace { block, crd })
}

fn to_depth(egraph: &EGraph, subst: &Subst) -> Option<SpaceToDepth> {
    let ([from, middle, to], perm) = views(egraph, subst)?;
    let ([n, c, h, w], [n2, c2, rows, a, columns, b]) = (&from[..], &middle[..]) else { return None };
    let crd = match perm[..] {
        [0, 3, 5, 1, 2, 4] => false,
        [0, 1, 3, 5, 2, 4] => true,
        _ => return None,
    };
    let block = a.as_const().filter(|&block| b.as_const() == Some(block) && block > 1)?;
    let size = Extent::from(block);
    let whole = [n, c] == [n2, c2] && rows.clone() * size.clone() == *h && columns.clone() * size.clone() == *w;
    let wanted = [n.clone(), c.clone() * size.clone() * size, rows.clone(), columns.clone()];
    (whole && to == wanted).then_some(SpaceToDepth { block, crd })
}

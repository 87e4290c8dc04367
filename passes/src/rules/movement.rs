//! Transposes: cancelled in pairs, moved down until they meet; those of unit axes are reshapes.

use adze_ir::egraph::{Condition, EGraph, Match, Rule, add_op};
use adze_ir::exact::{Exactness, NORM_LINEAR};
use adze_ir::extent::Extent;
use adze_ir::ops::{Concat, LogSoftmax, Op, Pad, Reduce, Slice, Softmax};
use egg::{Id, Subst};

use super::support::{
    binary, each_unary, find, id, inverse, moves_units, op, padded, reshape, solid, through, transpose, ty,
};

macro_rules! through_binary {
    ($($op:literal),*) => { &[$(concat!("(", $op, " ?a (transpose ?p ?x) (transpose ?p ?y))")),*] };
}

macro_rules! with_constant {
    ($($op:literal),*) => {
        &[$(
            concat!("(", $op, " ?a (transpose ?p ?x) ?c)"),
            concat!("(", $op, " ?a ?l (transpose ?p ?x))")
        ),*]
    };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "transpose-of-transpose",
        left: &["(transpose ?p (transpose ?q ?x))"],
        right: "(transpose{q∘p} ?x), or ?x",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "permutations compose; the identity is no operator",
        helps: "one copy of the tensor less, or two",
        make: make_composed,
    },
    Rule {
        name: "transpose-after-unary",
        left: each_unary!("(", " ?a (transpose ?p ?x))"),
        right: "(transpose ?p (f ?a ?x))",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "an elementwise function does not see positions",
        helps: "transposes meet and cancel",
        make: |g, s| through(g, s, "a", "p"),
    },
    Rule {
        name: "transpose-after-binary",
        left: through_binary!("add", "sub", "mul", "div", "max", "min"),
        right: "(transpose ?p (f ?a ?x ?y))",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "an elementwise function does not see positions, and both operands are permuted alike",
        helps: "one transpose instead of two",
        make: make_after_binary,
    },
    Rule {
        name: "transpose-after-binary-with-constant",
        left: with_constant!("add", "sub", "mul", "div", "max", "min", "pow"),
        right: "(transpose ?p (f ?a ?x (transpose{p^-1} ?c)))",
        conditions: &[Condition { name: "the other operand is constant", holds: |m| m.fixed(constant_side(m)) }],
        exactness: Exactness::Exact,
        sound: "an elementwise function does not see positions; the constant is permuted at compile time",
        helps: "transposes meet and cancel",
        make: make_after_constant,
    },
    Rule {
        name: "transpose-after-softmax",
        left: &["(softmax ?s (transpose ?p ?x))", "(log_softmax ?s (transpose ?p ?x))"],
        right: "(transpose ?p (softmax{axis = p[axis]} ?x))",
        conditions: &[Condition { name: "rows lie along one axis", holds: one_axis }],
        exactness: Exactness::Exact,
        sound: "the same rows, wherever they lie",
        helps: "transposes meet and cancel",
        make: make_after_softmax,
    },
    Rule {
        name: "transpose-after-reduce",
        left: &["(reduce ?r (transpose ?p ?x))"],
        right: "(transpose{p of what is left} (reduce{axes = p[axes]} ?x))",
        conditions: &[],
        exactness: Exactness::Norm(NORM_LINEAR),
        sound: "the same elements in another order",
        helps: "fewer elements are transposed, or none",
        make: make_after_reduce,
    },
    Rule {
        name: "transpose-after-slice",
        left: &["(slice ?s (transpose ?p ?x))"],
        right: "(transpose ?p (slice{axes = p[axes]} ?x))",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "elements are moved, never changed",
        helps: "fewer elements are transposed",
        make: make_after_slice,
    },
    Rule {
        name: "transpose-after-pad",
        left: &["(pad ?a (transpose ?p ?x))", "(pad ?a (transpose ?p ?x) ?v)"],
        right: "(transpose ?p (pad{p^-1} ?x ?v))",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "elements are moved, never changed",
        helps: "transposes meet and cancel, and padding reaches the operator that it is for",
        make: make_after_pad,
    },
    Rule {
        name: "transpose-after-concat",
        left: &[
            "(concat ?c (transpose ?p ?x0) (transpose ?p ?x1))",
            "(concat ?c (transpose ?p ?x0) (transpose ?p ?x1) (transpose ?p ?x2))",
            "(concat ?c (transpose ?p ?x0) (transpose ?p ?x1) (transpose ?p ?x2) (transpose ?p ?x3))",
        ],
        right: "(transpose ?p (concat{axis = p[axis]} ?x0 ..))",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "elements are moved, never changed",
        helps: "one transpose instead of several",
        make: make_after_concat,
    },
    Rule {
        name: "transpose-of-unit-axes",
        left: &["(transpose ?p ?x)"],
        right: "(reshape ?x)",
        conditions: &[Condition { name: "axes longer than 1 keep their order", holds: keeps_order }],
        exactness: Exactness::Exact,
        sound: "the order of the elements in memory does not depend on axes of extent 1",
        helps: "nothing is moved",
        make: |g, s| {
            let (Op::Transpose(op), x) = (op(g, s, "p"), id(g, s, "x")) else { return None };
            let shape = op.perm.iter().map(|&axis| ty(g, x).map(|ty| ty.shape[axis].clone()));
            let shape: Option<Vec<Extent>> = shape.collect();
            reshape(g, x, shape?)
        },
    },
    Rule {
        name: "reshape-before-transpose",
        left: &["(reshape ?r (transpose ?p ?x))"],
        right: "(transpose (reshape ?x))",
        conditions: &[Condition {
            name: "the reshape moves axes of extent 1 only",
            holds: |m| {
                matches!((m.op("r"), m.op("p"), m.ty("x")), (Op::Reshape(r), Op::Transpose(p), Some(x))
                if moves_units(&p.perm.iter().map(|&axis| x.shape[axis].clone()).collect::<Vec<_>>(), &r.shape))
            },
        }],
        exactness: Exactness::Exact,
        sound: "axes of extent 1 can stand anywhere",
        helps: "transposes meet and cancel",
        make: make_before_transpose,
    },
    Rule {
        name: "transpose-before-joining-axes",
        left: &["(transpose ?p (reshape ?r ?x))"],
        right: "(reshape (transpose ?x))",
        conditions: &[
            Condition { name: "the reshape joins neighbouring axes", holds: |m| joined(m.egraph, m.subst).is_some() },
            Condition { name: "not only axes of extent 1", holds: joins_long_axes },
        ],
        exactness: Exactness::Exact,
        sound: "axes that stay together can be moved one by one and joined afterwards",
        helps: "the result of a convolution lies channels last, so its transpose costs nothing, where its reshape is a copy",
        make: make_before_joining,
    },
];

/// The axes of the operand that each axis of the reshape is made of.
fn joined(egraph: &EGraph, subst: &Subst) -> Option<Vec<Vec<usize>>> {
    let (Op::Reshape(to), x) = (op(egraph, subst, "r"), id(egraph, subst, "x")) else { return None };
    let from = &ty(egraph, x)?.shape;
    let (mut groups, mut next) = (Vec::new(), 0);
    for dim in &to.shape {
        let first = next;
        while Extent::product(&from[first..next]) != *dim {
            next += 1;
            from.get(next - 1)?;
        }
        groups.push((first..next).collect::<Vec<usize>>());
    }
    // Axes of extent 1 at the end belong to the last one.
    let rest = from[next..].iter().all(|dim| *dim == Extent::ONE);
    groups.last_mut().filter(|_| rest)?.extend(next..from.len());
    Some(groups)
}

fn joins_long_axes(m: &Match<'_>) -> bool {
    let long = |axis: &&usize| m.ty("x").is_some_and(|x| x.shape[**axis] != Extent::ONE);
    let groups = joined(m.egraph, m.subst);
    groups.is_none_or(|groups| groups.iter().any(|group| group.iter().filter(long).count() > 1))
}

fn make_before_joining(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Reshape(to), Op::Transpose(by)) = (op(egraph, subst, "r"), op(egraph, subst, "p")) else { return None };
    let (groups, x) = (joined(egraph, subst)?, id(egraph, subst, "x"));
    let moved = transpose(egraph, x, by.perm.iter().flat_map(|&axis| groups[axis].iter().copied()).collect())?;
    reshape(egraph, moved, by.perm.iter().map(|&axis| to.shape[axis].clone()).collect())
}

fn make_composed(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Transpose(outer), Op::Transpose(inner)) = (op(egraph, subst, "p"), op(egraph, subst, "q")) else {
        return None;
    };
    let x = id(egraph, subst, "x");
    transpose(egraph, x, outer.perm.iter().map(|&axis| inner.perm[axis]).collect())
}

fn make_after_binary(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (function, perm) = (op(egraph, subst, "a"), op(egraph, subst, "p"));
    let (x, y) = (id(egraph, subst, "x"), id(egraph, subst, "y"));
    let made = add_op(egraph, function, &[x, y])?;
    add_op(egraph, perm, &[made])
}

/// The constant operand, on the right or on the left.
fn constant_side(m: &Match<'_>) -> &'static str {
    if m.find("c").is_some() { "c" } else { "l" }
}

fn make_after_constant(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Binary(function), Op::Transpose(by)) = (op(egraph, subst, "a"), op(egraph, subst, "p")) else {
        return None;
    };
    let x = id(egraph, subst, "x");
    let right = find(egraph, subst, "c");
    let c = right.or_else(|| find(egraph, subst, "l"))?;
    let shape = padded(&ty(egraph, c)?.shape, by.perm.len());
    let c = reshape(egraph, c, shape)?;
    let c = transpose(egraph, c, inverse(&by.perm))?;
    let made = if right.is_some() {
        binary(egraph, function.function, x, c)?
    } else {
        binary(egraph, function.function, c, x)?
    };
    transpose(egraph, made, by.perm)
}

fn one_axis(m: &Match<'_>) -> bool {
    match m.op("s") {
        Op::Softmax(op) => !op.flatten,
        Op::LogSoftmax(op) => !op.flatten,
        _ => false,
    }
}

fn make_after_softmax(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let Op::Transpose(by) = op(egraph, subst, "p") else { return None };
    let function: Op = match op(egraph, subst, "s") {
        Op::Softmax(op) => Softmax { axis: by.perm[op.axis], ..op }.into(),
        Op::LogSoftmax(op) => LogSoftmax { axis: by.perm[op.axis], ..op }.into(),
        _ => return None,
    };
    let x = id(egraph, subst, "x");
    let made = add_op(egraph, function, &[x])?;
    transpose(egraph, made, by.perm)
}

fn make_after_reduce(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Reduce(reduce), Op::Transpose(by)) = (op(egraph, subst, "r"), op(egraph, subst, "p")) else { return None };
    let x = id(egraph, subst, "x");
    let mut axes: Vec<usize> = reduce.axes.iter().map(|&axis| by.perm[axis]).collect();
    axes.sort_unstable();
    let kept = |axis: &usize| reduce.keep_dims || !axes.contains(axis);
    let left: Vec<usize> = (0..by.perm.len()).filter(kept).collect();
    let perm: Option<Vec<usize>> =
        by.perm.iter().filter(|&axis| kept(axis)).map(|axis| left.binary_search(axis).ok()).collect();
    let made = add_op(egraph, Reduce { axes, ..reduce }, &[x])?;
    transpose(egraph, made, perm?)
}

fn make_after_slice(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Slice(slice), Op::Transpose(by)) = (op(egraph, subst, "s"), op(egraph, subst, "p")) else { return None };
    let x = id(egraph, subst, "x");
    let axes = slice.axes.iter().map(|&axis| by.perm[axis]).collect();
    let made = add_op(egraph, Slice { axes, ..slice }, &[x])?;
    transpose(egraph, made, by.perm)
}

fn make_after_pad(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Pad(pad), Op::Transpose(by)) = (op(egraph, subst, "a"), op(egraph, subst, "p")) else { return None };
    let x = id(egraph, subst, "x");
    let back = inverse(&by.perm);
    let permuted = |amounts: &[Extent]| back.iter().map(|&at| amounts[at].clone()).collect();
    let pad = Pad { mode: pad.mode, before: permuted(&pad.before), after: permuted(&pad.after) };
    let operands: Vec<Id> = std::iter::once(x).chain(find(egraph, subst, "v")).collect();
    let made = add_op(egraph, pad, &operands)?;
    transpose(egraph, made, by.perm)
}

fn make_after_concat(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Concat(concat), Op::Transpose(by)) = (op(egraph, subst, "c"), op(egraph, subst, "p")) else { return None };
    let parts: Vec<Id> = ["x0", "x1", "x2", "x3"].iter().filter_map(|name| find(egraph, subst, name)).collect();
    let made = add_op(egraph, Concat { axis: by.perm[concat.axis] }, &parts)?;
    transpose(egraph, made, by.perm)
}

/// Whether the axes that are longer than 1 come in the same order.
fn keeps_order(m: &Match<'_>) -> bool {
    let (Op::Transpose(op), Some(x)) = (m.op("p"), m.ty("x")) else { return false };
    let long = op.perm.iter().copied().filter(|&axis| x.shape[axis] != Extent::ONE);
    long.eq(solid(&x.shape))
}

fn make_before_transpose(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let (Op::Reshape(to), Op::Transpose(by)) = (op(egraph, subst, "r"), op(egraph, subst, "p")) else { return None };
    let x = id(egraph, subst, "x");
    let shape = ty(egraph, x)?.shape.clone();
    // Long axes of the operand, in its order, and where each of them goes.
    let from = solid(&shape);
    let order: Vec<usize> = by.perm.iter().copied().filter(|axis| from.contains(axis)).collect();
    let targets = solid(&to.shape);
    let mut perm: Vec<usize> = (0..to.shape.len()).collect();
    for (&target, axis) in targets.iter().zip(&order) {
        let source = from.iter().position(|a| a == axis)?;
        perm[target] = targets[source];
    }
    let middle: Vec<Extent> = inverse(&perm).iter().map(|&axis| to.shape[axis].clone()).collect();
    let x = reshape(egraph, x, middle)?;
    transpose(egraph, x, perm)
}

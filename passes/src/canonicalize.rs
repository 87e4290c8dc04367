//! One form for each thing: what is better in every context, and therefore needs no e-graph.

use std::collections::BTreeMap;

use adze_ir::attrs::F64;
use adze_ir::exact::Exactness;
use adze_ir::extent::Extent;
use adze_ir::graph::{ConstEntry, Graph, Node, ValueId};
use adze_ir::ops::{Binary, BinaryFn, Clip, Op, Reshape, Transpose, Unary, UnaryFn};
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};

use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rebuild::{Rewrite, Site, add1, rebuild};

/// See [`Pass::docs`].
pub struct Canonicalize;

const NAME: &str = "canonicalize";
/// Constants up to this size are compared by content, and negated or read for identities.
const SMALL_BYTES: usize = 1 << 14;

impl Pass for Canonicalize {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        "Removes identities (reshape, transpose, slice, expand, pad, cast, clip that change nothing; x · 1, x - 0, x / 1, \
         max(x, -inf)), composes reshapes, transposes, clips and casts that lose nothing, turns a clip at zero into relu, \
         max and min with one number into clips, a subtracted constant into an added one, an added negation into a \
         difference, x² into x · x and a division by a power of two into a product, sorts operands of commutative \
         operators (constants last), and shares equal nodes. All of it is exact: x + 0 stays for floats, because -0 + 0 \
         is +0; x · 0 stays, because x may be infinite."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn run(&self, graph: &mut Graph, _: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let mut changed = Changed::No;
        let mut seen: Seen = BTreeMap::new();
        let mut small: BTreeMap<(TensorType, Vec<u8>), ValueId> = BTreeMap::new();
        let mut next = rebuild(graph, NAME, |out, site| {
            let result = if let Op::Constant(constant) = site.op() {
                share_constant(out, site, constant.id, graph.ty(site.node.outputs[0]), &mut small)
            } else {
                let types: Vec<TensorType> = site.node.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
                let (result, simpler) = simplify_all(out, site, types, &mut seen)?;
                if simpler {
                    changed = Changed::Yes;
                }
                result
            };
            Ok(result)
        })?;
        if next.remove_dead() || next.order().len() != graph.order().len() {
            changed = Changed::Yes;
        }
        *graph = next;
        Ok(changed)
    }
}

type Seen = BTreeMap<(Op, Vec<Option<ValueId>>, Vec<TensorType>), Vec<ValueId>>;

fn share_constant(
    out: &mut Graph,
    site: &Site<'_>,
    id: adze_ir::ops::ConstId,
    ty: &TensorType,
    small: &mut BTreeMap<(TensorType, Vec<u8>), ValueId>,
) -> Rewrite {
    let Some(data) = out.consts[id].data().filter(|d| d.bytes().len() <= SMALL_BYTES) else { return Rewrite::Keep };
    let key = (ty.clone(), data.bytes().to_vec());
    if let Some(&value) = small.get(&key) {
        return Rewrite::Replace(vec![value]);
    }
    let value = out.add_const(id, site.loc());
    out.set_type(value, ty.clone());
    small.insert(key, value);
    Rewrite::Replace(vec![value])
}

/// What takes the node's place, and whether that is something else than the node.
fn simplify_all(
    out: &mut Graph,
    site: &Site<'_>,
    types: Vec<TensorType>,
    seen: &mut Seen,
) -> Result<(Rewrite, bool), PassError> {
    if let Some(value) = simplify(out, site)? {
        return Ok((Rewrite::Replace(vec![value]), true));
    }
    let inputs = sorted_operands(out, site.op(), site.inputs);
    let sorted = inputs != site.inputs;
    let key = (site.op().clone(), inputs, types);
    if let Some(values) = seen.get(&key) {
        return Ok((Rewrite::Replace(values.clone()), true));
    }
    let values = crate::rebuild::add(out, site.op().clone(), &key.1, site.loc(), NAME)?;
    values.iter().zip(&key.2).for_each(|(&value, ty)| out.set_type(value, ty.clone()));
    seen.insert(key, values.clone());
    Ok((Rewrite::Replace(values), sorted))
}

/// Whether the order of the two operands is without meaning.
pub(crate) fn is_commutative(function: BinaryFn) -> bool {
    use BinaryFn::{Add, And, BitAnd, BitOr, BitXor, Equal, Max, Min, Mul, Or, Xor};
    matches!(function, Add | And | BitAnd | BitOr | BitXor | Equal | Max | Min | Mul | Or | Xor)
}

fn sorted_operands(out: &Graph, op: &Op, inputs: &[Option<ValueId>]) -> Vec<Option<ValueId>> {
    let mut inputs = inputs.to_vec();
    if let Op::Binary(binary) = op
        && is_commutative(binary.function)
    {
        inputs.sort_by_key(|value| (value.is_some_and(|v| out.constant(v).is_some()), *value));
    }
    inputs
}

/// An equal value that is simpler, if there is one.
fn simplify(out: &mut Graph, site: &Site<'_>) -> Result<Option<ValueId>, PassError> {
    let Some(x) = site.input(0) else { return Ok(None) };
    if is_identity(out, site, x) {
        return Ok(Some(x));
    }
    let loc = site.loc();
    match site.op() {
        Op::Reshape(op) => compose(
            out,
            x,
            |inner| match &inner.op {
                Op::Reshape(_) => Some(Op::from(Reshape { shape: op.shape.clone() })),
                _ => None,
            },
            site,
        ),
        Op::Transpose(op) => compose(
            out,
            x,
            |inner| match &inner.op {
                Op::Transpose(first) => {
                    Some(Transpose { perm: op.perm.iter().map(|&i| first.perm[i]).collect() }.into())
                }
                _ => None,
            },
            site,
        ),
        Op::Unary(op) => unary(out, site, op.function, x),
        Op::Clip(clip) => {
            if let Some(relu) = clip_is_relu(clip, out.ty(x)) {
                return Ok(Some(add1(out, relu, &[x], loc, NAME)?));
            }
            compose(out, x, |inner| compose_clips(clip, inner), site)
        }
        Op::Cast(_) => {
            let made = out.producer(x).and_then(|(_, inner)| compose_casts(out, site.op(), inner));
            compose(out, x, |_| made.clone(), site)
        }
        Op::Where(_) if site.input(1) == site.input(2) => {
            let shape = out.infer(site.op(), site.inputs).ok().map(|mut types| types.remove(0).shape);
            Ok(site.input(1).filter(|&v| shape.as_ref() == Some(&out.ty(v).shape)))
        }
        Op::Binary(op) => binary(out, site, op.function),
        _ => Ok(None),
    }
}

/// Two casts as one, where the first keeps every number.
fn compose_casts(out: &Graph, outer: &Op, inner: &Node) -> Option<Op> {
    let Op::Cast(first) = &inner.op else { return None };
    let from = out.ty(inner.inputs.first().copied().flatten()?).dtype;
    keeps_all(from, first.to).then(|| outer.clone())
}

/// Whether every number of a dtype is one of another.
fn keeps_all(from: DType, to: DType) -> bool {
    match (from.int_range(), to.int_range()) {
        (Some((low, high)), Some((lowest, highest))) => from != DType::Bool && lowest <= low && high <= highest,
        _ => matches!((from, to), (DType::F16 | DType::Bf16, DType::F32 | DType::F64) | (DType::F32, DType::F64)),
    }
}

/// Replaces `outer(inner(x))` by what `make` gives on `x`, itself simplified when it is the identity.
fn compose(
    out: &mut Graph,
    x: ValueId,
    make: impl Fn(&Node) -> Option<Op>,
    site: &Site<'_>,
) -> Result<Option<ValueId>, PassError> {
    let Some((_, inner)) = out.producer(x) else { return Ok(None) };
    let (Some(op), Some(&Some(source))) = (make(inner), inner.inputs.first()) else { return Ok(None) };
    let loc = inner.loc.join(&site.node.loc);
    if identity_op(&op, out.ty(source)) {
        return Ok(Some(source));
    }
    Ok(Some(add1(out, op, &[source], loc, NAME)?))
}

fn is_identity(out: &Graph, site: &Site<'_>, x: ValueId) -> bool {
    let others_absent = site.inputs.iter().skip(1).all(Option::is_none);
    match site.op() {
        // The padding value does not matter where nothing is added.
        Op::Pad(_) => identity_op(site.op(), out.ty(x)),
        Op::Concat(_) | Op::Split(_) => others_absent && site.node.outputs.len() == 1,
        op => others_absent && identity_op(op, out.ty(x)),
    }
}

/// Whether an operator of one operand gives that operand back, for operands of that type.
fn identity_op(op: &Op, ty: &TensorType) -> bool {
    let zero = |extents: &[Extent]| extents.iter().all(|e| *e == Extent::ZERO);
    match op {
        Op::Unary(op) => op.function == UnaryFn::Identity,
        Op::Reshape(op) => op.shape == ty.shape,
        Op::Expand(op) => op.shape == ty.shape,
        Op::Transpose(op) => op.perm.iter().enumerate().all(|(i, &axis)| i == axis),
        Op::Cast(op) => op.to == ty.dtype,
        Op::Tile(op) => op.repeats.iter().all(|e| *e == Extent::ONE),
        Op::Pad(op) => zero(&op.before) && zero(&op.after),
        Op::Relayout(op) => op.layout == ty.layout,
        Op::Slice(op) => {
            zero(&op.starts)
                && op.steps.iter().all(|&s| s == 1)
                && op.axes.iter().zip(&op.sizes).all(|(&axis, size)| ty.shape.get(axis) == Some(size))
        }
        Op::Clip(op) => {
            op.min.is_none_or(|b| b.get() == f64::NEG_INFINITY) && op.max.is_none_or(|b| b.get() == f64::INFINITY)
        }
        _ => false,
    }
}

fn unary(out: &mut Graph, site: &Site<'_>, function: UnaryFn, x: ValueId) -> Result<Option<ValueId>, PassError> {
    let Some((_, inner)) = out.producer(x) else { return Ok(None) };
    match (&inner.op, function) {
        (Op::Unary(first), UnaryFn::Neg | UnaryFn::Not | UnaryFn::BitNot) if first.function == function => {
            Ok(inner.inputs[0])
        }
        (Op::Unary(first), UnaryFn::Relu | UnaryFn::Abs | UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round)
            if first.function == function =>
        {
            Ok(Some(x))
        }
        (Op::Clip(_), UnaryFn::Relu) => {
            let relu = Clip { min: Some(F64::new(0.0)), max: None };
            compose(out, x, |inner| compose_clips(&relu, inner), site)
        }
        _ => Ok(None),
    }
}

fn clip_is_relu(clip: &Clip, ty: &TensorType) -> Option<Op> {
    let unbounded = clip.max.is_none_or(|b| b.get() == f64::INFINITY);
    let positive_zero = clip.min.is_some_and(|b| b.get().to_bits() == 0);
    (unbounded && positive_zero && ty.dtype.is_float()).then(|| Unary { function: UnaryFn::Relu }.into())
}

/// Two clips (or relu and a clip) as one; only where each lower bound is at most the upper one.
fn compose_clips(outer: &Clip, inner: &Node) -> Option<Op> {
    let bounds = |clip: &Clip| {
        let (lo, hi) = (clip.min.map_or(f64::NEG_INFINITY, F64::get), clip.max.map_or(f64::INFINITY, F64::get));
        (lo <= hi).then_some((lo, hi))
    };
    let (first_lo, first_hi) = match &inner.op {
        Op::Clip(clip) => bounds(clip)?,
        Op::Unary(unary) if unary.function == UnaryFn::Relu => (0.0, f64::INFINITY),
        _ => return None,
    };
    let (lo, hi) = bounds(outer)?;
    let bound = |b: f64| b.is_finite().then(|| F64::new(b));
    let (min, max) = (first_lo.clamp(lo, hi), first_hi.clamp(lo, hi));
    // A bound that is infinite on its own side does not bind; on the other side there is no clip for it.
    if min == f64::INFINITY || max == f64::NEG_INFINITY {
        return None;
    }
    Some(Clip { min: bound(min), max: bound(max) }.into())
}

/// A constant all of whose elements are this value.
pub(crate) fn splat(tensor: &Tensor) -> Option<f64> {
    if tensor.bytes().len() > SMALL_BYTES {
        return None;
    }
    let values = tensor.to_f64();
    let first = *values.first()?;
    values.iter().all(|v| v.to_bits() == first.to_bits()).then_some(first)
}

fn binary(out: &mut Graph, site: &Site<'_>, function: BinaryFn) -> Result<Option<ValueId>, PassError> {
    let (Some(a), Some(b)) = (site.input(0), site.input(1)) else { return Ok(None) };
    let result = match out.infer(site.op(), site.inputs) {
        Ok(mut types) => types.remove(0),
        Err(_) => return Ok(None),
    };
    let constant = |v: ValueId| out.constant(v).and_then(ConstEntry::data).and_then(splat);
    let same = |v: ValueId| (out.ty(v).dtype, &out.ty(v).shape) == (result.dtype, &result.shape);
    if same(a) && constant(b).is_some_and(|c| is_right_neutral(function, c, &result)) {
        return Ok(Some(a));
    }
    if same(b) && is_commutative(function) && constant(a).is_some_and(|c| is_right_neutral(function, c, &result)) {
        return Ok(Some(b));
    }
    if !result.dtype.is_float() && !function.is_comparison() {
        return Ok(None);
    }
    match (function, constant(b)) {
        (BinaryFn::Sub, _) => subtract_constant(out, site, a, b),
        (BinaryFn::Add, _) => add_negated(out, site, a, b),
        // Squares of 24 bits are exact in the interpreter's 53.
        (BinaryFn::Pow, Some(2.0)) if same(a) && result.dtype != DType::F64 => {
            Ok(Some(add1(out, Binary { function: BinaryFn::Mul }, &[a, a], site.loc(), NAME)?))
        }
        (BinaryFn::Max | BinaryFn::Min, Some(c)) if same(a) => extreme(out, site, function, a, c),
        (BinaryFn::Div, Some(c)) if power_of_two(c) => divide(out, site, a, b, c),
        _ => Ok(None),
    }
}

/// Whether a number and its reciprocal are normal powers of two in single and half precision.
fn power_of_two(c: f64) -> bool {
    (2f64.powi(-14)..=2f64.powi(14)).contains(&c.abs()) && c.to_bits() & ((1 << 52) - 1) == 0
}

/// `x / 2^n` as `x · 2^-n`, which is the same bits and several times as fast.
fn divide(out: &mut Graph, site: &Site<'_>, a: ValueId, b: ValueId, c: f64) -> Result<Option<ValueId>, PassError> {
    let Some(entry) = out.constant(b) else { return Ok(None) };
    let Some(data) = entry.data() else { return Ok(None) };
    let tensor = Tensor::from_f64(data.dtype(), data.shape(), &vec![1.0 / c; data.elems()]);
    let name = entry.name.clone();
    let id = out.consts.push(ConstEntry::new(name, tensor));
    let factor = out.add_const(id, site.loc());
    Ok(Some(add1(out, Binary { function: BinaryFn::Mul }, &[a, factor], site.loc(), NAME)?))
}

/// `max` or `min` with one number as a clip; zeros differ in their signs, but for `max(x, +0)`.
fn extreme(
    out: &mut Graph,
    site: &Site<'_>,
    function: BinaryFn,
    x: ValueId,
    c: f64,
) -> Result<Option<ValueId>, PassError> {
    let bound = Some(F64::new(c));
    let clip = match function {
        _ if c.is_nan() => return Ok(None),
        BinaryFn::Max if c.to_bits() == 0 => Clip { min: bound, max: None },
        _ if c == 0.0 || c.is_infinite() => return Ok(None),
        BinaryFn::Max => Clip { min: bound, max: None },
        _ => Clip { min: None, max: bound },
    };
    if let Some(joined) = compose(out, x, |inner| compose_clips(&clip, inner), site)? {
        return Ok(Some(joined));
    }
    let op = clip_is_relu(&clip, out.ty(x)).unwrap_or_else(|| clip.into());
    Ok(Some(add1(out, op, &[x], site.loc(), NAME)?))
}

/// `x + (-y)` as `x - y`, which is the same bits.
fn add_negated(out: &mut Graph, site: &Site<'_>, a: ValueId, b: ValueId) -> Result<Option<ValueId>, PassError> {
    let negated = |v: ValueId| match out.producer(v) {
        Some((_, node)) if matches!(&node.op, Op::Unary(op) if op.function == UnaryFn::Neg) => node.inputs[0],
        _ => None,
    };
    let difference = match (negated(a), negated(b)) {
        (_, Some(y)) => [a, y],
        (Some(y), _) => [b, y],
        _ => return Ok(None),
    };
    Ok(Some(add1(out, Binary { function: BinaryFn::Sub }, &difference, site.loc(), NAME)?))
}

/// Whether `x op c` is `x` bit for bit.
fn is_right_neutral(function: BinaryFn, c: f64, ty: &TensorType) -> bool {
    let (zero, one) = (c == 0.0, c == 1.0);
    let negative_zero = zero && c.is_sign_negative();
    match function {
        BinaryFn::Add => {
            if ty.dtype.is_float() {
                negative_zero
            } else {
                zero
            }
        }
        BinaryFn::Sub => {
            if ty.dtype.is_float() {
                zero && !negative_zero
            } else {
                zero
            }
        }
        BinaryFn::Mul | BinaryFn::Div | BinaryFn::Pow => one,
        BinaryFn::Max if ty.dtype.is_float() => c == f64::NEG_INFINITY,
        BinaryFn::Min if ty.dtype.is_float() => c == f64::INFINITY,
        BinaryFn::BitOr | BinaryFn::BitXor | BinaryFn::ShiftLeft | BinaryFn::ShiftRight => zero,
        _ => false,
    }
}

/// `x - c` as `x + (-c)`, which is the same bits and which the rules know.
fn subtract_constant(out: &mut Graph, site: &Site<'_>, a: ValueId, b: ValueId) -> Result<Option<ValueId>, PassError> {
    let Some(entry) = out.constant(b) else { return Ok(None) };
    let Some(data) = entry.data().filter(|d| d.bytes().len() <= SMALL_BYTES) else { return Ok(None) };
    let negated: Vec<f64> = data.to_f64().iter().map(|v| -v).collect();
    let tensor = Tensor::from_f64(data.dtype(), data.shape(), &negated);
    let name = entry.name.clone();
    let id = out.consts.push(ConstEntry::new(name, tensor));
    let c = out.add_const(id, site.loc());
    Ok(Some(add1(out, Binary { function: BinaryFn::Add }, &[a, c], site.loc(), NAME)?))
}

//! Attention row by row, and rotary position embedding.

use adze_ir::extent::Extent;
use adze_ir::ops::{Attention, Op, RotaryEmbedding};
use adze_ir::types::DType;

use super::elementwise::compute_elem;
use super::leaf::{Leaf, Stream, elem_dtype, lanes_of, unsupported};
use super::nest::broadcast_strides;
use super::operand::{LeafCx, Lowered, Unsupported};
use super::walk::{Source, each};
use crate::cpu::driver::status;
use crate::cpu::kernel::{BinOp, Cmp, Cond, Elem, KernelBuilder, Type, UnOp, Value, math, widths};

/// Lowers attention and rotary embedding.
///
/// # Errors
/// [`Unsupported`] for dtypes without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    Ok(vec![match cx.op {
        Op::Attention(op) => attention(cx, op)?,
        Op::RotaryEmbedding(op) => rotary(cx, op)?,
        op => return Err(unsupported(format!("`{op}`"), "attention")),
    }])
}

fn float(dtype: DType, op: &Op) -> Result<Elem, Unsupported> {
    let elem = compute_elem(dtype).filter(|e| e.is_float());
    elem.ok_or_else(|| unsupported(format!("`{op}` on {dtype}"), "a floating-point dtype"))
}

/// What one row of scores is computed from.
struct Heads<'a> {
    op: &'a Attention,
    q: Source<'a>,
    k: Source<'a>,
    v: Source<'a>,
    mask: Option<(Source<'a>, Vec<Extent>)>,
    /// Scores of one query.
    scores: Stream,
    elem: Elem,
    /// Lanes of what lies together.
    lanes: u16,
}

/// One query after the other: scores into working memory, softmax there, weighted sum of the values.
fn attention(cx: &LeafCx<'_>, op: &Attention) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, &format!("attention_{}", cx.outputs[0].dtype));
    let y = Source::output(&mut leaf, 0)?;
    let [q, k, v] = [Source::input(&mut leaf, 0)?, Source::input(&mut leaf, 1)?, Source::input(&mut leaf, 2)?];
    let mask = Source::optional(&mut leaf, 3)?.map(|m| {
        let strides = broadcast_strides(m.operand, 4);
        (m, strides)
    });
    let elem = float(q.dtype(), cx.op)?;
    let keys = k.operand.shape[2].clone();
    let scores = leaf.scratch(elem_dtype(elem), keys.clone());
    let shared = q.operand.shape[1].floordiv(&k.operand.shape[1]);
    let heads = Heads { op, q, k, v, mask, scores, elem, lanes: cx.machine.strip_lanes(DType::F32) };
    let b = &mut leaf.b;
    let rows = heads.q.operand.shape[..3].to_vec();
    let range = each(b, &rows, |b, row| {
        let other = row[1].floordiv(&shared);
        let largest = heads.fill(b, row, &other, &keys);
        let factor = heads.exponentials(b, largest, &keys);
        let width = y.operand.shape[3].clone();
        let dense = [&heads.v, &y].iter().all(|s| s.operand.strides[3] == Extent::ONE);
        let lanes = if dense { heads.lanes } else { 1 };
        b.strips(0, width, lanes, |b, column, lanes| {
            let sum = heads.weighted(b, &[row[0].clone(), other.clone()], &column, &keys, lanes);
            let factor = if lanes > 1 { b.splat(factor, lanes) } else { factor };
            let value = b.mul(sum, factor);
            let at = y.at(&[row[0].clone(), row[1].clone(), row[2].clone(), column]);
            b.store_as(y.stream.param, at, value);
        });
    });
    Ok(leaf.finish(range))
}

impl Heads<'_> {
    fn ty(&self) -> Type {
        Type::scalar(self.elem)
    }

    fn place(&self, j: Extent) -> Extent {
        self.scores.base.clone() + j
    }

    /// Writes the masked scores of a query and gives the largest.
    fn fill(&self, b: &mut KernelBuilder, row: &[Extent], other: &Extent, keys: &Extent) -> Value {
        let low = b.number(f64::NEG_INFINITY, self.ty());
        b.for_(0, keys.clone(), 1, &[low], |b, j, best| {
            let hidden = |b: &mut KernelBuilder| vec![b.number(f64::NEG_INFINITY, self.ty())];
            let score = match self.op.causal {
                false => self.score(b, row, other, &j),
                true => {
                    let visible = Cond::Extent(j.clone(), Cmp::Le, row[2].clone());
                    b.if_else(visible, |b| vec![self.score(b, row, other, &j)], hidden)[0]
                }
            };
            b.store_as(self.scores.param, self.place(j), score);
            vec![b.bin(BinOp::Max, best[0], score)]
        })[0]
    }

    fn score(&self, b: &mut KernelBuilder, row: &[Extent], other: &Extent, j: &Extent) -> Value {
        let from = self.q.at(&[row[0].clone(), row[1].clone(), row[2].clone(), Extent::ZERO]);
        let to = self.k.at(&[row[0].clone(), other.clone(), j.clone(), Extent::ZERO]);
        let dot = self.dot(b, from, to);
        let scale = b.number(self.op.scale.get(), self.ty());
        let mut score = b.mul(dot, scale);
        let cap = self.op.softcap.get();
        if cap > 0.0 {
            let (cap, inverse) = (b.number(cap, self.ty()), b.number(1.0 / cap, self.ty()));
            let inner = b.mul(score, inverse);
            let curve = math::tanh(b, inner);
            score = b.mul(curve, cap);
        }
        let Some((mask, strides)) = &self.mask else { return score };
        let at = mask.by(strides, &[row[0].clone(), row[1].clone(), row[2].clone(), j.clone()]);
        if mask.dtype() == DType::Bool {
            let keep = mask.load(b, at, self.elem.mask());
            let low = b.number(f64::NEG_INFINITY, self.ty());
            return b.select(keep, score, low);
        }
        let shift = mask.load(b, at, self.elem);
        b.add(score, shift)
    }

    /// `Σ q[i] · k[i]` over the head size.
    fn dot(&self, b: &mut KernelBuilder, from: Extent, to: Extent) -> Value {
        let size = self.q.operand.shape[3].clone();
        let (left, right) = (&self.q.operand.strides[3], &self.k.operand.strides[3]);
        let lanes = if *left == Extent::ONE && *right == Extent::ONE { self.lanes } else { 1 };
        self.sum(b, size, lanes, |b, i, ty, sum| {
            let x = b.load_as(self.q.stream.param, from.clone() + i.clone() * left.clone(), ty);
            let y = b.load_as(self.k.stream.param, to.clone() + i * right.clone(), ty);
            b.muladd(x, y, sum)
        })
    }

    /// The sum of `count` terms: `add` gives it with those from an index on added, as many as its type has lanes.
    fn sum(
        &self,
        b: &mut KernelBuilder,
        count: Extent,
        lanes: u16,
        mut add: impl FnMut(&mut KernelBuilder, Extent, Type, Value) -> Value,
    ) -> Value {
        let widths = widths(&count, lanes);
        let zeros: Vec<Value> = widths.iter().map(|&lanes| b.zero(self.ty().with_lanes(lanes))).collect();
        let sums = b.fold_strips((Extent::ZERO, count), &widths, &zeros, |b, i, lanes, sum| {
            vec![add(b, i, self.ty().with_lanes(lanes), sum[0])]
        });
        b.join_strips(&[BinOp::Add], &sums)[0]
    }

    /// Replaces scores by `exp(score - largest)` and gives the factor that makes them sum to one; a row that is masked
    /// throughout attends to nothing.
    fn exponentials(&self, b: &mut KernelBuilder, largest: Value, keys: &Extent) -> Value {
        let ty = self.ty();
        let (low, zero) = (b.number(f64::NEG_INFINITY, ty), b.zero(ty));
        let masked = b.cmp(Cmp::Eq, largest, low);
        let shift = b.select(masked, zero, largest);
        let total = self.sum(b, keys.clone(), self.lanes, |b, j, ty, sum| {
            let score = b.load_as(self.scores.param, self.place(j.clone()), ty);
            let shift = if ty.is_scalar() { shift } else { b.splat(shift, ty.lanes) };
            let moved = b.sub(score, shift);
            let e = math::exp(b, moved);
            b.store_as(self.scores.param, self.place(j), e);
            b.add(sum, e)
        });
        let one = b.number(1.0, ty);
        let factor = b.div(one, total);
        b.select(masked, zero, factor)
    }

    /// `Σ scores[j] · v[j]` for `lanes` columns.
    fn weighted(&self, b: &mut KernelBuilder, head: &[Extent], column: &Extent, keys: &Extent, lanes: u16) -> Value {
        let zero = b.zero(self.ty().with_lanes(lanes));
        b.for_(0, keys.clone(), 1, &[zero], |b, j, acc| {
            let weight = b.load_as(self.scores.param, self.place(j.clone()), self.ty());
            let weight = if lanes > 1 { b.splat(weight, lanes) } else { weight };
            let at = self.v.at(&[head[0].clone(), head[1].clone(), j, column.clone()]);
            let v = b.load_as(self.v.stream.param, at, self.ty().with_lanes(lanes));
            vec![b.muladd(weight, v, acc[0])]
        })[0]
    }
}

/// A position id, which must name a row of the tables.
fn position(b: &mut KernelBuilder, ids: &Source<'_>, at: Extent, rows: &Extent) -> Extent {
    let (id, rows) = (ids.load(b, at, Elem::I64), b.extent(rows.clone()));
    let inside = b.cmp(Cmp::LtU, id, rows);
    b.guard(Cond::Value(inside), status::INDEX_RANGE);
    b.index(id)
}

/// Pairs of the last axis rotated by the angle of their position; the rest is copied.
fn rotary(cx: &LeafCx<'_>, op: &RotaryEmbedding) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, &format!("rotary_{}", cx.outputs[0].dtype));
    let y = Source::output(&mut leaf, 0)?;
    let [x, cos, sin] = [Source::input(&mut leaf, 0)?, Source::input(&mut leaf, 1)?, Source::input(&mut leaf, 2)?];
    let ids = Source::optional(&mut leaf, 3)?;
    let elem = float(x.dtype(), cx.op)?;
    let half = cos.operand.shape.last().cloned().unwrap_or(Extent::ZERO);
    let size = x.operand.shape[3].clone();
    // Members of halves are neighbours, those of pairs are not.
    let vectors =
        !op.interleaved && [&x, &cos, &sin, &y].iter().all(|s| s.operand.strides.last() == Some(&Extent::ONE));
    let most = if vectors { lanes_of(cx, elem) } else { 1 };
    let b = &mut leaf.b;
    let range = each(b, &x.operand.shape[..3], |b, row| {
        let table: Vec<Extent> = match &ids {
            None => vec![row[0].clone(), row[2].clone()],
            Some(ids) => {
                let at = ids.at(&[row[0].clone(), row[2].clone()]);
                vec![position(b, ids, at, &cos.operand.shape[0])]
            }
        };
        let member = |i: Extent| [row, &[i]].concat();
        b.strips(0, half.clone(), most, |b, i, lanes| {
            let load = |b: &mut KernelBuilder, from: &Source<'_>, at: Extent| {
                b.load_as(from.stream.param, at, Type::vec(elem, lanes))
            };
            let (first, second) = match op.interleaved {
                true => (i.clone() * 2.into(), i.clone() * 2.into() + Extent::ONE),
                false => (i.clone(), i.clone() + half.clone()),
            };
            let angle = [table.as_slice(), &[i]].concat();
            let (c, s) = (load(b, &cos, cos.at(&angle)), load(b, &sin, sin.at(&angle)));
            let (first, second) = (member(first), member(second));
            let (p, q) = (load(b, &x, x.at(&first)), load(b, &x, x.at(&second)));
            let (pc, ps) = (b.mul(p, c), b.mul(p, s));
            let minus = b.un(UnOp::Neg, q);
            let left = b.muladd(minus, s, pc);
            let right = b.muladd(q, c, ps);
            y.store(b, y.at(&first), left);
            y.store(b, y.at(&second), right);
        });
        b.loop_(half.clone() * 2.into(), size.clone(), 1, |b, i| {
            let at = member(i);
            let value = b.load(x.stream.param, x.at(&at), 1);
            b.store(y.stream.param, y.at(&at), value);
        });
    });
    Ok(leaf.finish(range))
}

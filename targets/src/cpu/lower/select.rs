//! The best elements of a row, in order.

use adze_ir::extent::Extent;
use adze_ir::ops::{Op, TopK};
use adze_ir::types::DType;

use super::elementwise::compute_elem;
use super::leaf::{Leaf, unsupported};
use super::operand::{LeafCx, Lowered, Unsupported};
use super::walk::{Source, each};
use crate::cpu::kernel::{BinOp, Cmp, Elem, KernelBuilder, Type, UnOp, Value};

/// Lowers `top_k`: each place takes the best of what ranks behind the place before.
///
/// # Errors
/// [`Unsupported`] for dtypes without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let Op::TopK(op) = cx.op else { return Err(unsupported(format!("`{}`", cx.op), "`top_k`")) };
    let mut leaf = Leaf::new(cx, &format!("top_k_{}", cx.outputs[0].dtype));
    let x = Source::input(&mut leaf, 0)?;
    let (best, places) = (Source::output(&mut leaf, 0)?, Source::output(&mut leaf, 1)?);
    let Some(elem) = compute_elem(x.dtype()).filter(|e| !e.is_mask()) else {
        return Err(unsupported(format!("`{}` on {}", cx.op, x.dtype()), "numbers"));
    };
    // Without the axis; its extent is walked inside.
    let mut rows = x.operand.shape.clone();
    rows[op.axis] = Extent::ONE;
    let (ty, int) = (Type::scalar(elem), Type::scalar(Elem::I64));
    let order = Order { smallest: op.smallest, signed: is_signed(x.dtype()) };
    let b = &mut leaf.b;
    let range = each(b, &rows, |b, index| {
        let row = index;
        let (none, nothing) = (b.zero(ty), b.int(-1, int));
        b.for_(0, op.k.clone(), 1, &[none, nothing], |b, place, last| {
            let found = scan(b, op, &x, row, &order, last, [none, nothing]);
            let mut at = row.to_vec();
            at[op.axis] = place;
            best.store(b, best.at(&at), found[0]);
            places.store(b, places.at(&at), found[1]);
            found
        });
    });
    Ok(vec![leaf.finish(range)])
}

fn is_signed(dtype: DType) -> bool {
    !matches!(dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64)
}

/// Value and position of the best element of a row among those behind `last` (all while its position is negative).
fn scan(
    b: &mut KernelBuilder,
    op: &TopK,
    x: &Source<'_>,
    row: &[Extent],
    order: &Order,
    last: &[Value],
    none: [Value; 2],
) -> Vec<Value> {
    let elem = b.ty(none[0]).elem;
    b.for_(0, x.operand.shape[op.axis].clone(), 1, &none, |b, i, found| {
        let mut at = row.to_vec();
        at[op.axis] = i.clone();
        let value = x.load(b, x.at(&at), elem);
        let place = b.extent(i);
        let start = b.zero(Type::scalar(Elem::I64));
        let first = b.cmp(Cmp::Lt, last[1], start);
        let later = b.cmp(Cmp::Gt, place, last[1]);
        let behind = order.before(b, last[0], value);
        let ahead = order.before(b, value, last[0]);
        let level = b.un(UnOp::Not, ahead);
        let level = b.mask_to(level, Elem::M64);
        let behind = b.mask_to(behind, Elem::M64);
        let tied = b.bin(BinOp::And, level, later);
        let open = b.bin(BinOp::Or, behind, tied);
        let open = b.bin(BinOp::Or, open, first);
        let better = order.before(b, value, found[0]);
        let better = b.mask_to(better, Elem::M64);
        let empty = b.cmp(Cmp::Lt, found[1], start);
        let better = b.bin(BinOp::Or, better, empty);
        let take = b.bin(BinOp::And, open, better);
        let narrow = b.mask_to(take, elem.mask());
        vec![b.select(narrow, value, found[0]), b.select(take, place, found[1])]
    })
}

/// Which of two elements comes first; NaN comes before all numbers.
struct Order {
    smallest: bool,
    signed: bool,
}

impl Order {
    fn before(&self, b: &mut KernelBuilder, left: Value, right: Value) -> Value {
        let float = b.ty(left).elem.is_float();
        let cmp = match (self.smallest, float || self.signed) {
            (true, true) => Cmp::Lt,
            (true, false) => Cmp::LtU,
            (false, true) => Cmp::Gt,
            (false, false) => Cmp::GtU,
        };
        let before = b.cmp(cmp, left, right);
        if !float {
            return before;
        }
        let nan = b.cmp(Cmp::Ne, left, left);
        let number = b.cmp(Cmp::Eq, right, right);
        let nan_first = b.bin(BinOp::And, nan, number);
        b.bin(BinOp::Or, before, nan_first)
    }
}

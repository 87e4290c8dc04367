//! What rules learn about the bytes of constants. A solution of a region holds for another one where all of it is the same.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;

use super::EGraph;
use crate::graph::ConstEntry;
use crate::ops::{ConstId, Op};
use crate::tensor::{Digest, Tensor};

/// Values whose bytes rules look at: vectors, not weights.
const BYTES: i64 = 1 << 18;
/// Operators of an expression of constants that is evaluated for a rule.
const DEPTH: usize = 8;

/// A question about the bytes of a value.
pub type Test = fn(&Tensor, f64) -> bool;

/// A value that is computed from constants of a region.
#[derive(Clone, Debug)]
pub enum Expr {
    /// A constant of the region.
    Const(ConstId),
    /// A constant that a rule made.
    Made(Tensor),
    /// An operator on such values.
    Op(Op, Vec<Expr>),
}

/// A thing that was learned.
#[derive(Clone, Debug)]
pub enum Read {
    /// All bytes of a constant.
    Bytes(ConstId, Digest),
    /// The answer to a question about a value.
    Test(Expr, Test, f64, bool),
}

/// What was asked: constants whose bytes were looked at, and by class, question, number and answer the value.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    bytes: BTreeSet<ConstId>,
    tests: BTreeMap<(Id, usize, u64, bool), (Expr, Test)>,
}

impl Reads {
    /// Notes that the bytes of a constant were looked at.
    pub fn bytes(&mut self, id: ConstId) {
        self.bytes.insert(id);
    }

    /// Everything, with the digests of the constants.
    pub fn list(&self, digest: impl Fn(ConstId) -> Digest) -> Vec<Read> {
        let bytes = self.bytes.iter().map(|&id| Read::Bytes(id, digest(id)));
        let tests = self.tests.iter().map(|(&(_, _, number, answer), (expr, test))| {
            Read::Test(expr.clone(), *test, f64::from_bits(number), answer)
        });
        bytes.chain(tests).collect()
    }
}

impl Read {
    /// Whether the same is true of the constants of another region.
    pub(super) fn holds<'a>(&self, constants: &impl Fn(ConstId) -> Option<&'a ConstEntry>) -> bool {
        match self {
            Read::Bytes(id, digest) => constants(*id).is_some_and(|entry| entry.digest() == *digest),
            Read::Test(expr, test, number, answer) => {
                expr.eval(constants).is_some_and(|value| test(&value, *number) == *answer)
            }
        }
    }
}

impl Expr {
    fn eval<'a>(&self, constants: &impl Fn(ConstId) -> Option<&'a ConstEntry>) -> Option<Tensor> {
        match self {
            Expr::Const(id) => constants(*id)?.data().cloned(),
            Expr::Made(tensor) => Some(tensor.clone()),
            Expr::Op(op, operands) => {
                let operands: Option<Vec<Tensor>> = operands.iter().map(|operand| operand.eval(constants)).collect();
                apply(op, &operands?)
            }
        }
    }

    fn constants(&self, found: &mut Vec<ConstId>) {
        match self {
            Expr::Const(id) => found.push(*id),
            Expr::Made(_) => {}
            Expr::Op(_, operands) => operands.iter().for_each(|operand| operand.constants(found)),
        }
    }
}

fn apply(op: &Op, operands: &[Tensor]) -> Option<Tensor> {
    let operands: Vec<Option<&Tensor>> = operands.iter().map(Some).collect();
    op.eval(&operands, &|_| None).ok()?.pop()
}

/// The value of a class that is computed from constants, when it and all that it is computed from is small. To ask one thing of
/// it, [`ask`] lets regions with other bytes share the answer.
pub fn value(egraph: &EGraph, id: Id) -> Option<Tensor> {
    let (expr, value) = express(egraph, id, DEPTH)?;
    let mut constants = Vec::new();
    expr.constants(&mut constants);
    for constant in constants {
        egraph.analysis.data(constant);
    }
    Some(value)
}

/// Whether something holds for such a value and a number; `None` where it has none.
pub fn ask(egraph: &EGraph, id: Id, test: Test, number: f64) -> Option<bool> {
    let (expr, value) = express(egraph, id, DEPTH)?;
    let answer = test(&value, number);
    let key = (egraph.find(id), test as usize, number.to_bits(), answer);
    egraph.analysis.reads.borrow_mut().tests.entry(key).or_insert((expr, test));
    Some(answer)
}

/// The first of its e-nodes that has a value, and that.
fn express(egraph: &EGraph, id: Id, depth: usize) -> Option<(Expr, Tensor)> {
    let facts = &egraph[id].data;
    if !facts.fixed || facts.ty()?.bytes().as_const()? > BYTES {
        return None;
    }
    if let Some(constant) = facts.constant {
        let data = egraph.analysis.peek(constant)?.clone();
        let given = egraph.analysis.is_given(constant);
        return Some((if given { Expr::Const(constant) } else { Expr::Made(data.clone()) }, data));
    }
    let depth = depth.checked_sub(1)?;
    egraph[id].nodes.iter().find_map(|node| {
        let op = egraph.analysis.op(egraph[*node.children.first()?].data.attr?);
        let operands: Option<Vec<(Expr, Tensor)>> =
            node.children[1..].iter().map(|&child| express(egraph, child, depth)).collect();
        let (exprs, values): (Vec<Expr>, Vec<Tensor>) = operands?.into_iter().unzip();
        Some((Expr::Op(op.clone(), exprs), apply(op, &values)?))
    })
}

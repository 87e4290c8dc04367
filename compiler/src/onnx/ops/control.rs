//! Control flow: branches whose condition is known at import. Loops are not supported yet.

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs};
use super::{NEWEST, OLDEST, Row};

pub(super) const ROWS: &[Row] = &[("If", OLDEST..=NEWEST, if_)];

/// Takes the branch that the condition chooses; the other one is not looked at.
fn if_(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let condition = cx.input(0)?;
    let taken = match condition.as_tensor() {
        Some(tensor) if tensor.elems() == 1 => tensor.to_ints().first().is_some_and(|&v| v != 0),
        Some(tensor) => return Err(Fault::model(format!("condition of {} elements", tensor.elems()), "one")),
        None => {
            let accepted = "a condition known at import: fix the inputs or dimensions that it depends on";
            return Err(Fault::unsupported("a condition computed at run time", accepted));
        }
    };
    let (then_branch, else_branch) = (cx.attrs.graph("then_branch")?, cx.attrs.graph("else_branch")?);
    let branch = if taken { then_branch } else { else_branch };
    let branch = branch.ok_or_else(|| Fault::model("a branch left out", "`then_branch` and `else_branch`"))?;
    match cx.importer.branch(branch)? {
        Some(values) => Ok(values),
        None => {
            cx.missing = true;
            Ok(Vec::new())
        }
    }
}

//! Folding of nodes whose operands are all constant.

use adze_ir::exact::Exactness;
use adze_ir::graph::{ConstEntry, Graph, ValueId};
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;

use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rebuild::{Rewrite, Site, rebuild};

/// See [`Pass::docs`].
pub struct FoldConstants;

const NAME: &str = "fold-constants";

impl Pass for FoldConstants {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        "Evaluates nodes whose operands are all constant with the reference evaluation. Leaves alone what would grow past \
         `fold_limit_bytes` and past its operands: shapes and prepared weights are worth storing, expanded ones are not. \
         Values that depend on named dimensions stay symbolic."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let mut changed = Changed::No;
        let mut missed = Vec::new();
        let limit = cx.options.fold_limit_bytes;
        let mut next = rebuild(graph, NAME, |out, site| {
            Ok(match fold(out, site, limit) {
                Folded::No => Rewrite::Keep,
                Folded::Missed(reason) => {
                    missed.push((site.id, reason));
                    Rewrite::Keep
                }
                Folded::Values(values) => {
                    changed = Changed::Yes;
                    Rewrite::Replace(values)
                }
            })
        })?;
        missed.into_iter().for_each(|(id, reason)| cx.missed(graph, id, reason));
        next.remove_dead();
        *graph = next;
        Ok(changed)
    }
}

enum Folded {
    No,
    Missed(String),
    Values(Vec<ValueId>),
}

fn fold(out: &mut Graph, site: &Site<'_>, limit: usize) -> Folded {
    // Alternatives stay until extraction takes one.
    if matches!(site.op(), Op::Constant(_) | Op::Choice(_)) {
        return Folded::No;
    }
    let mut operands: Vec<Option<Tensor>> = Vec::with_capacity(site.inputs.len());
    for input in site.inputs {
        match input {
            None => operands.push(None),
            Some(value) => match out.constant(*value) {
                Some(entry) => match entry.data() {
                    Some(data) => operands.push(Some(data.clone())),
                    None => return Folded::Missed(format!("the bytes of constant `{}` are not at hand", entry.name)),
                },
                None => return Folded::No,
            },
        }
    }
    let Ok(types) = out.infer(site.op(), site.inputs) else { return Folded::No };
    let sizes: Option<usize> = types.iter().try_fold(0usize, |sum, ty| {
        let bytes = ty.bytes().as_const().and_then(|b| usize::try_from(b).ok())?;
        sum.checked_add(bytes)
    });
    let Some(size) = sizes else { return Folded::No };
    let given: usize = operands.iter().flatten().map(|t| t.bytes().len()).sum();
    if size > limit.max(given) {
        return Folded::Missed(format!("its result of {size} bytes is larger than its constant operands"));
    }
    let refs: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
    match site.op().eval(&refs, &|_| None) {
        Ok(results) => {
            let names = site.node.outputs.iter().map(|_| name_of(out, site));
            let names: Vec<_> = names.collect();
            let values = results.into_iter().zip(names).map(|(tensor, name)| {
                let id = out.consts.push(ConstEntry::new(name, tensor));
                out.add_const(id, site.loc())
            });
            Folded::Values(values.collect())
        }
        // A node that fails on its constants fails at run time too, if it is reached.
        Err(error) => Folded::Missed(error.to_string()),
    }
}

/// The name of the largest constant that went in: what a reader of the memory map looks for.
fn name_of(out: &Graph, site: &Site<'_>) -> String {
    let entries = site.inputs.iter().flatten().filter_map(|&v| out.constant(v));
    entries
        .max_by_key(|entry| entry.data().map_or(0, |d| d.bytes().len()))
        .map_or_else(String::new, |entry| entry.name.to_string())
}

//! Has operators that read the same matrices do so in turns: what was read last is read first.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::exact::Exactness;
use adze_ir::fusion::is_sum;
use adze_ir::graph::{Graph, Node, NodeId, ValueDef, ValueId};
use adze_ir::ops::{ConstId, Op};

use crate::pass::{Changed, Pass, PassCx, PassError, PassOptions};

/// See [`Pass::docs`].
pub struct TakeTurns;

impl Pass for TakeTurns {
    fn name(&self) -> &'static str {
        "turns"
    }

    fn docs(&self) -> &'static str {
        "Orders operators that take their time to read a matrix which others read too (the steps of a recurrent cell written \
         out): of those that could run next, the one goes first whose matrix was read last. So every second step goes through its \
         matrices from the last one to the first, and finds some of them in the caches."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let readers = readers(graph, cx.options);
        if readers.is_empty() {
            return Ok(Changed::No);
        }
        let order = in_turns(graph, &readers);
        if order == graph.order() {
            return Ok(Changed::No);
        }
        graph.set_order(order);
        Ok(Changed::Yes)
    }
}

/// How many times as large as everything else that an operator reads and writes its matrix is, for reading it to be what
/// takes the time.
const LARGER: i64 = 16;

/// Operators that mostly read a constant that others of them read too, with that constant.
pub(crate) fn readers(graph: &Graph, options: &PassOptions) -> BTreeMap<NodeId, ConstId> {
    if options.optimizer.is_canonical() {
        return BTreeMap::new();
    }
    let mut readers: BTreeMap<NodeId, ConstId> =
        graph.nodes().filter_map(|(id, node)| Some((id, matrix(graph, node)?))).collect();
    let mut count: BTreeMap<ConstId, usize> = BTreeMap::new();
    readers.values().for_each(|&constant| *count.entry(constant).or_default() += 1);
    readers.retain(|_, constant| count[constant] > 1);
    readers
}

/// The constant that a sum of products mostly reads.
fn matrix(graph: &Graph, node: &Node) -> Option<ConstId> {
    let anchor = match &node.op {
        Op::Fused(fused) => &fused.steps.first()?.op,
        op => op,
    };
    let (bytes, constant) = largest_constant(graph, &node.inputs).filter(|_| is_sum(anchor))?;
    let all = node.inputs.iter().flatten().chain(&node.outputs);
    let others = all.fold(-bytes, |sum, &value| sum.saturating_add(graph.ty(value).max_bytes(&graph.dims)));
    (others.saturating_mul(LARGER) <= bytes).then_some(constant)
}

/// Of an operator's operands the largest constant, with its bytes: what its schedule walks.
pub(crate) fn largest_constant(graph: &Graph, inputs: &[Option<ValueId>]) -> Option<(i64, ConstId)> {
    let constants = inputs.iter().flatten().filter_map(|&value| match &graph.producer(value)?.1.op {
        Op::Constant(constant) => Some((graph.ty(value).max_bytes(&graph.dims), constant.id)),
        _ => None,
    });
    constants.max_by_key(|(bytes, _)| *bytes)
}

/// The order of the graph, but for readers that let another one go first whose matrix was read later.
fn in_turns(graph: &Graph, readers: &BTreeMap<NodeId, ConstId>) -> Vec<NodeId> {
    let mut order: Vec<NodeId> = Vec::with_capacity(graph.order().len());
    let mut placed: BTreeSet<NodeId> = BTreeSet::new();
    let mut waiting: Vec<NodeId> = graph.order().iter().copied().filter(|id| readers.contains_key(id)).collect();
    // When a matrix was read last.
    let mut read: BTreeMap<ConstId, usize> = BTreeMap::new();
    for &next in graph.order() {
        while !placed.contains(&next) {
            let ready = |id: &&NodeId| {
                let made = |value: &ValueId| match graph.value(*value).def {
                    ValueDef::Result(maker, _) => placed.contains(&maker),
                    ValueDef::Input(_) => true,
                };
                graph.node(**id).inputs.iter().flatten().all(made)
            };
            let mut chosen = next;
            if readers.contains_key(&next) {
                // The first of equals: an order that nothing is gained by changing stays.
                let latest = waiting.iter().filter(ready).rev().max_by_key(|id| read.get(&readers[id]));
                chosen = *latest.expect("the next operator is one of them, and its operands are made");
                waiting.retain(|&id| id != chosen);
                read.insert(readers[&chosen], order.len());
            }
            placed.insert(chosen);
            order.push(chosen);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use adze_ir::text::parse_graph;
    use adze_ir::verify::verify_graph;

    use super::*;
    use crate::fuse::Fuse;

    /// Three steps of a cell that multiplies its state by two matrices of `n` times `n`.
    fn steps(n: usize) -> Graph {
        let matrix = |scale: f64| {
            let elems: Vec<String> = (0..n * n).map(|at| format!("{:?}", (at % 7) as f64 * scale)).collect();
            format!("[{}] : f32[{n},{n}]", elems.join(", "))
        };
        let mut text = format!(
            "graph @g {{\ninput %s0 \"x\" : f32[1,{n}]\n%w = const \"w\" {}\n%v = const \"v\" {}\n",
            matrix(0.125),
            matrix(0.25)
        );
        for step in 0..3 {
            let (state, next) = (format!("%s{step}"), format!("%s{}", step + 1));
            for line in [
                format!("%a{step} = matmul {state}, %w"),
                format!("%b{step} = tanh %a{step}"),
                format!("%c{step} = matmul {state}, %v"),
                format!("{next} = mul %b{step}, %c{step}"),
            ] {
                text += &format!("{line} : f32[1,{n}]\n");
            }
        }
        parse_graph(&format!("{text}output \"y\" = %s3\n}}")).unwrap()
    }

    /// Which matrix the products of a graph read, in order; the first one is number 0.
    fn read(graph: &Graph) -> Vec<usize> {
        let mut seen = Vec::new();
        let matrices = graph.nodes().filter_map(|(_, node)| Some(largest_constant(graph, &node.inputs)?.1));
        let number = |constant| {
            seen.iter().position(|&known| known == constant).unwrap_or_else(|| {
                seen.push(constant);
                seen.len() - 1
            })
        };
        matrices.map(number).collect()
    }

    fn run(graph: &mut Graph, pass: &dyn Pass) -> Changed {
        let changed = pass.run(graph, &mut PassCx::plain(&PassOptions::default())).unwrap();
        verify_graph(graph).unwrap();
        changed
    }

    #[test]
    fn what_was_read_last_is_read_first() {
        let mut graph = steps(32);
        run(&mut graph, &Fuse);
        assert_eq!(run(&mut graph, &TakeTurns), Changed::Yes);
        assert_eq!(read(&graph), [0, 1, 1, 0, 0, 1]);
        assert_eq!(run(&mut graph, &TakeTurns), Changed::No);
    }

    /// Where the state is not small beside the matrices, products are fused, and stay where they are.
    #[test]
    fn small_matrices_wait() {
        let mut graph = steps(8);
        run(&mut graph, &Fuse);
        assert_eq!(run(&mut graph, &TakeTurns), Changed::No);
        assert_eq!(read(&graph), [0, 1, 0, 1, 0, 1]);
        let fused = graph.nodes().filter(|(_, node)| matches!(&node.op, Op::Fused(op) if op.steps.len() == 2));
        assert_eq!(fused.count(), 6);
    }
}

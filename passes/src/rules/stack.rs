//! Products of several operands by the same constant matrix, offered as one: recurrent networks written out step by step read
//! their weights once.
//!
//! No rule, for the reasons that [`super::merge`] has. Operands that depend on a product of the group are left out: one operator
//! could not compute both.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::egraph::{EGraph, ENode, add_op};
use adze_ir::extent::Extent;
use adze_ir::ops::{Concat, Op, Split};
use egg::Id;

use super::support::{give_results, op_of, sorted_classes};

/// What the log calls it.
pub(crate) const NAME: &str = "stacked-products";
/// Operators of one group.
const MAX_PARTS: usize = 16;

/// Operands of products with the same key differ in their rows only: operator, weights, bias, and shape of the operand without rows.
type Key = (Op, Id, Option<Id>, Vec<Extent>);

/// Offers every group; how many there are.
pub(crate) fn offer(egraph: &mut EGraph) -> usize {
    let mut groups: BTreeMap<Key, Vec<(Id, Id)>> = BTreeMap::new();
    for class in sorted_classes(egraph) {
        for node in &egraph[class].nodes {
            if let Some((key, x)) = product(egraph, node) {
                let parts = groups.entry(key).or_default();
                if !parts.contains(&(x, class)) {
                    parts.push((x, class));
                }
            }
        }
    }
    let mut offered = 0;
    for (key, parts) in groups.iter().filter(|(_, parts)| parts.len() > 1) {
        let results: BTreeSet<Id> = parts.iter().map(|(_, class)| *class).collect();
        let parts: Vec<(Id, Id)> = parts.iter().copied().filter(|(x, _)| !depends(egraph, *x, &results)).collect();
        if (2..=MAX_PARTS).contains(&parts.len()) && stack(egraph, key, &parts).is_some() {
            offered += 1;
        }
    }
    egraph.rebuild();
    offered
}

/// The key of a product with constant weights, and its operand.
fn product(egraph: &EGraph, node: &ENode) -> Option<(Key, Id)> {
    let op = op_of(egraph, node)?;
    let fits = match op {
        Op::MatMul(op) => !op.trans_a,
        Op::Gemm(op) => !op.trans_a,
        _ => false,
    };
    let (x, weights) = (egraph.find(*node.children.get(1)?), egraph.find(*node.children.get(2)?));
    let bias = node.children.get(3).map(|&bias| egraph.find(bias));
    let ty = egraph[x].data.ty()?;
    let matrix = egraph[weights].data.ty()?.rank() == 2;
    // A bias is a row: it is added to every row alike.
    let row =
        bias.is_none_or(|bias| egraph[bias].data.fixed && egraph[bias].data.ty().is_some_and(|ty| ty.rank() == 1));
    if !fits || !matrix || !row || !egraph[weights].data.fixed || egraph[x].data.fixed {
        return None;
    }
    let mut rest = ty.shape.clone();
    rest.remove(ty.rank().checked_sub(2)?);
    Some(((op.clone(), weights, bias, rest), x))
}

/// Whether computing a value could take one of these.
fn depends(egraph: &EGraph, value: Id, on: &BTreeSet<Id>) -> bool {
    let (mut seen, mut stack) = (BTreeSet::new(), vec![value]);
    while let Some(class) = stack.pop() {
        let class = egraph.find(class);
        if on.contains(&class) {
            return true;
        }
        if seen.insert(class) {
            stack.extend(egraph[class].nodes.iter().flat_map(|node| node.children.iter().copied()));
        }
    }
    false
}

/// Adds the operator of all parts, and its parts to their classes.
fn stack(egraph: &mut EGraph, (op, weights, bias, _): &Key, parts: &[(Id, Id)]) -> Option<()> {
    let axis = egraph[parts[0].0].data.ty()?.rank() - 2;
    let rows = |&(x, _): &(Id, Id)| Some(egraph[x].data.ty()?.shape[axis].clone());
    let sizes: Vec<Extent> = parts.iter().map(rows).collect::<Option<_>>()?;
    let operands: Vec<Id> = parts.iter().map(|(x, _)| *x).collect();
    let all = add_op(egraph, Concat { axis }, &operands)?;
    let operands: Vec<Id> = [all, *weights].into_iter().chain(*bias).collect();
    let whole = add_op(egraph, op.clone(), &operands)?;
    let split = add_op(egraph, Split { axis, sizes }, &[whole])?;
    give_results(egraph, split, parts.iter().map(|(_, class)| *class), NAME);
    Some(())
}

#[cfg(test)]
mod tests {
    use adze_ir::egraph::{Choice, Goal, Region, extract};
    use adze_ir::eval::eval_graph;
    use adze_ir::graph::Graph;
    use adze_ir::propose::{Cost, CostModel, OpFacts};
    use adze_ir::tensor::Tensor;
    use adze_ir::text::parse_graph;
    use adze_ir::types::DType;

    use super::*;
    use crate::regions::regions;
    use crate::saturate::{finish, start};

    /// A machine on which products cost all there is.
    struct Products;

    impl CostModel for Products {
        fn cost(&self, op: &Op, _: &OpFacts<'_>) -> Option<Cost> {
            Some(Cost { cycles: if matches!(op, Op::MatMul(_)) { 1000 } else { 1 }, ..Cost::default() })
        }
    }

    /// The graph by the cheapest choice among what is offered.
    fn stacked(graph: &Graph) -> (Graph, usize) {
        let (mut out, mut built) = start(graph);
        let mut offered = 0;
        for part in regions(graph) {
            let mut region = Region::new(graph, &part.nodes, &part.outputs);
            offered += offer(&mut region.egraph);
            let goal = Goal { costs: &Products, error_weight: 1.0 };
            let choice: Choice = extract(&region.egraph, region.root(), &goal).unwrap();
            region.recipe(&choice).emit(region.part(), &mut out, &mut built).unwrap();
        }
        finish(graph, &mut out, &built);
        adze_ir::verify::verify_graph(&out).unwrap();
        (out, offered)
    }

    #[test]
    fn what_does_not_depend_on_each_other_is_one_product() {
        let source = parse_graph(
            "graph @g { input %0 \"a\" : f32[1,2]\n input %1 \"b\" : f32[2,2]\n input %2 \"h\" : f32[1,2]
            %3 = const \"w\" [1.0, 2.0, -1.0, 0.5] : f32[2,2]\n %4 = const \"u\" [0.5, -2.0, 1.0, 0.25] : f32[2,2]
            %5 = matmul %0, %3 : f32[1,2]\n %6 = matmul %1, %3 : f32[2,2]\n %7 = matmul %2, %4 : f32[1,2]
            %8 = add %5, %7 : f32[1,2]\n %9 = matmul %8, %4 : f32[1,2]\n %10 = add %6, %9 : f32[2,2]
            output \"y\" = %10 }",
        )
        .unwrap();
        let (graph, offered) = stacked(&source);
        let products = graph.nodes().filter(|(_, node)| matches!(node.op, Op::MatMul(_))).count();
        assert_eq!((offered, products), (1, 3), "the products by `u` follow each other:\n{graph}");
        let values = |shape: &[usize], from: i32| {
            let count = i32::try_from(shape.iter().product::<usize>()).unwrap();
            Tensor::from_f64(DType::F32, shape, &(from..from + count).map(|i| f64::from(i) / 4.0).collect::<Vec<_>>())
        };
        let inputs = [values(&[1, 2], -1), values(&[2, 2], 3), values(&[1, 2], 5)];
        assert_eq!(eval_graph(&graph, &inputs).unwrap(), eval_graph(&source, &inputs).unwrap());
    }
}

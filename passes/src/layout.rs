//! Chooses how tensors lie in memory: channels last around convolutions and pools.
//!
//! Logical shapes never change. Convolutions and pools write channels last, most other operators read and write row-major, and so
//! do graph inputs and outputs. Kernels of convolutions that are computed are read output channels last. Elementwise operators,
//! slices, concatenations and the like write as they read, either way: where the copies between the two stand (explicit `relayout` nodes) is chosen by what they cost, see [`places`]. The interpreter sees
//! no difference.
//!
//! [`places`]: adze_ir::layout::places

use std::collections::BTreeMap;

use adze_ir::exact::Exactness;
use adze_ir::graph::{Graph, Node, NodeId, ValueId};
use adze_ir::layout::places::{LAST, Places, ROWS};
use adze_ir::layout::{self, Habit, habit, same_memory, wants_channels_last, with_channels_last};
use adze_ir::loc::Loc;
use adze_ir::ops::{BodyRef, Op, Relayout, TypeError};
use adze_ir::propose::{CostModel, OpFacts};
use adze_ir::types::{Layout, TensorType};
use cranelift_entity::SecondaryMap;

use crate::pass::{Changed, Optimizer, Pass, PassCx, PassError};

/// See [`Pass::docs`].
pub struct AssignLayouts;

impl Pass for AssignLayouts {
    fn name(&self) -> &'static str {
        "layout"
    }

    fn docs(&self) -> &'static str {
        "Puts the results of convolutions and pools channels last, and inserts `relayout` nodes where an operator wants the \
         other layout. Elementwise operators and the like run in either: copies stand where they cost least, computed as a \
         minimum cut. Stands after fusion, so that what runs together has one layout. Logical shapes and values stay."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let before = graph.to_string();
        let (pass, chosen) = (cx.pass, cx.options.optimizer == Optimizer::Joint);
        assign_layouts(graph, chosen.then_some(cx.costs)).map_err(|error| PassError::Type {
            pass,
            loc: Loc::default(),
            error,
        })?;
        Ok(if graph.to_string() == before { Changed::No } else { Changed::Yes })
    }
}

/// Assigns layouts and inserts `relayout` nodes: the cheapest assignment by these costs; without any, every operator that can have
/// either layout has that of what it reads.
///
/// # Errors
/// [`TypeError`] when a `relayout` is refused: a broken graph.
pub fn assign_layouts(graph: &mut Graph, costs: Option<&dyn CostModel>) -> Result<(), TypeError> {
    let mut plan = Plan::new(graph);
    let last = match costs {
        Some(costs) => plan.price(graph, costs).cheapest().last,
        None => plan.places.follow().last,
    };
    let layout = |part: usize, rank: usize| if last[part] { Layout::channels_last(rank) } else { Layout::PLAIN };
    let mut copies = Copies::default();
    let order: Vec<NodeId> = graph.order().to_vec();
    for id in order {
        let node = graph.node(id).clone();
        let (reads, writes) = plan.sides[id];
        for index in wanted(graph, &node) {
            if let Some(value) = node.inputs[index] {
                copies.use_as(graph, id, index, value, layout(reads, graph.ty(value).rank()))?;
            }
        }
        if let Some((index, kernel, layout)) = columns_last(graph, &node) {
            copies.use_as(graph, id, index, kernel, layout)?;
        }
        if matches!(habit(&node.op), Habit::Window | Habit::Keeps) {
            for &output in &node.outputs {
                set_layout(graph, output, layout(writes, graph.ty(output).rank()));
            }
        }
    }
    for index in 0..graph.outputs().len() {
        let value = graph.outputs()[index].value;
        if !graph.ty(value).layout.is_plain() {
            let plain = copies.copy(graph, value, Layout::PLAIN)?;
            graph.set_output(index, plain);
        }
    }
    graph.sort().map_err(|nodes| TypeError::Arity {
        found: format!("a cycle through {} nodes", nodes.len()),
        accepted: "a graph without cycles".into(),
    })
}

/// Which operators and values could lie one way or the other.
struct Plan {
    places: Places,
    /// Of each node, the parts that it reads and writes as.
    sides: SecondaryMap<NodeId, (usize, usize)>,
    /// The value of each of the places.
    values: Vec<ValueId>,
}

impl Plan {
    fn new(graph: &Graph) -> Self {
        let mut plan = Plan { places: Places::default(), sides: SecondaryMap::new(), values: Vec::new() };
        let mut places: BTreeMap<ValueId, usize> = BTreeMap::new();
        for &input in graph.inputs() {
            plan.make(graph, input, ROWS, &mut places);
        }
        for (id, node) in graph.nodes() {
            let sides = match habit(&node.op) {
                Habit::Window => (LAST, LAST),
                Habit::Plain => (ROWS, ROWS),
                Habit::Keeps => {
                    let part = plan.places.part([0; 2]);
                    (part, part)
                }
                Habit::Reads => {
                    let writes = matches!(&node.op, Op::Relayout(to) if !to.layout.is_plain());
                    (plan.places.part([0; 2]), if writes { LAST } else { ROWS })
                }
            };
            plan.sides[id] = sides;
            for index in wanted(graph, node) {
                if let Some(&value) = node.inputs[index].and_then(|value| places.get(&value)) {
                    plan.places.read(value, sides.0);
                }
            }
            for &output in &node.outputs {
                plan.make(graph, output, sides.1, &mut places);
            }
        }
        for output in graph.outputs() {
            if let Some(&value) = places.get(&output.value) {
                plan.places.read(value, ROWS);
            }
        }
        plan
    }

    fn make(&mut self, graph: &Graph, value: ValueId, part: usize, places: &mut BTreeMap<ValueId, usize>) {
        if with_channels_last(graph.ty(value)).is_some() {
            places.insert(value, self.places.value(part, [0; 2]));
            self.values.push(value);
        }
    }

    /// The places with what copies and operators weigh, wherever a window is near enough to matter.
    fn price(&mut self, graph: &Graph, costs: &dyn CostModel) -> &Places {
        let open = self.places.open();
        let around = OpFacts { inputs: &[], fixed: &[], outputs: &[], dims: &graph.dims };
        for (place, &value) in self.places.values.iter_mut().zip(&self.values) {
            if open[place.made] || place.read.iter().any(|&part| open[part]) {
                place.copy = layout::copies(graph.ty(value), &around, costs).unwrap_or_default();
            }
        }
        for (id, node) in graph.nodes() {
            let part = self.sides[id].0;
            if part > LAST && open[part] {
                let outputs: Vec<TensorType> = node.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
                let ask = |facts: &OpFacts<'_>| layout::weights(&node.op, facts, costs);
                self.places.weights[part] = OpFacts::in_graph(graph, &node.inputs, &outputs, ask).unwrap_or_default();
            }
        }
        &self.places
    }
}

/// The operands that have to lie as the node reads.
fn wanted(graph: &Graph, node: &Node) -> Vec<usize> {
    let all = 0..node.inputs.len();
    let computed = |index: &usize| node.inputs[*index].filter(|&value| graph.constant(value).is_none());
    let ty = |index: &usize| computed(index).map(|value| graph.ty(value));
    let result = || node.outputs.iter().map(|&v| graph.ty(v)).max_by_key(|ty| ty.rank());
    match habit(&node.op) {
        Habit::Window => {
            let main = node.inputs[0].filter(|&x| wants_channels_last(&node.op, graph.ty(x))).map(|_| 0);
            // Operands of epilogues are read beside the result: they lie as it does.
            let mut beside: Vec<usize> = main.into_iter().chain(epilogue_operands(&node.op)).collect();
            beside.retain(|index| {
                main == Some(*index) || ty(index).zip(result()).is_some_and(|(ty, result)| ty.shape == result.shape)
            });
            beside
        }
        Habit::Keeps => {
            all.filter(|index| ty(index).zip(result()).is_some_and(|(ty, result)| ty.rank() == result.rank())).collect()
        }
        Habit::Reads if matches!(node.op, Op::Relayout(_)) => Vec::new(),
        Habit::Reads => all.filter(|index| computed(index).is_some()).collect(),
        Habit::Plain => all.collect(),
    }
}

/// Which operand the kernel of a convolution is, if it is computed, and the layout it is read in: output channels are the
/// columns of the product, and vectors are read of neighbours. (What is constant is packed.)
fn columns_last(graph: &Graph, node: &Node) -> Option<(usize, ValueId, Layout)> {
    let (anchor, index) = match &node.op {
        Op::Fused(fused) => match fused.anchor().inputs.get(1).copied().flatten()? {
            BodyRef::Param(param) => (&fused.anchor().op, param as usize),
            BodyRef::Step(_) => return None,
        },
        op => (op, 1),
    };
    let Op::Conv(conv) = anchor else { return None };
    let kernel = node.inputs.get(index).copied().flatten().filter(|&value| graph.constant(value).is_none())?;
    let ty = graph.ty(kernel);
    let order: Vec<usize> = (2..ty.rank()).chain([1, 0]).collect();
    let depthwise = ty.shape.first() == Some(&conv.group.into());
    (!depthwise && ty.rank() > 2).then(|| (index, kernel, Layout::permutation(&order)))
}

/// The operands of the steps after the first.
fn epilogue_operands(op: &Op) -> impl Iterator<Item = usize> {
    let steps = if let Op::Fused(fused) = op { fused.epilogues() } else { &[] };
    let operand = |from: &BodyRef| if let BodyRef::Param(param) = *from { Some(param as usize) } else { None };
    steps.iter().flat_map(|step| step.inputs.iter().flatten()).filter_map(operand)
}

/// Sets a layout; one that does not differ in memory is spelt row-major, so that fewer copies seem needed.
fn set_layout(graph: &mut Graph, value: ValueId, layout: Layout) {
    let ty = graph.ty(value);
    let layout = if same_memory(ty, &layout, &Layout::PLAIN) { Layout::PLAIN } else { layout };
    graph.set_layout(value, layout);
}

/// The copies in other layouts that exist already.
#[derive(Default)]
struct Copies(BTreeMap<(ValueId, Layout), ValueId>);

impl Copies {
    /// Makes a node read an operand in a layout.
    fn use_as(
        &mut self,
        graph: &mut Graph,
        node: NodeId,
        index: usize,
        value: ValueId,
        layout: Layout,
    ) -> Result<(), TypeError> {
        let ty = graph.ty(value);
        if !same_memory(ty, &ty.layout.clone(), &layout) {
            let copy = self.copy(graph, value, layout)?;
            graph.set_input(node, index, Some(copy));
        }
        Ok(())
    }

    fn copy(&mut self, graph: &mut Graph, value: ValueId, layout: Layout) -> Result<ValueId, TypeError> {
        if let Some(&copy) = self.0.get(&(value, layout.clone())) {
            return Ok(copy);
        }
        let loc = graph.producer(value).map(|(_, node)| node.loc.clone()).unwrap_or_default();
        let copy = graph.add1(Relayout { layout: layout.clone() }, &[value], loc)?;
        graph.set_layout(copy, layout.clone());
        // Two names for one tensor: the copy is the same logical value.
        let name = graph.value(value).name.clone();
        graph.set_name(copy, name);
        self.0.insert((value, layout), copy);
        Ok(copy)
    }
}

#[cfg(test)]
mod tests {
    use adze_ir::propose::PlainMachine;
    use adze_ir::text::parse_graph;

    use super::*;

    #[test]
    fn convolutions_share_one_layout() {
        let text = r#"graph @net {
  input %0 "x" : f32[1,16,5,7]
  input %1 "w" : f32[8,16,1,1]
  %2 = conv %0, %1 {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1} : f32[1,8,5,7]
  %3 = relu %2 : f32[1,8,5,7]
  %4 = add %3, %2 : f32[1,8,5,7]
  %5 = transpose %4 {perm=[0, 2, 3, 1]} : f32[1,5,7,8]
  %6 = reshape %4 {shape=[1, 280]} : f32[1,280]
  output "y" = %5
  output "z" = %6
}"#;
        let mut graph = parse_graph(text).unwrap();
        assign_layouts(&mut graph, Some(&PlainMachine)).unwrap();
        adze_ir::verify::verify_graph(&graph).unwrap();
        let printed = graph.to_string();
        // Of the input, of the result, and of the kernel, which is computed.
        assert_eq!(printed.matches("relayout").count(), 3, "{printed}");
        assert!(printed.contains("f32[8,16,1,1] layout(\"2,3,1,0\")"), "{printed}");
        assert_eq!(printed.matches(" : f32[1,8,5,7] layout(\"nhwc\")").count(), 3, "{printed}");
    }
}

//! Chooses how tensors lie in memory: channels last around convolutions and pools.
//!
//! Logical shapes never change. A convolution reads whatever lies before it and writes channels last; elementwise operators,
//! slices, concatenations and the like keep the layout of what they read; everything else is given row-major operands through
//! explicit `relayout` nodes. Graph inputs and outputs stay row-major. The interpreter sees no difference.

use std::collections::BTreeMap;

use adze_ir::exact::Exactness;
use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::layout::{Habit, habit, same_memory, wants_channels_last};
use adze_ir::loc::Loc;
use adze_ir::ops::{Op, Relayout, TypeError};
use adze_ir::types::Layout;

use crate::pass::{Changed, Pass, PassCx, PassError};

/// See [`Pass::docs`].
pub struct AssignLayouts;

impl Pass for AssignLayouts {
    fn name(&self) -> &'static str {
        "layout"
    }

    fn docs(&self) -> &'static str {
        "Puts the results of convolutions and pools channels last, lets elementwise operators follow, and inserts \
         `relayout` nodes where an operator wants row-major operands. Stands after fusion, so that what runs together \
         has one layout. Logical shapes and values stay."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let before = graph.to_string();
        let pass = cx.pass;
        assign_layouts(graph).map_err(|error| PassError::Type { pass, loc: Loc::default(), error })?;
        Ok(if graph.to_string() == before { Changed::No } else { Changed::Yes })
    }
}

/// Assigns layouts and inserts `relayout` nodes.
///
/// # Errors
/// [`TypeError`] when a `relayout` is refused: a broken graph.
pub fn assign_layouts(graph: &mut Graph) -> Result<(), TypeError> {
    let mut copies = Copies::default();
    let order: Vec<NodeId> = graph.order().to_vec();
    for id in order {
        let node = graph.node(id).clone();
        let rank = |v: ValueId| graph.ty(v).rank();
        let main = node.inputs.first().copied().flatten();
        match habit(&node.op) {
            Habit::Window => {
                if let Some(x) = main.filter(|&x| wants_channels_last(&node.op, graph.ty(x))) {
                    let last = Layout::channels_last(rank(x));
                    copies.use_as(graph, id, 0, x, last)?;
                }
                keep_residuals(graph, id, &mut copies)?;
                for &output in &node.outputs {
                    let layout = Layout::channels_last(graph.ty(output).rank());
                    set_layout(graph, output, layout);
                }
            }
            Habit::Keeps => keep(graph, id, &mut copies)?,
            Habit::Reads => {}
            Habit::Plain => {
                for (index, value) in node.inputs.iter().enumerate() {
                    if let Some(value) = value {
                        copies.use_as(graph, id, index, *value, Layout::PLAIN)?;
                    }
                }
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

/// Results get the layout of the largest operand that has one; other operands of full shape follow.
fn keep(graph: &mut Graph, id: NodeId, copies: &mut Copies) -> Result<(), TypeError> {
    let node = graph.node(id).clone();
    let rank = node.outputs.iter().map(|&v| graph.ty(v).rank()).max().unwrap_or(0);
    let channels_last = Layout::channels_last(rank);
    let is_last = |graph: &Graph, v: ValueId| graph.ty(v).layout == channels_last && !channels_last.is_plain();
    let some_last = node.inputs.iter().flatten().any(|&v| graph.ty(v).rank() == rank && is_last(graph, v));
    if !some_last {
        return Ok(());
    }
    for (index, value) in node.inputs.iter().enumerate() {
        if let Some(value) = *value
            && graph.ty(value).rank() == rank
            && graph.constant(value).is_none()
        {
            copies.use_as(graph, id, index, value, channels_last.clone())?;
        }
    }
    for &output in &node.outputs {
        if graph.ty(output).rank() == rank {
            set_layout(graph, output, channels_last.clone());
        }
    }
    Ok(())
}

/// Operands of epilogues are read beside the result: they lie as it does.
fn keep_residuals(graph: &mut Graph, id: NodeId, copies: &mut Copies) -> Result<(), TypeError> {
    let node = graph.node(id).clone();
    let Op::Fused(fused) = &node.op else { return Ok(()) };
    let result = graph.ty(node.outputs[0]).shape.clone();
    for step in fused.epilogues() {
        for input in step.inputs.iter().flatten() {
            let adze_ir::ops::BodyRef::Param(param) = *input else { continue };
            if let Some(value) = node.inputs[param as usize]
                && graph.ty(value).shape == result
                && graph.constant(value).is_none()
            {
                copies.use_as(graph, id, param as usize, value, Layout::channels_last(result.len()))?;
            }
        }
    }
    Ok(())
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
        assign_layouts(&mut graph).unwrap();
        adze_ir::verify::verify_graph(&graph).unwrap();
        let printed = graph.to_string();
        assert_eq!(printed.matches("relayout").count() / 2, 1, "{printed}");
        assert_eq!(printed.matches(" : f32[1,8,5,7] layout(\"nhwc\")").count(), 3, "{printed}");
    }
}

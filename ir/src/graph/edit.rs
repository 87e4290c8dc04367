//! Changing a graph: substitution of values, removal of what is dead, names, layouts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cranelift_entity::{EntitySet, SecondaryMap};

use super::{Graph, Node, NodeId, Output, ValueDef, ValueId};
use crate::extent::{Extent, Sym};
use crate::loc::Loc;
use crate::propose::Schedule;
use crate::types::{Layout, TensorType};

impl Graph {
    /// Makes every user of `old` (nodes and outputs) use `new`, and hands `old`'s name on if `new` has none.
    ///
    /// The order may have to be restored with [`Graph::sort`].
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for &id in &self.order {
            for input in &mut self.nodes[id].inputs {
                if *input == Some(old) {
                    *input = Some(new);
                }
            }
        }
        for output in &mut self.outputs {
            if output.value == old {
                output.value = new;
            }
        }
        if self.values[new].name.is_none() {
            self.values[new].name = self.values[old].name.clone();
        }
    }

    /// Names a value after the ONNX tensor that it equals.
    pub fn set_name(&mut self, value: ValueId, name: Option<Arc<str>>) {
        self.values[value].name = name;
    }

    /// Adds source nodes to a node.
    pub fn add_loc(&mut self, node: NodeId, loc: &Loc) {
        self.nodes[node].loc = self.nodes[node].loc.join(loc);
    }

    /// States how a node is computed.
    pub fn set_schedule(&mut self, node: NodeId, schedule: Option<Schedule>) {
        self.nodes[node].schedule = schedule;
    }

    /// Places a value in memory differently. The caller sees to it that producer and users agree.
    pub fn set_layout(&mut self, value: ValueId, layout: Layout) {
        self.values[value].ty.layout = layout;
    }

    /// Sets a value's type: for layouts and quantization that the type rule does not know.
    pub fn set_type(&mut self, value: ValueId, ty: TensorType) {
        self.values[value].ty = ty;
    }

    /// Replaces the outputs; the states, which name outputs by position, go with them.
    pub fn set_outputs(&mut self, outputs: Vec<Output>) {
        self.outputs = outputs;
        self.states.clear();
    }

    /// Gives named dimensions values for good. Ids stay as they are.
    pub fn bind(&mut self, values: &BTreeMap<Sym, i64>) {
        let replace = |name: &str| values.get(name).map(|&value| Extent::from(value));
        for value in self.values.values_mut() {
            value.ty.shape.iter_mut().for_each(|extent| *extent = extent.subst(&replace));
        }
        for node in self.nodes.values_mut() {
            let bound = node.op.map_extents::<std::convert::Infallible>(&mut |extent| Ok(extent.subst(&replace)));
            node.op = bound.unwrap_or_else(|never| match never {});
        }
        self.dims.retain(|name, _| !values.contains_key(name));
    }

    /// Points an output at another value.
    pub fn set_output(&mut self, index: usize, value: ValueId) {
        self.outputs[index].value = value;
    }

    /// Changes one operand of a node. The caller sees to it that the type rule still holds.
    pub fn set_input(&mut self, node: NodeId, index: usize, value: Option<ValueId>) {
        self.nodes[node].inputs[index] = value;
    }

    /// Drops nodes that no output needs; `true` when there were some.
    pub fn remove_dead(&mut self) -> bool {
        let mut live: EntitySet<NodeId> = EntitySet::new();
        let mut work: Vec<ValueId> = self.outputs.iter().map(|o| o.value).collect();
        while let Some(value) = work.pop() {
            if let ValueDef::Result(node, _) = self.values[value].def
                && live.insert(node)
            {
                work.extend(self.nodes[node].inputs.iter().flatten());
            }
        }
        let before = self.order.len();
        self.order.retain(|&id| live.contains(id));
        self.order.len() != before
    }

    /// Puts the nodes in another order. The caller sees to it that it has the same nodes, operands first.
    pub fn set_order(&mut self, order: Vec<NodeId>) {
        self.order = order;
    }

    /// Restores the topological order, keeping the present order where it is one.
    ///
    /// # Errors
    /// The nodes on a cycle, as their order positions, when there is one.
    pub fn sort(&mut self) -> Result<(), Vec<NodeId>> {
        let mut placed: SecondaryMap<NodeId, bool> = SecondaryMap::new();
        let mut order = Vec::with_capacity(self.order.len());
        let members: BTreeSet<NodeId> = self.order.iter().copied().collect();
        for &root in &self.order {
            // An explicit stack: models can be thousands of nodes deep.
            let mut open: BTreeSet<NodeId> = BTreeSet::new();
            let mut stack = vec![(root, false)];
            while let Some((id, expanded)) = stack.pop() {
                if placed[id] {
                    continue;
                }
                if expanded {
                    placed[id] = true;
                    order.push(id);
                    continue;
                }
                if !open.insert(id) {
                    return Err(open.into_iter().collect());
                }
                stack.push((id, true));
                let producers =
                    self.nodes[id].inputs.iter().rev().flatten().filter_map(|&v| match self.values[v].def {
                        ValueDef::Result(node, _) if members.contains(&node) && !placed[node] => Some((node, false)),
                        _ => None,
                    });
                stack.extend(producers.collect::<Vec<_>>());
            }
        }
        self.order = order;
        Ok(())
    }

    /// The same graph rebuilt without dead nodes, ids counted anew in topological order: the form that prints and
    /// hashes the same however it was reached. Unused constants are dropped, equal ones (same digest) shared.
    pub fn compact(&self) -> Graph {
        let mut out = Graph::new(self.name.clone());
        out.dims = self.dims.clone();
        out.states = self.states.clone();
        let mut map: SecondaryMap<ValueId, Option<ValueId>> = SecondaryMap::new();
        for &input in &self.inputs {
            let value = self.values[input].clone();
            map[input] = Some(out.add_input(value.name.clone().unwrap_or_default(), value.ty));
        }
        let mut source = self.clone();
        source.remove_dead();
        let mut consts = std::collections::BTreeMap::new();
        for &id in &source.order {
            let node = &self.nodes[id];
            let op = match &node.op {
                crate::ops::Op::Constant(constant) => {
                    let entry = &self.consts[constant.id];
                    let id = *consts
                        .entry((entry.digest(), entry.name.clone()))
                        .or_insert_with(|| out.consts.push(entry.clone()));
                    crate::ops::Constant { id }.into()
                }
                op => op.clone(),
            };
            let inputs = node.inputs.iter().map(|v| v.map(|v| map[v].expect("operands come first"))).collect();
            let new = out.nodes.next_key();
            let outputs: Vec<ValueId> = node
                .outputs
                .iter()
                .enumerate()
                .map(|(index, &old)| {
                    let value = super::Value { def: ValueDef::Result(new, index), ..self.values[old].clone() };
                    let value = out.values.push(value);
                    map[old] = Some(value);
                    value
                })
                .collect();
            let (schedule, loc) = (node.schedule.clone(), node.loc.clone());
            out.nodes.push(Node { op, inputs, outputs, schedule, loc });
            out.order.push(new);
        }
        for output in &self.outputs {
            out.add_output(output.name.clone(), map[output.value].expect("outputs are live"));
        }
        out
    }
}

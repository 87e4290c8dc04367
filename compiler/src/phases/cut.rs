//! Cutting a graph, once it is known which nodes are on the CPU.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::ops::Op;

use super::partition::{OnCpu, computed, readers, reason, sizes};
use super::{Crossing, Device, Phase, Phases};
use crate::error::Error;

/// Phases, and for each the node that one of its own stands for.
pub(super) struct Cut {
    pub(super) phases: Phases,
    pub(super) origins: Vec<BTreeMap<NodeId, NodeId>>,
}

/// Cuts a graph. One without nodes for the CPU stays as it is.
pub(super) fn cut(graph: &Graph, accelerator: &str, on_cpu: &OnCpu) -> Result<Cut, Error> {
    if on_cpu.is_empty() {
        return Ok(whole(graph, accelerator));
    }
    let mut cutting = Cutting::new(graph, accelerator);
    for (device, nodes) in groups(graph, on_cpu) {
        let reasons = nodes.iter().filter_map(|&id| Some(reason(graph, id, on_cpu.get(&id)?))).collect();
        cutting.phase(device, &nodes, reasons)?;
    }
    cutting.finish()
}

/// The whole graph as a phase of the accelerator; each output is a tensor of its own.
fn whole(graph: &Graph, accelerator: &str) -> Cut {
    let mut phases = Cutting::new(graph, accelerator).result;
    for output in graph.outputs() {
        phases.outputs.push((output.name.clone(), phases.tensors.len()));
        phases.tensors.push(Crossing { name: output.name.clone(), ty: graph.ty(output.value).clone() });
    }
    let outputs = (phases.inputs..phases.tensors.len()).collect();
    let inputs = (0..phases.inputs).collect();
    let device = Device::Accelerator;
    phases.phases.push(Phase { device, graph: graph.clone(), inputs, outputs, reasons: Vec::new() });
    Cut { phases, origins: vec![graph.nodes().map(|(id, _)| (id, id)).collect()] }
}

/// The nodes of each phase. A phase has what can be done before something of the other device is wanted; which device begins is
/// the one with which there are fewer phases, then the accelerator.
fn groups(graph: &Graph, on_cpu: &OnCpu) -> Vec<(Device, Vec<NodeId>)> {
    let levels = levels(graph, on_cpu);
    let mut groups: BTreeMap<usize, (Device, Vec<NodeId>)> = BTreeMap::new();
    for (id, _) in computed(graph) {
        let device = if on_cpu.contains_key(&id) { Device::Cpu } else { Device::Accelerator };
        groups.entry(levels[&id]).or_insert_with(|| (device, Vec::new())).1.push(id);
    }
    // Two of one device follow one another where all in between could wait.
    let mut merged: Vec<(Device, Vec<NodeId>)> = Vec::new();
    for (device, nodes) in groups.into_values() {
        match merged.last_mut().filter(|(last, _)| *last == device) {
            Some((_, all)) => all.extend(nodes),
            None => merged.push((device, nodes)),
        }
    }
    let position: BTreeMap<NodeId, usize> = graph.order().iter().enumerate().map(|(at, &id)| (id, at)).collect();
    merged.iter_mut().for_each(|(_, nodes)| nodes.sort_by_key(|id| position[id]));
    merged
}

/// The position of each node's phase; numbers of one device are all even, those of the other all odd.
pub(super) fn levels(graph: &Graph, on_cpu: &OnCpu) -> BTreeMap<NodeId, usize> {
    let ways = [false, true].map(|cpu_first| levels_from(graph, on_cpu, cpu_first));
    let count = |levels: &BTreeMap<NodeId, usize>| levels.values().collect::<BTreeSet<_>>().len();
    let [accelerator, cpu] = ways;
    if count(&cpu) < count(&accelerator) { cpu } else { accelerator }
}

fn levels_from(graph: &Graph, on_cpu: &OnCpu, cpu_first: bool) -> BTreeMap<NodeId, usize> {
    let is_cpu = |id: &NodeId| on_cpu.contains_key(id);
    let mut levels: BTreeMap<NodeId, usize> = BTreeMap::new();
    for (id, node) in computed(graph) {
        let makers = node.inputs.iter().flatten().filter_map(|&value| graph.producer(value)).map(|(maker, _)| maker);
        let after = |maker: NodeId| levels.get(&maker).map(|level| level + usize::from(is_cpu(&maker) != is_cpu(&id)));
        let level = makers.filter_map(after).max().unwrap_or(0).max(usize::from(is_cpu(&id) != cpu_first));
        levels.insert(id, level);
    }
    // What does not get smaller waits until it is wanted, so that what crosses is what it was made of.
    let readers = readers(graph);
    for (id, node) in computed(graph).rev() {
        let [before, after] = sizes(graph, node);
        let leaves = graph.outputs().iter().any(|output| node.outputs.contains(&output.value));
        let before_reader = |reader: &NodeId| levels[reader] - usize::from(is_cpu(reader) != is_cpu(&id));
        let wanted = readers.get(&id).and_then(|all| all.iter().map(before_reader).min());
        if let Some(level) = wanted.filter(|_| !leaves && after >= before) {
            levels.insert(id, level);
        }
    }
    levels
}

/// Phases in the making.
struct Cutting<'a> {
    graph: &'a Graph,
    result: Phases,
    origins: Vec<BTreeMap<NodeId, NodeId>>,
    tensors: BTreeMap<ValueId, usize>,
    names: BTreeSet<Arc<str>>,
}

impl<'a> Cutting<'a> {
    fn new(graph: &'a Graph, accelerator: &str) -> Self {
        let result = Phases {
            name: graph.name.clone(),
            accelerator: accelerator.to_owned(),
            tensors: Vec::new(),
            inputs: graph.inputs().len(),
            outputs: Vec::new(),
            phases: Vec::new(),
        };
        let mut cutting = Self { graph, result, origins: Vec::new(), tensors: BTreeMap::new(), names: BTreeSet::new() };
        for &value in graph.inputs() {
            cutting.tensor(value);
        }
        cutting
    }

    /// The position of a value among the tensors.
    fn tensor(&mut self, value: ValueId) -> usize {
        if let Some(&known) = self.tensors.get(&value) {
            return known;
        }
        let index = self.result.tensors.len();
        let output = self.graph.outputs().iter().find(|output| output.value == value).map(|output| &output.name);
        let own = self.graph.value(value).name.as_ref();
        let name = own.or(output).filter(|name| !name.is_empty() && !self.names.contains(*name)).cloned();
        let free = |index: &usize| !self.names.contains(format!("t{index}").as_str());
        let name = name.unwrap_or_else(|| format!("t{}", (index..).find(free).unwrap_or(index)).into());
        self.names.insert(name.clone());
        self.result.tensors.push(Crossing { name, ty: self.graph.ty(value).clone() });
        self.tensors.insert(value, index);
        index
    }

    /// Adds a phase of some nodes in order.
    fn phase(&mut self, device: Device, nodes: &[NodeId], reasons: Vec<super::Reason>) -> Result<(), Error> {
        let inside: BTreeSet<NodeId> = nodes.iter().copied().collect();
        let own = nodes.iter().flat_map(|&id| &self.graph.node(id).outputs).copied();
        let leaves = |value: &ValueId| {
            let reads =
                computed(self.graph).any(|(id, node)| !inside.contains(&id) && node.inputs.contains(&Some(*value)));
            reads || self.graph.outputs().iter().any(|output| output.value == *value)
        };
        let outputs: Vec<ValueId> = own.filter(leaves).collect();
        self.add(device, nodes, &outputs, reasons)
    }

    /// Adds a phase that makes certain values.
    fn add(
        &mut self,
        device: Device,
        nodes: &[NodeId],
        outputs: &[ValueId],
        reasons: Vec<super::Reason>,
    ) -> Result<(), Error> {
        let old = self.graph;
        let mut new = Graph::new(format!("{}_{}", old.name, self.result.phases.len()));
        new.dims = old.dims.clone();
        let (mut map, mut origin, mut inputs) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let inside: BTreeSet<NodeId> = nodes.iter().copied().collect();
        let wanted = nodes.iter().flat_map(|&id| old.node(id).inputs.iter().flatten().copied());
        for value in wanted.chain(outputs.iter().copied()) {
            let made_here = old.producer(value).is_some_and(|(id, _)| inside.contains(&id));
            if made_here || map.contains_key(&value) {
                continue;
            }
            let there = match old.constant(value) {
                Some(entry) => {
                    let constant = new.consts.push(entry.clone());
                    new.add_const(constant, Default::default())
                }
                None => {
                    let tensor = self.tensor(value);
                    inputs.push(tensor);
                    new.add_input(self.result.tensors[tensor].name.clone(), old.ty(value).clone())
                }
            };
            map.insert(value, there);
        }
        for &id in nodes {
            let node = old.node(id);
            let operands: Vec<Option<ValueId>> = node.inputs.iter().map(|v| v.map(|v| map[&v])).collect();
            let made = new.add(node.op.clone(), &operands, node.loc.clone());
            let made = made.map_err(|error| Error::Bug(format!("{}: {error}", node.loc)))?;
            origin.extend(made.first().and_then(|&value| new.producer(value)).map(|(new, _)| (new, id)));
            for (&before, &after) in node.outputs.iter().zip(&made) {
                new.set_type(after, old.ty(before).clone());
                new.set_name(after, old.value(before).name.clone());
                map.insert(before, after);
            }
        }
        let tensors: Vec<usize> = outputs.iter().map(|&value| self.tensor(value)).collect();
        for (&value, &tensor) in outputs.iter().zip(&tensors) {
            new.add_output(self.result.tensors[tensor].name.clone(), map[&value]);
        }
        self.origins.push(origin);
        self.result.phases.push(Phase { device, graph: new, inputs, outputs: tensors, reasons });
        Ok(())
    }

    /// Adds what no node computes, on the CPU, and names the outputs.
    fn finish(mut self) -> Result<Cut, Error> {
        let direct =
            |value: ValueId| self.graph.producer(value).is_none_or(|(_, node)| matches!(node.op, Op::Constant(_)));
        let values = self.graph.outputs().iter().map(|output| output.value);
        let constants: BTreeSet<ValueId> =
            values.filter(|&value| direct(value) && !self.tensors.contains_key(&value)).collect();
        if !constants.is_empty() {
            let constants: Vec<ValueId> = constants.into_iter().collect();
            self.add(Device::Cpu, &[], &constants, Vec::new())?;
        }
        for output in self.graph.outputs() {
            let tensor = self.tensors[&output.value];
            self.result.outputs.push((output.name.clone(), tensor));
        }
        Ok(Cut { phases: self.result, origins: self.origins })
    }
}

//! Puts operators where they end the life of what they read.

use std::collections::BTreeSet;

use adze_ir::exact::Exactness;
use adze_ir::graph::{Graph, NodeId, ValueDef, ValueId};
use adze_ir::ops::Op;
use cranelift_entity::SecondaryMap;

use crate::lower::alias::{alias_offsets, concat_offsets};
use crate::pass::{Changed, Pass, PassCx, PassError};

/// See [`Pass::docs`].
pub struct OrderNodes;

impl Pass for OrderNodes {
    fn name(&self) -> &'static str {
        "order"
    }

    fn docs(&self) -> &'static str {
        "Moves a node up to where it ends the life of more bytes than it begins, as far as memory is nowhere more than it was at \
         its peak: exporters write a branch where its result is needed, not where its operand is made. Stands after layouts, \
         which say what is only another name for the same bytes."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn run(&self, graph: &mut Graph, _: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let mut lives = Lives::new(graph);
        let peak = lives.peak();
        let mut changed = Changed::No;
        for at in 0..lives.order.len() {
            if let Some(to) = lives.better_place(at, peak) {
                lives.move_up(at, to);
                changed = Changed::Yes;
            }
        }
        if changed == Changed::Yes {
            graph.set_order(lives.order);
        }
        Ok(changed)
    }
}

/// Memory that a value takes: one per value, but for values that are other names of the same bytes.
#[derive(Clone, Default)]
struct Buffer {
    bytes: u64,
    maker: Option<NodeId>,
    users: BTreeSet<NodeId>,
}

struct Lives {
    order: Vec<NodeId>,
    place: SecondaryMap<NodeId, usize>,
    /// Without what the caller owns, and constants.
    buffers: Vec<Buffer>,
    /// Buffers that a node reads, and those that it makes; nothing of nodes that stay where they are.
    reads: SecondaryMap<NodeId, Vec<usize>>,
    makes: SecondaryMap<NodeId, Vec<usize>>,
    /// Nodes that a node comes after.
    after: SecondaryMap<NodeId, Vec<NodeId>>,
    fixed: BTreeSet<NodeId>,
}

impl Lives {
    fn new(graph: &Graph) -> Self {
        let mut lives = Lives {
            order: graph.order().to_vec(),
            place: SecondaryMap::new(),
            buffers: Vec::new(),
            reads: SecondaryMap::new(),
            makes: SecondaryMap::new(),
            after: SecondaryMap::new(),
            fixed: BTreeSet::new(),
        };
        let mut held: SecondaryMap<ValueId, Option<usize>> = SecondaryMap::new();
        let outputs: BTreeSet<ValueId> = graph.outputs().iter().map(|output| output.value).collect();
        for (at, (id, node)) in graph.nodes().enumerate() {
            lives.place[id] = at;
            let operands = || node.inputs.iter().flatten().copied();
            let producer = |value| match graph.value(value).def {
                ValueDef::Result(maker, _) => Some(maker),
                ValueDef::Input(_) => None,
            };
            lives.after[id] = operands().filter_map(producer).collect();
            for buffer in operands().filter_map(|value| held[value]) {
                lives.buffers[buffer].users.insert(id);
                if !lives.reads[id].contains(&buffer) {
                    lives.reads[id].push(buffer);
                }
            }
            if let Some(parts) = concat_offsets(graph, node).map(|_| operands().filter_map(producer)) {
                // They are made in place: before the whole is there.
                lives.fixed.extend(parts);
            }
            let alias = alias_offsets(graph, node).is_some();
            if alias || matches!(node.op, Op::Constant(_)) || node.outputs.iter().any(|value| outputs.contains(value)) {
                lives.fixed.insert(id);
            }
            for &value in node.outputs.iter().filter(|_| !matches!(node.op, Op::Constant(_))) {
                if alias {
                    held[value] = operands().next().and_then(|operand| held[operand]);
                } else if !outputs.contains(&value) {
                    let bytes = u64::try_from(graph.ty(value).max_bytes(&graph.dims)).unwrap_or(u64::MAX);
                    held[value] = Some(lives.buffers.len());
                    lives.makes[id].push(lives.buffers.len());
                    lives.buffers.push(Buffer { bytes, maker: Some(id), users: BTreeSet::new() });
                }
            }
        }
        lives
    }

    /// From where to where a buffer is held.
    fn span(&self, buffer: &Buffer) -> (usize, usize) {
        let made = buffer.maker.map_or(0, |id| self.place[id]);
        (made, buffer.users.iter().map(|&id| self.place[id]).max().unwrap_or(made))
    }

    /// The most bytes that are held at once.
    fn peak(&self) -> u64 {
        let mut change = vec![0i128; self.order.len() + 1];
        for buffer in &self.buffers {
            let (made, last) = self.span(buffer);
            change[made] += i128::from(buffer.bytes);
            change[last + 1] -= i128::from(buffer.bytes);
        }
        let mut held = 0;
        let most = change.into_iter().map(|by| {
            held += by;
            held
        });
        u64::try_from(most.max().unwrap_or_default()).unwrap_or(u64::MAX)
    }

    /// Where a node would end more than it begins; none where that is where it is.
    fn better_place(&self, at: usize, peak: u64) -> Option<usize> {
        let id = self.order[at];
        if self.fixed.contains(&id) {
            return None;
        }
        let first = self.after[id].iter().map(|&before| self.place[before] + 1).max().unwrap_or(0);
        let made = self.makes[id].iter().fold(0u64, |sum, &made| sum.saturating_add(self.buffers[made].bytes));
        // Operands that nothing else reads from some place on.
        let mut freed: Vec<(usize, u64)> = Vec::new();
        for buffer in self.reads[id].iter().map(|&at| &self.buffers[at]) {
            let others = buffer.users.iter().filter(|&&user| user != id).map(|&user| self.place[user]);
            let from = others.chain(buffer.maker.map(|maker| self.place[maker])).max().map_or(0, |last| last + 1);
            if from < at {
                freed.push((from.max(first), buffer.bytes));
            }
        }
        freed.sort_unstable();
        let mut sum = 0u64;
        let to = freed.into_iter().find_map(|(from, bytes)| {
            sum = sum.saturating_add(bytes);
            (sum > made).then_some(from)
        })?;
        let crosses = |buffer: &&Buffer| {
            let (made, last) = self.span(buffer);
            made < to && to <= last
        };
        let held = self.buffers.iter().filter(crosses).fold(made, |sum, buffer| sum.saturating_add(buffer.bytes));
        (to < at && held <= peak).then_some(to)
    }

    fn move_up(&mut self, from: usize, to: usize) {
        self.order[to..=from].rotate_right(1);
        for at in to..=from {
            self.place[self.order[at]] = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use adze_ir::text::parse_graph;
    use adze_ir::verify::verify_graph;

    use super::*;
    use crate::pass::PassOptions;

    /// The order of the operators after the pass.
    fn ordered(lines: &str) -> Vec<&'static str> {
        let mut graph = parse_graph(&format!("graph @g {{\n{}\n}}", lines.replace(';', "\n"))).unwrap();
        let before = Lives::new(&graph).peak();
        OrderNodes.run(&mut graph, &mut PassCx::plain(&PassOptions::default())).unwrap();
        verify_graph(&graph).unwrap();
        assert!(Lives::new(&graph).peak() <= before);
        graph.nodes().map(|(_, node)| node.op.name()).collect()
    }

    const POOL: &str = "average_pool %1 {kernel=[4], strides=[4], pads=[0,0], dilations=[1], ceil_pads=[0]}";

    #[test]
    fn what_shrinks_moves_to_where_its_operand_is_no_longer_read() {
        let lines = format!(
            "input %0 \"x\" : f32[1,8,64];%1 = exp %0 : f32[1,8,64];%2 = softmax %1 {{axis=2}} : f32[1,8,64];
             %3 = log_softmax %2 {{axis=2}} : f32[1,8,64];%4 = softmax %3 {{axis=1}} : f32[1,8,64];%5 = {POOL} : f32[1,8,16];
             %6 = reduce %4 {{function=mean, axes=[2], keep_dims=true}} : f32[1,8,1];%7 = add %5, %6 : f32[1,8,16];
             output \"y\" = %7"
        );
        assert_eq!(ordered(&lines), ["unary", "softmax", "average_pool", "log_softmax", "softmax", "reduce", "binary"]);
    }

    #[test]
    fn what_grows_and_what_is_handed_out_stays() {
        let lines = "input %0 \"x\" : f32[8];%1 = exp %0 : f32[8];%2 = softmax %0 {axis=0} : f32[8];
            %3 = expand %1 {shape=[9,8]} : f32[9,8];%4 = reduce %1 {function=max, axes=[0]} : f32[];
            %5 = add %3, %2 : f32[9,8];output \"y\" = %5;output \"z\" = %4";
        assert_eq!(ordered(lines), ["unary", "softmax", "expand", "reduce", "binary"]);
    }
}

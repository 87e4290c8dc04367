//! The lowering itself: first where values would best lie (against the order), then statements (in order).

use std::collections::BTreeMap;
use std::sync::Arc;

use adze_ir::attrs::F64;
use adze_ir::extent::Extent;
use adze_ir::graph::{Graph, Node, ValueId};
use adze_ir::loc::Loc;
use adze_ir::ops::{ConstId, Expand, Op, Unary, UnaryFn};
use adze_ir::tile::{Binding, Buffer, BufferId, Leaf, Memory, Program, Recipe, Role, Stmt, View, memory};
use adze_ir::types::{DType, TensorType};
use cranelift_entity::SecondaryMap;

use super::alias::{alias_offsets, concat_offsets};
use super::padding::{Border, border, constant_padding, pads_to_views, reads_as_convolution_input};
use super::states::{Order, StatePlan, plan_states};
use super::{LowerError, LowerOptions, Lowered};

/// Alignment of planned buffers in bytes: a cache line, and any vector.
pub(super) const ALIGN: i64 = 64;

pub(super) struct Lowering<'a> {
    graph: &'a Graph,
    options: LowerOptions,
    order: Order,
    program: Program,
    /// Where a value is wanted, so that its producer writes there.
    wishes: SecondaryMap<ValueId, Option<View>>,
    /// Where a value lies.
    places: SecondaryMap<ValueId, Option<View>>,
    weights: BTreeMap<ConstId, BufferId>,
    /// Buffers with a border around a value, by the value and the border's widths.
    bordered: BTreeMap<(ValueId, Vec<i64>), BufferId>,
    /// Copies into states, at the very end.
    last: Vec<Stmt>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(graph: &'a Graph, options: LowerOptions) -> Result<Self, LowerError> {
        let mut program = Program::new(graph.name.clone());
        program.dims = graph.dims.clone();
        program.consts = graph.consts.clone();
        program.states = graph.states.clone();
        for name in [memory::ARENA, memory::WEIGHTS] {
            program.memories.insert(name.into(), Memory { align: ALIGN, ..Memory::default() });
        }
        Ok(Self {
            graph,
            options,
            order: plan_states(graph)?,
            program,
            wishes: SecondaryMap::new(),
            places: SecondaryMap::new(),
            weights: BTreeMap::new(),
            bordered: BTreeMap::new(),
            last: Vec::new(),
        })
    }

    pub(super) fn run(mut self) -> Result<Lowered, LowerError> {
        self.bind_inputs();
        let outputs = self.wish_outputs();
        for id in self.order.nodes.clone().into_iter().rev() {
            self.wish_operands(self.graph.node(id));
        }
        for id in self.order.nodes.clone() {
            self.node(self.graph.node(id));
        }
        self.bind_outputs(&outputs);
        let last = std::mem::take(&mut self.last);
        self.program.body.extend(last);
        Ok(Lowered { program: self.program, notes: self.order.notes })
    }

    fn name_of(&self, value: ValueId) -> Arc<str> {
        self.graph.value(value).name.clone().unwrap_or_else(|| value.to_string().trim_start_matches('%').into())
    }

    fn add(&mut self, name: Arc<str>, ty: &TensorType, memory: &str, role: Role) -> BufferId {
        let mut buffer = Buffer::temp(name, ty.dtype, ty.shape.clone(), memory);
        buffer.layout = ty.layout.clone();
        buffer.role = role;
        self.program.buffers.push(buffer)
    }

    fn whole(&self, id: BufferId) -> View {
        View::whole(id, &self.program.buffers[id])
    }

    fn bind_inputs(&mut self) {
        for (index, &input) in self.graph.inputs().iter().enumerate() {
            let position = u32::try_from(index).expect("inputs are few");
            let ty = self.graph.ty(input).clone();
            let state = self.graph.states.iter().position(|s| s.input == index);
            let (name, view) = (
                self.name_of(input),
                match state {
                    None => {
                        let id = self.add(self.name_of(input), &ty, memory::INPUT, Role::Input(position));
                        self.whole(id)
                    }
                    Some(state) => {
                        let mut held = ty.clone();
                        if let StatePlan::Appended(append) = self.order.states[state] {
                            held.shape[append.axis] = append.capacity.into();
                        }
                        let role = Role::State(u32::try_from(state).expect("states are few"));
                        let id = self.add(self.name_of(input), &held, memory::STATE, role);
                        View { sizes: ty.shape, ..self.whole(id) }
                    }
                },
            );
            self.places[input] = Some(view.clone());
            self.program.inputs.push(Binding { name, view });
        }
    }

    /// Gives every output its buffer and asks the producers to write there; says which outputs are states.
    fn wish_outputs(&mut self) -> Vec<Option<usize>> {
        let states: Vec<Option<usize>> = (0..self.graph.outputs().len())
            .map(|index| self.graph.states.iter().position(|s| s.output == index))
            .collect();
        for (index, output) in self.graph.outputs().iter().enumerate() {
            let ty = self.graph.ty(output.value).clone();
            let view = match states[index] {
                Some(state) => {
                    let input = self.graph.inputs()[self.graph.states[state].input];
                    let place = self.places[input].clone().expect("inputs are bound");
                    View { sizes: ty.shape, ..place }
                }
                None => {
                    let role = Role::Output(u32::try_from(index).expect("outputs are few"));
                    let id = self.add(output.name.clone(), &ty, memory::OUTPUT, role);
                    self.whole(id)
                }
            };
            let direct = states[index].is_none_or(|s| self.order.states[s] != StatePlan::Copied);
            if direct && self.is_made(output.value) && self.wishes[output.value].is_none() {
                self.wishes[output.value] = Some(view.clone());
            }
            self.program.outputs.push(Binding { name: output.name.clone(), view });
        }
        states
    }

    /// Whether a node writes the value (it is no input and no constant).
    fn is_made(&self, value: ValueId) -> bool {
        self.graph.producer(value).is_some_and(|(_, node)| !matches!(node.op, Op::Constant(_)))
    }

    /// Hands the wish for a node's result on to the operand that has its bytes.
    fn wish_operands(&mut self, node: &Node) {
        if let (Some(offsets), Some(Some(source))) = (alias_offsets(self.graph, node), node.inputs.first()) {
            let same_size =
                offsets.len() == 1 && self.graph.ty(*source).elems() == self.graph.ty(node.outputs[0]).elems();
            if let Some(wish) = self.wishes[node.outputs[0]].clone()
                && same_size
                && self.wishes[*source].is_none()
                && self.is_made(*source)
                && let Some((root, offset)) = self.dense(&wish)
            {
                let view = self.alias(*source, root, offset);
                self.wishes[*source] = Some(view);
            }
            return;
        }
        if let Some(wish) = self.appended_wish(node) {
            self.wish_appended(node, &wish);
            return;
        }
        if let Some((border, _)) = border(self.graph, node) {
            self.wish_bordered(&border);
            return;
        }
        let Some(offsets) = concat_offsets(self.graph, node).filter(|_| self.options.concat_in_place) else { return };
        let result = node.outputs[0];
        if self.order.apart.contains(&result) {
            return;
        }
        let free = |me: &Self, v: ValueId| me.wishes[v].is_none() && me.is_made(v);
        let parts: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        if !parts.iter().any(|&v| free(self, v)) {
            return;
        }
        if self.wishes[result].is_none() {
            let ty = self.graph.ty(result).clone();
            let id = self.add(self.name_of(result), &ty, memory::ARENA, Role::Temp);
            self.wishes[result] = Some(self.whole(id));
        }
        let wish = self.wishes[result].clone().expect("set above");
        let Some((root, base)) = self.dense(&wish) else { return };
        for (&part, offset) in parts.iter().zip(offsets) {
            if free(self, part) {
                let view = self.alias(part, root, base.clone() + offset);
                self.wishes[part] = Some(view);
            }
        }
    }

    /// The wish for the result of a concatenation that appends to a state.
    fn appended_wish(&self, node: &Node) -> Option<View> {
        let wish = self.wishes[*node.outputs.first()?].clone()?;
        let is_state = matches!(self.program.buffers[wish.buffer].role, Role::State(_));
        (is_state && matches!(node.op, Op::Concat(_)) && !wish.is_whole(&self.program.buffers[wish.buffer]))
            .then_some(wish)
    }

    fn wish_appended(&mut self, node: &Node, wish: &View) {
        for (index, view) in self.pieces(node, wish).into_iter().enumerate().skip(1) {
            if let Some(part) = node.inputs[index]
                && self.wishes[part].is_none()
                && self.is_made(part)
            {
                self.wishes[part] = Some(view);
            }
        }
    }

    /// Asks the producer of a value that only this node reads to write inside of the border.
    fn wish_bordered(&mut self, border: &Border) {
        let (_, value) = border.operand;
        let users = self.graph.nodes().flat_map(|(_, n)| n.inputs.iter().flatten()).filter(|v| **v == value).count();
        let only = users == 1 && self.graph.outputs().iter().all(|o| o.value != value);
        if only && self.is_made(value) && self.wishes[value].is_none() {
            let buffer = self.bordered(border);
            self.wishes[value] = Some(self.inside(buffer, border));
        }
    }

    /// The buffer with that border.
    fn bordered(&mut self, border: &Border) -> BufferId {
        let (_, value) = border.operand;
        let key = (value, border.pads.clone());
        if let Some(&buffer) = self.bordered.get(&key) {
            return buffer;
        }
        let mut ty = self.graph.ty(value).clone();
        let spatial = border.pads.len() / 2;
        for axis in 0..spatial {
            let added = Extent::from(border.pads[axis] + border.pads[axis + spatial]);
            ty.shape[axis + 2] = ty.shape[axis + 2].clone() + added;
        }
        let buffer = self.add(self.name_of(value), &ty, memory::ARENA, Role::Temp);
        self.bordered.insert(key, buffer);
        buffer
    }

    /// What lies inside of the border.
    fn inside(&self, buffer: BufferId, border: &Border) -> View {
        let mut view = self.whole(buffer);
        let spatial = border.pads.len() / 2;
        for axis in 0..spatial {
            let (before, after) = (border.pads[axis], border.pads[axis + spatial]);
            view.offsets[axis + 2] = before.into();
            view.sizes[axis + 2] = view.sizes[axis + 2].clone() - (before + after).into();
        }
        view
    }

    /// Makes the value with its border, and gives all of it.
    fn lower_border(&mut self, border: &Border, loc: &Loc) -> View {
        let (_, value) = border.operand;
        let place = self.operand(value);
        let made =
            self.bordered.contains_key(&(value, border.pads.clone())) && self.wishes[value].as_ref() != Some(&place);
        let buffer = self.bordered(border);
        if made {
            return self.whole(buffer);
        }
        let inside = self.inside(buffer, border);
        self.copy(place, inside.clone(), loc.clone());
        let zero = self.operand(border.zero);
        let spatial = border.pads.len() / 2;
        // All of the first axis' border, then of the next one's what is left.
        let mut rest = self.whole(buffer);
        for axis in 0..spatial {
            let at = axis + 2;
            for (width, from_end) in [(border.pads[axis], false), (border.pads[axis + spatial], true)] {
                if width == 0 {
                    continue;
                }
                let mut edge = rest.clone();
                if from_end {
                    edge.offsets[at] = edge.offsets[at].clone() + edge.sizes[at].clone() - width.into();
                }
                edge.sizes[at] = width.into();
                let op = Expand { shape: edge.sizes.clone() }.into();
                let (inputs, outputs) = (vec![Some(zero.clone())], vec![edge]);
                self.program.body.push(Stmt::Leaf(Leaf { op, inputs, outputs, schedule: None, loc: loc.clone() }));
            }
            (rest.offsets[at], rest.sizes[at]) = (inside.offsets[at].clone(), inside.sizes[at].clone());
        }
        self.whole(buffer)
    }

    /// The box of each operand of a concatenation inside of the box of its result.
    fn pieces(&self, node: &Node, result: &View) -> Vec<View> {
        let Op::Concat(op) = &node.op else { return Vec::new() };
        let mut at = result.offsets[op.axis].clone();
        let mut pieces = Vec::with_capacity(node.inputs.len());
        for &part in node.inputs.iter().flatten() {
            let mut view = result.clone();
            view.sizes = self.graph.ty(part).shape.clone();
            view.offsets[op.axis] = at.clone();
            at = at + view.sizes[op.axis].clone();
            pieces.push(view);
        }
        pieces
    }

    /// Owner of the bytes and byte offset in it, when the view is all of a buffer.
    fn dense(&self, view: &View) -> Option<(BufferId, Extent)> {
        let buffer = &self.program.buffers[view.buffer];
        let fine = view.is_whole(buffer) && view.fill.is_none();
        fine.then(|| buffer.alias.clone().unwrap_or((view.buffer, Extent::ZERO)))
    }

    /// A buffer for a value that has the bytes of another buffer.
    fn alias(&mut self, value: ValueId, root: BufferId, offset: Extent) -> View {
        let ty = self.graph.ty(value).clone();
        let owner = &self.program.buffers[root];
        if offset == Extent::ZERO && (owner.dtype, &owner.shape, &owner.layout) == (ty.dtype, &ty.shape, &ty.layout) {
            return self.whole(root);
        }
        let (memory, name) = (owner.memory.clone(), self.name_of(value));
        let id = self.add(name, &ty, &memory, Role::Temp);
        self.program.buffers[id].alias = Some((root, offset));
        self.whole(id)
    }

    /// Where the results of a node go: as wished, or in a buffer of their own.
    fn results(&mut self, node: &Node) -> Vec<View> {
        node.outputs.iter().map(|&value| self.result(value)).collect()
    }

    fn result(&mut self, value: ValueId) -> View {
        let view = match self.wishes[value].clone() {
            Some(view) => view,
            None => {
                let ty = self.graph.ty(value).clone();
                let id = self.add(self.name_of(value), &ty, memory::ARENA, Role::Temp);
                self.whole(id)
            }
        };
        self.places[value] = Some(view.clone());
        view
    }

    fn operand(&mut self, value: ValueId) -> View {
        if let Some(view) = &self.places[value] {
            return view.clone();
        }
        let constant = self.graph.producer(value).and_then(|(_, node)| match &node.op {
            Op::Constant(constant) => Some(constant.id),
            _ => None,
        });
        let id = constant.expect("operands are inputs, constants or results of earlier nodes");
        let buffer = match self.weights.get(&id) {
            Some(&buffer) => buffer,
            None => {
                let ty = self.graph.ty(value).clone();
                let entry_name = self.graph.consts[id].name.clone();
                let name = if entry_name.is_empty() { self.name_of(value) } else { entry_name };
                let buffer = self.add(name, &ty, memory::WEIGHTS, Role::Weight(Recipe::plain(id)));
                self.weights.insert(id, buffer);
                buffer
            }
        };
        self.whole(buffer)
    }

    fn node(&mut self, node: &Node) {
        if matches!(node.op, Op::Constant(_)) {
            return;
        }
        if self.lower_alias(node) || self.lower_concat(node) || self.lower_pad(node) {
            return;
        }
        let mut inputs: Vec<Option<View>> = node.inputs.iter().map(|v| v.map(|v| self.operand(v))).collect();
        let mut op = node.op.clone();
        if let Some((border, unpadded)) = border(self.graph, node) {
            inputs[border.operand.0] = Some(self.lower_border(&border, &node.loc));
            op = unpadded;
        }
        let buffers = &self.program.buffers;
        let dtype = |view: &View| -> Option<DType> {
            let buffer = &buffers[view.buffer];
            // A view that pads with zero already can be widened, for a convolution.
            let zero = view.fill == Some(F64::new(0.0));
            (view.is_whole(buffer) || zero).then_some(buffer.dtype)
        };
        let (op, inputs) = pads_to_views(&op, inputs, &dtype);
        let outputs = self.results(node);
        self.program.body.push(Stmt::Leaf(Leaf {
            op,
            inputs,
            outputs,
            schedule: node.schedule.clone(),
            loc: node.loc.clone(),
        }));
    }

    /// Lowers a node that only renames bytes; `false` when it has to be computed.
    fn lower_alias(&mut self, node: &Node) -> bool {
        let Some(offsets) = alias_offsets(self.graph, node) else { return false };
        let Some(Some(source)) = node.inputs.first() else { return false };
        let place = self.operand(*source);
        if self.lower_recipe(node, &place) {
            return true;
        }
        let Some((root, base)) = self.dense(&place) else { return false };
        for (&value, offset) in node.outputs.iter().zip(offsets) {
            let offset = base.clone() + offset;
            match self.wishes[value].clone() {
                Some(wish) if self.dense(&wish) == Some((root, offset.clone())) => self.places[value] = Some(wish),
                Some(_) => {
                    // Wanted elsewhere: moved, under the result's shape.
                    let from = self.alias(value, root, offset);
                    let to = self.result(value);
                    self.copy(from, to, node.loc.clone());
                }
                None => self.places[value] = Some(self.alias(value, root, offset)),
            }
        }
        true
    }

    /// Moves a node of one constant into the recipe of a weight.
    fn lower_recipe(&mut self, node: &Node, place: &View) -> bool {
        let Role::Weight(recipe) = &self.program.buffers[place.buffer].role else { return false };
        let &[value] = node.outputs.as_slice() else { return false };
        let ty = self.graph.ty(value).clone();
        let (Ok(op), Some(_)) = (node.op.bind(&|_| None), ty.fixed_shape()) else { return false };
        if self.wishes[value].is_some() {
            return false;
        }
        let mut recipe = recipe.clone();
        recipe.steps.push(op);
        let id = self.add(self.name_of(value), &ty, memory::WEIGHTS, Role::Weight(recipe));
        self.places[value] = Some(self.whole(id));
        true
    }

    /// Lowers a concatenation of which some part is in place already; `false` when all have to be copied.
    fn lower_concat(&mut self, node: &Node) -> bool {
        let appended = self.appended_wish(node);
        let offsets = match appended {
            Some(_) => None,
            None => concat_offsets(self.graph, node),
        };
        let result = node.outputs[0];
        if appended.is_none() && (offsets.is_none() || self.wishes[result].is_none()) {
            return false;
        }
        let target = self.wishes[result].clone().expect("checked above");
        let dense = self.dense(&target);
        if appended.is_none() && dense.is_none() {
            return false;
        }
        let parts: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        let places: Vec<View> = parts.iter().map(|&v| self.operand(v)).collect();
        let targets: Vec<View> = match (&offsets, dense) {
            (Some(offsets), Some((root, base))) => {
                let wanted = |me: &Self, place: &View, offset: &Extent| {
                    me.dense(place) == Some((root, base.clone() + offset.clone()))
                };
                if !places.iter().zip(offsets).any(|(place, offset)| wanted(self, place, offset)) {
                    return false;
                }
                (0..parts.len())
                    .map(|i| {
                        if wanted(self, &places[i], &offsets[i]) {
                            places[i].clone()
                        } else {
                            self.alias(parts[i], root, base.clone() + offsets[i].clone())
                        }
                    })
                    .collect()
            }
            _ => self.pieces(node, &target),
        };
        for (place, target) in places.into_iter().zip(targets) {
            self.copy(place, target, node.loc.clone());
        }
        self.places[result] = Some(target);
        true
    }

    /// Padding that only convolutions read becomes what they read outside of the buffer; `false` when it has to be made.
    fn lower_pad(&mut self, node: &Node) -> bool {
        let Some((fill, widths)) = constant_padding(self.graph, node) else { return false };
        let (Some(source), result) = (node.inputs[0], node.outputs[0]) else { return false };
        let place = self.operand(source);
        if self.wishes[result].is_some() || !place.is_whole(&self.program.buffers[place.buffer]) {
            return false;
        }
        if !reads_as_convolution_input(self.graph, result, fill) {
            return false;
        }
        let mut view = place;
        for (axis, (before, after)) in widths.into_iter().enumerate() {
            view.offsets[axis] = view.offsets[axis].clone() - before.into();
            view.sizes[axis] = view.sizes[axis].clone() + Extent::from(before) + Extent::from(after);
        }
        view.fill = Some(fill);
        self.places[result] = Some(view);
        true
    }

    /// A leaf that moves a value, unless it is there already.
    fn copy(&mut self, from: View, to: View, loc: Loc) {
        if from != to {
            self.program.body.push(Stmt::Leaf(copy_leaf(from, to, loc)));
        }
    }

    /// Moves values to outputs that their producers could not write; copies into states come last.
    fn bind_outputs(&mut self, states: &[Option<usize>]) {
        for (index, state) in states.iter().enumerate() {
            let value = self.graph.outputs()[index].value;
            let loc = self.graph.producer(value).map(|(_, node)| node.loc.clone()).unwrap_or_default();
            let (from, to) = (self.operand(value), self.program.outputs[index].view.clone());
            if from == to {
                continue;
            }
            if state.is_none() {
                self.copy(from, to, loc);
                continue;
            }
            // The source may share a state that another copy overwrites first.
            let mut from = from;
            if matches!(self.program.buffers[self.program.root(from.buffer)].role, Role::State(_)) {
                let ty = self.graph.ty(value).clone();
                let id = self.add(self.name_of(value), &ty, memory::ARENA, Role::Temp);
                let temp = self.whole(id);
                self.copy(from, temp.clone(), loc.clone());
                from = temp;
            }
            self.last.push(Stmt::Leaf(copy_leaf(from, to, loc)));
        }
    }
}

fn copy_leaf(from: View, to: View, loc: Loc) -> Leaf {
    let op = Unary { function: UnaryFn::Identity }.into();
    Leaf { op, inputs: vec![Some(from)], outputs: vec![to], schedule: None, loc }
}

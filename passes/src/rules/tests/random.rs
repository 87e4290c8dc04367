//! Random small graphs under all rules together.

use adze_ir::exact::{Exactness, largest};
use adze_ir::extent::Extent;
use adze_ir::graph::ConstEntry;
use adze_ir::graph::{Graph, ValueId};
use adze_ir::loc::Loc;
use adze_ir::ops::{
    AveragePool, Binary, BinaryFn, Clip, Concat, Conv, Expand, Gemm, LayerNorm, MatMul, MaxPool, Op, Pad, PadMode,
    Reduce, ReduceFn, Reshape, Slice, Softmax, Transpose, Unary, UnaryFn,
};
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};

use super::{class_values, disagreement, families, inputs, saturated};

/// Graphs that are tried.
const GRAPHS: usize = 300;
/// Operators of each.
const STEPS: usize = 10;
/// E-nodes that rules may make of one, on the average of all graphs.
const GROWTH: f64 = 2.0;

struct Builder<'a> {
    graph: Graph,
    values: Vec<ValueId>,
    random: &'a mut fastrand::Rng,
}

impl Builder<'_> {
    fn any(&mut self) -> ValueId {
        // Late values more often: long chains.
        let (len, back) = (self.values.len(), self.random.usize(..4) * self.random.usize(..2));
        self.values[len - 1 - back.min(len - 1)]
    }

    fn shape(&self, value: ValueId) -> Vec<usize> {
        self.graph.ty(value).fixed_shape().unwrap()
    }

    fn constant(&mut self, shape: &[usize]) -> ValueId {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| self.random.f64() * 2.0 - 1.0).collect();
        let id = self.graph.consts.push(ConstEntry::new("", Tensor::from_f64(DType::F32, shape, &values)));
        self.graph.add_const(id, Loc::default())
    }

    fn axis(&mut self, rank: usize) -> usize {
        self.random.usize(..rank.max(1))
    }

    /// An operator and operands that may fit together.
    fn step(&mut self) -> (Op, Vec<ValueId>) {
        let x = self.any();
        let shape = self.shape(x);
        let rank = shape.len();
        let axis = self.axis(rank);
        let extents = |shape: &[usize]| shape.iter().map(|&len| Extent::from(len as i64)).collect::<Vec<_>>();
        match self.random.u8(..20) {
            0 | 1 => {
                let functions = [UnaryFn::Relu, UnaryFn::Neg, UnaryFn::Abs, UnaryFn::Tanh, UnaryFn::Sigmoid];
                (Unary { function: functions[self.random.usize(..5)] }.into(), vec![x])
            }
            2..=4 => {
                let functions = [BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul, BinaryFn::Max];
                let y = self.any();
                (Binary { function: functions[self.random.usize(..4)] }.into(), vec![x, y])
            }
            5..=7 => {
                let functions = [BinaryFn::Add, BinaryFn::Mul, BinaryFn::Div, BinaryFn::Sub];
                let keep: Vec<usize> = shape.iter().map(|&len| if self.random.bool() { len } else { 1 }).collect();
                let c = self.constant(&keep);
                let function = functions[self.random.usize(..4)];
                (Binary { function }.into(), if self.random.u8(..8) == 0 { vec![c, x] } else { vec![x, c] })
            }
            8 | 9 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                self.random.shuffle(&mut perm);
                (Transpose { perm }.into(), vec![x])
            }
            10 => {
                let mut to = shape.clone();
                if self.random.bool() {
                    to.insert(axis, 1);
                } else if rank > 1 {
                    let last = to.pop().unwrap();
                    to[rank - 2] *= last;
                }
                (Reshape { shape: extents(&to) }.into(), vec![x])
            }
            11 => {
                let len = shape.get(axis).copied().unwrap_or(0) as i64;
                let start = self.random.i64(0..len.max(1));
                let size = self.random.i64(1..=(len - start).max(1));
                let slice =
                    Slice { axes: vec![axis], starts: vec![start.into()], sizes: vec![size.into()], steps: vec![1] };
                (slice.into(), vec![x])
            }
            12 => {
                let y = self.any();
                (Concat { axis }.into(), vec![x, y])
            }
            13 => {
                let functions = [ReduceFn::Sum, ReduceFn::Mean, ReduceFn::Max];
                let keep_dims = self.random.u8(..3) > 0;
                (Reduce { function: functions[self.random.usize(..3)], axes: vec![axis], keep_dims }.into(), vec![x])
            }
            14 => (Softmax { axis, flatten: false }.into(), vec![x]),
            15 => {
                let inner = shape.last().copied().unwrap_or(1);
                let trans_b = self.random.bool();
                let columns = self.random.usize(1..4);
                let w = self.constant(&if trans_b { [columns, inner] } else { [inner, columns] });
                if rank == 2 && self.random.bool() {
                    let one = 1.0.into();
                    return (Gemm { alpha: one, beta: one, trans_a: false, trans_b }.into(), vec![x, w]);
                }
                (MatMul { trans_a: false, trans_b }.into(), vec![x, w])
            }
            16 => {
                let channels = shape.get(1).copied().unwrap_or(1);
                let window = self.random.usize(1..3);
                let out = self.random.usize(1..4);
                let w = self.constant(&[out, channels, window, 1]);
                let pads = vec![self.random.i64(0..2), 0, 0, self.random.i64(0..2)];
                (Conv { strides: vec![1, 1], pads, dilations: vec![1, 1], group: 1 }.into(), vec![x, w])
            }
            17 => {
                let zeros = vec![Extent::ZERO; rank];
                let mut after = zeros.clone();
                if let Some(amount) = after.get_mut(axis) {
                    *amount = Extent::ONE;
                }
                (Pad { mode: PadMode::Constant, before: zeros, after }.into(), vec![x])
            }
            18 if self.random.bool() => {
                let (kernel, strides, pads) = (vec![2, 1], vec![1, 1], vec![0; 4]);
                let dilations = vec![1, 1];
                if self.random.bool() {
                    return (MaxPool { kernel, strides, pads, dilations }.into(), vec![x]);
                }
                let (ceil_pads, count_include_pad) = (vec![0, 0], false);
                (AveragePool { kernel, strides, pads, dilations, ceil_pads, count_include_pad }.into(), vec![x])
            }
            18 => {
                let one = self.constant(&[]);
                (LayerNorm { axis, epsilon: 0.5.into() }.into(), vec![x, one])
            }
            _ if self.random.bool() => {
                let mut to = shape.clone();
                to.insert(0, 2);
                (Expand { shape: extents(&to) }.into(), vec![x])
            }
            _ => (Clip { min: Some((-1.0).into()), max: Some(1.5.into()) }.into(), vec![x]),
        }
    }
}

fn graph(random: &mut fastrand::Rng) -> Graph {
    let mut graph = Graph::new("random");
    let ranks = [vec![2, 3, 2, 3], vec![3, 4], vec![2, 3, 4]];
    let shape = &ranks[random.usize(..3)];
    let mut values = Vec::new();
    for name in ["a", "b"] {
        values.push(graph.add_input(name, TensorType::fixed(DType::F32, shape)));
    }
    let mut builder = Builder { graph, values, random };
    let mut made = 0;
    while made < STEPS {
        let (op, operands) = builder.step();
        let operands: Vec<Option<ValueId>> = operands.into_iter().map(Some).collect();
        let small = |types: &[TensorType]| types.iter().all(|ty| ty.elems().as_const().is_some_and(|n| n <= 200));
        if builder.graph.infer(&op, &operands).is_ok_and(|types| small(&types)) {
            builder.values.extend(builder.graph.add(op, &operands, Loc::default()).unwrap());
            made += 1;
        }
    }
    for (index, &value) in builder.values.clone().iter().rev().take(2).enumerate() {
        builder.graph.add_output(format!("y{index}"), value);
    }
    builder.graph.remove_dead();
    builder.graph
}

#[test]
fn all_rules_together_agree_on_random_graphs() {
    let mut random = fastrand::Rng::with_seed(23);
    let rules: Vec<_> = families().filter(|family| family.pass == "saturate").flat_map(|family| family.rules).collect();
    let (mut before, mut after) = (0, 0);
    for _ in 0..GRAPHS {
        let graph = graph(&mut random);
        let (egraph, stats, source) = saturated(&graph, &rules);
        assert_eq!(egraph.analysis.bugs, [], "{graph}");
        (before, after) = (before + source, after + stats.nodes);
        let values = inputs(&graph, false, &mut random);
        let known = class_values(&egraph, &values).unwrap();
        let scale = known.values().flatten().map(|tensor| largest(&tensor.to_f64())).fold(1.0, f64::max);
        let found = disagreement(&egraph, &values, Exactness::Norm(64), scale);
        assert!(found.is_none(), "{}\n{graph}", found.unwrap());
    }
    let growth = after as f64 / before as f64;
    println!("{before} e-nodes became {after}: {growth:.2} for one");
    assert!(growth <= GROWTH, "{growth:.2} e-nodes for one, at most {GROWTH} are accepted");
}

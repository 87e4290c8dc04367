//! Translation validation: a region before and after its rewrites, on random inputs through the interpreter.
//!
//! Wherever the new form computes a value of the old one, the two are compared, and what follows goes on from the old one:
//! differences do not add up over a region, and the first wrong value is the one at fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use adze_ir::egraph::Built;
use adze_ir::exact::{Exactness, largest};
use adze_ir::extent::Sym;
use adze_ir::graph::{Graph, Node, NodeId, ValueId};
use adze_ir::loc::Loc;
use adze_ir::ops::Op;
use adze_ir::propose::{CostModel as _, OpFacts, PlainMachine};
use adze_ir::sample;
use adze_ir::tensor::Tensor;
use adze_ir::text::Spelling as _;
use adze_ir::types::{DType, TensorType};

/// Work of the largest region that is interpreted, in [`PlainMachine`]'s cycles: about a minute.
const LIMIT_CYCLES: u64 = 1 << 27;

/// What came of validating a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// The pass.
    pub pass: &'static str,
    /// The first of its source nodes.
    pub loc: Loc,
    /// Nodes that were read.
    pub nodes: usize,
    /// Values compared, or why none could be.
    pub compared: Result<usize, String>,
}

impl fmt::Display for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pass, loc, nodes, compared } = self;
        write!(f, "{pass}: region of {nodes} nodes from {loc}: ")?;
        match compared {
            Ok(values) => write!(f, "{values} values agree"),
            Err(why) => write!(f, "not validated: {why}"),
        }
    }
}

/// A region and what took its place.
pub(crate) struct Pair<'a> {
    pub pass: &'static str,
    pub before: &'a Graph,
    pub nodes: &'a [NodeId],
    pub outputs: &'a [ValueId],
    pub after: &'a Graph,
    pub built: &'a Built,
    /// Of the rules that changed something.
    pub bounds: &'a [Exactness],
}

/// Why a region is not validated, or is wrong.
enum Stop {
    Skipped(String),
    Wrong(String),
}

/// Validates a region.
///
/// # Errors
/// The value that differs: a bug of a rule.
pub(crate) fn validate(pair: &Pair<'_>) -> Result<Validation, String> {
    let loc = pair.nodes.first().map(|&id| pair.before.node(id).loc.clone()).unwrap_or_default();
    let result = |compared| Ok(Validation { pass: pair.pass, loc, nodes: pair.nodes.len(), compared });
    match run(pair) {
        Ok(compared) => result(Ok(compared)),
        Err(Stop::Skipped(why)) => result(Err(why)),
        Err(Stop::Wrong(what)) => Err(what),
    }
}

type Values = BTreeMap<ValueId, Tensor>;

fn run(pair: &Pair<'_>) -> Result<usize, Stop> {
    let dims = named(pair.before);
    let work = pair.nodes.iter().fold(0u64, |sum, &id| sum.saturating_add(cycles(pair.before, pair.before.node(id))));
    if work > LIMIT_CYCLES {
        return Err(Stop::Skipped(format!("too much to interpret ({work} cycles of a plain machine)")));
    }
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let old = evaluate_old(pair, &dims, &mut random)?;
    // Values of the new graph that stand for old ones; of several, the first.
    let mut stands: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for &value in pair.nodes.iter().flat_map(|&id| &pair.before.node(id).outputs) {
        if let Some(new) = pair.built.values[value] {
            stands.entry(new).or_insert(value);
        }
    }
    let mut new: Values = BTreeMap::new();
    for (value, tensor) in &old {
        let inside = pair.before.producer(*value).is_some_and(|(id, _)| pair.nodes.contains(&id));
        if let Some(mapped) = pair.built.values[*value].filter(|_| !inside) {
            new.insert(mapped, tensor.clone());
        }
    }
    let mut compared = 0;
    for id in needed(pair, &new) {
        let node = pair.after.node(id);
        let results = evaluate(pair.after, node, &new, &dims)
            .map_err(|why| Stop::Wrong(format!("`{}` {} does not evaluate: {why}", node.op.spelling(), node.loc)))?;
        for (&value, found) in node.outputs.iter().zip(results) {
            let Some(&source) = stands.get(&value) else {
                new.insert(value, found);
                continue;
            };
            compared += usize::from(compare(pair, source, &found, &old, &stands)?);
            new.insert(value, old[&source].clone());
        }
    }
    Ok(compared)
}

/// A value for every named dimension.
fn named(graph: &Graph) -> BTreeMap<Sym, i64> {
    let mut symbols = BTreeSet::new();
    graph.type_extents().for_each(|extent| extent.symbols(&mut symbols));
    symbols.into_iter().map(|sym| (sym.clone(), sample::dim(&graph.dims, &sym))).collect()
}

fn cycles(graph: &Graph, node: &Node) -> u64 {
    let outputs: Vec<TensorType> = node.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
    let cost = OpFacts::in_graph(graph, &node.inputs, &outputs, |facts| PlainMachine.cost(&node.op, facts));
    cost.map_or(0, |cost| cost.cycles)
}

/// Every value of the region and those that it reads.
fn evaluate_old(pair: &Pair<'_>, dims: &BTreeMap<Sym, i64>, random: &mut fastrand::Rng) -> Result<Values, Stop> {
    let graph = pair.before;
    let mut values: Values = BTreeMap::new();
    for &id in pair.nodes {
        let node = graph.node(id);
        for &value in node.inputs.iter().flatten() {
            if !values.contains_key(&value) && graph.constant(value).is_none() {
                let ty = graph.ty(value);
                let drawn = sample::draw(ty, &|name| dims.get(name).copied(), random);
                values.insert(value, drawn.ok_or_else(|| Stop::Skipped(format!("no sample of {ty}")))?);
            }
        }
        let results = evaluate(graph, node, &values, dims).map_err(|why| {
            Stop::Skipped(format!("`{}` {} takes no random values: {why}", node.op.spelling(), node.loc))
        })?;
        values.extend(node.outputs.iter().copied().zip(results));
    }
    Ok(values)
}

fn evaluate(graph: &Graph, node: &Node, values: &Values, dims: &BTreeMap<Sym, i64>) -> Result<Vec<Tensor>, String> {
    if let Op::Constant(constant) = &node.op {
        let data = graph.consts[constant.id].data().ok_or("a constant without bytes")?;
        return Ok(vec![data.clone()]);
    }
    let mut operands: Vec<Option<&Tensor>> = Vec::new();
    for input in &node.inputs {
        let operand = |value: ValueId| values.get(&value).or_else(|| graph.constant(value)?.data());
        operands.push(match input {
            Some(value) => Some(operand(*value).ok_or("an operand is not known")?),
            None => None,
        });
    }
    node.op.eval(&operands, &|name| dims.get(name).copied()).map_err(|error| error.to_string())
}

/// The nodes of the new graph that the region's results need, in order.
fn needed(pair: &Pair<'_>, known: &Values) -> Vec<NodeId> {
    let mut work: Vec<ValueId> = pair.outputs.iter().filter_map(|&value| pair.built.values[value]).collect();
    let mut needed = BTreeSet::new();
    while let Some(value) = work.pop() {
        if known.contains_key(&value) {
            continue;
        }
        if let Some((id, node)) = pair.after.producer(value)
            && needed.insert(id)
        {
            work.extend(node.inputs.iter().flatten());
        }
    }
    pair.after.order().iter().copied().filter(|id| needed.contains(id)).collect()
}

/// Compares a value with the old one; `false` where an alternative of another format was taken in between.
fn compare(
    pair: &Pair<'_>,
    source: ValueId,
    found: &Tensor,
    old: &Values,
    stands: &BTreeMap<ValueId, ValueId>,
) -> Result<bool, Stop> {
    let kept: BTreeSet<ValueId> = stands.values().copied().collect();
    let segment = segment(pair, source, &kept);
    if segment.iter().any(|id| matches!(pair.before.node(*id).op, Op::Choice(_))) {
        return Ok(false);
    }
    let (mut terms, mut scale) = (1, 0.0f64);
    for &id in &segment {
        let (more, magnitude) = sums(pair.before, pair.before.node(id), old);
        terms += more;
        scale = scale.max(magnitude);
    }
    let bound = bound(pair.bounds, found.dtype());
    if bound.holds(found, &old[&source], terms, scale) {
        return Ok(true);
    }
    let worst = |a: &Tensor, b: &Tensor| {
        let differences: Vec<f64> = a.to_f64().iter().zip(b.to_f64()).map(|(a, b)| (a - b).abs()).collect();
        if a.shape() == b.shape() { largest(&differences) } else { f64::INFINITY }
    };
    let node = pair.before.producer(source).map(|(_, node)| node);
    Err(Stop::Wrong(format!(
        "`{}` {} computes something else after the rewrites: values differ by up to {:e}, where {bound} over {terms} terms \
         of up to {scale:e} is allowed",
        node.map_or("value", |node| node.op.spelling()),
        node.map(|node| node.loc.clone()).unwrap_or_default(),
        worst(found, &old[&source]),
    )))
}

/// The nodes that compute a value from values that both forms have.
fn segment(pair: &Pair<'_>, value: ValueId, kept: &BTreeSet<ValueId>) -> BTreeSet<NodeId> {
    let mut segment = BTreeSet::new();
    let mut work = vec![value];
    while let Some(next) = work.pop() {
        let Some((id, node)) = pair.before.producer(next).filter(|(id, _)| pair.nodes.contains(id)) else { continue };
        if (next == value || !kept.contains(&next)) && segment.insert(id) {
            work.extend(node.inputs.iter().flatten());
        }
    }
    segment
}

/// Terms of a node's sums and their largest magnitude.
fn sums(graph: &Graph, node: &Node, values: &Values) -> (usize, f64) {
    let magnitude = |value: &ValueId| {
        let tensor = values.get(value).or_else(|| graph.constant(*value)?.data());
        tensor.map_or(0.0, |tensor| largest(&tensor.to_f64()))
    };
    let operands: Vec<f64> = node.inputs.iter().flatten().map(magnitude).collect();
    let results = node.outputs.iter().map(magnitude).fold(0.0, f64::max);
    let product = match operands[..] {
        [a, b, ..] => (a * b).max(a).max(b),
        [a] => a,
        [] => 0.0,
    };
    let shape = |at: usize| -> Vec<usize> {
        let value = node.inputs.get(at).copied().flatten();
        let tensor = value.and_then(|value| values.get(&value).or_else(|| graph.constant(value)?.data()));
        tensor.map_or_else(Vec::new, |tensor| tensor.shape().to_vec())
    };
    let from_end = |shape: &[usize], back: usize| shape.iter().rev().nth(back).copied().unwrap_or(1);
    let terms = match &node.op {
        Op::Unary(_) | Op::Binary(_) | Op::Transpose(_) | Op::Reshape(_) | Op::Clip(_) => 1,
        Op::Conv(_) | Op::ConvStored(_) | Op::WinogradConv(_) => shape(1).iter().skip(1).product(),
        Op::ConvTranspose(_) => shape(1).iter().product(),
        Op::MatMul(op) => from_end(&shape(0), usize::from(op.trans_a)),
        Op::Gemm(op) => from_end(&shape(0), usize::from(op.trans_a)),
        _ => {
            let results: usize = node.outputs.iter().filter_map(|v| values.get(v)).map(Tensor::elems).sum();
            shape(0).iter().product::<usize>() / results.max(1)
        }
    };
    (terms.max(1), product.max(results))
}

/// What the rules of a region together allow for values of a dtype.
///
/// A value of floats keeps to the rules about floats in sequence. Integers may be a unit apart per rule that says so, and
/// one more where floats before them may differ: a value on either side of a tie rounds apart.
fn bound(bounds: &[Exactness], dtype: DType) -> Exactness {
    let units = |e: &Exactness| if let Exactness::Lsb(n) = e { *n } else { 0 };
    let floats = bounds.iter().filter(|e| units(e) == 0).fold(Exactness::Exact, |sum, &e| sum.then(e));
    let lsb: u32 = bounds.iter().map(units).sum();
    match (dtype.is_float(), lsb) {
        (true, 0) => floats,
        // Sums of integers and their scale instead of sums of floats.
        (true, _) => floats.then(Exactness::Norm(adze_ir::exact::NORM_LINEAR)),
        (false, 0) if floats == Exactness::Exact => Exactness::Exact,
        (false, lsb) => Exactness::Lsb(lsb + u32::from(floats != Exactness::Exact)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adze_ir::text::parse_graph;

    /// Validates one graph as what another became; values of one name stand for each other.
    fn pair(before: &str, after: &str, bounds: &[Exactness]) -> Result<Validation, String> {
        let [before, after] = [before, after].map(|text| {
            parse_graph(&format!("graph @g dims(n = 1..9) {{\n{}\n}}", text.replace(';', "\n")))
                .expect("the graph parses")
        });
        let named = |graph: &Graph| -> BTreeMap<String, ValueId> {
            let values = graph.nodes().flat_map(|(_, node)| node.outputs.clone()).chain(graph.inputs().iter().copied());
            values.filter_map(|v| Some((graph.value(v).name.as_deref()?.to_owned(), v))).collect()
        };
        let (old, new) = (named(&before), named(&after));
        let mut built = Built::default();
        old.iter().for_each(|(name, &value)| built.values[value] = new.get(name).copied());
        let nodes: Vec<NodeId> =
            before.nodes().filter(|(_, node)| !matches!(node.op, Op::Constant(_))).map(|(id, _)| id).collect();
        let outputs: Vec<ValueId> = before.outputs().iter().map(|output| output.value).collect();
        let (before, after, built, nodes, outputs) = (&before, &after, &built, &nodes[..], &outputs[..]);
        validate(&Pair { pass: "test", before, nodes, outputs, after, built, bounds })
    }

    const PRODUCT: &str =
        "input %0 \"x\" : f32[n,4]; %1 = const \"w\" [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0] : f32[4,2];
        %2 = const \"s\" [0.5, 3.0] : f32[2]; %3 = matmul %0, %1 : f32[n,2]; %4 = mul %3, %2 : f32[n,2] name(\"y\");
        output \"y\" = %4";

    fn scaled(weights: &str) -> String {
        format!(
            "input %0 \"x\" : f32[n,4]; %1 = const \"w\" [{weights}] : f32[4,2]; %2 = matmul %0, %1 : f32[n,2] name(\"y\");
             output \"y\" = %2"
        )
    }

    #[test]
    fn what_is_equal_agrees_and_what_is_wrong_is_named() {
        let right = scaled("0.5, 6.0, 1.5, 12.0, 2.5, 18.0, 3.5, 24.0");
        let bounds = [Exactness::Norm(4)];
        assert_eq!(pair(PRODUCT, &right, &bounds).map(|v| v.compared), Ok(Ok(1)));
        for wrong in [
            // One weight a little off; the scale along the other axis.
            "0.5, 6.0, 1.5, 12.0, 2.5, 18.0, 3.5, 24.01",
            "0.5, 1.0, 9.0, 12.0, 2.5, 3.0, 21.0, 24.0",
        ] {
            let found = pair(PRODUCT, &scaled(wrong), &bounds);
            assert!(found.as_ref().is_err_and(|what| what.contains("`mul`") && what.contains("differ")), "{found:?}");
        }
        assert!(pair(PRODUCT, &right, &[]).is_err(), "the roundings differ, and no rule says so");
    }

    #[test]
    fn values_in_between_are_compared_and_stand_in_for_each_other() {
        let before = "input %0 \"x\" : f32[n]; %1 = neg %0 : f32[n] name(\"a\"); %2 = relu %1 : f32[n] name(\"y\"); output \"y\" = %2";
        let wrong = before.replace("neg", "abs");
        assert_eq!(pair(before, before, &[]).map(|v| v.compared), Ok(Ok(2)));
        assert!(pair(before, &wrong, &[]).is_err_and(|what| what.contains("`neg`")));
    }

    #[test]
    fn what_cannot_be_interpreted_is_said() {
        let big = "input %0 \"x\" : f32[40000,4000]; %1 = matmul %0, %0 {trans_b=true} : f32[40000,40000] name(\"y\");
            output \"y\" = %1";
        assert!(pair(big, big, &[]).is_ok_and(|v| v.compared.is_err_and(|why| why.contains("too much"))));
    }

    #[test]
    fn bounds_of_integers_and_floats() {
        let [norm, unit] = [Exactness::Norm(4), Exactness::Lsb(1)];
        assert_eq!(bound(&[norm, Exactness::Ulp(2)], DType::F32), Exactness::Norm(6));
        assert_eq!(bound(&[norm, unit], DType::U8), Exactness::Lsb(2));
        assert_eq!(bound(&[unit, unit], DType::I8), Exactness::Lsb(2));
        assert_eq!(bound(&[Exactness::Exact], DType::I64), Exactness::Exact);
    }
}

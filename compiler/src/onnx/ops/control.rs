//! Control flow that can be decided at import: branches with a known condition, loops with a known number of turns.

use onnx_protobuf::GraphProto;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, axis_in, fixed_dim};
use super::super::value::Value;
use super::{NEWEST, OLDEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("If", OLDEST..=NEWEST, if_),
    ("Loop", OLDEST..=NEWEST, loop_),
    // Opset 8 had a batch axis and sequence lengths.
    ("Scan", 9..=NEWEST, scan),
];

/// Most turns that are written out.
const MAX_TURNS: i64 = 1024;

/// The truth of a value, when it is known.
fn truth(value: &Value) -> Result<Option<bool>, Fault> {
    match value.as_tensor() {
        None => Ok(None),
        Some(tensor) if tensor.elems() == 1 => Ok(tensor.to_ints().first().map(|&v| v != 0)),
        Some(tensor) => Err(Fault::model(format!("condition of {} elements", tensor.elems()), "one")),
    }
}

/// Takes the branch that the condition chooses; the other one is not looked at. When that is known at run time only, both are
/// computed and the condition picks from results of one type.
fn if_(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let condition = cx.input(0)?;
    let branch = |name| cx.attrs.graph(name)?.ok_or_else(|| Fault::model(format!("no attribute `{name}`"), "a graph"));
    let (then_branch, else_branch) = (branch("then_branch")?, branch("else_branch")?);
    let known = truth(&condition)?;
    let before = cx.importer.issues.len();
    let mut results = Vec::new();
    for (branch, taken) in [(then_branch, true), (else_branch, false)] {
        if known.is_none_or(|known| known == taken) {
            match cx.importer.subgraph(branch, Vec::new(), None)? {
                Some(values) => results.push(values),
                None if known.is_none() => {
                    // What is wrong with a branch is nothing wrong with a model that never takes it.
                    cx.importer.issues.truncate(before);
                    let accepted = "a condition known at import: fix the inputs or dimensions that it depends on";
                    return Err(Fault::unsupported("a condition computed at run time", accepted));
                }
                None => {
                    cx.missing = true;
                    return Ok(Vec::new());
                }
            }
        }
    }
    match (results.pop(), results.pop()) {
        (Some(values), None) => Ok(values),
        (Some(if_false), Some(if_true)) => picked(cx, &condition, &if_true, &if_false),
        _ => Err(Fault::bug("a condition without a branch")),
    }
}

/// The results of one of two branches that are both computed.
fn picked(cx: &mut NodeCx<'_, '_>, condition: &Value, if_true: &[Value], if_false: &[Value]) -> Outputs {
    let condition = cx.reshape(condition, Vec::new())?;
    let mut results = Vec::with_capacity(if_true.len());
    for (index, (a, b)) in if_true.iter().zip(if_false).enumerate() {
        if a.ty != b.ty {
            let found = format!("a condition computed at run time, and result {index} {} or {}", a.ty, b.ty);
            return Err(Fault::unsupported(found, "a condition known at import, or results of one type"));
        }
        results.push(cx.where_(&condition, a, b)?);
    }
    Ok(results)
}

/// The values that turns hand on, and what each turn adds to the stacked results.
struct Turns {
    states: Vec<Value>,
    stacked: Vec<Vec<Value>>,
}

/// Writes out one turn; `false` when a result is missing because of a fault that is noted.
fn turn<'a>(
    cx: &mut NodeCx<'_, 'a>,
    body: &'a GraphProto,
    inputs: Vec<Value>,
    index: i64,
    skip: usize,
    turns: &mut Turns,
) -> Result<Option<Vec<Value>>, Fault> {
    let name = if cx.node.name.is_empty() { cx.node.output.first() } else { Some(&cx.node.name) };
    let label = format!("{}[{index}]", name.map_or("", String::as_str));
    let Some(results) = cx.importer.subgraph(body, inputs, Some(&label))? else {
        cx.missing = true;
        return Ok(None);
    };
    let states = turns.states.len();
    if results.len() < skip + states {
        let accepted = format!("{} at least", skip + states);
        return Err(Fault::model(format!("a body of {} results", results.len()), accepted));
    }
    let (head, rest) = results.split_at(skip);
    let (handed_on, added) = rest.split_at(states);
    turns.states = handed_on.to_vec();
    if turns.stacked.is_empty() {
        turns.stacked = vec![Vec::new(); added.len()];
    }
    for (stack, value) in turns.stacked.iter_mut().zip(added) {
        stack.push(value.clone());
    }
    Ok(Some(head.to_vec()))
}

/// The values along a new axis.
fn stack(cx: &mut NodeCx<'_, '_>, values: &[Value], axis: i64) -> Result<Value, Fault> {
    let Some(first) = values.first() else {
        return Err(Fault::unsupported("a stacked result of no turns", "one turn at least"));
    };
    let axis = axis_in(axis, first.rank() + 1)?;
    cx.stack(axis, values)
}

fn body<'a>(cx: &NodeCx<'_, 'a>) -> Result<&'a GraphProto, Fault> {
    cx.attrs.graph("body")?.ok_or_else(|| Fault::model("no attribute `body`", "a graph"))
}

/// Writes out a loop whose number of turns is known: a constant count, and conditions that are constant in every turn.
fn loop_(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let body = body(cx)?;
    let limit = match cx.opt(0) {
        None => i64::MAX,
        Some(value) => {
            match value.as_extents().as_deref().and_then(|v| v.first().cloned()).and_then(|v| v.as_const()) {
                Some(limit) => limit,
                None => {
                    return Err(Fault::unsupported(
                        format!("trip count {} computed at run time", value.ty),
                        "a constant",
                    ));
                }
            }
        }
    };
    let runtime = || Fault::unsupported("a condition computed at run time", "a condition known at import");
    let mut going = match cx.opt(1) {
        None => true,
        Some(value) => truth(value)?.ok_or_else(runtime)?,
    };
    let states = (2..cx.inputs.len()).map(|index| cx.input(index)).collect::<Result<Vec<_>, _>>()?;
    let mut turns = Turns { states, stacked: Vec::new() };
    let mut index = 0;
    while going && index < limit {
        if index >= MAX_TURNS {
            return Err(Fault::unsupported("a loop of more turns", format!("{MAX_TURNS} turns")));
        }
        let counter = cx.shape_value(&[], vec![index.into()]);
        let condition = adze_ir::tensor::Tensor::from_ints(adze_ir::types::DType::Bool, &[], &[1]);
        let condition = Value::tensor(condition, "", cx.loc.clone());
        let inputs = [vec![counter, condition], turns.states.clone()].concat();
        let Some(head) = turn(cx, body, inputs, index, 1, &mut turns)? else { return Ok(Vec::new()) };
        going = match head.first() {
            Some(value) => truth(value)?.ok_or_else(runtime)?,
            None => return Err(Fault::model("a body without a condition", "a condition as its first result")),
        };
        index += 1;
    }
    finish(cx, turns, &[], &[])
}

fn finish(cx: &mut NodeCx<'_, '_>, turns: Turns, axes: &[i64], reversed: &[i64]) -> Outputs {
    let mut results = turns.states;
    for (position, mut values) in turns.stacked.into_iter().enumerate() {
        // Nobody asks for it: nothing is stacked.
        if !cx.wants(results.len()) {
            results.extend(values.pop());
            continue;
        }
        if reversed.get(position) == Some(&1) {
            values.reverse();
        }
        results.push(stack(cx, &values, axes.get(position).copied().unwrap_or(0))?);
    }
    Ok(results)
}

/// Writes out a scan over a fixed number of elements.
fn scan(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let body = body(cx)?;
    let scanned = cx.attrs.int("num_scan_inputs")?.and_then(|count| usize::try_from(count).ok());
    let scanned = scanned.filter(|&count| count >= 1 && count <= cx.inputs.len());
    let scanned = scanned.ok_or_else(|| Fault::model("no fitting attribute `num_scan_inputs`", "1 to the inputs"))?;
    let values = (0..cx.inputs.len()).map(|index| cx.input(index)).collect::<Result<Vec<_>, _>>()?;
    let (states, inputs) = values.split_at(values.len() - scanned);
    let list = |name: &'static str| cx.attrs.ints(name).map(|v| v.unwrap_or_default().to_vec());
    let (axes, directions) = (list("scan_input_axes")?, list("scan_input_directions")?);
    let (out_axes, out_directions) = (list("scan_output_axes")?, list("scan_output_directions")?);
    let mut sources = Vec::with_capacity(scanned);
    let mut count = None;
    for (position, input) in inputs.iter().enumerate() {
        let axis = axis_in(axes.get(position).copied().unwrap_or(0), input.rank())?;
        let extent = fixed_dim(&input.ty, axis)?;
        if *count.get_or_insert(extent) != extent {
            return Err(Fault::model(
                format!("scans over {extent} elements"),
                format!("{}, as the first", count.unwrap_or(0)),
            ));
        }
        sources.push((input.clone(), axis, directions.get(position) == Some(&1)));
    }
    let count = count.unwrap_or(0);
    if count > MAX_TURNS {
        return Err(Fault::unsupported(format!("a scan of {count} turns"), format!("{MAX_TURNS} turns")));
    }
    let mut turns = Turns { states: states.to_vec(), stacked: Vec::new() };
    for index in 0..count {
        let mut inputs = turns.states.clone();
        for (value, axis, reversed) in &sources {
            let position = if *reversed { count - 1 - index } else { index };
            inputs.push(cx.element(value, *axis, position)?);
        }
        if turn(cx, body, inputs, index, 0, &mut turns)?.is_none() {
            return Ok(Vec::new());
        }
    }
    finish(cx, turns, &out_axes, &out_directions)
}

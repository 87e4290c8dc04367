//! Why a node became what it became: rewrites with their alternatives and costs, then what every later pass did.

pub mod counts;
pub mod dump;
mod excerpt;
mod region;

use std::fmt::Write as _;

use adze_ir::graph::{Graph, NodeId};
use adze_ir::ops::Op;
use adze_ir::propose::{Cost, OpFacts};
use adze_ir::types::TensorType;
use adze_passes::pass::PassOptions;
use adze_passes::pipeline;
use adze_passes::solved::Solved;
use adze_targets::cpu::CpuModel;

use crate::build::BuildOptions;
use crate::catalog::grouped;
use crate::error::Error;
use crate::report::estimate;
use crate::stage::{Trace, run_pass};
use excerpt::{excerpt, nodes_of, value_name};

/// A graph before and after one pass, with the regions that the pass solved.
pub struct Ran {
    /// The pass.
    pub pass: &'static str,
    /// The graph after it.
    pub graph: Graph,
    /// The regions of the e-graph stage, kept with every form.
    pub solved: Vec<Solved>,
}

/// Every pass on a graph as it comes from import, with what it did.
///
/// # Errors
/// Those of the passes.
pub fn trace(graph: &Graph, options: &BuildOptions) -> Result<Vec<Ran>, Error> {
    let model = CpuModel::new(options.machine.clone());
    let passes = PassOptions { record: true, ..options.passes.clone() };
    let mut ran: Vec<Ran> = Vec::new();
    for pass in pipeline::DEFAULT {
        let mut trace = Trace::default();
        let graph = run_pass(ran.last().map_or(graph, |last| &last.graph), pass, &passes, &model, &mut trace)?;
        ran.push(Ran { pass, graph, solved: trace.report.solved });
    }
    Ok(ran)
}

/// The source node that is meant: the one of that name, or the only one with it in its name.
///
/// # Errors
/// [`Error::Options`] for none or several, with some that there are.
pub fn resolve(graph: &Graph, name: &str) -> Result<String, Error> {
    let mut names: Vec<&str> = graph
        .nodes()
        .filter(|(_, node)| !matches!(node.op, Op::Constant(_)))
        .flat_map(|(_, node)| node.loc.names())
        .map(|name| &**name)
        .collect();
    names.dedup();
    if names.contains(&name) {
        return Ok(name.to_owned());
    }
    let near: Vec<&str> = names.iter().copied().filter(|known| known.contains(name)).collect();
    let some = |list: &[&str]| list.iter().take(8).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match near[..] {
        [only] => Ok(only.to_owned()),
        [] => Err(Error::Options(format!("--node: found no node `{name}`, accepted: {}, ..", some(&names)))),
        _ => Err(Error::Options(format!("--node: `{name}` is in the names of {} nodes: {}", near.len(), some(&near)))),
    }
}

/// What became of a node and why, for reading.
///
/// # Errors
/// Those of the passes and of [`resolve`].
pub fn explain(graph: &Graph, name: &str, options: &BuildOptions) -> Result<String, Error> {
    let name = resolve(graph, name)?;
    let ran = trace(graph, options)?;
    let imported = graph.compact();
    let mut out = format!("{name} of {}, for {}\n", graph.name, options.machine.name);
    let mut shown = excerpt(&imported, &nodes_of(&imported, &name));
    let _ = write!(out, "\nas read\n{}{}", indent(&shown), indent(&neighbours(&imported, &name)));
    let mut quiet: Vec<String> = Vec::new();
    for Ran { pass, graph, solved } in &ran {
        let regions: String = solved.iter().map(|solved| region::explain(solved, &name)).collect();
        let now = excerpt(graph, &nodes_of(graph, &name));
        if regions.is_empty() && now == shown {
            let what = if solved.is_empty() { (*pass).to_owned() } else { format!("{pass} (no rule matches it)") };
            if !quiet.contains(&what) {
                quiet.push(what);
            }
            continue;
        }
        let _ = write!(out, "\n{pass}\n{}", indent(&regions));
        if now != shown {
            let _ = write!(out, "{}{}", if regions.is_empty() { "" } else { "\n" }, indent(&changed(&shown, &now)));
            shown = now;
        }
    }
    if !quiet.is_empty() {
        let _ = writeln!(out, "\nnothing to do here: {}", quiet.join(", "));
    }
    if let Some(last) = ran.last() {
        out.push_str(&outcome(&last.graph, &name, options));
    }
    Ok(out)
}

/// The lines that a pass made anew.
fn changed(before: &str, after: &str) -> String {
    if after.is_empty() {
        return "nothing is left of it: no output needs it\n".to_owned();
    }
    let old: Vec<&str> = before.lines().collect();
    let fresh: Vec<&str> = after.lines().filter(|line| !old.contains(line)).collect();
    if fresh.is_empty() { "fewer lines, none new\n".to_owned() } else { fresh.join("\n") + "\n" }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
}

/// Who reads what the node computes.
fn neighbours(graph: &Graph, name: &str) -> String {
    let own = nodes_of(graph, name);
    let mut users: Vec<String> = Vec::new();
    for (id, node) in graph.nodes() {
        let reads = |of: &NodeId| graph.node(*of).outputs.iter().any(|v| node.inputs.contains(&Some(*v)));
        if !own.contains(&id) && own.iter().any(reads) {
            users.push(node.loc.names().first().map_or_else(|| node.op.name().to_owned(), |name| name.to_string()));
        }
    }
    let results = own.iter().flat_map(|id| &graph.node(*id).outputs);
    let outputs = results.flat_map(|v| graph.outputs().iter().filter(move |output| output.value == *v));
    users.extend(outputs.map(|output| format!("output {}", output.name)));
    users.dedup();
    if users.is_empty() { "read by nobody\n".to_owned() } else { format!("read by {}\n", users.join(", ")) }
}

/// What runs in the end: nodes, what runs with them, layout, schedule, cycles.
fn outcome(graph: &Graph, name: &str, options: &BuildOptions) -> String {
    let model = CpuModel::new(options.machine.clone());
    let all = estimate(graph, &model).cycles.max(1);
    let mut out = String::from("\nin the end\n");
    let nodes = nodes_of(graph, name);
    if nodes.is_empty() {
        out.push_str("  nothing of it runs\n");
    }
    for id in nodes {
        let node = graph.node(id);
        let outputs: Vec<TensorType> = node.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
        let cost: Option<Cost> = OpFacts::in_graph(graph, &node.inputs, &outputs, |facts| {
            adze_ir::propose::CostModel::cost(&model, &node.op, facts)
        });
        let cycles = cost.map_or("no code on this machine".to_owned(), |cost| {
            let share = 100.0 * cost.cycles as f64 / all as f64;
            format!("about {} cycles, {share:.1} % of the model", grouped(cost.cycles))
        });
        let schedule = node.schedule.as_ref().map_or(String::new(), |schedule| format!(", as {schedule}"));
        let what = match &node.op {
            Op::Fused(fused) => {
                let steps: Vec<&str> =
                    fused.steps.iter().map(|step| adze_ir::text::Spelling::spelling(&step.op)).collect();
                format!("one kernel of {}", steps.join(", "))
            }
            op => format!("a kernel of {}", adze_ir::text::Spelling::spelling(op)),
        };
        let value = node.outputs.first().map_or_else(String::new, |&v| value_name(graph, v));
        let _ = writeln!(out, "  {value}: {what}{schedule}; {cycles}");
        let with: Vec<String> = node.loc.names().iter().filter(|n| ***n != *name).map(|n| format!("{n}")).collect();
        if !with.is_empty() {
            let _ = writeln!(out, "    together with {}", with.join(", "));
        }
    }
    out
}

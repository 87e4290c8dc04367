//! `adze show`.

use adze_compiler::load::load;
use adze_ir::graph::Graph;
use adze_ir::text::Spelling as _;
use clap::Args;

use crate::args::ModelArgs;
use crate::diag::Failure;

/// Arguments of `show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Only nodes whose source name contains this, with what feeds and uses them
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Count operators instead of printing them
    #[arg(long)]
    ops: bool,
}

/// Runs the command.
///
/// # Errors
/// What stopped it.
pub fn show(args: &ShowArgs) -> Result<(), Failure> {
    let mut loaded = load(&args.model.model, &args.model.import_options())?;
    if let Some(weights) = &args.model.weights {
        adze_compiler::load::supply_weights(&mut loaded.graph, weights)?;
    }
    let graph = loaded.graph.compact();
    match (&args.node, args.ops) {
        (_, true) => print_ops(&graph),
        (Some(name), _) => print_neighbourhood(&graph, name),
        (None, false) => print!("{graph}"),
    }
    Ok(())
}

fn print_ops(graph: &Graph) {
    let mut counts = std::collections::BTreeMap::new();
    for (_, node) in graph.nodes() {
        *counts.entry(node.op.spelling()).or_insert(0) += 1;
    }
    for (name, count) in counts {
        println!("{count:6} {name}");
    }
}

/// The lines of the text form whose node, or a direct neighbour of it, carries the name.
fn print_neighbourhood(graph: &Graph, name: &str) {
    let hit = |node: &adze_ir::graph::Node| node.loc.names().iter().any(|n| n.contains(name));
    let mut shown = std::collections::BTreeSet::new();
    for (id, node) in graph.nodes() {
        let uses_hit = node.inputs.iter().flatten().any(|&v| graph.producer(v).is_some_and(|(_, p)| hit(p)));
        if hit(node) || uses_hit {
            shown.insert(id);
        }
        if hit(node) {
            shown.extend(node.inputs.iter().flatten().filter_map(|&v| graph.producer(v).map(|(id, _)| id)));
        }
    }
    let text = graph.to_string();
    let lines: Vec<&str> = text.lines().collect();
    let first = 1 + graph.inputs().len();
    for (position, (id, _)) in graph.nodes().enumerate() {
        if shown.contains(&id) {
            println!("{}", lines[first + position]);
        }
    }
}

//! When commands run, for looking at.

use adze_targets::bm1684x::Program;
use adze_targets::bm1684x::isa::Engine;
use adze_targets::bm1684x::machine::{BANK_BYTES, LANE_BYTES};
use adze_targets::bm1684x::profile::events;
use serde_json::{Value, json};

/// Commands in time as trace events in JSON, which Perfetto and Chrome open: a track for each engine, and two for each bank
/// of local memory with the commands of either engine that touch it. Networks follow one another. A cycle is a nanosecond.
pub fn timeline(programs: &[&Program]) -> String {
    let mut trace: Vec<Value> = Vec::new();
    let mut name = |kind: &str, pid: u32, tid: u32, name: String| {
        trace.push(json!({"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}));
    };
    name("process_name", 1, 0, "engines".into());
    name("process_name", 2, 0, "banks of local memory".into());
    let engines = [(Engine::Tiu, "compute"), (Engine::Gdma, "copies")];
    for (track, (_, engine)) in engines.iter().enumerate() {
        let track = track as u32;
        name("thread_name", 1, track, (*engine).into());
        for bank in 0..LANE_BYTES / BANK_BYTES {
            name("thread_name", 2, 2 * bank + track, format!("bank {bank:2}, {engine}"));
        }
    }
    let starts = programs.iter().scan(0, |sum, program| Some(std::mem::replace(sum, *sum + program.cycles())));
    let all = programs
        .iter()
        .zip(starts)
        .flat_map(|(program, start)| events(program).into_iter().map(move |event| (start, event)).collect::<Vec<_>>());
    for (from, event) in all.filter(|(_, event)| event.span.start < event.span.end) {
        let track = engines.iter().position(|(engine, _)| *engine == event.command.engine()).unwrap_or(0) as u32;
        let form = event.command.body.form().name;
        let title = event.names.last().map_or_else(|| form.to_owned(), |node| format!("{node} ({form})"));
        let micros = |cycles: u64| cycles as f64 / 1000.0;
        let (start, length) = (micros(from + event.span.start), micros(event.span.end - event.span.start));
        let nodes: Vec<&str> = event.names.iter().map(AsRef::as_ref).collect();
        let args = json!({"command": event.command.to_string(), "nodes": nodes, "banks": event.banks});
        let places = event.banks.iter().map(|bank| (2, 2 * bank + track, json!({})));
        for (pid, tid, args) in std::iter::once((1, track, args)).chain(places) {
            let event =
                json!({"ph": "X", "name": title, "pid": pid, "tid": tid, "ts": start, "dur": length, "args": args});
            trace.push(event);
        }
    }
    json!({"displayTimeUnit": "ns", "traceEvents": trace}).to_string()
}

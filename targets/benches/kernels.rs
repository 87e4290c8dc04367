//! Speed of the kernels of single layers, beside the fastest multiply-add loop that the same code generator makes.
//!
//! `cargo bench -p adze-targets --bench kernels [filter] [-- --schedules]`; `ADZE_CPU=x86_64-v3` for another machine than the
//! best one. With `--schedules` every schedule that is offered, with the cycles that the cost model expects and those it took.

mod support;

use adze_targets::cpu::Machine;
use adze_targets::cpu::cost::Core;
use support::{Call, Layer, Peak, fastest, layers};

fn main() {
    let wanted = std::env::var("ADZE_CPU").ok();
    let machine = match &wanted {
        Some(name) => Machine::runnable().into_iter().find(|m| m.name == name),
        None => Machine::host(),
    };
    let Some(machine) = machine else { return };
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let mut rng = fastrand::Rng::with_seed(1);
    let top = Peak::new(&machine).rate(0.15);
    println!("{}: peak {:.1} GFLOP/s", machine.name, top * 2e-9);
    let schedules = std::env::args().any(|arg| arg == "--schedules");
    for layer in layers().into_iter().filter(|l| l.name.contains(&filter)) {
        if schedules {
            println!("{}", layer.name);
            each_schedule(&layer, &machine, &mut rng);
            continue;
        }
        let mut calls = layer.calls(&machine, None, &mut rng).expect("the layer has kernels");
        let seconds = fastest(0.15, || calls.iter_mut().for_each(Call::run));
        let rate = layer.macs / seconds;
        println!("{:42} {:9.1} us {:6.1} GFLOP/s {:4.0} %", layer.name, seconds * 1e6, rate * 2e-9, 100.0 * rate / top);
    }
}

/// Cycles expected and taken, cheapest expectation first.
fn each_schedule(layer: &Layer, machine: &Machine, rng: &mut fastrand::Rng) {
    let (core, mut peak) = (Core::of(machine), Peak::new(machine));
    let mut rows: Vec<(f64, f64, String)> = Vec::new();
    for (name, schedule) in layer.schedules(machine) {
        let expected = layer.draft(machine, schedule.as_ref()).expect("it was offered").profile.cycles(&core);
        let mut calls = layer.calls(machine, schedule.as_ref(), rng).expect("it was offered");
        let cycles = peak.cycles(0.02);
        let seconds = fastest(0.15, || calls.iter_mut().for_each(Call::run));
        rows.push((expected, seconds * cycles, name));
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (expected, taken, name) in rows {
        println!("  {name:44} expected {expected:12.0}  taken {taken:12.0}  {:5.2}", expected / taken);
    }
}

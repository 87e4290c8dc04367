//! Speed of the kernels of single layers, beside the fastest multiply-add loop that the same code generator makes.
//!
//! `cargo bench -p adze-targets --bench kernels [filter]`; `ADZE_CPU=x86_64-v3` for another machine than the best one.

mod support;

use adze_targets::cpu::Machine;
use support::{Call, Peak, fastest, layers};

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
    for layer in layers().into_iter().filter(|l| l.name.contains(&filter)) {
        let mut calls = layer.calls(&machine, None, &mut rng).expect("the layer has kernels");
        let seconds = fastest(0.15, || calls.iter_mut().for_each(Call::run));
        let rate = layer.macs / seconds;
        println!("{:42} {:9.1} us {:6.1} GFLOP/s {:4.0} %", layer.name, seconds * 1e6, rate * 2e-9, 100.0 * rate / top);
    }
}

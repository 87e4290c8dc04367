//! Fits the constants of the cost model to measured kernels, and says how good it is on layers that it never saw.
//!
//! `cargo bench -p adze-targets --bench fit [-- [--machine NAME] [--measure] [--write] [--list]]`
//!
//! The measurements are in `benches/measured/<machine>.csv`: cycles of every layer and schedule, a cycle being half of what
//! a multiply-add takes in a loop of independent ones, timed in between. `--measure` makes them anew on this machine,
//! `--write` puts the constants that fit them into `src/cpu/cost/cores.toml`. Every third layer is held out: it takes no
//! part in the fit. The same measurements give the same constants.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use adze_ir::propose::Cost;
use adze_targets::cpu::Machine;
use adze_targets::cpu::cost::{Core, Profile};
use support::{Call, Layer, Peak, fastest, fit_layers};

/// Rounds over all kernels; the fastest one counts.
const ROUNDS: usize = 14;
/// Constants that are fitted; the others are the machine's sizes and what the layers do not show.
const FITTED: [&str; 15] = [
    "arith", "divide", "shuffle", "shared", "convert", "load", "store", "int", "issue", "window", "entry", "branch",
    "start", "overlap", "l2_rate",
];

/// Machines with constants of their own; those with dot products share them.
const FITTED_MACHINES: [&str; 3] = ["x86_64-v2", "x86_64-v3", "x86_64-v4"];

/// A schedule of a layer.
struct Sample {
    layer: usize,
    schedule: String,
    profile: Profile,
    /// Weight of the bytes that it stores, in cycles: schedules are chosen on both.
    stored: f64,
    cycles: f64,
}

fn main() {
    let asked = |flag: &str| std::env::args().any(|arg| arg == flag);
    let named = std::env::args().skip_while(|arg| arg != "--machine").nth(1);
    let machines = Machine::runnable().into_iter().filter(|m| named.as_ref().is_none_or(|name| m.name == name));
    for machine in machines.filter(|m| FITTED_MACHINES.contains(&m.name)) {
        fit_machine(&machine, &asked);
    }
}

fn fit_machine(machine: &Machine, asked: &dyn Fn(&str) -> bool) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/measured/{}.csv", machine.name));
    let layers = fit_layers();
    if asked("--measure") {
        std::fs::write(&file, measure(machine, &layers)).expect("the measurements can be written");
    }
    let samples = read(&file, machine, &layers);
    let start = Core::of(machine);
    let (seen, held_out): (Vec<&Sample>, Vec<&Sample>) = samples.iter().partition(|s| s.layer % 3 != 2);
    println!("{}: {} samples to fit, {} held out", machine.name, seen.len(), held_out.len());
    let fitted = fit(&start, &seen);
    for (name, core) in [("constants in the table", &start), ("fitted constants", &fitted)] {
        println!("{name}");
        quality("fit", core, &seen, &layers);
        quality("held out", core, &held_out, &layers);
    }
    if asked("--list") {
        list(&fitted, &samples, &layers);
    }
    if asked("--write") {
        write_table(machine, &fitted);
    }
    if asked("--list") {
        println!("{fitted:?}");
    }
}

/// Layer, schedule and cycles, one per line.
fn measure(machine: &Machine, layers: &[Layer]) -> String {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut kernels: Vec<(String, Vec<Call>, f64)> = Vec::new();
    for layer in layers {
        for (name, schedule) in layer.schedules(machine) {
            let calls = layer.calls(machine, schedule.as_ref(), &mut rng).expect("layers have kernels");
            kernels.push((format!("{};{name}", layer.name), calls, f64::INFINITY));
        }
    }
    let (mut peak, mut cycles_per_second) = (Peak::new(machine), 0.0f64);
    for round in 0..ROUNDS {
        for (_, calls, least) in &mut kernels {
            // The best of all rounds on both sides: what disturbs the one would otherwise make the other look better.
            cycles_per_second = cycles_per_second.max(peak.cycles(0.001));
            *least = least.min(fastest(0.008, || calls.iter_mut().for_each(Call::run)));
        }
        eprintln!("round {} of {ROUNDS}", round + 1);
    }
    let mut text = String::from("layer;schedule;cycles\n");
    for (name, _, seconds) in &kernels {
        let _ = writeln!(text, "{name};{:.0}", seconds * cycles_per_second);
    }
    text
}

fn read(file: &PathBuf, machine: &Machine, layers: &[Layer]) -> Vec<Sample> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}; give --measure", file.display()));
    let measured: BTreeMap<(&str, &str), f64> = text
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split(';');
            Some(((fields.next()?, fields.next()?), fields.next()?.parse().ok()?))
        })
        .collect();
    let mut samples = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        for (name, schedule) in layer.schedules(machine) {
            let Some(&cycles) = measured.get(&(layer.name.as_str(), name.as_str())) else { continue };
            let draft = layer.draft(machine, schedule.as_ref()).expect("layers have kernels");
            let cost = draft.cost(&Core::of(machine));
            let stored = Cost { cycles: 0, ..cost }.weight() as f64;
            samples.push(Sample { layer: index, schedule: name, profile: draft.profile, stored, cycles });
        }
    }
    samples
}

/// Least squares of the logarithms, one constant after the other in smaller and smaller steps, pulled to the start so
/// that constants which the layers do not show stay where they are.
fn fit(start: &Core, samples: &[&Sample]) -> Core {
    let mut best = start.clone();
    let mut least = loss(&best, start, samples);
    for step in [2.0, 1.5, 1.25, 1.1, 1.05, 1.02] {
        loop {
            let before = least;
            for name in FITTED {
                for factor in [step, 1.0 / step] {
                    let trial = scaled(&best, name, factor);
                    let found = loss(&trial, start, samples);
                    if found < least {
                        (best, least) = (trial, found);
                    }
                }
            }
            if before - least < 1e-6 * before {
                break;
            }
        }
    }
    best
}

fn scaled(core: &Core, name: &str, factor: f64) -> Core {
    let mut core = core.clone();
    let constant = core.constant_mut(name).expect("the names are those of constants");
    *constant *= factor;
    core
}

fn loss(core: &Core, start: &Core, samples: &[&Sample]) -> f64 {
    let errors = samples.iter().map(|s| (s.profile.cycles(core) / s.cycles).ln().powi(2)).sum::<f64>();
    let (mut core, mut start) = (core.clone(), start.clone());
    let moved: f64 = FITTED
        .iter()
        .filter_map(|name| Some((*core.constant_mut(name)? / *start.constant_mut(name)?).ln().powi(2)))
        .sum();
    errors + 0.02 * moved
}

fn quality(what: &str, core: &Core, samples: &[&Sample], layers: &[Layer]) {
    let ratio = |s: &Sample| (s.profile.cycles(core) / s.cycles).ln().abs();
    let mean = samples.iter().map(|s| ratio(s)).sum::<f64>() / samples.len().max(1) as f64;
    let worst = samples.iter().max_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let pairs: Vec<(f64, f64)> = samples.iter().map(|s| (s.profile.cycles(core), s.cycles)).collect();
    let mut by_layer: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    for (sample, &(estimate, cycles)) in samples.iter().zip(&pairs) {
        by_layer.entry(sample.layer).or_default().push((estimate + sample.stored, cycles));
    }
    let several: Vec<&Vec<(f64, f64)>> = by_layer.values().filter(|pairs| pairs.len() > 1).collect();
    let regrets: Vec<f64> = several.iter().map(|pairs| regret(pairs)).collect();
    let mean_regret = regrets.iter().sum::<f64>() / regrets.len().max(1) as f64;
    let worst_regret = regrets.iter().copied().fold(0.0, f64::max);
    println!(
        "  {what:9} off by a factor of {:.2} in the mean, {:.2} at worst ({}); rank correlation {:.3}",
        mean.exp(),
        worst.map_or(1.0, |s| ratio(s).exp()),
        worst.map_or("", |s| &layers[s.layer].name),
        rank_correlation(&pairs),
    );
    if !several.is_empty() {
        println!(
            "  {what:9} schedule taken: {:.1} % slower than the best in the mean, {:.1} % at worst, over {} layers",
            100.0 * mean_regret,
            100.0 * worst_regret,
            several.len()
        );
    }
}

/// How much slower the schedule is that looks fastest than the one that is.
fn regret(pairs: &[(f64, f64)]) -> f64 {
    let taken = pairs.iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |p| p.1);
    let best = pairs.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    taken / best - 1.0
}

/// Spearman's correlation of estimates and measurements.
fn rank_correlation(pairs: &[(f64, f64)]) -> f64 {
    let ranks = |pick: fn(&(f64, f64)) -> f64| {
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_by(|&a, &b| pick(&pairs[a]).total_cmp(&pick(&pairs[b])));
        let mut ranks = vec![0.0; pairs.len()];
        for (rank, &index) in order.iter().enumerate() {
            ranks[index] = rank as f64;
        }
        ranks
    };
    let (a, b) = (ranks(|p| p.0), ranks(|p| p.1));
    let mean = (pairs.len() as f64 - 1.0) / 2.0;
    let products: f64 = a.iter().zip(&b).map(|(x, y)| (x - mean) * (y - mean)).sum();
    let squares: f64 = a.iter().map(|x| (x - mean).powi(2)).sum();
    products / squares.max(1e-9)
}

fn list(core: &Core, samples: &[Sample], layers: &[Layer]) {
    for s in samples {
        let (estimate, name) = (s.profile.cycles(core), &layers[s.layer].name);
        let out = if s.layer % 3 == 2 { "*" } else { " " };
        println!("{out} {name:44} {:24} {:12.0} {estimate:12.0} {:5.2}", s.schedule, s.cycles, estimate / s.cycles);
    }
}

/// Replaces the constants of the machine's section, or adds one.
fn write_table(machine: &Machine, core: &Core) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cpu/cost/cores.toml");
    let text = std::fs::read_to_string(&file).expect("the table is there");
    let mut sections: Vec<String> = text.split_inclusive("\n\n").map(str::to_owned).collect();
    let header = format!("[{}]", machine.name);
    let mut core = core.clone();
    let mut section = format!("# Fitted: `cargo bench -p adze-targets --bench fit -- --write`.\n{header}\n");
    for name in Core::NAMES {
        let value = *core.constant_mut(name).expect("the names are those of constants");
        // Three digits say all that measurements can.
        let digits = if value >= 100.0 { format!("{value:.1}") } else { format!("{value:.3}") };
        let _ = writeln!(section, "{name} = {digits}");
    }
    match sections.iter_mut().find(|s| s.lines().any(|line| line == header)) {
        Some(old) => *old = section + if old.ends_with("\n\n") { "\n" } else { "" },
        None => sections.push(format!("\n{section}")),
    }
    std::fs::write(&file, sections.concat()).expect("the table can be written");
}

//! Whether a network fits a neural processor, and what runs where.

use adze_ir::graph::Graph;
use adze_targets::bm1684x::lower::Unsupported;
use adze_targets::bm1684x::{CompileError, Program};

use super::phased::Phased;
use super::{BM1684X, Float, compile_error, lowered};
use crate::build::BuildOptions;
use crate::error::Error;
use crate::fit::{Budget, Fit, Missing, Region};
use crate::phases::{Device, Reason};
use crate::report::code_bytes;

/// Whether a network fits; with `host`, what the processor does not run is done by that CPU.
///
/// # Errors
/// [`Error`] for a model that cannot be brought into the form that the target compiles; what has no commands is part of the answer.
pub fn fit(graph: &Graph, float: Option<Float>, budget: Budget, host: Option<&BuildOptions>) -> Result<Fit, Error> {
    let mut fit = Fit {
        target: BM1684X.into(),
        fits: false,
        regions: Vec::new(),
        unsupported: Vec::new(),
        arena_bytes: None,
        code_bytes: None,
        weights_bytes: None,
        estimated_cycles: 0,
        advice: Vec::new(),
    };
    let alone = lowered(graph, float)?;
    match (Program::compile(&alone, float.map(Float::prec)), host) {
        (Ok(program), _) => {
            let nodes = alone.nodes().filter(|(_, node)| !node.inputs.is_empty()).count();
            let why = "commands of the chip, without any of a CPU".into();
            fit.regions.push(Region { device: BM1684X.into(), leaves: nodes, why, nodes: Vec::new() });
            let code = super::package(&program)?.len().saturating_sub(program.coefficients.len()) as u64;
            weigh(&mut fit, [program.context[1], code, program.coefficients.len() as u64], budget);
            fit.estimated_cycles = program.cycles();
            fit.advice.extend(program.notes);
        }
        (Err(CompileError::Unsupported(all)), host) => {
            let phased = host.map(|host| super::phased::compile(graph, float, host));
            match phased {
                Some(Ok(phased)) => in_phases(&mut fit, &phased, budget)?,
                Some(Err(Error::Unsupported(_))) | None => fit.unsupported = all.0.into_iter().map(missing).collect(),
                Some(Err(error)) => return Err(error),
            }
        }
        (Err(other), _) => return Err(compile_error(other)),
    }
    Ok(fit)
}

/// Holds arena, code and weights against the budget.
fn weigh(fit: &mut Fit, [arena, code, weights]: [u64; 3], budget: Budget) {
    (fit.arena_bytes, fit.code_bytes, fit.weights_bytes) = (Some(arena), Some(code), Some(weights));
    for (what, need, limit) in [("arena", arena, budget.arena), ("flash", code + weights, budget.flash)] {
        if let Some(limit) = limit.filter(|&limit| need > limit) {
            fit.advice.push(format!("{what}: needs {need} bytes, accepted: {limit}"));
        }
    }
    fit.fits = fit.advice.is_empty();
}

fn missing(one: Unsupported) -> Missing {
    Missing {
        op: one.place.replace('`', ""),
        source: match &one.names[..] {
            [] => vec!["the model".to_owned()],
            names => names.iter().map(ToString::to_string).collect(),
        },
        why: format!("found {}, accepted on {BM1684X}: {}", one.found, one.accepted),
    }
}

/// What a model in phases takes: the context of the largest network and the arena; all networks, and the CPU's code.
fn in_phases(fit: &mut Fit, phased: &Phased, budget: Budget) -> Result<(), Error> {
    for phase in &phased.phases.phases {
        let node = |reason: &Reason| Missing {
            op: reason.op.to_owned(),
            source: reason.names.iter().map(ToString::to_string).collect(),
            why: reason.why.clone(),
        };
        let why = match phase.device {
            Device::Cpu => "what the chip does not run",
            Device::Accelerator => "commands of the chip",
        };
        fit.regions.push(Region {
            device: phased.phases.device_name(phase.device).to_owned(),
            leaves: phase.nodes(),
            why: why.into(),
            nodes: phase.reasons.iter().map(node).collect(),
        });
    }
    let constants: u64 = phased.programs().map(|program| program.coefficients.len() as u64).sum();
    let context = phased.programs().map(|program| program.context[1]).max().unwrap_or(0);
    let mut code = (phased.bmodel()?.len() as u64).saturating_sub(constants);
    for object in phased.built().filter_map(|built| built.package.code.object()) {
        code += code_bytes(object)?;
    }
    let weights = phased.manifest().weights_bytes;
    weigh(fit, [context + phased.arena().bytes, code, weights], budget);
    fit.estimated_cycles = phased.programs().map(Program::cycles).sum();
    let crossing = phased.phases.crossing_bytes();
    fit.advice.push(format!("{crossing} bytes cross between devices; the cycles are those of the chip"));
    fit.advice.extend(phased.programs().flat_map(|program| program.notes.clone()));
    Ok(())
}

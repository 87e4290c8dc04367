//! Weights of one product after the other, each judged by the operands that the rounded products before it make: what those
//! lost, a later one makes up for as far as it can.

use std::collections::BTreeMap;

use adze_ir::graph::ValueId;

use super::Progress;
use super::moments::Moments;
use super::plan::{Plan, Product};
use super::samples::Samples;
use super::store::{Consts, Format, Maker};
use super::taps::Taps;
use super::trial::{At, Given, Trial};
use crate::build::BuildOptions;
use crate::error::Error;

/// Times that samples are run: neighbouring products share one where there are more.
const PASSES: usize = 24;
/// Samples that are looked at.
const SAMPLES: usize = 512;

/// The weights of all products in these formats.
///
/// # Errors
/// [`Error::Values`] for weights that are not finite, and what compiling and running gives.
pub fn follow(
    maker: &Maker<'_>,
    plan: &Plan,
    formats: &[Format],
    samples: &Samples,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<Consts>, Error> {
    let mut samples = samples.clone();
    samples.thin(SAMPLES);
    let seen = |product: &Product| Moments::of(maker.graph, product, maker.options.rounding.feeds_back());
    let operands: Vec<ValueId> = plan.products.iter().filter_map(|p| Some(seen(p)?.0)).collect();
    let float = Taps::new(maker.graph, &operands, &samples, build)?;
    let trial = Trial::new(maker, plan, &operands, &samples, build)?;
    let (float, trial) = (float.load()?, trial.load()?);
    let (mut all, mut given, mut first) = (Vec::new(), Given::default(), 0);
    let group = plan.products.len().div_ceil(PASSES).max(1);
    for (pass, products) in plan.products.chunks(group).enumerate() {
        let made = products.iter().zip(&formats[all.len()..]).map(|(product, &format)| maker.made(product, format));
        if let Some(made) = made.collect::<Option<Vec<Consts>>>() {
            // An interrupted run had come this far.
            first += products.iter().filter(|p| seen(p).is_some()).count();
            made.iter().try_for_each(|consts| given.add(consts))?;
            all.extend(made);
            continue;
        }
        let mut found: Vec<(&Product, Moments)> = products.iter().filter_map(|p| Some((p, seen(p)?.1))).collect();
        for (index, inputs) in samples.inputs.iter().enumerate() {
            progress(
                "operands of rounded layers",
                pass * samples.inputs.len() + index,
                plan.products.len().div_ceil(group) * samples.inputs.len(),
            );
            let (rounded, own) = (trial.values(inputs, &given)?, float.values(inputs)?);
            for (at, (product, moments)) in found.iter_mut().enumerate() {
                moments.take(
                    maker.graph,
                    product,
                    (&rounded[first + at], Some(&own[first + at])),
                    samples.inputs.len(),
                );
            }
        }
        first += found.len();
        let mut found: BTreeMap<At, Moments> = found.into_iter().map(|(p, moments)| (p.place(), moments)).collect();
        for product in products {
            let seen = maker.seen(product, found.remove(&product.place()));
            let consts = maker.make(product, formats[all.len()], seen.as_ref())?;
            given.add(&consts)?;
            all.push(consts);
        }
    }
    Ok(all)
}

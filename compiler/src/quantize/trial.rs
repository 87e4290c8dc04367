//! A network that is compiled once and run with many weights: values are rounded, weights and biases of products are inputs.

use std::collections::BTreeMap;

use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::tensor::Tensor;

use super::insert::{Edits, insert_mapped};
use super::plan::Plan;
use super::samples::Samples;
use super::store::{Consts, Maker};
use super::taps::{LoadedTaps, Taps};
use crate::build::BuildOptions;
use crate::error::Error;

/// A constant operand: its node and position.
pub type At = (NodeId, usize);

/// Weights and biases that stand for integers.
#[derive(Clone, Debug, Default)]
pub struct Given(BTreeMap<At, Tensor>);

impl Given {
    /// Adds those of a product.
    ///
    /// # Errors
    /// As [`StoredConst::real`](super::insert::StoredConst::real).
    pub fn add(&mut self, consts: &Consts) -> Result<(), Error> {
        for (at, stored) in consts {
            self.0.insert(*at, stored.real()?);
        }
        Ok(())
    }
}

/// See the module.
pub struct Trial {
    taps: Taps,
    /// Weights and biases as they are, in the order of the inputs behind the network's own.
    own: Vec<(At, Tensor)>,
}

impl Trial {
    /// Compiles the network so that these values of the float network can be seen, as their users see them.
    ///
    /// # Errors
    /// What building gives.
    pub fn new(
        maker: &Maker<'_>,
        plan: &Plan,
        values: &[ValueId],
        samples: &Samples,
        build: &BuildOptions,
    ) -> Result<Self, Error> {
        let mut edits = Edits { points: maker.points.clone(), ..Edits::default() };
        edits.fed.extend(plan.products.iter().map(|p| (p.node, p.at)));
        edits.fed.extend(plan.products.iter().filter_map(|p| p.bias));
        let own = fed(maker.graph, &edits);
        let (graph, map) = insert_mapped(maker.graph, &edits)?;
        let values: Vec<ValueId> = values.iter().map(|v| map[v]).collect();
        let inputs = samples.inputs.iter().map(|inputs| feed(inputs, &own, &Given::default())).collect();
        let samples = Samples { inputs, names: samples.names.clone() };
        Ok(Self { taps: Taps::new(&graph, &values, &samples, build)?, own })
    }

    /// Places the code in memory.
    ///
    /// # Errors
    /// What loading gives.
    pub fn load(&self) -> Result<LoadedTrial<'_>, Error> {
        Ok(LoadedTrial { taps: self.taps.load()?, own: &self.own })
    }
}

/// A trial in executable memory.
pub struct LoadedTrial<'a> {
    taps: LoadedTaps<'a>,
    own: &'a [(At, Tensor)],
}

impl LoadedTrial<'_> {
    /// The values for a sample, with these weights and all others their own.
    ///
    /// # Errors
    /// What running gives.
    pub fn values(&self, inputs: &[Tensor], given: &Given) -> Result<Vec<Tensor>, Error> {
        self.taps.values(&feed(inputs, self.own, given))
    }
}

/// Operands that become inputs, in the order in which they do.
pub(super) fn fed(graph: &Graph, edits: &Edits) -> Vec<(At, Tensor)> {
    let mut own = Vec::new();
    for (id, node) in graph.nodes() {
        for (index, input) in node.inputs.iter().enumerate().filter(|(index, _)| edits.fed.contains(&(id, *index))) {
            let data = input.and_then(|v| graph.constant(v)).and_then(|entry| entry.data());
            own.extend(data.map(|data| ((id, index), data.clone())));
        }
    }
    own
}

fn feed(inputs: &[Tensor], own: &[(At, Tensor)], given: &Given) -> Vec<Tensor> {
    let weights = own.iter().map(|(at, data)| given.0.get(at).unwrap_or(data));
    inputs.iter().chain(weights).cloned().collect()
}

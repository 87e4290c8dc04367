//! Looking into a network while compiled code runs it: the values that are asked for become its outputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use adze_ir::eval::bind_dims;
use adze_ir::extent::{DimRange, Sym};
use adze_ir::graph::{Graph, Output, ValueDef, ValueId};
use adze_ir::tensor::Tensor;

use super::samples::Samples;
use crate::build::{BuildOptions, Built, build};
use crate::error::Error;
use crate::execute::Executable;

/// A network compiled so that chosen values can be seen.
pub struct Taps {
    /// Position among the inputs, or among the outputs of the compiled graph, of every value that is looked at.
    places: Vec<Place>,
    built: Option<Built>,
}

/// Is shown the position of a sample and the values.
pub type See<'a> = dyn FnMut(usize, &[Tensor]) -> Result<(), Error> + 'a;

enum Place {
    Input(usize),
    Output(usize),
}

impl Taps {
    /// Compiles a graph for the shapes of these samples.
    ///
    /// # Errors
    /// What building gives; [`Error::Eval`] for samples that the graph does not take.
    pub fn new(graph: &Graph, values: &[ValueId], samples: &Samples, options: &BuildOptions) -> Result<Self, Error> {
        let mut tapped = graph.clone();
        let mut outputs: Vec<Output> = Vec::new();
        let mut places = Vec::new();
        for &value in values {
            places.push(match graph.value(value).def {
                ValueDef::Input(index) => Place::Input(index),
                ValueDef::Result(..) => {
                    let place = outputs.iter().position(|o| o.value == value).unwrap_or(outputs.len());
                    if place == outputs.len() {
                        outputs.push(Output { name: format!("tap{place}").into(), value });
                    }
                    Place::Output(place)
                }
            });
        }
        let built = if outputs.is_empty() {
            None
        } else {
            tapped.set_outputs(outputs);
            narrow(&mut tapped, samples)?;
            tapped.remove_dead();
            Some(build(&tapped, options)?)
        };
        Ok(Self { places, built })
    }

    /// Runs every sample and shows the values, in the order asked for.
    ///
    /// # Errors
    /// What running gives, and what `see` returns.
    pub fn run(&self, samples: &Samples, see: &mut See<'_>) -> Result<(), Error> {
        let loaded = self.load()?;
        samples.inputs.iter().enumerate().try_for_each(|(index, inputs)| see(index, &loaded.values(inputs)?))
    }

    /// Places the code in memory, to run samples one at a time.
    ///
    /// # Errors
    /// What loading gives.
    pub fn load(&self) -> Result<LoadedTaps<'_>, Error> {
        Ok(LoadedTaps { places: &self.places, executable: self.built.as_ref().map(Executable::new).transpose()? })
    }
}

/// Taps in executable memory.
pub struct LoadedTaps<'a> {
    places: &'a [Place],
    executable: Option<Executable<'a>>,
}

impl LoadedTaps<'_> {
    /// The values of a sample, in the order asked for.
    ///
    /// # Errors
    /// What running gives.
    pub fn values(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        let outputs = match &self.executable {
            Some(executable) => {
                let mut call = executable.prepare(inputs)?;
                executable.run(&mut call)?;
                executable.outputs(&mut call)?
            }
            None => Vec::new(),
        };
        let value = |place: &Place| match place {
            Place::Input(at) => inputs[*at].clone(),
            Place::Output(at) => outputs[*at].clone(),
        };
        Ok(self.places.iter().map(value).collect())
    }
}

/// Dimensions that are the same in all samples get that value, the others the range that is needed.
///
/// # Errors
/// [`Error::Eval`] for samples that the graph does not take.
pub fn narrow(graph: &mut Graph, samples: &Samples) -> Result<(), Error> {
    let mut ranges: BTreeMap<Sym, DimRange> = BTreeMap::new();
    for inputs in &samples.inputs {
        for (name, value) in bind_dims(graph, inputs)? {
            let range = ranges.entry(name).or_insert(DimRange { lo: value, hi: value });
            *range = DimRange { lo: range.lo.min(value), hi: range.hi.max(value) };
        }
    }
    let fixed = ranges.iter().filter(|(_, r)| r.lo == r.hi).map(|(name, r)| (Arc::clone(name), r.lo)).collect();
    graph.bind(&fixed);
    for (name, range) in ranges.into_iter().filter(|(name, _)| !fixed.contains_key(name)) {
        graph.dims.insert(name, range);
    }
    Ok(())
}

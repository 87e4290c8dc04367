//! Constants of layers as they lie in local memory: made once, however often a graph is lowered to find out how to cut it.

use std::ops::Range;
use std::sync::Arc;

use adze_ir::graph::Node;
use adze_ir::ops::{ConstId, Op};

use super::build::{BufferId, Image};
use super::weights::Weights;
use super::{Lowering, Refusal};

/// What the constants of a layer depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LayerKey {
    op: &'static str,
    operands: Vec<Option<ConstId>>,
    numbers: Vec<u64>,
}

impl LayerKey {
    /// The key with more numbers.
    pub(super) fn with(&self, numbers: &[u32]) -> Self {
        let mut key = self.clone();
        key.numbers.extend(numbers.iter().map(|&number| u64::from(number)));
        key
    }
}

/// A part of the constants of a layer: result channels and, where it is only some, input channels.
pub(super) type PartKey = (LayerKey, Range<usize>, Option<Range<u32>>);

/// Constants of some channels.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    bytes: Arc<[u8]>,
    lanes: u32,
    per_lane: u32,
    /// Where its sections start.
    sections: [Option<u32>; 3],
}

impl Lowering<'_> {
    /// The key of a node's constants, which depend on nothing else but these numbers.
    pub(super) fn layer(&self, node: &Node, numbers: &[u32]) -> LayerKey {
        let id = |value| match &self.graph.producer(value)?.1.op {
            Op::Constant(constant) => Some(constant.id),
            _ => None,
        };
        let operands = node.inputs.iter().map(|value| value.and_then(id)).collect();
        LayerKey { op: node.op.name(), operands, numbers: Vec::new() }.with(numbers)
    }

    /// Weights of a layer of bytes.
    pub(super) fn weights(
        &mut self,
        key: &LayerKey,
        make: impl FnOnce(&Self) -> Result<Weights, Refusal>,
    ) -> Result<Arc<Weights>, Refusal> {
        if let Some(weights) = self.memo.weights.get(key) {
            return Ok(weights.clone());
        }
        let weights = Arc::new(make(self)?);
        self.memo.weights.insert(key.clone(), weights.clone());
        Ok(weights)
    }

    /// Loads constants of some channels, made of sections; gives their buffer, if they have any bytes, and where sections start.
    pub(super) fn packed(
        &mut self,
        key: PartKey,
        lanes: u32,
        make: impl FnOnce(&mut Image) -> [Option<u32>; 3],
    ) -> (Option<BufferId>, [Option<u32>; 3]) {
        let packed = self.memo.packed.entry(key).or_insert_with(|| {
            let mut image = Image::new(lanes);
            let sections = make(&mut image);
            let per_lane = u32::try_from(image.bytes()).unwrap_or(u32::MAX);
            Packed { bytes: image.concat().into(), lanes: image.lanes(), per_lane, sections }
        });
        if packed.per_lane == 0 {
            return (None, packed.sections);
        }
        let source = self.draft.shared(&packed.bytes);
        (Some(self.draft.image(source, packed.lanes, packed.per_lane)), packed.sections)
    }

    /// A constant of one tensor as its bytes.
    pub(super) fn constant_bytes(&mut self, key: LayerKey, make: impl FnOnce() -> Vec<u8>) -> Arc<[u8]> {
        self.memo.wholes.entry(key).or_insert_with(|| make().into()).clone()
    }
}

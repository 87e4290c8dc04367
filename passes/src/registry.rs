//! All passes by name.

use crate::pass::{Pass, PassError};
use crate::{canonicalize, contract, dead, decompose, fold, fuse, integers, layout, order, saturate, schedule, turns};

/// Every pass, in the order of the pipeline.
pub const PASSES: &[&dyn Pass] = &[
    &canonicalize::Canonicalize,
    &integers::Integers,
    &contract::ChangeContract,
    &fold::FoldConstants,
    &saturate::Saturate,
    &decompose::Decompose,
    &fuse::Fuse,
    &dead::DeadCode,
    &layout::AssignLayouts,
    &turns::TakeTurns,
    &order::OrderNodes,
    &schedule::ChooseSchedules,
];

/// The pass of that name.
///
/// # Errors
/// [`PassError::Unknown`] with the names there are.
pub fn find(name: &str) -> Result<&'static dyn Pass, PassError> {
    PASSES.iter().copied().find(|pass| pass.name() == name).ok_or_else(|| PassError::Unknown {
        found: name.to_owned(),
        accepted: PASSES.iter().map(|p| p.name()).collect::<Vec<_>>().join(", "),
    })
}

//! The library behind the `adze` command: import, driver, package.

pub mod build;
pub mod catalog;
pub mod compare;
pub mod data;
pub mod error;
pub mod execute;
pub mod explain;
pub mod fit;
pub mod link;
pub mod load;
pub mod mapped;
pub mod nodes;
pub mod npu;
pub mod onnx;
pub mod package;
pub mod phases;
pub mod profile;
pub mod quantize;
pub mod replay;
pub mod report;
pub mod stage;

pub use error::Error;

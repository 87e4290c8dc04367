//! The library behind the `adze` command: import, driver, package.

pub mod data;
pub mod mapped;
pub mod onnx;

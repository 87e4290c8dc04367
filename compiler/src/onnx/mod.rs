//! Import of ONNX: bytes → skeleton ([`wire`]) → messages (onnx-protobuf) → graph.

mod schema;
pub mod tensor;
pub mod wire;

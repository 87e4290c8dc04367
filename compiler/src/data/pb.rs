//! ONNX's test-data `.pb`: one serialized `TensorProto`.

use adze_ir::tensor::Tensor;
use onnx_protobuf::{Message, TensorProto};

use super::ContentError;
use crate::mapped::Bytes;
use crate::onnx::tensor::{TensorError, TensorReader, elem_type_of};
use crate::onnx::wire;

/// Reads a tensor and its name.
///
/// # Errors
/// [`ContentError::Wire`] and [`ContentError::Tensor`]; external data is refused.
pub fn read(bytes: &Bytes) -> Result<(String, Tensor), ContentError> {
    let skeleton = wire::walk_tensor(bytes)?;
    let proto =
        TensorProto::parse_from_bytes(&skeleton.bytes).map_err(|error| TensorError::Protobuf(error.to_string()))?;
    let mut reader = TensorReader::new(bytes.clone(), skeleton.payloads, None);
    let tensor = reader.read(&proto)?;
    Ok((proto.name, tensor))
}

/// Writes a tensor as raw data.
///
/// # Errors
/// [`ContentError::NoSuchShape`] when a dimension does not fit 64 signed bits.
pub fn write(name: &str, tensor: &Tensor) -> Result<Vec<u8>, ContentError> {
    let dims: Result<Vec<i64>, _> = tensor.shape().iter().map(|&dim| i64::try_from(dim)).collect();
    let proto = TensorProto {
        name: name.into(),
        dims: dims.map_err(|_| ContentError::NoSuchShape { format: ".pb" })?,
        data_type: elem_type_of(tensor.dtype()),
        raw_data: tensor.bytes().to_vec(),
        ..Default::default()
    };
    proto.write_to_bytes().map_err(|error| TensorError::Protobuf(error.to_string()).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::any_tensor;
    use super::*;

    proptest! {
        #[test]
        fn round_trip(tensor in any_tensor(), name in "[a-z]{0,5}") {
            let bytes = write(&name, &tensor).unwrap();
            prop_assert_eq!(read(&bytes.into()).unwrap(), (name, tensor));
        }

        #[test]
        fn mutated(tensor in any_tensor(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = write("x", &tensor).unwrap();
            for (index, value) in flips {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            let _ = read(&bytes.into());
        }
    }
}

//! The quantization table: a range and a stored type per point, a stored type per product. A protobuf, and a text that a
//! person edits and feeds back:
//!
//! ```text
//! table @net {
//!   activation "relu1" : u8 [0.0, 5.25]
//!   weights "conv1" : i8
//!   weights "fc" : i4 block=32
//!   weights "head" : f32
//! }
//! ```
//!
//! `f32` keeps a point or a product in floats. Products go by the name of their first ONNX node, points by that of the ONNX
//! tensor.

use std::fmt;
use std::path::Path;

use adze_ir::text::{Cursor, ParseError, Token};
use adze_ir::types::DType;
use prost::Message as _;

use super::ranges::Range;
use crate::error::Error;

/// Version of the schema below; raised when a reader of the old one would misread the new one.
pub const TABLE_VERSION: u32 = 1;

/// What calibration found and a person may change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Table {
    /// [`TABLE_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Name of the model.
    #[prost(string, tag = "2")]
    pub model: String,
    /// Values that are rounded, in the order of the graph.
    #[prost(message, repeated, tag = "3")]
    pub activations: Vec<Activation>,
    /// Products, in the order of the graph.
    #[prost(message, repeated, tag = "4")]
    pub weights: Vec<Weights>,
}

/// A value that is rounded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Activation {
    /// Name of the ONNX tensor.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Stored type, as in the text format; `f32` when it is not rounded.
    #[prost(string, tag = "2")]
    pub dtype: String,
    /// Smallest number.
    #[prost(double, tag = "3")]
    pub lo: f64,
    /// Largest number.
    #[prost(double, tag = "4")]
    pub hi: f64,
}

/// The weights of a product.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Weights {
    /// Name of the ONNX node.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Stored type, as in the text format; `f32` when the product stays in floats.
    #[prost(string, tag = "2")]
    pub dtype: String,
    /// Weights of a channel that share a scale; 0 when all of them do.
    #[prost(uint32, tag = "3")]
    pub block: u32,
}

impl Table {
    /// What the table says about a value.
    pub fn activation(&self, name: &str) -> Option<(DType, Range)> {
        let entry = self.activations.iter().find(|entry| entry.name == name)?;
        Some((DType::from_name(&entry.dtype)?, Range::new(entry.lo, entry.hi)))
    }

    /// What the table says about the weights of a product: stored type and block.
    pub fn weights_of(&self, name: &str) -> Option<(DType, usize)> {
        let entry = self.weights.iter().find(|entry| entry.name == name)?;
        Some((DType::from_name(&entry.dtype)?, usize::try_from(entry.block).ok()?))
    }

    /// Reads a table: text, or a protobuf when the file ends in `.pb`.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Parse`] with the place, [`Error::Values`] for a broken protobuf.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.into(), source };
        let wrong = |what: String| Error::Values(format!("`{}`: {what}", path.display()));
        let table = if is_binary(path) {
            Self::decode(std::fs::read(path).map_err(read)?.as_slice()).map_err(|e| wrong(e.to_string()))?
        } else {
            let text = std::fs::read_to_string(path).map_err(read)?;
            parse_table(&text).map_err(|error| Error::Parse { path: path.into(), error, text })?
        };
        table.check().map_err(wrong)?;
        Ok(table)
    }

    /// Writes a table: text, or a protobuf when the file ends in `.pb`.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = if is_binary(path) { self.encode_to_vec() } else { self.to_string().into_bytes() };
        std::fs::write(path, bytes).map_err(|source| Error::Write { path: path.into(), source })
    }

    fn check(&self) -> Result<(), String> {
        if self.version != TABLE_VERSION {
            return Err(format!("found version {}, accepted: {TABLE_VERSION}", self.version));
        }
        for entry in &self.activations {
            let fits = DType::from_name(&entry.dtype).is_some_and(|d| d == DType::F32 || ACTIVATIONS.contains(&d));
            if !fits || !entry.lo.is_finite() || !entry.hi.is_finite() || entry.lo > entry.hi {
                let found =
                    format!("activation {:?}: found {} [{:?}, {:?}]", entry.name, entry.dtype, entry.lo, entry.hi);
                return Err(format!("{found}, accepted: {} or f32, and a range of two numbers", names(ACTIVATIONS)));
            }
        }
        for entry in &self.weights {
            if !DType::from_name(&entry.dtype).is_some_and(|d| d == DType::F32 || WEIGHTS.contains(&d)) {
                let found = format!("weights {:?}: found {}", entry.name, entry.dtype);
                return Err(format!("{found}, accepted: {} or f32", names(WEIGHTS)));
            }
        }
        Ok(())
    }
}

/// Types that values are stored as.
pub const ACTIVATIONS: &[DType] = &[DType::U8, DType::I8, DType::U16, DType::I16];
/// Types that weights are stored as.
pub const WEIGHTS: &[DType] = &[DType::I8, DType::I4, DType::I2];

/// Spellings of dtypes.
pub fn names(dtypes: &[DType]) -> String {
    dtypes.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")
}

fn is_binary(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "pb")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table @{:?} {{", self.model)?;
        for entry in &self.activations {
            writeln!(f, "  activation {:?} : {} [{:?}, {:?}]", entry.name, entry.dtype, entry.lo, entry.hi)?;
        }
        for entry in &self.weights {
            write!(f, "  weights {:?} : {}", entry.name, entry.dtype)?;
            if entry.block != 0 {
                write!(f, " block={}", entry.block)?;
            }
            writeln!(f)?;
        }
        f.write_str("}\n")
    }
}

/// Reads the text form.
///
/// # Errors
/// [`ParseError`].
pub fn parse_table(text: &str) -> Result<Table, ParseError> {
    let mut cursor = Cursor::new(text)?;
    cursor.expect_word("table")?;
    let mut table = Table { version: TABLE_VERSION, model: cursor.at_name()?, ..Default::default() };
    cursor.expect('{')?;
    while !cursor.eat('}') {
        if cursor.eat_word("activation") {
            let name = cursor.string("the name of a tensor")?;
            cursor.expect(':')?;
            let dtype = cursor.word("a dtype")?;
            cursor.expect('[')?;
            let lo = number(&mut cursor)?;
            cursor.expect(',')?;
            let hi = number(&mut cursor)?;
            cursor.expect(']')?;
            table.activations.push(Activation { name, dtype, lo, hi });
        } else if cursor.eat_word("weights") {
            let name = cursor.string("the name of a node")?;
            cursor.expect(':')?;
            let (dtype, mut block) = (cursor.word("a dtype")?, 0);
            if cursor.eat_word("block") {
                cursor.expect('=')?;
                let pos = cursor.pos();
                let number = cursor.index("a number of weights")?;
                let wrong = || cursor.error(pos, format!("`{number}`"), "a number of weights below 2^32");
                block = u32::try_from(number).or_else(|_| wrong())?;
            }
            table.weights.push(Weights { name, dtype, block });
        } else {
            return cursor.unexpected("`activation`, `weights` or `}`");
        }
    }
    match cursor.peek() {
        Token::End => Ok(table),
        _ => cursor.unexpected("the end of the text"),
    }
}

fn number(cursor: &mut Cursor) -> Result<f64, ParseError> {
    let negative = cursor.eat('-');
    let value = match cursor.peek().clone() {
        Token::Int(value) => value as f64,
        Token::Float(text) => match text.parse() {
            Ok(value) => value,
            Err(_) => return cursor.unexpected("a number"),
        },
        _ => return cursor.unexpected("a number"),
    };
    cursor.bump();
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_printed_reads_back(
            names in prop::collection::vec("[ -~]{0,9}", 0..4),
            lo in -1e30f64..0.0,
            hi in 0.0f64..1e-3,
            block in 0u32..99,
        ) {
            let activation = |name: &String| Activation { name: name.clone(), dtype: "u8".into(), lo, hi };
            let weights = |name: &String| Weights { name: name.clone(), dtype: "i4".into(), block };
            let table = Table {
                version: TABLE_VERSION,
                model: "a net".into(),
                activations: names.iter().map(activation).collect(),
                weights: names.iter().map(weights).collect(),
            };
            prop_assert_eq!(parse_table(&table.to_string()).unwrap(), table.clone());
            prop_assert_eq!(Table::decode(table.encode_to_vec().as_slice()).unwrap(), table);
        }

        #[test]
        fn no_text_panics(text in "[ -~\n]{0,60}") {
            let _ = parse_table(&text);
            let _ = parse_table(&format!("table @x {{ {text} }}"));
        }
    }

    #[test]
    fn wrong_entries_are_named() {
        let wrong = |text: &str| parse_table(text).unwrap().check().unwrap_err();
        assert!(wrong("table @x { activation \"a\" : i64 [0, 1] }").contains("\"a\""));
        assert!(wrong("table @x { activation \"a\" : u8 [2, 1.0] }").contains("[2.0, 1.0]"));
        assert!(wrong("table @x { weights \"w\" : u8 }").contains("i8, i4, i2 or f32"));
        let place = parse_table("table @x {\n  nonsense\n}").unwrap_err();
        assert_eq!(place.pos.line, 2);
    }
}

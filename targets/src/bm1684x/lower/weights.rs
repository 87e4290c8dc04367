//! Weights of layers of bytes.

use std::ops::Range;

use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::super::machine::CONV_CHANNELS;
use super::build::Image;
use super::conv::Parameters;
use super::requant::{Contract, byte_range};
use super::window::stretched;
use super::{Refusal, refuse};

/// Columns of a matrix that are turned at once: so many bytes are read in a row.
const TURNED: usize = 64;

/// The rows of a row-major matrix of elements of a type as its columns.
pub(super) fn turned<T: Copy + Default>(values: &[T], [rows, columns]: [usize; 2]) -> Vec<T> {
    let mut result = vec![T::default(); rows * columns];
    for first in (0..columns).step_by(TURNED) {
        for row in 0..rows {
            for column in first..columns.min(first + TURNED) {
                result[column * rows + row] = values[row * columns + column];
            }
        }
    }
    result
}

/// Weights of every result channel without zero points.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub(super) values: Vec<Vec<i16>>,
    pub(super) signed: bool,
    /// Sums of those above and below zero of every channel.
    sums: Vec<[i64; 2]>,
}

impl Weights {
    /// Weights `[oc][..]` less the zero points of every channel, if they have 8 bits then.
    pub(super) fn of(weights: &Tensor, zeros: &[i64]) -> Result<Self, Refusal> {
        match weights.dtype() {
            DType::I8 => Self::new(&signed(weights), zeros),
            DType::U8 => Self::new(weights.bytes(), zeros),
            _ => Self::new(&weights.to_i64(), zeros),
        }
    }

    /// The same of a matrix `[k, n]`, as those of a convolution of 1 by 1.
    pub(super) fn of_columns(matrix: &Tensor, zeros: &[i64]) -> Result<Self, Refusal> {
        let &[k, n] = matrix.shape() else {
            return refuse(format!("weights of rank {}", matrix.shape().len()), "rank 2");
        };
        match matrix.dtype() {
            DType::I8 => Self::new(&turned(&signed(matrix), [k, n]), zeros),
            DType::U8 => Self::new(&turned(matrix.bytes(), [k, n]), zeros),
            _ => Self::new(&turned(&matrix.to_i64(), [k, n]), zeros),
        }
    }

    fn new<T: Copy + Into<i64>>(stored: &[T], zeros: &[i64]) -> Result<Self, Refusal> {
        let row = stored.len() / zeros.len().max(1);
        let less = |(row, &zero): (&[T], &i64)| -> Option<Vec<i16>> {
            row.iter().map(|&w| i16::try_from(w.into().checked_sub(zero)?).ok()).collect()
        };
        let values: Option<Vec<Vec<i16>>> = stored.chunks(row.max(1)).zip(zeros).map(less).collect();
        let within =
            |(lo, hi): (i64, i64), rows: &[Vec<i16>]| rows.iter().flatten().all(|&w| (lo..=hi).contains(&i64::from(w)));
        let found = values.and_then(|values| {
            let signed = within(byte_range(true), &values);
            (signed || within(byte_range(false), &values)).then_some((values, signed))
        });
        match found {
            Some((values, signed)) => {
                let side = |row: &[i16], sign: i16| row.iter().filter(|&&w| w * sign > 0).map(|&w| i64::from(w)).sum();
                let sums = values.iter().map(|row| [side(row, 1), side(row, -1)]).collect();
                Ok(Self { values, signed, sums })
            }
            None => refuse("weights that leave 8 bits without their zero points", "-128 to 127, or 0 to 255"),
        }
    }

    /// With zeros between the elements of kernels.
    pub(super) fn stretched(mut self, kernel: [u32; 2], by: [u32; 2]) -> Self {
        if by != [1, 1] {
            self.values.iter_mut().for_each(|row| *row = stretched(row, kernel, by));
        }
        self
    }

    /// The same with rows of so many weights: groups become one, with zeros for the channels of the others.
    pub(super) fn of_one_group(self, length: usize) -> Self {
        let channels = self.values.len();
        let row = self.values.first().map_or(1, Vec::len).max(1);
        if row == length {
            return self;
        }
        let each = (channels * row).div_ceil(length.max(1)).max(1);
        let spread = |(channel, row): (usize, &Vec<i16>)| {
            let mut values = vec![0; length];
            let start = channel / each * row.len();
            values[start..start + row.len()].copy_from_slice(row);
            values
        };
        Self { values: self.values.iter().enumerate().map(spread).collect(), ..self }
    }

    /// Sums of the weights of every channel.
    pub(super) fn totals(&self) -> impl Iterator<Item = i64> {
        self.sums.iter().map(|[above, below]| above + below)
    }

    /// What sums of every channel are to become. The zero point of the input is in the bias; padding is that zero point.
    pub(super) fn contracts(&self, parameters: &Parameters, x_signed: bool, contract: Requantize) -> Vec<Contract> {
        let (lo, hi) = byte_range(x_signed);
        let one = |(channel, (&[above, below], total)): (usize, (&[i64; 2], i64))| Contract {
            contract,
            scale: parameters.scales[channel],
            bias: parameters.bias[channel] - parameters.x_zero * total,
            zero: parameters.zero,
            range: byte_range(parameters.signed),
            sums: (above * lo + below * hi, above * hi + below * lo),
        };
        self.sums.iter().zip(self.totals()).enumerate().map(one).collect()
    }
}

/// Bytes as integers with a sign.
fn signed(weights: &Tensor) -> Vec<i8> {
    weights.bytes().iter().map(|w| w.cast_signed()).collect()
}

/// What commands of a convolution have in common.
pub(super) struct Products<'a> {
    pub(super) kernel: [u32; 2],
    /// What stands in pads.
    pub(super) zero: i64,
    /// Whether weights are signed.
    pub(super) signed: bool,
    /// Weights of every result channel.
    pub(super) rows: &'a [Vec<i16>],
}

impl Products<'_> {
    pub(super) fn taps(&self) -> u64 {
        u64::from(self.kernel[0]) * u64::from(self.kernel[1])
    }

    /// Bytes of a row of result channels in a lane, with what goes with it.
    pub(super) fn row_bytes(&self, inner: &[Range<u32>]) -> u64 {
        let widest = inner.first().map_or(0, |range| range.len().next_multiple_of(CONV_CHANNELS as usize));
        widest as u64 * self.taps() + 64
    }

    /// Weights of result channels `own` and input channels `inner` in an image.
    pub(super) fn section(&self, image: &mut Image, own: &Range<usize>, inner: &Range<u32>) -> u32 {
        let taps = self.taps() as usize;
        let columns = inner.start as usize * taps..inner.end as usize * taps;
        let rows = self.rows[own.clone()].iter().map(|row| &row[columns.clone()]);
        let rows = packed(rows, inner.len(), taps);
        image.section(&rows, rows.first().map_or(0, Vec::len), 64)
    }
}

/// Weights `[oc][ic][kh][kw]` as `[oc][ic / 64][kh][kw][64]`, missing channels zero.
fn packed<'a>(rows: impl Iterator<Item = &'a [i16]>, ic: usize, taps: usize) -> Vec<Vec<u8>> {
    let group = CONV_CHANNELS as usize;
    let pack = |row: &[i16]| {
        let mut bytes = vec![0; ic.div_ceil(group) * taps * group];
        for (channel, weights) in row.chunks(taps).enumerate() {
            let start = channel / group * taps * group + channel % group;
            for (tap, &weight) in weights.iter().enumerate() {
                bytes[start + tap * group] = weight as u8;
            }
        }
        bytes
    };
    rows.map(pack).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_are_turned() {
        let values: Vec<usize> = (0..3 * 70).collect();
        let result = turned(&values, [3, 70]);
        assert!((0..70).all(|column| (0..3).all(|row| result[column * 3 + row] == row * 70 + column)));
    }

    #[test]
    fn weights_have_eight_bits_without_zero_points() {
        let of = |values: &[i128], zeros: &[i64]| {
            Weights::of(&Tensor::from_ints(DType::U8, &[zeros.len(), values.len() / zeros.len()], values), zeros)
        };
        let signed = of(&[0, 255, 3, 4], &[128, 3]).expect("8 bits");
        assert_eq!((signed.values, signed.signed), (vec![vec![-128, 127], vec![0, 1]], true));
        let unsigned = of(&[0, 255], &[0]).expect("8 bits");
        assert_eq!((unsigned.sums, unsigned.signed), (vec![[255, 0]], false));
        assert!(of(&[0, 255], &[1]).is_err());
        assert!(of(&[0, 255], &[i64::MIN]).is_err());
    }
}

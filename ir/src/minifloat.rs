//! Floating-point numbers of 8 bits: storage formats, converted to and from wider types.

use crate::types::DType;

/// A format of a sign, some exponent bits and some mantissa bits, with subnormal numbers.
///
/// Source: P. Micikevicius et al., FP8 formats for deep learning, 2022; the `fnuz` forms, which have one zero and one NaN and
/// no infinity: B. Noune et al., 8-bit numerical formats for deep neural networks, 2022.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minifloat {
    /// Bits of the mantissa.
    pub mantissa: u32,
    /// What is subtracted from the exponent field.
    pub bias: i32,
    /// Code of the largest finite number.
    pub largest: u8,
    /// Code of infinity, in formats that have one.
    pub infinity: Option<u8>,
    /// Code of a NaN. The sign bit alone means that there is no negative zero.
    pub nan: u8,
}

impl Minifloat {
    /// The format of a dtype, if it is such a one.
    pub fn of(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::F8E4m3fn => Self { mantissa: 3, bias: 7, largest: 0x7e, infinity: None, nan: 0x7f },
            DType::F8E4m3fnuz => Self { mantissa: 3, bias: 8, largest: 0x7f, infinity: None, nan: 0x80 },
            DType::F8E5m2 => Self { mantissa: 2, bias: 15, largest: 0x7b, infinity: Some(0x7c), nan: 0x7f },
            DType::F8E5m2fnuz => Self { mantissa: 2, bias: 16, largest: 0x7f, infinity: None, nan: 0x80 },
            _ => return None,
        })
    }

    /// Whether zero has no sign.
    pub fn has_one_zero(self) -> bool {
        self.nan == 0x80
    }

    /// The number of a code.
    pub fn decode(self, code: u8) -> f64 {
        let (magnitude, sign) = (code & 0x7f, if code & 0x80 == 0 { 1.0 } else { -1.0 });
        if self.has_one_zero() && code == 0x80 {
            return f64::NAN;
        }
        if magnitude > self.largest {
            return if self.infinity == Some(magnitude) { sign * f64::INFINITY } else { f64::NAN };
        }
        let exponent = i32::from(magnitude >> self.mantissa);
        let fraction = f64::from(magnitude & ((1 << self.mantissa) - 1));
        let hidden = if exponent == 0 { 0.0 } else { f64::from(1u8 << self.mantissa) };
        sign * (hidden + fraction) * 2f64.powi(exponent.max(1) - self.bias - self.mantissa as i32)
    }

    /// The code of the nearest number, ties to the even one. What is finite beyond the largest becomes the largest; so does
    /// infinity where it has no code.
    pub fn encode(self, value: f64) -> u8 {
        if value.is_nan() {
            return self.nan;
        }
        if let Some(code) = self.infinity.filter(|_| value.is_infinite()) {
            return code | if value < 0.0 { 0x80 } else { 0 };
        }
        let magnitude = value.abs().min(self.decode(self.largest));
        // The nearest multiple of the distance between neighbours; codes count those from zero on.
        let exponent = ((magnitude.to_bits() >> 52) as i32 - 1023).max(1 - self.bias);
        let steps = (magnitude * 2f64.powi(self.mantissa as i32 - exponent)).round_ties_even() as i32;
        let code = steps + ((exponent + self.bias - 1) << self.mantissa);
        let code = u8::try_from(code).unwrap_or(self.largest).min(self.largest);
        let negative = value.is_sign_negative() && !(code == 0 && self.has_one_zero());
        code | if negative { 0x80 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DType; 4] = [DType::F8E4m3fn, DType::F8E4m3fnuz, DType::F8E5m2, DType::F8E5m2fnuz];

    #[test]
    fn every_code_is_its_number() {
        for format in ALL.map(|dtype| Minifloat::of(dtype).unwrap()) {
            for code in 0..=255u8 {
                let value = format.decode(code);
                let back = format.encode(value);
                let same = if value.is_nan() { back == format.nan } else { back == code };
                assert!(same, "{format:?}: {code:#x} is {value}, which is {back:#x}");
            }
        }
    }

    #[test]
    fn known_numbers() {
        let cases = [
            (DType::F8E4m3fn, 448.0, 2f64.powi(-9)),
            (DType::F8E4m3fnuz, 240.0, 2f64.powi(-10)),
            (DType::F8E5m2, 57344.0, 2f64.powi(-16)),
            (DType::F8E5m2fnuz, 57344.0, 2f64.powi(-17)),
        ];
        for (dtype, largest, smallest) in cases {
            let format = Minifloat::of(dtype).unwrap();
            assert_eq!((format.decode(format.largest), format.decode(1)), (largest, smallest), "{dtype}");
            assert_eq!(format.encode(1e9), format.largest);
            assert_eq!(format.encode(f64::NEG_INFINITY), format.infinity.unwrap_or(format.largest) | 0x80);
            assert!(format.decode(format.encode(f64::NAN)).is_nan());
        }
    }

    #[test]
    fn rounds_to_the_nearest() {
        let mut rng = fastrand::Rng::with_seed(5);
        for format in ALL.map(|dtype| Minifloat::of(dtype).unwrap()) {
            let numbers: Vec<f64> = (0..=format.largest).map(|code| format.decode(code)).collect();
            for _ in 0..2000 {
                let value = rng.f64() * 2f64.powi(rng.i32(-20..10));
                let nearest = |&a: &usize, &b: &usize| {
                    let distance = |i: usize| (numbers[i] - value).abs();
                    distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1)))
                };
                let wanted = (0..numbers.len()).min_by(nearest).unwrap();
                assert_eq!(usize::from(format.encode(value)), wanted, "{format:?}: {value}");
            }
            // Ties, and beside them.
            for (code, pair) in numbers.windows(2).enumerate() {
                let tie = (pair[0] + pair[1]) / 2.0;
                let even = code + (code & 1);
                assert_eq!(usize::from(format.encode(tie)), even, "{format:?}: {tie}");
                assert_eq!(usize::from(format.encode(tie.next_up())), code + 1, "{format:?}: above {tie}");
                assert_eq!(usize::from(format.encode(tie.next_down())), code, "{format:?}: below {tie}");
            }
        }
    }
}

//! How a sum of integers becomes a stored integer: the model's contract in the chip's commands, exactly.
//!
//! A contract is a monotone step function of the sum, and so is everything that the chip offers. Two such functions are equal
//! when they step at the same sums, and a result of 8 bits has at most 255 steps: so a command's form is *proven* equal to the
//! contract for every sum that can occur, or not taken. The cheapest form wins:
//!
//! 1. [`Way::Folded`]: one float requantization with bias and zero point in its offset. The offset costs bits of the product,
//!    so that it is not always exact; a few neighbours of multiplier and offset are tried.
//! 2. [`Way::Biased`]: the bias is added to the sum, then as above.
//! 3. [`Way::Integer`]: the bias is added, then an integer requantization with ties up.
//! 4. [`Way::Wide`]: the bias is added, the product is rounded to 16 bits without zero point, which is added last: the contract
//!    `f32_rne` word by word, for every scale.

use adze_ir::quant::Requantize;

use super::super::sim::round::{HALF_UP, shift, to_integer};

/// What a channel's sums are to become.
#[derive(Clone, Debug, PartialEq)]
pub struct Contract {
    /// Rounding.
    pub contract: Requantize,
    /// Scale of the sum over that of the result: positive and finite.
    pub scale: f32,
    /// Added to the sum first, wrapping at 32 bits.
    pub bias: i64,
    /// Zero point of the result.
    pub zero: i64,
    /// Least and greatest value of the result.
    pub range: (i64, i64),
    /// Least and greatest sum that can occur, without the bias.
    pub sums: (i64, i64),
}

impl Contract {
    /// All of it, to be looked up by.
    pub fn key(&self) -> [u64; 8] {
        let ints = [self.bias, self.zero, self.range.0, self.range.1, self.sums.0, self.sums.1];
        let [a, b, c, d, e, f] = ints.map(i64::cast_unsigned);
        [self.contract as u64, self.scale.to_bits().into(), a, b, c, d, e, f]
    }
}

/// Numbers of a float requantization.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatScale {
    /// Multiplier.
    pub scale: f32,
    /// Added to the product.
    pub offset: f32,
}

/// Numbers of an integer requantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntScale {
    /// Multiplier.
    pub multiplier: i32,
    /// Shift to the left; negative to the right.
    pub shift: i8,
    /// Zero point.
    pub zero: i16,
}

/// The commands for all channels of a tensor, with their numbers per channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// One float requantization of the sums.
    Folded(Vec<FloatScale>),
    /// Bias, then a float requantization.
    Biased(Vec<FloatScale>),
    /// Bias, then an integer requantization with ties up.
    Integer(Vec<IntScale>),
    /// Bias, then a float requantization to 16 bits with ties to even, then the zero point.
    Wide(Vec<f32>),
}

impl Way {
    /// Whether the bias is added to the sums first.
    pub fn adds_bias(&self) -> bool {
        !matches!(self, Way::Folded(_))
    }
}

impl Contract {
    /// The stored integer of a sum.
    fn apply(&self, sum: i64) -> i64 {
        let (lo, hi) = self.range;
        let biased = (sum + self.bias) as i32;
        self.contract.apply(biased, self.scale, self.zero.into(), (lo.into(), hi.into())) as i64
    }

    /// Least sum that is taken to `value` or above, if it is in range.
    fn first(&self, value: i64) -> Option<i64> {
        let (lo, hi) = self.sums;
        if self.apply(hi) < value {
            return None;
        }
        let real = (value as f64 - 0.5 - self.zero as f64) / f64::from(self.scale) - self.bias as f64;
        let guess = real.ceil().clamp(lo as f64, hi as f64) as i64;
        let near = (guess - 1).max(lo)..=(guess + 1).min(hi);
        for sum in near {
            if self.apply(sum) >= value && (sum == lo || self.apply(sum - 1) < value) {
                return Some(sum);
            }
        }
        let (mut below, mut at) = (lo - 1, hi);
        while at - below > 1 {
            let middle = below + (at - below) / 2;
            *(if self.apply(middle) >= value { &mut at } else { &mut below }) = middle;
        }
        Some(at)
    }

    /// Where the result steps: values above the least one, each with the first sum that reaches it.
    fn steps(&self) -> Steps {
        let (lo, hi) = self.sums;
        let ends = [(lo, self.apply(lo)), (hi, self.apply(hi))];
        let values = ends[0].1 + 1..=ends[1].1;
        Steps { ends, firsts: values.filter_map(|value| Some((value, self.first(value)?))).collect() }
    }

    /// Whether sums wrap around, so that the contract is no step function.
    fn wraps(&self) -> bool {
        let fits = |sum: i64| i32::try_from(sum + self.bias).is_ok() && i32::try_from(sum).is_ok();
        !(fits(self.sums.0) && fits(self.sums.1))
    }
}

/// A monotone function on a range of sums.
struct Steps {
    ends: [(i64, i64); 2],
    firsts: Vec<(i64, i64)>,
}

impl Steps {
    /// Whether another monotone function is the same.
    fn equal(&self, other: impl Fn(i64) -> i64) -> bool {
        self.ends.iter().all(|&(sum, value)| other(sum) == value)
            && self.firsts.iter().all(|&(value, sum)| other(sum) >= value && other(sum - 1) < value)
    }
}

/// What a float requantization with ties to even makes of a sum.
pub fn float_result(sum: i64, by: FloatScale, range: (i64, i64)) -> i64 {
    let value = to_integer(sum as f32 * by.scale + by.offset, 0).unwrap_or(0);
    value.clamp(range.0.into(), range.1.into()) as i64
}

/// What an integer requantization with ties up makes of a sum.
pub fn int_result(sum: i64, by: IntScale, range: (i64, i64)) -> i64 {
    let product = shift(i128::from(sum) * i128::from(by.multiplier), by.shift.into(), HALF_UP).unwrap_or(0);
    (product + i128::from(by.zero)).clamp(range.0.into(), range.1.into()) as i64
}

/// The next floats of a value, near ones first.
pub fn neighbours(value: f32, most: i32) -> impl Iterator<Item = f32> {
    let step = move |by: i32| {
        if value == 0.0 { by as f32 * 1e-7 } else { f32::from_bits(value.to_bits().wrapping_add_signed(by)) }
    };
    std::iter::once(value).chain((1..=most).flat_map(move |by| [step(by), step(-by)]))
}

/// A float requantization of `sum + bias` that is the contract.
fn float_scale(contract: &Contract, steps: &Steps, bias: i64) -> Option<FloatScale> {
    let offset = (contract.zero as f64 + bias as f64 * f64::from(contract.scale)) as f32;
    let added = contract.bias - bias;
    let candidates = neighbours(contract.scale, 3).flat_map(|scale| {
        let offsets = neighbours(offset, 6);
        offsets.map(move |offset| FloatScale { scale, offset })
    });
    let exact = |by: &FloatScale| steps.equal(|sum| float_result(sum + added, *by, contract.range));
    candidates.into_iter().find(exact)
}

/// An integer requantization of `sum + bias` that is the contract.
fn int_scale(contract: &Contract, steps: &Steps) -> Option<IntScale> {
    let mut exponent = 0;
    let mut mantissa = f64::from(contract.scale);
    while mantissa >= 1.0 {
        (mantissa, exponent) = (mantissa / 2.0, exponent + 1);
    }
    while mantissa < 0.5 {
        (mantissa, exponent) = (mantissa * 2.0, exponent - 1);
    }
    let multiplier = (mantissa * f64::from(1u32 << 31)) as i64;
    let (by, zero) = (i8::try_from(exponent - 31).ok()?, i16::try_from(contract.zero).ok()?);
    let candidates = [0, 1, -1, 2, -2].map(|nudge| i32::try_from((multiplier + nudge * 16).min(i32::MAX.into())));
    let scales = candidates.into_iter().flatten().map(|multiplier| IntScale { multiplier, shift: by, zero });
    let exact = |by: &IntScale| steps.equal(|sum| int_result(sum + contract.bias, *by, contract.range));
    scales.into_iter().find(exact)
}

/// The cheapest commands that are the contract of every channel; `None` where none is.
pub fn choose(channels: &[Contract]) -> Option<Way> {
    let scales = channels.iter().all(|c| c.scale > 0.0 && c.scale.is_finite());
    if !scales {
        return None;
    }
    if channels.iter().all(|c| !c.wraps()) {
        let steps: Vec<Steps> = channels.iter().map(Contract::steps).collect();
        let all = |bias: fn(&Contract) -> i64| -> Option<Vec<FloatScale>> {
            channels.iter().zip(&steps).map(|(c, steps)| float_scale(c, steps, bias(c))).collect()
        };
        if let Some(scales) = all(|c| c.bias) {
            return Some(Way::Folded(scales));
        }
        if let Some(scales) = all(|_| 0) {
            return Some(Way::Biased(scales));
        }
        let integers = channels.iter().zip(&steps).map(|(c, steps)| int_scale(c, steps));
        if let Some(scales) = integers.collect::<Option<Vec<IntScale>>>() {
            return Some(Way::Integer(scales));
        }
    }
    let float = channels.iter().all(|c| c.contract == Requantize::F32Rne);
    float.then(|| Way::Wide(channels.iter().map(|c| c.scale).collect()))
}

/// Least and greatest value of an 8-bit type.
pub fn byte_range(signed: bool) -> (i64, i64) {
    if signed { (-128, 127) } else { (0, 255) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the commands of a way make of a sum.
    fn run(way: &Way, contract: &Contract, sum: i64) -> i64 {
        let biased = i64::from((sum + contract.bias) as i32);
        match way {
            Way::Folded(by) => float_result(sum, by[0], contract.range),
            Way::Biased(by) => float_result(biased, by[0], contract.range),
            Way::Integer(by) => int_result(biased, by[0], contract.range),
            Way::Wide(by) => {
                let wide = float_result(biased, FloatScale { scale: by[0], offset: 0.0 }, (-32768, 32767));
                (wide + contract.zero).clamp(contract.range.0, contract.range.1)
            }
        }
    }

    fn contracts() -> impl Strategy<Value = Contract> {
        let kind = proptest::sample::select(Requantize::ALL);
        let scale = (-14i32..2, prop_oneof![Just(1.0f32), 0.5f32..1.0]).prop_map(|(e, m)| m * 2f32.powi(e));
        let fixed = (kind, scale, -5000i64..5000, any::<bool>(), 0i64..256);
        (fixed, -30_000i64..0, 1i64..30_000).prop_map(|((contract, scale, bias, signed, zero), lo, hi)| {
            let range = byte_range(signed);
            Contract { contract, scale, bias, zero: range.0 + zero, range, sums: (lo, hi) }
        })
    }

    proptest! {
        /// Every sum, not only those at steps.
        #[test]
        fn ways_are_the_contract(contract in contracts()) {
            if let Some(way) = choose(std::slice::from_ref(&contract)) {
                for sum in contract.sums.0..=contract.sums.1 {
                    prop_assert_eq!(run(&way, &contract, sum), contract.apply(sum), "{:?} at {}", way, sum);
                }
            } else {
                prop_assert!(contract.contract != Requantize::F32Rne);
            }
        }
    }

    #[test]
    fn ties_want_the_wide_way() {
        // Ties to even before an odd zero point are ties to odd behind it.
        let contract = Contract {
            contract: Requantize::F32Rne,
            scale: 0.5,
            bias: 3,
            zero: 1,
            range: byte_range(true),
            sums: (-1000, 1000),
        };
        assert!(matches!(choose(std::slice::from_ref(&contract)), Some(Way::Wide(_))));
        let even = Contract { zero: 2, ..contract };
        assert!(matches!(choose(std::slice::from_ref(&even)), Some(Way::Folded(_))));
        let wraps = Contract { sums: (-1 << 33, 1 << 33), ..even.clone() };
        assert!(matches!(choose(std::slice::from_ref(&wraps)), Some(Way::Wide(_))));
        assert_eq!(choose(&[Contract { scale: 0.0, ..even }]), None);
    }
}

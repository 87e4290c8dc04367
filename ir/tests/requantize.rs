//! Requantize contracts beside the exact result, for every accumulator of 32 bits.

use adze_ir::quant::Requantize;
use proptest::prelude::*;

/// The smallest accumulator whose exact result is `up` at least: `acc · mantissa · 2^exponent + 1/2 >= up`, `exponent <= 0`.
fn first_with(up: i128, mantissa: u32, exponent: i32) -> i128 {
    let (num, den) = ((2 * up - 1) << -exponent, 2 * i128::from(mantissa));
    -(-num).div_euclid(den)
}

/// `floor(acc · mantissa · 2^exponent + 1/2)`, `exponent <= 0`.
fn exact(acc: i128, mantissa: u32, exponent: i32) -> i128 {
    let (num, den) = (acc * i128::from(mantissa), 1i128 << -exponent);
    (2 * num + den).div_euclid(2 * den)
}

/// The exact result and every contract (a product by a positive number, roundings, shifts, bounds) grow with the accumulator. So
/// between two accumulators at which the exact result changes, a contract lies between what it gives at the first and at the
/// last of them: what holds at those holds for all. `half_up` is the exact result; the others are a unit away at most.
#[test]
fn contracts_differ_by_a_unit_at_most_for_every_accumulator() {
    let drawn = (1..12u32).map(|i| (1 << 23) | (i.wrapping_mul(0x9e37_79b9) >> 9));
    let mantissas: Vec<u32> = [1 << 23, (1 << 23) + 1, 0xaa_aaab, (1 << 24) - 1].into_iter().chain(drawn).collect();
    let types = [(0, (-128, 127)), (-128, (-128, 127)), (3, (-128, 127)), (255, (0, 255)), (0, (-2048, 2047))];
    for (mantissa, exponent) in mantissas.iter().flat_map(|&m| (-60..=-16).map(move |e| (m, e))) {
        let scale = (f64::from(mantissa) * f64::from(exponent).exp2()) as f32;
        for (zero, (low, high)) in types {
            let check = |acc: i128| {
                let expected = (exact(acc, mantissa, exponent) + zero).clamp(low, high);
                let Ok(acc) = i32::try_from(acc) else { return };
                let found = Requantize::ALL.iter().map(|c| c.apply(acc, scale, zero, (low, high)));
                let half_up = Requantize::MulshiftHalfUp.apply(acc, scale, zero, (low, high));
                assert_eq!(half_up, expected, "{acc} {scale} {zero}");
                assert!(found.into_iter().all(|f| (f - expected).abs() <= 1), "{acc} {scale} {zero}: {expected}");
            };
            for result in low + 1..=high {
                let first = first_with(result - zero, mantissa, exponent);
                check(first - 1);
                check(first);
            }
            check(i32::MIN.into());
            check(i32::MAX.into());
        }
    }
}

proptest! {
    #[test]
    fn contracts_grow_with_the_accumulator(a: i32, b: i32, exponent in -70i32..20, mantissa in 0.5f32..1.0) {
        let scale = (f64::from(mantissa) * f64::from(exponent).exp2()) as f32;
        for contract in Requantize::ALL {
            let [low, high] = [a.min(b), a.max(b)].map(|acc| contract.apply(acc, scale, 0, (-(1 << 40), 1 << 40)));
            prop_assert!(low <= high, "{contract}: {low} for {}, {high} for {}", a.min(b), a.max(b));
        }
    }

    #[test]
    fn first_accumulators_are_where_the_result_changes(up in -70000i128..70000, mantissa in 1u32 << 23..1 << 24, exponent in -60i32..=-16) {
        let first = first_with(up, mantissa, exponent);
        prop_assert!(exact(first, mantissa, exponent) >= up && exact(first - 1, mantissa, exponent) < up);
    }
}

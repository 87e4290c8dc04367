//! The machine's roundings, by their codes in commands.

use crate::bm1684x::view::Fault;

/// Code of ties to even.
pub const HALF_EVEN: u32 = 0;
/// Code of ties up.
pub const HALF_UP: u32 = 5;

/// `value / 2^shift` rounded by a code.
///
/// # Errors
/// [`Fault`] for a code that does not exist.
pub fn shift_right(value: i128, shift: u32, code: u32) -> Result<i128, Fault> {
    if code > 6 {
        return Err(Fault::Rule { operand: "rounding", rule: "is a code of 0 to 6" });
    }
    if shift == 0 {
        return Ok(value);
    }
    let shift = shift.min(126);
    let floor = value >> shift;
    let rest = value - (floor << shift);
    let half = 1i128 << (shift - 1);
    let up = match code {
        0 => rest > half || rest == half && floor & 1 == 1,
        1 => rest > half || rest == half && value >= 0,
        2 => rest > 0 && value < 0,
        3 => false,
        4 => rest > 0,
        5 => rest >= half,
        _ => rest > half,
    };
    Ok(floor + i128::from(up))
}

/// `value · 2^shift`, rounded by a code where the shift is negative.
///
/// # Errors
/// As [`shift_right`].
pub fn shift(value: i128, shift: i32, code: u32) -> Result<i128, Fault> {
    match u32::try_from(shift) {
        Ok(left) => Ok(value.checked_mul(1i128 << left.min(60)).unwrap_or(value.signum() * i128::from(i64::MAX))),
        Err(_) => shift_right(value, shift.unsigned_abs(), code),
    }
}

/// A float rounded by a code to an integer.
///
/// # Errors
/// [`Fault`] for a code that conversions do not have.
pub fn to_whole(value: f32, code: u32) -> Result<f32, Fault> {
    match code {
        0 => Ok(value.round_ties_even()),
        1 => Ok(value.round()),
        2 => Ok(value.trunc()),
        3 => Ok(value.floor()),
        4 => Ok(value.ceil()),
        _ => Err(Fault::Rule { operand: "rounding", rule: "is a code of 0 to 4 from floats to integers" }),
    }
}

/// The same as an integer.
///
/// # Errors
/// As [`to_whole`].
pub fn to_integer(value: f32, code: u32) -> Result<i128, Fault> {
    Ok(to_whole(value, code)? as i128)
}

//! Operations as C expressions of one lane.

use super::super::kernel::ir::{BinOp, Cmp, Cvt, Shift, UnOp};
use super::super::kernel::types::Elem;

/// The C type of a lane; integers are unsigned, masks are 0 or 1 in an integer of their width.
pub(super) fn c_type(elem: Elem) -> &'static str {
    match elem {
        Elem::I8 | Elem::M8 => "uint8_t",
        Elem::I16 | Elem::M16 => "uint16_t",
        Elem::I32 | Elem::M32 => "uint32_t",
        Elem::I64 | Elem::M64 => "uint64_t",
        Elem::F32 => "float",
        Elem::F64 => "double",
    }
}

fn signed_type(elem: Elem) -> &'static str {
    match elem.bits() {
        8 => "int8_t",
        16 => "int16_t",
        32 => "int32_t",
        _ => "int64_t",
    }
}

/// An unsigned type that a product of lanes cannot overflow into a signed one in.
fn product_type(elem: Elem) -> &'static str {
    if elem.bits() == 64 { "uint64_t" } else { "uint32_t" }
}

/// A constant.
pub(super) fn literal(elem: Elem, bits: u64) -> String {
    let text = match elem {
        Elem::F32 if f32::from_bits(bits as u32).is_finite() => format!("{:?}f", f32::from_bits(bits as u32)),
        Elem::F64 if f64::from_bits(bits).is_finite() => format!("{:?}", f64::from_bits(bits)),
        Elem::F32 => format!("adze_of_bits_f32({bits:#x}u)"),
        Elem::F64 => format!("adze_of_bits_f64({bits:#x}ull)"),
        _ => {
            let suffix = if elem.bits() == 64 { "ull" } else { "u" };
            if bits > 0xffff { format!("{bits:#x}{suffix}") } else { format!("{bits}{suffix}") }
        }
    };
    if text.starts_with('-') { format!("({text})") } else { text }
}

/// An integer operation wraps to its width again.
fn wrap(elem: Elem, expression: &str) -> String {
    format!("({})({expression})", c_type(elem))
}

pub(super) fn un(op: UnOp, elem: Elem, x: &str) -> String {
    let signed = signed_type(elem);
    match op {
        UnOp::Neg if elem.is_float() => format!("-{x}"),
        UnOp::Neg => wrap(elem, &format!("0u - {x}")),
        UnOp::Abs if elem.is_int() => wrap(elem, &format!("({signed}){x} < 0 ? 0u - {x} : {x}")),
        UnOp::Not if elem.is_mask() => format!("!{x}"),
        UnOp::Not => wrap(elem, &format!("~{x}")),
        UnOp::Abs | UnOp::Sqrt | UnOp::Floor | UnOp::Ceil | UnOp::Trunc | UnOp::Nearest => {
            format!("adze_{op}_{elem}({x})")
        }
    }
}

pub(super) fn bin(op: BinOp, elem: Elem, x: &str, y: &str) -> String {
    let operator = match op {
        BinOp::Add => "+",
        BinOp::Sub => "-",
        BinOp::Mul => "*",
        BinOp::Div => "/",
        BinOp::And => "&",
        BinOp::Or => "|",
        BinOp::Xor => "^",
        BinOp::Min | BinOp::Max | BinOp::MinSel | BinOp::MaxSel => return format!("adze_{op}_{elem}({x}, {y})"),
        BinOp::DivS | BinOp::DivU | BinOp::RemS | BinOp::RemU => {
            return format!("adze_{op}{}({x}, {y})", elem.bits());
        }
        BinOp::MinS | BinOp::MaxS => {
            let (signed, sign) = (signed_type(elem), if op == BinOp::MinS { '<' } else { '>' });
            return wrap(elem, &format!("({signed}){x} {sign} ({signed}){y} ? {x} : {y}"));
        }
        BinOp::MinU => return wrap(elem, &format!("{x} < {y} ? {x} : {y}")),
        BinOp::MaxU => return wrap(elem, &format!("{x} > {y} ? {x} : {y}")),
    };
    match op {
        _ if elem.is_float() => format!("{x} {operator} {y}"),
        BinOp::Mul => wrap(elem, &format!("({}){x} * {y}", product_type(elem))),
        _ => wrap(elem, &format!("{x} {operator} {y}")),
    }
}

/// Shifts by a scalar, modulo the width.
pub(super) fn shift(op: Shift, elem: Elem, x: &str, by: &str) -> String {
    let by = format!("({by} & {}u)", elem.bits() - 1);
    match op {
        Shift::Left => wrap(elem, &format!("({}){x} << {by}", product_type(elem))),
        Shift::RightS => wrap(elem, &format!("({}){x} >> {by}", signed_type(elem))),
        Shift::RightU => wrap(elem, &format!("{x} >> {by}")),
    }
}

/// The sign of a comparison, and whether it looks at integers as signed.
pub(super) fn sign(cmp: Cmp) -> (&'static str, bool) {
    match cmp {
        Cmp::Eq => ("==", false),
        Cmp::Ne => ("!=", false),
        Cmp::Lt => ("<", true),
        Cmp::Le => ("<=", true),
        Cmp::Gt => (">", true),
        Cmp::Ge => (">=", true),
        Cmp::LtU => ("<", false),
        Cmp::LeU => ("<=", false),
        Cmp::GtU => (">", false),
        Cmp::GeU => (">=", false),
    }
}

/// A comparison of lanes of that element.
pub(super) fn compare(cmp: Cmp, elem: Elem, x: &str, y: &str) -> String {
    let (sign, signed) = sign(cmp);
    if signed && !elem.is_float() {
        let signed = signed_type(elem);
        return format!("({signed}){x} {sign} ({signed}){y}");
    }
    format!("{x} {sign} {y}")
}

pub(super) fn select(elem: Elem, mask: &str, x: &str, y: &str) -> String {
    let choice = format!("{mask} ? {x} : {y}");
    if elem.is_float() { choice } else { wrap(elem, &choice) }
}

/// Every conversion but [`Cvt::Bits`].
pub(super) fn convert(cvt: Cvt, from: Elem, to: Elem, x: &str) -> String {
    let signed = signed_type(from);
    match cvt {
        _ if from.is_mask() => wrap(to, x),
        Cvt::SExt => format!("({})({signed}){x}", c_type(to)),
        Cvt::UExt | Cvt::Wrap | Cvt::Promote | Cvt::Demote | Cvt::FromU | Cvt::Bits => format!("({}){x}", c_type(to)),
        Cvt::SatS | Cvt::SatU => {
            let width = to.bits();
            let (lo, hi) = match cvt {
                Cvt::SatS => (format!("-{}", 1i64 << (width - 1)), (1i64 << (width - 1)) - 1),
                _ => ("0".to_owned(), (1i64 << width) - 1),
            };
            format!("({})adze_clamp{}({x}, {lo}, {hi})", c_type(to), from.bits())
        }
        Cvt::FromS => format!("({})({signed}){x}", c_type(to)),
        Cvt::ToS => format!("adze_to_s{}_{from}({x})", to.bits()),
        Cvt::ToU => format!("adze_to_u{}_{from}({x})", to.bits()),
        Cvt::FromF16 => format!("adze_from_f16({x})"),
        Cvt::ToF16 => format!("adze_to_f16({x})"),
        Cvt::FromBf16 => format!("adze_from_bf16({x})"),
        Cvt::ToBf16 => format!("adze_to_bf16({x})"),
    }
}

/// Lane `i` of the result of [`Cvt::Bits`]; `x` gives a lane of the operand, a lane's number is any expression.
pub(super) fn bits(from: Elem, to: Elem, i: &str, x: &dyn Fn(&str) -> String) -> String {
    let part = |i: &str| match from {
        _ if from.is_float() => format!("adze_bits_{from}({})", x(i)),
        _ if from.is_mask() => wrap(from, &format!("0u - {}", x(i))),
        _ => x(i),
    };
    let (f, t) = (from.bits(), to.bits());
    let whole = match f.cmp(&t) {
        std::cmp::Ordering::Equal => part(i),
        std::cmp::Ordering::Less => {
            let ratio = t / f;
            let parts = (0..ratio).map(|k| {
                let lane = part(&format!("{ratio} * {i} + {k}"));
                format!("({}){lane} << {}", product_type(to.int()), k * f)
            });
            wrap(to.int(), &parts.collect::<Vec<_>>().join(" | "))
        }
        std::cmp::Ordering::Greater => {
            let ratio = f / t;
            wrap(to.int(), &format!("{} >> ({i} % {ratio} * {t})", part(&format!("{i} / {ratio}"))))
        }
    };
    match to {
        _ if to.is_float() => format!("adze_of_bits_{to}({whole})"),
        _ if to.is_mask() => wrap(to, &format!("{whole} >> {}", t - 1)),
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_bytes_become_a_float_without_a_conversion() {
        let joined = bits(Elem::I8, Elem::F32, "0", &|lane| format!("x[{lane}]"));
        assert!(joined.starts_with("adze_of_bits_f32(") && !joined.contains("(float)"), "{joined}");
    }
}

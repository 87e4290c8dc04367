//! Extents as C expressions of 64-bit integers.

use adze_ir::extent::{Atom, Extent};

/// An expression that can stand wherever a sum can; `name` gives the C name of a symbol.
pub(super) fn extent(extent: &Extent, name: &dyn Fn(&str) -> String) -> String {
    let (terms, constant) = extent.terms();
    let mut out = String::new();
    let join = |out: &mut String, negative: bool, text: &str| match (out.is_empty(), negative) {
        (true, false) => out.push_str(text),
        (true, true) => out.push_str(&format!("-{text}")),
        (false, negative) => out.push_str(&format!(" {} {text}", if negative { '-' } else { '+' })),
    };
    for (atoms, coefficient) in terms {
        let mut factors: Vec<String> = atoms.iter().map(|a| atom(a, name)).collect();
        if coefficient.unsigned_abs() != 1 {
            factors.insert(0, coefficient.unsigned_abs().to_string());
        }
        join(&mut out, *coefficient < 0, &factors.join(" * "));
    }
    if constant != 0 || terms.is_empty() {
        join(&mut out, constant < 0, &constant.unsigned_abs().to_string());
    }
    out
}

/// The same as an operand of any operator.
pub(super) fn operand(e: &Extent, name: &dyn Fn(&str) -> String) -> String {
    let text = extent(e, name);
    if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') { text } else { format!("({text})") }
}

fn atom(atom: &Atom, name: &dyn Fn(&str) -> String) -> String {
    match atom {
        Atom::Sym(symbol) => name(symbol),
        Atom::Min(x, y) => format!("adze_min({}, {})", extent(x, name), extent(y, name)),
        Atom::Max(x, y) => format!("adze_max({}, {})", extent(x, name), extent(y, name)),
        Atom::FloorDiv(x, y) => match y.as_const().filter(|d| d.count_ones() == 1 && *d > 0) {
            Some(divisor) => format!("({} >> {})", operand(x, name), divisor.trailing_zeros()),
            None => format!("adze_floordiv({}, {})", extent(x, name), extent(y, name)),
        },
    }
}

//! ONNX operators by family: each file opens with its table of rows (operator, opsets, function).

mod attention;
mod compose;
mod contrib;
mod control;
mod elementwise;
mod image;
mod index;
mod legacy;
mod linear;
mod linear_attention;
mod loss;
mod movement;
mod norm;
mod pool;
mod qattention;
mod qlinear;
mod qlstm;
mod quantize;
mod recurrent;
mod reduce;
mod sample;
mod signal;
mod source;

use std::ops::RangeInclusive;

use super::node::{NodeCx, Outputs};

/// Imports one node.
pub(super) type OpFn = fn(&mut NodeCx<'_, '_>) -> Outputs;

/// Operator type, opset versions under which the function reads it, the function.
type Row = (&'static str, RangeInclusive<i64>, OpFn);

/// The oldest opset that is read.
const OLDEST: i64 = 1;

/// The newest opset that the tables were checked against (ONNX 1.23).
const NEWEST: i64 = 28;

/// Tables of the domain of ONNX itself.
const FAMILIES: &[&[Row]] = &[
    attention::ROWS,
    control::ROWS,
    elementwise::ROWS,
    image::ROWS,
    index::ROWS,
    linear::ROWS,
    linear_attention::ROWS,
    loss::ROWS,
    movement::ROWS,
    norm::ROWS,
    pool::ROWS,
    quantize::ROWS,
    recurrent::ROWS,
    reduce::ROWS,
    sample::ROWS,
    signal::ROWS,
    source::ROWS,
];

/// Tables of ONNX Runtime's domain.
const CONTRIB: &[&[Row]] = &[contrib::ROWS, qattention::ROWS, qlinear::ROWS, qlstm::ROWS];

/// What the tables say about an operator.
pub(super) enum Found {
    /// It is read by this function.
    Row(OpFn),
    /// It is read, but under these opsets only.
    OtherOpsets(String),
    /// It is not read.
    Nothing,
}

/// Looks an operator up.
pub(super) fn find(domain: &str, op_type: &str, opset: i64) -> Found {
    let rows = rows_of(domain).filter(|row| row.0 == op_type);
    let mut accepted = Vec::new();
    for (_, opsets, import) in rows {
        if opsets.contains(&opset) {
            return Found::Row(*import);
        }
        accepted.push(format!("{} to {}", opsets.start(), opsets.end()));
    }
    if accepted.is_empty() { Found::Nothing } else { Found::OtherOpsets(accepted.join(", ")) }
}

fn rows_of(domain: &str) -> impl Iterator<Item = &'static Row> {
    let families: &[&[Row]] = match domain {
        "" => FAMILIES,
        "com.microsoft" => CONTRIB,
        _ => &[],
    };
    families.iter().flat_map(|rows| rows.iter())
}

/// What a reader is told is accepted in a domain.
pub(super) fn summary(domain: &str) -> String {
    match domain {
        "" => "the operators of docs/onnx-ops.md".into(),
        "com.microsoft" => rows_of(domain).map(|row| format!("`{}`", row.0)).collect::<Vec<_>>().join(", "),
        _ => "operators of the domains `ai.onnx` and `com.microsoft`, functions of the model".into(),
    }
}

/// Every supported operator with its opsets, sorted: domain, name, versions.
pub fn supported() -> Vec<(&'static str, &'static str, RangeInclusive<i64>)> {
    let of = |domain: &'static str| rows_of(domain).map(move |row| (domain, row.0, row.1.clone()));
    let mut all: Vec<_> = of("").chain(of("com.microsoft")).collect();
    all.sort_by_key(|(domain, name, opsets)| (*domain, *name, *opsets.start()));
    all
}

/// The page `docs/onnx-ops.md`.
pub fn supported_page() -> String {
    let mut page = String::from(
        "# ONNX operators\n\nWhat the importer reads, by opset of the operator's domain. Written by `cargo test -p adze-compiler \
         supported_page` with\n`ADZE_BLESS=1`. An operator that is not here, an opset outside the range or an attribute's value \
         that is not supported is an\nerror that names the node.\n\n| domain | operator | opsets |\n|---|---|---|\n",
    );
    for (domain, name, opsets) in supported() {
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        page.push_str(&format!("| {domain} | {name} | {} to {} |\n", opsets.start(), opsets.end()));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supported_page_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/onnx-ops.md");
        if std::env::var_os("ADZE_BLESS").is_some() {
            std::fs::write(&path, supported_page()).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == supported_page(), "refresh with: ADZE_BLESS=1 cargo test -p adze-compiler supported_page");
    }

    #[test]
    fn rows_do_not_overlap() {
        let all = supported();
        for pair in all.windows(2) {
            let [a, b] = pair else { continue };
            assert!((a.0, a.1) != (b.0, b.1) || a.2.end() < b.2.start(), "{a:?} and {b:?}");
        }
        assert!(all.iter().all(|(_, _, opsets)| opsets.start() <= opsets.end()));
    }
}

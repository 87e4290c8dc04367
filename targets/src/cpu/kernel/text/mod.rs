//! Text form of kernels: printer and parser side by side, `parse(print(k)) == k`.
//!
//! ```text
//! kernel @scale(x: f32 in, y: f32 out) dims(n = 0) {
//!   %0 = const 2.0 : f32x4
//!   for i0 in lo..hi step 4 {
//!     %1 = load x[i0] : f32x4
//!     %2 = mul %1, %0 : f32x4
//!     store y[i0], %2
//!   }
//! }
//! ```

mod parse;
mod print;

pub use parse::{parse, parse_next};
pub use print::{print, print_stmt};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{parse, print};

    const ALL: &str = "\
kernel @all(x: f32 in, y: f32 out, s: i64 scratch) dims(n = 3, m.k = 0) {
  %0 = const [1.0, -0.0, 1e-40, x7fc00000] : f32x4
  %1 = const -128 : i8
  %2 = const x8000000000000000 : i64
  %3 = const [1, 0] : m64x2
  %4 = extent (floordiv(n, 4) - 3*max(7, m.k)) : i64
  guard n != 5 else -2
  prefetch x[4*n]
  bind at = %4
  %5 = extract %0, [2] : f32
  %6 = insert %0, %5, [0] : f32x4
  %7 = shuffle %0, %6, [0, 7] : f32x2
  for i in lo..(hi + n) step 2 carry(%8 = %0) -> (%9) {
    %10 = cmp.lt %8, %0 : m32x4
    %11 = reduce.or %10 : m32
    if %11 -> (%12) {
      yield %8
    } else {
      yield %0
    }
    yield %12
  }
  if n >= 2 {
    store y[(at + 1)], %9
  }
}
";

    #[test]
    fn every_statement_reads_back() {
        let kernel = parse(ALL).unwrap();
        assert_eq!(print(&kernel), ALL);
        assert_eq!(super::super::verify(&kernel), vec![]);
    }

    #[test]
    fn examples_of_the_documentation_are_kernels() {
        let page = include_str!("../../../../../docs/kernel-ir.md");
        let examples: Vec<&str> =
            page.split("```kernel\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!examples.is_empty());
        for example in examples {
            let kernel = parse(example).unwrap();
            assert_eq!(super::super::verify(&kernel), vec![]);
            assert_eq!(print(&kernel), example);
        }
    }

    #[test]
    fn errors_name_the_place() {
        let error = parse("kernel @k() {\n  %0 = frobnicate %1 : f32\n}\n").unwrap_err();
        assert_eq!(error.to_string(), "2:8: found `frobnicate`, expected an operation");
    }

    proptest! {
        /// Whatever the text, parsing and verifying end without a panic.
        #[test]
        fn broken_texts_are_errors(at in 0..ALL.len(), len in 0..40usize, with in "[%a-z0-9x.,\\[\\]{}()=: -]{0,12}") {
            let end = (at + len).min(ALL.len());
            let text = format!("{}{with}{}", &ALL[..at], &ALL[end..]);
            if let Ok(kernel) = parse(&text) {
                super::super::verify(&kernel);
                print(&kernel);
            }
        }
    }
}

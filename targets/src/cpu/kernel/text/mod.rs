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

pub use parse::parse;
pub use print::{print, print_stmt};

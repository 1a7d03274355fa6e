//! Numbers into batches.
//!
//! * `ternary`: −1, 0 and 1 into planes of bits, and real numbers made ternary by thresholds.
//! * `encoded`: real numbers into digits.

mod encoded;
mod ternary;

pub use encoded::{encode, encode_sparse};
pub use ternary::{Packer, Refused, max_abs};

#[cfg(test)]
mod tests;

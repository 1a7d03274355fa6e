//! Batches of input vectors in memory and on disk. They are packed by [`cpu::packing`](crate::cpu::packing).
//!
//! * [`ternary`]: elements −1, 0 and 1 in two bits each, and the file format of such a batch.
//! * [`encoded`]: real numbers as several ternary batches, one for each digit.
//! * [`floats`]: real numbers as float32, for the structured matrix.
//! * [`numbers`]: the number types that batches are made from.

pub mod encoded;
pub mod floats;
pub mod numbers;
pub mod ternary;

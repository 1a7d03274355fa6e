//! Bit-packed batches of ternary vectors: two bits an element, a plane of the +1 and a plane of the −1.
//!
//! * `planes`: the batch and its planes.
//! * `bits`: planes as bytes, for other programs.
//! * `sparse`: compressed sparse rows.
//! * `format`: the file format.
//! * `words`: the memory of a plane.

mod bits;
mod format;
mod planes;
mod sparse;
mod words;

pub use format::FormatError;
pub(crate) use planes::expand_word;
pub use planes::{PlaneError, TernaryBatch, WORD};
pub(crate) use sparse::{check_offsets, row_columns};

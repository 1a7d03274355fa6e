//! The vectors of a structured projection: ternary, or real.

use super::passes::RowInputs;
use crate::batch::floats::Floats;
use crate::batch::ternary::{TernaryBatch, WORD};

/// The vectors of a structured projection.
#[derive(Clone, Copy, Debug)]
pub enum TransformInputs<'a> {
    /// Vectors of −1, 0 and 1.
    Ternary(&'a TernaryBatch),
    /// Vectors of real numbers.
    Real(&'a Floats),
}

impl<'a> TransformInputs<'a> {
    /// The number of vectors.
    #[must_use]
    pub fn n_rows(self) -> usize {
        match self {
            Self::Ternary(batch) => batch.n_rows(),
            Self::Real(batch) => batch.n_rows(),
        }
    }

    /// The length of a vector.
    #[must_use]
    pub fn n_inputs(self) -> usize {
        match self {
            Self::Ternary(batch) => batch.n_inputs(),
            Self::Real(batch) => batch.n_inputs(),
        }
    }

    /// The power of two that a vector was divided by.
    pub(super) fn scale(self, vector: usize) -> f64 {
        match self {
            Self::Ternary(_) => 1.0,
            Self::Real(batch) => batch.scale(vector),
        }
    }

    /// At most `length` elements of a vector from `start` on, a multiple of 64.
    pub(super) fn inputs(self, vector: usize, start: usize, length: usize) -> RowInputs<'a> {
        let end = self.n_inputs().min(start + length);
        let start = start.min(end);
        match self {
            Self::Ternary(batch) => {
                let (positive, negative) = batch.row(vector);
                let words = start.div_ceil(WORD)..end.div_ceil(WORD);
                RowInputs::Ternary(&positive[words.clone()], &negative[words])
            }
            Self::Real(batch) => RowInputs::Real(&batch.row(vector)[start..end]),
        }
    }
}

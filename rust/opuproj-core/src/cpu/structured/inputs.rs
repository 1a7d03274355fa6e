//! The vectors of a structured projection: ternary, or real.

use super::passes::RowInputs;
use crate::batch::floats::Floats;
use crate::batch::ternary::{TernaryBatch, WORD};

/// The vectors of a projection.
#[derive(Clone, Copy, Debug)]
pub enum TransformInputs<'a> {
    /// Of −1, 0 and 1.
    Ternary(&'a TernaryBatch),
    /// Of real numbers.
    Real(&'a Floats),
}

impl<'a> TransformInputs<'a> {
    /// How many.
    #[must_use]
    pub fn n_rows(self) -> usize {
        match self {
            Self::Ternary(batch) => batch.n_rows(),
            Self::Real(batch) => batch.n_rows(),
        }
    }

    /// Their length.
    #[must_use]
    pub fn n_inputs(self) -> usize {
        match self {
            Self::Ternary(batch) => batch.n_inputs(),
            Self::Real(batch) => batch.n_inputs(),
        }
    }

    /// What a vector was divided by.
    pub(super) fn scale(self, vector: usize) -> f64 {
        match self {
            Self::Ternary(_) => 1.0,
            Self::Real(batch) => batch.scale(vector),
        }
    }

    /// The elements of a vector from `start`, a multiple of 64, on, as many as there are but not more than `length`.
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

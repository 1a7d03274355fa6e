//! Vectors through the structured matrix.

use std::ops::Range;

use crate::definition::readout::Mode;

/// Which rows of a structured matrix to project vectors on, and how to read the result.
#[derive(Clone, Debug)]
pub struct Structured {
    /// The seed of the matrix.
    pub seed: u64,
    /// What is read.
    pub mode: Mode,
    /// The rows, one result each.
    pub rows: Range<u64>,
}

impl Structured {
    /// Real numbers in the results of one vector.
    #[must_use]
    pub fn width(&self) -> usize {
        (self.rows.end - self.rows.start) as usize * self.mode.parts()
    }

    /// The results that a row of T gives: two for "real".
    #[must_use]
    pub fn rows_per_row(&self) -> u64 {
        2 / self.mode.components() as u64
    }

    /// Those of its rows that lie in some blocks of the matrix, of `n` rows of T each.
    #[must_use]
    pub fn rows_of(&self, n: usize, blocks: &Range<u64>) -> Range<u64> {
        let n = n as u64 * self.rows_per_row();
        self.rows.start.max(blocks.start * n)..self.rows.end.min(blocks.end.saturating_mul(n))
    }
}

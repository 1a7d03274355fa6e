//! Vectors through T.

use std::ops::Range;

use super::measurement::Measurement;
use crate::definition::readout::Mode;
use crate::definition::transmission::Transmission;

/// Which rows of T to project vectors on, and how to read the result.
#[derive(Clone, Debug)]
pub struct Projection {
    /// The matrix.
    pub transmission: Transmission,
    /// What is read.
    pub mode: Mode,
    /// The camera that reads it. Without a camera results are exact, as with an ideal one. No camera reads "real".
    pub measurement: Option<Measurement>,
    /// The rows of T (of G for "real"), one result each.
    pub rows: Range<u64>,
}

impl Projection {
    /// Real numbers in the results of one vector.
    #[must_use]
    pub fn width(&self) -> usize {
        (self.rows.end - self.rows.start) as usize * self.mode.parts()
    }
}

/// The columns of T that elements belong to.
#[derive(Clone, Copy, Debug)]
pub enum Columns<'a> {
    /// This column and those that follow.
    From(u64),
    /// A column for each element, in any order. Zeros that many vectors have in common then need not be stored.
    Listed(&'a [u64]),
}

//! What becomes of fields: which of them are read, by what, and what that costs.

use crate::readout::Mode;
use crate::recovery::Sight;
use crate::transmission::{BLOCK_COMPONENTS, BLOCK_ROWS};
use crate::work::WORK_PER_ENTRY;

/// The work of one pixel's reading in one frame: some ten nanoseconds.
pub(super) const WORK_PER_READING: u64 = WORK_PER_ENTRY * 100;

/// What becomes of the fields of the vectors that make an output.
#[derive(Clone, Copy)]
pub(super) enum Reader<'a> {
    /// The field of one is read as it is.
    Exact,
    /// It is not read, but left as its integers.
    Field,
    /// These are read in its place.
    Given(&'a [&'a [i32]]),
    /// They are photographed.
    Camera(&'a Sight),
    /// They are added up, each with its weight, and multiplied by the scale of their output.
    Sum { weights: &'a [i64], scales: &'a [f64] },
}

impl Reader<'_> {
    /// The work of reading one output's row block, as far as it counts beside generating T.
    pub(super) fn work(self, mode: Mode) -> u64 {
        match self {
            Self::Exact | Self::Field | Self::Sum { .. } => 0,
            Self::Given(_) => BLOCK_COMPONENTS as u64 * WORK_PER_ENTRY,
            Self::Camera(sight) => sight.readings(mode) * BLOCK_ROWS as u64 * WORK_PER_READING,
        }
    }
}

//! What becomes of the fields: which of them are read, how, and at which cost.

use crate::cpu::field::Fields;
use crate::cpu::threads::WORK_PER_ENTRY;
use crate::definition::readout::Mode;
use crate::definition::transmission::{BLOCK_COMPONENTS, BLOCK_ROWS};
use crate::request::measurement::Measurement;

/// The work of one pixel's reading in one frame: some ten nanoseconds.
pub(super) const WORK_PER_READING: u64 = WORK_PER_ENTRY * 100;

/// What becomes of the fields of the vectors that make an output.
#[derive(Clone, Copy)]
pub(super) enum Readout<'a> {
    /// The field of one vector is read exactly.
    Exact,
    /// The field is written as its integers.
    Field,
    /// These fields are read in its place.
    Given(Fields<'a>),
    /// A camera measures them.
    Camera(&'a Measurement),
    /// They are added up, each with its weight, and multiplied by the scale of their output. `fits` says whether the sums
    /// [`fits_f64`](crate::cpu::field::fits_f64).
    Sum { weights: &'a [i64], fits: bool, scales: &'a [f64] },
}

impl Readout<'_> {
    /// The work of reading a row block of one output, where it matters beside generating T.
    pub(super) fn work(self, mode: Mode) -> u64 {
        match self {
            Self::Exact | Self::Field | Self::Sum { .. } => 0,
            Self::Given(_) => BLOCK_COMPONENTS as u64 * WORK_PER_ENTRY,
            Self::Camera(measurement) => measurement.frames(mode) * BLOCK_ROWS as u64 * WORK_PER_READING,
        }
    }
}

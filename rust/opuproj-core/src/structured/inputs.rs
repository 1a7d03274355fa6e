//! What goes through a structured matrix: ternary vectors, or real ones as float32.

use crate::memory::room;
use crate::ternary::{Float, TernaryBatch, WORD};
use crate::work::{Stopped, alone};

use super::passes::RowInputs;

/// Powers of two that vectors are divided by. Beyond these limits a result's scale would not be a normal number.
const EXPONENTS: std::ops::RangeInclusive<i32> = -960..=1000;

/// Numbers that are scaled between two thoughts of whether to go on.
const STRETCH: usize = 1 << 14;

/// What is smaller than this of a vector whose largest magnitude is 1 to 2 counts as 0.
const SMALLEST: f32 = 1.0 / (1u128 << 100) as f32;

/// A batch of real vectors in float32, each divided by the power of two that brings its largest magnitude to 1 to 2.
#[derive(Clone, Debug)]
pub struct Floats {
    n_inputs: usize,
    values: Vec<f32>,
    exponents: Vec<i32>,
}

impl Floats {
    /// An empty batch for so many vectors, or nothing if there is no memory for it.
    #[must_use]
    pub fn with_capacity(n_rows: usize, n_inputs: usize) -> Option<Self> {
        Some(Self { n_inputs, values: room(n_rows.checked_mul(n_inputs)?).ok()?, exponents: room(n_rows).ok()? })
    }

    /// Adds vectors, with the largest magnitude of each.
    ///
    /// `poll` is called as by [`Projection::run`](crate::projection::Projection::run).
    ///
    /// # Errors
    ///
    /// If `poll` stopped it, which leaves the batch as it was, or there is no memory for more than it was made for.
    ///
    /// # Panics
    ///
    /// If there is not one magnitude a vector, or one is not finite.
    pub fn push<F: Float>(
        &mut self,
        x: &[F],
        largest: &[f64],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        assert_eq!(x.len(), largest.len() * self.n_inputs, "one magnitude a vector");
        self.values.try_reserve(x.len()).map_err(|_| Stopped::NoMemory)?;
        self.exponents.try_reserve(largest.len()).map_err(|_| Stopped::NoMemory)?;
        let n_rows = self.n_rows();
        let pushed = alone(poll, |lead| {
            for (row, &largest) in x.chunks_exact(self.n_inputs).zip(largest) {
                let exponent = exponent_of(largest);
                let scale = power_of_two(-exponent);
                for part in row.chunks(STRETCH) {
                    self.values.extend(part.iter().map(|x| {
                        let x = (x.wide() * scale) as f32;
                        if x.abs() < SMALLEST { 0.0 } else { x }
                    }));
                    lead.went_through(size_of_val(part))?;
                }
                self.exponents.push(exponent);
            }
            Ok(())
        });
        if pushed.is_err() {
            self.values.truncate(n_rows * self.n_inputs);
            self.exponents.truncate(n_rows);
        }
        pushed
    }

    /// The number of vectors.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.exponents.len()
    }

    /// The length of a vector.
    #[must_use]
    pub fn n_inputs(&self) -> usize {
        self.n_inputs
    }
}

/// The vectors of a projection.
#[derive(Clone, Copy, Debug)]
pub enum Inputs<'a> {
    /// Of −1, 0 and 1.
    Ternary(&'a TernaryBatch),
    /// Of real numbers.
    Real(&'a Floats),
}

impl<'a> Inputs<'a> {
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
            Self::Real(batch) => power_of_two(batch.exponents[vector]),
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
            Self::Real(batch) => RowInputs::Real(&batch.values[vector * batch.n_inputs..][start..end]),
        }
    }
}

/// The exponent of a number between limits: that of 1 for 0.
fn exponent_of(x: f64) -> i32 {
    assert!(x.is_finite(), "finite numbers");
    if x == 0.0 {
        return 0;
    }
    let biased = (x.to_bits() >> 52 & 0x7ff) as i32;
    (biased - 1023).clamp(*EXPONENTS.start(), *EXPONENTS.end())
}

/// 2 to an exponent of a normal number.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_divided_by_a_power_of_two() {
        let x = [[3.0, -5.0], [0.0, 0.0], [1e-30, 1.0], [-f64::MAX, 1.0], [5e-324, 0.0]];
        let mut floats = Floats::with_capacity(5, 2).expect("memory");
        floats.push(x.as_flattened(), &x.map(|row| row[0].abs().max(row[1].abs())), &mut |_| true).expect("memory");
        assert_eq!(floats.exponents, [2, 0, 0, 1000, -960]);
        assert_eq!(floats.values[..6], [0.75, -1.25, 0.0, 0.0, 1e-30, 1.0]);
        assert_eq!(floats.values[6..8], [-16_777_216.0, 0.0]);
    }
}

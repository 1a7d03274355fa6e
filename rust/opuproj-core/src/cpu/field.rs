//! The exact integer fields of vectors, and sums of several of them.

use std::ops::Range;

use super::kernel::Kernel;
use crate::definition::readout::Mode;
use crate::definition::transmission::MAX_MAGNITUDE;
use crate::memory::{NoMemory, refill};

/// The fields of several vectors.
#[derive(Clone, Copy, Debug)]
pub enum Fields<'a> {
    /// Of up to [`INT32_NONZEROS`](crate::definition::transmission::INT32_NONZEROS) nonzeros each.
    Int32(&'a [&'a [i32]]),
    /// Of any number of nonzeros.
    Int64(&'a [&'a [i64]]),
}

impl<'a> Fields<'a> {
    /// The number of vectors.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::Int32(fields) => fields.len(),
            Self::Int64(fields) => fields.len(),
        }
    }

    /// Whether there is no vector.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The field of a vector.
    pub(super) fn of(self, vector: usize) -> Field<'a> {
        match self {
            Self::Int32(fields) => Field::Int32(fields[vector]),
            Self::Int64(fields) => Field::Int64(fields[vector]),
        }
    }

    /// Whether each has this many components.
    pub(super) fn have_length(self, length: usize) -> bool {
        (0..self.len()).all(|vector| match self.of(vector) {
            Field::Short(field) | Field::Int32(field) => field.len() == length,
            Field::Int64(field) => field.len() == length,
        })
    }
}

/// The field of a vector.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    /// Of up to [`INT16_NONZEROS`](super::reference::INT16_NONZEROS) nonzeros: it fits int16.
    Short(&'a [i32]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
}

impl Field<'_> {
    /// The components that belong to some of its rows.
    pub(super) fn of_rows(self, mode: Mode, rows: Range<usize>) -> Self {
        self.of(components(mode, rows))
    }

    /// Some of its components.
    pub(super) fn of(self, components: Range<usize>) -> Self {
        match self {
            Self::Short(field) => Self::Short(&field[components]),
            Self::Int32(field) => Self::Int32(&field[components]),
            Self::Int64(field) => Self::Int64(&field[components]),
        }
    }

    /// Adds it to sums of 64 bits, or replaces them by it if it is the `first` one.
    pub(super) fn add_to(self, sums: &mut [i64], first: bool) {
        if first {
            sums.fill(0);
        }
        match self {
            Self::Short(field) | Self::Int32(field) => {
                sums.iter_mut().zip(field).for_each(|(sum, &part)| *sum += i64::from(part));
            }
            Self::Int64(field) => sums.iter_mut().zip(field).for_each(|(sum, &part)| *sum += part),
        }
    }

    /// Writes it as float64, which holds all its integers exactly.
    pub(super) fn to_f64(self, floats: &mut Vec<f64>) -> Result<(), NoMemory> {
        match self {
            Self::Short(field) | Self::Int32(field) => refill(floats, field.iter().map(|&sum| f64::from(sum))),
            Self::Int64(field) => refill(floats, field.iter().map(|&sum| sum as f64)),
        }
    }
}

/// The components of a field that belong to some of its rows.
pub(super) fn components_of<F>(mode: Mode, field: &[F], rows: Range<usize>) -> &[F] {
    &field[components(mode, rows)]
}

fn components(mode: Mode, rows: Range<usize>) -> Range<usize> {
    mode.components() * rows.start..mode.components() * rows.end
}

/// A weighted sum of fields: exact, and rounded once to float64.
#[derive(Debug, Default)]
pub(super) struct WeightedSum {
    /// The sum, if float64 holds all its integers exactly.
    floats: Vec<f64>,
    /// Otherwise the sum, which is rounded when it is read.
    integers: Vec<i128>,
}

/// Whether float64 holds every weighted sum of the fields of vectors whose elements, weighted, add up to `total` at most.
pub(super) fn fits_f64(total: f64) -> bool {
    total * f64::from(MAX_MAGNITUDE) < (1u64 << f64::MANTISSA_DIGITS) as f64
}

impl WeightedSum {
    /// Adds a field, or the first one in place of what there was. `fits` says whether the sum [`fits_f64`].
    pub(super) fn add(
        &mut self,
        kernel: Kernel,
        field: Field<'_>,
        weight: i64,
        first: bool,
        fits: bool,
    ) -> Result<(), NoMemory> {
        match field {
            Field::Short(field) | Field::Int32(field) if fits => {
                if first {
                    refill(&mut self.floats, field.iter().map(|_| 0.0))?;
                }
                let sums = &mut self.floats;
                kernel.vectorize(
                    #[inline(always)]
                    || {
                        for (sum, &part) in sums.iter_mut().zip(field) {
                            *sum += weight as f64 * f64::from(part);
                        }
                    },
                );
                Ok(())
            }
            Field::Short(field) | Field::Int32(field) => self.add_integers(field, weight, first),
            Field::Int64(field) => self.add_integers(field, weight, first),
        }
    }

    fn add_integers<F: Copy + Into<i128>>(&mut self, field: &[F], weight: i64, first: bool) -> Result<(), NoMemory> {
        if first {
            self.floats.clear();
            refill(&mut self.integers, field.iter().map(|_| 0))?;
        }
        for (sum, &part) in self.integers.iter_mut().zip(field) {
            *sum += i128::from(weight) * part.into();
        }
        Ok(())
    }

    /// The sum, after the last field was added.
    pub(super) fn rounded(&mut self) -> Result<&[f64], NoMemory> {
        if self.floats.is_empty() {
            refill(&mut self.floats, self.integers.iter().map(|&sum| sum as f64))?;
        }
        Ok(&self.floats)
    }
}

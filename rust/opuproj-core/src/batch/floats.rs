//! Real vectors as float32, for the structured matrix.

use super::numbers::Float;
use crate::definition::structured::{exponent, power_of_two, scaled};
use crate::memory::with_capacity;
use crate::progress::{Stopped, on_calling_thread};

/// Numbers that are scaled between two checks for a stop.
const NUMBERS_PER_CHECK: usize = 1 << 14;

/// A batch of real vectors in float32. Each is divided by the power of two that makes its largest magnitude 1 to 2.
#[derive(Clone, Debug)]
pub struct Floats {
    n_inputs: usize,
    values: Vec<f32>,
    exponents: Vec<i32>,
}

impl Floats {
    /// An empty batch with room for `n_rows` vectors; `None` if there is no memory for it.
    #[must_use]
    pub fn with_capacity(n_rows: usize, n_inputs: usize) -> Option<Self> {
        Some(Self {
            n_inputs,
            values: with_capacity(n_rows.checked_mul(n_inputs)?).ok()?,
            exponents: with_capacity(n_rows).ok()?,
        })
    }

    /// Adds vectors, with the largest magnitude of each.
    ///
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or there is no memory for more vectors than the batch has room for. The batch is then
    /// unchanged.
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
        let pushed = on_calling_thread(poll, |coordinator| {
            for (row, &largest) in x.chunks_exact(self.n_inputs).zip(largest) {
                let exponent = exponent(largest);
                let scale = power_of_two(-exponent);
                for part in row.chunks(NUMBERS_PER_CHECK) {
                    self.values.extend(part.iter().map(|x| scaled(x.wide(), scale)));
                    coordinator.count_bytes(size_of_val(part))?;
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

    /// A vector, divided by its power of two.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.n_inputs..(row + 1) * self.n_inputs]
    }

    /// The power of two that a vector was divided by.
    #[must_use]
    pub fn scale(&self, row: usize) -> f64 {
        power_of_two(self.exponents[row])
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

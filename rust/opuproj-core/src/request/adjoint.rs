//! Vectors back through Tᴴ.

use crate::definition::readout::VARIANCE;
use crate::definition::transmission::Transmission;

/// What is read of Tᴴy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjointMode {
    /// Tᴴy itself, real and imaginary parts in turn.
    Complex,
    /// Re(Tᴴy): the gradient of a real vector.
    RealPart,
    /// √2 Re(Tᴴy). This is Gᵗ times the parts of y, or Rᵗ if the caller has multiplied y by the phases of the anchor.
    Real,
}

impl AdjointMode {
    /// Real numbers in a result.
    #[must_use]
    pub fn parts(self) -> usize {
        if self == Self::Complex { 2 } else { 1 }
    }

    /// What the exact integer sums are multiplied by.
    #[must_use]
    pub fn scale(self) -> f64 {
        if self == Self::Real { 1.0 / 32.0 } else { 1.0 / VARIANCE.sqrt() }
    }
}

/// Which columns of T to project vectors back on, and how to read the result.
#[derive(Clone, Debug)]
pub struct Adjoint {
    /// The matrix.
    pub transmission: Transmission,
    /// What is read.
    pub mode: AdjointMode,
    /// The row block of the first 16 components of a vector.
    pub row_block: u64,
    /// The columns, from the first on, one result each.
    pub n_columns: usize,
}

impl Adjoint {
    /// Real numbers in the results of one vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.n_columns * self.mode.parts()
    }
}

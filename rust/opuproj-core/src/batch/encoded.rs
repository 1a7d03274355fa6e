//! Real numbers as digits −1, 0 and 1: balanced ternary, or the bits of a magnitude with its sign.
//!
//! A vector is x ≈ scale · m, with integers m of d digits: m = Σ base^(d−1−k) tₖ. The scale is such that the largest number
//! of the vector has the largest m. So |x − scale · m| ≤ scale / 2.

use std::sync::Arc;

use super::ternary::TernaryBatch;

/// How numbers become digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Digits −1, 0 and 1 to base 3, at most 20: with these the integers fit 32 bits.
    BalancedTernary(u32),
    /// Bits of the magnitude, each with the sign of the number, at most 15.
    SignedBits(u32),
}

impl Code {
    /// How many digits there are.
    #[must_use]
    pub fn digits(self) -> u32 {
        match self {
            Self::BalancedTernary(digits) | Self::SignedBits(digits) => digits,
        }
    }

    /// The value of a digit relative to the next one.
    #[must_use]
    pub fn base(self) -> u32 {
        match self {
            Self::BalancedTernary(_) => 3,
            Self::SignedBits(_) => 2,
        }
    }

    /// The largest integer.
    #[must_use]
    pub fn largest(self) -> u32 {
        match self {
            Self::BalancedTernary(digits) => (3u32.pow(digits) - 1) / 2,
            Self::SignedBits(digits) => (1 << digits) - 1,
        }
    }
}

/// A batch of vectors of real numbers, in digits.
#[derive(Debug, PartialEq)]
pub struct Encoded {
    base: u32,
    digits: Vec<Arc<TernaryBatch>>,
    scales: Vec<f64>,
}

impl Encoded {
    /// A batch from its digits, the highest first, and the scale of each vector. `None` if they do not fit each other.
    #[must_use]
    pub fn new(base: u32, digits: Vec<Arc<TernaryBatch>>, scales: Vec<f64>) -> Option<Self> {
        let most = match base {
            2 => 15,
            3 => 20,
            _ => return None,
        };
        let alike = digits.first().is_some_and(|first| {
            digits.iter().all(|digit| digit.n_inputs() == first.n_inputs() && digit.n_rows() == scales.len())
        });
        let finite = scales.iter().all(|scale| scale.is_finite() && *scale >= 0.0);
        (alike && finite && digits.len() <= most).then_some(Self { base, digits, scales })
    }

    /// A batch from digits and scales that fit each other.
    pub(crate) fn from_parts(base: u32, digits: Vec<Arc<TernaryBatch>>, scales: Vec<f64>) -> Self {
        Self { base, digits, scales }
    }

    /// The value of a digit relative to the next one.
    #[must_use]
    pub fn base(&self) -> u32 {
        self.base
    }

    /// The length of a vector.
    #[must_use]
    pub fn n_inputs(&self) -> usize {
        self.digits[0].n_inputs()
    }

    /// The digits, the highest first.
    #[must_use]
    pub fn digits(&self) -> &[Arc<TernaryBatch>] {
        &self.digits
    }

    /// The factor of each vector's integers.
    #[must_use]
    pub fn scales(&self) -> &[f64] {
        &self.scales
    }
}

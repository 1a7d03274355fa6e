//! From the exact integer field of a row to a result: the complex field, its intensity, its linear recovery, or two real
//! numbers.
//!
//! A field is √2048 times Tx, a real and an imaginary part. All arithmetic is float64 on integers that float64 holds
//! exactly, and the result is rounded once to the type of the output.

use super::transmission::BLOCK_COMPONENTS;

/// T's entries are integers over the root of this: twice the variance 1024 of a part.
pub const VARIANCE: f64 = 2048.0;

/// What is read of Tx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Tx itself.
    Complex,
    /// |Tx|².
    Intensity,
    /// Rx, as recovered from intensities with an anchor of this many pixels.
    Linear {
        /// Pixels of the anchor: 1 to [`MAX_ANCHOR`](super::anchor::MAX_ANCHOR).
        n_anchor: u32,
    },
    /// Gx for the real matrix G, whose rows 2k and 2k + 1 are √2 times the real and the imaginary part of row k of T.
    Real,
}

impl Mode {
    /// Real numbers in a result.
    #[must_use]
    pub fn parts(self) -> usize {
        match self {
            Self::Complex => 2,
            Self::Intensity | Self::Linear { .. } | Self::Real => 1,
        }
    }

    /// Components of a field that make a result: the two parts of a row of T, or one for a row of G.
    #[must_use]
    pub fn components(self) -> usize {
        if self == Self::Real { 1 } else { 2 }
    }

    /// The rows whose results one block of the keystream gives.
    #[must_use]
    pub fn block_rows(self) -> usize {
        BLOCK_COMPONENTS / self.components()
    }

    /// The mode that reads the components of this mode's fields as they are.
    #[must_use]
    pub fn field(self) -> Self {
        if self == Self::Real { Self::Real } else { Self::Complex }
    }

    /// Pixels of the mode's own anchor; 0 if it has none.
    #[must_use]
    pub fn anchor_pixels(self) -> u64 {
        match self {
            Self::Complex | Self::Intensity | Self::Real => 0,
            Self::Linear { n_anchor } => u64::from(n_anchor),
        }
    }
}

/// A number type of an output: floating point, a camera's integers, or the integers of a field.
pub trait Number: Copy + Send + Sync {
    /// The nearest number of this type.
    fn rounded(exact: f64) -> Self;
}

impl Number for f32 {
    #[inline]
    fn rounded(exact: f64) -> Self {
        exact as f32
    }
}

impl Number for f64 {
    #[inline]
    fn rounded(exact: f64) -> Self {
        exact
    }
}

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl Number for $type {
            #[inline]
            fn rounded(exact: f64) -> Self {
                exact.round_ties_even() as $type
            }
        }
    )*};
}
integer!(u8, u16, i32, i64);

/// "complex": a part of `scale` · Tx.
#[inline]
#[must_use]
pub fn complex(part: f64, scale: f64) -> f64 {
    part * (scale * (1.0 / VARIANCE.sqrt()))
}

/// "real": `scale` · Gx.
#[inline]
#[must_use]
pub fn real(component: f64, scale: f64) -> f64 {
    component * (scale * (1.0 / 32.0))
}

/// "intensity": |`scale` · Tx|².
#[inline]
#[must_use]
pub fn intensity([re, im]: [f64; 2], scale: f64) -> f64 {
    // Scaled before it is squared: a large scale cannot make 0 · ∞.
    let (re, im) = (re * scale, im * scale);
    (re * re + im * im) * (1.0 / VARIANCE)
}

/// "linear": `scale` · Rx, for the anchor's field r ([`nonzero`](super::anchor::nonzero)) and its [`linear_scale`].
#[inline]
#[must_use]
pub fn linear([re, im]: [f64; 2], [r_re, r_im]: [f64; 2], linear_scale: f64, scale: f64) -> f64 {
    // Adding 0 turns the −0 of an all-zero vector into 0.
    (re * r_re + im * r_im) * (linear_scale * scale) + 0.0
}

/// What turns a product with the anchor's field r into the units of R: √2 of the law of R, over √2048 of T's units and |r|.
#[inline]
#[must_use]
pub fn linear_scale([r_re, r_im]: [f64; 2]) -> f64 {
    1.0 / (32.0 * (r_re * r_re + r_im * r_im).sqrt())
}

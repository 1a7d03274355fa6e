//! The structured matrix: blocks of three rounds of random signs and Walsh–Hadamard transforms.
//!
//! A row of it costs O(log n) operations rather than n. In return entries depend on each other: the rows of a part of a
//! block are orthogonal, and no row can be computed alone. See Dong, Ohana, Rafayelyan and Krzakala, "Reservoir computing
//! meets recurrent kernels and structured transforms" (arXiv:2006.07310).
//!
//! Vectors are padded by zeros to a power of two n. A block of n rows is S = H D₃ H D₂ H D₁ / n, where H is the unnormalised
//! Walsh–Hadamard matrix in its natural order and D are diagonals of random signs. `T = (S_re + i S_im) / √2`. All blocks
//! and both parts share D₁.
//!
//! 1. The sign of element j in diagonal `id` is bit j % 128 of a keystream block: the block of T's generator under the key
//!    (seed, stream 1) and the counter (j / 128, id). `id` is 0 for D₁, and 1 + 4·block + 2·part + (round − 2) for D₂ and D₃.
//! 2. Arithmetic is float32. A transform is log₂ n stages of (a, b) → (a + b, a − b) between elements `stride` apart. Rounds 1
//!    and 3 take the strides 1, 2, 4, …, n/2; round 2 takes n/2, …, 2, 1.
//! 3. The vector is first divided by a power of two ([`exponent`]), so that its largest magnitude is 1 to 2. Elements below
//!    2⁻¹⁰⁰ then become 0 ([`scaled`]). No intermediate number is then too small or too large for its full precision.
//! 4. Results are read in float64 and rounded once ([`complex`], [`real`], [`intensity`], [`linear`]).
//!
//! The sign of an intermediate zero is not defined. No result shows it.

#![allow(clippy::inline_always, reason = "callers compile these functions for their instruction set")]

use std::f64::consts::FRAC_1_SQRT_2;

use super::transmission::Transmission;

/// The smallest transform: shorter vectors are padded to it.
pub const SMALLEST: usize = 256;

/// Elements whose signs come from one block of the keystream.
pub const SIGNS: usize = 128;

/// The stream of the keystream's key: 0 is that of the Gaussian T.
pub const STREAM: u64 = 1;

/// The exponents of the powers of two that vectors are divided by. Beyond them a result's scale would not be a normal number.
const EXPONENTS: std::ops::RangeInclusive<i32> = -960..=1000;

/// A smaller number of a vector whose largest magnitude is 1 to 2 counts as 0: 2⁻¹⁰⁰.
pub const SMALLEST_MAGNITUDE: f32 = 1.0 / (1u128 << 100) as f32;

/// The real or the imaginary part of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The real part.
    Re,
    /// The imaginary part.
    Im,
}

impl Part {
    /// Both, in the order of their numbers.
    pub const BOTH: [Self; 2] = [Self::Re, Self::Im];
}

/// The diagonals of random signs that one seed gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs(Transmission);

impl Signs {
    /// The number of the first round's diagonal.
    pub const FIRST: u64 = 0;

    /// The signs of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Transmission::of_stream(seed, STREAM))
    }

    /// The number of the diagonal of round 2 or 3 in a part of a block of rows.
    #[must_use]
    pub const fn diagonal(block: u64, part: Part, round: u64) -> u64 {
        1 + 4 * block + 2 * part as u64 + (round - 2)
    }

    /// The signs of elements 128 k to 128 k + 127 of a diagonal, a bit each; a set bit means −1.
    #[must_use]
    pub fn block(&self, diagonal: u64, k: u64) -> u128 {
        u128::from_le_bytes(self.0.block(k, diagonal))
    }

    /// The keystream that the signs are bits of.
    #[must_use]
    pub fn keystream(&self) -> &Transmission {
        &self.0
    }
}

/// The length to which vectors of `n_inputs` are padded, if it fits the address space.
#[must_use]
pub fn length(n_inputs: usize) -> Option<usize> {
    n_inputs.max(SMALLEST).checked_next_power_of_two()
}

/// n S x for one part of one block of rows. The length of the vector is n.
///
/// # Panics
///
/// If the length is not a power of two.
#[must_use]
pub fn field(signs: &Signs, x: &[f32], block: u64, part: Part) -> Vec<f32> {
    assert!(x.len().is_power_of_two(), "a vector padded to a power of two");
    let mut v = x.to_vec();
    let strides = || (0..x.len().ilog2()).map(|k| 1 << k);
    flip(signs, Signs::FIRST, &mut v);
    strides().for_each(|stride| stage(&mut v, stride));
    flip(signs, Signs::diagonal(block, part, 2), &mut v);
    strides().rev().for_each(|stride| stage(&mut v, stride));
    flip(signs, Signs::diagonal(block, part, 3), &mut v);
    strides().for_each(|stride| stage(&mut v, stride));
    v
}

/// The exponent of the power of two that a vector with this largest magnitude is divided by: 0 for a vector of zeros.
///
/// # Panics
///
/// If the magnitude is not finite.
#[must_use]
pub fn exponent(largest: f64) -> i32 {
    assert!(largest.is_finite(), "finite numbers");
    if largest == 0.0 {
        return 0;
    }
    let biased = (largest.to_bits() >> 52 & 0x7ff) as i32;
    (biased - 1023).clamp(*EXPONENTS.start(), *EXPONENTS.end())
}

/// 2 to the exponent of a normal number.
#[must_use]
pub fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// A number times `scale`, the inverse of the vector's power of two; 0 if that is below [`SMALLEST_MAGNITUDE`].
#[inline]
#[must_use]
pub fn scaled(x: f64, scale: f64) -> f32 {
    let x = (x * scale) as f32;
    if x.abs() < SMALLEST_MAGNITUDE { 0.0 } else { x }
}

/// "complex": a part of Tx, from n S x of that part. `scale` is the vector's power of two over n.
#[inline(always)]
#[must_use]
pub fn complex(part: f32, scale: f64) -> f64 {
    // Adding 0 turns −0 into 0.
    f64::from(part) * scale * FRAC_1_SQRT_2 + 0.0
}

/// "real": the row of G that is √2 times this part of T.
#[inline(always)]
#[must_use]
pub fn real(part: f32, scale: f64) -> f64 {
    f64::from(part) * scale + 0.0
}

/// "intensity": |Tx|².
#[inline(always)]
#[must_use]
pub fn intensity([re, im]: [f32; 2], scale: f64) -> f64 {
    let (re, im) = (f64::from(re), f64::from(im));
    // The squares are exact and far from the limits of float64; the square of `scale` might not be.
    (re * re + im * im) * scale * (0.5 * scale)
}

/// "linear": Rx, with the phase of the anchor's field (the field of T under the same seed) as float32.
#[inline(always)]
#[must_use]
pub fn linear([re, im]: [f32; 2], [cos, sin]: [f32; 2], scale: f64) -> f64 {
    f64::from(re) * scale * f64::from(cos) + f64::from(im) * scale * f64::from(sin) + 0.0
}

fn flip(signs: &Signs, diagonal: u64, v: &mut [f32]) {
    for (k, v) in (0..).zip(v.chunks_mut(SIGNS)) {
        let signs = signs.block(diagonal, k);
        for (j, v) in v.iter_mut().enumerate() {
            if signs >> j & 1 == 1 {
                *v = -*v;
            }
        }
    }
}

fn stage(v: &mut [f32], stride: usize) {
    for pair in v.chunks_exact_mut(2 * stride) {
        let (low, high) = pair.split_at_mut(stride);
        for (a, b) in low.iter_mut().zip(high) {
            (*a, *b) = (*a + *b, *a - *b);
        }
    }
}

//! A detector's noise as a pure function of (seed, frame, row): uniform words, and Gaussian and Poisson numbers from them.
//!
//! The words come from Philox4x32 with 10 rounds (Salmon et al., SC'11), a stream separate from that of T. It consists of
//! plain multiplications, which compilers vectorise. A block serves two rows: the even row takes the first two words, the
//! odd row the other two. Of two words the first decides the photons, the second the electronics.
//!
//! Everything here is IEEE arithmetic in a fixed order. It calls no function of the C library, because these differ between
//! systems. So noise, too, has the same bits on every machine.

#![allow(clippy::inline_always, reason = "callers compile these functions for their instruction set")]

/// From this mean on, Poisson numbers come from the normal distribution's quantile.
pub const LARGE_MEAN: f64 = 10.0;

/// Below [`LARGE_MEAN`] no 32-bit word gives more photons than this.
pub const MAX_SMALL_COUNT: usize = 48;

/// 2⁻³², exactly: `powi` does not promise that.
const WORD_STEP: f64 = 1.0 / (1u64 << 32) as f64;

/// The two words of a row of a frame: one for the photons, one for the electronics.
#[must_use]
pub fn words(seed: u64, frame: u64, row: u64) -> [u32; 2] {
    let block = row / 2;
    let mut state = [block as u32, (block >> 32) as u32, frame as u32, (frame >> 32) as u32].map(|word| [word]);
    philox(&mut state, [seed as u32, (seed >> 32) as u32]);
    let first = 2 * (row % 2) as usize;
    [state[first][0], state[first + 1][0]]
}

/// Philox4x32-10 on N counters at once. Row k of `state` holds word k of each counter.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "a loop over lanes of several arrays")]
pub fn philox<const N: usize>(state: &mut [[u32; N]; 4], mut key: [u32; 2]) {
    let product = |factor: u32, x: u32| u64::from(factor) * u64::from(x);
    for _ in 0..10 {
        for i in 0..N {
            let (a, b) = (product(0xD251_1F53, state[0][i]), product(0xCD9E_8D57, state[2][i]));
            state[0][i] = (b >> 32) as u32 ^ state[1][i] ^ key[0];
            state[1][i] = b as u32;
            state[2][i] = (a >> 32) as u32 ^ state[3][i] ^ key[1];
            state[3][i] = a as u32;
        }
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
}

/// The standard normal quantile of a word. Its lowest bit matters only from 6.3 standard deviations on.
///
/// After M. Giles, "Approximating the erfinv function" (GPU Computing Gems 2, 2011), single precision.
#[inline(always)]
#[must_use]
pub fn normal(word: u32) -> f64 {
    // The top bit is the sign, the others the position in that half: full resolution in both tails.
    let tail = ((word & 0x7fff_ffff) as i32 as f32 + 0.5) * WORD_STEP as f32;
    let w = -logarithm(4.0 * tail * (1.0 - tail));
    let centre = polynomial(
        w - 2.5,
        [
            2.810_226_4e-8,
            3.432_739_4e-7,
            -3.523_387_7e-6,
            -4.391_506_5e-6,
            2.185_808_7e-4,
            -1.253_725e-3,
            -4.177_681_6e-3,
            0.246_640_73,
            1.501_409_4,
        ],
    );
    let far = polynomial(
        w.sqrt() - 3.0,
        [
            -2.002_142_6e-4,
            1.009_505_6e-4,
            1.349_343_2e-3,
            -3.673_428_4e-3,
            5.739_507_7e-3,
            -7.622_461_3e-3,
            9.438_870_5e-3,
            1.001_674,
            2.832_976_8,
        ],
    );
    let size = std::f32::consts::SQRT_2 * (1.0 - 2.0 * tail) * if w < 5.0 { centre } else { far };
    f64::from(if word >> 31 == 0 { size } else { -size })
}

/// The Poisson number of a mean, as the quantile of a word.
#[must_use]
pub fn poisson(word: u32, mean: f64) -> f64 {
    if mean >= LARGE_MEAN {
        return poisson_large(normal(word), mean);
    }
    let (uniform, mut term) = (uniform(word), exponential(-mean));
    let (mut sum, mut count) = (term, 0);
    // The terms of the distribution function, added up until they exceed the uniform number.
    while uniform > sum && count < MAX_SMALL_COUNT {
        count += 1;
        term *= mean * (1.0 / count as f64);
        sum += term;
    }
    count as f64
}

/// A word as a number between 0 and 1.
#[inline(always)]
#[must_use]
pub fn uniform(word: u32) -> f64 {
    // As i32, which every instruction set converts.
    (f64::from((word ^ 0x8000_0000) as i32) + 2_147_483_648.5) * WORD_STEP
}

/// The Poisson number of a large mean, from a normal quantile: corrected for skewness and the next order, rounded down.
///
/// After M. Giles, "Algorithm 955: approximation of the inverse Poisson cumulative distribution function" (ACM TOMS 42,
/// 2016), equation 5.
#[inline(always)]
#[must_use]
pub fn poisson_large(z: f64, mean: f64) -> f64 {
    let mean = mean.max(LARGE_MEAN);
    let (z2, root) = (z * z, mean.sqrt());
    let inverse = 1.0 / root;
    let quantile = mean + root * z + (2.0 + z2) * (1.0 / 6.0) - (z + z2 * z * 0.5) * (inverse * (1.0 / 36.0))
        + (-8.0 / 405.0 + 7.0 / 810.0 * z2 + z2 * z2 * (1.0 / 270.0)) * (inverse * inverse);
    quantile.floor().max(0.0)
}

/// A polynomial by its coefficients, those of the highest power first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    coefficients.iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// The natural logarithm of a positive normal number.
#[inline(always)]
fn logarithm(x: f32) -> f32 {
    // x = 2^exponent · mantissa, with a mantissa from √½ to √2.
    let bits = x.to_bits() as i32;
    let exponent = (bits - 0x3f35_04f3) >> 23;
    let mantissa = f32::from_bits((bits - (exponent << 23)) as u32);
    // ln m = 2 artanh((m − 1)/(m + 1)).
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let series = polynomial(s * s, [2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0]);
    exponent as f32 * std::f32::consts::LN_2 + s * series
}

/// e^x for −10 ≤ x ≤ 0: the series of e^(x/16), squared four times.
#[inline(always)]
#[must_use]
pub fn exponential(x: f64) -> f64 {
    const TERMS: usize = 14;
    const INVERSE_FACTORIALS: [f64; TERMS] = {
        let mut inverses = [1.0; TERMS];
        let mut k = 1;
        while k < TERMS {
            inverses[k] = inverses[k - 1] / k as f64;
            k += 1;
        }
        inverses
    };
    let series = INVERSE_FACTORIALS.iter().rev().fold(0.0, |sum, coefficient| sum * (x / 16.0) + coefficient);
    let fourth = series * series * (series * series);
    fourth * fourth * (fourth * fourth)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "whole numbers, and the same calculation twice")]
mod tests {
    use super::*;

    /// Known answers of Random123, `kat_vectors`, philox4x32 10.
    #[test]
    fn philox_gives_the_published_numbers() {
        let known = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in known {
            let mut state = counter.map(|word: u32| [word]);
            philox(&mut state, key);
            assert_eq!(state.map(|[word]| word), expected);
        }
    }

    fn word_of(uniform: f64) -> u32 {
        (uniform * 2f64.powi(32)) as u32
    }

    #[test]
    fn the_normal_quantile_is_right() {
        // Φ⁻¹ of the tail 2^-k, from tables of the normal distribution.
        let known = [
            (0.25, 0.674_489_75),
            (0.025, 1.959_963_98),
            (1e-3, 3.090_232_31),
            (1e-6, 4.753_424_31),
            (1e-9, 5.997_807_02),
        ];
        for (tail, z) in known {
            let upper = normal(word_of(tail));
            let lower = normal(word_of(tail) | 1 << 31);
            // A word is a step of 2^-32.
            let step = 2f64.powi(-32) / (-z * z / 2f64).exp() * 2.6;
            assert!((upper - z).abs() < 4e-6 * z + step, "{tail}: {upper} and not {z}");
            assert_eq!(upper, -lower);
        }
    }

    /// The distribution function of a Poisson number.
    fn distribution(mean: f64, count: f64) -> f64 {
        let mut term = (-mean).exp();
        let mut sum = 0.0;
        for k in 0..=count as u32 {
            sum += term;
            term *= mean / f64::from(k + 1);
        }
        sum
    }

    #[test]
    #[cfg_attr(miri, ignore = "sums of thousands of distributions")]
    fn poisson_numbers_are_the_quantiles() {
        for mean in [0.01, 0.5, 3.0, 9.9, 10.1, 30.0, 200.0] {
            let mut wrong = 0;
            let n = 4096u32;
            for i in 0..n {
                let u = (f64::from(i) + 0.5) / f64::from(n);
                // The quantile of large means reads a word as a sign and a tail.
                let word = match mean < LARGE_MEAN {
                    true => word_of(u),
                    false if u > 0.5 => word_of(1.0 - u),
                    false => word_of(u) | 1 << 31,
                };
                let count = poisson(word, mean);
                let below = if count == 0.0 { 0.0 } else { distribution(mean, count - 1.0) };
                wrong += u32::from(!(below < u && u <= distribution(mean, count)));
            }
            // Only a uniform number next to a step may end on the wrong side of it.
            assert!(f64::from(wrong) / f64::from(n) < 2e-3, "{wrong} of {n} at mean {mean}");
        }
    }
}

//! A detector's noise as a pure function of (seed, frame, row): uniform words, and Gaussian and Poisson numbers from them.
//!
//! The words are those of Philox4x32 with 10 rounds (Salmon et al., SC'11), a stream of its own beside that of T, made of
//! plain multiplications that compilers vectorise. A block serves two rows: the even one takes its first two words, the
//! odd one the others; of two words the first decides the photons, the second the electronics.
//!
//! Everything here is IEEE arithmetic in a fixed order, without the C library's functions, which differ between systems:
//! noise, too, has the same bits on every machine. Loops run over [`LANES`] rows at a time, for the compiler.

#![allow(clippy::inline_always, reason = "callers compile these loops for their instruction set")]
#![allow(clippy::needless_range_loop, reason = "loops over lanes of several arrays")]

/// Rows that are worked on together.
pub(crate) const LANES: usize = 64;

/// A number for each of some rows.
pub(crate) type Lanes<T> = [T; LANES];

/// From this mean on, Poisson numbers come from the normal distribution's quantile.
const MANY: f64 = 10.0;

/// 2⁻³², exactly: `powi` does not promise that.
const WORD_STEP: f64 = 1.0 / (1u64 << 32) as f64;

/// Below [`MANY`] no 32-bit word asks for more photons than this.
const MOST_OF_FEW: usize = 48;

/// Counts between two looks whether all is counted; a divisor of [`MOST_OF_FEW`].
const STRIDE: usize = 4;

/// The two words of each row of a frame from `first_row` on.
#[inline(always)]
pub(crate) fn words(seed: u64, frame: u64, first_row: u64, shot: &mut Lanes<u32>, read: &mut Lanes<u32>) {
    const BLOCKS: usize = LANES / 2 + 1;
    let first_block = first_row / 2;
    let mut state = [[0u32; BLOCKS]; 4];
    for i in 0..BLOCKS {
        let block = first_block + i as u64;
        state[0][i] = block as u32;
        state[1][i] = (block >> 32) as u32;
        state[2][i] = frame as u32;
        state[3][i] = (frame >> 32) as u32;
    }
    philox(&mut state, [seed as u32, (seed >> 32) as u32]);
    let odd = (first_row % 2) as usize;
    let mut rows = [[0u32; 2 * BLOCKS]; 2];
    for i in 0..BLOCKS {
        rows[0][2 * i] = state[0][i];
        rows[1][2 * i] = state[1][i];
        rows[0][2 * i + 1] = state[2][i];
        rows[1][2 * i + 1] = state[3][i];
    }
    shot.copy_from_slice(&rows[0][odd..odd + LANES]);
    read.copy_from_slice(&rows[1][odd..odd + LANES]);
}

/// Philox4x32-10 on many counters at once, the words of each in the four rows of `state`.
#[inline(always)]
fn philox<const N: usize>(state: &mut [[u32; N]; 4], mut key: [u32; 2]) {
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

/// The standard normal quantile of each word: its lowest bit decides nothing less than 6.3 standard deviations away.
///
/// After M. Giles, "Approximating the erfinv function" (GPU Computing Gems 2, 2011), single precision.
#[inline(always)]
pub(crate) fn normal(words: &Lanes<u32>) -> Lanes<f64> {
    let mut z = [0.0; LANES];
    for (z, &word) in z.iter_mut().zip(words) {
        // The top bit is the sign, the others how far out in that half: full resolution in both tails.
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
        *z = f64::from(if word >> 31 == 0 { size } else { -size });
    }
    z
}

/// A Poisson number of each mean, the quantile of each word.
#[inline(always)]
pub(crate) fn poisson(words: &Lanes<u32>, means: &Lanes<f64>) -> Lanes<f64> {
    // Sums of integers, which compilers vectorise.
    let many = means.iter().map(|&mean| u32::from(mean >= MANY)).sum::<u32>();
    let (few, many) = ((many as usize) < LANES, many > 0);
    match (few, many) {
        (true, false) => poisson_few(words, means),
        (false, _) => poisson_many(words, means),
        (true, true) => {
            let (mut counts, large) = (poisson_few(words, means), poisson_many(words, means));
            for ((count, large), &mean) in counts.iter_mut().zip(large).zip(means) {
                *count = if mean < MANY { *count } else { large };
            }
            counts
        }
    }
}

/// Small means: how many values of the distribution function lie below a uniform number.
#[inline(always)]
fn poisson_few(words: &Lanes<u32>, means: &Lanes<f64>) -> Lanes<f64> {
    let mut uniform = [0.0; LANES];
    let (mut term, mut mean) = ([0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        // As i32, which every instruction set converts.
        uniform[i] = (f64::from((words[i] ^ 0x8000_0000) as i32) + 2_147_483_648.5) * WORD_STEP;
        mean[i] = if means[i] < MANY { means[i] } else { 0.0 };
        term[i] = exponential(-mean[i]);
    }
    let mut sum = term;
    let mut counts = [0.0; LANES];
    for first in (1..=MOST_OF_FEW).step_by(STRIDE) {
        for k in first..first + STRIDE {
            let inverse = 1.0 / k as f64;
            for i in 0..LANES {
                counts[i] += if uniform[i] > sum[i] { 1.0 } else { 0.0 };
                term[i] *= mean[i] * inverse;
                sum[i] += term[i];
            }
        }
        if uniform.iter().zip(&sum).map(|(uniform, sum)| u32::from(uniform > sum)).sum::<u32>() == 0 {
            break;
        }
    }
    counts
}

/// Large means: the normal quantile, corrected for skewness and what follows, rounded down.
///
/// After M. Giles, "Algorithm 955: approximation of the inverse Poisson cumulative distribution function" (ACM TOMS 42,
/// 2016), equation 5.
#[inline(always)]
fn poisson_many(words: &Lanes<u32>, means: &Lanes<f64>) -> Lanes<f64> {
    let z = normal(words);
    let mut counts = [0.0; LANES];
    for i in 0..LANES {
        let (z, mean) = (z[i], means[i].max(MANY));
        let (z2, root) = (z * z, mean.sqrt());
        let inverse = 1.0 / root;
        let quantile = mean + root * z + (2.0 + z2) * (1.0 / 6.0) - (z + z2 * z * 0.5) * (inverse * (1.0 / 36.0))
            + (-8.0 / 405.0 + 7.0 / 810.0 * z2 + z2 * z2 * (1.0 / 270.0)) * (inverse * inverse);
        counts[i] = quantile.floor().max(0.0);
    }
    counts
}

/// The coefficients of the highest power come first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    coefficients.iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// The natural logarithm of a positive normal number.
#[inline(always)]
fn logarithm(x: f32) -> f32 {
    // x = 2^exponent · mantissa, with a mantissa around 1, from √½ to √2.
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
fn exponential(x: f64) -> f64 {
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

    #[test]
    fn words_depend_on_the_row_and_not_on_where_one_begins() {
        let all = |first| {
            let (mut shot, mut read) = ([0; LANES], [0; LANES]);
            words(7, 3, first, &mut shot, &mut read);
            (shot, read)
        };
        let (shot, read) = all(10);
        for first in [11, 12, 13] {
            let (later_shot, later_read) = all(first);
            let skip = (first - 10) as usize;
            assert_eq!(shot[skip..], later_shot[..LANES - skip]);
            assert_eq!(read[skip..], later_read[..LANES - skip]);
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
            let upper = normal(&[word_of(tail); LANES])[0];
            let lower = normal(&[word_of(tail) | 1 << 31; LANES])[0];
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
            let n = 4096;
            for i in (0..n).step_by(LANES) {
                let uniform: Lanes<f64> =
                    std::array::from_fn(|lane| (f64::from((i + lane) as u32) + 0.5) / f64::from(n as u32));
                // The quantile of large means reads a word as a sign and a tail.
                let words = uniform.map(|u| match mean < MANY {
                    true => word_of(u),
                    false if u > 0.5 => word_of(1.0 - u),
                    false => word_of(u) | 1 << 31,
                });
                for (count, u) in poisson(&words, &[mean; LANES]).into_iter().zip(uniform) {
                    let below = if count == 0.0 { 0.0 } else { distribution(mean, count - 1.0) };
                    wrong += u32::from(!(below < u && u <= distribution(mean, count)));
                }
            }
            // Only a uniform number next to a step may end on the wrong side of it.
            assert!(f64::from(wrong) / f64::from(n as u32) < 2e-3, "{wrong} of {n} at mean {mean}");
        }
    }

    #[test]
    fn mixed_means_are_those_of_each_alone() {
        let mut shot = [0; LANES];
        words(1, 2, 3, &mut shot, &mut [0; LANES]);
        let means: Lanes<f64> = std::array::from_fn(|i| i as f64 / 2.0);
        let mixed = poisson(&shot, &means);
        for (i, count) in mixed.into_iter().enumerate() {
            assert_eq!(count, poisson(&shot, &[means[i]; LANES])[i]);
        }
        assert_eq!(mixed[0], 0.0);
    }
}

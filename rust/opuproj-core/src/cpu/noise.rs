//! The noise of many pixels at a time, in loops that compilers vectorise: the numbers of [`definition::noise`](crate::definition::noise).

#![allow(clippy::inline_always, reason = "callers compile these loops for their instruction set")]
#![allow(clippy::needless_range_loop, reason = "loops over several arrays")]

use crate::definition::noise::{self, LARGE_MEAN, MAX_SMALL_COUNT};

/// Pixels, each that of a row of T, that are worked on together.
pub(super) const PIXELS: usize = 64;

/// A number for each of these pixels.
pub(super) type Pixels<T> = [T; PIXELS];

/// Counts between two checks whether all pixels are done; a divisor of [`MAX_SMALL_COUNT`].
const COUNTS_PER_CHECK: usize = 4;

/// The two words of each row of a frame from `first_row` on.
#[inline(always)]
pub(super) fn words(seed: u64, frame: u64, first_row: u64, shot: &mut Pixels<u32>, read: &mut Pixels<u32>) {
    const BLOCKS: usize = PIXELS / 2 + 1;
    let first_block = first_row / 2;
    let mut state = [[0u32; BLOCKS]; 4];
    for i in 0..BLOCKS {
        let block = first_block + i as u64;
        state[0][i] = block as u32;
        state[1][i] = (block >> 32) as u32;
        state[2][i] = frame as u32;
        state[3][i] = (frame >> 32) as u32;
    }
    noise::philox(&mut state, [seed as u32, (seed >> 32) as u32]);
    let odd = (first_row % 2) as usize;
    let mut rows = [[0u32; 2 * BLOCKS]; 2];
    for i in 0..BLOCKS {
        rows[0][2 * i] = state[0][i];
        rows[1][2 * i] = state[1][i];
        rows[0][2 * i + 1] = state[2][i];
        rows[1][2 * i + 1] = state[3][i];
    }
    shot.copy_from_slice(&rows[0][odd..odd + PIXELS]);
    read.copy_from_slice(&rows[1][odd..odd + PIXELS]);
}

/// The standard normal quantile of each word.
#[inline(always)]
pub(super) fn normal(words: &Pixels<u32>) -> Pixels<f64> {
    let mut z = [0.0; PIXELS];
    for (z, &word) in z.iter_mut().zip(words) {
        *z = noise::normal(word);
    }
    z
}

/// A Poisson number of each mean, the quantile of each word.
#[inline(always)]
pub(super) fn poisson(words: &Pixels<u32>, means: &Pixels<f64>) -> Pixels<f64> {
    // A sum of integers, which compilers vectorise.
    let n_large = means.iter().map(|&mean| u32::from(mean >= LARGE_MEAN)).sum::<u32>();
    let (any_small, any_large) = ((n_large as usize) < PIXELS, n_large > 0);
    match (any_small, any_large) {
        (true, false) => poisson_small(words, means),
        (false, _) => poisson_large(words, means),
        (true, true) => {
            let (mut counts, large) = (poisson_small(words, means), poisson_large(words, means));
            for ((count, large), &mean) in counts.iter_mut().zip(large).zip(means) {
                *count = if mean < LARGE_MEAN { *count } else { large };
            }
            counts
        }
    }
}

/// Small means: how many values of the distribution function lie below a uniform number.
#[inline(always)]
fn poisson_small(words: &Pixels<u32>, means: &Pixels<f64>) -> Pixels<f64> {
    let mut uniform = [0.0; PIXELS];
    let (mut term, mut mean) = ([0.0; PIXELS], [0.0; PIXELS]);
    for i in 0..PIXELS {
        uniform[i] = noise::uniform(words[i]);
        mean[i] = if means[i] < LARGE_MEAN { means[i] } else { 0.0 };
        term[i] = noise::exponential(-mean[i]);
    }
    let mut sum = term;
    let mut counts = [0.0; PIXELS];
    for first in (1..=MAX_SMALL_COUNT).step_by(COUNTS_PER_CHECK) {
        for k in first..first + COUNTS_PER_CHECK {
            let inverse = 1.0 / k as f64;
            for i in 0..PIXELS {
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

/// Large means.
#[inline(always)]
fn poisson_large(words: &Pixels<u32>, means: &Pixels<f64>) -> Pixels<f64> {
    // In a loop of its own: float32 has twice as many lanes.
    let z = normal(words);
    let mut counts = [0.0; PIXELS];
    for i in 0..PIXELS {
        counts[i] = noise::poisson_large(z[i], means[i]);
    }
    counts
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the same bits are asked for")]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_definition() {
        for first_row in [0, 10, 11, (1 << 40) + 1] {
            let (mut shot, mut read) = ([0; PIXELS], [0; PIXELS]);
            words(7, 3 << 33, first_row, &mut shot, &mut read);
            for (i, row) in (first_row..).take(PIXELS).enumerate() {
                assert_eq!([shot[i], read[i]], noise::words(7, 3 << 33, row), "row {row}");
            }
        }
    }

    #[test]
    fn normal_and_poisson_numbers_are_those_of_the_definition() {
        let mut shot = [0; PIXELS];
        words(1, 2, 3, &mut shot, &mut [0; PIXELS]);
        let z = normal(&shot);
        // Small means alone, large means alone, and both.
        for (start, step) in [(0.0, 0.15), (10.0, 31.0), (0.0, 0.5)] {
            let means: Pixels<f64> = std::array::from_fn(|i| start + i as f64 * step);
            let counts = poisson(&shot, &means);
            for i in 0..PIXELS {
                assert_eq!(z[i], noise::normal(shot[i]));
                assert_eq!(counts[i], noise::poisson(shot[i], means[i]), "mean {}", means[i]);
            }
        }
        for word in [0, 1, u32::MAX, 1 << 31, (1 << 31) - 1] {
            for mean in [0.0, 1e-9, 9.999, 10.0, 1e9] {
                assert_eq!(poisson(&[word; PIXELS], &[mean; PIXELS])[0], noise::poisson(word, mean), "{word} {mean}");
            }
        }
    }
}

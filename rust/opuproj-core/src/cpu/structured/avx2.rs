//! Transforms with AVX2: a line is two registers.

use std::arch::x86_64::*;

use super::lanes::{LANES, Lanes, Line, Pass, unrolled};
use super::registers::registers;

/// Runs a pass with these lanes.
///
/// # Safety
///
/// The CPU must have AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run<P: Pass>(pass: P) -> P::Output {
    pass.run::<Ymm>()
}

registers!(
    Ymm, 2 of __m256, 8 lanes,
    _mm256_setzero_ps, _mm256_load_ps, _mm256_store_ps, _mm256_add_ps, _mm256_sub_ps
);

/// Moves bit l of a word to the sign bit of lane l. The first register has the low byte, the second the high byte.
#[inline(always)]
unsafe fn spread(word: u16) -> [__m256; 2] {
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        let word = _mm256_set1_epi32(i32::from(word));
        let low = _mm256_sllv_epi32(word, _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24));
        let high = _mm256_sllv_epi32(word, _mm256_setr_epi32(23, 22, 21, 20, 19, 18, 17, 16));
        [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
    }
}

impl Lanes for Ymm {
    #[inline(always)]
    fn flip(self, word: u16) -> Self {
        // SAFETY: values of this type exist only inside `run`, which enables the instructions.
        unsafe {
            let (bits, sign) = (spread(word), _mm256_set1_ps(-0.0));
            Self([
                _mm256_xor_ps(self.0[0], _mm256_and_ps(bits[0], sign)),
                _mm256_xor_ps(self.0[1], _mm256_and_ps(bits[1], sign)),
            ])
        }
    }

    #[inline(always)]
    fn ones(word: u16) -> Self {
        // SAFETY: values of this type exist only inside `run`, which enables the instructions.
        unsafe {
            let (bits, one) = (spread(word), _mm256_set1_ps(1.0));
            let mut lanes = [one; 2];
            for (lanes, bits) in lanes.iter_mut().zip(bits) {
                // An arithmetic shift copies the sign bit to the whole lane.
                let mask = _mm256_castsi256_ps(_mm256_srai_epi32::<31>(_mm256_castps_si256(bits)));
                *lanes = _mm256_and_ps(mask, one);
            }
            Self(lanes)
        }
    }

    #[inline(always)]
    fn transpose(lines: &mut [Self; LANES]) {
        // SAFETY: values of this type exist only inside `run`, which enables the instructions.
        unsafe {
            let mut quarters = [[[_mm256_setzero_ps(); 8]; 2]; 2];
            unrolled!(q < 4 => {
                let (top, half) = (q / 2, q % 2);
                let quarter = &mut quarters[top][half];
                unrolled!(k < 8 => { quarter[k] = lines[8 * top + k].0[half]; });
                transpose_eight(quarter);
            });
            unrolled!(k < 16 => { lines[k].0 = [quarters[0][k / 8][k % 8], quarters[1][k / 8][k % 8]]; });
        }
    }

    #[inline(always)]
    fn flip_transposed(lines: &mut [Self; LANES], words: &[u16; LANES]) {
        // SAFETY: values of this type exist only inside `run`, which enables the instructions; the words are twice 16 bytes.
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(words.as_ptr().cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(words[8..].as_ptr().cast()));
            let sign = _mm256_set1_ps(-0.0);
            unrolled!(l < LANES => {
                let shift = _mm_cvtsi32_si128(31 - l as i32);
                let bits = _mm256_castsi256_ps(_mm256_sll_epi32(low, shift));
                lines[l].0[0] = _mm256_xor_ps(lines[l].0[0], _mm256_and_ps(bits, sign));
                let bits = _mm256_castsi256_ps(_mm256_sll_epi32(high, shift));
                lines[l].0[1] = _mm256_xor_ps(lines[l].0[1], _mm256_and_ps(bits, sign));
            });
        }
    }
}

/// Transposes eight by eight numbers.
#[inline(always)]
unsafe fn transpose_eight(rows: &mut [__m256; 8]) {
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        let mut pairs = *rows;
        unrolled!(k < 4 => {
            pairs[2 * k] = _mm256_unpacklo_ps(rows[2 * k], rows[2 * k + 1]);
            pairs[2 * k + 1] = _mm256_unpackhi_ps(rows[2 * k], rows[2 * k + 1]);
        });
        let mut fours = pairs;
        unrolled!(k < 4 => {
            let (q, half) = (k / 2, k % 2);
            let (low, high) = (pairs[4 * q + half], pairs[4 * q + 2 + half]);
            fours[4 * q + 2 * half] = _mm256_shuffle_ps::<0x44>(low, high);
            fours[4 * q + 2 * half + 1] = _mm256_shuffle_ps::<0xee>(low, high);
        });
        unrolled!(m < 4 => {
            rows[m] = _mm256_permute2f128_ps::<0x20>(fours[m], fours[4 + m]);
            rows[4 + m] = _mm256_permute2f128_ps::<0x31>(fours[m], fours[4 + m]);
        });
    }
}

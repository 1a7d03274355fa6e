//! Transforms with AVX-512: a line is one register, and the 16 lines of a butterfly fill half of the registers.

use std::arch::x86_64::*;

use super::lanes::{LANES, Lanes, Line, Pass, unrolled};
use super::passes::SignBlock;
use super::registers::registers;
use crate::definition::transmission::Transmission;

/// Runs a pass with these lanes.
///
/// # Safety
///
/// The CPU must have AVX-512 F, BW, DQ and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn run<P: Pass>(pass: P) -> P::Output {
    pass.run::<Zmm>()
}

registers!(
    Zmm, 1 of __m512, 16 lanes,
    _mm512_setzero_ps, _mm512_load_ps, _mm512_store_ps, _mm512_add_ps, _mm512_sub_ps
);

impl Lanes for Zmm {
    #[inline(always)]
    fn flip(self, word: u16) -> Self {
        // SAFETY: values of this type exist only inside `run`, which enables the instructions.
        Self([unsafe { _mm512_mask_xor_ps(self.0[0], word, self.0[0], _mm512_set1_ps(-0.0)) }])
    }

    #[inline(always)]
    fn ones(word: u16) -> Self {
        // SAFETY: values of this type exist only inside `run`, which enables the instructions.
        Self([unsafe { _mm512_maskz_mov_ps(word, _mm512_set1_ps(1.0)) }])
    }

    #[inline(always)]
    fn transpose(lines: &mut [Self; LANES]) {
        // SAFETY: values of this type exist only inside `run`, which enables the instructions.
        unsafe { transpose(lines) }
    }

    #[inline(always)]
    fn flip_transposed(lines: &mut [Self; LANES], words: &[u16; LANES]) {
        // SAFETY: values of this type exist only inside `run`, which enables the instructions; the words are 32 bytes.
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(words.as_ptr().cast()));
            let sign = _mm512_set1_epi32(i32::MIN);
            unrolled!(l < LANES => {
                // Bit l of every word becomes its highest bit: v ⊕ (shifted & sign).
                let shifted = _mm512_sll_epi32(words, _mm_cvtsi32_si128(31 - l as i32));
                let flipped = _mm512_ternarylogic_epi32::<0x78>(_mm512_castps_si512(lines[l].0[0]), shifted, sign);
                lines[l].0 = [_mm512_castsi512_ps(flipped)];
            });
        }
    }
}

/// Transposes lines and lanes: first pairs, then fours, then quarters of the registers.
#[inline(always)]
unsafe fn transpose(lines: &mut [Zmm; LANES]) {
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        let mut pairs = [_mm512_setzero_ps(); LANES];
        unrolled!(k < 8 => {
            pairs[2 * k] = _mm512_unpacklo_ps(lines[2 * k].0[0], lines[2 * k + 1].0[0]);
            pairs[2 * k + 1] = _mm512_unpackhi_ps(lines[2 * k].0[0], lines[2 * k + 1].0[0]);
        });
        // fours[4q + m]: lanes m of lines 4q to 4q + 3, in each quarter.
        let mut fours = pairs;
        unrolled!(k < 8 => {
            let (q, half) = (k / 2, k % 2);
            let low = _mm512_castps_pd(pairs[4 * q + half]);
            let high = _mm512_castps_pd(pairs[4 * q + 2 + half]);
            fours[4 * q + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            fours[4 * q + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        });
        unrolled!(m < 4 => {
            let [a, b, c, d] = [fours[m], fours[4 + m], fours[8 + m], fours[12 + m]];
            let (ab, ab_high) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
            let (cd, cd_high) = (_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
            lines[m] = Zmm([_mm512_shuffle_f32x4::<0x88>(ab, cd)]);
            lines[4 + m] = Zmm([_mm512_shuffle_f32x4::<0xdd>(ab, cd)]);
            lines[8 + m] = Zmm([_mm512_shuffle_f32x4::<0x88>(ab_high, cd_high)]);
            lines[12 + m] = Zmm([_mm512_shuffle_f32x4::<0xdd>(ab_high, cd_high)]);
        });
    }
}

/// Writes blocks of signs, four in a register and four registers at a time.
///
/// # Safety
///
/// The CPU must have AVX-512 F and BW, and VAES.
#[target_feature(enable = "avx512f,avx512bw,vaes")]
pub(super) unsafe fn signs(
    keystream: &Transmission,
    diagonal: u64,
    number: impl Fn(usize) -> u64,
    out: &mut [SignBlock],
) {
    let mut keys = [_mm512_setzero_si512(); 8];
    for (key, bytes) in keys.iter_mut().zip(keystream.round_keys()) {
        // SAFETY: a key is 16 bytes.
        *key = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
    }
    let high = diagonal as i64;
    for (k, out) in out.chunks_mut(16).enumerate() {
        let mut low = [0; 16];
        for (j, low) in low.iter_mut().enumerate().take(out.len()) {
            *low = number(16 * k + j) as i64;
        }
        let mut states = [_mm512_setzero_si512(); 4];
        for (state, low) in states.iter_mut().zip(low.as_chunks::<4>().0) {
            let counters = _mm512_set_epi64(high, low[3], high, low[2], high, low[1], high, low[0]);
            *state = _mm512_xor_si512(counters, keys[0]);
        }
        for key in &keys[1..7] {
            for state in &mut states {
                *state = _mm512_aesenc_epi128(*state, *key);
            }
        }
        for (state, out) in states.into_iter().zip(out.chunks_mut(4)) {
            let state = _mm512_aesenclast_epi128(state, keys[7]);
            // SAFETY: the mask selects two words for each block of `out`.
            unsafe {
                let words = 0xff_u8 >> (8 - 2 * out.len());
                _mm512_mask_storeu_epi64(out.as_mut_ptr().cast(), words, state);
            }
        }
    }
}

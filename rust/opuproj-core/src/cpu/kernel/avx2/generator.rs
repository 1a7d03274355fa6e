//! The keystream and the entries of T in quads of columns, and loads and stores of registers.

use std::arch::x86_64::*;

use crate::definition::transmission::{MAGNITUDE, Transmission};

/// Columns that are generated together.
pub(super) const QUAD: usize = 4;

/// The constants of generating T.
pub(super) struct Generator {
    /// The keys of rounds 1 to 7.
    pub(super) round_keys: [__m128i; 7],
    /// Sixteen entries of the table in each, all but the first XORed with the sixteen before.
    pub(super) table: [__m256i; 8],
    /// The key of round 0: the seed in the low half, the stream in the high half.
    pub(super) whitening: [u64; 2],
}

impl Generator {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn new(t: &Transmission, bias: u8) -> Self {
        let round_keys = t.round_keys();
        let half = |k: usize| u64::from_le_bytes(round_keys[0][8 * k..8 * k + 8].try_into().expect("eight bytes"));
        let steps: [[u8; 16]; 8] = std::array::from_fn(|k| {
            std::array::from_fn(|i| {
                let entry = |k: usize| MAGNITUDE[16 * k + i] + bias;
                if k == 0 { entry(0) } else { entry(k) ^ entry(k - 1) }
            })
        });
        Self {
            round_keys: std::array::from_fn(|k| load(&round_keys[k + 1])),
            table: std::array::from_fn(|k| _mm256_broadcastsi128_si256(load(&steps[k]))),
            whitening: [half(0), half(1)],
        }
    }

    /// The row block's half of the counters, XORed with the key of round 0.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn row(&self, row_block: u64) -> __m128i {
        _mm_set_epi64x(self.whitening[1] as i64, (row_block ^ self.whitening[0]) as i64)
    }

    /// The keystream of one row block in four columns: columns 0 and 2, then 1 and 3, side by side.
    #[target_feature(enable = "avx2,aes")]
    #[inline]
    pub(super) fn bytes(&self, row: __m128i, columns: [u64; QUAD], last_keys: [__m128i; QUAD]) -> [__m256i; 2] {
        self.rounds(columns.map(|column| _mm_xor_si128(row, _mm_set_epi64x(column as i64, 0))), last_keys)
    }

    /// The keystream of four counters, each XORed with the key of round 0: counters 0 and 2, then 1 and 3, side by side.
    #[target_feature(enable = "avx2,aes")]
    #[inline]
    pub(super) fn rounds(&self, mut states: [__m128i; QUAD], last_keys: [__m128i; QUAD]) -> [__m256i; 2] {
        for round_key in &self.round_keys[..6] {
            for state in &mut states {
                *state = _mm_aesenc_si128(*state, *round_key);
            }
        }
        for (state, last_key) in states.iter_mut().zip(last_keys) {
            *state = _mm_aesenclast_si128(*state, last_key);
        }
        [_mm256_set_m128i(states[2], states[0]), _mm256_set_m128i(states[3], states[1])]
    }

    /// The entries (plus the bias) that bytes stand for.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn entries(&self, bytes: __m256i) -> __m256i {
        let index = _mm256_and_si256(bytes, _mm256_set1_epi8(127));
        let mut magnitudes = _mm256_shuffle_epi8(self.table[0], index);
        let mut step = index;
        for table in &self.table[1..] {
            // A shuffle gives 0 for a negative index, so a step of the table changes only larger indices.
            step = _mm256_sub_epi8(step, _mm256_set1_epi8(16));
            magnitudes = _mm256_xor_si256(magnitudes, _mm256_shuffle_epi8(*table, step));
        }
        // Modulo 256 the negative of 128 + m is 128 − m. The 1 is there because `vpsignb` would clear the entry of a byte 0.
        _mm256_sign_epi8(magnitudes, _mm256_or_si256(bytes, _mm256_set1_epi8(1)))
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: reads 16 bytes of an array of 16.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store(register: __m128i, bytes: &mut [u8; 16]) {
    // SAFETY: writes 16 bytes of an array of 16.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), register) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_half(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: reads 32 bytes of an array of 32.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_sums(sums: &[i32; 8]) -> __m256i {
    // SAFETY: reads 8 integers of an array of 8.
    unsafe { _mm256_loadu_si256(sums.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store_sums(register: __m256i, sums: &mut [i32; 8]) {
    // SAFETY: writes 8 integers of an array of 8.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), register) }
}

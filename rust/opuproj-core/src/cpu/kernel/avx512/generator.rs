//! The keystream of T, four columns in a register, for fields and panels, and the bare keystream.

use std::arch::x86_64::*;

use super::sizes::QUAD;
use crate::cpu::kernel::contract::TILE_BLOCKS;
use crate::definition::transmission::{MAGNITUDE, Transmission};

/// The constants of generating T, which stay in registers.
///
/// The first round is computed once for each row block and once for each column, not once for each pair. That works because
/// the round substitutes each byte of the counter by itself and then mixes the bytes linearly, and each byte belongs either
/// to the row block or to the column.
pub(super) struct Generator {
    /// The keys of rounds 1 to 7, each in all four lanes.
    pub(super) round_keys: [__m512i; 7],
    /// The table of magnitudes.
    pub(super) magnitudes: [__m512i; 2],
    /// The permutation: byte 4·component + column takes byte 16·column + component.
    pub(super) interleave: __m512i,
    /// The key of round 0 for row blocks: the seed.
    row_key: u64,
    /// The key of round 0 for columns: the stream, in the high half of every lane.
    column_key: __m512i,
}

impl Generator {
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    pub(super) fn new(t: &Transmission, bias: u8) -> Self {
        let round_keys = t.round_keys();
        let half = |k: usize| u64::from_le_bytes(round_keys[0][8 * k..8 * k + 8].try_into().expect("eight bytes"));
        let stream = half(1) as i64;
        let table: [u8; 128] = std::array::from_fn(|i| MAGNITUDE[i] + bias);
        let interleave: [u8; 64] = std::array::from_fn(|i| (16 * (i % QUAD) + i / QUAD) as u8);
        Self {
            round_keys: std::array::from_fn(|k| broadcast(&round_keys[k + 1])),
            magnitudes: [
                load(table[..64].try_into().expect("64 bytes")),
                load(table[64..].try_into().expect("64 bytes")),
            ],
            interleave: load(&interleave),
            row_key: half(0),
            column_key: _mm512_set_epi64(stream, 0, stream, 0, stream, 0, stream, 0),
        }
    }

    /// The part of a row block in the state after the first round, in every lane.
    #[target_feature(enable = "avx512f,vaes")]
    #[inline]
    pub(super) fn row(&self, row_block: u64) -> __m512i {
        self.rows([row_block; QUAD])
    }

    /// The part of four row blocks in that state, a row block a lane.
    #[target_feature(enable = "avx512f,vaes")]
    #[inline]
    pub(super) fn rows(&self, row_blocks: [u64; QUAD]) -> __m512i {
        let [a, b, c, d] = row_blocks.map(|row_block| (row_block ^ self.row_key) as i64);
        let state = _mm512_aesenc_epi128(_mm512_set_epi64(0, d, 0, c, 0, b, 0, a), self.round_keys[0]);
        // Takes off what the round makes of the zero bytes of the other half; the sum of both parts would have it twice.
        let zero = _mm512_setzero_si512();
        _mm512_xor_si512(state, _mm512_aesenc_epi128(zero, zero))
    }

    /// The part of four columns in that state, a column a lane.
    #[target_feature(enable = "avx512f,vaes")]
    #[inline]
    pub(super) fn columns(&self, columns: [u64; QUAD]) -> __m512i {
        let [a, b, c, d] = columns.map(|column| column as i64);
        let counters = _mm512_xor_si512(_mm512_set_epi64(d, 0, c, 0, b, 0, a, 0), self.column_key);
        _mm512_aesenc_epi128(counters, _mm512_setzero_si512())
    }

    /// The key of the last round with the signs of four inputs, which cost nothing there.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub(super) fn signed_key(&self, signs: [u8; QUAD]) -> __m512i {
        // Lane k takes byte k.
        let to_lanes = _mm512_set_epi64(
            0x0303_0303_0303_0303,
            0x0303_0303_0303_0303,
            0x0202_0202_0202_0202,
            0x0202_0202_0202_0202,
            0x0101_0101_0101_0101,
            0x0101_0101_0101_0101,
            0,
            0,
        );
        let signs = _mm512_shuffle_epi8(_mm512_set1_epi32(i32::from_le_bytes(signs)), to_lanes);
        _mm512_xor_si512(self.round_keys[6], signs)
    }

    /// The keystream of four pairs of a row block and a column, a pair a lane.
    #[target_feature(enable = "avx512f,vaes")]
    #[inline]
    pub(super) fn rounds(&self, row: __m512i, columns: __m512i, last_key: __m512i) -> __m512i {
        let mut state = _mm512_xor_si512(row, columns);
        for round_key in &self.round_keys[1..6] {
            state = _mm512_aesenc_epi128(state, *round_key);
        }
        _mm512_aesenclast_epi128(state, last_key)
    }

    /// Puts the four columns of each component side by side.
    #[target_feature(enable = "avx512f,avx512vbmi")]
    #[inline]
    pub(super) fn interleave(&self, bytes: __m512i) -> __m512i {
        _mm512_permutexvar_epi8(self.interleave, bytes)
    }

    /// The magnitudes (plus the bias) that bytes stand for. The top bit of a byte is ignored.
    #[target_feature(enable = "avx512f,avx512vbmi")]
    #[inline]
    pub(super) fn magnitudes(&self, bytes: __m512i) -> __m512i {
        _mm512_permutex2var_epi8(self.magnitudes[0], bytes, self.magnitudes[1])
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
pub(super) fn keystream(t: &Transmission, n_bytes: u64) -> u64 {
    let Generator { round_keys, row_key, column_key, .. } = Generator::new(t, 0);
    let rows: [__m512i; TILE_BLOCKS] = std::array::from_fn(|k| {
        let low = (k as u64 ^ row_key) as i64;
        _mm512_or_si512(_mm512_set_epi64(0, low, 0, low, 0, low, 0, low), column_key)
    });
    let mut folds = rows;
    let mut columns = _mm512_setzero_si512();
    let step = _mm512_set_epi64(1, 0, 1, 0, 1, 0, 1, 0);
    for _ in 0..n_bytes.div_ceil(64 * TILE_BLOCKS as u64) {
        for (fold, row) in folds.iter_mut().zip(&rows) {
            let mut state = _mm512_xor_si512(*row, columns);
            for round_key in &round_keys[..6] {
                state = _mm512_aesenc_epi128(state, *round_key);
            }
            *fold = _mm512_xor_si512(*fold, _mm512_aesenclast_epi128(state, round_keys[6]));
        }
        columns = _mm512_add_epi64(columns, step);
    }
    folds.iter().fold(0, |fold, part| fold ^ _mm512_reduce_add_epi64(*part) as u64)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn broadcast(bytes: &[u8; 16]) -> __m512i {
    // SAFETY: reads 16 bytes of an array of 16.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: reads 64 bytes of an array of 64.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

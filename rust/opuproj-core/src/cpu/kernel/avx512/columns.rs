//! Panels of contiguous columns, and sums of the columns that a sparse vector uses.

use std::arch::x86_64::*;

use super::generator::Generator;
use super::panel::entries;
use super::sizes::QUAD;
use crate::cpu::kernel::contract::{COLUMN_BIAS, COLUMN_BLOCKS, COLUMN_COMPONENTS, PanelColumn, SignedPositions};
use crate::definition::transmission::{BLOCK_COMPONENTS, Transmission};

/// Writes a panel of columns. A register holds a column, a row block a lane.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
pub(super) fn column_panel(t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [PanelColumn]) {
    let generator = Generator::new(t, COLUMN_BIAS);
    let rows: [u64; COLUMN_BLOCKS] = std::array::from_fn(|k| row_block.wrapping_add(k as u64));
    let rows = generator.rows(rows);
    for (columns, output) in columns.chunks(QUAD).zip(panel.chunks_mut(QUAD)) {
        let mut quad = [0; QUAD];
        quad[..columns.len()].copy_from_slice(columns);
        // The first round is computed for four columns at once.
        let quad = generator.columns(quad);
        let of_each = [
            _mm512_shuffle_i64x2::<0x00>(quad, quad),
            _mm512_shuffle_i64x2::<0x55>(quad, quad),
            _mm512_shuffle_i64x2::<0xaa>(quad, quad),
            _mm512_shuffle_i64x2::<0xff>(quad, quad),
        ];
        for (column, output) in of_each.into_iter().zip(output) {
            let bytes = generator.rounds(rows, column, generator.round_keys[6]);
            // SAFETY: writes 64 bytes of an array of 64.
            unsafe { _mm512_storeu_si512(output.0.as_mut_ptr().cast(), entries(&generator, bytes)) }
        }
    }
}

/// Adds the columns of a panel; see `Kernel::add_columns`, and `PanelColumn` for the method.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn add_columns(panel: &[PanelColumn], x: SignedPositions<'_>, sums: &mut [i32; COLUMN_COMPONENTS]) {
    for run in x.runs() {
        let bias = run.bias();
        let mut highs = _mm512_set1_epi16(bias);
        let mut pairs = _mm512_set1_epi16(bias.wrapping_mul(257));
        for &position in run.positive {
            let lanes = load_column(&panel[usize::from(position)]);
            pairs = _mm512_add_epi16(pairs, lanes);
            highs = _mm512_add_epi16(highs, _mm512_srli_epi16::<8>(lanes));
        }
        for &position in run.negative {
            let lanes = load_column(&panel[usize::from(position)]);
            pairs = _mm512_sub_epi16(pairs, lanes);
            highs = _mm512_sub_epi16(highs, _mm512_srli_epi16::<8>(lanes));
        }
        let lows = _mm512_sub_epi16(pairs, _mm512_slli_epi16::<8>(highs));
        // Each lane of 128 bits has eight components of the front, and the next eight of the back.
        let (front, back) = (_mm512_unpacklo_epi16(lows, highs), _mm512_unpackhi_epi16(lows, highs));
        let first = _mm512_permutex2var_epi64(front, _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), back);
        let second = _mm512_permutex2var_epi64(front, _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4), back);
        let sixteens = [
            _mm512_castsi512_si256(first),
            _mm512_extracti64x4_epi64::<1>(first),
            _mm512_castsi512_si256(second),
            _mm512_extracti64x4_epi64::<1>(second),
        ];
        for (sixteen, sums) in sixteens.into_iter().zip(sums.as_chunks_mut::<BLOCK_COMPONENTS>().0) {
            let sixteen = _mm512_cvtepi16_epi32(sixteen);
            // SAFETY: reads and writes 16 integers of an array of 16.
            unsafe {
                let sums = sums.as_mut_ptr().cast();
                _mm512_storeu_si512(sums, _mm512_add_epi32(_mm512_loadu_si512(sums), sixteen));
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_column(column: &PanelColumn) -> __m512i {
    // SAFETY: reads 64 bytes of an array of 64.
    unsafe { _mm512_loadu_si512(column.0.as_ptr().cast()) }
}

//! Panels of contiguous columns, and sums of the columns that a sparse vector uses.

use std::arch::x86_64::*;

use super::generator::{Generator, QUAD, load_half, load_sums, store_sums};
use crate::cpu::kernel::contract::{COLUMN_BIAS, COLUMN_BLOCKS, COLUMN_COMPONENTS, PanelColumn, SignedPositions};
use crate::definition::transmission::Transmission;

/// Registers of a column.
const REGISTERS: usize = 2;

/// Writes a panel of columns.
#[target_feature(enable = "avx2,aes")]
pub(super) fn column_panel(t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [PanelColumn]) {
    let generator = Generator::new(t, COLUMN_BIAS);
    let last_keys = [generator.round_keys[6]; QUAD];
    // In the order in which `rounds` returns them, two at a time.
    let rows: [__m128i; COLUMN_BLOCKS] = [0, 2, 1, 3].map(|block| generator.row(row_block.wrapping_add(block)));
    for (&column, output) in columns.iter().zip(panel) {
        let column = _mm_set_epi64x(column as i64, 0);
        let bytes = generator.rounds(rows.map(|row| _mm_xor_si128(row, column)), last_keys);
        for (bytes, output) in bytes.into_iter().zip(output.0.as_chunks_mut::<32>().0) {
            // SAFETY: writes 32 bytes of an array of 32.
            unsafe { _mm256_storeu_si256(output.as_mut_ptr().cast(), generator.entries(bytes)) }
        }
    }
}

/// Adds the columns of a panel; see `Kernel::add_columns`, and `PanelColumn` for the method.
#[target_feature(enable = "avx2")]
pub(super) fn add_columns(panel: &[PanelColumn], x: SignedPositions<'_>, sums: &mut [i32; COLUMN_COMPONENTS]) {
    for run in x.runs() {
        let bias = run.bias();
        let mut highs = [_mm256_set1_epi16(bias); REGISTERS];
        let mut pairs = [_mm256_set1_epi16(bias.wrapping_mul(257)); REGISTERS];
        for &position in run.positive {
            let lanes = load_column(&panel[usize::from(position)]);
            for (r, lanes) in lanes.into_iter().enumerate() {
                pairs[r] = _mm256_add_epi16(pairs[r], lanes);
                highs[r] = _mm256_add_epi16(highs[r], _mm256_srli_epi16::<8>(lanes));
            }
        }
        for &position in run.negative {
            let lanes = load_column(&panel[usize::from(position)]);
            for (r, lanes) in lanes.into_iter().enumerate() {
                pairs[r] = _mm256_sub_epi16(pairs[r], lanes);
                highs[r] = _mm256_sub_epi16(highs[r], _mm256_srli_epi16::<8>(lanes));
            }
        }
        for ((pairs, highs), sums) in pairs.into_iter().zip(highs).zip(sums.as_chunks_mut::<32>().0) {
            let lows = _mm256_sub_epi16(pairs, _mm256_slli_epi16::<8>(highs));
            let (front, back) = (_mm256_unpacklo_epi16(lows, highs), _mm256_unpackhi_epi16(lows, highs));
            let eights = [
                _mm256_castsi256_si128(front),
                _mm256_castsi256_si128(back),
                _mm256_extracti128_si256::<1>(front),
                _mm256_extracti128_si256::<1>(back),
            ];
            for (eight, sums) in eights.into_iter().zip(sums.as_chunks_mut::<8>().0) {
                store_sums(_mm256_add_epi32(load_sums(sums), _mm256_cvtepi16_epi32(eight)), sums);
            }
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_column(column: &PanelColumn) -> [__m256i; REGISTERS] {
    let (halves, _) = column.0.as_chunks::<32>();
    [load_half(&halves[0]), load_half(&halves[1])]
}

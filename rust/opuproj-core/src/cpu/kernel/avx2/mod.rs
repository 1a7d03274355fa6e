//! The kernel for AVX2 with AES-NI: 128-bit AES rounds, a 128-byte table as eight shuffles, and `vpmaddubsw`.
//!
//! Columns are generated in quads, as in the AVX-512 kernel. A row block of a quad becomes the same 64 bytes: 16 components,
//! each with its four columns side by side.

mod columns;
mod generator;

use std::arch::x86_64::*;

use super::contract::{
    COLUMN_COMPONENTS, ColumnShape, PanelColumn, PanelShape, Product, SignedColumns, SignedPositions,
};
use super::safe::safe_methods;
use crate::definition::transmission::{BLOCK_COMPONENTS, Transmission};
use columns::{add_columns, column_panel};
use generator::{Generator, QUAD, load_half, load_sums, store, store_sums};

/// One operand of `vpmaddubsw` is unsigned, so panels hold T + 128.
const BIAS: u8 = 128;

/// The multiplication unrolls over this many vectors. With the two halves of a block, 8 of the 16 registers are sums.
const VECTORS: usize = 4;

/// Quads whose int16 sums cannot overflow in `multiply` for inputs up to 1: a quad adds at most 2 × 228, and 71 × 456 < 2¹⁵.
/// For inputs up to k it is divided by k.
const MULTIPLY_QUADS: usize = 65;

/// Quads whose int16 sums cannot overflow in `field`: two columns of a lane add at most 200, and 163 × 200 < 2¹⁵.
const FIELD_QUADS: usize = 160;

/// The kernel for AVX2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) const SHAPE: PanelShape = PanelShape {
        bias: BIAS as i32,
        column_multiple: QUAD,
        panel_blocks: 1,
        // 16 × 1024 bytes a block: half of a first-level cache.
        panel_columns: 1024,
        max_input: 13,
        overlaps: false,
        multiply_cost: 0.03,
    };

    pub(super) const COLUMNS: ColumnShape = ColumnShape {
        // 128 KiB: half of the smallest second-level cache.
        panel_columns: 2048,
        entry_cost: 1.0,
        addition_cost: 0.06,
        sum_cost: 1.7,
    };

    pub(super) fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("aes")).then_some(Self(()))
    }
}

safe_methods!(Avx2, "avx2", field, panel, transposed, multiply, column_panel, add_columns, planes, keystream);

#[target_feature(enable = "avx2,aes")]
fn field(t: &Transmission, x: SignedColumns<'_>, row_block: u64, sums: &mut [i32]) {
    let generator = Generator::new(t, 0);
    let (quads, rest) = x.index.as_chunks::<QUAD>();
    let (quad_signs, left_signs) = x.sign.as_chunks::<QUAD>();
    let every = [_mm256_set1_epi8(-1); 2];
    let (mut rest_columns, mut rest_signs) = ([0; QUAD], [0; QUAD]);
    rest_columns[..rest.len()].copy_from_slice(rest);
    rest_signs[..rest.len()].copy_from_slice(left_signs);
    let lane = |k: usize| _mm_set1_epi8(if k < rest.len() { -1 } else { 0 });
    let used = [_mm256_set_m128i(lane(2), lane(0)), _mm256_set_m128i(lane(3), lane(1))];
    for (block, sums) in (0..).zip(sums.chunks_exact_mut(BLOCK_COMPONENTS)) {
        let row = generator.row(row_block.wrapping_add(block));
        for (quads, signs) in quads.chunks(FIELD_QUADS).zip(quad_signs.chunks(FIELD_QUADS)) {
            let mut totals = [_mm256_setzero_si256(); 2];
            for (columns, signs) in quads.iter().zip(signs) {
                add_quad(&generator, row, *columns, *signs, every, &mut totals);
            }
            widen(totals, sums);
        }
        if !rest.is_empty() {
            let mut totals = [_mm256_setzero_si256(); 2];
            add_quad(&generator, row, rest_columns, rest_signs, used, &mut totals);
            widen(totals, sums);
        }
    }
}

/// Adds four columns times their signs to the int16 sums of a block: components 0 to 7, then 8 to 15; columns 0 and 1 in
/// the low lane, 2 and 3 in the high lane.
#[target_feature(enable = "avx2,aes")]
#[inline]
fn add_quad(
    generator: &Generator,
    row: __m128i,
    columns: [u64; QUAD],
    signs: [u8; QUAD],
    used: [__m256i; 2],
    totals: &mut [__m256i; 2],
) {
    // As part of the last round key the sign of the input costs little.
    let last_keys = signs.map(|sign| _mm_xor_si128(generator.round_keys[6], _mm_set1_epi8(sign as i8)));
    let [even, odd] = generator.bytes(row, columns, last_keys);
    let even = _mm256_and_si256(generator.entries(even), used[0]);
    let odd = _mm256_and_si256(generator.entries(odd), used[1]);
    let ones = _mm256_set1_epi8(1);
    let low = _mm256_maddubs_epi16(ones, _mm256_unpacklo_epi8(even, odd));
    let high = _mm256_maddubs_epi16(ones, _mm256_unpackhi_epi8(even, odd));
    totals[0] = _mm256_add_epi16(totals[0], low);
    totals[1] = _mm256_add_epi16(totals[1], high);
}

/// Adds both lanes of int16 sums to the int32 sums of a block.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(totals: [__m256i; 2], sums: &mut [i32]) {
    for (total, sums) in totals.into_iter().zip(sums.as_chunks_mut::<8>().0) {
        let low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(total));
        let high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(total));
        store_sums(_mm256_add_epi32(load_sums(sums), _mm256_add_epi32(low, high)), sums);
    }
}

/// Writes a panel. Its layout: row block, quad of columns, component, column.
#[target_feature(enable = "avx2,aes")]
fn panel(t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
    let generator = Generator::new(t, BIAS);
    let last_keys = [generator.round_keys[6]; QUAD];
    let (quads, _) = columns.as_chunks::<QUAD>();
    for (block, panel) in (0..).zip(panel.chunks_exact_mut(BLOCK_COMPONENTS * columns.len())) {
        let row = generator.row(row_block.wrapping_add(block));
        for (columns, output) in quads.iter().zip(panel.as_chunks_mut::<64>().0) {
            let [even, odd] = generator.bytes(row, *columns, last_keys);
            let (even, odd) = (generator.entries(even), generator.entries(odd));
            let quarters = output.as_chunks_mut::<16>().0;
            for (half, pairs) in
                [_mm256_unpacklo_epi8(even, odd), _mm256_unpackhi_epi8(even, odd)].into_iter().enumerate()
            {
                let (front, back) = (_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
                store(_mm_unpacklo_epi16(front, back), &mut quarters[2 * half]);
                store(_mm_unpackhi_epi16(front, back), &mut quarters[2 * half + 1]);
            }
        }
    }
}

/// Writes a transposed panel. Its layout: 16 columns, quad of components, column, component.
#[target_feature(enable = "avx2,aes")]
fn transposed(t: &Transmission, column: u64, row_blocks: &[u64], panel: &mut [u8]) {
    let generator = Generator::new(t, BIAS);
    let last_keys = [generator.round_keys[6]; QUAD];
    let sixteen_bytes = BLOCK_COMPONENTS * BLOCK_COMPONENTS * row_blocks.len();
    for (sixteen, panel) in (0..).zip(panel.chunks_exact_mut(sixteen_bytes)) {
        let first = column.wrapping_add(sixteen * BLOCK_COMPONENTS as u64);
        for (&row_block, output) in row_blocks.iter().zip(panel.as_chunks_mut::<256>().0) {
            let row = generator.row(row_block);
            // The output has four quads of components, each with four times four columns.
            let sixteenths = output.as_chunks_mut::<16>().0;
            for four in 0..4 {
                let columns = std::array::from_fn(|k| first.wrapping_add((QUAD * four + k) as u64));
                let [even, odd] = generator.bytes(row, columns, last_keys);
                let (even, odd) = (generator.entries(even), generator.entries(odd));
                for (half, pairs) in
                    [_mm256_unpacklo_epi32(even, odd), _mm256_unpackhi_epi32(even, odd)].into_iter().enumerate()
                {
                    let (front, back) = (_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
                    store(_mm_unpacklo_epi64(front, back), &mut sixteenths[8 * half + four]);
                    store(_mm_unpackhi_epi64(front, back), &mut sixteenths[8 * half + 4 + four]);
                }
            }
        }
    }
}

/// Multiplies a panel; see `Kernel::multiply`.
///
/// # Safety
///
/// `Product::check` has passed.
#[target_feature(enable = "avx2")]
unsafe fn multiply(product: Product<'_>) {
    let Product { panel, columns, x, largest, x_stride, n_vectors, sums, sums_stride } = product;
    let run = MULTIPLY_QUADS / usize::from(largest);
    for (block, panel) in panel.chunks_exact(BLOCK_COMPONENTS * columns).enumerate() {
        for first in (0..n_vectors).step_by(VECTORS) {
            // SAFETY: vectors `first` to `first + count - 1` and their sums for this block lie within their slices.
            unsafe {
                let x = x.as_ptr().add(first * x_stride);
                let sums = sums.as_mut_ptr().add(first * sums_stride + block * BLOCK_COMPONENTS);
                match n_vectors - first {
                    1 => multiply_few::<1>(panel, x, x_stride, run, sums, sums_stride),
                    2 => multiply_few::<2>(panel, x, x_stride, run, sums, sums_stride),
                    3 => multiply_few::<3>(panel, x, x_stride, run, sums, sums_stride),
                    _ => multiply_few::<VECTORS>(panel, x, x_stride, run, sums, sums_stride),
                }
            }
        }
    }
}

/// One row block times `N` vectors.
///
/// # Safety
///
/// `x` has four bytes for every 64 of the panel at `N` multiples of its stride, `sums` 16 writable integers at
/// `N` of its own.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn multiply_few<const N: usize>(
    panel: &[u8],
    x: *const i8,
    x_stride: usize,
    run: usize,
    sums: *mut i32,
    sums_stride: usize,
) {
    let (quads, _) = panel.as_chunks::<64>();
    for (start, quads) in quads.chunks(run).enumerate().map(|(i, quads)| (i * run, quads)) {
        let mut totals = [[_mm256_setzero_si256(); 2]; N];
        for (quad, entries) in quads.iter().enumerate() {
            let (halves, _) = entries.as_chunks::<32>();
            let entries = [load_half(&halves[0]), load_half(&halves[1])];
            for (v, totals) in totals.iter_mut().enumerate() {
                let at = v * x_stride + (start + quad) * QUAD;
                // SAFETY: the caller guarantees four bytes of each vector for every quad.
                let inputs = _mm256_set1_epi32(unsafe { x.add(at).cast::<i32>().read_unaligned() });
                for (total, entries) in totals.iter_mut().zip(entries) {
                    *total = _mm256_add_epi16(*total, _mm256_maddubs_epi16(entries, inputs));
                }
            }
        }
        for (v, totals) in totals.iter().enumerate() {
            for (half, total) in totals.iter().enumerate() {
                // SAFETY: the caller guarantees 16 sums for each of the `N` vectors.
                let sums = unsafe { &mut *sums.add(v * sums_stride + 8 * half).cast::<[i32; 8]>() };
                let total = _mm256_madd_epi16(*total, _mm256_set1_epi16(1));
                store_sums(_mm256_add_epi32(load_sums(sums), total), sums);
            }
        }
    }
}

#[target_feature(enable = "avx2")]
fn planes(codes: &[[i8; 64]], positive: &mut [u64], negative: &mut [u64]) -> bool {
    let one = _mm256_set1_epi8(1);
    let mut refused = 0;
    for (codes, (positive, negative)) in codes.iter().zip(positive.iter_mut().zip(negative)) {
        (*positive, *negative) = (0, 0);
        for (half, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
            // SAFETY: reads 32 bytes of an array of 32.
            let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) };
            let bits = |bytes| u64::from(_mm256_movemask_epi8(bytes) as u32) << (32 * half);
            *positive |= bits(_mm256_cmpeq_epi8(codes, one));
            *negative |= bits(codes);
            refused |= bits(_mm256_cmpgt_epi8(codes, one));
        }
    }
    refused != 0
}

#[target_feature(enable = "avx2,aes")]
fn keystream(t: &Transmission, n_bytes: u64) -> u64 {
    let generator = Generator::new(t, 0);
    let rows: [__m128i; 8] = std::array::from_fn(|k| generator.row(k as u64));
    let mut folds = rows;
    for column in 0..n_bytes.div_ceil(128) {
        let column = _mm_set_epi64x(column as i64, 0);
        for (fold, row) in folds.iter_mut().zip(&rows) {
            let mut state = _mm_xor_si128(*row, column);
            for round_key in &generator.round_keys[..6] {
                state = _mm_aesenc_si128(state, *round_key);
            }
            *fold = _mm_xor_si128(*fold, _mm_aesenclast_si128(state, generator.round_keys[6]));
        }
    }
    folds.iter().fold(0, |fold, part| fold ^ _mm_cvtsi128_si64(*part) as u64)
}

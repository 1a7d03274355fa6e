//! A panel times int8 vectors, by VNNI.

use std::arch::x86_64::*;

use super::sizes::{PANEL_BLOCKS, QUAD};
use crate::cpu::kernel::contract::Product;
use crate::definition::transmission::BLOCK_COMPONENTS;

/// The multiplication unrolls over this many vectors. With four blocks, 24 of the 32 registers are sums.
const VECTORS: usize = 6;

/// Quads whose inputs fill a cache line.
const PREFETCH_QUADS: usize = 64 / QUAD;

/// Multiplies a panel; see `Kernel::multiply`.
///
/// # Safety
///
/// `Product::check` has passed.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn multiply(product: Product<'_>) {
    let Product { panel, columns, x, largest: _, x_stride, n_vectors, sums, sums_stride } = product;
    for (pass, panel) in panel.chunks_exact(PANEL_BLOCKS * BLOCK_COMPONENTS * columns).enumerate() {
        for first in (0..n_vectors).step_by(VECTORS) {
            // SAFETY: vectors `first` to `first + count - 1` and their sums for this pass lie within their slices.
            unsafe {
                let x = x.as_ptr().add(first * x_stride);
                let sums = sums.as_mut_ptr().add(first * sums_stride + pass * PANEL_BLOCKS * BLOCK_COMPONENTS);
                match n_vectors - first {
                    1 => multiply_few::<1>(panel, columns, x, x_stride, sums, sums_stride),
                    2 => multiply_few::<2>(panel, columns, x, x_stride, sums, sums_stride),
                    3 => multiply_few::<3>(panel, columns, x, x_stride, sums, sums_stride),
                    4 => multiply_few::<4>(panel, columns, x, x_stride, sums, sums_stride),
                    5 => multiply_few::<5>(panel, columns, x, x_stride, sums, sums_stride),
                    _ => multiply_few::<VECTORS>(panel, columns, x, x_stride, sums, sums_stride),
                }
            }
        }
    }
}

/// Four row blocks times `N` vectors.
///
/// # Safety
///
/// `x` has `columns` readable bytes at `N` multiples of its stride, `sums` 64 writable integers at `N` of its own.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
unsafe fn multiply_few<const N: usize>(
    panel: &[u8],
    columns: usize,
    x: *const i8,
    x_stride: usize,
    sums: *mut i32,
    sums_stride: usize,
) {
    let mut totals = [[_mm512_setzero_si512(); PANEL_BLOCKS]; N];
    let quads = columns / QUAD;
    let panel = panel.as_ptr();
    for first in (0..quads).step_by(PREFETCH_QUADS) {
        // The inputs of the next vectors lie in a slower cache, at strides that the hardware does not prefetch.
        for v in N..2 * N {
            _mm_prefetch::<_MM_HINT_T0>(x.wrapping_add(v * x_stride + first * QUAD));
        }
        for quad in first..quads.min(first + PREFETCH_QUADS) {
            // SAFETY: the panel has four blocks of `quads` times 64 bytes, a vector `quads` times four bytes.
            unsafe {
                let entries: [__m512i; PANEL_BLOCKS] =
                    std::array::from_fn(|block| _mm512_loadu_si512(panel.add((block * quads + quad) * 64).cast()));
                for (v, totals) in totals.iter_mut().enumerate() {
                    let inputs = _mm512_set1_epi32(x.add(v * x_stride + quad * QUAD).cast::<i32>().read_unaligned());
                    for (total, entries) in totals.iter_mut().zip(&entries) {
                        *total = _mm512_dpbusd_epi32(*total, *entries, inputs);
                    }
                }
            }
        }
    }
    for (v, totals) in totals.iter().enumerate() {
        for (block, total) in totals.iter().enumerate() {
            // SAFETY: the caller guarantees 64 sums for each of the `N` vectors.
            unsafe {
                let sums = sums.add(v * sums_stride + block * BLOCK_COMPONENTS);
                _mm512_storeu_si512(sums.cast(), _mm512_add_epi32(_mm512_loadu_si512(sums.cast()), *total));
            }
        }
    }
}

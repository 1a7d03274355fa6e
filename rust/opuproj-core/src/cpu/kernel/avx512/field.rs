//! The field of one vector: entries of T are generated and summed in registers.

use std::arch::asm;
use std::arch::x86_64::*;

use super::generator::Generator;
use super::sizes::QUAD;
use crate::cpu::kernel::contract::{SignedColumns, TILE_BLOCKS};
use crate::definition::transmission::{BLOCK_COMPONENTS, Transmission};

/// In `field` signs are ±64, so sums are 64 times too large.
const SIGN_SHIFT: u32 = 6;

/// Quads whose sums cannot overflow, with 64 × 100 an entry: 4 × 65,536 × 6,400 < 2³¹.
const FIELD_QUADS: usize = 1 << 16;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,vaes")]
pub(super) fn field(t: &Transmission, x: SignedColumns<'_>, row_block: u64, sums: &mut [i32]) {
    let generator = Generator::new(t, 0);
    let (quads, rest) = x.index.as_chunks::<QUAD>();
    let (quad_signs, left_signs) = x.sign.as_chunks::<QUAD>();
    let (mut rest_columns, mut rest_signs) = ([0; QUAD], [0; QUAD]);
    rest_columns[..rest.len()].copy_from_slice(rest);
    rest_signs[..rest.len()].copy_from_slice(left_signs);
    let used = _mm512_set1_epi32((1i32 << (8 * rest.len())) - 1);
    for (tile, sums) in (0..).zip(sums.chunks_exact_mut(TILE_BLOCKS * BLOCK_COMPONENTS)) {
        let rows: [__m512i; TILE_BLOCKS] =
            std::array::from_fn(|k| generator.row(row_block.wrapping_add(tile * TILE_BLOCKS as u64 + k as u64)));
        let mut totals = [_mm512_setzero_si512(); TILE_BLOCKS];
        let mut runs = quads.chunks(FIELD_QUADS).zip(quad_signs.chunks(FIELD_QUADS)).peekable();
        while let Some((quads, signs)) = runs.next() {
            add_quads(&generator, &rows, quads, signs, &mut totals);
            if runs.peek().is_some() {
                add_totals(&std::mem::replace(&mut totals, [_mm512_setzero_si512(); TILE_BLOCKS]), sums);
            }
        }
        if !rest.is_empty() {
            let last_key = generator.signed_key(rest_signs);
            let columns = generator.columns(rest_columns);
            for (total, row) in totals.iter_mut().zip(&rows) {
                *total = add(*total, &generator, generator.rounds(*row, columns, last_key), used);
            }
        }
        add_totals(&totals, sums);
    }
}

/// Adds the totals of a tile, which are 64 times too large, to its sums.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_totals(totals: &[__m512i; TILE_BLOCKS], sums: &mut [i32]) {
    for (total, sums) in totals.iter().zip(sums.as_chunks_mut::<BLOCK_COMPONENTS>().0) {
        let total = _mm512_srai_epi32::<SIGN_SHIFT>(*total);
        store_sums(_mm512_add_epi32(load_sums(sums), total), sums);
    }
}

/// Adds the entries of one row block in the `used` columns of a quad to its sums.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
#[inline]
fn add(total: __m512i, generator: &Generator, bytes: __m512i, used: __m512i) -> __m512i {
    let bytes = generator.interleave(bytes);
    // (bytes & 128) | 64 is 64 or, with the top bit, −64: a sign in one operation, on an execution port that AES does not use.
    let (top_bit, one) = (_mm512_set1_epi8(-128), _mm512_set1_epi8(1 << SIGN_SHIFT));
    let sign = _mm512_ternarylogic_epi32::<0xf8>(one, bytes, top_bit);
    _mm512_dpbusd_epi32(total, generator.magnitudes(bytes), _mm512_and_si512(sign, used))
}

/// The same for whole quads and a tile of row blocks.
///
/// AES rounds use one execution port, and the operations on their bytes mostly use the other. So the rounds of a row block
/// run in parallel with the sums of the row block four before it, with all keys in registers. No compiler found this order.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni,vaes")]
#[inline]
fn add_quads(
    generator: &Generator,
    rows: &[__m512i; TILE_BLOCKS],
    quads: &[[u64; QUAD]],
    signs: &[[u8; QUAD]],
    totals: &mut [__m512i; TILE_BLOCKS],
) {
    /// Generates the bytes of one row block and sums those of another.
    macro_rules! step {
        ($new:literal, $old:literal) => {
            concat!(
                "vpxorq {b",
                $new,
                "}, {columns}, [{rows} + 64 * ",
                $new,
                "]\n",
                "vpermb {b",
                $old,
                "}, {interleave}, {b",
                $old,
                "}\n",
                "vaesenc {b",
                $new,
                "}, {b",
                $new,
                "}, {k1}\n",
                "vmovdqa64 {sign}, {one}\n",
                "vpternlogd {sign}, {b",
                $old,
                "}, {top_bit}, 0xf8\n",
                "vaesenc {b",
                $new,
                "}, {b",
                $new,
                "}, {k2}\n",
                "vaesenc {b",
                $new,
                "}, {b",
                $new,
                "}, {k3}\n",
                "vpermi2b {b",
                $old,
                "}, {low}, {high}\n",
                "vaesenc {b",
                $new,
                "}, {b",
                $new,
                "}, {k4}\n",
                "vaesenc {b",
                $new,
                "}, {b",
                $new,
                "}, {k5}\n",
                "vpdpbusd {t",
                $old,
                "}, {b",
                $old,
                "}, {sign}\n",
                "vaesenclast {b",
                $new,
                "}, {b",
                $new,
                "}, {last_key}\n",
            )
        };
    }
    let [_, k1, k2, k3, k4, k5, _] = generator.round_keys;
    let [mut t0, mut t1, mut t2, mut t3, mut t4, mut t5, mut t6, mut t7] = *totals;
    // A byte of 0 stands for an entry of 0, so the first step adds nothing.
    let mut sign = _mm512_setzero_si512();
    let [mut b0, mut b1, mut b2, mut b3, mut b4, mut b5, mut b6, mut b7] = [sign; TILE_BLOCKS];
    for (columns, signs) in quads.iter().zip(signs) {
        // SAFETY: the instructions are enabled here, and only the eight rows are read.
        unsafe {
            asm!(
                step!(0, 4), step!(1, 5), step!(2, 6), step!(3, 7), step!(4, 0), step!(5, 1), step!(6, 2), step!(7, 3),
                rows = in(reg) rows.as_ptr(),
                columns = in(zmm_reg) generator.columns(*columns),
                k1 = in(zmm_reg) k1, k2 = in(zmm_reg) k2, k3 = in(zmm_reg) k3, k4 = in(zmm_reg) k4, k5 = in(zmm_reg) k5,
                last_key = in(zmm_reg) generator.signed_key(*signs),
                interleave = in(zmm_reg) generator.interleave,
                low = in(zmm_reg) generator.magnitudes[0],
                high = in(zmm_reg) generator.magnitudes[1],
                one = in(zmm_reg) _mm512_set1_epi8(1 << SIGN_SHIFT),
                top_bit = in(zmm_reg) _mm512_set1_epi8(-128),
                sign = inout(zmm_reg) sign,
                b0 = inout(zmm_reg) b0, b1 = inout(zmm_reg) b1, b2 = inout(zmm_reg) b2, b3 = inout(zmm_reg) b3,
                b4 = inout(zmm_reg) b4, b5 = inout(zmm_reg) b5, b6 = inout(zmm_reg) b6, b7 = inout(zmm_reg) b7,
                t0 = inout(zmm_reg) t0, t1 = inout(zmm_reg) t1, t2 = inout(zmm_reg) t2, t3 = inout(zmm_reg) t3,
                t4 = inout(zmm_reg) t4, t5 = inout(zmm_reg) t5, t6 = inout(zmm_reg) t6, t7 = inout(zmm_reg) t7,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
    }
    *totals = [t0, t1, t2, t3, t4, t5, t6, t7];
    for (total, bytes) in totals[4..].iter_mut().zip([b4, b5, b6, b7]) {
        *total = add(*total, generator, bytes, _mm512_set1_epi8(-1));
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_sums(sums: &[i32; BLOCK_COMPONENTS]) -> __m512i {
    // SAFETY: reads 16 integers of an array of 16.
    unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store_sums(register: __m512i, sums: &mut [i32; BLOCK_COMPONENTS]) {
    // SAFETY: writes 16 integers of an array of 16.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), register) }
}

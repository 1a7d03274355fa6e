//! The kernel for AVX-512: 512-bit AES rounds, a 128-byte table in two registers, and VNNI.
//!
//! A 64-byte register holds one row block of four columns, a column a lane. One byte permutation turns that into the
//! groups of four that VNNI sums: 16 components, each with its four columns side by side.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{Product, Shape, SignedColumns, TILE_BLOCKS};
use crate::transmission::{BLOCK_COMPONENTS, MAGNITUDE, Transmission};

/// Columns in a register.
const GROUP: usize = 4;

/// Row blocks that the multiplication unrolls over.
const PANEL_BLOCKS: usize = 4;

/// Vectors that the multiplication unrolls over: with four blocks, 24 of the 32 registers are sums.
const VECTORS: usize = 6;

/// Groups whose inputs fill a cache line.
const PREFETCH_GROUPS: usize = 64 / GROUP;

/// VNNI wants one side unsigned: panels hold T + 128.
const BIAS: u8 = 128;

/// In `field`, signs are ±64 and sums 64 times too large.
const SIGN_SHIFT: u32 = 6;

/// Groups whose sums of 64 × 100 an entry cannot overflow: 4 × 65,536 × 6,400 < 2³¹.
const FIELD_RUN: usize = 1 << 16;

/// The kernel for AVX-512.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) const SHAPE: Shape = Shape {
        bias: BIAS as i32,
        column_multiple: GROUP,
        panel_blocks: PANEL_BLOCKS,
        // 4 blocks × 16 × 512 bytes: two thirds of a 48 KiB first-level cache.
        panel_columns: 512,
        max_input: 127,
        multiply_cost: 0.05,
    };

    pub(super) fn new() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("vaes");
        found.then_some(Self(()))
    }

    pub(super) fn field(self, t: &Transmission, x: SignedColumns<'_>, row_block: u64, sums: &mut [i32]) {
        // SAFETY: a value of this type exists only where `new` found the instructions.
        unsafe { field(t, x, row_block, sums) }
    }

    /// Layout: row block, group of four columns, component, column.
    pub(super) fn panel(self, t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
        // SAFETY: as in `field`.
        unsafe { panel_of::<BIAS>(t, columns, row_block, panel) }
    }

    /// The same layout without the bias, for tiles that multiply signed by signed.
    pub(super) fn signed_panel(self, t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
        // SAFETY: as in `field`.
        unsafe { panel_of::<0>(t, columns, row_block, panel) }
    }

    /// Layout: 16 columns, group of four components, column, component.
    pub(super) fn transposed(self, t: &Transmission, column: u64, row_blocks: &[u64], panel: &mut [u8]) {
        // SAFETY: as in `field`.
        unsafe { transposed_of::<BIAS>(t, column, row_blocks, panel) }
    }

    /// The same layout without the bias.
    pub(super) fn signed_transposed(self, t: &Transmission, column: u64, row_blocks: &[u64], panel: &mut [u8]) {
        // SAFETY: as in `field`.
        unsafe { transposed_of::<0>(t, column, row_blocks, panel) }
    }

    pub(super) fn multiply(self, product: Product<'_>) {
        // SAFETY: as in `field`; `Kernel::multiply` has checked that vectors and sums lie within their slices.
        unsafe { multiply(product) }
    }

    #[inline]
    pub(super) fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        fn run<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: as in `field`.
        unsafe { run(work) }
    }

    pub(super) fn planes(self, codes: &[[i8; 64]], positive: &mut [u64], negative: &mut [u64]) -> bool {
        // SAFETY: as in `field`.
        unsafe { planes(codes, positive, negative) }
    }

    pub(super) fn keystream(self, t: &Transmission, n_bytes: u64) -> u64 {
        // SAFETY: as in `field`.
        unsafe { keystream(t, n_bytes) }
    }
}

/// What stays in registers while T is generated.
///
/// The first round is done once a row block and once a column, and not once for both: it looks at each byte of the
/// counter by itself and then mixes them linearly, and a byte is either the row block's or the column's.
struct Generator {
    /// The keys of rounds 1 to 7, each in all four lanes.
    round_keys: [__m512i; 7],
    /// The table of magnitudes.
    magnitudes: [__m512i; 2],
    /// Byte 4·component + column takes byte 16·column + component.
    interleave: __m512i,
    /// Key of round 0 for row blocks: the seed.
    row_key: u64,
    /// Key of round 0 for columns, the stream, in the high half of every lane.
    column_key: __m512i,
}

impl Generator {
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    fn new(t: &Transmission, bias: u8) -> Self {
        let round_keys = t.round_keys();
        let half = |k: usize| u64::from_le_bytes(round_keys[0][8 * k..8 * k + 8].try_into().expect("eight bytes"));
        let stream = half(1) as i64;
        let table: [u8; 128] = std::array::from_fn(|i| MAGNITUDE[i] + bias);
        let interleave: [u8; 64] = std::array::from_fn(|i| (16 * (i % GROUP) + i / GROUP) as u8);
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

    /// The row block's part of the state after the first round, in every lane.
    #[target_feature(enable = "avx512f,vaes")]
    #[inline]
    fn row(&self, row_block: u64) -> __m512i {
        let low = (row_block ^ self.row_key) as i64;
        let state = _mm512_aesenc_epi128(_mm512_set_epi64(0, low, 0, low, 0, low, 0, low), self.round_keys[0]);
        // What the bytes of the other half gave, as zeros: both parts together have it once too often.
        let zero = _mm512_setzero_si512();
        _mm512_xor_si512(state, _mm512_aesenc_epi128(zero, zero))
    }

    /// The columns' part of it, a column a lane.
    #[target_feature(enable = "avx512f,vaes")]
    #[inline]
    fn columns(&self, columns: [u64; GROUP]) -> __m512i {
        let [a, b, c, d] = columns.map(|column| column as i64);
        let counters = _mm512_xor_si512(_mm512_set_epi64(d, 0, c, 0, b, 0, a, 0), self.column_key);
        _mm512_aesenc_epi128(counters, _mm512_setzero_si512())
    }

    /// The last round's key with the signs of four inputs: they cost nothing there.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn turned_key(&self, signs: [u8; GROUP]) -> __m512i {
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
        let turned = _mm512_shuffle_epi8(_mm512_set1_epi32(i32::from_le_bytes(signs)), to_lanes);
        _mm512_xor_si512(self.round_keys[6], turned)
    }

    /// The keystream of one row block in four columns, a column a lane.
    #[target_feature(enable = "avx512f,vaes")]
    #[inline]
    fn rounds(&self, row: __m512i, columns: __m512i, last_key: __m512i) -> __m512i {
        let mut state = _mm512_xor_si512(row, columns);
        for round_key in &self.round_keys[1..6] {
            state = _mm512_aesenc_epi128(state, *round_key);
        }
        _mm512_aesenclast_epi128(state, last_key)
    }

    /// Four columns of a component side by side.
    #[target_feature(enable = "avx512f,avx512vbmi")]
    #[inline]
    fn interleave(&self, bytes: __m512i) -> __m512i {
        _mm512_permutexvar_epi8(self.interleave, bytes)
    }

    /// The magnitudes (plus the bias) that bytes stand for; the top bit of a byte has no say.
    #[target_feature(enable = "avx512f,avx512vbmi")]
    #[inline]
    fn magnitudes(&self, bytes: __m512i) -> __m512i {
        _mm512_permutex2var_epi8(self.magnitudes[0], bytes, self.magnitudes[1])
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,vaes")]
fn field(t: &Transmission, x: SignedColumns<'_>, row_block: u64, sums: &mut [i32]) {
    let generator = Generator::new(t, 0);
    let (groups, rest) = x.index.as_chunks::<GROUP>();
    let (group_signs, left_signs) = x.sign.as_chunks::<GROUP>();
    let (mut rest_columns, mut rest_signs) = ([0; GROUP], [0; GROUP]);
    rest_columns[..rest.len()].copy_from_slice(rest);
    rest_signs[..rest.len()].copy_from_slice(left_signs);
    let used = _mm512_set1_epi32((1i32 << (8 * rest.len())) - 1);
    for (tile, sums) in (0..).zip(sums.chunks_exact_mut(TILE_BLOCKS * BLOCK_COMPONENTS)) {
        let rows: [__m512i; TILE_BLOCKS] =
            std::array::from_fn(|k| generator.row(row_block.wrapping_add(tile * TILE_BLOCKS as u64 + k as u64)));
        let mut totals = [_mm512_setzero_si512(); TILE_BLOCKS];
        let mut runs = groups.chunks(FIELD_RUN).zip(group_signs.chunks(FIELD_RUN)).peekable();
        while let Some((groups, signs)) = runs.next() {
            add_groups(&generator, &rows, groups, signs, &mut totals);
            if runs.peek().is_some() {
                add_totals(&std::mem::replace(&mut totals, [_mm512_setzero_si512(); TILE_BLOCKS]), sums);
            }
        }
        if !rest.is_empty() {
            let last_key = generator.turned_key(rest_signs);
            let columns = generator.columns(rest_columns);
            for (total, row) in totals.iter_mut().zip(&rows) {
                *total = add(*total, &generator, generator.rounds(*row, columns, last_key), used);
            }
        }
        add_totals(&totals, sums);
    }
}

/// Adds a tile's totals, 64 times too large, to its sums.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_totals(totals: &[__m512i; TILE_BLOCKS], sums: &mut [i32]) {
    for (total, sums) in totals.iter().zip(sums.as_chunks_mut::<BLOCK_COMPONENTS>().0) {
        let total = _mm512_srai_epi32::<SIGN_SHIFT>(*total);
        store_sums(_mm512_add_epi32(load_sums(sums), total), sums);
    }
}

/// Adds the entries of one row block in four columns, or in the `used` ones among them, to its sums.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
#[inline]
fn add(total: __m512i, generator: &Generator, bytes: __m512i, used: __m512i) -> __m512i {
    let bytes = generator.interleave(bytes);
    // (bytes & 128) | 64 is 64 or, with the top bit, −64: a sign in one operation, on a port that AES leaves free.
    let (top_bit, one) = (_mm512_set1_epi8(-128), _mm512_set1_epi8(1 << SIGN_SHIFT));
    let sign = _mm512_ternarylogic_epi32::<0xf8>(one, bytes, top_bit);
    _mm512_dpbusd_epi32(total, generator.magnitudes(bytes), _mm512_and_si512(sign, used))
}

/// The same for whole groups of columns and a tile of row blocks.
///
/// AES rounds want one port, and what becomes of their bytes mostly the other: the rounds of a row block go side by side
/// with the sums of the one four before, all keys in registers, as no compiler arranges them (docs/performance.md).
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni,vaes")]
#[inline]
fn add_groups(
    generator: &Generator,
    rows: &[__m512i; TILE_BLOCKS],
    groups: &[[u64; GROUP]],
    signs: &[[u8; GROUP]],
    totals: &mut [__m512i; TILE_BLOCKS],
) {
    /// Generates the bytes of one row block, and adds up those of another.
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
    // Bytes of 0 stand for entries of 0, which the first step may add.
    let mut sign = _mm512_setzero_si512();
    let [mut b0, mut b1, mut b2, mut b3, mut b4, mut b5, mut b6, mut b7] = [sign; TILE_BLOCKS];
    for (columns, signs) in groups.iter().zip(signs) {
        // SAFETY: the instructions are among those enabled here, and nothing but eight rows is read.
        unsafe {
            asm!(
                step!(0, 4), step!(1, 5), step!(2, 6), step!(3, 7), step!(4, 0), step!(5, 1), step!(6, 2), step!(7, 3),
                rows = in(reg) rows.as_ptr(),
                columns = in(zmm_reg) generator.columns(*columns),
                k1 = in(zmm_reg) k1, k2 = in(zmm_reg) k2, k3 = in(zmm_reg) k3, k4 = in(zmm_reg) k4, k5 = in(zmm_reg) k5,
                last_key = in(zmm_reg) generator.turned_key(*signs),
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

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
fn panel_of<const OFFSET: u8>(t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
    let generator = Generator::new(t, OFFSET);
    let block_bytes = BLOCK_COMPONENTS * columns.len();
    for (pass, panel) in (0..).zip(panel.chunks_exact_mut(PANEL_BLOCKS * block_bytes)) {
        let rows: [__m512i; PANEL_BLOCKS] =
            std::array::from_fn(|k| generator.row(row_block.wrapping_add(pass * PANEL_BLOCKS as u64 + k as u64)));
        write_groups(&generator, &rows, columns.as_chunks::<GROUP>().0, panel);
    }
}

/// The entries (plus the offset) that bytes stand for.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn entries(generator: &Generator, bytes: __m512i) -> __m512i {
    let magnitudes = generator.magnitudes(bytes);
    // Modulo 256, the negative of 128 + m is 128 − m: one table serves both panels.
    _mm512_mask_sub_epi8(magnitudes, _mm512_movepi8_mask(bytes), _mm512_setzero_si512(), magnitudes)
}

/// Writes the entries of four row blocks, one after the other, for groups of columns; arranged as in `add_groups`.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
#[inline]
fn write_groups(generator: &Generator, rows: &[__m512i; PANEL_BLOCKS], groups: &[[u64; GROUP]], panel: &mut [u8]) {
    /// Generates the bytes of one row block, and stores the entries of the group before.
    macro_rules! step {
        ($block:literal, $output:literal) => {
            concat!(
                "vpxorq {new}, {columns}, [{rows} + 64 * ",
                $block,
                "]\n",
                "vpermb {b",
                $block,
                "}, {interleave}, {b",
                $block,
                "}\n",
                "vaesenc {new}, {new}, {k1}\n",
                "vptestmb {negative}, {b",
                $block,
                "}, {top_bit}\n",
                "vaesenc {new}, {new}, {k2}\n",
                "vaesenc {new}, {new}, {k3}\n",
                "vpermi2b {b",
                $block,
                "}, {low}, {high}\n",
                "vaesenc {new}, {new}, {k4}\n",
                "vaesenc {new}, {new}, {k5}\n",
                "vpsubb {b",
                $block,
                "}{{{negative}}}, {zero}, {b",
                $block,
                "}\n",
                "vmovdqu64 [{output}",
                $output,
                "], {b",
                $block,
                "}\n",
                "vaesenclast {b",
                $block,
                "}, {new}, {last_key}\n",
            )
        };
    }
    assert_eq!(panel.len(), PANEL_BLOCKS * groups.len() * 64, "a register for each block and group");
    let Some((first, rest)) = groups.split_first() else { return };
    let [_, k1, k2, k3, k4, k5, last_key] = generator.round_keys;
    let columns = generator.columns(*first);
    let mut new = columns;
    let [mut b0, mut b1, mut b2, mut b3] = rows.map(
        #[inline(always)]
        |row| generator.rounds(row, columns, last_key),
    );
    let stride = groups.len() * 64;
    let mut output = panel.as_mut_ptr();
    for columns in rest {
        // SAFETY: the instructions are among those enabled here; four rows are read, and the group before is written in
        // each block.
        unsafe {
            asm!(
                step!(0, ""), step!(1, " + {stride}"), step!(2, " + 2 * {stride}"), step!(3, " + {thrice}"),
                rows = in(reg) rows.as_ptr(),
                output = in(reg) output,
                stride = in(reg) stride,
                thrice = in(reg) 3 * stride,
                columns = in(zmm_reg) generator.columns(*columns),
                k1 = in(zmm_reg) k1, k2 = in(zmm_reg) k2, k3 = in(zmm_reg) k3, k4 = in(zmm_reg) k4, k5 = in(zmm_reg) k5,
                last_key = in(zmm_reg) last_key,
                interleave = in(zmm_reg) generator.interleave,
                low = in(zmm_reg) generator.magnitudes[0],
                high = in(zmm_reg) generator.magnitudes[1],
                top_bit = in(zmm_reg) _mm512_set1_epi8(-128),
                zero = in(zmm_reg) _mm512_setzero_si512(),
                negative = out(kreg) _,
                new = inout(zmm_reg) new,
                b0 = inout(zmm_reg) b0, b1 = inout(zmm_reg) b1, b2 = inout(zmm_reg) b2, b3 = inout(zmm_reg) b3,
                options(nostack, preserves_flags),
            );
            output = output.add(64);
        }
    }
    for (bytes, block) in [b0, b1, b2, b3].into_iter().zip(panel.chunks_exact_mut(stride)) {
        store(entries(generator, generator.interleave(bytes)), block.last_chunk_mut().expect("a group"));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
fn transposed_of<const OFFSET: u8>(t: &Transmission, column: u64, row_blocks: &[u64], panel: &mut [u8]) {
    let generator = Generator::new(t, OFFSET);
    let sixteen_bytes = BLOCK_COMPONENTS * BLOCK_COMPONENTS * row_blocks.len();
    for (sixteen, panel) in (0..).zip(panel.chunks_exact_mut(sixteen_bytes)) {
        let first = column.wrapping_add(sixteen * BLOCK_COMPONENTS as u64);
        // Lane l of register r is column 4l + r: transposing each lane's four by four groups puts all columns in order.
        let columns: [__m512i; GROUP] = std::array::from_fn(|r| {
            generator.columns(std::array::from_fn(|l| first.wrapping_add((GROUP * l + r) as u64)))
        });
        for (&row_block, output) in row_blocks.iter().zip(panel.as_chunks_mut::<256>().0) {
            let row = generator.row(row_block);
            let [a, b, c, d] =
                columns.map(|columns| entries(&generator, generator.rounds(row, columns, generator.round_keys[6])));
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            let quarters = output.as_chunks_mut::<64>().0;
            store(_mm512_unpacklo_epi64(ab, cd), &mut quarters[0]);
            store(_mm512_unpackhi_epi64(ab, cd), &mut quarters[1]);
            store(_mm512_unpacklo_epi64(ab_high, cd_high), &mut quarters[2]);
            store(_mm512_unpackhi_epi64(ab_high, cd_high), &mut quarters[3]);
        }
    }
}

/// Multiplies a panel; see `Kernel::multiply`.
///
/// # Safety
///
/// `Product::check` has passed.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn multiply(product: Product<'_>) {
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
    let groups = columns / GROUP;
    let panel = panel.as_ptr();
    for first in (0..groups).step_by(PREFETCH_GROUPS) {
        // The next vectors' inputs come from a cache too far away to wait for, in strides that the CPU does not foresee.
        for v in N..2 * N {
            _mm_prefetch::<_MM_HINT_T0>(x.wrapping_add(v * x_stride + first * GROUP));
        }
        for group in first..groups.min(first + PREFETCH_GROUPS) {
            // SAFETY: the panel has four blocks of `groups` groups of 64 bytes, a vector `groups` groups of four.
            unsafe {
                let entries: [__m512i; PANEL_BLOCKS] =
                    std::array::from_fn(|block| _mm512_loadu_si512(panel.add((block * groups + group) * 64).cast()));
                for (v, totals) in totals.iter_mut().enumerate() {
                    let inputs = _mm512_set1_epi32(x.add(v * x_stride + group * GROUP).cast::<i32>().read_unaligned());
                    for (total, entries) in totals.iter_mut().zip(&entries) {
                        *total = _mm512_dpbusd_epi32(*total, *entries, inputs);
                    }
                }
            }
        }
    }
    for (v, totals) in totals.iter().enumerate() {
        for (block, total) in totals.iter().enumerate() {
            // SAFETY: the caller gives 64 sums to each of the `N` vectors.
            unsafe {
                let sums = sums.add(v * sums_stride + block * BLOCK_COMPONENTS);
                _mm512_storeu_si512(sums.cast(), _mm512_add_epi32(_mm512_loadu_si512(sums.cast()), *total));
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn planes(codes: &[[i8; 64]], positive: &mut [u64], negative: &mut [u64]) -> bool {
    let mut refused = 0;
    for (codes, (positive, negative)) in codes.iter().zip(positive.iter_mut().zip(negative)) {
        // SAFETY: reads 64 bytes of an array of 64.
        let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
        *positive = _mm512_cmpeq_epi8_mask(codes, _mm512_set1_epi8(1));
        *negative = _mm512_movepi8_mask(codes);
        refused |= _mm512_cmpgt_epi8_mask(codes, _mm512_set1_epi8(1));
    }
    refused != 0
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
fn keystream(t: &Transmission, n_bytes: u64) -> u64 {
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

#[target_feature(enable = "avx512f")]
#[inline]
fn store(register: __m512i, bytes: &mut [u8; 64]) {
    // SAFETY: writes 64 bytes of an array of 64.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), register) }
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

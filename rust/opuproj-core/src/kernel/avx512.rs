//! The kernel for AVX-512: 512-bit AES rounds, a 128-byte table in two registers, and VNNI.
//!
//! A 64-byte register holds one row block of four columns, a column a lane. One byte permutation turns that into the
//! groups of four that VNNI sums: 16 components, each with its four columns side by side.

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
struct Generator {
    /// The keys of rounds 1 to 7, each in all four lanes.
    round_keys: [__m512i; 7],
    /// The table of magnitudes.
    magnitudes: [__m512i; 2],
    /// Byte 4·component + column takes byte 16·column + component.
    interleave: __m512i,
    /// Key of round 0: seed in the low half, stream in the high half.
    whitening: [u64; 2],
}

impl Generator {
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    fn new(t: &Transmission, bias: u8) -> Self {
        let round_keys = t.round_keys();
        let half = |k: usize| u64::from_le_bytes(round_keys[0][8 * k..8 * k + 8].try_into().expect("eight bytes"));
        let table: [u8; 128] = std::array::from_fn(|i| MAGNITUDE[i] + bias);
        let interleave: [u8; 64] = std::array::from_fn(|i| (16 * (i % GROUP) + i / GROUP) as u8);
        Self {
            round_keys: std::array::from_fn(|k| broadcast(&round_keys[k + 1])),
            magnitudes: [
                load(table[..64].try_into().expect("64 bytes")),
                load(table[64..].try_into().expect("64 bytes")),
            ],
            interleave: load(&interleave),
            whitening: [half(0), half(1)],
        }
    }

    /// The row's half of the counters, already whitened, in every lane.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn row(&self, row_block: u64) -> __m512i {
        let low = (row_block ^ self.whitening[0]) as i64;
        let high = self.whitening[1] as i64;
        _mm512_set_epi64(high, low, high, low, high, low, high, low)
    }

    /// The columns' half of the counters.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn columns(columns: [u64; GROUP]) -> __m512i {
        let [a, b, c, d] = columns.map(|column| column as i64);
        _mm512_set_epi64(d, 0, c, 0, b, 0, a, 0)
    }

    /// The keystream of one row block in four columns, interleaved; `last_key` may turn signs.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
    #[inline]
    fn bytes(&self, row: __m512i, columns: __m512i, last_key: __m512i) -> __m512i {
        let mut state = _mm512_xor_si512(row, columns);
        for round_key in &self.round_keys[..6] {
            state = _mm512_aesenc_epi128(state, *round_key);
        }
        _mm512_permutexvar_epi8(self.interleave, _mm512_aesenclast_epi128(state, last_key))
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
    let every = _mm512_set1_epi8(-1);
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
            for (columns, signs) in groups.iter().zip(signs) {
                add_group::<false>(&generator, &rows, *columns, *signs, every, &mut totals);
            }
            if runs.peek().is_some() {
                add_totals(&std::mem::replace(&mut totals, [_mm512_setzero_si512(); TILE_BLOCKS]), sums);
            }
        }
        if !rest.is_empty() {
            add_group::<true>(&generator, &rows, rest_columns, rest_signs, used, &mut totals);
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

/// Adds four columns times their signs to the sums of a tile; `PART` keeps to the columns `used`.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni,vaes")]
#[inline]
fn add_group<const PART: bool>(
    generator: &Generator,
    rows: &[__m512i; TILE_BLOCKS],
    columns: [u64; GROUP],
    signs: [u8; GROUP],
    used: __m512i,
    totals: &mut [__m512i; TILE_BLOCKS],
) {
    let (top_bit, one) = (_mm512_set1_epi8(-128), _mm512_set1_epi8(1 << SIGN_SHIFT));
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
    let columns = Generator::columns(columns);
    // The input's sign costs nothing as part of the last round key.
    let turned = _mm512_shuffle_epi8(_mm512_set1_epi32(i32::from_le_bytes(signs)), to_lanes);
    let last_key = _mm512_xor_si512(generator.round_keys[6], turned);
    for (total, row) in totals.iter_mut().zip(rows) {
        let bytes = generator.bytes(load_again(row), columns, last_key);
        // (bytes & 128) | 64 is 64 or, with the top bit, −64: a sign in one operation, on a port that AES leaves free.
        let mut sign = _mm512_ternarylogic_epi32::<0xf8>(one, bytes, top_bit);
        if PART {
            sign = _mm512_and_si512(sign, used);
        }
        *total = _mm512_dpbusd_epi32(*total, generator.magnitudes(bytes), sign);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
fn panel_of<const OFFSET: u8>(t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
    let generator = Generator::new(t, OFFSET);
    // As a constant, the compiler would test it by an instruction that needs the port of the AES rounds.
    let top_bit = load_again(&_mm512_set1_epi8(-128));
    let (groups, _) = columns.as_chunks::<GROUP>();
    let block_bytes = BLOCK_COMPONENTS * columns.len();
    for (pass, panel) in (0..).zip(panel.chunks_exact_mut(PANEL_BLOCKS * block_bytes)) {
        let rows: [__m512i; PANEL_BLOCKS] =
            std::array::from_fn(|k| generator.row(row_block.wrapping_add(pass * PANEL_BLOCKS as u64 + k as u64)));
        let (first, rest) = panel.split_at_mut(block_bytes);
        let (second, rest) = rest.split_at_mut(block_bytes);
        let (third, fourth) = rest.split_at_mut(block_bytes);
        let mut outputs = [first, second, third, fourth].map(|block| block.as_chunks_mut::<64>().0.iter_mut());
        for columns in groups {
            let columns = Generator::columns(*columns);
            for (row, output) in rows.iter().zip(&mut outputs) {
                let bytes = generator.bytes(*row, columns, generator.round_keys[6]);
                let magnitudes = generator.magnitudes(bytes);
                // Modulo 256, the negative of 128 + m is 128 − m: one table serves both panels.
                let negative = _mm512_test_epi8_mask(bytes, top_bit);
                let entries = _mm512_mask_sub_epi8(magnitudes, negative, _mm512_setzero_si512(), magnitudes);
                if let Some(output) = output.next() {
                    store(entries, output);
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
    let generator = Generator::new(t, 0);
    let rows: [__m512i; TILE_BLOCKS] = std::array::from_fn(|k| generator.row(k as u64));
    let mut folds = rows;
    let mut columns = _mm512_setzero_si512();
    let step = Generator::columns([1; GROUP]);
    for _ in 0..n_bytes.div_ceil(64 * TILE_BLOCKS as u64) {
        for (fold, row) in folds.iter_mut().zip(&rows) {
            let mut state = _mm512_xor_si512(*row, columns);
            for round_key in &generator.round_keys[..6] {
                state = _mm512_aesenc_epi128(state, *round_key);
            }
            *fold = _mm512_xor_si512(*fold, _mm512_aesenclast_epi128(state, generator.round_keys[6]));
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

/// Loads a register from memory each time: sums, keys and tables leave no room for rows to stay in registers, and what
/// the compiler spills instead costs more.
#[target_feature(enable = "avx512f")]
#[inline]
fn load_again(register: &__m512i) -> __m512i {
    // SAFETY: a reference is valid to read.
    unsafe { std::ptr::read_volatile(register) }
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

//! The kernel for any CPU: plain loops, and the AES rounds of the `aes` crate, which uses hardware AES where there is any.

use aes::hazmat::{self, Block8};

use super::contract::{
    COLUMN_BIAS, COLUMN_BLOCKS, COLUMN_COMPONENTS, ColumnShape, PanelColumn, PanelShape, Product, SignedColumns,
    SignedPositions, TILE_BLOCKS,
};
use crate::definition::transmission::{BLOCK_COMPONENTS, Transmission, gaussian};

/// Columns whose int16 sums cannot overflow for inputs up to 1: 327 × 100 < 2¹⁵.
const INT16_COLUMNS: usize = 320;

/// Vectors that are multiplied together. Each byte of the panel is widened once for all of them.
const VECTORS: usize = 4;

/// The integer that each byte of the keystream stands for.
static ENTRY: [i8; 256] = {
    let mut entry = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        entry[byte] = gaussian(byte as u8);
        byte += 1;
    }
    entry
};

/// The kernel for any CPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

impl Portable {
    pub(super) const SHAPE: PanelShape = PanelShape {
        bias: 0,
        column_multiple: 1,
        panel_blocks: TILE_BLOCKS,
        panel_columns: INT16_COLUMNS,
        max_input: 127,
        overlaps: false,
        multiply_cost: 0.05,
    };

    pub(super) const COLUMNS: ColumnShape =
        ColumnShape { panel_columns: 2048, entry_cost: 0.8, addition_cost: 0.02, sum_cost: 0.5 };

    pub(super) fn field(self, t: &Transmission, x: SignedColumns<'_>, row_block: u64, sums: &mut [i32]) {
        for (tile, sums) in (0..).zip(sums.chunks_exact_mut(TILE_BLOCKS * BLOCK_COMPONENTS)) {
            let first = row_block + tile * TILE_BLOCKS as u64;
            for (&column, &sign) in x.index.iter().zip(x.sign) {
                let blocks = eight_blocks(t, consecutive(first), column);
                for (sum, byte) in sums.iter_mut().zip(blocks.iter().flatten()) {
                    *sum = sum.wrapping_add(i32::from(ENTRY[usize::from(byte ^ sign)]));
                }
            }
        }
    }

    /// Layout: row block, column, component.
    pub(super) fn panel(self, t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
        let block_bytes = BLOCK_COMPONENTS * columns.len();
        for (tile, panel) in (0..).zip(panel.chunks_exact_mut(TILE_BLOCKS * block_bytes)) {
            let first = row_block + tile * TILE_BLOCKS as u64;
            for (k, &column) in columns.iter().enumerate() {
                for (block, bytes) in eight_blocks(t, consecutive(first), column).iter().enumerate() {
                    let at = block * block_bytes + k * BLOCK_COMPONENTS;
                    for (entry, byte) in panel[at..at + BLOCK_COMPONENTS].iter_mut().zip(bytes) {
                        *entry = ENTRY[usize::from(*byte)] as u8;
                    }
                }
            }
        }
    }

    /// Layout: 16 columns, component, column.
    pub(super) fn transposed(self, t: &Transmission, column: u64, row_blocks: &[u64], panel: &mut [u8]) {
        let last = row_blocks[row_blocks.len() - 1];
        let columns_bytes = BLOCK_COMPONENTS * BLOCK_COMPONENTS * row_blocks.len();
        for (sixteen, panel) in (0..).zip(panel.chunks_exact_mut(columns_bytes)) {
            let eights = row_blocks.chunks(8).zip(panel.chunks_mut(8 * BLOCK_COMPONENTS * BLOCK_COMPONENTS));
            for (row_blocks, panel) in eights {
                let row_blocks = std::array::from_fn(|k| row_blocks.get(k).copied().unwrap_or(last));
                for k in 0..BLOCK_COMPONENTS {
                    let column = column.wrapping_add(sixteen * BLOCK_COMPONENTS as u64 + k as u64);
                    let blocks = eight_blocks(t, row_blocks, column);
                    let entries = panel.iter_mut().skip(k).step_by(BLOCK_COMPONENTS);
                    for (entry, byte) in entries.zip(blocks.iter().flatten()) {
                        *entry = ENTRY[usize::from(*byte)] as u8;
                    }
                }
            }
        }
    }

    pub(super) fn multiply(self, product: Product<'_>) {
        let Product { panel, columns, x, largest, x_stride, n_vectors, sums, sums_stride } = product;
        let run = INT16_COLUMNS / usize::from(largest);
        for (block, panel) in panel.chunks_exact(BLOCK_COMPONENTS * columns).enumerate() {
            for first in (0..n_vectors).step_by(VECTORS) {
                // In place of missing vectors the last one is multiplied again; these sums are dropped.
                let vectors: [&[i8]; VECTORS] = std::array::from_fn(|v| {
                    let start = (first + v).min(n_vectors - 1) * x_stride;
                    &x[start..start + columns]
                });
                for start in (0..columns).step_by(run) {
                    let end = columns.min(start + run);
                    let short = short_sums(
                        &panel[start * BLOCK_COMPONENTS..end * BLOCK_COMPONENTS],
                        vectors.map(|vector| &vector[start..end]),
                    );
                    for (v, short) in short.iter().enumerate().take(n_vectors - first) {
                        let at = (first + v) * sums_stride + block * BLOCK_COMPONENTS;
                        for (sum, &short) in sums[at..at + BLOCK_COMPONENTS].iter_mut().zip(short) {
                            *sum = sum.wrapping_add(i32::from(short));
                        }
                    }
                }
            }
        }
    }

    pub(super) fn column_panel(self, t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [PanelColumn]) {
        // Two columns make up the eight blocks that are generated together.
        for (columns, output) in columns.chunks(2).zip(panel.chunks_mut(2)) {
            let last = columns[columns.len() - 1];
            let column = |k: usize| columns.get(k / COLUMN_BLOCKS).copied().unwrap_or(last);
            let row_block = |k: usize| row_block.wrapping_add((k % COLUMN_BLOCKS) as u64);
            let blocks = eight_counters(t, std::array::from_fn(|k| (row_block(k), column(k))));
            let entries = output.iter_mut().flat_map(|column| column.0.as_chunks_mut::<BLOCK_COMPONENTS>().0);
            for (entries, bytes) in entries.zip(&blocks) {
                for (entry, byte) in entries.iter_mut().zip(bytes) {
                    *entry = (ENTRY[usize::from(*byte)] as u8).wrapping_add(COLUMN_BIAS);
                }
            }
        }
    }

    /// See `PanelColumn` for the method.
    pub(super) fn add_columns(
        self,
        panel: &[PanelColumn],
        x: SignedPositions<'_>,
        sums: &mut [i32; COLUMN_COMPONENTS],
    ) {
        for run in x.runs() {
            let bias = run.bias() as u16;
            let mut highs = [bias; COLUMN_COMPONENTS / 2];
            let mut pairs = [bias.wrapping_mul(257); COLUMN_COMPONENTS / 2];
            for &position in run.positive {
                let lanes = panel[usize::from(position)].0.as_chunks::<2>().0;
                for ((pair, high), lane) in pairs.iter_mut().zip(&mut highs).zip(lanes) {
                    let lane = u16::from_le_bytes(*lane);
                    *pair = pair.wrapping_add(lane);
                    *high = high.wrapping_add(lane >> 8);
                }
            }
            for &position in run.negative {
                let lanes = panel[usize::from(position)].0.as_chunks::<2>().0;
                for ((pair, high), lane) in pairs.iter_mut().zip(&mut highs).zip(lanes) {
                    let lane = u16::from_le_bytes(*lane);
                    *pair = pair.wrapping_sub(lane);
                    *high = high.wrapping_sub(lane >> 8);
                }
            }
            for ((pair, high), sums) in pairs.iter().zip(highs).zip(sums.as_chunks_mut::<2>().0) {
                let low = pair.wrapping_sub(high << 8);
                *sums = [sums[0].wrapping_add(i32::from(low as i16)), sums[1].wrapping_add(i32::from(high as i16))];
            }
        }
    }

    #[inline]
    pub(super) fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        work()
    }

    pub(super) fn planes(self, codes: &[[i8; 64]], positive: &mut [u64], negative: &mut [u64]) -> bool {
        let mut refused = 0;
        for (codes, (positive, negative)) in codes.iter().zip(positive.iter_mut().zip(negative)) {
            (*positive, *negative) = (0, 0);
            for (k, eight) in codes.as_chunks::<8>().0.iter().enumerate() {
                // In binary, 0 is 00000000, 1 is 00000001, −1 is 11111111 and 2 is 00000010.
                let codes = u64::from_le_bytes(eight.map(|code| code as u8));
                let minus = codes >> 7;
                *positive |= lowest_bits(codes & !minus) << (8 * k);
                *negative |= lowest_bits(minus) << (8 * k);
                refused |= lowest_bits((codes >> 1) & !minus);
            }
        }
        refused != 0
    }

    pub(super) fn keystream(self, t: &Transmission, n_bytes: u64) -> u64 {
        (0..n_bytes.div_ceil(128)).fold(0, |fold, column| {
            let blocks = eight_blocks(t, consecutive(0), column);
            blocks
                .iter()
                .fold(fold, |fold, block| fold ^ u64::from_le_bytes(block[..8].try_into().expect("eight bytes")))
        })
    }
}

/// The lowest bits of eight bytes, in one byte.
fn lowest_bits(bytes: u64) -> u64 {
    ((bytes & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080)) >> 56
}

/// The sums of one row block, over few enough columns for int16.
fn short_sums(panel: &[u8], vectors: [&[i8]; VECTORS]) -> [[i16; BLOCK_COMPONENTS]; VECTORS] {
    let mut sums = [[0; BLOCK_COMPONENTS]; VECTORS];
    for (k, entries) in panel.chunks_exact(BLOCK_COMPONENTS).enumerate() {
        for (sums, vector) in sums.iter_mut().zip(&vectors) {
            let x = i16::from(vector[k]);
            for (sum, &entry) in sums.iter_mut().zip(entries) {
                *sum += i16::from(entry as i8) * x;
            }
        }
    }
    sums
}

fn consecutive(row_block: u64) -> [u64; 8] {
    std::array::from_fn(|k| row_block.wrapping_add(k as u64))
}

/// The blocks of any eight row blocks in one column.
pub(crate) fn keystream_blocks(t: &Transmission, row_blocks: [u64; 8], column: u64) -> [[u8; 16]; 8] {
    eight_blocks(t, row_blocks, column).0.map(|block| block.0)
}

/// The blocks of eight row blocks in one column.
#[inline]
fn eight_blocks(t: &Transmission, row_blocks: [u64; 8], column: u64) -> Block8 {
    eight_counters(t, row_blocks.map(|row_block| (row_block, column)))
}

/// The blocks of eight pairs of a row block and a column.
#[inline]
fn eight_counters(t: &Transmission, counters: [(u64, u64); 8]) -> Block8 {
    let round_keys = t.round_keys();
    let mut blocks = Block8::default();
    for ((row_block, column), block) in counters.iter().zip(blocks.iter_mut()) {
        block[..8].copy_from_slice(&row_block.to_le_bytes());
        block[8..].copy_from_slice(&column.to_le_bytes());
        for (byte, key) in block.iter_mut().zip(&round_keys[0]) {
            *byte ^= key;
        }
    }
    for round_key in &round_keys[1..7] {
        hazmat::cipher_round_par(&mut blocks, &same_key(round_key));
    }
    // The last round of AES does not mix columns, so the mixing is undone.
    hazmat::cipher_round_par(&mut blocks, &Block8::default());
    for block in &mut blocks {
        hazmat::inv_mix_columns(block);
        for (byte, key) in block.iter_mut().zip(&round_keys[7]) {
            *byte ^= key;
        }
    }
    blocks
}

fn same_key(round_key: &[u8; 16]) -> Block8 {
    Block8::from_fn(|_| (*round_key).into())
}

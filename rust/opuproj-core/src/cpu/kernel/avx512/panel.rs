//! Panels of T in the layout of the multiplication: over columns, or transposed, over row blocks.

use std::arch::asm;
use std::arch::x86_64::*;

use super::generator::Generator;
use super::sizes::{PANEL_BLOCKS, QUAD};
use crate::definition::transmission::{BLOCK_COMPONENTS, Transmission};

/// Writes a panel. Its layout: row block, quad of columns, component, column.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
pub(super) fn panel<const OFFSET: u8>(t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
    let mut writer = PanelWriter::new::<OFFSET>(t, columns, row_block, panel);
    writer.write(writer.left());
}

/// Writes a panel in parts. Each part is a number of quads of columns, over four row blocks each.
pub struct PanelWriter<'a> {
    generator: Generator,
    quads: &'a [[u64; QUAD]],
    /// The first row block that is not complete.
    row_block: u64,
    /// That row block and the three after it.
    rows: [__m512i; PANEL_BLOCKS],
    /// The number of quads that are written of these four.
    written: usize,
    /// The panel from that row block on.
    panel: &'a mut [u8],
}

impl<'a> PanelWriter<'a> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
    #[inline]
    pub fn new<const OFFSET: u8>(t: &Transmission, columns: &'a [u64], row_block: u64, panel: &'a mut [u8]) -> Self {
        let generator = Generator::new(t, OFFSET);
        let (rows, quads) = (four_rows(&generator, row_block), columns.as_chunks::<QUAD>().0);
        Self { generator, quads, row_block, rows, written: 0, panel }
    }

    /// The number of quads that are left to write.
    pub fn left(&self) -> usize {
        self.panel.len() / (PANEL_BLOCKS * 64) - self.written
    }

    /// Writes the next `count` quads.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
    #[inline]
    pub fn write(&mut self, mut count: usize) {
        while count > 0 {
            let quads = &self.quads[self.written..self.quads.len().min(self.written + count)];
            let block_bytes = 64 * self.quads.len();
            write_quads(&self.generator, &self.rows, quads, &mut self.panel[64 * self.written..], block_bytes);
            self.written += quads.len();
            count -= quads.len();
            if self.written == self.quads.len() {
                self.written = 0;
                self.panel = &mut std::mem::take(&mut self.panel)[PANEL_BLOCKS * block_bytes..];
                self.row_block = self.row_block.wrapping_add(PANEL_BLOCKS as u64);
                self.rows = four_rows(&self.generator, self.row_block);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512vbmi,vaes")]
#[inline]
fn four_rows(generator: &Generator, row_block: u64) -> [__m512i; PANEL_BLOCKS] {
    std::array::from_fn(|k| generator.row(row_block.wrapping_add(k as u64)))
}

/// The entries (plus the offset) that bytes stand for.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
pub(super) fn entries(generator: &Generator, bytes: __m512i) -> __m512i {
    let magnitudes = generator.magnitudes(bytes);
    // Modulo 256 the negative of 128 + m is 128 − m, so one table serves panels with and without the bias.
    _mm512_mask_sub_epi8(magnitudes, _mm512_movepi8_mask(bytes), _mm512_setzero_si512(), magnitudes)
}

/// Writes the entries of four row blocks, `stride` bytes apart, for quads of columns. Its order of instructions follows
/// `add_quads`.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
#[inline]
fn write_quads(
    generator: &Generator,
    rows: &[__m512i; PANEL_BLOCKS],
    quads: &[[u64; QUAD]],
    panel: &mut [u8],
    stride: usize,
) {
    /// Generates the bytes of one row block and stores the entries of the previous quad.
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
    assert!(panel.len() >= (PANEL_BLOCKS - 1) * stride + quads.len() * 64, "64 bytes for each block and quad");
    let Some((first, rest)) = quads.split_first() else { return };
    let [_, k1, k2, k3, k4, k5, last_key] = generator.round_keys;
    let columns = generator.columns(*first);
    let mut new = columns;
    let [mut b0, mut b1, mut b2, mut b3] = rows.map(
        #[inline(always)]
        |row| generator.rounds(row, columns, last_key),
    );
    let mut output = panel.as_mut_ptr();
    for columns in rest {
        // SAFETY: the instructions are enabled here; four rows are read, and the previous quad of each block is written.
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
    for (bytes, block) in [b0, b1, b2, b3].into_iter().zip(panel.chunks_mut(stride)) {
        let last = &mut block.as_chunks_mut::<64>().0[rest.len()];
        store(entries(generator, generator.interleave(bytes)), last);
    }
}

/// Writes a transposed panel. Its layout: 16 columns, quad of components, column, component.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
pub(super) fn transposed<const OFFSET: u8>(t: &Transmission, column: u64, row_blocks: &[u64], panel: &mut [u8]) {
    let generator = Generator::new(t, OFFSET);
    let sixteen_bytes = BLOCK_COMPONENTS * BLOCK_COMPONENTS * row_blocks.len();
    for (sixteen, panel) in (0..).zip(panel.chunks_exact_mut(sixteen_bytes)) {
        let first = column.wrapping_add(sixteen * BLOCK_COMPONENTS as u64);
        // Lane l of register r is column 4l + r. Transposing the four by four words of each lane puts all columns in order.
        let columns: [__m512i; QUAD] = std::array::from_fn(|r| {
            generator.columns(std::array::from_fn(|l| first.wrapping_add((QUAD * l + r) as u64)))
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

#[target_feature(enable = "avx512f")]
#[inline]
fn store(register: __m512i, bytes: &mut [u8; 64]) {
    // SAFETY: writes 64 bytes of an array of 64.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), register) }
}

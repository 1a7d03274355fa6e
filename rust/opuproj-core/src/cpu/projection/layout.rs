//! The tiles that the rows are divided into, so that sums stay in a cache and threads stay busy.

use std::ops::Range;

use super::context::Context;
use super::operand::{Form, VectorGroup};
use crate::cpu::gather::TILE_SUMS;
use crate::cpu::threads::{ENTRIES_PER_THREAD, WORK_PER_ENTRY};
use crate::definition::readout::Mode;
use crate::definition::transmission::BLOCK_COMPONENTS;
use crate::memory::{NoMemory, collect};

/// The most row blocks of a tile, so that threads stay equally busy. A vector's results still fill a page of memory.
const MAX_BLOCKS: usize = 128;

/// The tiles of one group.
pub(super) struct Layout {
    /// The requested rows, the row blocks that hold them, and what is read of them.
    rows: Range<u64>,
    blocks: Range<u64>,
    mode: Mode,
    unit: usize,
    tile_blocks: usize,
    pub(super) threads: usize,
    pub(super) n_tiles: usize,
    /// Sums of a tile, those of all vectors of the group.
    pub(super) tile_sums: usize,
}

impl Layout {
    /// `readout_work` is the work of reading a row block of the group's outputs.
    pub(super) fn of(context: Context<'_>, group: &VectorGroup, readout_work: u64) -> Self {
        let blocks = context.blocks();
        let n_blocks = (blocks.end - blocks.start) as usize;
        let n_vectors = group.vectors.len();
        let unit = context.unit();
        let work = context.work(group.form, n_vectors, group.columns, group.nonzeros).saturating_add(readout_work);
        let entries = work.saturating_mul(n_blocks as u64) / WORK_PER_ENTRY;
        let threads = context.cpu.threads.min((entries / ENTRIES_PER_THREAD) as usize + 1);
        let at_once = if group.form == Form::Lists { 1 } else { n_vectors };
        let fitting = TILE_SUMS / (at_once * BLOCK_COMPONENTS * 4);
        let balanced = n_blocks / (8 * threads);
        let tile_blocks = (fitting.min(balanced).min(MAX_BLOCKS) / unit * unit).max(unit);
        Self {
            rows: context.request.rows.clone(),
            blocks,
            mode: context.request.mode,
            unit,
            tile_blocks,
            threads,
            n_tiles: n_blocks.div_ceil(tile_blocks),
            tile_sums: n_vectors * tile_blocks * BLOCK_COMPONENTS,
        }
    }

    /// The row blocks of a tile: whole units, of which the last may lie beyond the rows.
    pub(super) fn blocks(&self, tile: usize) -> Range<u64> {
        let start = self.blocks.start + (tile * self.tile_blocks) as u64;
        let left = (self.blocks.end - start) as usize;
        start..start + left.next_multiple_of(self.unit).min(self.tile_blocks) as u64
    }

    /// The requested rows of a tile, counted from its first row.
    pub(super) fn rows(&self, tile: usize) -> Range<usize> {
        let blocks = self.blocks(tile);
        let per_block = self.mode.block_rows() as u64;
        let first = blocks.start * per_block;
        let end = (blocks.end * per_block).min(self.rows.end);
        (self.rows.start.max(first) - first) as usize..(end - first) as usize
    }

    /// Splits a tile's part off the rest of each output.
    pub(super) fn split_off<'o, T>(
        &self,
        tile: usize,
        rests: &mut [&'o mut [T]],
    ) -> Result<Vec<&'o mut [T]>, NoMemory> {
        let width = self.rows(tile).len() * self.mode.parts();
        let rests = rests.iter_mut();
        collect(rests.map(|rest| rest.split_off_mut(..width).expect("outputs are as wide as their tiles together")))
    }
}

//! How the rows are cut into tiles, and the vectors into groups: so that sums stay in a cache and threads stay busy.

use std::ops::Range;

use super::Projection;
use crate::kernel::TILE_BLOCKS;
use crate::memory::{NoMemory, TILE_SUMS, collected};
use crate::operand::{Form, Group, MOST_VECTORS};
use crate::transmission::{BLOCK_COMPONENTS, BLOCK_ROWS};
use crate::work::{ENTRIES_PER_THREAD, WORK_PER_ENTRY};

/// Bytes that the tiles of all threads may have together.
const ALL_TILE_SUMS: usize = 16 << 20;

/// The most row blocks of a tile, so that threads stay equally busy; a vector's results fill a page or more of memory.
const MOST_BLOCKS: usize = 128;

impl Projection {
    /// The row blocks that hold the rows.
    pub(super) fn blocks(&self) -> Range<u64> {
        self.rows.start / BLOCK_ROWS as u64..self.rows.end.div_ceil(BLOCK_ROWS as u64)
    }

    /// Row blocks that a tile must be a multiple of.
    fn unit(&self) -> usize {
        TILE_BLOCKS.max(self.kernel.shape().panel_blocks)
    }

    /// Vectors of a group: fewer where many threads must share the memory for sums.
    pub(super) fn most_vectors(&self) -> usize {
        let fitting = ALL_TILE_SUMS / self.threads.saturating_mul(self.unit() * BLOCK_COMPONENTS * 4);
        fitting.clamp(32, MOST_VECTORS)
    }
}

/// How the rows are cut into tiles for one group.
pub(super) struct Layout {
    /// The rows that are asked for, the row blocks that hold them, and real numbers in a result of one.
    rows: Range<u64>,
    blocks: Range<u64>,
    parts: usize,
    unit: usize,
    tile_blocks: usize,
    pub(super) threads: usize,
    pub(super) n_tiles: usize,
    /// Sums of a tile, those of all vectors of the group.
    pub(super) tile_sums: usize,
}

impl Layout {
    /// `seen` is the reader's work for a row block.
    pub(super) fn of(projection: &Projection, group: &Group, seen: u64) -> Self {
        let blocks = projection.blocks();
        let n_blocks = (blocks.end - blocks.start) as usize;
        let n_vectors = group.vectors.len();
        let unit = projection.unit();
        let work = projection.work(group.form, n_vectors, group.columns).saturating_add(seen);
        let entries = work.saturating_mul(n_blocks as u64) / WORK_PER_ENTRY;
        let threads = projection.threads.min((entries / ENTRIES_PER_THREAD) as usize + 1);
        let at_once = if group.form == Form::Lists { 1 } else { n_vectors };
        let fitting = TILE_SUMS / (at_once * BLOCK_COMPONENTS * 4);
        let balanced = n_blocks / (8 * threads);
        let tile_blocks = (fitting.min(balanced).min(MOST_BLOCKS) / unit * unit).max(unit);
        Self {
            rows: projection.rows.clone(),
            blocks,
            parts: projection.mode.parts(),
            unit,
            tile_blocks,
            threads,
            n_tiles: n_blocks.div_ceil(tile_blocks),
            tile_sums: n_vectors * tile_blocks * BLOCK_COMPONENTS,
        }
    }

    /// The row blocks of a tile: whole units, the last ones perhaps beyond the rows.
    pub(super) fn blocks(&self, tile: usize) -> Range<u64> {
        let start = self.blocks.start + (tile * self.tile_blocks) as u64;
        let left = (self.blocks.end - start) as usize;
        start..start + left.next_multiple_of(self.unit).min(self.tile_blocks) as u64
    }

    /// The rows of a tile that are asked for, counted from its first.
    pub(super) fn rows(&self, tile: usize) -> Range<usize> {
        let blocks = self.blocks(tile);
        let first = blocks.start * BLOCK_ROWS as u64;
        let end = (blocks.end * BLOCK_ROWS as u64).min(self.rows.end);
        (self.rows.start.max(first) - first) as usize..(end - first) as usize
    }

    /// Cuts a tile's part off what is left of each output.
    pub(super) fn cut<'o, T>(&self, tile: usize, rests: &mut [&'o mut [T]]) -> Result<Vec<&'o mut [T]>, NoMemory> {
        let width = self.rows(tile).len() * self.parts;
        let rests = rests.iter_mut();
        collected(rests.map(|rest| rest.split_off_mut(..width).expect("outputs are as wide as their tiles together")))
    }
}

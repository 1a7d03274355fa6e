//! A request with the CPU that computes it.

use std::ops::Range;

use super::operand::Form;
use crate::cpu::gather::MAX_VECTORS;
use crate::cpu::kernel::TILE_BLOCKS;
use crate::cpu::resources::Cpu;
use crate::cpu::threads::WORK_PER_ENTRY;
use crate::definition::transmission::BLOCK_COMPONENTS;
use crate::request::projection::Projection;

/// Bytes of sums that the tiles of all threads may have together.
const ALL_TILE_SUMS: usize = 16 << 20;

/// A request with the CPU that computes it.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) request: &'a Projection,
    pub(super) cpu: Cpu,
}

impl Context<'_> {
    /// The row blocks that hold the rows.
    pub(super) fn blocks(&self) -> Range<u64> {
        let (rows, per_block) = (&self.request.rows, self.request.mode.block_rows() as u64);
        rows.start / per_block..rows.end.div_ceil(per_block)
    }

    /// The row blocks of a tile are a multiple of this.
    pub(super) fn unit(&self) -> usize {
        TILE_BLOCKS.max(self.cpu.kernel.panel_shape().panel_blocks)
    }

    /// The most vectors of a group: fewer where many threads must share the memory for sums.
    pub(super) fn max_vectors(&self) -> usize {
        let fitting = ALL_TILE_SUMS / self.cpu.threads.saturating_mul(self.unit() * BLOCK_COMPONENTS * 4);
        fitting.clamp(32, MAX_VECTORS)
    }

    /// The work of one row block for vectors with so many nonzeros together in `columns` columns.
    pub(super) fn work(&self, form: Form, n_vectors: usize, columns: u64, nonzeros: u64) -> u64 {
        let cost = form.cost(self.cpu.kernel, n_vectors, columns, nonzeros);
        (cost * BLOCK_COMPONENTS as f64 * WORK_PER_ENTRY as f64) as u64
    }
}

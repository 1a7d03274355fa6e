//! Exact entries of T, R and G, and the phases of the anchor's field.

use super::kernel::{SignedColumns, TILE_BLOCKS};
use super::outputs::{Output, Outputs, with_typed};
use super::reference::{Reference, read};
use super::resources::Cpu;
use crate::definition::anchor;
use crate::definition::readout::{Mode, Number};
use crate::definition::transmission::{BLOCK_COMPONENTS, BLOCK_ROWS, Transmission};
use crate::memory::{collect, with_capacity, zeros};
use crate::progress::{Stopped, on_calling_thread};

/// Rows of T whose field is computed at a time.
const TILE_ROWS: usize = TILE_BLOCKS * BLOCK_ROWS;

impl Cpu {
    /// Writes the exact entries of what a mode multiplies by, a row in each of `outputs`: T for "complex" and "intensity"
    /// (two parts an entry), R for "linear", G for "real". It uses one thread.
    ///
    /// `poll` is called as by [`Cpu::project`].
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or memory is short.
    ///
    /// # Panics
    ///
    /// If the outputs do not have the size of the window.
    pub fn entries<T: Output>(
        &self,
        t: &Transmission,
        mode: Mode,
        rows: &[u64],
        columns: &[u64],
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        self.write_entries(t, mode, [rows, columns], T::outputs(outputs), poll)
    }

    fn write_entries(
        &self,
        t: &Transmission,
        mode: Mode,
        window: [&[u64]; 2],
        outputs: Outputs<'_, '_>,
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        with_typed!(outputs => self.write_typed_entries(t, mode, window, outputs, poll))
    }

    fn write_typed_entries<T: Number>(
        &self,
        t: &Transmission,
        mode: Mode,
        [rows, columns]: [&[u64]; 2],
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        let mode = if mode == Mode::Intensity { Mode::Complex } else { mode };
        let parts = mode.parts();
        assert_eq!(outputs.len(), rows.len(), "one output a row");
        assert!(outputs.iter().all(|output| output.len() == columns.len() * parts), "one entry a column");
        let anchor = collect(anchor::columns(0, mode.anchor_pixels()))?;
        let sign = zeros(anchor.len().max(1))?;
        let field = |index: &[u64], row_block: u64| {
            let mut field = [0; TILE_BLOCKS * BLOCK_COMPONENTS];
            self.kernel.field(t, SignedColumns { index, sign: &sign[..index.len()] }, row_block, &mut field);
            field
        };
        let mut reference = Reference::default();
        let (block_rows, tile_rows) = (mode.block_rows() as u64, (TILE_BLOCKS * mode.block_rows()) as u64);
        let mut values = [T::rounded(0.0); 2 * TILE_ROWS];
        let values = &mut values[..tile_rows as usize * parts];
        let mut done = 0;
        on_calling_thread(poll, |coordinator| {
            while let Some(&first) = rows.get(done) {
                // The field of one column is that column, for all rows of a tile at once.
                let row_block = first / block_rows;
                let in_tile = |row: u64| row.checked_sub(row_block * block_rows).filter(|&at| at < tile_rows);
                let places = collect(rows[done..].iter().map_while(|&row| in_tile(row).map(|at| at as usize)))?;
                reference.set(anchor.len(), &field(&anchor, row_block))?;
                for (j, column) in columns.iter().enumerate() {
                    read(mode, &field(std::slice::from_ref(column), row_block), 1.0, &reference, values);
                    coordinator.count_bytes(size_of_val(values) + size_of::<T>() * parts * places.len())?;
                    for (output, at) in outputs[done..].iter_mut().zip(&places) {
                        output[j * parts..(j + 1) * parts].copy_from_slice(&values[at * parts..(at + 1) * parts]);
                    }
                }
                done += places.len();
            }
            Ok(())
        })
    }

    /// The phases r/|r| of an anchor's field at `n_rows` rows from `first_row` on, real and imaginary part; 1 where r = 0.
    /// It uses one thread.
    ///
    /// `poll` is called as by [`Cpu::project`].
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or memory is short.
    pub fn anchor_phases(
        &self,
        t: &Transmission,
        n_anchor: u32,
        first_row: u64,
        n_rows: usize,
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<Vec<[f64; 2]>, Stopped> {
        let index = collect(anchor::columns(0, u64::from(n_anchor)))?;
        let sign = zeros(index.len())?;
        // Tiles begin with a row block; the first row may lie in the middle of one.
        let before = (first_row % BLOCK_ROWS as u64) as usize;
        let (mut phases, mut skip) = (with_capacity(n_rows)?, before);
        on_calling_thread(poll, |coordinator| {
            for tile in 0.. {
                if phases.len() == n_rows {
                    break;
                }
                let mut field = [0; TILE_BLOCKS * BLOCK_COMPONENTS];
                let row_block = first_row / BLOCK_ROWS as u64 + tile * TILE_BLOCKS as u64;
                self.kernel.field(t, SignedColumns { index: &index, sign: &sign }, row_block, &mut field);
                let rows = &field.as_chunks::<2>().0[skip..TILE_ROWS.min(skip + n_rows - phases.len())];
                phases.extend(rows.iter().map(|&r| anchor::phase(r)));
                skip = 0;
                coordinator.count_bytes(size_of_val(&field) * index.len())?;
            }
            Ok(phases)
        })
    }
}

//! The work of one thread on a tile: it sums the field of the tile over the inputs, and reads it out into the tile's part
//! of the outputs.

use std::ops::Range;

use super::context::Context;
use super::operand::{Form, Operand};
use super::positions::PanelPositions;
use super::readout::{Readout, WORK_PER_READING};
use crate::cpu::camera::VectorMeasurement;
use crate::cpu::field::{Field, WeightedSum, components_of};
use crate::cpu::kernel::{COLUMN_BLOCKS, COLUMN_COMPONENTS, NextPanel, PanelColumn, Product, SignedColumns};
use crate::cpu::noise::PIXELS;
use crate::cpu::reference::{INT16_NONZEROS, Reference, read, read_short};
use crate::cpu::threads::Ticker;
use crate::definition::anchor;
use crate::definition::readout::{Mode, Number};
use crate::definition::transmission::BLOCK_COMPONENTS;
use crate::memory::{collect, push, resized, zeros};
use crate::progress::Stopped;

/// Columns of a list that are summed between two checks for a stop; they stay in a first-level cache.
const LIST_PART: usize = 2048;

/// Vectors that are read out between two checks for a stop.
const VECTORS_PER_CHECK: usize = 8;

/// Rows that one thread works on at a time.
pub(super) struct RowTile<'s, 'o, T> {
    pub(super) blocks: Range<u64>,
    pub(super) rows: Range<usize>,
    /// The sums over the chunks so far, if the group has several.
    pub(super) kept: Option<&'s mut [i64]>,
    pub(super) outputs: Vec<&'o mut [T]>,
}

impl<T> RowTile<'_, '_, T> {
    /// Sums of one vector.
    fn n_sums(&self) -> usize {
        (self.blocks.end - self.blocks.start) as usize * BLOCK_COMPONENTS
    }

    /// The first requested row.
    fn first_row(&self, mode: Mode) -> u64 {
        self.blocks.start * mode.block_rows() as u64 + self.rows.start as u64
    }
}

/// One thread, which computes tiles over a chunk of the inputs.
pub(super) struct ProjectionWorker<'a> {
    pub(super) context: Context<'a>,
    /// The vectors of the group.
    pub(super) n_vectors: usize,
    pub(super) readout: Readout<'a>,
    /// The measurement of each output; empty if there is no camera.
    pub(super) measurements: &'a [VectorMeasurement<'a>],
    /// The number of the group's first output in the batch.
    pub(super) first_output: usize,
    /// Whether the chunk is the group's first one (sums start with it) and its last one (sums are read out after it).
    pub(super) first: bool,
    pub(super) last: bool,
    pub(super) ticker: Ticker<'a>,
    pub(super) scratch: Scratch,
}

impl ProjectionWorker<'_> {
    /// Sums a tile over the chunk.
    pub(super) fn process<T: Number>(
        &mut self,
        operand: &Operand,
        mut tile: RowTile<'_, '_, T>,
    ) -> Result<(), Stopped> {
        if self.last {
            self.set_reference(&tile)?;
        }
        let (mut all_sums, mut kept) = (std::mem::take(&mut self.scratch.sums), tile.kept.take());
        let n_sums = tile.n_sums();
        match operand {
            Operand::Lists { index, sign, ends } => (0..self.n_vectors).try_for_each(|v| {
                // They are read out before the next vector is summed, so they stay in a first-level cache.
                let sums = resized(&mut all_sums, n_sums)?;
                sums.fill(0);
                let list = Operand::list(index, sign, ends, v);
                self.add_list(list, &tile, sums)?;
                let short = list.index.len() <= INT16_NONZEROS;
                let field = if short { Field::Short(sums) } else { Field::Int32(sums) };
                self.finish(&mut tile, v, field, kept.as_deref_mut())
            })?,
            Operand::Rows { columns, inputs, largest, starts } => {
                let sums = resized(&mut all_sums, self.n_vectors * n_sums)?;
                for (sums, &start) in sums.chunks_exact_mut(n_sums).zip(starts) {
                    sums.fill(start);
                }
                self.add_rows(columns, inputs, *largest, &tile, sums)?;
                self.finish_all(&mut tile, sums, kept)?;
            }
            Operand::Positions { columns, vectors } => {
                let sums = resized(&mut all_sums, self.n_vectors * n_sums)?;
                sums.fill(0);
                self.add_positions(columns, vectors, &tile, sums)?;
                self.finish_all(&mut tile, sums, kept)?;
            }
        }
        self.scratch.sums = all_sums;
        Ok(())
    }

    /// Ends the sums of all vectors over the chunk.
    fn finish_all<T: Number>(
        &mut self,
        tile: &mut RowTile<'_, '_, T>,
        sums: &[i32],
        mut kept: Option<&mut [i64]>,
    ) -> Result<(), Stopped> {
        let mut vectors = sums.chunks_exact(tile.n_sums()).enumerate();
        vectors.try_for_each(|(v, sums)| self.finish(tile, v, Field::Int32(sums), kept.as_deref_mut()))
    }

    /// Ends the sums of one vector over the chunk: adds them to those of the chunks before, and reads them out after the last.
    fn finish<T: Number>(
        &mut self,
        tile: &mut RowTile<'_, '_, T>,
        v: usize,
        field: Field<'_>,
        kept: Option<&mut [i64]>,
    ) -> Result<(), Stopped> {
        let Some(kept) = kept else { return self.read_out(tile, v, field) };
        let n_sums = tile.n_sums();
        let kept = &mut kept[v * n_sums..(v + 1) * n_sums];
        field.add_to(kept, self.first);
        if self.last { self.read_out(tile, v, Field::Int64(kept)) } else { Ok(()) }
    }

    /// Adds the field of one vector over its list.
    fn add_list<T>(
        &mut self,
        x: SignedColumns<'_>,
        tile: &RowTile<'_, '_, T>,
        sums: &mut [i32],
    ) -> Result<(), Stopped> {
        let (kernel, transmission) = (self.context.cpu.kernel, &self.context.request.transmission);
        x.index.chunks(LIST_PART).zip(x.sign.chunks(LIST_PART)).try_for_each(|(index, sign)| {
            kernel.field(transmission, SignedColumns { index, sign }, tile.blocks.start, sums);
            let per_block = self.context.work(Form::Lists, 1, 0, index.len() as u64);
            self.ticker.count(per_block * (sums.len() / BLOCK_COMPONENTS) as u64)
        })
    }

    /// Adds the fields of all vectors over the columns of the chunk, a panel at a time. Each panel is written after the one
    /// before it was multiplied, or meanwhile if the kernel overlaps the two.
    fn add_rows<T>(
        &mut self,
        columns: &[u64],
        inputs: &[i8],
        largest: u8,
        tile: &RowTile<'_, '_, T>,
        sums: &mut [i32],
    ) -> Result<(), Stopped> {
        let (kernel, transmission) = (self.context.cpu.kernel, &self.context.request.transmission);
        let (n_sums, n_vectors, shape) = (tile.n_sums(), self.n_vectors, kernel.panel_shape());
        let panel_sums = shape.panel_blocks * BLOCK_COMPONENTS;
        let row_block = |first: usize| tile.blocks.start + (first / BLOCK_COMPONENTS) as u64;
        let Scratch { panels: [panel, other], .. } = &mut self.scratch;
        // The first sum, the columns, and the inputs of each panel.
        let parts = columns.chunks(shape.panel_columns).zip(inputs.chunks(n_vectors * shape.panel_columns));
        let sequence = (0..n_sums).step_by(panel_sums).flat_map(|first| parts.clone().map(move |part| (first, part)));
        let mut sequence = sequence.peekable();
        if let Some(&(first, (columns, _))) = sequence.peek() {
            kernel.panel(transmission, columns, row_block(first), resized(panel, panel_sums * columns.len())?);
        }
        while let Some((first, (columns, x))) = sequence.next() {
            let product = Product {
                panel: &panel[..panel_sums * columns.len()],
                columns: columns.len(),
                x,
                largest,
                x_stride: columns.len(),
                n_vectors,
                sums: &mut sums[first..],
                sums_stride: n_sums,
            };
            match sequence.peek() {
                Some(&(next_first, (columns, _))) if shape.overlaps => {
                    let next = resized(other, panel_sums * columns.len())?;
                    let next = NextPanel { columns, row_block: row_block(next_first), panel: next };
                    kernel.multiply_and_panel(product, transmission, next);
                    std::mem::swap(panel, other);
                }
                Some(&(next_first, (columns, _))) => {
                    kernel.multiply(product);
                    // In the same buffer, because two panels would not stay in a first-level cache.
                    let next = resized(panel, panel_sums * columns.len())?;
                    kernel.panel(transmission, columns, row_block(next_first), next);
                }
                None => kernel.multiply(product),
            }
            let per_block = self.context.work(Form::Rows, n_vectors, columns.len() as u64, 0);
            self.ticker.count(per_block * shape.panel_blocks as u64)?;
        }
        Ok(())
    }

    /// Adds the fields of all vectors over their positions in the columns of the chunk, a panel at a time.
    fn add_positions<T>(
        &mut self,
        columns: &[u64],
        vectors: &[PanelPositions],
        tile: &RowTile<'_, '_, T>,
        sums: &mut [i32],
    ) -> Result<(), Stopped> {
        let (kernel, transmission) = (self.context.cpu.kernel, &self.context.request.transmission);
        let n_sums = tile.n_sums();
        (0..n_sums).step_by(COLUMN_COMPONENTS).try_for_each(|first| {
            let row_block = tile.blocks.start + (first / BLOCK_COMPONENTS) as u64;
            columns.chunks(kernel.column_shape().panel_columns).enumerate().try_for_each(|(k, columns)| {
                let panel = resized(&mut self.scratch.columns, columns.len())?;
                kernel.column_panel(transmission, columns, row_block, panel);
                let mut nonzeros = 0;
                for (vector, sums) in vectors.iter().zip(sums.chunks_exact_mut(n_sums)) {
                    let positions = vector.in_panel(k);
                    nonzeros += (positions.positive.len() + positions.negative.len()) as u64;
                    let sums = sums[first..].first_chunk_mut().expect("a tile has whole columns");
                    kernel.add_columns(panel, positions, sums);
                }
                let per_block = self.context.work(Form::Positions, vectors.len(), columns.len() as u64, nonzeros);
                self.ticker.count(per_block * COLUMN_BLOCKS as u64)
            })
        })
    }

    /// Computes the fields of the anchors at the rows of a tile and, for "linear" without a camera, the reference.
    fn set_reference<T>(&mut self, tile: &RowTile<'_, '_, T>) -> Result<(), Stopped> {
        let (kernel, request) = (self.context.cpu.kernel, self.context.request);
        let mode = request.mode;
        let mut anchors = Vec::new();
        match self.measurements.first() {
            Some(of_output) => {
                for columns in of_output.measurement.anchor_columns(mode) {
                    push(&mut anchors, collect(columns)?)?;
                }
            }
            None if mode.anchor_pixels() > 0 => {
                push(&mut anchors, collect(anchor::columns(0, mode.anchor_pixels()))?)?;
            }
            None => {}
        }
        let n_sums = tile.n_sums();
        let fields = resized(&mut self.scratch.anchors, anchors.len() * n_sums)?;
        fields.fill(0);
        for (index, field) in anchors.iter().zip(fields.chunks_exact_mut(n_sums)) {
            let sign = zeros(index.len())?;
            kernel.field(&request.transmission, SignedColumns { index, sign: &sign }, tile.blocks.start, field);
            self.ticker.check()?;
        }
        if let (Mode::Linear { .. }, true) = (mode, self.measurements.is_empty()) {
            self.scratch.reference.set(anchors[0].len(), components_of(mode, fields, tile.rows.clone()))?;
        }
        Ok(())
    }

    /// Reads the field of one vector out into its part of the output.
    fn read_out<T: Number>(
        &mut self,
        tile: &mut RowTile<'_, '_, T>,
        v: usize,
        field: Field<'_>,
    ) -> Result<(), Stopped> {
        let (kernel, mode) = (self.context.cpu.kernel, self.context.request.mode);
        let field = match self.readout {
            Readout::Given(fields) => {
                let at = (tile.first_row(mode) - self.context.request.rows.start) as usize;
                fields.of(self.first_output + v).of_rows(mode, at..at + tile.rows.len())
            }
            _ => field.of_rows(mode, tile.rows.clone()),
        };
        let Scratch { floats, reference, .. } = &mut self.scratch;
        match self.readout {
            Readout::Field => {
                field.to_f64(floats)?;
                for (output, &component) in tile.outputs[v].iter_mut().zip(&*floats) {
                    *output = T::rounded(component);
                }
            }
            Readout::Exact | Readout::Given(_) => {
                let output = &mut tile.outputs[v];
                match field {
                    Field::Short(field) => kernel.vectorize(
                        #[inline(always)]
                        || read_short(mode, field, reference, output),
                    ),
                    Field::Int32(field) => kernel.vectorize(
                        #[inline(always)]
                        || read(mode, field, 1.0, reference, output),
                    ),
                    Field::Int64(_) => {
                        field.to_f64(floats)?;
                        kernel.vectorize(
                            #[inline(always)]
                            || read(mode, floats, 1.0, reference, output),
                        );
                    }
                }
            }
            Readout::Camera(_) => self.read_through_camera(tile, v, field)?,
            Readout::Sum { weights, fits, scales } => {
                let (output, part) = (v / weights.len(), v % weights.len());
                self.scratch.sum.add(kernel, field, weights[part], part == 0, fits)?;
                if part + 1 == weights.len() {
                    let scale = scales[self.first_output + output];
                    let Scratch { sum, reference, .. } = &mut self.scratch;
                    let sum = sum.rounded()?;
                    kernel.vectorize(
                        #[inline(always)]
                        || read(mode, sum, scale, reference, tile.outputs[output]),
                    );
                }
            }
        }
        // This is not counted as progress, but it takes time, above all the first write to a page of memory.
        if v.is_multiple_of(VECTORS_PER_CHECK) { self.ticker.check() } else { Ok(()) }
    }

    /// Reads the field of one vector, or of a pair of vectors after the second one, through the camera.
    fn read_through_camera<T: Number>(
        &mut self,
        tile: &mut RowTile<'_, '_, T>,
        v: usize,
        field: Field<'_>,
    ) -> Result<(), Stopped> {
        let (kernel, mode) = (self.context.cpu.kernel, self.context.request.mode);
        let first_row = tile.first_row(mode);
        let per_output = self.n_vectors / self.measurements.len();
        let of_output = self.measurements[v / per_output];
        if per_output == 2 && v.is_multiple_of(2) {
            return Ok(field.to_f64(&mut self.scratch.first)?);
        }
        field.to_f64(&mut self.scratch.floats)?;
        let Scratch { anchors, first, floats, .. } = &self.scratch;
        let n_sums = tile.n_sums();
        let outputs = tile.outputs[v / per_output].chunks_mut(PIXELS * mode.parts());
        let work = of_output.frames() * PIXELS as u64 * WORK_PER_READING;
        outputs.enumerate().try_for_each(|(i, output)| {
            let rows = i * PIXELS..(i * PIXELS + output.len() / mode.parts());
            let of_rows = VectorMeasurement { first_row: first_row + rows.start as u64, ..of_output };
            let field = components_of(mode, floats, rows.clone());
            if per_output == 1 {
                of_rows.intensity(kernel, field, output);
            } else {
                let first = components_of(mode, first, rows.clone());
                let anchors = anchors.chunks_exact(n_sums).take(of_rows.anchors());
                let rows = tile.rows.start + rows.start..tile.rows.start + rows.end;
                let anchors = collect(anchors.map(|anchor| components_of(mode, anchor, rows.clone())))?;
                of_rows.recover(kernel, first, field, &anchors, output);
            }
            self.ticker.count(work)
        })
    }
}

/// Buffers that a thread keeps from tile to tile.
#[derive(Default)]
pub(super) struct Scratch {
    sums: Vec<i32>,
    /// The panel that is multiplied, and the one that an overlapping kernel writes meanwhile.
    panels: [Vec<u8>; 2],
    columns: Vec<PanelColumn>,
    anchors: Vec<i32>,
    /// A field as floats, and that of the first of the two vectors that make an output.
    floats: Vec<f64>,
    first: Vec<f64>,
    /// The sum of the fields of several vectors.
    sum: WeightedSum,
    reference: Reference,
}

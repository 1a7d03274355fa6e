//! The work of one thread on a tile: it sums the field of the tile over the inputs, and reads it out into the tile's part
//! of the outputs.

use std::ops::Range;

use super::context::Context;
use super::operand::{Form, Operand};
use super::readout::{Readout, WORK_PER_READING};
use crate::cpu::camera::VectorMeasurement;
use crate::cpu::kernel::{Product, SignedColumns};
use crate::cpu::noise::PIXELS;
use crate::cpu::reference::{Reference, components_of, read};
use crate::cpu::threads::Ticker;
use crate::definition::anchor;
use crate::definition::readout::{Mode, Number};
use crate::definition::transmission::BLOCK_COMPONENTS;
use crate::memory::{collect, push, refill, resized, zeros};
use crate::progress::Stopped;

/// Columns of a list that are summed between two checks for a stop; they stay in a first-level cache.
const LIST_PART: usize = 2048;

/// Vectors that are read out between two checks for a stop.
const VECTORS_PER_CHECK: usize = 8;

/// Rows that one thread works on at a time.
pub(super) struct RowTile<'s, 'o, T> {
    pub(super) blocks: Range<u64>,
    pub(super) rows: Range<usize>,
    pub(super) sums: Option<&'s mut [i32]>,
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
    /// The initial value of each vector's sums.
    pub(super) starts: &'a [i32],
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
        let mut tile_sums = std::mem::take(&mut self.scratch.sums);
        let mut stripe_sums = tile.sums.take();
        let n_sums = tile.n_sums();
        match operand {
            Operand::Lists { index, sign, ends } => (0..self.starts.len()).try_for_each(|v| {
                let sums = match &mut stripe_sums {
                    Some(stripe_sums) => &mut stripe_sums[v * n_sums..(v + 1) * n_sums],
                    // They are read out before the next vector is summed, so they stay in a first-level cache.
                    None => resized(&mut tile_sums, n_sums)?,
                };
                if self.first {
                    sums.fill(self.starts[v]);
                }
                self.add_list(Operand::list(index, sign, ends, v), &tile, sums)?;
                self.read_out(&mut tile, v, sums)
            })?,
            Operand::Rows { columns, inputs, largest } => {
                let n_vectors = self.starts.len();
                let sums = match &mut stripe_sums {
                    Some(stripe_sums) => &mut stripe_sums[..n_vectors * n_sums],
                    None => resized(&mut tile_sums, n_vectors * n_sums)?,
                };
                if self.first {
                    for (sums, &start) in sums.chunks_exact_mut(n_sums).zip(self.starts) {
                        sums.fill(start);
                    }
                }
                self.add_rows(columns, inputs, *largest, &tile, sums)?;
                sums.chunks_exact(n_sums).enumerate().try_for_each(|(v, sums)| self.read_out(&mut tile, v, sums))?;
            }
        }
        self.scratch.sums = tile_sums;
        Ok(())
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
            let per_block = self.context.work(Form::Lists, 1, index.len() as u64);
            self.ticker.count(per_block * (sums.len() / BLOCK_COMPONENTS) as u64)
        })
    }

    /// Adds the fields of all vectors over the columns of the chunk, a panel at a time.
    fn add_rows<T>(
        &mut self,
        columns: &[u64],
        inputs: &[i8],
        largest: u8,
        tile: &RowTile<'_, '_, T>,
        sums: &mut [i32],
    ) -> Result<(), Stopped> {
        let (kernel, transmission) = (self.context.cpu.kernel, &self.context.request.transmission);
        let (n_sums, n_vectors) = (tile.n_sums(), self.starts.len());
        let panel_sums = kernel.panel_shape().panel_blocks * BLOCK_COMPONENTS;
        (0..n_sums).step_by(panel_sums).try_for_each(|first| {
            let row_block = tile.blocks.start + (first / BLOCK_COMPONENTS) as u64;
            let mut inputs = inputs;
            columns.chunks(kernel.panel_shape().panel_columns).try_for_each(|columns| {
                let panel = resized(&mut self.scratch.panel, panel_sums * columns.len())?;
                kernel.panel(transmission, columns, row_block, panel);
                kernel.multiply(Product {
                    panel,
                    columns: columns.len(),
                    x: inputs.split_off(..n_vectors * columns.len()).expect("inputs for every column"),
                    largest,
                    x_stride: columns.len(),
                    n_vectors,
                    sums: &mut sums[first..],
                    sums_stride: n_sums,
                });
                let per_block = self.context.work(Form::Rows, n_vectors, columns.len() as u64);
                self.ticker.count(per_block * (panel_sums / BLOCK_COMPONENTS) as u64)
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
            self.scratch.reference.set(components_of(mode, fields, tile.rows.clone()))?;
        }
        Ok(())
    }

    /// Reads the field of one vector out into its part of the output, if this is the last chunk.
    fn read_out<T: Number>(&mut self, tile: &mut RowTile<'_, '_, T>, v: usize, sums: &[i32]) -> Result<(), Stopped> {
        if !self.last {
            return Ok(());
        }
        let mode = self.context.request.mode;
        let field = match self.readout {
            Readout::Given(fields) => {
                let at = (tile.first_row(mode) - self.context.request.rows.start) as usize;
                components_of(mode, fields[self.first_output + v], at..at + tile.rows.len())
            }
            _ => components_of(mode, sums, tile.rows.clone()),
        };
        match self.readout {
            Readout::Field => {
                for (output, &part) in tile.outputs[v].iter_mut().zip(field) {
                    *output = T::rounded(f64::from(part));
                }
            }
            Readout::Exact | Readout::Given(_) => {
                let kernel = self.context.cpu.kernel;
                let output = &mut tile.outputs[v];
                kernel.vectorize(
                    #[inline(always)]
                    || read(mode, field, 1.0, &self.scratch.reference, output),
                );
            }
            Readout::Camera(_) => self.read_through_camera(tile, v, field)?,
            Readout::Sum { weights, scales } => self.sum_up(tile, v, field, weights, scales)?,
        }
        // This is not counted as progress, but it takes time, above all the first write to a page of memory.
        if v.is_multiple_of(VECTORS_PER_CHECK) { self.ticker.check() } else { Ok(()) }
    }

    /// Reads the field of one vector, or of a pair of vectors after the second one, through the camera.
    fn read_through_camera<T: Number>(
        &mut self,
        tile: &mut RowTile<'_, '_, T>,
        v: usize,
        field: &[i32],
    ) -> Result<(), Stopped> {
        let (kernel, mode) = (self.context.cpu.kernel, self.context.request.mode);
        let first_row = tile.first_row(mode);
        let per_output = self.starts.len() / self.measurements.len();
        let of_output = self.measurements[v / per_output];
        if per_output == 2 && v.is_multiple_of(2) {
            return Ok(refill(&mut self.scratch.first, field.iter().copied())?);
        }
        let (anchors, first) = (std::mem::take(&mut self.scratch.anchors), std::mem::take(&mut self.scratch.first));
        let n_sums = tile.n_sums();
        let outputs = tile.outputs[v / per_output].chunks_mut(PIXELS * mode.parts());
        let work = of_output.frames() * PIXELS as u64 * WORK_PER_READING;
        outputs.enumerate().try_for_each(|(i, output)| {
            let rows = i * PIXELS..(i * PIXELS + output.len() / mode.parts());
            let of_rows = VectorMeasurement { first_row: first_row + rows.start as u64, ..of_output };
            let field = components_of(mode, field, rows.clone());
            if per_output == 1 {
                of_rows.intensity(kernel, field, output);
            } else {
                let first = components_of(mode, &first, rows.clone());
                let anchors = anchors.chunks_exact(n_sums).take(of_rows.anchors());
                let rows = tile.rows.start + rows.start..tile.rows.start + rows.end;
                let anchors = collect(anchors.map(|anchor| components_of(mode, anchor, rows.clone())))?;
                of_rows.recover(kernel, first, field, &anchors, output);
            }
            self.ticker.count(work)
        })?;
        (self.scratch.anchors, self.scratch.first) = (anchors, first);
        Ok(())
    }

    /// Adds the field of one vector to the sum for its output, and reads the sum out after the last one.
    fn sum_up<T: Number>(
        &mut self,
        tile: &mut RowTile<'_, '_, T>,
        v: usize,
        field: &[i32],
        weights: &[i64],
        scales: &[f64],
    ) -> Result<(), Stopped> {
        let (kernel, mode) = (self.context.cpu.kernel, self.context.request.mode);
        let (output, part) = (v / weights.len(), v % weights.len());
        let Scratch { total, wide, reference, .. } = &mut self.scratch;
        if part == 0 {
            refill(total, field.iter().map(|_| 0))?;
        }
        let weight = weights[part];
        for (total, &sum) in total.iter_mut().zip(field) {
            *total += weight * i64::from(sum);
        }
        if part + 1 == weights.len() {
            let scale = scales[self.first_output + output];
            refill(wide, total.iter().map(|&total| total as f64))?;
            kernel.vectorize(
                #[inline(always)]
                || read(mode, wide, scale, reference, tile.outputs[output]),
            );
        }
        Ok(())
    }
}

/// Buffers that a thread keeps from tile to tile.
#[derive(Default)]
pub(super) struct Scratch {
    sums: Vec<i32>,
    panel: Vec<u8>,
    anchors: Vec<i32>,
    /// The first of the two fields that make an output.
    first: Vec<i32>,
    /// The sum of the fields of several vectors, and the same as floats.
    total: Vec<i64>,
    wide: Vec<f64>,
    reference: Reference,
}

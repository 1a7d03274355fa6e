//! The way of a batch through T.

use std::ops::Range;
use std::sync::Mutex;

use super::context::Context;
use super::layout::Layout;
use super::operand::{self, Form, Operand, VectorGroup};
use super::positions::PanelPositions;
use super::readout::Readout;
use super::worker::{ProjectionWorker, RowTile, Scratch};
use crate::batch::encoded::Encoded;
use crate::batch::ternary::TernaryBatch;
use crate::cpu::camera::VectorMeasurement;
use crate::cpu::field::{Fields, fits_f64};
use crate::cpu::gather::{self, STRIPE_SUMS};
use crate::cpu::outputs::{Output, Outputs, with_typed};
use crate::cpu::resources::Cpu;
use crate::cpu::threads::{Ticker, WORK_PER_CHECK, next, share};
use crate::cpu::vectors::Vectors;
use crate::definition::readout::{Mode, Number};
use crate::memory::{collect, with_capacity, zeros};
use crate::progress::{Coordinator, Progress, Stopped};
use crate::request::measurement::Measurement;
use crate::request::projection::{Columns, Projection};

impl Cpu {
    /// Projects a batch whose elements belong to `columns` of T.
    ///
    /// Vector v goes to `outputs[v]`, [`Projection::width`] numbers.
    /// About every 50 ms the calling thread calls `poll` with the fraction of the work that is done. If `poll` returns
    /// `false`, the projection stops soon after, and the outputs are then incomplete.
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or memory is short.
    ///
    /// # Panics
    ///
    /// If there is not one output of that size for each vector, or not one listed column for each element, or a camera for
    /// "real".
    pub fn project<T: Output>(
        &self,
        request: &Projection,
        batch: &TernaryBatch,
        columns: Columns<'_>,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        assert_one_each(columns, batch.n_inputs());
        let progress = Progress::new();
        let mut coordinator = Coordinator::new(&progress, poll);
        assert!(request.mode != Mode::Real || request.measurement.is_none(), "no camera reads \"real\"");
        let camera =
            request.measurement.as_ref().filter(|measurement| measurement.raw || !measurement.camera.is_ideal());
        // A linear or complex result is recovered from intensities of p and q apart, for x = p − q.
        let split = camera.is_some() && request.mode != Mode::Intensity;
        let vectors = if split { Vectors::split(batch)? } else { Vectors::whole(batch) };
        let readout = camera.map_or(Readout::Exact, Readout::Camera);
        Context { request, cpu: *self }.run(&vectors.at(columns), readout, T::outputs(outputs), &mut coordinator)
    }

    /// Projects a batch of encoded numbers. There is no camera: a camera measures one digit at a time.
    ///
    /// Otherwise as [`project`](Self::project). Digits are added up to as few vectors as their sums allow.
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or memory is short.
    ///
    /// # Panics
    ///
    /// As [`project`](Self::project), or if the request has a camera.
    pub fn project_encoded<T: Output>(
        &self,
        request: &Projection,
        batch: &Encoded,
        columns: Columns<'_>,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        assert!(request.measurement.is_none(), "no camera");
        assert_one_each(columns, batch.n_inputs());
        let progress = Progress::new();
        let mut coordinator = Coordinator::new(&progress, poll);
        let max_input = self.kernel.panel_shape().max_input;
        let (vectors, weights) = Vectors::fused(batch.digits(), batch.base(), max_input)?;
        let fits = fits_f64(vectors.largest_total(&weights));
        let readout = Readout::Sum { weights: &weights, fits, scales: batch.scales() };
        Context { request, cpu: *self }.run(&vectors.at(columns), readout, T::outputs(outputs), &mut coordinator)
    }

    /// Writes the exact integer fields, √2048 Tx, of vectors whose elements belong to the columns from `column_start` on:
    /// real and imaginary parts in turn, two numbers a row; for "real" one number a row, 32 Gx. The camera of the request is
    /// not used.
    ///
    /// Fields of disjoint columns add up to the field of all columns, and [`read_fields`](Self::read_fields) makes results of
    /// it. With more than [`INT32_NONZEROS`](crate::definition::transmission::INT32_NONZEROS) nonzeros it may need 64 bits. Otherwise as [`project`](Self::project).
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or memory is short.
    ///
    /// # Panics
    ///
    /// If there is not one output of that size for each vector, or T has no such columns.
    pub fn fields<T: Output>(
        &self,
        request: &Projection,
        batch: &TernaryBatch,
        column_start: u64,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        assert!(column_start.checked_add(batch.n_inputs() as u64).is_some(), "columns end below 2**64");
        let progress = Progress::new();
        let mut coordinator = Coordinator::new(&progress, poll);
        let request = &Projection { mode: request.mode.field(), measurement: None, ..request.clone() };
        let vectors = Vectors::whole(batch).at(Columns::From(column_start));
        Context { request, cpu: *self }.run(&vectors, Readout::Field, T::outputs(outputs), &mut coordinator)
    }

    /// Reads whole fields, as [`fields`](Self::fields) writes them, into the results that [`project`](Self::project) would
    /// give without a camera: the same bits.
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or memory is short.
    ///
    /// # Panics
    ///
    /// If there is not one output for each field, or a size is wrong.
    pub fn read_fields<T: Output>(
        &self,
        request: &Projection,
        fields: Fields<'_>,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        let n_rows = (request.rows.end - request.rows.start) as usize;
        let width = n_rows * request.mode.components();
        assert!(fields.have_length(width), "the components of each row");
        // All-zero vectors, whose sums cost nothing. So tiles, threads and the anchor are those of any projection.
        let all_zero = TernaryBatch::from_words(fields.len(), 1, zeros(fields.len())?, zeros(fields.len())?)
            .expect("planes without a bit");
        let request = &Projection { measurement: None, ..request.clone() };
        let progress = Progress::new();
        let mut coordinator = Coordinator::new(&progress, poll);
        Context { request, cpu: *self }.run(
            &Vectors::whole(&all_zero),
            Readout::Given(fields),
            T::outputs(outputs),
            &mut coordinator,
        )
    }
}

impl Context<'_> {
    fn run(
        &self,
        vectors: &Vectors<'_>,
        readout: Readout<'_>,
        outputs: Outputs<'_, '_>,
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<(), Stopped> {
        with_typed!(outputs => self.run_typed(vectors, readout, outputs, coordinator))
    }

    fn run_typed<T: Number>(
        &self,
        vectors: &Vectors<'_>,
        readout: Readout<'_>,
        outputs: &mut [&mut [T]],
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<(), Stopped> {
        let Self { request, cpu } = *self;
        assert_eq!(outputs.len() * vectors.per_output(), vectors.len(), "one output a vector");
        assert!(outputs.iter().all(|output| output.len() == request.width()), "one result a row");
        if outputs.is_empty() || request.width() == 0 {
            return Ok(());
        }
        let n_blocks = (self.blocks().end - self.blocks().start) as usize;
        let groups = operand::groups(vectors, cpu.kernel, self.max_vectors(), coordinator)?;
        let work = |group: &VectorGroup| {
            let readout_work = readout.work(request.mode) * group.outputs(vectors).len() as u64;
            (self.work(group.form, group.vectors.len(), group.columns, group.nonzeros) + readout_work) * n_blocks as u64
        };
        coordinator.progress.set_total(groups.iter().map(work).sum());
        for group in &groups {
            let outputs = &mut outputs[group.outputs(vectors)];
            let layout = Layout::of(*self, group, readout.work(request.mode) * outputs.len() as u64);
            self.run_group(vectors, readout, group, &layout, outputs, coordinator)?;
        }
        Ok(())
    }

    fn run_group<T: Number>(
        &self,
        vectors: &Vectors<'_>,
        readout: Readout<'_>,
        group: &VectorGroup,
        layout: &Layout,
        outputs: &mut [&mut [T]],
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<(), Stopped> {
        let progress = coordinator.progress;
        let measurements = match readout {
            Readout::Camera(measurement) => self.measurements(vectors, measurement, group, coordinator)?,
            _ => Vec::new(),
        };
        let first_words = operand::chunk_words(vectors, group, 0, coordinator)?;
        let whole = first_words.end == vectors.row_words();
        let stripe_tiles = if whole { layout.n_tiles } else { (STRIPE_SUMS / layout.tile_sums).max(1) };
        let mut stripe_sums = zeros(if whole { 0 } else { stripe_tiles.min(layout.n_tiles) * layout.tile_sums })?;
        let mut rests: Vec<&mut [T]> = collect(outputs.iter_mut().map(|output| &mut **output))?;
        for stripe in (0..layout.n_tiles).step_by(stripe_tiles) {
            let tiles = stripe..layout.n_tiles.min(stripe + stripe_tiles);
            let mut words = first_words.clone();
            loop {
                let (first, last) = (words.start == 0, words.end == vectors.row_words());
                let operand = self.operand(vectors, group, words.clone(), layout, coordinator)?;
                let mut kept = stripe_sums.chunks_mut(layout.tile_sums);
                let queue = Mutex::new(tiles.clone().map(|tile| -> Result<_, Stopped> {
                    Ok(RowTile {
                        blocks: layout.blocks(tile),
                        rows: layout.rows(tile),
                        kept: kept.next(),
                        outputs: if last { layout.split_off(tile, &mut rests)? } else { Vec::new() },
                    })
                }));
                let work = |goes_on: &mut dyn FnMut() -> bool| {
                    let mut worker = ProjectionWorker {
                        context: *self,
                        n_vectors: group.vectors.len(),
                        readout,
                        measurements: &measurements,
                        first_output: group.outputs(vectors).start,
                        first,
                        last,
                        ticker: Ticker::new(progress, goes_on, WORK_PER_CHECK),
                        scratch: Scratch::default(),
                    };
                    while let Some(tile) = next(&queue) {
                        worker.process(&operand, tile?)?;
                    }
                    Ok(())
                };
                share(coordinator, layout.threads, work)?;
                if last {
                    break;
                }
                words = operand::chunk_words(vectors, group, words.end, coordinator)?;
            }
        }
        Ok(())
    }

    /// The measurement of each output of a group. The worker sets its rows.
    fn measurements<'m>(
        &self,
        vectors: &Vectors<'_>,
        measurement: &'m Measurement,
        group: &VectorGroup,
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<Vec<VectorMeasurement<'m>>, Stopped> {
        let (mode, outputs) = (self.request.mode, group.outputs(vectors));
        let mut measurements = with_capacity(outputs.len())?;
        for output in outputs {
            let of_output = output * vectors.per_output()..(output + 1) * vectors.per_output();
            let brightest = of_output.map(|vector| vectors.nonzeros(vector, 0..vectors.row_words())).max().unwrap_or(0)
                + measurement.anchor_pixels(mode);
            let mean = measurement.mean(brightest);
            measurements.push(VectorMeasurement { measurement, mode, vector: output as u64, first_row: 0, mean });
            coordinator.count_bytes(vectors.per_output() * vectors.row_bytes())?;
        }
        Ok(measurements)
    }

    /// Lays out the inputs of a group over some words.
    fn operand(
        &self,
        vectors: &Vectors<'_>,
        group: &VectorGroup,
        words: Range<usize>,
        layout: &Layout,
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<Operand, Stopped> {
        if group.form == Form::Lists {
            return operand::lists(vectors, group, words, coordinator);
        }
        if group.form == Form::Positions {
            return self.positions(vectors, group, words, layout, coordinator);
        }
        let n_vectors = group.vectors.len();
        let shape = self.cpu.kernel.panel_shape();
        let (union, columns) = operand::union(vectors, group, words.clone(), shape.column_multiple, coordinator)?;
        let (mut inputs, mut starts) = (zeros(columns.len() * n_vectors)?, zeros(n_vectors)?);
        let parts = gather::parts(&mut inputs, n_vectors, shape.panel_columns)?;
        let queue = Mutex::new(group.vectors.clone().zip(starts.iter_mut().zip(parts)));
        let work = |goes_on: &mut dyn FnMut() -> bool| {
            let mut row_inputs: Vec<i8> = zeros(columns.len())?;
            while let Some((vector, (start, parts))) = next(&queue)
                && goes_on()
            {
                gather::gather(vectors, vector, words.clone(), &union, &mut row_inputs);
                *start = gather::start(shape, &row_inputs);
                let mut rest = &row_inputs[..];
                for part in parts {
                    part.copy_from_slice(rest.split_off(..part.len()).expect("parts make up the row"));
                }
            }
            Ok(())
        };
        share(coordinator, layout.threads, work)?;
        Ok(Operand::Rows { columns, inputs, largest: vectors.largest(), starts })
    }

    /// The positions of a group over some words.
    fn positions(
        &self,
        vectors: &Vectors<'_>,
        group: &VectorGroup,
        words: Range<usize>,
        layout: &Layout,
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<Operand, Stopped> {
        let (union, columns) = operand::union(vectors, group, words.clone(), 1, coordinator)?;
        let panel_columns = self.cpu.kernel.column_shape().panel_columns;
        let mut all = collect(group.vectors.clone().map(|_| None))?;
        let queue = Mutex::new(group.vectors.clone().zip(&mut all));
        let work = |goes_on: &mut dyn FnMut() -> bool| {
            while let Some((vector, positions)) = next(&queue)
                && goes_on()
            {
                *positions = Some(PanelPositions::of(vectors, vector, words.clone(), &union, panel_columns)?);
            }
            Ok(())
        };
        share(coordinator, layout.threads, work)?;
        let vectors = collect(all.into_iter().map(|positions| positions.expect("every vector was taken")))?;
        Ok(Operand::Positions { columns, vectors })
    }
}

fn assert_one_each(columns: Columns<'_>, n_inputs: usize) {
    if let Columns::Listed(columns) = columns {
        assert_eq!(columns.len(), n_inputs, "a column for each element");
    }
}

//! A batch of ternary vectors through T: groups of vectors, tiles of rows, threads, progress and cancellation.
//!
//! One group of vectors at a time, its inputs are laid out in chunks (see [`operand`]); threads then take tiles of rows from
//! a queue, sum the tile's field over the chunk, and read it out into the tile's own part of the output. Most groups
//! fit one chunk. Where they do not, the sums of a *stripe* of tiles are kept from chunk to chunk.
//!
//! * `layout` says how large groups and tiles are.
//! * `worker` is one thread at work on them.
//! * `reader` is what becomes of the fields.

mod layout;
mod reader;
mod worker;

use std::ops::Range;
use std::sync::Mutex;

use crate::encoded::Encoded;
use crate::kernel::Kernel;
use crate::memory::{STRIPE_SUMS, collected, room, zeros};
use crate::operand::{self, Chunk, Form, Group};
use crate::readout::{Mode, Real};
use crate::recovery::{Shot, Sight};
use crate::ternary::TernaryBatch;
use crate::transmission::{BLOCK_COMPONENTS, Transmission};
pub use crate::vectors::Columns;
use crate::vectors::Vectors;
use crate::work::{Lead, Pace, Stopped, WORK_PER_ENTRY, WORK_PER_PAUSE, Watch, next, refuse_too_many};
use layout::Layout;
use reader::Reader;
use worker::{Scratch, Tile, Worker};

/// The rows of T that are projected on, and how.
#[derive(Clone, Debug)]
pub struct Projection {
    /// The matrix.
    pub transmission: Transmission,
    /// What is read.
    pub mode: Mode,
    /// The camera that reads it; none reads everything exactly, and so does an ideal one.
    pub sight: Option<Sight>,
    /// The rows of T, one output each.
    pub rows: Range<u64>,
    /// The inner loops.
    pub kernel: Kernel,
    /// Threads to use, the caller's among them; at least 1.
    pub threads: usize,
}

impl Projection {
    /// Projects a batch.
    ///
    /// Vector v goes to `outputs[v]`, as many numbers as there are rows times [`Mode::parts`].
    /// About every 50 ms `poll` is called, on the calling thread, with the part of the work that is done; the projection
    /// stops soon after it says `false`, and the outputs are then half written.
    ///
    /// # Errors
    ///
    /// If `poll` stopped it, a vector has too many nonzeros, or memory is short.
    ///
    /// # Panics
    ///
    /// If there is not one output of that size for each vector.
    pub fn run<T: Real>(
        &self,
        batch: &TernaryBatch,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        self.run_at(batch, Columns::From(0), outputs, poll)
    }

    /// The same for vectors whose elements belong to other columns of T.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run), or if there is not one listed column for each element.
    pub fn run_at<T: Real>(
        &self,
        batch: &TernaryBatch,
        columns: Columns<'_>,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        assert_one_each(columns, batch.n_inputs());
        let watch = Watch::new();
        let mut lead = Lead::new(&watch, poll);
        refuse_too_many(batch, &mut lead)?;
        let sight = self.sight.as_ref().filter(|sight| sight.raw || !sight.detector.camera.is_ideal());
        // Only intensities of p and q apart give back what belongs to p − q.
        let split = sight.is_some() && self.mode != Mode::Intensity;
        let vectors = if split { Vectors::split(batch)? } else { Vectors::whole(batch) };
        self.run_vectors(&vectors.at(columns), sight.map_or(Reader::Exact, Reader::Camera), outputs, &mut lead)
    }

    /// Projects a batch of encoded numbers, without a camera, which can only see one digit at a time.
    ///
    /// Otherwise as [`run`](Self::run). Digits are added up to as few vectors as their sums allow.
    ///
    /// # Errors
    ///
    /// If `poll` stopped it, a vector has too many nonzeros in one digit, or memory is short.
    ///
    /// # Panics
    ///
    /// If there is not one output of that size for each vector, or a camera.
    pub fn run_encoded<T: Real>(
        &self,
        batch: &Encoded,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        self.run_encoded_at(batch, Columns::From(0), outputs, poll)
    }

    /// The same for vectors whose elements belong to other columns of T.
    ///
    /// # Errors
    ///
    /// As [`run_encoded`](Self::run_encoded).
    ///
    /// # Panics
    ///
    /// As [`run_encoded`](Self::run_encoded), or if there is not one listed column for each element.
    pub fn run_encoded_at<T: Real>(
        &self,
        batch: &Encoded,
        columns: Columns<'_>,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        assert!(self.sight.is_none(), "no camera");
        assert_one_each(columns, batch.n_inputs());
        let watch = Watch::new();
        let mut lead = Lead::new(&watch, poll);
        for digit in batch.digits() {
            refuse_too_many(digit, &mut lead)?;
        }
        let max_input = self.kernel.shape().max_input;
        let (vectors, weights) = Vectors::fused(batch.digits(), batch.base(), max_input, &mut lead)?;
        let reader = Reader::Sum { weights: &weights, scales: batch.scales() };
        self.run_vectors(&vectors.at(columns), reader, outputs, &mut lead)
    }

    /// The exact integer fields, √2048 Tx, of vectors whose elements belong to the columns from `column_start` on: real
    /// and imaginary parts in turn, two numbers a row. The mode and the camera play no part.
    ///
    /// Fields of disjoint columns add up to that of all: those of up to [`MAX_NONZEROS`](crate::kernel::MAX_NONZEROS) nonzeros together still fit 32
    /// bits, and [`read_fields`](Self::read_fields) makes results of them. Otherwise as [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// If `poll` stopped it, a vector has too many nonzeros, or memory is short.
    ///
    /// # Panics
    ///
    /// If there is not one output of that size for each vector, or T has no such columns.
    pub fn run_fields<T: Real>(
        &self,
        batch: &TernaryBatch,
        column_start: u64,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        assert!(column_start.checked_add(batch.n_inputs() as u64).is_some(), "columns end below 2**64");
        let watch = Watch::new();
        let mut lead = Lead::new(&watch, poll);
        refuse_too_many(batch, &mut lead)?;
        let complex = Self { mode: Mode::Complex, sight: None, ..self.clone() };
        complex.run_vectors(&Vectors::whole(batch).at(Columns::From(column_start)), Reader::Field, outputs, &mut lead)
    }

    /// Reads whole fields, as [`run_fields`](Self::run_fields) gives them, as [`run`](Self::run) would without a camera:
    /// the same bits.
    ///
    /// # Errors
    ///
    /// If `poll` stopped it, or memory is short.
    ///
    /// # Panics
    ///
    /// If there is not one output for each field, each of their sizes.
    pub fn read_fields<T: Real>(
        &self,
        fields: &[&[i32]],
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        let n_rows = (self.rows.end - self.rows.start) as usize;
        assert!(fields.iter().all(|field| field.len() == 2 * n_rows), "two parts a row");
        // Vectors without a nonzero, whose sums cost nothing: tiles, threads and the anchor are those of any projection.
        let dark = TernaryBatch::from_words(fields.len(), 1, zeros(fields.len())?, zeros(fields.len())?)
            .expect("planes without a bit");
        let exact = Self { sight: None, ..self.clone() };
        let watch = Watch::new();
        exact.run_vectors(&Vectors::whole(&dark), Reader::Given(fields), outputs, &mut Lead::new(&watch, poll))
    }

    fn run_vectors<T: Real>(
        &self,
        vectors: &Vectors<'_>,
        reader: Reader<'_>,
        outputs: &mut [&mut [T]],
        lead: &mut Lead<'_, '_>,
    ) -> Result<(), Stopped> {
        let width = (self.rows.end - self.rows.start) as usize * self.mode.parts();
        assert_eq!(outputs.len() * vectors.an_output(), vectors.len(), "one output a vector");
        assert!(outputs.iter().all(|output| output.len() == width), "one result a row");
        if outputs.is_empty() || width == 0 {
            return Ok(());
        }
        let n_blocks = (self.blocks().end - self.blocks().start) as usize;
        let groups = operand::groups(vectors, self.kernel, self.most_vectors(), lead)?;
        let work = |group: &Group| {
            let seen = reader.work(self.mode) * group.outputs(vectors).len() as u64;
            (self.work(group.form, group.vectors.len(), group.columns) + seen) * n_blocks as u64
        };
        lead.watch.expect(groups.iter().map(work).sum());
        for group in &groups {
            let outputs = &mut outputs[group.outputs(vectors)];
            let layout = Layout::of(self, group, reader.work(self.mode) * outputs.len() as u64);
            self.run_group(vectors, reader, group, &layout, outputs, lead)?;
        }
        Ok(())
    }

    fn run_group<T: Real>(
        &self,
        batch: &Vectors<'_>,
        reader: Reader<'_>,
        group: &Group,
        layout: &Layout,
        outputs: &mut [&mut [T]],
        lead: &mut Lead<'_, '_>,
    ) -> Result<(), Stopped> {
        let watch = lead.watch;
        let starts = self.starts(batch, group, lead)?;
        let shots =
            if let Reader::Camera(sight) = reader { self.shots(batch, sight, group, lead)? } else { Vec::new() };
        let first_words = operand::span(batch, group, 0, lead)?;
        let whole = first_words.end == batch.row_words();
        let stripe_tiles = if whole { layout.n_tiles } else { (STRIPE_SUMS / (4 * layout.tile_sums)).max(1) };
        let mut kept = zeros(if whole { 0 } else { stripe_tiles.min(layout.n_tiles) * layout.tile_sums })?;
        let mut rests: Vec<&mut [T]> = collected(outputs.iter_mut().map(|output| &mut **output))?;
        for stripe in (0..layout.n_tiles).step_by(stripe_tiles) {
            let tiles = stripe..layout.n_tiles.min(stripe + stripe_tiles);
            let mut words = first_words.clone();
            loop {
                let (first, last) = (words.start == 0, words.end == batch.row_words());
                let chunk = self.chunk(batch, group, words.clone(), layout, lead)?;
                let mut sums = kept.chunks_mut(layout.tile_sums);
                let queue = Mutex::new(tiles.clone().map(|tile| -> Result<_, Stopped> {
                    Ok(Tile {
                        blocks: layout.blocks(tile),
                        rows: layout.rows(tile),
                        sums: sums.next(),
                        outputs: if last { layout.cut(tile, &mut rests)? } else { Vec::new() },
                    })
                }));
                let work = |keep_on: &mut dyn FnMut() -> bool| {
                    let mut worker = Worker {
                        projection: self,
                        starts: &starts,
                        reader,
                        shots: &shots,
                        first_output: group.outputs(batch).start,
                        first,
                        last,
                        pace: Pace::new(watch, keep_on, WORK_PER_PAUSE),
                        scratch: Scratch::default(),
                    };
                    while let Some(tile) = next(&queue) {
                        worker.work_off(&chunk, tile?)?;
                    }
                    Ok(())
                };
                lead.share(layout.threads, work)?;
                if last {
                    break;
                }
                words = operand::span(batch, group, words.end, lead)?;
            }
        }
        Ok(())
    }

    /// Where each vector's sums begin: over panels, the bias of the kernel is taken off in advance.
    fn starts(&self, batch: &Vectors<'_>, group: &Group, lead: &mut Lead<'_, '_>) -> Result<Vec<i32>, Stopped> {
        if group.form == Form::Lists {
            return Ok(zeros(group.vectors.len())?);
        }
        let mut starts = room(group.vectors.len())?;
        for vector in group.vectors.clone() {
            starts.push((-i64::from(self.kernel.shape().bias) * batch.sum(vector)) as i32);
            lead.went_through(batch.row_bytes())?;
        }
        Ok(starts)
    }

    /// How the camera sees each output of a group; its rows are yet to be told.
    fn shots<'s>(
        &self,
        batch: &Vectors<'_>,
        sight: &'s Sight,
        group: &Group,
        lead: &mut Lead<'_, '_>,
    ) -> Result<Vec<Shot<'s>>, Stopped> {
        let outputs = group.outputs(batch);
        let mut shots = room(outputs.len())?;
        for output in outputs {
            let vectors = output * batch.an_output()..(output + 1) * batch.an_output();
            let brightest =
                vectors.map(|vector| batch.nonzeros(vector)).max().unwrap_or(0) + sight.anchor_pixels(self.mode);
            let mean = sight.mean(brightest);
            shots.push(Shot { sight, mode: self.mode, vector: output as u64, first_row: 0, mean });
            lead.went_through(batch.an_output() * batch.row_bytes())?;
        }
        Ok(shots)
    }

    /// Lays out the inputs over a span of words.
    fn chunk(
        &self,
        batch: &Vectors<'_>,
        group: &Group,
        words: Range<usize>,
        layout: &Layout,
        lead: &mut Lead<'_, '_>,
    ) -> Result<Chunk, Stopped> {
        if group.form == Form::Lists {
            return operand::lists(batch, group, words, lead);
        }
        let (union, columns) = operand::union(batch, group, words.clone(), self.kernel.shape().column_multiple, lead)?;
        let n_vectors = group.vectors.len();
        let mut inputs = zeros(columns.len() * n_vectors)?;
        let parts = operand::parts(&mut inputs, n_vectors, self.kernel.shape().panel_columns)?;
        let queue = Mutex::new(group.vectors.clone().zip(parts));
        let work = |keep_on: &mut dyn FnMut() -> bool| {
            let mut row_inputs = zeros(columns.len())?;
            while let Some((row, parts)) = next(&queue)
                && keep_on()
            {
                operand::gather(batch, row, words.clone(), &union, &mut row_inputs);
                let mut rest = &row_inputs[..];
                for part in parts {
                    part.copy_from_slice(rest.split_off(..part.len()).expect("parts make up the row"));
                }
            }
            Ok(())
        };
        lead.share(layout.threads, work)?;
        Ok(Chunk::Rows { columns, inputs, largest: batch.largest() })
    }

    /// How much work `columns` columns are for one row block, in parts of generating an entry.
    fn work(&self, form: Form, n_vectors: usize, columns: u64) -> u64 {
        let per_column = match form {
            Form::Lists => 1.0,
            Form::Rows => self.kernel.shape().entry_cost(n_vectors),
        };
        (columns as f64 * per_column * BLOCK_COMPONENTS as f64 * WORK_PER_ENTRY as f64) as u64
    }
}

fn assert_one_each(columns: Columns<'_>, n_inputs: usize) {
    if let Columns::Listed(columns) = columns {
        assert_eq!(columns.len(), n_inputs, "a column for each element");
    }
}

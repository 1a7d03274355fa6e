//! A batch of ternary vectors through T: groups of vectors, tiles of rows, threads, progress and cancellation.
//!
//! One group of vectors at a time, its inputs are laid out in chunks (see [`operand`]); threads then take tiles of rows from
//! a queue, sum the tile's field over the chunk, and read it out into the tile's own part of the output. Most groups
//! fit one chunk. Where they do not, the sums of a *stripe* of tiles are kept from chunk to chunk.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

use crate::encoded::Encoded;
use crate::kernel::{Kernel, Product, SignedColumns, TILE_BLOCKS};
use crate::noise::LANES;
use crate::operand::{self, Chunk, Form, Group, Vectors};
use crate::readout::{self, Mode, Real, Reference};
use crate::recovery::{Shot, Sight};
use crate::ternary::TernaryBatch;
use crate::transmission::{BLOCK_COMPONENTS, BLOCK_ROWS, Transmission};
use crate::work::{
    ENTRIES_PER_THREAD, Lead, Pace, STRIPE_SUMS, Stopped, TILE_SUMS, WORK_PER_ENTRY, WORK_PER_PAUSE, Watch, has_room,
    next, refuse_too_many, sized,
};

/// Bytes that the tiles of all threads may have together.
const ALL_TILE_SUMS: usize = 16 << 20;

/// The most row blocks of a tile, so that threads stay equally busy; a vector's results fill a page or more of memory.
const MOST_BLOCKS: usize = 128;

/// The most vectors of a group: generating T once for so many costs a tenth of multiplying it.
const MOST_VECTORS: usize = 1024;

/// Columns of a list that are summed before the next look at the clock; they stay in a first-level cache.
const LIST_RUN: usize = 2048;

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
        refuse_too_many(batch)?;
        let sight = self.sight.as_ref().filter(|sight| sight.raw || !sight.detector.camera.is_ideal());
        // Only intensities of p and q apart give back what belongs to p − q.
        let split = sight.is_some() && self.mode != Mode::Intensity;
        let vectors = if split { Vectors::split(batch) } else { Vectors::whole(batch) };
        self.run_vectors(&vectors, sight.map_or(Reader::Exact, Reader::Camera), outputs, poll)
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
        assert!(self.sight.is_none(), "no camera");
        for digit in batch.digits() {
            refuse_too_many(digit)?;
        }
        let (vectors, weights) = Vectors::fused(batch.digits(), batch.base(), self.kernel.shape().max_input);
        self.run_vectors(&vectors, Reader::Sum { weights: &weights, scales: batch.scales() }, outputs, poll)
    }

    /// The exact integer fields, √2048 Tx, of vectors whose elements belong to the columns from `column_start` on: real
    /// and imaginary parts in turn, two numbers a row. The mode and the camera play no part.
    ///
    /// Fields of disjoint columns add up to that of all: those of up to [`MAX_NONZEROS`](crate::kernel::MAX_NONZEROS) nonzeros together still fit 32
    /// bits, and [`read_fields`](Self::read_fields) makes results of them. Otherwise as [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// If `poll` stopped it, or a vector has too many nonzeros.
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
        refuse_too_many(batch)?;
        let complex = Self { mode: Mode::Complex, sight: None, ..self.clone() };
        complex.run_vectors(&Vectors::whole(batch).at_column(column_start), Reader::Field, outputs, poll)
    }

    /// Reads whole fields, as [`run_fields`](Self::run_fields) gives them, as [`run`](Self::run) would without a camera:
    /// the same bits.
    ///
    /// # Errors
    ///
    /// If `poll` stopped it.
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
        let dark = TernaryBatch::from_words(fields.len(), 1, vec![0; fields.len()], vec![0; fields.len()])
            .expect("planes without a bit");
        let exact = Self { sight: None, ..self.clone() };
        exact.run_vectors(&Vectors::whole(&dark), Reader::Given(fields), outputs, poll)
    }

    fn run_vectors<T: Real>(
        &self,
        vectors: &Vectors<'_>,
        reader: Reader<'_>,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        let width = (self.rows.end - self.rows.start) as usize * self.mode.parts();
        assert_eq!(outputs.len() * vectors.an_output(), vectors.len(), "one output a vector");
        assert!(outputs.iter().all(|output| output.len() == width), "one result a row");
        if outputs.is_empty() || width == 0 {
            return Ok(());
        }
        let n_blocks = (self.blocks().end - self.blocks().start) as usize;
        if !has_room(vectors, MOST_VECTORS, n_blocks.saturating_mul(BLOCK_COMPONENTS)) {
            return Err(Stopped::NoMemory);
        }
        let groups = operand::groups(vectors, self.kernel, self.most_vectors());
        let work = |group: &Group| {
            let seen = reader.work(self.mode) * group.outputs(vectors).len() as u64;
            (self.work(group.form, group.vectors.len(), group.columns) + seen) * n_blocks as u64
        };
        let total = groups.iter().map(work);
        let watch = Watch::of(total.sum());
        let mut lead = Lead::new(&watch, poll);
        for group in &groups {
            let outputs = &mut outputs[group.outputs(vectors)];
            let layout = self.layout(group, reader.work(self.mode) * outputs.len() as u64);
            self.run_group(vectors, reader, group, &layout, outputs, &mut lead);
            if watch.cancelled.load(Relaxed) {
                return Err(Stopped::Cancelled);
            }
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
    ) {
        let watch = lead.watch;
        let starts = self.starts(batch, group);
        let shots = if let Reader::Camera(sight) = reader { self.shots(batch, sight, group) } else { Vec::new() };
        let first_words = operand::span(batch, group, 0);
        let whole = first_words.end == batch.row_words();
        let stripe_tiles = if whole { layout.n_tiles } else { (STRIPE_SUMS / (4 * layout.tile_sums)).max(1) };
        let mut kept = vec![0; if whole { 0 } else { stripe_tiles.min(layout.n_tiles) * layout.tile_sums }];
        let mut rests: Vec<&mut [T]> = outputs.iter_mut().map(|output| &mut **output).collect();
        for stripe in (0..layout.n_tiles).step_by(stripe_tiles) {
            let tiles = stripe..layout.n_tiles.min(stripe + stripe_tiles);
            let mut words = first_words.clone();
            loop {
                let (first, last) = (words.start == 0, words.end == batch.row_words());
                let chunk = self.chunk(batch, group, words.clone(), layout, lead);
                let mut sums = kept.chunks_mut(layout.tile_sums);
                let queue = Mutex::new(tiles.clone().map(|tile| Tile {
                    blocks: self.tile_blocks(layout, tile),
                    rows: self.tile_rows(layout, tile),
                    sums: sums.next(),
                    outputs: if last { self.cut(layout, tile, &mut rests) } else { Vec::new() },
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
                        if !worker.work_off(&chunk, tile) {
                            return;
                        }
                    }
                };
                lead.share(layout.threads, work);
                if last || watch.cancelled.load(Relaxed) {
                    break;
                }
                words = operand::span(batch, group, words.end);
            }
            if watch.cancelled.load(Relaxed) {
                return;
            }
        }
    }

    /// Where each vector's sums begin: over panels, the bias of the kernel is taken off in advance.
    fn starts(&self, batch: &Vectors<'_>, group: &Group) -> Vec<i32> {
        let start = |row| match group.form {
            Form::Lists => 0,
            Form::Rows => (-i64::from(self.kernel.shape().bias) * batch.sum(row)) as i32,
        };
        group.vectors.clone().map(start).collect()
    }

    /// How the camera sees each output of a group; its rows are yet to be told.
    fn shots<'s>(&self, batch: &Vectors<'_>, sight: &'s Sight, group: &Group) -> Vec<Shot<'s>> {
        let outputs = group.outputs(batch);
        outputs
            .map(|output| {
                let vectors = output * batch.an_output()..(output + 1) * batch.an_output();
                let brightest =
                    vectors.map(|vector| batch.nonzeros(vector)).max().unwrap_or(0) + sight.anchor_pixels(self.mode);
                Shot { sight, mode: self.mode, vector: output as u64, first_row: 0, mean: sight.mean(brightest) }
            })
            .collect()
    }

    /// Lays out the inputs over a span of words.
    fn chunk(
        &self,
        batch: &Vectors<'_>,
        group: &Group,
        words: Range<usize>,
        layout: &Layout,
        lead: &mut Lead<'_, '_>,
    ) -> Chunk {
        if group.form == Form::Lists {
            return operand::lists(batch, group, words);
        }
        let (union, mut columns) = operand::union(batch, group, words.clone());
        // The inputs there stay 0, so the entries of any column will do.
        columns.resize(columns.len().next_multiple_of(self.kernel.shape().column_multiple), 0);
        let n_vectors = group.vectors.len();
        let mut inputs = vec![0; columns.len() * n_vectors];
        let parts = operand::parts(&mut inputs, n_vectors, self.kernel.shape().panel_columns);
        let queue = Mutex::new(group.vectors.clone().zip(parts));
        let work = |keep_on: &mut dyn FnMut() -> bool| {
            let mut row_inputs = vec![0; columns.len()];
            while let Some((row, parts)) = next(&queue)
                && keep_on()
            {
                operand::gather(batch, row, words.clone(), &union, &mut row_inputs);
                let mut rest = &row_inputs[..];
                for part in parts {
                    part.copy_from_slice(rest.split_off(..part.len()).expect("parts make up the row"));
                }
            }
        };
        lead.share(layout.threads, work);
        Chunk::Rows { columns, inputs, largest: batch.largest() }
    }

    /// The row blocks that hold the rows.
    fn blocks(&self) -> Range<u64> {
        self.rows.start / BLOCK_ROWS as u64..self.rows.end.div_ceil(BLOCK_ROWS as u64)
    }

    /// Row blocks that a tile must be a multiple of.
    fn unit(&self) -> usize {
        TILE_BLOCKS.max(self.kernel.shape().panel_blocks)
    }

    /// Vectors of a group: fewer where many threads must share the memory for sums.
    fn most_vectors(&self) -> usize {
        let fitting = ALL_TILE_SUMS / (self.threads * self.unit() * BLOCK_COMPONENTS * 4);
        fitting.clamp(32, MOST_VECTORS)
    }

    /// `seen` is the reader's work for a row block.
    fn layout(&self, group: &Group, seen: u64) -> Layout {
        let n_blocks = (self.blocks().end - self.blocks().start) as usize;
        let n_vectors = group.vectors.len();
        let unit = self.unit();
        let work = self.work(group.form, n_vectors, group.columns).saturating_add(seen);
        let entries = work.saturating_mul(n_blocks as u64) / WORK_PER_ENTRY;
        let threads = self.threads.min((entries / ENTRIES_PER_THREAD) as usize + 1);
        let at_once = if group.form == Form::Lists { 1 } else { n_vectors };
        let fitting = TILE_SUMS / (at_once * BLOCK_COMPONENTS * 4);
        let balanced = n_blocks / (8 * threads);
        let blocks = fitting.min(balanced).min(MOST_BLOCKS) / unit * unit;
        let tile_blocks = blocks.max(unit);
        Layout {
            threads,
            unit,
            tile_blocks,
            n_tiles: n_blocks.div_ceil(tile_blocks),
            tile_sums: n_vectors * tile_blocks * BLOCK_COMPONENTS,
        }
    }

    /// The row blocks of a tile: whole units, the last ones perhaps beyond the rows.
    fn tile_blocks(&self, layout: &Layout, tile: usize) -> Range<u64> {
        let all = self.blocks();
        let start = all.start + (tile * layout.tile_blocks) as u64;
        let left = (all.end - start) as usize;
        start..start + left.next_multiple_of(layout.unit).min(layout.tile_blocks) as u64
    }

    /// The rows of a tile that are asked for, counted from its first.
    fn tile_rows(&self, layout: &Layout, tile: usize) -> Range<usize> {
        let blocks = self.tile_blocks(layout, tile);
        let first = blocks.start * BLOCK_ROWS as u64;
        let end = (blocks.end * BLOCK_ROWS as u64).min(self.rows.end);
        (self.rows.start.max(first) - first) as usize..(end - first) as usize
    }

    /// Cuts a tile's part off what is left of each output.
    fn cut<'o, T>(&self, layout: &Layout, tile: usize, rests: &mut [&'o mut [T]]) -> Vec<&'o mut [T]> {
        let width = self.tile_rows(layout, tile).len() * self.mode.parts();
        rests
            .iter_mut()
            .map(|rest| rest.split_off_mut(..width).expect("outputs are as wide as their tiles together"))
            .collect()
    }

    /// How much work `columns` columns are for one row block, in parts of generating an entry.
    fn work(&self, form: Form, n_vectors: usize, columns: u64) -> u64 {
        let per_column = match form {
            Form::Lists => 1.0,
            Form::Rows => 1.2 + self.kernel.shape().multiply_cost * n_vectors as f64,
        };
        (columns as f64 * per_column * BLOCK_COMPONENTS as f64 * WORK_PER_ENTRY as f64) as u64
    }
}

/// Vectors that are read out between two looks at the clock.
const VECTORS_PER_LOOK: usize = 8;

/// The work of one pixel's reading in one frame: some ten nanoseconds.
const WORK_PER_READING: u64 = WORK_PER_ENTRY * 100;

/// What becomes of the fields of the vectors that make an output.
#[derive(Clone, Copy)]
enum Reader<'a> {
    /// The field of one is read as it is.
    Exact,
    /// It is not read, but left as its integers.
    Field,
    /// These are read in its place.
    Given(&'a [&'a [i32]]),
    /// They are photographed.
    Camera(&'a Sight),
    /// They are added up, each with its weight, and multiplied by the scale of their output.
    Sum { weights: &'a [i64], scales: &'a [f64] },
}

impl Reader<'_> {
    /// The work of reading one output's row block, as far as it counts beside generating T.
    fn work(self, mode: Mode) -> u64 {
        match self {
            Self::Exact | Self::Field | Self::Sum { .. } => 0,
            Self::Given(_) => BLOCK_COMPONENTS as u64 * WORK_PER_ENTRY,
            Self::Camera(sight) => sight.readings(mode) * BLOCK_ROWS as u64 * WORK_PER_READING,
        }
    }
}

/// How the rows are cut into tiles for one group.
struct Layout {
    threads: usize,
    unit: usize,
    tile_blocks: usize,
    n_tiles: usize,
    tile_sums: usize,
}

/// Rows that one thread works on at a time.
struct Tile<'s, 'o, T> {
    blocks: Range<u64>,
    rows: Range<usize>,
    sums: Option<&'s mut [i32]>,
    outputs: Vec<&'o mut [T]>,
}

impl<T> Tile<'_, '_, T> {
    /// Sums of one vector.
    fn n_sums(&self) -> usize {
        (self.blocks.end - self.blocks.start) as usize * BLOCK_COMPONENTS
    }
}

/// What a thread keeps from tile to tile.
#[derive(Default)]
struct Scratch {
    sums: Vec<i32>,
    panel: Vec<u8>,
    anchors: Vec<i32>,
    /// The first field of two that make an output.
    first: Vec<i32>,
    /// Fields of several vectors, added up, and the same as floats.
    total: Vec<i64>,
    wide: Vec<f64>,
    reference: Reference,
}

/// One thread at work on the tiles of a chunk.
struct Worker<'a> {
    projection: &'a Projection,
    /// Where each vector's sums begin.
    starts: &'a [i32],
    reader: Reader<'a>,
    /// How the camera sees each output; empty where there is none.
    shots: &'a [Shot<'a>],
    /// The first output of the group, counted from that of the batch.
    first_output: usize,
    /// Whether the chunk is the group's first one, where sums begin, and its last one, where they are read out.
    first: bool,
    last: bool,
    pace: Pace<'a>,
    scratch: Scratch,
}

impl Worker<'_> {
    /// Sums a tile over the chunk; `false` if it was stopped.
    fn work_off<T: Real>(&mut self, chunk: &Chunk, mut tile: Tile<'_, '_, T>) -> bool {
        if self.last && !self.set_reference(&tile) {
            return false;
        }
        let mut own = std::mem::take(&mut self.scratch.sums);
        let mut kept = tile.sums.take();
        let n_sums = tile.n_sums();
        let done = match chunk {
            Chunk::Lists { index, sign, ends } => (0..self.starts.len()).all(|v| {
                let sums = match &mut kept {
                    Some(kept) => &mut kept[v * n_sums..(v + 1) * n_sums],
                    // Read out before the next vector is summed: one vector's sums stay in a first-level cache.
                    None => sized(&mut own, n_sums),
                };
                if self.first {
                    sums.fill(self.starts[v]);
                }
                self.add_list(Chunk::list(index, sign, ends, v), &tile, sums) && self.read_out(&mut tile, v, sums)
            }),
            Chunk::Rows { columns, inputs, largest } => {
                let n_vectors = self.starts.len();
                let sums = match &mut kept {
                    Some(kept) => &mut kept[..n_vectors * n_sums],
                    None => sized(&mut own, n_vectors * n_sums),
                };
                if self.first {
                    for (sums, &start) in sums.chunks_exact_mut(n_sums).zip(self.starts) {
                        sums.fill(start);
                    }
                }
                self.add_rows(columns, inputs, *largest, &tile, sums)
                    && sums.chunks_exact(n_sums).enumerate().all(|(v, sums)| self.read_out(&mut tile, v, sums))
            }
        };
        self.scratch.sums = own;
        done
    }

    /// Adds one vector's field over its list.
    fn add_list<T>(&mut self, x: SignedColumns<'_>, tile: &Tile<'_, '_, T>, sums: &mut [i32]) -> bool {
        let Projection { kernel, transmission, .. } = self.projection;
        x.index.chunks(LIST_RUN).zip(x.sign.chunks(LIST_RUN)).all(|(index, sign)| {
            kernel.field(transmission, SignedColumns { index, sign }, tile.blocks.start, sums);
            let per_block = self.projection.work(Form::Lists, 1, index.len() as u64);
            self.pace.pause(per_block * (sums.len() / BLOCK_COMPONENTS) as u64)
        })
    }

    /// Adds all vectors' fields over a chunk's columns, a panel at a time.
    fn add_rows<T>(
        &mut self,
        columns: &[u64],
        inputs: &[i8],
        largest: u8,
        tile: &Tile<'_, '_, T>,
        sums: &mut [i32],
    ) -> bool {
        let Projection { kernel, transmission, .. } = self.projection;
        let (n_sums, n_vectors) = (tile.n_sums(), self.starts.len());
        let panel_sums = kernel.shape().panel_blocks * BLOCK_COMPONENTS;
        (0..n_sums).step_by(panel_sums).all(|first| {
            let row_block = tile.blocks.start + (first / BLOCK_COMPONENTS) as u64;
            let mut inputs = inputs;
            columns.chunks(kernel.shape().panel_columns).all(|columns| {
                let panel = sized(&mut self.scratch.panel, panel_sums * columns.len());
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
                let per_block = self.projection.work(Form::Rows, n_vectors, columns.len() as u64);
                self.pace.pause(per_block * (panel_sums / BLOCK_COMPONENTS) as u64)
            })
        })
    }

    /// The anchors' fields at the rows of a tile, and for "linear" what to make of them without a camera.
    fn set_reference<T>(&mut self, tile: &Tile<'_, '_, T>) -> bool {
        let Projection { kernel, transmission, mode, .. } = self.projection;
        let anchors = match self.shots.first() {
            Some(shot) => shot.sight.anchor_columns(*mode),
            None => Vec::from_iter(Some(mode.anchor()).filter(|anchor| !anchor.is_empty())),
        };
        let n_sums = tile.n_sums();
        let fields = sized(&mut self.scratch.anchors, anchors.len() * n_sums);
        fields.fill(0);
        for (index, field) in anchors.iter().zip(fields.chunks_exact_mut(n_sums)) {
            let sign = vec![0; index.len()];
            kernel.field(transmission, SignedColumns { index, sign: &sign }, tile.blocks.start, field);
            if !self.pace.keep_on() {
                return false;
            }
        }
        if let (Mode::Linear { .. }, true) = (mode, self.shots.is_empty()) {
            self.scratch.reference.set(readout::parts_of(fields, tile.rows.clone()));
        }
        true
    }

    /// Reads one vector's field out into its part of the output, if this is the last chunk.
    fn read_out<T: Real>(&mut self, tile: &mut Tile<'_, '_, T>, v: usize, sums: &[i32]) -> bool {
        if !self.last {
            return true;
        }
        let field = match self.reader {
            Reader::Given(fields) => {
                let first = tile.blocks.start * BLOCK_ROWS as u64 + tile.rows.start as u64;
                let at = (first - self.projection.rows.start) as usize;
                readout::parts_of(fields[self.first_output + v], at..at + tile.rows.len())
            }
            _ => readout::parts_of(sums, tile.rows.clone()),
        };
        match self.reader {
            Reader::Field => {
                for (output, &part) in tile.outputs[v].iter_mut().zip(field) {
                    *output = T::rounded(f64::from(part));
                }
            }
            Reader::Exact | Reader::Given(_) => {
                let Projection { kernel, mode, .. } = self.projection;
                let output = &mut tile.outputs[v];
                kernel.vectorize(
                    #[inline(always)]
                    || readout::read(*mode, field, 1.0, &self.scratch.reference, output),
                );
            }
            Reader::Camera(_) => {
                if !self.see(tile, v, field) {
                    return false;
                }
            }
            Reader::Sum { weights, scales } => self.add_up(tile, v, field, weights, scales),
        }
        // Not counted as progress, but it takes time: the first touch of a page of memory above all.
        if v.is_multiple_of(VECTORS_PER_LOOK) { self.pace.keep_on() } else { true }
    }

    /// Reads one vector's field, or the second one of a pair, through the camera.
    fn see<T: Real>(&mut self, tile: &mut Tile<'_, '_, T>, v: usize, field: &[i32]) -> bool {
        let Projection { kernel, mode, .. } = self.projection;
        let first_row = tile.blocks.start * BLOCK_ROWS as u64 + tile.rows.start as u64;
        let an_output = self.starts.len() / self.shots.len();
        let shot = self.shots[v / an_output];
        if an_output == 2 && v.is_multiple_of(2) {
            self.scratch.first.clear();
            self.scratch.first.extend_from_slice(field);
            return true;
        }
        let (anchors, first) = (std::mem::take(&mut self.scratch.anchors), std::mem::take(&mut self.scratch.first));
        let n_sums = tile.n_sums();
        let outputs = tile.outputs[v / an_output].chunks_mut(LANES * mode.parts());
        let work = shot.readings() * LANES as u64 * WORK_PER_READING;
        let done = outputs.enumerate().all(|(i, output)| {
            let rows = i * LANES..(i * LANES + output.len() / mode.parts());
            let shot = Shot { first_row: first_row + rows.start as u64, ..shot };
            let field = readout::parts_of(field, rows.clone());
            if an_output == 1 {
                kernel.vectorize(
                    #[inline(always)]
                    || shot.intensity(field, output),
                );
            } else {
                let first = readout::parts_of(&first, rows.clone());
                let anchors = anchors.chunks_exact(n_sums).take(shot.anchors());
                let rows = tile.rows.start + rows.start..tile.rows.start + rows.end;
                let anchors: Vec<&[i32]> = anchors.map(|anchor| readout::parts_of(anchor, rows.clone())).collect();
                kernel.vectorize(
                    #[inline(always)]
                    || shot.recover(first, field, &anchors, output),
                );
            }
            self.pace.pause(work)
        });
        (self.scratch.anchors, self.scratch.first) = (anchors, first);
        done
    }

    /// Adds one vector's field to its output's, and reads that out after the last one.
    fn add_up<T: Real>(
        &mut self,
        tile: &mut Tile<'_, '_, T>,
        v: usize,
        field: &[i32],
        weights: &[i64],
        scales: &[f64],
    ) {
        let Projection { kernel, mode, .. } = self.projection;
        let (output, part) = (v / weights.len(), v % weights.len());
        let Scratch { total, wide, reference, .. } = &mut self.scratch;
        if part == 0 {
            total.clear();
            total.resize(field.len(), 0);
        }
        let weight = weights[part];
        for (total, &sum) in total.iter_mut().zip(field) {
            *total += weight * i64::from(sum);
        }
        if part + 1 == weights.len() {
            let scale = scales[self.first_output + output];
            wide.clear();
            wide.extend(total.iter().map(|&total| total as f64));
            kernel.vectorize(
                #[inline(always)]
                || readout::read(*mode, wide, scale, reference, tile.outputs[output]),
            );
        }
    }
}

//! The adjoint: a batch of encoded vectors through Tᴴ, in tiles of columns.
//!
//! A complex vector y is stored as its real and imaginary parts in turn, the order of the components of a row block. For
//! T = a + ib and y = u + iv, the real part au + bv of conj(T)·y is the product of a row block with these parts, and the
//! imaginary part av − bu is its product with (v, −u). So Tᴴy is a product of transposed panels with int8 vectors, in the
//! same exact integers as a projection.
//!
//! Groups of vectors are computed one after the other. The int8 vectors of a group are laid out over a chunk of rows, and
//! threads take tiles of columns from a queue and sum over the chunk. If all rows do not fit one chunk, the sums of a *stripe* of
//! tiles are kept, in 64 bits, from chunk to chunk.

use std::ops::Range;
use std::sync::Mutex;

use super::field::{Field, WeightedSum, fits_f64};
use super::gather::{self, MAX_VECTORS, ROWS_CAPACITY, STRIPE_SUMS, TILE_SUMS};
use super::kernel::Product;
use super::outputs::{Output, Outputs, with_typed};
use super::resources::Cpu;
use super::threads::{ENTRIES_PER_THREAD, Ticker, WORK_PER_CHECK, WORK_PER_ENTRY, next, share};
use super::vectors::Vectors;
use crate::batch::encoded::Encoded;
use crate::batch::ternary::WORD;
use crate::definition::readout::Number;
use crate::definition::transmission::{BLOCK_COMPONENTS, INT32_NONZEROS};
use crate::memory::{NoMemory, collect, push, resized, with_capacity, zeros};
use crate::progress::{Coordinator, Progress, Stopped};
use crate::request::adjoint::Adjoint;

/// The most columns of a tile, so that threads stay equally busy.
const MAX_TILE_COLUMNS: usize = 2048;

/// Row blocks whose components fill a word of a plane.
const WORD_BLOCKS: usize = WORD / BLOCK_COMPONENTS;

impl Cpu {
    /// Projects a batch back. Each vector of the batch holds the parts of a complex vector in turn.
    ///
    /// Vector v goes to `outputs[v]`, [`Adjoint::width`] numbers; `poll` is called as by [`project`](Self::project).
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or memory is short.
    ///
    /// # Panics
    ///
    /// If there is not one output of that size for each vector.
    pub fn project_back<T: Output>(
        &self,
        request: &Adjoint,
        batch: &Encoded,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        AdjointContext { request, cpu: *self }.run(batch, T::outputs(outputs), poll)
    }
}

/// A request with the CPU that computes it.
#[derive(Clone, Copy)]
struct AdjointContext<'a> {
    request: &'a Adjoint,
    cpu: Cpu,
}

impl AdjointContext<'_> {
    fn run(&self, batch: &Encoded, outputs: Outputs<'_, '_>, poll: &mut dyn FnMut(f64) -> bool) -> Result<(), Stopped> {
        with_typed!(outputs => self.run_typed(batch, outputs, poll))
    }

    fn run_typed<T: Number>(
        &self,
        batch: &Encoded,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        let request = self.request;
        assert_eq!(outputs.len(), batch.scales().len(), "one output a vector");
        assert!(outputs.iter().all(|output| output.len() == request.width()), "one result a column");
        let progress = Progress::new();
        let mut coordinator = Coordinator::new(&progress, poll);
        if outputs.is_empty() || request.n_columns == 0 {
            return Ok(());
        }
        let max_input = self.cpu.kernel.panel_shape().max_input;
        let (vectors, weights) = Vectors::fused(batch.digits(), batch.base(), max_input)?;
        let fits = fits_f64(vectors.largest_total(&weights));
        let readout = AdjointReadout { weights: &weights, fits, scales: batch.scales() };
        let groups = self.groups(&vectors, weights.len(), &mut coordinator)?;
        progress.set_total(groups.iter().map(|group| self.work(group, group.words.len() * WORD_BLOCKS)).sum());
        for group in &groups {
            self.run_group(&vectors, group, readout, outputs, &mut coordinator)?;
        }
        Ok(())
    }

    /// The number of int8 vectors of one fused vector: itself, and (v, −u) if the result is complex.
    fn turns(&self) -> usize {
        self.request.mode.parts()
    }

    /// Divides the vectors into groups.
    fn groups(
        &self,
        vectors: &Vectors<'_>,
        per_output: usize,
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<Vec<AdjointGroup>, Stopped> {
        let n_outputs = vectors.len() / per_output;
        let most = (MAX_VECTORS / (per_output * self.turns())).max(1);
        let mut groups = Vec::new();
        for first in (0..n_outputs).step_by(most) {
            let outputs = first..n_outputs.min(first + most);
            let fused = outputs.start * per_output..outputs.end * per_output;
            let mut words = Vec::new();
            for word in 0..vectors.row_words() {
                if fused.clone().any(|vector| vectors.used(vector, word) != 0) {
                    push(&mut words, word)?;
                }
                coordinator.count_bytes(fused.len() * size_of::<u64>())?;
            }
            push(&mut groups, AdjointGroup { n_vectors: fused.len() * self.turns(), outputs, fused, words })?;
        }
        Ok(groups)
    }

    fn run_group<T: Number>(
        &self,
        vectors: &Vectors<'_>,
        group: &AdjointGroup,
        readout: AdjointReadout<'_>,
        outputs: &mut [&mut [T]],
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<(), Stopped> {
        let progress = coordinator.progress;
        let n_vectors = group.n_vectors;
        let entries = self.work(group, group.words.len() * WORD_BLOCKS) / WORK_PER_ENTRY;
        let threads = self.cpu.threads.min((entries / ENTRIES_PER_THREAD) as usize + 1);
        let unit = self.cpu.kernel.panel_shape().panel_blocks * BLOCK_COMPONENTS;
        let fitting = TILE_SUMS / (4 * n_vectors);
        let balanced = self.request.n_columns / (8 * threads);
        let tile_columns = (fitting.min(balanced).min(MAX_TILE_COLUMNS) / unit).max(1) * unit;
        let n_tiles = self.request.n_columns.div_ceil(tile_columns);
        // The sums of a chunk fit int32.
        let fitting = INT32_NONZEROS as usize / usize::from(vectors.largest());
        let chunk_words = ((ROWS_CAPACITY / n_vectors).min(fitting) / WORD).max(1);
        // A group of all-zero vectors has one chunk, too, after which it is read out.
        let n_chunks = group.words.len().div_ceil(chunk_words).max(1);
        let whole = n_chunks == 1;
        let stripe_tiles = if whole { n_tiles } else { (STRIPE_SUMS / (n_vectors * tile_columns)).clamp(1, n_tiles) };
        let mut stripe_sums = zeros(if whole { 0 } else { stripe_tiles * tile_columns * n_vectors })?;
        let mut chunk = None;
        let mut rests: Vec<&mut [T]> = collect(outputs[group.outputs.clone()].iter_mut().map(|output| &mut **output))?;
        for stripe in (0..n_tiles).step_by(stripe_tiles) {
            for k in 0..n_chunks {
                let (first, last) = (k == 0, k + 1 == n_chunks);
                let words = &group.words[k * chunk_words..group.words.len().min((k + 1) * chunk_words)];
                if n_chunks > 1 || chunk.is_none() {
                    drop(chunk.take());
                    chunk = Some(self.chunk(vectors, group, words, threads, coordinator)?);
                }
                let chunk = chunk.as_ref().expect("just laid out");
                let mut kept = stripe_sums.chunks_mut(tile_columns * n_vectors);
                let tiles = stripe..n_tiles.min(stripe + stripe_tiles);
                let queue = Mutex::new(tiles.map(|tile| -> Result<_, NoMemory> {
                    let columns = tile * tile_columns..self.request.n_columns.min((tile + 1) * tile_columns);
                    let width = columns.len() * self.request.mode.parts();
                    let rests = rests.iter_mut().filter(|_| last);
                    let outputs =
                        collect(rests.map(|rest| rest.split_off_mut(..width).expect("tiles make up an output")))?;
                    Ok(ColumnTile { columns, kept: kept.next(), outputs })
                }));
                let work = |goes_on: &mut dyn FnMut() -> bool| {
                    let mut worker = AdjointWorker {
                        context: *self,
                        group,
                        chunk,
                        ticker: Ticker::new(progress, goes_on, WORK_PER_CHECK),
                        readout,
                        first,
                        last,
                        scratch: Scratch::default(),
                    };
                    while let Some(tile) = next(&queue) {
                        worker.process(tile?)?;
                    }
                    Ok(())
                };
                share(coordinator, threads, work)?;
            }
        }
        Ok(())
    }

    /// Lays out the vectors of a group over some words.
    fn chunk(
        &self,
        vectors: &Vectors<'_>,
        group: &AdjointGroup,
        words: &[usize],
        threads: usize,
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<AdjointOperand, Stopped> {
        let shape = self.cpu.kernel.panel_shape();
        let first_of = |word: usize| self.request.row_block.wrapping_add((word * WORD_BLOCKS) as u64);
        let mut row_blocks = with_capacity(words.len() * WORD_BLOCKS)?;
        row_blocks.extend(
            words.iter().flat_map(|&word| (0..WORD_BLOCKS as u64).map(move |k| first_of(word).wrapping_add(k))),
        );
        let mut inputs = zeros(words.len() * WORD * group.n_vectors)?;
        let mut starts = zeros(group.n_vectors)?;
        let mut parts = gather::parts(&mut inputs, group.n_vectors, shape.panel_columns)?;
        let jobs = group.fused.clone().zip(starts.chunks_mut(self.turns())).zip(parts.chunks_mut(self.turns()));
        let queue = Mutex::new(jobs);
        let span = words.first().map_or(0..0, |&first| first..words[words.len() - 1] + 1);
        let mut union = zeros(span.len())?;
        for word in words {
            union[word - span.start] = u64::MAX;
        }
        let work = |goes_on: &mut dyn FnMut() -> bool| {
            let mut elements: Vec<i8> = zeros(words.len() * WORD)?;
            while let Some(((vector, starts), turns)) = next(&queue)
                && goes_on()
            {
                gather::gather(vectors, vector, span.clone(), &union, &mut elements);
                for (k, (start, parts)) in starts.iter_mut().zip(turns).enumerate() {
                    if k == 1 {
                        for pair in elements.as_chunks_mut::<2>().0 {
                            *pair = [pair[1], -pair[0]];
                        }
                    }
                    *start = gather::start(shape, &elements);
                    let mut rest = &elements[..];
                    for part in parts {
                        part.copy_from_slice(rest.split_off(..part.len()).expect("parts make up the vector"));
                    }
                }
            }
            Ok(())
        };
        share(coordinator, threads, work)?;
        Ok(AdjointOperand { row_blocks, inputs, starts, largest: vectors.largest() })
    }

    /// The number of sums of one vector in a tile: whole panels.
    fn sums_stride(&self, columns: &Range<usize>) -> usize {
        columns.len().next_multiple_of(self.cpu.kernel.panel_shape().panel_blocks * BLOCK_COMPONENTS)
    }

    /// The work of `n_blocks` row blocks for a group and all columns.
    fn work(&self, group: &AdjointGroup, n_blocks: usize) -> u64 {
        self.work_of(group.n_vectors, self.request.n_columns, n_blocks)
    }

    fn work_of(&self, n_vectors: usize, n_columns: usize, n_blocks: usize) -> u64 {
        let entries = n_columns as f64 * n_blocks as f64 * BLOCK_COMPONENTS as f64;
        (entries * self.cpu.kernel.panel_shape().entry_cost(n_vectors) * WORK_PER_ENTRY as f64) as u64
    }
}

/// Vectors that are multiplied together.
struct AdjointGroup {
    outputs: Range<usize>,
    /// The fused vectors (sums of digits) that make the outputs.
    fused: Range<usize>,
    /// The number of int8 vectors.
    n_vectors: usize,
    /// The words in which any of the vectors is not 0.
    words: Vec<usize>,
}

/// The int8 vectors of a group over a chunk of rows.
struct AdjointOperand {
    row_blocks: Vec<u64>,
    /// Ordered by panel, then by vector.
    inputs: Vec<i8>,
    /// What takes the bias of the kernel off each vector's sums.
    starts: Vec<i32>,
    largest: u8,
}

/// Columns that one thread computes at a time.
struct ColumnTile<'s, 'o, T> {
    columns: Range<usize>,
    /// The sums over the chunks so far, if there are several.
    kept: Option<&'s mut [i64]>,
    outputs: Vec<&'o mut [T]>,
}

/// How sums are read out.
#[derive(Clone, Copy)]
struct AdjointReadout<'a> {
    /// The weight of each fused vector of an output.
    weights: &'a [i64],
    /// Whether the weighted sums [`fits_f64`].
    fits: bool,
    /// The scale of each vector of the batch.
    scales: &'a [f64],
}

/// One thread, which sums tiles over a chunk.
struct AdjointWorker<'a> {
    context: AdjointContext<'a>,
    group: &'a AdjointGroup,
    chunk: &'a AdjointOperand,
    readout: AdjointReadout<'a>,
    /// Whether the chunk is the group's first one (sums start with it) and its last one (sums are read out after it).
    first: bool,
    last: bool,
    ticker: Ticker<'a>,
    scratch: Scratch,
}

/// Buffers that a thread keeps from tile to tile.
#[derive(Default)]
struct Scratch {
    panel: Vec<u8>,
    sums: Vec<i32>,
    /// The weighted sums of the real parts, and those of the imaginary parts.
    totals: [WeightedSum; 2],
}

impl AdjointWorker<'_> {
    /// Sums a tile over the chunk, and reads it out after the last one.
    fn process<T: Number>(&mut self, mut tile: ColumnTile<'_, '_, T>) -> Result<(), Stopped> {
        let stride = self.context.sums_stride(&tile.columns);
        let mut all_sums = std::mem::take(&mut self.scratch.sums);
        let sums = resized(&mut all_sums, self.group.n_vectors * stride)?;
        self.sum(&tile.columns, sums)?;
        let fields = if let Some(kept) = &mut tile.kept {
            let kept = &mut kept[..sums.len()];
            Field::Int32(sums).add_to(kept, self.first);
            Field::Int64(kept)
        } else {
            Field::Int32(sums)
        };
        if self.last {
            self.read_out(fields, stride, &tile.columns, &mut tile.outputs)?;
        }
        self.scratch.sums = all_sums;
        Ok(())
    }

    /// The sums of all vectors at some columns over the chunk.
    fn sum(&mut self, columns: &Range<usize>, sums: &mut [i32]) -> Result<(), Stopped> {
        let (kernel, transmission) = (self.context.cpu.kernel, &self.context.request.transmission);
        let (shape, n_vectors) = (kernel.panel_shape(), self.group.n_vectors);
        let stride = sums.len() / n_vectors;
        for (sums, &start) in sums.chunks_exact_mut(stride).zip(&self.chunk.starts) {
            sums.fill(start);
        }
        let unit = shape.panel_blocks * BLOCK_COMPONENTS;
        (0..stride).step_by(unit).try_for_each(|at| {
            let column = (columns.start + at) as u64;
            let mut inputs = &self.chunk.inputs[..];
            self.chunk.row_blocks.chunks(shape.panel_columns / BLOCK_COMPONENTS).try_for_each(|row_blocks| {
                let components = row_blocks.len() * BLOCK_COMPONENTS;
                let panel = resized(&mut self.scratch.panel, unit * components)?;
                kernel.transposed(transmission, column, row_blocks, panel);
                kernel.multiply(Product {
                    panel,
                    columns: components,
                    x: inputs.split_off(..n_vectors * components).expect("inputs for every component"),
                    largest: self.chunk.largest,
                    x_stride: components,
                    n_vectors,
                    sums: &mut sums[at..],
                    sums_stride: stride,
                });
                self.ticker.count(self.context.work_of(n_vectors, unit, row_blocks.len()))
            })
        })
    }

    /// Adds up the fused vectors of each output exactly, and rounds once.
    fn read_out<T: Number>(
        &mut self,
        fields: Field<'_>,
        stride: usize,
        columns: &Range<usize>,
        outputs: &mut [&mut [T]],
    ) -> Result<(), Stopped> {
        let AdjointReadout { weights, fits, scales } = self.readout;
        let (kernel, mode) = (self.context.cpu.kernel, self.context.request.mode);
        let totals = &mut self.scratch.totals[..self.context.turns()];
        let n_turns = totals.len();
        for (k, (output, number)) in outputs.iter_mut().zip(self.group.outputs.clone()).enumerate() {
            for (part, &weight) in weights.iter().enumerate() {
                for (turn, total) in totals.iter_mut().enumerate() {
                    let start = ((k * weights.len() + part) * n_turns + turn) * stride;
                    total.add(kernel, fields.of(start..start + columns.len()), weight, part == 0, fits)?;
                }
            }
            let scale = scales[number] * mode.scale();
            for (turn, total) in totals.iter_mut().enumerate() {
                let (places, total) = (output.iter_mut().skip(turn).step_by(n_turns), total.rounded()?);
                kernel.vectorize(
                    #[inline(always)]
                    || {
                        for (place, total) in places.zip(total) {
                            *place = T::rounded(total * scale);
                        }
                    },
                );
            }
        }
        Ok(())
    }
}

//! A batch through the structured matrix: tasks of a vector and some blocks of rows, threads, progress and cancellation.

use std::ops::Range;
use std::sync::Mutex;

use super::inputs::TransformInputs;
use super::lanes::LANES;
use super::passes::TransformShape;
use super::worker::{PhasePlanes, Task, TransformWorker};
use super::workspace::{Workspace, extend};
use crate::cpu::kernel::{SignedColumns, TILE_BLOCKS};
use crate::cpu::outputs::{Output, Outputs, with_typed};
use crate::cpu::resources::Cpu;
use crate::cpu::threads::{Ticker, next, share};
use crate::definition::anchor;
use crate::definition::readout::{Mode, Number};
use crate::definition::structured::{self, Signs};
use crate::definition::transmission::{BLOCK_COMPONENTS, BLOCK_ROWS, Transmission};
use crate::memory::{collect, drop_in_background, with_capacity, zeros};
use crate::progress::{Coordinator, Progress, Stopped};
use crate::request::structured::Structured;

/// Lines between two checks for a stop: some 100 µs of a fast instruction set, some milliseconds of the slowest.
const LINES_PER_CHECK: u64 = 1 << 14;

/// Lines from which on another thread is worth waking.
const LINES_PER_THREAD: u64 = 1 << 13;

/// Bytes of the anchor's phases that are kept together, unless one block has more.
const PHASE_BYTES: usize = 32 << 20;

/// Rows whose phases a thread computes together.
const PHASE_ROWS: usize = 4096;

/// Tasks for each thread, if vectors and blocks allow.
const TASKS_PER_THREAD: usize = 4;

impl Cpu {
    /// Projects a batch by the structured matrix.
    ///
    /// Vector v goes to `outputs[v]`, [`Structured::width`] numbers.
    /// `poll` is called as by [`project`](Self::project).
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or there is no memory. A thread needs some three times the memory of a padded vector.
    ///
    /// # Panics
    ///
    /// If there is not one output of that size for each vector.
    pub fn project_structured<T: Output>(
        &self,
        request: &Structured,
        vectors: TransformInputs<'_>,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        self.run_structured(request, vectors, T::outputs(outputs), poll)
    }

    fn run_structured(
        &self,
        request: &Structured,
        vectors: TransformInputs<'_>,
        outputs: Outputs<'_, '_>,
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        with_typed!(outputs => self.run_structured_typed(request, vectors, outputs, poll))
    }

    fn run_structured_typed<T: Number>(
        &self,
        request: &Structured,
        vectors: TransformInputs<'_>,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        let width = request.width();
        assert_eq!(outputs.len(), vectors.n_rows(), "one output a vector");
        assert!(outputs.iter().all(|output| output.len() == width), "one result a row");
        if outputs.is_empty() || width == 0 {
            return Ok(());
        }
        let n = structured::length(vectors.n_inputs()).filter(|&n| n <= 1 << 48).ok_or(Stopped::NoMemory)?;
        let shape = TransformShape::new(n);
        let block_rows = n as u64 * request.rows_per_row();
        let blocks = request.rows.start / block_rows..request.rows.end.div_ceil(block_rows);
        let n_blocks = blocks.end - blocks.start;
        let total = (FIRST_PASSES + n_blocks * BLOCK_PASSES) * lines(shape) * outputs.len() as u64;
        let tasks = outputs.len().saturating_mul(n_blocks as usize);
        let threads = self.threads.min((total / LINES_PER_THREAD) as usize + 1).min(tasks);
        let progress = Progress::new();
        progress.set_total(total);
        let mut coordinator = Coordinator::new(&progress, poll);
        let mut spaces = with_capacity(threads)?;
        for _ in 0..threads {
            spaces.push(Workspace::take_spare(shape).map_or_else(|| Workspace::reserved(shape), Ok)?);
        }
        let workspaces = Mutex::new(spaces);
        let mut phases = PhasePlanes::default();
        let mut rests: Vec<&mut [T]> = collect(outputs.iter_mut().map(|output| &mut **output))?;
        let at_once = match request.mode {
            Mode::Linear { .. } => (PHASE_BYTES / (8 * n)).max(1) as u64,
            Mode::Complex | Mode::Intensity | Mode::Real => n_blocks,
        };
        for first in blocks.clone().step_by(at_once as usize) {
            let stripe = first..blocks.end.min(first.saturating_add(at_once));
            self.set_phases(request, n, &stripe, threads, &mut phases, &mut coordinator)?;
            let pieces =
                pieces(outputs_per_thread(rests.len(), threads), (stripe.end - stripe.start) as usize, threads);
            let per_piece = (stripe.end - stripe.start).div_ceil(pieces as u64);
            let queue = Mutex::new(rests.iter_mut().enumerate().flat_map(|(vector, rest)| {
                let stripe = stripe.clone();
                stripe.clone().step_by(per_piece as usize).map(move |start| {
                    let blocks = start..stripe.end.min(start + per_piece);
                    let rows = request.rows_of(n, &blocks);
                    let width = (rows.end - rows.start) as usize * request.mode.parts();
                    let out = rest.split_off_mut(..width).expect("outputs are as wide as their blocks together");
                    Task { vector, blocks, out }
                })
            }));
            let work = |goes_on: &mut dyn FnMut() -> bool| {
                let Some(space) = pop(&workspaces) else { return Ok(()) };
                let mut worker = TransformWorker {
                    request,
                    kernel: self.kernel,
                    vectors,
                    signs: Signs::new(request.seed),
                    n,
                    shape,
                    phases: &phases,
                    first_block: stripe.start,
                    ticker: Ticker::new(&progress, goes_on, LINES_PER_CHECK),
                    space,
                    current: None,
                };
                let mut ended = worker.space.fill(shape, &mut worker.ticker);
                while ended.is_ok()
                    && let Some(task) = next(&queue)
                {
                    ended = worker.process(task);
                }
                if ended == Err(Stopped::Cancelled) {
                    // The caller waits for the call to end.
                    drop_in_background(worker.space);
                    return ended;
                }
                // The vector it was taken from has room for it.
                workspaces.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(worker.space);
                ended
            };
            share(&mut coordinator, threads, work)?;
        }
        let workspaces = workspaces.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        for space in workspaces {
            space.keep(shape);
        }
        Ok(())
    }

    /// Computes the phases of the anchor's field at the requested rows of some blocks, if the mode has an anchor.
    fn set_phases(
        &self,
        request: &Structured,
        n: usize,
        blocks: &Range<u64>,
        threads: usize,
        planes: &mut PhasePlanes,
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<(), Stopped> {
        let Mode::Linear { .. } = request.mode else { return Ok(()) };
        let lines = (blocks.end - blocks.start) as usize * n / LANES;
        for plane in [&mut planes.cos, &mut planes.sin] {
            plane.try_reserve(lines.saturating_sub(plane.len())).map_err(|_| Stopped::NoMemory)?;
            plane.truncate(lines);
            extend(plane, lines, || coordinator.check())?;
        }
        let (t, anchor) = (Transmission::new(request.seed), collect(anchor::columns(0, request.mode.anchor_pixels()))?);
        let sign = zeros(anchor.len())?;
        let asked = request.rows_of(n, blocks);
        let tile_lines = PHASE_ROWS / LANES;
        let tiles = planes.cos.chunks_mut(tile_lines).zip(planes.sin.chunks_mut(tile_lines)).enumerate();
        let queue = Mutex::new(tiles);
        let work = |goes_on: &mut dyn FnMut() -> bool| {
            let mut sums: Vec<i32> = zeros(PHASE_ROWS / BLOCK_ROWS * BLOCK_COMPONENTS)?;
            while let Some((tile, (cos, sin))) = next(&queue)
                && goes_on()
            {
                let first = blocks.start * n as u64 + (tile * PHASE_ROWS) as u64;
                let n_rows = cos.len() * LANES;
                if first >= asked.end || first + n_rows as u64 <= asked.start {
                    continue;
                }
                const { assert!(structured::SMALLEST.is_multiple_of(TILE_BLOCKS * BLOCK_ROWS)) };
                let sums = &mut sums[..2 * n_rows];
                sums.fill(0);
                self.kernel.field(&t, SignedColumns { index: &anchor, sign: &sign }, first / BLOCK_ROWS as u64, sums);
                let lanes =
                    cos.iter_mut().flat_map(|line| &mut line.0).zip(sin.iter_mut().flat_map(|line| &mut line.0));
                for ((cos, sin), &r) in lanes.zip(sums.as_chunks::<2>().0) {
                    [*cos, *sin] = anchor::phase(r).map(|part| part as f32);
                }
            }
            Ok(())
        };
        share(coordinator, threads, work)
    }
}

/// How often a task processes the lines of the first round, and those of a block.
const FIRST_PASSES: u64 = 3;
const BLOCK_PASSES: u64 = 10;

fn lines(shape: TransformShape) -> u64 {
    (shape.rows() * shape.lines()) as u64
}

/// Vectors of each thread, rounded down; 0 if they do not divide evenly and the difference of one vector matters.
fn outputs_per_thread(n_vectors: usize, threads: usize) -> usize {
    let even = n_vectors.is_multiple_of(threads) || n_vectors >= TASKS_PER_THREAD * threads;
    if even { n_vectors / threads } else { 0 }
}

/// The number of tasks for the blocks of one vector. It is one, because each task repeats the first round, unless threads
/// would be idle.
fn pieces(vectors_per_thread: usize, n_blocks: usize, threads: usize) -> usize {
    if vectors_per_thread > 0 { 1 } else { n_blocks.min(TASKS_PER_THREAD * threads) }
}

fn pop<T>(stack: &Mutex<Vec<T>>) -> Option<T> {
    stack.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
}

//! A batch through a structured matrix: tasks of a vector and some blocks of rows, threads, progress and cancellation.

use std::ops::Range;
use std::sync::Mutex;

use super::definition::{self, Signs};
use super::inputs::Inputs;
use super::lanes::LANES;
use super::passes::Shape;
use super::worker::{PhasePlanes, Task, Worker};
use super::workspace::{Workspace, lengthen};
use crate::anchor;
use crate::kernel::{Kernel, SignedColumns, TILE_BLOCKS};
use crate::memory::{collected, let_go, room, zeros};
use crate::readout::{Mode, Real};
use crate::transmission::{BLOCK_COMPONENTS, BLOCK_ROWS, Transmission};
use crate::work::{Lead, Pace, Stopped, Watch, next};

/// Lines that pass between two looks at the clock: some 100 µs of a fast instruction set, some milliseconds of the slowest.
const LINES_PER_PAUSE: u64 = 1 << 14;

/// Lines worth the waking of another thread.
const LINES_PER_THREAD: u64 = 1 << 13;

/// Bytes of the anchor's phases that are kept at a time, unless one block has more.
const PHASE_BYTES: usize = 32 << 20;

/// Rows whose phases a thread computes at a time.
const PHASE_ROWS: usize = 4096;

/// Tasks that there had best be for each thread.
const TASKS_PER_THREAD: usize = 4;

/// The rows of a structured matrix that are projected on, and how.
#[derive(Clone, Debug)]
pub struct Structured {
    /// Which matrix.
    pub seed: u64,
    /// What is read.
    pub mode: Mode,
    /// The rows, one output each.
    pub rows: Range<u64>,
    /// The inner loops.
    pub kernel: Kernel,
    /// Threads to use, the caller's among them; at least 1.
    pub threads: usize,
}

impl Structured {
    /// Projects a batch.
    ///
    /// Vector v goes to `outputs[v]`, as many numbers as there are rows times [`Mode::parts`].
    /// About every 50 ms `poll` is called, on the calling thread, with the part of the work that is done; the projection
    /// stops soon after it says `false`, and the outputs are then half written.
    ///
    /// # Errors
    ///
    /// If `poll` stopped it, or there is no memory: some three times that of a padded vector a thread.
    ///
    /// # Panics
    ///
    /// If there is not one output of that size for each vector.
    pub fn run<T: Real>(
        &self,
        vectors: Inputs<'_>,
        outputs: &mut [&mut [T]],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        let width = (self.rows.end - self.rows.start) as usize * self.mode.parts();
        assert_eq!(outputs.len(), vectors.n_rows(), "one output a vector");
        assert!(outputs.iter().all(|output| output.len() == width), "one result a row");
        if outputs.is_empty() || width == 0 {
            return Ok(());
        }
        let n = definition::length(vectors.n_inputs()).filter(|&n| n <= 1 << 48).ok_or(Stopped::NoMemory)?;
        let shape = Shape::new(n);
        let blocks = self.rows.start / n as u64..self.rows.end.div_ceil(n as u64);
        let n_blocks = blocks.end - blocks.start;
        let total = (FIRST_PASSES + n_blocks * BLOCK_PASSES) * lines(shape) * outputs.len() as u64;
        let tasks = outputs.len().saturating_mul(n_blocks as usize);
        let threads = self.threads.min((total / LINES_PER_THREAD) as usize + 1).min(tasks);
        let watch = Watch::new();
        watch.expect(total);
        let mut lead = Lead::new(&watch, poll);
        let mut spaces = room(threads)?;
        for _ in 0..threads {
            spaces.push(Workspace::spare(shape).map_or_else(|| Workspace::reserved(shape), Ok)?);
        }
        let workspaces = Mutex::new(spaces);
        let mut phases = PhasePlanes::default();
        let mut rests: Vec<&mut [T]> = collected(outputs.iter_mut().map(|output| &mut **output))?;
        let at_once = match self.mode {
            Mode::Linear { .. } => (PHASE_BYTES / (8 * n)).max(1) as u64,
            Mode::Complex | Mode::Intensity => n_blocks,
        };
        for first in blocks.clone().step_by(at_once as usize) {
            let stripe = first..blocks.end.min(first.saturating_add(at_once));
            self.set_phases(n, &stripe, threads, &mut phases, &mut lead)?;
            let pieces =
                pieces(outputs_per_thread(rests.len(), threads), (stripe.end - stripe.start) as usize, threads);
            let per_piece = (stripe.end - stripe.start).div_ceil(pieces as u64);
            let queue = Mutex::new(rests.iter_mut().enumerate().flat_map(|(vector, rest)| {
                let stripe = stripe.clone();
                stripe.clone().step_by(per_piece as usize).map(move |start| {
                    let blocks = start..stripe.end.min(start + per_piece);
                    let rows = self.rows_of(n, &blocks);
                    let width = (rows.end - rows.start) as usize * self.mode.parts();
                    let out = rest.split_off_mut(..width).expect("outputs are as wide as their blocks together");
                    Task { vector, blocks, out }
                })
            }));
            let work = |keep_on: &mut dyn FnMut() -> bool| {
                let Some(space) = pop(&workspaces) else { return Ok(()) };
                let mut worker = Worker {
                    projection: self,
                    vectors,
                    signs: Signs::new(self.seed),
                    n,
                    shape,
                    phases: &phases,
                    first_block: stripe.start,
                    pace: Pace::new(&watch, keep_on, LINES_PER_PAUSE),
                    space,
                    has: None,
                };
                let mut ended = worker.space.fill(shape, &mut worker.pace);
                while ended.is_ok()
                    && let Some(task) = next(&queue)
                {
                    ended = worker.work_off(task);
                }
                if ended == Err(Stopped::Cancelled) {
                    // Somebody waits for control.
                    let_go(worker.space);
                    return ended;
                }
                // There is room for it where it was.
                workspaces.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(worker.space);
                ended
            };
            lead.share(threads, work)?;
        }
        let workspaces = workspaces.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        for space in workspaces {
            space.keep(shape);
        }
        Ok(())
    }

    /// The rows of some blocks that are asked for.
    pub(super) fn rows_of(&self, n: usize, blocks: &Range<u64>) -> Range<u64> {
        let n = n as u64;
        self.rows.start.max(blocks.start * n)..self.rows.end.min(blocks.end.saturating_mul(n))
    }

    /// The phases of the anchor's field at those rows of some blocks that are asked for, if the mode has an anchor.
    fn set_phases(
        &self,
        n: usize,
        blocks: &Range<u64>,
        threads: usize,
        planes: &mut PhasePlanes,
        lead: &mut Lead<'_, '_>,
    ) -> Result<(), Stopped> {
        let Mode::Linear { .. } = self.mode else { return Ok(()) };
        let lines = (blocks.end - blocks.start) as usize * n / LANES;
        for plane in [&mut planes.cos, &mut planes.sin] {
            plane.try_reserve(lines.saturating_sub(plane.len())).map_err(|_| Stopped::NoMemory)?;
            plane.truncate(lines);
            lengthen(plane, lines, || lead.keep_on())?;
        }
        let (t, anchor) = (Transmission::new(self.seed), self.mode.anchor()?);
        let sign = zeros(anchor.len())?;
        let asked = self.rows_of(n, blocks);
        let tile_lines = PHASE_ROWS / LANES;
        let tiles = planes.cos.chunks_mut(tile_lines).zip(planes.sin.chunks_mut(tile_lines)).enumerate();
        let queue = Mutex::new(tiles);
        let work = |keep_on: &mut dyn FnMut() -> bool| {
            let mut sums: Vec<i32> = zeros(PHASE_ROWS / BLOCK_ROWS * BLOCK_COMPONENTS)?;
            while let Some((tile, (cos, sin))) = next(&queue)
                && keep_on()
            {
                let first = blocks.start * n as u64 + (tile * PHASE_ROWS) as u64;
                let n_rows = cos.len() * LANES;
                if first >= asked.end || first + n_rows as u64 <= asked.start {
                    continue;
                }
                const { assert!(definition::SMALLEST.is_multiple_of(TILE_BLOCKS * BLOCK_ROWS)) };
                let sums = &mut sums[..2 * n_rows];
                sums.fill(0);
                self.kernel.field(&t, SignedColumns { index: &anchor, sign: &sign }, first / BLOCK_ROWS as u64, sums);
                let lanes =
                    cos.iter_mut().flat_map(|line| &mut line.0).zip(sin.iter_mut().flat_map(|line| &mut line.0));
                for ((cos, sin), &r) in lanes.zip(sums.as_chunks::<2>().0) {
                    [*cos, *sin] = anchor::phase_of(r).map(|part| part as f32);
                }
            }
            Ok(())
        };
        lead.share(threads, work)
    }
}

/// Times that a task goes through the lines of the first round, and through those of a block.
const FIRST_PASSES: u64 = 3;
const BLOCK_PASSES: u64 = 10;

fn lines(shape: Shape) -> u64 {
    (shape.rows() * shape.lines()) as u64
}

/// Vectors of a thread, rounded down; 0 where they do not divide evenly and a vector more or less counts.
fn outputs_per_thread(n_vectors: usize, threads: usize) -> usize {
    let even = n_vectors.is_multiple_of(threads) || n_vectors >= TASKS_PER_THREAD * threads;
    if even { n_vectors / threads } else { 0 }
}

/// Into how many tasks the blocks of a vector are cut: one, as each task does the first round anew, unless threads would be idle.
fn pieces(vectors_per_thread: usize, n_blocks: usize, threads: usize) -> usize {
    if vectors_per_thread > 0 { 1 } else { n_blocks.min(TASKS_PER_THREAD * threads) }
}

fn pop<T>(stack: &Mutex<Vec<T>>) -> Option<T> {
    stack.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
}

//! A batch through a structured matrix: tasks of a vector and some blocks of rows, threads, progress and cancellation.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::definition::{self, Part, SIGNS, Signs};
use super::inputs::Inputs;
use super::lanes::{LANES, Line};
use super::passes::{FirstRow, InPlace, LINES_PER_BLOCK, MiddleRow, Shape, SignBlock, Signed};
use super::reading::{Finish, Phases, Reading};
use super::{run, signs};
use crate::anchor;
use crate::kernel::{Kernel, SignedColumns, TILE_BLOCKS};
use crate::readout::{Mode, Real};
use crate::transmission::{BLOCK_COMPONENTS, BLOCK_ROWS, Transmission};
use crate::work::{Lead, Pace, Stopped, Watch, next};

/// Lines of a row that are read at a time.
const LINES_AT_ONCE: usize = 64;

/// Blocks of signs that are made at a time where columns are short.
const SIGN_BLOCKS: usize = 64;

/// Lines that pass between two looks at the clock: some 100 µs of a fast instruction set, some milliseconds of the slowest.
const LINES_PER_PAUSE: u64 = 1 << 14;

/// Lines worth the waking of another thread.
const LINES_PER_THREAD: u64 = 1 << 13;

/// Bytes of the anchor's phases that are kept at a time, unless one block has more.
const PHASE_BYTES: usize = 32 << 20;

/// Rows whose phases a thread computes at a time.
const PHASE_ROWS: usize = 4096;

/// How long the leading thread sleeps between two looks at the others, once it has nothing left to do.
const WAIT: Duration = Duration::from_micros(100);

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

/// Bytes that each thread works in, if they fit the address space.
#[must_use]
pub fn bytes_per_thread(n_inputs: usize) -> Option<usize> {
    let n = definition::length(n_inputs).filter(|&n| n <= 1 << 48)?;
    Some(Workspace::lines(Shape::new(n)) * size_of::<Line>() + sign_blocks(Shape::new(n)) * size_of::<SignBlock>())
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
        let watch = Watch::of(total);
        let mut lead = Lead::new(&watch, poll);
        let workspaces = (0..threads).map(|_| Workspace::spare(shape).or_else(|| Workspace::reserved(shape)));
        let workspaces = Mutex::new(workspaces.collect::<Option<Vec<_>>>().ok_or(Stopped::NoMemory)?);
        let mut phases = PhasePlanes::default();
        let mut rests: Vec<&mut [T]> = outputs.iter_mut().map(|output| &mut **output).collect();
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
            let (busy, lead_thread) = (AtomicUsize::new(0), std::thread::current().id());
            let work = |keep_on: &mut dyn FnMut() -> bool| {
                let Some(space) = pop(&workspaces) else { return };
                let busy_one = Busy::new(&busy);
                let mut worker = Worker {
                    projection: self,
                    vectors,
                    signs: Signs::new(self.seed),
                    n,
                    shape,
                    phases: &phases,
                    first_block: stripe.start,
                    pace: Pace::new(&watch, keep_on, LINES_PER_PAUSE),
                    space: space.filled(shape),
                    has: None,
                };
                while let Some(task) = next(&queue) {
                    if worker.work_off(task).is_none() {
                        break;
                    }
                }
                let Worker { space, mut pace, .. } = worker;
                workspaces.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(space);
                drop(busy_one);
                // The caller is asked whether to go on as long as anything goes on.
                while std::thread::current().id() == lead_thread && busy.load(Relaxed) > 0 && pace.keep_on() {
                    std::thread::sleep(WAIT);
                }
            };
            lead.share(threads, work);
            if watch.cancelled.load(Relaxed) {
                return Err(Stopped::Cancelled);
            }
        }
        let workspaces = workspaces.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        for space in workspaces {
            space.keep(shape);
        }
        Ok(())
    }

    /// The rows of some blocks that are asked for.
    fn rows_of(&self, n: usize, blocks: &Range<u64>) -> Range<u64> {
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
            plane.resize(lines, Line::ZERO);
        }
        let (t, anchor) = (Transmission::new(self.seed), self.mode.anchor());
        let sign = vec![0; anchor.len()];
        let asked = self.rows_of(n, blocks);
        let tile_lines = PHASE_ROWS / LANES;
        let tiles = planes.cos.chunks_mut(tile_lines).zip(planes.sin.chunks_mut(tile_lines)).enumerate();
        let queue = Mutex::new(tiles);
        let work = |keep_on: &mut dyn FnMut() -> bool| {
            let mut sums = vec![0; PHASE_ROWS / BLOCK_ROWS * BLOCK_COMPONENTS];
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
        };
        lead.share(threads, work);
        if lead.watch.cancelled.load(Relaxed) { Err(Stopped::Cancelled) } else { Ok(()) }
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

/// Blocks of signs that a thread needs at a time.
fn sign_blocks(shape: Shape) -> usize {
    (shape.groups() * blocks_at_once(shape)).max(shape.lines() / LINES_PER_BLOCK)
}

/// Blocks of signs of a row that the passes between groups take together.
fn blocks_at_once(shape: Shape) -> usize {
    (SIGN_BLOCKS / shape.groups()).clamp(1, shape.lines() / LINES_PER_BLOCK)
}

/// What a thread works in: one allocation each, made before the work begins and filled by the thread.
struct Workspace {
    /// The first round's result.
    first: Vec<Line>,
    /// The real and the imaginary part of a block.
    parts: [Vec<Line>; 2],
    /// A strip of columns, between two steps and at the end.
    packed: Vec<Line>,
    gathered: [Vec<Line>; 2],
    signs: Vec<SignBlock>,
}

/// What the last calls worked in: the next one need not have its pages made anew.
static SPARE: Mutex<Vec<Workspace>> = Mutex::new(Vec::new());

/// Bytes of spare workspaces that are kept.
const SPARE_BYTES: usize = 32 << 20;

impl Workspace {
    /// One of a call before, if it was for transforms of the same length.
    fn spare(shape: Shape) -> Option<Self> {
        // Another thread may have held the lock when this process was forked: then nobody will ever open it.
        let mut spare = SPARE.try_lock().ok()?;
        let k = spare.iter().position(|space| space.first.len() == shape.plane())?;
        Some(spare.swap_remove(k))
    }

    /// Keeps it for calls to come, if there is room.
    fn keep(self, shape: Shape) {
        let Ok(mut spare) = SPARE.try_lock() else { return };
        let bytes = |space: &Self| 3 * size_of_val(&space.first[..]);
        spare.retain(|space| space.first.len() == shape.plane());
        if spare.iter().map(bytes).sum::<usize>() + bytes(&self) <= SPARE_BYTES {
            spare.push(self);
        }
    }

    fn lines(shape: Shape) -> usize {
        3 * shape.plane() + 2 * shape.groups() + shape.groups().max(shape.group())
    }

    fn reserved(shape: Shape) -> Option<Self> {
        let lines = |n: usize| {
            let mut lines = Vec::new();
            lines.try_reserve_exact(n).ok().map(|()| lines)
        };
        let plane = || lines(shape.plane());
        let mut signs = Vec::new();
        signs.try_reserve_exact(sign_blocks(shape)).ok()?;
        Some(Self {
            first: plane()?,
            parts: [plane()?, plane()?],
            packed: lines(shape.groups().max(shape.group()))?,
            gathered: [lines(shape.groups())?, lines(shape.groups())?],
            signs,
        })
    }

    fn filled(mut self, shape: Shape) -> Self {
        let [re, im] = &mut self.parts;
        for plane in [&mut self.first, re, im] {
            plane.resize(shape.plane(), Line::ZERO);
        }
        let [re, im] = &mut self.gathered;
        for place in [re, im] {
            place.resize(shape.groups(), Line::ZERO);
        }
        self.packed.resize(shape.groups().max(shape.group()), Line::ZERO);
        self.signs.resize(sign_blocks(shape), SignBlock::default());
        self
    }
}

/// The anchor's phases at the rows of some blocks.
#[derive(Default)]
struct PhasePlanes {
    cos: Vec<Line>,
    sin: Vec<Line>,
}

/// Counts a thread that is at work, even if it panics.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A vector and some blocks of rows, with their part of its output.
struct Task<'o, T> {
    vector: usize,
    blocks: Range<u64>,
    out: &'o mut [T],
}

/// One thread at work.
struct Worker<'a> {
    projection: &'a Structured,
    vectors: Inputs<'a>,
    signs: Signs,
    n: usize,
    shape: Shape,
    phases: &'a PhasePlanes,
    /// The block whose phases are the first ones.
    first_block: u64,
    pace: Pace<'a>,
    space: Workspace,
    /// The vector whose first round is at hand.
    has: Option<usize>,
}

impl Worker<'_> {
    /// Does a task; nothing if it was stopped.
    fn work_off<T: Real>(&mut self, task: Task<'_, T>) -> Option<()> {
        if self.has != Some(task.vector) {
            self.has = None;
            self.first_round(task.vector)?;
            self.has = Some(task.vector);
        }
        let mut rest = task.out;
        for block in task.blocks {
            let rows = self.projection.rows_of(self.n, &(block..block + 1));
            let width = (rows.end - rows.start) as usize * self.projection.mode.parts();
            let out = rest.split_off_mut(..width).expect("outputs are as wide as their blocks together");
            for part in Part::BOTH {
                self.between_groups(block, part)?;
                self.within_groups(block, part)?;
            }
            self.read(task.vector, block, (rows.start - block * self.n as u64) as usize, out)?;
        }
        Some(())
    }

    /// Fills the first plane with H D₁ x.
    fn first_round(&mut self, vector: usize) -> Option<()> {
        let Self { shape, vectors, .. } = *self;
        let kernel = self.projection.kernel;
        let length = shape.row_length();
        for row in 0..shape.rows() {
            let to = &mut self.space.first[shape.row(row)];
            if row * length >= vectors.n_inputs() {
                to.fill(Line::ZERO);
            } else {
                let signs = &mut self.space.signs[..length / SIGNS];
                let block = |j: usize| (row * (length / SIGNS) + j) as u64;
                signs::fill(kernel, &self.signs, Signs::FIRST, block, signs);
                let inputs = vectors.inputs(vector, row * length, length);
                run(kernel, FirstRow { inputs, signs, row: to });
            }
            self.pause(shape.lines())?;
        }
        let lines = 0..shape.lines();
        for group in 0..shape.groups() {
            let Workspace { first: plane, packed, .. } = &mut self.space;
            run(kernel, InPlace::<true> { columns: shape.within(group), lines: lines.clone(), plane, packed });
            self.pause(shape.lines() * shape.group())?;
        }
        for row in 0..shape.group() {
            let Workspace { first: plane, packed, .. } = &mut self.space;
            run(kernel, InPlace::<true> { columns: shape.between(row), lines: lines.clone(), plane, packed });
            self.pause(shape.lines() * shape.groups())?;
        }
        Some(())
    }

    /// Fills a part's plane with the stages of round 2 that go between groups.
    fn between_groups(&mut self, block: u64, part: Part) -> Option<()> {
        let Self { shape, .. } = *self;
        let kernel = self.projection.kernel;
        let at_once = blocks_at_once(shape);
        let diagonal = Signs::diagonal(block, part, 2);
        let per_row = shape.row_length() / SIGNS;
        let step = at_once * LINES_PER_BLOCK;
        for row in 0..shape.group() {
            for (k, line) in (0..shape.lines()).step_by(step).enumerate() {
                let Workspace { first, parts, packed, signs, .. } = &mut self.space;
                let signs = &mut signs[..shape.groups() * at_once];
                let number = |j: usize| {
                    let row = j / at_once * shape.group() + row;
                    (row * per_row + k * at_once + j % at_once) as u64
                };
                signs::fill(kernel, &self.signs, diagonal, number, signs);
                let (columns, lines, to) = (shape.between(row), line..line + step, &mut parts[part as usize]);
                run(kernel, Signed { columns, lines, from: first, to, signs, packed });
                self.pause(step * shape.groups())?;
            }
        }
        Some(())
    }

    /// The rest of a part but for the stages of round 3 that go between groups.
    fn within_groups(&mut self, block: u64, part: Part) -> Option<()> {
        let Self { shape, .. } = *self;
        let kernel = self.projection.kernel;
        let diagonal = Signs::diagonal(block, part, 3);
        let per_row = shape.row_length() / SIGNS;
        for group in 0..shape.groups() {
            let Workspace { parts, signs, packed, .. } = &mut self.space;
            let (plane, signs) = (&mut parts[part as usize], &mut signs[..per_row]);
            let (columns, lines) = (shape.within(group), 0..shape.lines());
            run(kernel, InPlace::<false> { columns, lines: lines.clone(), plane, packed });
            for row in group * shape.group()..(group + 1) * shape.group() {
                signs::fill(kernel, &self.signs, diagonal, |j| (row * per_row + j) as u64, signs);
                run(kernel, MiddleRow { signs, row: &mut plane[shape.row(row)] });
            }
            run(kernel, InPlace::<true> { columns, lines, plane, packed });
            self.pause(3 * shape.lines() * shape.group())?;
        }
        Some(())
    }

    /// The stages of round 3 between groups, and what is read of both parts.
    fn read<T: Real>(&mut self, vector: usize, block: u64, first: usize, out: &mut [T]) -> Option<()> {
        let Self { shape, n, .. } = *self;
        let Structured { kernel, mode, .. } = *self.projection;
        let reading = Reading::new(mode, self.vectors.scale(vector) / n as f64);
        let before = (block - self.first_block) as usize * (n / LANES);
        let phases = matches!(mode, Mode::Linear { .. }).then(|| Phases {
            cos: &self.phases.cos[before..before + n / LANES],
            sin: &self.phases.sin[before..before + n / LANES],
        });
        let step = LINES_AT_ONCE.min(shape.lines());
        for row in 0..shape.group() {
            for line in (0..shape.lines()).step_by(step) {
                let Workspace { parts, packed, gathered, .. } = &mut self.space;
                let finish = Finish {
                    reading,
                    columns: shape.between(row),
                    lines: line..line + step,
                    parts,
                    packed,
                    gathered,
                    line: row * shape.lines(),
                    step: shape.group() * shape.lines(),
                    phases,
                    first,
                    out: &mut *out,
                };
                run(kernel, finish);
                self.pause(2 * step * shape.groups())?;
            }
        }
        Some(())
    }

    /// Notes lines that passed, and once there are enough of them, reports them and asks whether to go on.
    fn pause(&mut self, lines: usize) -> Option<()> {
        self.pace.pause(lines as u64).then_some(())
    }
}

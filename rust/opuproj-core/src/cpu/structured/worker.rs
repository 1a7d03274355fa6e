//! The work of one thread on a task: the rounds of a vector's transforms, and their readout.

use std::ops::Range;

use super::dispatch::run;
use super::inputs::TransformInputs;
use super::lanes::{LANES, Line};
use super::passes::{FirstRow, InPlace, LINES_PER_BLOCK, MiddleRow, Signed, TransformShape};
use super::readout::{Finish, Phases, Read, TransformReadout};
use super::signs;
use super::workspace::{Workspace, blocks_at_once, lines_at_once};
use crate::cpu::kernel::Kernel;
use crate::cpu::threads::Ticker;
use crate::definition::readout::{Mode, Number};
use crate::definition::structured::{Part, SIGNS, Signs};
use crate::memory::touch;
use crate::progress::Stopped;
use crate::request::structured::Structured;

/// The output of a block is touched before it is written if it has this many bytes. Otherwise the first line of each group
/// would touch most of its pages between two checks for a stop.
const TOUCHED_FIRST: usize = 4 << 20;

/// The anchor's phases at the rows of some blocks.
#[derive(Default)]
pub(super) struct PhasePlanes {
    pub(super) cos: Vec<Line>,
    pub(super) sin: Vec<Line>,
}

/// A vector and some blocks of rows, with their part of the output.
pub(super) struct Task<'o, T> {
    pub(super) vector: usize,
    pub(super) blocks: Range<u64>,
    pub(super) out: &'o mut [T],
}

/// One thread.
pub(super) struct TransformWorker<'a> {
    pub(super) request: &'a Structured,
    pub(super) kernel: Kernel,
    pub(super) vectors: TransformInputs<'a>,
    pub(super) signs: Signs,
    pub(super) n: usize,
    pub(super) shape: TransformShape,
    pub(super) phases: &'a PhasePlanes,
    /// The block to which the first phases belong.
    pub(super) first_block: u64,
    pub(super) ticker: Ticker<'a>,
    pub(super) space: Workspace,
    /// The vector whose first round is in the workspace.
    pub(super) current: Option<usize>,
}

impl TransformWorker<'_> {
    /// Computes a task.
    pub(super) fn process<T: Number>(&mut self, task: Task<'_, T>) -> Result<(), Stopped> {
        if self.current != Some(task.vector) {
            self.current = None;
            self.first_round(task.vector)?;
            self.current = Some(task.vector);
        }
        let mut rest = task.out;
        for block in task.blocks {
            let rows = self.request.rows_of(self.n, &(block..block + 1));
            let width = (rows.end - rows.start) as usize * self.request.mode.parts();
            let out = rest.split_off_mut(..width).expect("outputs are as wide as their blocks together");
            for part in Part::BOTH {
                self.between_groups(block, part)?;
                self.within_groups(block, part)?;
            }
            let first = (rows.start - block * self.n as u64 * self.request.rows_per_row()) as usize;
            self.read(task.vector, block, first * self.request.mode.parts(), out)?;
        }
        Ok(())
    }

    /// Fills the first plane with H D₁ x.
    fn first_round(&mut self, vector: usize) -> Result<(), Stopped> {
        let Self { shape, vectors, .. } = *self;
        let kernel = self.kernel;
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
            self.count(shape.lines())?;
        }
        let lines = 0..shape.lines();
        for group in 0..shape.groups() {
            let Workspace { first: plane, packed, .. } = &mut self.space;
            run(kernel, InPlace::<true> { columns: shape.within(group), lines: lines.clone(), plane, packed });
            self.count(shape.lines() * shape.group())?;
        }
        for row in 0..shape.group() {
            let Workspace { first: plane, packed, .. } = &mut self.space;
            run(kernel, InPlace::<true> { columns: shape.between(row), lines: lines.clone(), plane, packed });
            self.count(shape.lines() * shape.groups())?;
        }
        Ok(())
    }

    /// Fills the plane of a part with the stages of round 2 between row groups.
    fn between_groups(&mut self, block: u64, part: Part) -> Result<(), Stopped> {
        let Self { shape, .. } = *self;
        let kernel = self.kernel;
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
                self.count(step * shape.groups())?;
            }
        }
        Ok(())
    }

    /// Computes the rest of a part, except for the stages of round 3 between row groups.
    fn within_groups(&mut self, block: u64, part: Part) -> Result<(), Stopped> {
        let Self { shape, .. } = *self;
        let kernel = self.kernel;
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
            self.count(3 * shape.lines() * shape.group())?;
        }
        Ok(())
    }

    /// Computes the stages of round 3 between row groups, and reads both parts.
    fn read<T: Number>(&mut self, vector: usize, block: u64, first: usize, out: &mut [T]) -> Result<(), Stopped> {
        let Self { shape, n, .. } = *self;
        let (kernel, mode) = (self.kernel, self.request.mode);
        let readout = TransformReadout { mode, scale: self.vectors.scale(vector) / n as f64 };
        let before = (block - self.first_block) as usize * (n / LANES);
        let phases = matches!(mode, Mode::Linear { .. }).then(|| Phases {
            cos: &self.phases.cos[before..before + n / LANES],
            sin: &self.phases.sin[before..before + n / LANES],
        });
        if size_of_val(out) >= TOUCHED_FIRST {
            touch(out, T::rounded(0.0), || self.ticker.check())?;
        }
        let n_lines = lines_at_once(shape);
        for row in 0..shape.group() {
            for line in (0..shape.lines()).step_by(n_lines) {
                let Workspace { parts, packed, finished, .. } = &mut self.space;
                let (columns, lines) = (shape.between(row), line..line + n_lines);
                run(kernel, Finish { columns, lines, parts, packed, finished });
                let read = Read {
                    readout,
                    rows: columns.rows(),
                    finished,
                    n_lines,
                    line: row * shape.lines() + line,
                    step: shape.group() * shape.lines(),
                    phases,
                    first,
                    out: &mut *out,
                };
                run(kernel, read);
                self.count(2 * n_lines * shape.groups())?;
            }
        }
        Ok(())
    }

    /// Counts lines that were processed.
    fn count(&mut self, lines: usize) -> Result<(), Stopped> {
        self.ticker.count(lines as u64)
    }
}

//! Results from the two parts of a transform.

use std::ops::Range;

use super::lanes::{LANES, Lanes, Line, Pass};
use super::passes::{AHEAD, StridedLines};
use crate::definition::readout::{Mode, Number};
use crate::definition::structured;

/// What is read of the transforms of one vector, which are S x / `scale`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TransformReadout {
    pub(super) mode: Mode,
    /// The factor of the transforms: an exact power of two.
    pub(super) scale: f64,
}

impl TransformReadout {
    /// Numbers of a row of T: its two parts, or one result.
    fn per_row(self) -> usize {
        self.mode.parts() * (2 / self.mode.components())
    }
}

/// The phases of the anchor's field at some rows: cosines and sines as float32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phases<'a> {
    pub(super) cos: &'a [Line],
    pub(super) sin: &'a [Line],
}

/// Computes the last stages of round 3, along columns of both parts, for some lines of each row.
pub(super) struct Finish<'a> {
    pub(super) columns: StridedLines,
    /// The lines of each row.
    pub(super) lines: Range<usize>,
    pub(super) parts: &'a [Vec<Line>; 2],
    pub(super) packed: &'a mut [Line],
    /// The results of both parts: for each of `lines` a line of each row.
    pub(super) finished: &'a mut [Vec<Line>; 2],
}

impl Pass for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { columns, lines, parts, packed, finished } = self;
        for (plane, finished) in parts.iter().zip(finished) {
            for (column, finished) in lines.clone().zip(finished.chunks_exact_mut(columns.rows())) {
                columns.gather::<L>(column, plane, packed, finished);
            }
        }
    }
}

/// Reads the requested rows from finished lines of both parts.
pub(super) struct Read<'a, T> {
    pub(super) readout: TransformReadout,
    /// The rows that the finished lines are taken from.
    pub(super) rows: usize,
    pub(super) finished: &'a [Vec<Line>; 2],
    /// How many lines of each row are finished.
    pub(super) n_lines: usize,
    /// The number in the block of the first of them, and its difference from one row to the next.
    pub(super) line: usize,
    pub(super) step: usize,
    /// Those of all lines of the block, if the mode is "linear".
    pub(super) phases: Option<Phases<'a>>,
    /// The number of the block's first requested result, each part counted. `out` has room for all of them.
    pub(super) first: usize,
    pub(super) out: &'a mut [T],
}

impl<T: Number> Pass for Read<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { readout, rows, finished, n_lines, line, step, phases, first, out } = self;
        let [re, im] = finished;
        for (column, (re, im)) in (0..n_lines).zip(re.chunks_exact(rows).zip(im.chunks_exact(rows))) {
            for (k, (re, im)) in re.iter().zip(im).enumerate() {
                let line = line + column + k * step;
                let phase = phases.map_or((&Line::ZERO, &Line::ZERO), |phases| (&phases.cos[line], &phases.sin[line]));
                read_rows::<L, T>(readout, (re, im), phase, LANES * line * readout.per_row(), first, out);
            }
        }
    }
}

/// Reads a line, whose first number is `start`, and writes those of its numbers that belong to `out`, which begins with number
/// `first`.
#[inline(always)]
fn read_rows<L: Lanes, T: Number>(
    readout: TransformReadout,
    parts: (&Line, &Line),
    phase: (&Line, &Line),
    start: usize,
    first: usize,
    out: &mut [T],
) {
    let numbers = readout.per_row() * LANES;
    let at = start.wrapping_sub(first);
    if start >= first
        && let Some(here) = out.get_mut(at..at.wrapping_add(numbers))
    {
        L::prefetch_to_write(here.as_ptr().wrapping_add(AHEAD * numbers).cast());
        read_line(readout, parts, phase, here);
        return;
    }
    let asked = first.max(start)..(first + out.len()).min(start + numbers);
    if !asked.is_empty() {
        let mut whole = [T::rounded(0.0); 2 * LANES];
        read_line(readout, parts, phase, &mut whole[..numbers]);
        out[asked.start - first..asked.end - first].copy_from_slice(&whole[asked.start - start..asked.end - start]);
    }
}

#[inline(always)]
fn read_line<T: Number>(
    TransformReadout { mode, scale }: TransformReadout,
    (re, im): (&Line, &Line),
    (cos, sin): (&Line, &Line),
    out: &mut [T],
) {
    match mode {
        Mode::Complex => {
            let out: &mut [T; 2 * LANES] = out.try_into().expect("two parts a lane");
            for (l, out) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                out[0] = T::rounded(structured::complex(re.0[l], scale));
                out[1] = T::rounded(structured::complex(im.0[l], scale));
            }
        }
        Mode::Real => {
            let out: &mut [T; 2 * LANES] = out.try_into().expect("two rows a lane");
            for (l, out) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                out[0] = T::rounded(structured::real(re.0[l], scale));
                out[1] = T::rounded(structured::real(im.0[l], scale));
            }
        }
        Mode::Intensity => {
            let out: &mut [T; LANES] = out.try_into().expect("a number a lane");
            for (l, out) in out.iter_mut().enumerate() {
                *out = T::rounded(structured::intensity([re.0[l], im.0[l]], scale));
            }
        }
        Mode::Linear { .. } => {
            let out: &mut [T; LANES] = out.try_into().expect("a number a lane");
            for (l, out) in out.iter_mut().enumerate() {
                *out = T::rounded(structured::linear([re.0[l], im.0[l]], [cos.0[l], sin.0[l]], scale));
            }
        }
    }
}

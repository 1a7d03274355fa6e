//! From the two parts of a transform to what is read of Tx: in float64, rounded once.

use std::ops::Range;

use super::lanes::{LANES, Lanes, Line, Pass};
use super::passes::{AHEAD, StridedLines};
use crate::definition::readout::{Mode, Real};
use crate::definition::structured;

/// What is read of one vector's transforms, which are n / scale times S x.
#[derive(Clone, Copy, Debug)]
pub(super) struct TransformReadout {
    pub(super) mode: Mode,
    /// What the transforms are multiplied by: an exact power of two.
    pub(super) scale: f64,
}

/// The phase of the anchor's field at some rows: cosines and sines, as float32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phases<'a> {
    pub(super) cos: &'a [Line],
    pub(super) sin: &'a [Line],
}

/// Ends round 3, the stages of columns of both parts, and reads what of their rows is asked for.
pub(super) struct Finish<'a, T> {
    pub(super) readout: TransformReadout,
    pub(super) columns: StridedLines,
    /// Lines of a row of the plane.
    pub(super) lines: Range<usize>,
    pub(super) parts: &'a [Vec<Line>; 2],
    pub(super) packed: &'a mut [Line],
    /// Room for one line of each row, for both parts.
    pub(super) gathered: &'a mut [Vec<Line>; 2],
    /// The number in the block of a row's first line, and from one row's to the next.
    pub(super) line: usize,
    pub(super) step: usize,
    /// Of all lines of the block; none unless the mode is "linear".
    pub(super) phases: Option<Phases<'a>>,
    /// The rows of the block that are asked for begin at this one; there are as many as `out` takes.
    pub(super) first: usize,
    pub(super) out: &'a mut [T],
}

impl<T: Real> Pass for Finish<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { readout, columns, lines, parts, packed, gathered, line, step, phases, first, out } = self;
        for column in lines {
            for (plane, to) in parts.iter().zip(gathered.iter_mut()) {
                columns.gather::<L>(column, plane, packed, to);
            }
            let [re, im] = &*gathered;
            for (k, (re, im)) in re.iter().zip(im).enumerate() {
                let line = line + column + k * step;
                let phase = phases.map_or((&Line::ZERO, &Line::ZERO), |phases| (&phases.cos[line], &phases.sin[line]));
                place::<L, T>(readout, (re, im), phase, LANES * line, first, out);
            }
        }
    }
}

/// Reads a line, the first of whose rows is `row`, and writes those from `first` on that `out` takes.
#[inline(always)]
fn place<L: Lanes, T: Real>(
    readout: TransformReadout,
    parts: (&Line, &Line),
    phase: (&Line, &Line),
    row: usize,
    first: usize,
    out: &mut [T],
) {
    let numbers = readout.mode.parts();
    let at = row.wrapping_sub(first).wrapping_mul(numbers);
    if row >= first
        && let Some(here) = out.get_mut(at..at.wrapping_add(numbers * LANES))
    {
        L::prefetch_to_write(here.as_ptr().wrapping_add(AHEAD * numbers * LANES).cast());
        read_line(readout, parts, phase, here);
        return;
    }
    let (start, end) = (first.max(row), (first + out.len() / numbers).min(row + LANES));
    if start < end {
        let mut whole = [T::rounded(0.0); 2 * LANES];
        read_line(readout, parts, phase, &mut whole[..numbers * LANES]);
        out[numbers * (start - first)..numbers * (end - first)]
            .copy_from_slice(&whole[numbers * (start - row)..numbers * (end - row)]);
    }
}

#[inline(always)]
fn read_line<T: Real>(
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

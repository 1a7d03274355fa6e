//! From the two parts of a transform to what is read of Tx: in float64, rounded once.

use std::f64::consts::FRAC_1_SQRT_2;
use std::ops::Range;

use super::lanes::{LANES, Lanes, Line, Pass};
use super::passes::{AHEAD, Columns};
use crate::readout::{Mode, Real};

/// What is read of one vector's transforms, which are n / scale times S x.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) mode: Mode,
    /// What the transforms are multiplied by: an exact power of two.
    scale: f64,
    /// Half of its square, in two steps.
    square: (f64, f64),
}

impl Reading {
    pub(super) fn new(mode: Mode, scale: f64) -> Self {
        Self { mode, scale, square: (scale, 0.5 * scale) }
    }
}

/// The phase of the anchor's field at some rows: cosines and sines, as float32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phases<'a> {
    pub(super) cos: &'a [Line],
    pub(super) sin: &'a [Line],
}

/// Ends round 3, the stages of columns of both parts, and reads what of their rows is asked for.
pub(super) struct Finish<'a, T> {
    pub(super) reading: Reading,
    pub(super) columns: Columns,
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
        let Self { reading, columns, lines, parts, packed, gathered, line, step, phases, first, out } = self;
        for column in lines {
            for (plane, to) in parts.iter().zip(gathered.iter_mut()) {
                columns.gather::<L>(column, plane, packed, to);
            }
            let [re, im] = &*gathered;
            for (k, (re, im)) in re.iter().zip(im).enumerate() {
                let line = line + column + k * step;
                let phase = phases.map_or((&Line::ZERO, &Line::ZERO), |phases| (&phases.cos[line], &phases.sin[line]));
                place::<L, T>(reading, (re, im), phase, LANES * line, first, out);
            }
        }
    }
}

/// Reads a line, the first of whose rows is `row`, and writes those from `first` on that `out` takes.
#[inline(always)]
fn place<L: Lanes, T: Real>(
    reading: Reading,
    parts: (&Line, &Line),
    phase: (&Line, &Line),
    row: usize,
    first: usize,
    out: &mut [T],
) {
    let numbers = reading.mode.parts();
    let at = row.wrapping_sub(first).wrapping_mul(numbers);
    if row >= first
        && let Some(here) = out.get_mut(at..at.wrapping_add(numbers * LANES))
    {
        L::prefetch_to_write(here.as_ptr().wrapping_add(AHEAD * numbers * LANES).cast());
        read_line(reading, parts, phase, here);
        return;
    }
    let (start, end) = (first.max(row), (first + out.len() / numbers).min(row + LANES));
    if start < end {
        let mut whole = [T::rounded(0.0); 2 * LANES];
        read_line(reading, parts, phase, &mut whole[..numbers * LANES]);
        out[numbers * (start - first)..numbers * (end - first)]
            .copy_from_slice(&whole[numbers * (start - row)..numbers * (end - row)]);
    }
}

#[inline(always)]
fn read_line<T: Real>(reading: Reading, (re, im): (&Line, &Line), (cos, sin): (&Line, &Line), out: &mut [T]) {
    let wide = |line: &Line, l: usize| f64::from(line.0[l]) * reading.scale;
    // Adding 0 turns −0 into 0.
    match reading.mode {
        Mode::Complex => {
            let out: &mut [T; 2 * LANES] = out.try_into().expect("two parts a lane");
            for (l, out) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                out[0] = T::rounded(wide(re, l) * FRAC_1_SQRT_2 + 0.0);
                out[1] = T::rounded(wide(im, l) * FRAC_1_SQRT_2 + 0.0);
            }
        }
        Mode::Intensity => {
            let out: &mut [T; LANES] = out.try_into().expect("a number a lane");
            for (l, out) in out.iter_mut().enumerate() {
                let (re, im) = (f64::from(re.0[l]), f64::from(im.0[l]));
                // The squares are exact, and far from the limits of float64: what they are scaled by may stand between.
                *out = T::rounded((re * re + im * im) * reading.square.0 * reading.square.1);
            }
        }
        Mode::Linear { .. } => {
            let out: &mut [T; LANES] = out.try_into().expect("a number a lane");
            for (l, out) in out.iter_mut().enumerate() {
                let (cos, sin) = (f64::from(cos.0[l]), f64::from(sin.0[l]));
                *out = T::rounded(wide(re, l) * cos + wide(im, l) * sin + 0.0);
            }
        }
    }
}

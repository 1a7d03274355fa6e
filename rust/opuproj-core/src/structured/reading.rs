//! From the two parts of a transform to what is read of Tx: in float64, rounded once.

use std::f64::consts::FRAC_1_SQRT_2;

use super::lanes::{LANES, Lanes, Line, Pass};
use crate::readout::{Mode, Real};

/// What is read of one vector's transforms, which are n / scale times S x.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
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

/// Reads lines that lie `step` apart in their block of rows, and writes what of them is asked for.
pub(super) struct Read<'a, T> {
    pub(super) reading: Reading,
    pub(super) re: &'a [Line],
    pub(super) im: &'a [Line],
    /// The number of the first line in the block, and from one to the next.
    pub(super) line: usize,
    pub(super) step: usize,
    /// Of all lines of the block; none unless the mode is "linear".
    pub(super) phases: Option<Phases<'a>>,
    /// The rows of the block that are asked for begin at this one; there are as many as `out` takes.
    pub(super) first: usize,
    pub(super) out: &'a mut [T],
}

impl<T: Real> Pass for Read<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { reading, re, im, line, step, phases, first, out } = self;
        let parts = reading.mode.parts();
        let n_rows = out.len() / parts;
        for (k, (re, im)) in re.iter().zip(im).enumerate() {
            let line = line + k * step;
            let phase = phases.map_or((&Line::ZERO, &Line::ZERO), |phases| (&phases.cos[line], &phases.sin[line]));
            // Where the line's rows stand among those that are asked for.
            let row = LANES * line;
            let (start, end) = (first.max(row), (first + n_rows).min(row + LANES));
            if start >= end {
                continue;
            }
            let here = &mut out[parts * (start - first)..parts * (end - first)];
            if end - start == LANES {
                read_line(reading, re, im, phase, here);
            } else {
                let mut whole = [T::rounded(0.0); 2 * LANES];
                read_line(reading, re, im, phase, &mut whole[..parts * LANES]);
                here.copy_from_slice(&whole[parts * (start - row)..parts * (end - row)]);
            }
        }
    }
}

#[inline(always)]
fn read_line<T: Real>(reading: Reading, re: &Line, im: &Line, (cos, sin): (&Line, &Line), out: &mut [T]) {
    let wide = |line: &Line, l: usize| f64::from(line.0[l]) * reading.scale;
    // Adding 0 turns −0 into 0.
    match reading.mode {
        Mode::Complex => {
            let out: &mut [T; 2 * LANES] = out.try_into().expect("two parts a lane");
            for l in 0..LANES {
                out[2 * l] = T::rounded(wide(re, l) * FRAC_1_SQRT_2 + 0.0);
                out[2 * l + 1] = T::rounded(wide(im, l) * FRAC_1_SQRT_2 + 0.0);
            }
        }
        Mode::Intensity => {
            let out: &mut [T; LANES] = out.try_into().expect("a number a lane");
            for l in 0..LANES {
                let (re, im) = (wide(re, l), wide(im, l));
                out[l] = T::rounded((re * re + im * im) * 0.5);
            }
        }
        Mode::Linear { .. } => {
            let out: &mut [T; LANES] = out.try_into().expect("a number a lane");
            for l in 0..LANES {
                let (cos, sin) = (f64::from(cos.0[l]), f64::from(sin.0[l]));
                out[l] = T::rounded(wide(re, l) * cos + wide(im, l) * sin + 0.0);
            }
        }
    }
}

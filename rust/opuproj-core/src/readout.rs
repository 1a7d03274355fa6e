//! From exact integer fields to what the user reads: the complex field, its intensity, or its linear recovery.
//!
//! A field comes as its real and imaginary parts in turn, √2048 times those of Tx. All arithmetic is float64 on integers
//! that it holds exactly, rounded once to the output's type.

use std::ops::Range;

use crate::anchor;
use crate::kernel::{Kernel, SignedColumns, TILE_BLOCKS};
use crate::memory::{NoMemory, collected, refill, zeros};
use crate::transmission::{BLOCK_COMPONENTS, BLOCK_ROWS, Transmission};
use crate::work::{Stopped, alone};

/// T's entries are integers over this: twice the variance 1024 of a part.
pub(crate) const VARIANCE: f64 = 2048.0;

/// A type that results are rounded to: of floating point, a camera's integers, or those of a field.
pub trait Real: Copy + Send + Sync {
    /// The nearest number of this type.
    fn rounded(exact: f64) -> Self;
}

impl Real for f32 {
    #[inline]
    fn rounded(exact: f64) -> Self {
        exact as f32
    }
}

impl Real for u8 {
    #[inline]
    fn rounded(exact: f64) -> Self {
        exact.round_ties_even() as u8
    }
}

impl Real for u16 {
    #[inline]
    fn rounded(exact: f64) -> Self {
        exact.round_ties_even() as u16
    }
}

impl Real for i32 {
    #[inline]
    fn rounded(exact: f64) -> Self {
        exact.round_ties_even() as i32
    }
}

impl Real for f64 {
    #[inline]
    fn rounded(exact: f64) -> Self {
        exact
    }
}

/// What is read of Tx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Tx itself.
    Complex,
    /// |Tx|².
    Intensity,
    /// Rx, as recovered from intensities with an anchor of so many pixels.
    Linear {
        /// Pixels of the anchor, at least 1 and at most [`anchor::MAX_ANCHOR`].
        n_anchor: u32,
    },
}

impl Mode {
    /// Real numbers in a result.
    #[must_use]
    pub fn parts(self) -> usize {
        match self {
            Self::Complex => 2,
            Self::Intensity | Self::Linear { .. } => 1,
        }
    }

    /// The columns of T that the anchor lights: the last ones there are, far from any data.
    ///
    /// # Errors
    ///
    /// If there is no memory for them.
    pub fn anchor(self) -> Result<Vec<u64>, NoMemory> {
        match self {
            Self::Complex | Self::Intensity => Ok(Vec::new()),
            Self::Linear { n_anchor } => anchor::columns(0, u64::from(n_anchor)),
        }
    }
}

/// The anchor's field r at some rows, and what turns a product with it into R's units.
#[derive(Debug, Default)]
pub struct Reference {
    re: Vec<f64>,
    im: Vec<f64>,
    scale: Vec<f64>,
}

impl Reference {
    /// The reference of an anchor's field.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn set(&mut self, field: &[i32]) -> Result<(), NoMemory> {
        let lit = || field.as_chunks::<2>().0.iter().map(|&r| anchor::lit(r));
        refill(&mut self.re, lit().map(|[re, _]| re))?;
        refill(&mut self.im, lit().map(|[_, im]| im))?;
        // √2 of the law of R, over √2048 of T's units.
        refill(&mut self.scale, lit().map(|[re, im]| 1.0 / (32.0 * (re * re + im * im).sqrt())))
    }
}

/// Reads a field and multiplies it: parts in turn for "complex", one number a row else. `reference` counts for "linear" only.
#[inline]
pub fn read<T: Real, F: Copy + Into<f64>>(mode: Mode, field: &[F], scale: f64, reference: &Reference, out: &mut [T]) {
    match mode {
        Mode::Complex => {
            let scale = scale * (1.0 / VARIANCE.sqrt());
            for (out, &part) in out.iter_mut().zip(field) {
                *out = T::rounded(part.into() * scale);
            }
        }
        Mode::Intensity => {
            for (out, &[re, im]) in out.iter_mut().zip(field.as_chunks::<2>().0) {
                // Scaled before it is squared, so that a large scale cannot make 0 · ∞.
                let (re, im) = (re.into() * scale, im.into() * scale);
                *out = T::rounded((re * re + im * im) * (1.0 / VARIANCE));
            }
        }
        Mode::Linear { .. } => {
            let reference = reference.re.iter().zip(&reference.im).zip(&reference.scale);
            for ((out, &[re, im]), ((r_re, r_im), row_scale)) in
                out.iter_mut().zip(field.as_chunks::<2>().0).zip(reference)
            {
                // Adding 0 turns the −0 of a dark vector into 0.
                *out = T::rounded((re.into() * r_re + im.into() * r_im) * (row_scale * scale) + 0.0);
            }
        }
    }
}

/// The exact entries of what a mode multiplies by, a row each in `outputs`: T for "complex" and "intensity" (two parts
/// an entry), R for "linear". `poll` is called as by [`Projection::run`](crate::projection::Projection::run).
///
/// # Errors
///
/// If `poll` stopped it, or memory is short.
///
/// # Panics
///
/// If the outputs have not the size of the window.
pub fn entries<T: Real>(
    kernel: Kernel,
    t: &Transmission,
    mode: Mode,
    rows: &[u64],
    columns: &[u64],
    outputs: &mut [&mut [T]],
    poll: &mut dyn FnMut(f64) -> bool,
) -> Result<(), Stopped> {
    const TILE_ROWS: usize = TILE_BLOCKS * BLOCK_ROWS;
    let mode = if mode == Mode::Intensity { Mode::Complex } else { mode };
    let parts = mode.parts();
    assert_eq!(outputs.len(), rows.len(), "one output a row");
    assert!(outputs.iter().all(|output| output.len() == columns.len() * parts), "one entry a column");
    let anchor = mode.anchor()?;
    let sign = zeros(anchor.len().max(1))?;
    let field = |index: &[u64], row_block: u64| {
        let mut field = [0; TILE_BLOCKS * BLOCK_COMPONENTS];
        kernel.field(t, SignedColumns { index, sign: &sign[..index.len()] }, row_block, &mut field);
        field
    };
    let mut reference = Reference::default();
    let mut values = [T::rounded(0.0); 2 * TILE_ROWS];
    let values = &mut values[..TILE_ROWS * parts];
    let mut done = 0;
    alone(poll, |lead| {
        while let Some(&first) = rows.get(done) {
            // The field of one column is that column, for all rows of a tile at once.
            let row_block = first / BLOCK_ROWS as u64;
            let in_tile = |row: u64| row.checked_sub(row_block * BLOCK_ROWS as u64).filter(|&at| at < TILE_ROWS as u64);
            let places = collected(rows[done..].iter().map_while(|&row| in_tile(row).map(|at| at as usize)))?;
            reference.set(&field(&anchor, row_block))?;
            for (j, column) in columns.iter().enumerate() {
                read(mode, &field(std::slice::from_ref(column), row_block), 1.0, &reference, values);
                lead.went_through(size_of_val(values) + size_of::<T>() * parts * places.len())?;
                for (output, at) in outputs[done..].iter_mut().zip(&places) {
                    output[j * parts..(j + 1) * parts].copy_from_slice(&values[at * parts..(at + 1) * parts]);
                }
            }
            done += places.len();
        }
        Ok(())
    })
}

/// The parts of a field that belong to some of its rows.
#[must_use]
pub(crate) fn parts_of(field: &[i32], rows: Range<usize>) -> &[i32] {
    &field[2 * rows.start..2 * rows.end]
}

//! The readout of many rows at a time, in loops that compilers vectorise: the results of [`definition::readout`](crate::definition::readout).

#![allow(clippy::inline_always, reason = "callers compile these loops for their instruction set")]

use crate::definition::anchor;
use crate::definition::readout::{self, Mode, Number, VARIANCE};
use crate::definition::transmission::MAX_MAGNITUDE;
use crate::memory::{NoMemory, refill};

/// The anchor's field r at some rows, and the scale of each row.
#[derive(Debug, Default)]
pub(super) struct Reference {
    re: Vec<f64>,
    im: Vec<f64>,
    scale: Vec<f64>,
    /// The field in 16 bits; empty if it might not fit.
    pairs: Vec<[i16; 2]>,
}

/// The most columns whose field fits 16 bits, and its products with another such field 32 bits.
pub(super) const INT16_NONZEROS: usize = 327;
const _: () = assert!(2 * (INT16_NONZEROS as i64 * MAX_MAGNITUDE as i64).pow(2) <= i32::MAX as i64);

/// Rows that are read together.
const ROWS: usize = 32;

impl Reference {
    /// Replaces it by that of the field of an anchor of `n_anchor` pixels.
    pub(super) fn set(&mut self, n_anchor: usize, field: &[i32]) -> Result<(), NoMemory> {
        let pairs = field.as_chunks::<2>().0;
        let rows = || pairs.iter().map(|&r| anchor::nonzero(r));
        let short = if n_anchor <= INT16_NONZEROS { pairs } else { &[] };
        refill(&mut self.pairs, short.iter().map(|&r| anchor::nonzero(r).map(|part| part as i16)))?;
        refill(&mut self.re, rows().map(|[re, _]| re))?;
        refill(&mut self.im, rows().map(|[_, im]| im))?;
        refill(&mut self.scale, rows().map(readout::linear_scale))
    }
}

/// Reads a field and multiplies it by `scale`: two parts a row for "complex", else one number. Only "linear" uses
/// `reference`.
#[inline(always)]
pub(super) fn read<T: Number, F: Copy + Into<f64>>(
    mode: Mode,
    field: &[F],
    scale: f64,
    reference: &Reference,
    out: &mut [T],
) {
    match mode {
        Mode::Complex => {
            for (out, &part) in out.iter_mut().zip(field) {
                *out = T::rounded(readout::complex(part.into(), scale));
            }
        }
        Mode::Real => {
            for (out, &component) in out.iter_mut().zip(field) {
                *out = T::rounded(readout::real(component.into(), scale));
            }
        }
        Mode::Intensity => {
            for (out, &field) in out.iter_mut().zip(field.as_chunks::<2>().0) {
                *out = T::rounded(readout::intensity([field[0].into(), field[1].into()], scale));
            }
        }
        Mode::Linear { .. } => {
            let reference = reference.re.iter().zip(&reference.im).zip(&reference.scale);
            for ((out, &field), ((&r_re, &r_im), &row_scale)) in
                out.iter_mut().zip(field.as_chunks::<2>().0).zip(reference)
            {
                *out = T::rounded(readout::linear([field[0].into(), field[1].into()], [r_re, r_im], row_scale, scale));
            }
        }
    }
}

/// Reads the field of up to [`INT16_NONZEROS`] nonzeros, with the bits of [`read`]. Sums of two products are taken in integers,
/// by one instruction.
#[inline(always)]
pub(super) fn read_short<T: Number>(mode: Mode, field: &[i32], reference: &Reference, out: &mut [T]) {
    let ((fields, field_rest), (outs, out_rest)) = (field.as_chunks::<{ 2 * ROWS }>(), out.as_chunks_mut::<ROWS>());
    match mode {
        Mode::Linear { .. } if !reference.pairs.is_empty() => {
            let (pairs, pairs_rest) = reference.pairs.as_chunks::<ROWS>();
            let (scales, scales_rest) = reference.scale.as_chunks::<ROWS>();
            for (((field, pairs), scales), out) in fields.iter().zip(pairs).zip(scales).zip(outs) {
                read_products(field, pairs, scales, out);
            }
            read_products(field_rest, pairs_rest, scales_rest, out_rest);
        }
        Mode::Intensity => {
            for (field, out) in fields.iter().zip(outs) {
                read_squares(field, out);
            }
            read_squares(field_rest, out_rest);
        }
        Mode::Linear { .. } | Mode::Complex | Mode::Real => read(mode, field, 1.0, reference, out),
    }
}

/// Up to [`ROWS`] rows of "linear". Callers pass arrays, whose loops have no remainder, where they can.
#[inline(always)]
fn read_products<T: Number>(field: &[i32], pairs: &[[i16; 2]], scales: &[f64], out: &mut [T]) {
    let field = shortened(field);
    for (((out, field), r), scale) in out.iter_mut().zip(field.as_chunks::<2>().0).zip(pairs).zip(scales) {
        *out = T::rounded(f64::from(product(field, r)) * scale);
    }
}

/// Up to [`ROWS`] rows of "intensity".
#[inline(always)]
fn read_squares<T: Number>(field: &[i32], out: &mut [T]) {
    let field = shortened(field);
    for (out, field) in out.iter_mut().zip(field.as_chunks::<2>().0) {
        *out = T::rounded(f64::from(product(field, field)) * (1.0 / VARIANCE));
    }
}

#[inline(always)]
fn product(a: &[i16; 2], b: &[i16; 2]) -> i32 {
    i32::from(a[0]) * i32::from(b[0]) + i32::from(a[1]) * i32::from(b[1])
}

#[inline(always)]
fn shortened(field: &[i32]) -> [i16; 2 * ROWS] {
    let mut short = [0; 2 * ROWS];
    for (short, &part) in short.iter_mut().zip(field) {
        *short = part as i16;
    }
    short
}

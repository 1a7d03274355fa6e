//! The readout of many rows at a time, in loops that compilers vectorise: the results of [`definition::readout`](crate::definition::readout).

use crate::definition::anchor;
use crate::definition::readout::{self, Mode, Number};
use crate::memory::{NoMemory, refill};

/// The anchor's field r at some rows, and the scale of each row.
#[derive(Debug, Default)]
pub(super) struct Reference {
    re: Vec<f64>,
    im: Vec<f64>,
    scale: Vec<f64>,
}

impl Reference {
    /// Replaces it by that of an anchor's field.
    pub(super) fn set(&mut self, field: &[i32]) -> Result<(), NoMemory> {
        let rows = || field.as_chunks::<2>().0.iter().map(|&r| anchor::nonzero(r));
        refill(&mut self.re, rows().map(|[re, _]| re))?;
        refill(&mut self.im, rows().map(|[_, im]| im))?;
        refill(&mut self.scale, rows().map(readout::linear_scale))
    }
}

/// Reads a field and multiplies it by `scale`: two parts a row for "complex", else one number. Only "linear" uses
/// `reference`.
#[inline]
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

//! The adjoint for Python.

use numpy::{Complex32, Complex64, Element, IntoPyArray, PyArray1, PyUntypedArrayMethods};
use opuproj_core::adjoint::{Adjoint, Read};
use opuproj_core::encoded;
use opuproj_core::readout::{self, MAX_ANCHOR, Real};
use opuproj_core::transmission::Transmission;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{rows_mut, writable, wrong_type};
use crate::encoded::Encoded;
use crate::projection::{BUFFERS, kernel_of, polled};

/// Projects a batch back into `out`: vectors of the parts of complex numbers in turn, from row block `row_block` on.
#[pyfunction]
#[pyo3(signature = (batch, out, *, seed, read, row_block, threads, isa, on_progress))]
#[allow(clippy::too_many_arguments, reason = "the Python side calls it once, by name")]
pub(crate) fn adjoint(
    py: Python<'_>,
    batch: PyRef<'_, Encoded>,
    out: &Bound<'_, PyAny>,
    seed: u64,
    read: &str,
    row_block: u64,
    threads: usize,
    isa: Option<&str>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<()> {
    let read = match read {
        "complex" => Read::Complex,
        "real" => Read::Real,
        "linear" => Read::Linear,
        _ => return Err(PyValueError::new_err(format!("read must be 'complex', 'real' or 'linear', but is '{read}'"))),
    };
    let adjoint = Adjoint {
        transmission: Transmission::new(seed),
        read,
        row_block,
        n_columns: 0,
        kernel: kernel_of(isa)?,
        threads: threads.max(1),
    };
    let call = Call { adjoint, batch: &batch.0, on_progress };
    match read {
        Read::Complex => call.first_of::<Complex32, f32, Complex64, f64>(py, out),
        Read::Real | Read::Linear => call.first_of::<f32, f32, f64, f64>(py, out),
    }
}

struct Call<'a> {
    adjoint: Adjoint,
    batch: &'a encoded::Encoded,
    on_progress: Option<Py<PyAny>>,
}

impl Call<'_> {
    /// Projects back into an output of elements `A` (parts `RA`) or `B` (parts `RB`).
    fn first_of<A: Element, RA: Real, B: Element, RB: Real>(
        self,
        py: Python<'_>,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let parts = self.adjoint.read.parts();
        if let Some(mut out) = writable::<A>(out)? {
            let n_columns = out.shape()[1];
            self.run::<RA>(py, rows_mut(&mut out, parts)?, n_columns)
        } else if let Some(mut out) = writable::<B>(out)? {
            let n_columns = out.shape()[1];
            self.run::<RB>(py, rows_mut(&mut out, parts)?, n_columns)
        } else {
            Err(wrong_type(if parts == 2 { "complex64 or complex128" } else { "float32 or float64" }))
        }
    }

    fn run<R: Real>(self, py: Python<'_>, mut outputs: Vec<&mut [R]>, n_columns: usize) -> PyResult<()> {
        if outputs.len() != self.batch.scales().len() {
            return Err(PyValueError::new_err("out must have a row for each vector"));
        }
        let adjoint = Adjoint { n_columns, ..self.adjoint };
        let batch = self.batch;
        polled(py, self.on_progress.as_ref(), BUFFERS, |poll| adjoint.run(batch, &mut outputs, poll))
    }
}

/// The phases of the anchor's field at `n_rows` rows, as complex numbers of modulus 1.
#[pyfunction]
#[pyo3(signature = (n_rows, *, seed, row_start, n_anchor, isa))]
pub(crate) fn anchor_phases(
    py: Python<'_>,
    n_rows: usize,
    seed: u64,
    row_start: u64,
    n_anchor: u32,
    isa: Option<&str>,
) -> PyResult<Py<PyArray1<Complex64>>> {
    if !(1..=MAX_ANCHOR).contains(&n_anchor) {
        return Err(PyValueError::new_err(format!("n_anchor must be 1 to {MAX_ANCHOR}, but is {n_anchor}")));
    }
    let kernel = kernel_of(isa)?;
    let phases = py.detach(|| {
        let mut parts = vec![0.0; 2 * n_rows];
        readout::anchor_phases(kernel, &Transmission::new(seed), n_anchor, row_start, &mut parts);
        parts.as_chunks::<2>().0.iter().map(|&[re, im]| Complex64::new(re, im)).collect::<Vec<_>>()
    });
    Ok(phases.into_pyarray(py).unbind())
}

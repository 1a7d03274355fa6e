//! The adjoint for Python.

use numpy::{Complex64, IntoPyArray, PyArray1};
use opuproj_core::adjoint::{Adjoint, Read};
use opuproj_core::anchor::{self, MAX_ANCHOR};
use opuproj_core::encoded;
use opuproj_core::readout::Real;
use opuproj_core::transmission::Transmission;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Results, collected, write_results};
use crate::call::{BUFFERS, kernel_of, polled};
use crate::encoded::Encoded;

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
    write_results(out, read.parts(), Call { py, adjoint, batch: &batch.0, on_progress })
}

struct Call<'a> {
    py: Python<'a>,
    adjoint: Adjoint,
    batch: &'a encoded::Encoded,
    on_progress: Option<Py<PyAny>>,
}

impl Results for Call<'_> {
    fn write<R: Real>(self, mut outputs: Vec<&mut [R]>) -> PyResult<()> {
        if outputs.len() != self.batch.scales().len() {
            return Err(PyValueError::new_err("out must have a row for each vector"));
        }
        let n_columns = outputs.first().map_or(0, |output| output.len() / self.adjoint.read.parts());
        let adjoint = Adjoint { n_columns, ..self.adjoint };
        let batch = self.batch;
        polled(self.py, self.on_progress.as_ref(), BUFFERS, |poll| adjoint.run(batch, &mut outputs, poll))
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
    let phases = polled(py, None, "the phases of the anchor", |poll| {
        anchor::phases(kernel, &Transmission::new(seed), n_anchor, row_start, n_rows, poll)
    })?;
    let phases = collected(phases.iter().map(|&[re, im]| Complex64::new(re, im)))?;
    Ok(phases.into_pyarray(py).unbind())
}

//! The adjoint for Python.

use numpy::{Complex64, IntoPyArray, PyArray1};
use opuproj_core::batch::encoded::Encoded;
use opuproj_core::cpu::Cpu;
use opuproj_core::cpu::Output;
use opuproj_core::definition::anchor::MAX_ANCHOR;
use opuproj_core::definition::transmission::Transmission;
use opuproj_core::request::adjoint::{Adjoint, AdjointMode};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Results, collect, write_results};
use crate::call::{BUFFERS, cpu_of, polled};
use crate::encoded::PyEncoded;

/// Projects a batch back into `out`. Its vectors hold the parts of complex numbers in turn, from row block `row_block` on.
#[pyfunction]
#[pyo3(signature = (batch, out, *, seed, read, row_block, threads, isa, on_progress))]
#[allow(clippy::too_many_arguments, reason = "the Python side calls it once, by name")]
pub(crate) fn adjoint(
    py: Python<'_>,
    batch: PyRef<'_, PyEncoded>,
    out: &Bound<'_, PyAny>,
    seed: u64,
    read: &str,
    row_block: u64,
    threads: usize,
    isa: Option<&str>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<()> {
    let mode = match read {
        "complex" => AdjointMode::Complex,
        "real part" => AdjointMode::RealPart,
        "real" => AdjointMode::Real,
        _ => {
            return Err(PyValueError::new_err(format!(
                "read must be 'complex', 'real part' or 'real', but is '{read}'"
            )));
        }
    };
    let request = Adjoint { transmission: Transmission::new(seed), mode, row_block, n_columns: 0 };
    let cpu = cpu_of(isa, threads)?;
    write_results(out, mode.parts(), AdjointCall { py, cpu, request, batch: &batch.0, on_progress })
}

struct AdjointCall<'a> {
    py: Python<'a>,
    cpu: Cpu,
    request: Adjoint,
    batch: &'a Encoded,
    on_progress: Option<Py<PyAny>>,
}

impl Results for AdjointCall<'_> {
    fn write<R: Output>(self, mut outputs: Vec<&mut [R]>) -> PyResult<()> {
        if outputs.len() != self.batch.scales().len() {
            return Err(PyValueError::new_err("out must have a row for each vector"));
        }
        let n_columns = outputs.first().map_or(0, |output| output.len() / self.request.mode.parts());
        let request = Adjoint { n_columns, ..self.request };
        let (cpu, batch) = (self.cpu, self.batch);
        polled(self.py, self.on_progress.as_ref(), BUFFERS, |poll| {
            cpu.project_back(&request, batch, &mut outputs, poll)
        })
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
    let cpu = cpu_of(isa, 1)?;
    let phases = polled(py, None, "the phases of the anchor", |poll| {
        cpu.anchor_phases(&Transmission::new(seed), n_anchor, row_start, n_rows, poll)
    })?;
    let phases = collect(phases.iter().map(|&[re, im]| Complex64::new(re, im)))?;
    Ok(phases.into_pyarray(py).unbind())
}

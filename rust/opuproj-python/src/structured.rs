//! Projections by the structured matrix for Python.

use numpy::PyReadonlyArray1;
use opuproj_core::batch::floats::Floats;
use opuproj_core::cpu::Cpu;
use opuproj_core::cpu::Output;
use opuproj_core::cpu::structured::{TransformInputs, bytes_per_thread};
use opuproj_core::request::structured::Structured;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Results, collect, no_memory, readonly, write_results, wrong_type};
use crate::call::{BATCH, cpu_of, mode_of, polled};
use crate::packed::PyPacked;

/// A batch of real numbers in float32, each vector divided by a power of two. It is filled piece by piece.
#[pyclass(module = "opuproj._core", name = "Floats")]
pub(crate) struct PyFloats {
    batch: Floats,
    capacity: usize,
}

#[pymethods]
impl PyFloats {
    #[new]
    #[pyo3(signature = (n_rows, n_inputs))]
    fn new(n_rows: usize, n_inputs: usize) -> PyResult<Self> {
        if n_inputs == 0 {
            return Err(PyValueError::new_err("vectors must have at least one input"));
        }
        let batch = Floats::with_capacity(n_rows, n_inputs).ok_or_else(no_memory)?;
        Ok(Self { batch, capacity: n_rows })
    }

    #[getter]
    fn n_rows(&self) -> usize {
        self.batch.n_rows()
    }

    #[getter]
    fn n_inputs(&self) -> usize {
        self.batch.n_inputs()
    }

    /// Adds rows of numbers, with the largest magnitude of each.
    #[pyo3(signature = (x, largest, /))]
    fn push(&mut self, py: Python<'_>, x: &Bound<'_, PyAny>, largest: PyReadonlyArray1<'_, f64>) -> PyResult<()> {
        let largest = collect(largest.as_array().iter().copied())?;
        if !largest.iter().all(|largest| largest.is_finite()) {
            return Err(PyValueError::new_err("the magnitudes must be finite"));
        }
        if largest.len() > self.capacity - self.batch.n_rows() {
            return Err(PyValueError::new_err("the batch has no room for so many rows"));
        }
        macro_rules! try_types {
            ($($type:ty),*) => {$(
                if let Some(x) = readonly::<$type>(x)? {
                    if x.as_array().dim() != (largest.len(), self.batch.n_inputs()) {
                        return Err(PyValueError::new_err("every row must have a magnitude and the length of the batch's vectors"));
                    }
                    let (batch, x) = (&mut self.batch, x.as_slice()?);
                    return polled(py, None, BATCH, |poll| batch.push(x, &largest, poll));
                }
            )*};
        }
        try_types!(f32, f64);
        Err(wrong_type("float32 or float64"))
    }
}

/// Bytes of the workspace of a thread; `None` if they do not fit the address space.
#[pyfunction]
#[pyo3(signature = (n_inputs, /))]
pub(crate) fn structured_bytes(n_inputs: usize) -> Option<usize> {
    bytes_per_thread(n_inputs)
}

/// What is projected.
#[derive(FromPyObject)]
pub(crate) enum TernaryOrReal<'py> {
    Ternary(PyRef<'py, PyPacked>),
    Real(PyRef<'py, PyFloats>),
}

/// Projects a batch into `out` by the structured matrix.
#[pyfunction]
#[pyo3(signature = (batch, out, *, seed, mode, row_start, n_anchor, threads, isa, on_progress))]
#[allow(clippy::too_many_arguments, reason = "the Python side calls it once, by name")]
pub(crate) fn project_structured(
    py: Python<'_>,
    batch: TernaryOrReal<'_>,
    out: &Bound<'_, PyAny>,
    seed: u64,
    mode: &str,
    row_start: u64,
    n_anchor: u32,
    threads: usize,
    isa: Option<&str>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<()> {
    let mode = mode_of(mode, n_anchor)?;
    let rows = row_start..row_start;
    let (cpu, request) = (cpu_of(isa, threads)?, Structured { seed, mode, rows });
    let vectors = match &batch {
        TernaryOrReal::Ternary(batch) => TransformInputs::Ternary(&batch.0),
        TernaryOrReal::Real(batch) => TransformInputs::Real(&batch.batch),
    };
    write_results(out, mode.parts(), StructuredCall { py, cpu, request, vectors, on_progress })
}

struct StructuredCall<'a> {
    py: Python<'a>,
    cpu: Cpu,
    request: Structured,
    vectors: TransformInputs<'a>,
    on_progress: Option<Py<PyAny>>,
}

impl Results for StructuredCall<'_> {
    fn write<R: Output>(self, mut outputs: Vec<&mut [R]>) -> PyResult<()> {
        let Self { py, cpu, mut request, vectors, on_progress } = self;
        let n_rows = outputs.first().map_or(0, |output| output.len() / request.mode.parts()) as u64;
        if outputs.len() != vectors.n_rows() {
            return Err(PyValueError::new_err("out must have a row for each vector"));
        }
        let Some(end) = request.rows.start.checked_add(n_rows).filter(|&end| i64::try_from(end).is_ok()) else {
            return Err(PyValueError::new_err("the rows must end below 2**63"));
        };
        request.rows.end = end;
        polled(py, on_progress.as_ref(), "the transforms", |poll| {
            cpu.project_structured(&request, vectors, &mut outputs, poll)
        })
    }
}

//! Encoded batches for Python.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyArrayMethods, PyReadonlyArray1};
use opuproj_core::Stopped;
use opuproj_core::batch::encoded::{Code, Encoded};
use opuproj_core::batch::ternary::TernaryBatch;
use opuproj_core::cpu::packing;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PySequence;

use crate::arrays::{collect, readonly, with_capacity, wrong_type};
use crate::call::{BATCH, kernel_of, polled};
use crate::packed::{PyPacked, each};
use crate::sparse::indices as sizes;

/// An immutable batch of real numbers as digits -1, 0 and 1.
#[pyclass(frozen, module = "opuproj._core", name = "Encoded")]
pub(crate) struct PyEncoded(pub(crate) Arc<Encoded>);

impl From<Encoded> for PyEncoded {
    fn from(batch: Encoded) -> Self {
        Self(Arc::new(batch))
    }
}

#[pymethods]
impl PyEncoded {
    /// A batch from its digits, the highest first, and the scale of each row.
    #[new]
    #[pyo3(signature = (base, digits, scales, /))]
    fn new(base: u32, digits: &Bound<'_, PySequence>, scales: PyReadonlyArray1<'_, f64>) -> PyResult<Self> {
        let digits = each::<PyPacked, _>(digits, |digit| Arc::clone(&digit.0))?;
        let scales = collect(scales.as_array().iter().copied())?;
        let batch = Encoded::new(base, digits, scales);
        batch.map(Self::from).ok_or_else(|| PyValueError::new_err("digits must be 1 to 20 batches of equal shape (15 for base 2), and scales must have a finite number for each row"))
    }

    #[getter]
    fn n_rows(&self) -> usize {
        self.0.scales().len()
    }

    #[getter]
    fn base(&self) -> u32 {
        self.0.base()
    }

    #[getter]
    fn n_digits(&self) -> usize {
        self.0.digits().len()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.0.digits().iter().map(|digit| digit.n_bytes()).sum()
    }

    fn scales<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        Ok(collect(self.0.scales().iter().copied())?.into_pyarray(py))
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(other) = other.cast::<Self>() else { return Ok(false) };
        let (one, other) = (&*self.0, &*other.get().0);
        if one.base() != other.base() || one.scales() != other.scales() || one.digits().len() != other.digits().len() {
            return Ok(false);
        }
        polled(py, None, BATCH, |poll| {
            for (digit, other) in one.digits().iter().zip(other.digits()) {
                if !digit.equals(other, poll)? {
                    return Ok(false);
                }
            }
            Ok::<bool, Stopped>(true)
        })
    }

    /// One digit of all rows, the highest being 0.
    #[pyo3(signature = (k, /))]
    fn digit(&self, k: usize) -> PyResult<PyPacked> {
        let digit = self.0.digits().get(k);
        digit.cloned().map(PyPacked).ok_or_else(|| PyValueError::new_err("k must be the number of a digit"))
    }

    #[staticmethod]
    #[pyo3(signature = (parts, /))]
    fn concatenate(py: Python<'_>, parts: &Bound<'_, PySequence>) -> PyResult<Self> {
        let parts = each::<Self, _>(parts, |part| Arc::clone(&part.0))?;
        let Some(first) = parts.first() else {
            return Err(PyValueError::new_err("at least one batch is needed"));
        };
        let kind = |part: &Encoded| (part.base(), part.digits().len(), part.digits()[0].n_inputs());
        if parts.iter().any(|part| kind(part) != kind(first)) {
            return Err(PyValueError::new_err("the parts must be encoded alike, of equal numbers of inputs"));
        }
        let mut digits = with_capacity(first.digits().len())?;
        for k in 0..first.digits().len() {
            let of_parts = collect(parts.iter().map(|part| &*part.digits()[k]))?;
            let whole = polled(py, None, BATCH, |poll| TernaryBatch::concatenate(&of_parts, poll))?;
            digits.push(Arc::new(whole));
        }
        let mut scales = with_capacity(digits[0].n_rows())?;
        for part in &parts {
            scales.extend_from_slice(part.scales());
        }
        let whole = Encoded::new(first.base(), digits, scales);
        whole.map(Self::from).ok_or_else(|| PyValueError::new_err("the parts must have at least one digit"))
    }
}

/// Encodes rows of numbers, with the largest magnitude of each in `largest`.
#[pyfunction]
#[pyo3(signature = (x, largest, base, n_digits, isa, /))]
pub(crate) fn encode(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    largest: PyReadonlyArray1<'_, f64>,
    base: u32,
    n_digits: u32,
    isa: Option<&str>,
) -> PyResult<PyEncoded> {
    let (code, kernel) = (code_of(base, n_digits)?, kernel_of(isa)?);
    let largest = collect(largest.as_array().iter().copied())?;
    macro_rules! try_types {
        ($($type:ty),*) => {$(
            if let Some(x) = readonly::<$type>(x)? {
                if x.as_array().nrows() != largest.len() {
                    return Err(PyValueError::new_err("every row must have a magnitude"));
                }
                let (numbers, n_inputs) = (x.as_slice()?, x.as_array().ncols());
                return polled(py, None, BATCH, |poll| {
                    packing::encode(numbers, n_inputs, &largest, code, kernel, poll)
                })
                .map(PyEncoded::from);
            }
        )*};
    }
    try_types!(f32, f64);
    Err(wrong_type("float32 or float64"))
}

/// Encodes compressed sparse rows of finite numbers. The result is that of `encode` for the same numbers and the zeros.
#[pyfunction]
#[pyo3(signature = (indptr, indices, values, n_inputs, base, n_digits, isa, /))]
#[allow(clippy::too_many_arguments, reason = "a sparse matrix and a code")]
pub(crate) fn encode_sparse(
    py: Python<'_>,
    indptr: PyReadonlyArray1<'_, i64>,
    indices: PyReadonlyArray1<'_, i64>,
    values: &Bound<'_, PyAny>,
    n_inputs: usize,
    base: u32,
    n_digits: u32,
    isa: Option<&str>,
) -> PyResult<PyEncoded> {
    let (code, kernel) = (code_of(base, n_digits)?, kernel_of(isa)?);
    macro_rules! try_types {
        ($($type:ty),*) => {$(
            if let Ok(values) = values.cast::<PyArray1<$type>>() {
                let values = values.try_readonly().map_err(|error| PyValueError::new_err(error.to_string()))?;
                let values = values.as_slice()?;
                let (offsets, columns) = (sizes(&indptr)?, sizes(&indices)?);
                if !values.iter().all(|value| value.is_finite()) {
                    return Err(PyValueError::new_err("the numbers must be finite"));
                }
                return polled(py, None, BATCH, |poll| {
                    packing::encode_sparse(n_inputs, &offsets, &columns, values, code, kernel, poll)
                })
                .map(PyEncoded::from);
            }
        )*};
    }
    try_types!(f32, f64);
    Err(PyTypeError::new_err("the values must be one-dimensional, of type float32 or float64"))
}

fn code_of(base: u32, n_digits: u32) -> PyResult<Code> {
    match (base, n_digits) {
        (3, 1..=20) => Ok(Code::BalancedTernary(n_digits)),
        (2, 1..=15) => Ok(Code::SignedBits(n_digits)),
        _ => Err(PyValueError::new_err("base must be 3 with 1 to 20 digits, or 2 with 1 to 15")),
    }
}

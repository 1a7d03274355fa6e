//! Encoded batches for Python.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyArrayMethods, PyReadonlyArray1};
use opuproj_core::encoded::{self, Code};
use opuproj_core::ternary::TernaryBatch;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::arrays::{no_memory, readonly, wrong_type};
use crate::call::kernel_of;
use crate::packed::Packed;
use crate::sparse::SparseRows;

/// An immutable batch of real numbers as digits -1, 0 and 1.
#[pyclass(frozen, eq, module = "opuproj._core")]
#[derive(PartialEq)]
pub(crate) struct Encoded(pub(crate) encoded::Encoded);

#[pymethods]
impl Encoded {
    /// A batch from its digits, the highest first, and the scale of each row.
    #[new]
    #[pyo3(signature = (base, digits, scales, /))]
    fn new(base: u32, digits: Vec<PyRef<'_, Packed>>, scales: PyReadonlyArray1<'_, f64>) -> PyResult<Self> {
        let digits = digits.iter().map(|digit| Arc::clone(&digit.0)).collect();
        let scales = scales.as_array().iter().copied().collect();
        let batch = encoded::Encoded::new(base, digits, scales);
        batch.map(Self).ok_or_else(|| PyValueError::new_err("the digits and scales do not make a batch"))
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

    fn scales<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.0.scales().to_vec().into_pyarray(py)
    }

    /// One digit of all rows, the highest being 0.
    #[pyo3(signature = (k, /))]
    fn digit(&self, k: usize) -> PyResult<Packed> {
        let digit = self.0.digits().get(k);
        digit.cloned().map(Packed).ok_or_else(|| PyValueError::new_err("no such digit"))
    }

    #[staticmethod]
    #[pyo3(signature = (parts, /))]
    fn concatenate(py: Python<'_>, parts: Vec<PyRef<'_, Self>>) -> PyResult<Self> {
        let Some(first) = parts.first() else {
            return Err(PyValueError::new_err("at least one batch is needed"));
        };
        let kind = |part: &Self| (part.0.base(), part.n_digits(), part.0.digits()[0].n_inputs());
        if parts.iter().any(|part| kind(part) != kind(first)) {
            return Err(PyValueError::new_err("the parts must be encoded alike, of equal numbers of inputs"));
        }
        let (n_digits, parts_of) = (first.n_digits(), parts.iter().map(|part| part.0.digits()).collect::<Vec<_>>());
        let digit = |k: usize| {
            TernaryBatch::concatenate(&parts_of.iter().map(|digits| &*digits[k]).collect::<Vec<_>>()).map(Arc::new)
        };
        let digits = py.detach(|| (0..n_digits).map(digit).collect::<Option<Vec<_>>>()).ok_or_else(no_memory)?;
        let scales = parts.iter().flat_map(|part| part.0.scales().iter().copied()).collect();
        encoded::Encoded::new(first.0.base(), digits, scales).map(Self).ok_or_else(no_memory)
    }
}

/// Encodes rows of numbers, with the largest magnitude of each in `largest`.
#[pyfunction]
#[pyo3(signature = (x, largest, base, n_digits, isa, /))]
pub(crate) fn encode(
    x: &Bound<'_, PyAny>,
    largest: PyReadonlyArray1<'_, f64>,
    base: u32,
    n_digits: u32,
    isa: Option<&str>,
) -> PyResult<Encoded> {
    let (code, kernel) = (code_of(base, n_digits)?, kernel_of(isa)?);
    let largest: Vec<f64> = largest.as_array().iter().copied().collect();
    macro_rules! try_types {
        ($($type:ty),*) => {$(
            if let Some(x) = readonly::<$type>(x)? {
                if x.as_array().nrows() != largest.len() {
                    return Err(PyValueError::new_err("a magnitude a row is needed"));
                }
                let batch = encoded::Encoded::encode(x.as_slice()?, x.as_array().ncols(), &largest, code, kernel);
                return batch.map(Encoded).ok_or_else(no_memory);
            }
        )*};
    }
    try_types!(f32, f64);
    Err(wrong_type("float32 or float64"))
}

/// Encodes compressed sparse rows of finite numbers: what `encode` makes of the same numbers and all the zeros.
#[pyfunction]
#[pyo3(signature = (indptr, indices, values, n_inputs, base, n_digits, isa, /))]
#[allow(clippy::too_many_arguments, reason = "those of a matrix and of a code")]
pub(crate) fn encode_sparse(
    py: Python<'_>,
    indptr: PyReadonlyArray1<'_, i64>,
    indices: PyReadonlyArray1<'_, i64>,
    values: &Bound<'_, PyAny>,
    n_inputs: usize,
    base: u32,
    n_digits: u32,
    isa: Option<&str>,
) -> PyResult<Encoded> {
    let (code, kernel) = (code_of(base, n_digits)?, kernel_of(isa)?);
    macro_rules! try_types {
        ($($type:ty),*) => {$(
            if let Ok(values) = values.cast::<PyArray1<$type>>() {
                let values = values.try_readonly().map_err(|error| PyValueError::new_err(error.to_string()))?;
                let values = values.as_slice()?;
                let rows = SparseRows::new(py, &indptr, &indices, values.len(), n_inputs)?;
                if !values.iter().all(|value| value.is_finite()) {
                    return Err(PyValueError::new_err("the numbers must be finite"));
                }
                let encode = || {
                    encoded::Encoded::encode_sparse(n_inputs, &rows.offsets, &rows.columns, values, code, kernel)
                };
                return py.detach(encode).map(Encoded).ok_or_else(no_memory);
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
        _ => Err(PyValueError::new_err("no such code")),
    }
}

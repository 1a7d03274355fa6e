//! NumPy arrays as slices.

use numpy::{
    Complex32, Complex64, Element, PyArray2, PyArrayMethods, PyReadonlyArray2, PyReadwriteArray2, PyUntypedArrayMethods,
};
use opuproj_core::cpu::Output;
use opuproj_core::memory::{self, NoMemory};
use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::call::BATCH;

/// A C-contiguous 2-D array of this type; `None` if the object is not an array of this type.
pub(crate) fn readonly<'py, T: Element>(array: &Bound<'py, PyAny>) -> PyResult<Option<PyReadonlyArray2<'py, T>>> {
    let Ok(array) = array.cast::<PyArray2<T>>() else { return Ok(None) };
    if !array.is_c_contiguous() {
        return Err(PyValueError::new_err("the array must be C-contiguous"));
    }
    Ok(Some(array.try_readonly().map_err(|error| PyValueError::new_err(error.to_string()))?))
}

/// A writable 2-D array of this type; `None` if the object is not an array of this type.
pub(crate) fn writable<'py, T: Element>(array: &Bound<'py, PyAny>) -> PyResult<Option<PyReadwriteArray2<'py, T>>> {
    let Ok(array) = array.cast::<PyArray2<T>>() else { return Ok(None) };
    Ok(Some(array.try_readwrite().map_err(|error| PyValueError::new_err(format!("out cannot be written: {error}")))?))
}

/// The rows of a writable array as slices of `parts` real numbers an element; the last axis must be contiguous.
pub(crate) fn rows_mut<'a, T: Element, R>(
    array: &'a mut PyReadwriteArray2<'_, T>,
    parts: usize,
) -> PyResult<Vec<&'a mut [R]>> {
    assert_eq!(size_of::<T>(), parts * size_of::<R>(), "an element is its parts");
    let (shape, strides) = (array.shape(), array.strides());
    let (n_rows, width) = (shape[0], shape[1]);
    let row_stride = usize::try_from(strides[0]).unwrap_or(0);
    let contiguous = width <= 1 || strides[1] == size_of::<T>() as isize;
    let apart = n_rows <= 1 || row_stride >= width * size_of::<T>();
    if !contiguous || !apart {
        return Err(PyValueError::new_err("the last axis of out must be contiguous, and its rows must not overlap"));
    }
    let start = array.as_array_mut().as_mut_ptr().cast::<u8>();
    if !start.cast::<R>().is_aligned() || !row_stride.is_multiple_of(align_of::<R>()) {
        return Err(PyValueError::new_err("out must be aligned"));
    }
    collect((0..n_rows).map(|row| {
        // SAFETY: a row is `width` contiguous, aligned elements of the array, which is exclusively borrowed for 'a. Rows do
        // not overlap, because their distance is at least their length. A complex number is two real numbers.
        unsafe { std::slice::from_raw_parts_mut(start.add(row * row_stride).cast::<R>(), width * parts) }
    }))
}

/// Computes results in the precision of the output.
pub(crate) trait Results {
    /// Writes the results to rows of real numbers; a complex number is its two parts.
    fn write<R: Output>(self, rows: Vec<&mut [R]>) -> PyResult<()>;
}

/// Writes results of one real number or of two `parts` (complex) to a writable 2-D array of single or double precision.
pub(crate) fn write_results(out: &Bound<'_, PyAny>, parts: usize, results: impl Results) -> PyResult<()> {
    match parts {
        2 => single_or_double::<Complex32, Complex64>(out, 2, "complex64 or complex128", results),
        _ => single_or_double::<f32, f64>(out, 1, "float32 or float64", results),
    }
}

fn single_or_double<A: Element, B: Element>(
    out: &Bound<'_, PyAny>,
    parts: usize,
    expected: &str,
    results: impl Results,
) -> PyResult<()> {
    if let Some(mut out) = writable::<A>(out)? {
        results.write::<f32>(rows_mut(&mut out, parts)?)
    } else if let Some(mut out) = writable::<B>(out)? {
        results.write::<f64>(rows_mut(&mut out, parts)?)
    } else {
        Err(wrong_type(expected))
    }
}

/// An empty vector with room for `n` elements.
pub(crate) fn with_capacity<T>(n: usize) -> PyResult<Vec<T>> {
    memory::with_capacity(n).map_err(|NoMemory| no_memory())
}

/// A vector of all elements.
pub(crate) fn collect<T>(elements: impl IntoIterator<Item = T>) -> PyResult<Vec<T>> {
    memory::collect(elements).map_err(|NoMemory| no_memory())
}

/// The exception for a batch that does not fit the memory.
pub(crate) fn no_memory() -> PyErr {
    PyMemoryError::new_err(format!("no memory for {BATCH}"))
}

/// The exception for an array of another type.
pub(crate) fn wrong_type(expected: &str) -> PyErr {
    PyTypeError::new_err(format!("the array must be two-dimensional, of type {expected}"))
}

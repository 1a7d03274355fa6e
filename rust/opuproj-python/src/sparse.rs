//! The indices of compressed sparse rows.

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;

use crate::arrays::with_capacity;

/// Indices for the core. A negative index becomes the largest one, which lies outside every batch.
pub(crate) fn indices(array: &PyReadonlyArray1<'_, i64>) -> PyResult<Vec<usize>> {
    let mut indices = with_capacity(array.as_array().len())?;
    indices.extend(array.as_array().iter().map(|&index| usize::try_from(index).unwrap_or(usize::MAX)));
    Ok(indices)
}

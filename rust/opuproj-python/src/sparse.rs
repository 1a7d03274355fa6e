//! Compressed sparse rows as the core takes them.

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;

use crate::arrays::with_capacity;

/// Indices as the core takes them; a negative one lies outside everything.
pub(crate) fn indices(array: &PyReadonlyArray1<'_, i64>) -> PyResult<Vec<usize>> {
    let mut indices = with_capacity(array.as_array().len())?;
    indices.extend(array.as_array().iter().map(|&index| usize::try_from(index).unwrap_or(usize::MAX)));
    Ok(indices)
}

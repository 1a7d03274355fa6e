//! Compressed sparse rows as the core takes them.

use numpy::PyReadonlyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::room;

/// The places of nonzeros, each row in the order of its columns, without duplicates.
pub(crate) struct SparseRows {
    pub(crate) offsets: Vec<usize>,
    pub(crate) columns: Vec<usize>,
}

impl SparseRows {
    /// Those of so many values in rows of `n_inputs`, all of which is checked.
    pub(crate) fn new(
        py: Python<'_>,
        indptr: &PyReadonlyArray1<'_, i64>,
        indices: &PyReadonlyArray1<'_, i64>,
        n_values: usize,
        n_inputs: usize,
    ) -> PyResult<Self> {
        let (offsets, columns) = (self::indices(indptr)?, self::indices(indices)?);
        let valid = py.detach(|| {
            let ordered = offsets.first() == Some(&0) && offsets.is_sorted() && offsets.last() == Some(&columns.len());
            let inside = columns.iter().all(|&column| column < n_inputs) && columns.len() == n_values;
            let in_rows = || offsets.windows(2).all(|row| columns[row[0]..row[1]].is_sorted_by(|a, b| a < b));
            ordered && inside && in_rows()
        });
        if !valid {
            return Err(PyValueError::new_err(
                "not compressed sparse rows of that many inputs, each in the order of its columns, without duplicates",
            ));
        }
        Ok(Self { offsets, columns })
    }
}

/// Indices as the core takes them; a negative one lies outside everything.
pub(crate) fn indices(array: &PyReadonlyArray1<'_, i64>) -> PyResult<Vec<usize>> {
    let mut indices = room(array.as_array().len())?;
    indices.extend(array.as_array().iter().map(|&index| usize::try_from(index).unwrap_or(usize::MAX)));
    Ok(indices)
}

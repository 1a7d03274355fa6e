//! Ternary batches from compressed sparse rows.

use super::planes::{PlaneError, TernaryBatch, WORD, WORDS_PER_CHECK};
use crate::progress::{Coordinator, Stopped, on_calling_thread};

impl TernaryBatch {
    /// A batch from compressed sparse rows: the columns and signs of its nonzeros.
    ///
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or there is no memory; or if a column lies outside the batch, the columns of a row are not
    /// in order, or `offsets` do not divide `columns` into rows.
    pub fn from_sparse(
        n_inputs: usize,
        offsets: &[usize],
        columns: &[usize],
        values: &[i8],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<Self, PlaneError> {
        check_offsets(offsets, columns.len(), values.len())?;
        let mut batch = Self::zeros(offsets.len() - 1, n_inputs).map_err(Stopped::from)?;
        on_calling_thread(poll, |coordinator| {
            for (row, bounds) in offsets.windows(2).enumerate() {
                let places = row_columns(columns, bounds, n_inputs, coordinator)?;
                for (&column, &value) in places.iter().zip(&values[bounds[0]..bounds[1]]) {
                    batch.set(row, column, value);
                    // A cache line of each plane.
                    coordinator.count_bytes(128)?;
                }
            }
            Ok(batch)
        })
    }

    /// Sets an element, which must be 0 so far, to the sign of a value.
    pub(crate) fn set(&mut self, row: usize, column: usize, value: i8) {
        assert!(column < self.n_inputs, "columns within the batch");
        let (word, bit) = (row * self.row_words() + column / WORD, 1u64 << (column % WORD));
        assert!((self.positive[word] | self.negative[word]) & bit == 0, "one nonzero a place");
        match value {
            0 => {}
            1.. => self.positive[word] |= bit,
            _ => self.negative[word] |= bit,
        }
    }
}

/// Checks that the offsets of compressed sparse rows divide all columns, and that each column has a value.
pub(crate) fn check_offsets(offsets: &[usize], n_columns: usize, n_values: usize) -> Result<(), PlaneError> {
    let valid = offsets.first() == Some(&0) && offsets.last() == Some(&n_columns) && n_columns == n_values;
    if valid { Ok(()) } else { Err(PlaneError::Sparse) }
}

/// The columns of the row between two offsets. They must be in order and below `n_inputs`.
pub(crate) fn row_columns<'a>(
    columns: &'a [usize],
    bounds: &[usize],
    n_inputs: usize,
    coordinator: &mut Coordinator<'_, '_>,
) -> Result<&'a [usize], PlaneError> {
    let places = columns.get(bounds[0]..bounds[1]).ok_or(PlaneError::Sparse)?;
    let mut least = 0;
    for places in places.chunks(WORDS_PER_CHECK) {
        for &place in places {
            if !(least..n_inputs).contains(&place) {
                return Err(PlaneError::Sparse);
            }
            least = place + 1;
        }
        coordinator.count_bytes(size_of_val(places))?;
    }
    coordinator.count_bytes(size_of_val(bounds))?;
    Ok(places)
}

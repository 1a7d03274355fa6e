//! Ternary batches from compressed sparse rows.

use super::planes::{PlaneError, STRETCH, TernaryBatch, WORD};
use crate::progress::{Coordinator, Stopped, on_calling_thread};

impl TernaryBatch {
    /// A batch from the places and signs of its nonzeros, in compressed sparse rows.
    ///
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// If `poll` stopped it, or there is no memory for it; or a place lies outside the batch, a row's places are not in order,
    /// or `offsets` do not cut `columns`.
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
                    batch.place(row, column, value);
                    // A line of each plane.
                    coordinator.count_bytes(128)?;
                }
            }
            Ok(batch)
        })
    }

    /// Makes an element, which must be 0 yet, the sign of a value.
    pub(crate) fn place(&mut self, row: usize, column: usize, value: i8) {
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

/// Refuses offsets of compressed sparse rows that do not cut so many columns, or another number of values.
pub(crate) fn check_offsets(offsets: &[usize], n_columns: usize, n_values: usize) -> Result<(), PlaneError> {
    let cut = offsets.first() == Some(&0) && offsets.last() == Some(&n_columns) && n_columns == n_values;
    if cut { Ok(()) } else { Err(PlaneError::Sparse) }
}

/// The columns of a row between these bounds, which must be in order and lie in it.
pub(crate) fn row_columns<'a>(
    columns: &'a [usize],
    bounds: &[usize],
    n_inputs: usize,
    coordinator: &mut Coordinator<'_, '_>,
) -> Result<&'a [usize], PlaneError> {
    let places = columns.get(bounds[0]..bounds[1]).ok_or(PlaneError::Sparse)?;
    let mut least = 0;
    for places in places.chunks(STRETCH) {
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

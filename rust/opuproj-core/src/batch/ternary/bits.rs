//! Planes as bytes, for other programs: rows begin on whole bytes.

use super::planes::{PlaneError, TernaryBatch, WORDS_PER_CHECK};
use crate::progress::{Stopped, on_calling_thread};

impl TernaryBatch {
    /// A batch from its planes as bytes. Rows begin on whole bytes; the first element is the highest bit or the lowest.
    ///
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// As for [`from_words`](Self::from_words), or if `poll` returned `false`, or there is no memory.
    pub fn from_bits(
        n_rows: usize,
        n_inputs: usize,
        planes: [&[u8]; 2],
        msb_first: bool,
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<Self, PlaneError> {
        let n_bytes = n_inputs.div_ceil(8);
        if planes.iter().any(|plane| Some(plane.len()) != n_rows.checked_mul(n_bytes)) {
            return Err(PlaneError::Size);
        }
        on_calling_thread(poll, |coordinator| {
            let mut batch = Self::unfilled(n_rows, n_inputs).map_err(Stopped::from)?;
            let width = batch.row_words().max(1);
            for (plane, words) in planes.into_iter().zip([&mut batch.positive, &mut batch.negative]) {
                for (bytes, words) in plane.chunks(n_bytes.max(1)).zip(words.chunks_mut(width)) {
                    for (bytes, words) in bytes.chunks(8 * WORDS_PER_CHECK).zip(words.chunks_mut(WORDS_PER_CHECK)) {
                        for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
                            let mut whole = [0; 8];
                            whole[..bytes.len()].copy_from_slice(bytes);
                            if msb_first {
                                whole = whole.map(u8::reverse_bits);
                            }
                            *word = u64::from_le_bytes(whole);
                        }
                        coordinator.count_bytes(2 * bytes.len())?;
                    }
                }
            }
            Self::from_planes(n_rows, n_inputs, batch.positive, batch.negative, coordinator)
        })
    }

    /// Appends a plane to `bytes`. Rows begin on whole bytes; the first element is the highest bit or the lowest.
    ///
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or there is no memory.
    pub fn add_bits(
        &self,
        negative: bool,
        msb_first: bool,
        bytes: &mut Vec<u8>,
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        let n_bytes = self.n_inputs.div_ceil(8);
        bytes.try_reserve(self.n_rows.saturating_mul(n_bytes)).map_err(|_| Stopped::NoMemory)?;
        on_calling_thread(poll, |coordinator| {
            for row in 0..if n_bytes == 0 { 0 } else { self.n_rows } {
                let words = if negative { self.row(row).1 } else { self.row(row).0 };
                let mut left = n_bytes;
                for words in words.chunks(WORDS_PER_CHECK) {
                    let order = |word: &u64| {
                        // Reversing all bits and then the bytes reverses the bits within each byte.
                        let word = if msb_first { word.reverse_bits().swap_bytes() } else { *word };
                        word.to_le_bytes()
                    };
                    let (whole, last) = words.split_at(words.len().min(left / 8));
                    bytes.extend(whole.iter().flat_map(order));
                    left -= 8 * whole.len();
                    if let Some(word) = last.first() {
                        bytes.extend_from_slice(&order(word)[..left]);
                    }
                    coordinator.count_bytes(2 * size_of_val(words))?;
                }
            }
            Ok(())
        })
    }
}

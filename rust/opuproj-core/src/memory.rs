//! What work may hold in memory at a time, beyond its inputs and outputs.

use std::hint::black_box;

use crate::ternary::WORD;
use crate::vectors::Vectors;

/// Bytes of sums that a tile may have: they live in a second-level cache.
pub(crate) const TILE_SUMS: usize = 512 << 10;

/// Bytes of sums that a stripe may have.
pub(crate) const STRIPE_SUMS: usize = 16 << 20;

/// What work needs beyond its inputs and outputs, at most: its buffers, and those of a few threads.
const MOST_MEMORY: usize = 64 << 20;

/// Memory too little to ask for in advance.
const LITTLE_MEMORY: usize = 1 << 20;

/// Whether buffers can be had for groups of so many vectors, with so many sums each. A buffer that is refused later on,
/// in some thread, would end the process.
pub(crate) fn has_room(vectors: &Vectors<'_>, most_vectors: usize, n_sums: usize) -> bool {
    let n_columns = vectors.row_words().saturating_mul(WORD);
    let n_vectors = vectors.len().min(most_vectors);
    // Of inputs: int8 rows or lists, and what lays them out. Of sums: their own 4 bytes, and what reads them out.
    let inputs = n_columns.saturating_mul(n_vectors + 32);
    let sums = n_sums.saturating_mul(16 * n_vectors);
    let needed = inputs.saturating_add(sums).min(MOST_MEMORY);
    if needed <= LITTLE_MEMORY {
        return true;
    }
    let mut probe = Vec::<u8>::new();
    let found = probe.try_reserve_exact(needed).is_ok();
    // An allocation of which nobody sees the place might be left out.
    black_box(probe.as_ptr());
    found
}

/// The first `length` elements of a buffer that is made long enough; what they hold is left over from before.
pub(crate) fn sized<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
    &mut buffer[..length]
}

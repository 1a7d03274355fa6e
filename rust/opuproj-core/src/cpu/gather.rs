//! The int8 elements of vectors over chosen columns, in the order in which panels are multiplied.

use std::ops::Range;

use super::kernel::PanelShape;
use super::vectors::Vectors;
use crate::batch::ternary::{WORD, expand_word};
use crate::memory::{NoMemory, with_capacity};

/// Bytes of sums that a tile may have: they stay in a second-level cache.
pub(super) const TILE_SUMS: usize = 512 << 10;

/// Sums that a stripe may have, of 64 bits each.
pub(super) const STRIPE_SUMS: usize = 4 << 20;

/// Bytes of int8 inputs in a chunk of rows.
pub(super) const ROWS_CAPACITY: usize = 16 << 20;

/// The most vectors of a group. For this many, generating T once costs a tenth of multiplying it.
pub(super) const MAX_VECTORS: usize = 1024;

/// The parts of `inputs` that belong to each vector, one for each panel.
pub(super) fn parts(
    inputs: &mut [i8],
    n_vectors: usize,
    panel_columns: usize,
) -> Result<Vec<Vec<&mut [i8]>>, NoMemory> {
    let n_panels = inputs.len().div_ceil(n_vectors * panel_columns);
    let mut parts: Vec<Vec<&mut [i8]>> = with_capacity(n_vectors)?;
    for _ in 0..n_vectors {
        parts.push(with_capacity(n_panels)?);
    }
    for panel in inputs.chunks_mut(n_vectors * panel_columns) {
        let columns = panel.len() / n_vectors;
        for (parts, part) in parts.iter_mut().zip(panel.chunks_exact_mut(columns)) {
            parts.push(part);
        }
    }
    Ok(parts)
}

/// The initial value of a vector's sums. It takes off the kernel's bias in advance, modulo 2³².
pub(super) fn start(shape: &PanelShape, elements: &[i8]) -> i32 {
    let sum: i64 = elements.iter().map(|&element| i64::from(element)).sum();
    (-i64::from(shape.bias) * sum) as i32
}

/// Writes the elements of one vector over the columns of `union` to the beginning of `out`, as int8.
pub(super) fn gather(batch: &Vectors<'_>, vector: usize, words: Range<usize>, union: &[u64], out: &mut [i8]) {
    for (term, (planes, weight)) in batch.terms(vector).enumerate() {
        gather_term(planes, words.clone(), union, |at, elements| {
            // The weight of the first term is 1.
            if term == 0 {
                out[at..at + elements.len()].copy_from_slice(elements);
            } else {
                for (out, element) in out[at..].iter_mut().zip(elements) {
                    *out += weight * element;
                }
            }
        });
    }
}

/// Passes the elements of one ternary vector over the columns of `union` to `put`, with the position of the first.
fn gather_term(
    (positive, negative): (&[u64], &[u64]),
    words: Range<usize>,
    union: &[u64],
    mut put: impl FnMut(usize, &[i8]),
) {
    let mut at = 0;
    for (word, &used) in words.zip(union) {
        let mut elements = [0; WORD];
        let mut n = 0;
        if used == u64::MAX {
            expand_word(positive[word], negative[word], &mut elements);
            n = WORD;
        } else {
            let mut left = used;
            while left != 0 {
                let bit = left.trailing_zeros();
                elements[n] = ((positive[word] >> bit) & 1) as i8 - ((negative[word] >> bit) & 1) as i8;
                n += 1;
                left &= left - 1;
            }
        }
        put(at, &elements[..n]);
        at += n;
    }
}

//! The inputs of a group of vectors, in one of two forms that kernels multiply: lists of signed columns, or int8 rows over
//! the columns that any of the vectors uses.
//!
//! Both are laid out in chunks of bounded memory. A chunk covers a range of words of the planes, for all vectors of the group.
//! It has so few columns that its sums fit int32.

use std::ops::Range;

use crate::batch::ternary::WORD;
use crate::cpu::gather::ROWS_CAPACITY;
use crate::cpu::kernel::{Kernel, SignedColumns};
use crate::cpu::vectors::Vectors;
use crate::definition::transmission::INT32_NONZEROS;
use crate::memory::{push, with_capacity};
use crate::progress::{Coordinator, Stopped};

/// Nonzeros in a chunk of lists: 9 bytes each.
pub(super) const LIST_CAPACITY: usize = 1 << 20;

/// Columns of a chunk of rows: 8 bytes each.
const MAX_ROWS_COLUMNS: usize = 1 << 20;

/// The most words of a chunk, whose union is kept in memory.
const MAX_WORDS: usize = 1 << 20;

/// How the inputs of a group are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The nonzeros of each vector by themselves: T is generated at these alone.
    Lists,
    /// All vectors over the union of their nonzero columns: each entry of T is generated once for all vectors.
    Rows,
}

/// Consecutive vectors of a batch that are multiplied together.
#[derive(Clone, Debug)]
pub(super) struct VectorGroup {
    pub(super) vectors: Range<usize>,
    pub(super) form: Form,
    /// Columns that are generated for each row: those of all lists, or those of the union.
    pub(super) columns: u64,
}

impl VectorGroup {
    /// The outputs that its vectors make.
    pub(super) fn outputs(&self, batch: &Vectors<'_>) -> Range<usize> {
        self.vectors.start / batch.per_output()..self.vectors.end / batch.per_output()
    }
}

/// The inputs of a group over part of the columns.
#[derive(Debug)]
pub(super) enum Operand {
    Lists {
        index: Vec<u64>,
        sign: Vec<u8>,
        ends: Vec<usize>,
    },
    /// Ordered by panel, then by vector, so that the inputs of a panel are contiguous.
    Rows {
        columns: Vec<u64>,
        inputs: Vec<i8>,
        /// The largest magnitude that an input may have.
        largest: u8,
        /// The initial value of each vector's sums, which takes off the kernel's bias in advance.
        starts: Vec<i32>,
    },
}

impl Operand {
    /// The signed columns of the group's vector `v`.
    pub(super) fn list<'a>(index: &'a [u64], sign: &'a [u8], ends: &[usize], v: usize) -> SignedColumns<'a> {
        let range = if v == 0 { 0 } else { ends[v - 1] }..ends[v];
        SignedColumns { index: &index[range.clone()], sign: &sign[range] }
    }
}

/// Divides a batch into groups of at most `max_vectors` vectors and chooses the cheaper form for each.
pub(super) fn groups(
    batch: &Vectors<'_>,
    kernel: Kernel,
    max_vectors: usize,
    coordinator: &mut Coordinator<'_, '_>,
) -> Result<Vec<VectorGroup>, Stopped> {
    let mut groups = Vec::new();
    // The vectors of one output stay together.
    let most = max_vectors.next_multiple_of(batch.per_output());
    for start in (0..batch.len()).step_by(most) {
        let vectors = start..batch.len().min(start + most);
        let mut union = |vectors: &Range<usize>| -> Result<u64, Stopped> {
            let mut columns = 0;
            for_each_union(batch, vectors, 0..batch.row_words(), coordinator, |used| {
                columns += u64::from(used.count_ones());
            })?;
            Ok(columns)
        };
        // An entry of a panel is written, read back and multiplied; one of a list is generated and summed in registers.
        let rows_cost = |columns: u64, n_vectors: usize| columns as f64 * kernel.panel_shape().entry_cost(n_vectors);
        if batch.is_fused() {
            // Lists hold only signs, so the alternative to one group is a group for each output.
            let step = batch.per_output();
            let mut alone: Vec<(Range<usize>, u64)> = with_capacity(vectors.len() / step)?;
            for first in vectors.clone().step_by(step) {
                push(&mut alone, (first..first + step, union(&(first..first + step))?))?;
            }
            let together = union(&vectors)?;
            let alone_cost: f64 = alone.iter().map(|(_, columns)| rows_cost(*columns, step)).sum();
            if rows_cost(together, vectors.len()) < alone_cost {
                push(&mut groups, VectorGroup { vectors, form: Form::Rows, columns: together })?;
            } else {
                for (vectors, columns) in alone {
                    push(&mut groups, VectorGroup { vectors, form: Form::Rows, columns })?;
                }
            }
            continue;
        }
        let columns = if vectors.len() > 1 { union(&vectors)? } else { u64::MAX };
        let mut nonzeros: Vec<u64> = with_capacity(vectors.len())?;
        for vector in vectors.clone() {
            nonzeros.push(batch.nonzeros(vector));
            coordinator.count_bytes(batch.row_bytes())?;
        }
        if vectors.len() > 1 && rows_cost(columns, vectors.len()) < nonzeros.iter().sum::<u64>() as f64 {
            push(&mut groups, VectorGroup { vectors, form: Form::Rows, columns })?;
            continue;
        }
        // As many vectors as fit one chunk; a single vector may need several.
        let mut first = start;
        let mut columns = 0;
        for (row, &count) in vectors.clone().zip(&nonzeros) {
            if row > first && row.is_multiple_of(batch.per_output()) && columns + count > LIST_CAPACITY as u64 {
                push(&mut groups, VectorGroup { vectors: first..row, form: Form::Lists, columns })?;
                (first, columns) = (row, 0);
            }
            columns += count;
        }
        push(&mut groups, VectorGroup { vectors: first..vectors.end, form: Form::Lists, columns })?;
    }
    Ok(groups)
}

/// The range of words from `start` on whose columns fit one chunk.
pub(super) fn chunk_words(
    batch: &Vectors<'_>,
    group: &VectorGroup,
    start: usize,
    coordinator: &mut Coordinator<'_, '_>,
) -> Result<Range<usize>, Stopped> {
    let capacity = match group.form {
        Form::Lists => LIST_CAPACITY,
        Form::Rows => {
            let fitting = INT32_NONZEROS as usize / usize::from(batch.largest());
            (ROWS_CAPACITY / group.vectors.len()).min(MAX_ROWS_COLUMNS).min(fitting)
        }
    };
    let mut columns = 0;
    let mut end = start;
    while end < batch.row_words().min(start + MAX_WORDS) {
        columns += match group.form {
            Form::Lists => group.vectors.clone().map(|row| batch.used(row, end).count_ones() as usize).sum(),
            Form::Rows => union_of(batch, &group.vectors, end).count_ones() as usize,
        };
        if columns > capacity && end > start {
            break;
        }
        end += 1;
        coordinator.count_bytes(word_bytes(batch, &group.vectors))?;
    }
    Ok(start..end)
}

/// The lists of a group over some words.
pub(super) fn lists(
    batch: &Vectors<'_>,
    group: &VectorGroup,
    words: Range<usize>,
    coordinator: &mut Coordinator<'_, '_>,
) -> Result<Operand, Stopped> {
    let n_columns = if words.len() == batch.row_words() { group.columns as usize } else { 0 };
    let (mut index, mut sign, mut ends) =
        (with_capacity(n_columns)?, with_capacity(n_columns)?, with_capacity(group.vectors.len())?);
    for vector in group.vectors.clone() {
        let ((positive, negative), _) = batch.terms(vector).next().expect("a vector has a term");
        for word in words.clone() {
            let mut left = positive[word] | negative[word];
            while left != 0 {
                let bit = left.trailing_zeros();
                push(&mut index, batch.column(word * WORD + bit as usize))?;
                push(&mut sign, ((negative[word] >> bit) as u8 & 1) << 7)?;
                left &= left - 1;
            }
        }
        ends.push(index.len());
        coordinator.count_bytes(batch.row_bytes())?;
    }
    Ok(Operand::Lists { index, sign, ends })
}

/// The columns that a group uses in some words: as a bit set for each word, and as a list. The list is padded to a multiple
/// of `multiple` with column 0; the inputs there are 0.
pub(super) fn union(
    batch: &Vectors<'_>,
    group: &VectorGroup,
    words: Range<usize>,
    multiple: usize,
    coordinator: &mut Coordinator<'_, '_>,
) -> Result<(Vec<u64>, Vec<u64>), Stopped> {
    let mut union: Vec<u64> = with_capacity(words.len())?;
    for_each_union(batch, &group.vectors, words.clone(), coordinator, |used| union.push(used))?;
    let n_columns = union.iter().map(|word| word.count_ones() as usize).sum::<usize>().next_multiple_of(multiple);
    let mut columns = with_capacity(n_columns)?;
    for (word, &used) in words.zip(&union) {
        let mut left = used;
        while left != 0 {
            columns.push(batch.column(word * WORD + left.trailing_zeros() as usize));
            left &= left - 1;
        }
    }
    columns.resize(n_columns, 0);
    Ok((union, columns))
}

/// Calls `each` with the union of some vectors in each of some words.
fn for_each_union(
    batch: &Vectors<'_>,
    vectors: &Range<usize>,
    words: Range<usize>,
    coordinator: &mut Coordinator<'_, '_>,
    mut each: impl FnMut(u64),
) -> Result<(), Stopped> {
    words.into_iter().try_for_each(|word| {
        each(union_of(batch, vectors, word));
        coordinator.count_bytes(word_bytes(batch, vectors))
    })
}

/// Bytes that are read for one word of some vectors.
fn word_bytes(batch: &Vectors<'_>, vectors: &Range<usize>) -> usize {
    vectors.len() * (batch.row_bytes() / batch.row_words().max(1))
}

fn union_of(batch: &Vectors<'_>, vectors: &Range<usize>, word: usize) -> u64 {
    vectors.clone().fold(0, |union, vector| union | batch.used(vector, word))
}

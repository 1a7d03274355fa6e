//! The inputs of a group of vectors in the two forms that kernels multiply: lists of signed columns, or int8 rows over the
//! columns that any of the vectors uses.
//!
//! Both come in chunks of bounded memory: a chunk covers a range of the planes' words, for all vectors of the group.

use std::ops::Range;

use crate::kernel::{Kernel, SignedColumns};
use crate::memory::{NoMemory, push, room};
use crate::ternary::{WORD, expand_word};
use crate::vectors::Vectors;
use crate::work::{Lead, Stopped};

/// Nonzeros in a chunk of lists: 9 bytes each.
pub(crate) const LIST_CAPACITY: usize = 1 << 20;

/// Bytes of int8 inputs in a chunk of rows.
pub(crate) const ROWS_CAPACITY: usize = 16 << 20;

/// Columns of a chunk of rows: 8 bytes each.
const MOST_COLUMNS: usize = 1 << 20;

/// The most vectors of a group: generating T once for so many costs a tenth of multiplying it.
pub(crate) const MOST_VECTORS: usize = 1024;

/// Words that a chunk may span: their union is kept meanwhile.
const SPAN: usize = 1 << 20;

/// How the inputs of a group are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Each vector's own nonzeros: what is generated follows them.
    Lists,
    /// All vectors over the union of their nonzero columns: each entry of T is generated once for all of them.
    Rows,
}

/// Consecutive vectors of a batch that are multiplied together.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) vectors: Range<usize>,
    pub(crate) form: Form,
    /// Columns that are generated for each row: of all lists, or of the union.
    pub(crate) columns: u64,
}

impl Group {
    /// The outputs that its vectors make.
    pub(crate) fn outputs(&self, batch: &Vectors<'_>) -> Range<usize> {
        self.vectors.start / batch.an_output()..self.vectors.end / batch.an_output()
    }
}

/// The inputs of a group over part of the columns.
#[derive(Debug)]
pub(crate) enum Chunk {
    Lists {
        index: Vec<u64>,
        sign: Vec<u8>,
        ends: Vec<usize>,
    },
    /// Panel by panel of the columns, vector by vector, so that a panel's inputs lie side by side.
    Rows {
        columns: Vec<u64>,
        inputs: Vec<i8>,
        /// No input is larger.
        largest: u8,
    },
}

impl Chunk {
    /// The signed columns of the group's vector `v`, in a chunk of lists.
    pub(crate) fn list<'a>(index: &'a [u64], sign: &'a [u8], ends: &[usize], v: usize) -> SignedColumns<'a> {
        let range = if v == 0 { 0 } else { ends[v - 1] }..ends[v];
        SignedColumns { index: &index[range.clone()], sign: &sign[range] }
    }
}

/// Splits a batch into groups of at most `most` vectors and chooses the cheaper form for each.
pub(crate) fn groups(
    batch: &Vectors<'_>,
    kernel: Kernel,
    most: usize,
    lead: &mut Lead<'_, '_>,
) -> Result<Vec<Group>, Stopped> {
    let mut groups = Vec::new();
    // The vectors of one output stay together.
    let most = most.next_multiple_of(batch.an_output());
    for start in (0..batch.len()).step_by(most) {
        let vectors = start..batch.len().min(start + most);
        let mut union = |vectors: &Range<usize>| -> Result<u64, Stopped> {
            let mut columns = 0;
            for_each_union(batch, vectors, 0..batch.row_words(), lead, |used| columns += u64::from(used.count_ones()))?;
            Ok(columns)
        };
        // A panel's entry is written, read back and multiplied; a list's is generated and summed in registers.
        let rows_cost = |columns: u64, n_vectors: usize| columns as f64 * kernel.shape().entry_cost(n_vectors);
        if batch.is_fused() {
            // Lists are of signs only: instead of them, each output has a group of its own.
            let step = batch.an_output();
            let mut alone: Vec<(Range<usize>, u64)> = room(vectors.len() / step)?;
            for first in vectors.clone().step_by(step) {
                push(&mut alone, (first..first + step, union(&(first..first + step))?))?;
            }
            let together = union(&vectors)?;
            let alone_cost: f64 = alone.iter().map(|(_, columns)| rows_cost(*columns, step)).sum();
            if rows_cost(together, vectors.len()) < alone_cost {
                push(&mut groups, Group { vectors, form: Form::Rows, columns: together })?;
            } else {
                for (vectors, columns) in alone {
                    push(&mut groups, Group { vectors, form: Form::Rows, columns })?;
                }
            }
            continue;
        }
        let columns = if vectors.len() > 1 { union(&vectors)? } else { u64::MAX };
        let mut nonzeros: Vec<u64> = room(vectors.len())?;
        for vector in vectors.clone() {
            nonzeros.push(batch.nonzeros(vector));
            lead.went_through(batch.row_bytes())?;
        }
        if vectors.len() > 1 && rows_cost(columns, vectors.len()) < nonzeros.iter().sum::<u64>() as f64 {
            push(&mut groups, Group { vectors, form: Form::Rows, columns })?;
            continue;
        }
        // As many vectors as fit one chunk together; one alone may take several.
        let mut first = start;
        let mut columns = 0;
        for (row, &count) in vectors.clone().zip(&nonzeros) {
            if row > first && row.is_multiple_of(batch.an_output()) && columns + count > LIST_CAPACITY as u64 {
                push(&mut groups, Group { vectors: first..row, form: Form::Lists, columns })?;
                (first, columns) = (row, 0);
            }
            columns += count;
        }
        push(&mut groups, Group { vectors: first..vectors.end, form: Form::Lists, columns })?;
    }
    Ok(groups)
}

/// The range of words after `start` whose columns fit one chunk.
pub(crate) fn span(
    batch: &Vectors<'_>,
    group: &Group,
    start: usize,
    lead: &mut Lead<'_, '_>,
) -> Result<Range<usize>, Stopped> {
    let capacity = match group.form {
        Form::Lists => LIST_CAPACITY,
        Form::Rows => (ROWS_CAPACITY / group.vectors.len()).min(MOST_COLUMNS),
    };
    let mut columns = 0;
    let mut end = start;
    while end < batch.row_words().min(start + SPAN) {
        columns += match group.form {
            Form::Lists => group.vectors.clone().map(|row| batch.used(row, end).count_ones() as usize).sum(),
            Form::Rows => union_of(batch, &group.vectors, end).count_ones() as usize,
        };
        if columns > capacity && end > start {
            break;
        }
        end += 1;
        lead.went_through(word_bytes(batch, &group.vectors))?;
    }
    Ok(start..end)
}

/// The lists of a group over a span of words.
pub(crate) fn lists(
    batch: &Vectors<'_>,
    group: &Group,
    words: Range<usize>,
    lead: &mut Lead<'_, '_>,
) -> Result<Chunk, Stopped> {
    let n_columns = if words.len() == batch.row_words() { group.columns as usize } else { 0 };
    let (mut index, mut sign, mut ends) = (room(n_columns)?, room(n_columns)?, room(group.vectors.len())?);
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
        lead.went_through(batch.row_bytes())?;
    }
    Ok(Chunk::Lists { index, sign, ends })
}

/// The words that hold the columns a group uses in a span of words, and these columns, with some more if they are no
/// multiple of `multiple`: inputs there stay 0, so the entries of any column will do.
pub(crate) fn union(
    batch: &Vectors<'_>,
    group: &Group,
    words: Range<usize>,
    multiple: usize,
    lead: &mut Lead<'_, '_>,
) -> Result<(Vec<u64>, Vec<u64>), Stopped> {
    let mut union: Vec<u64> = room(words.len())?;
    for_each_union(batch, &group.vectors, words.clone(), lead, |used| union.push(used))?;
    let n_columns = union.iter().map(|word| word.count_ones() as usize).sum::<usize>().next_multiple_of(multiple);
    let mut columns = room(n_columns)?;
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

/// Each vector's parts of the inputs, panel by panel.
pub(crate) fn parts(
    inputs: &mut [i8],
    n_vectors: usize,
    panel_columns: usize,
) -> Result<Vec<Vec<&mut [i8]>>, NoMemory> {
    let n_panels = inputs.len().div_ceil(n_vectors * panel_columns);
    let mut parts: Vec<Vec<&mut [i8]>> = room(n_vectors)?;
    for _ in 0..n_vectors {
        parts.push(room(n_panels)?);
    }
    for panel in inputs.chunks_mut(n_vectors * panel_columns) {
        let columns = panel.len() / n_vectors;
        for (parts, part) in parts.iter_mut().zip(panel.chunks_exact_mut(columns)) {
            parts.push(part);
        }
    }
    Ok(parts)
}

/// One vector's inputs over the columns of `union`, as int8; what is left of `out` stays as it is.
pub(crate) fn gather(batch: &Vectors<'_>, vector: usize, words: Range<usize>, union: &[u64], out: &mut [i8]) {
    for (term, (planes, weight)) in batch.terms(vector).enumerate() {
        gather_term(planes, words.clone(), union, |at, elements| {
            // The first term's weight is 1.
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

/// One ternary vector over the columns of `union`, some elements at a time with the place of their first.
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

/// Goes through the unions of vectors in some words.
fn for_each_union(
    batch: &Vectors<'_>,
    vectors: &Range<usize>,
    words: Range<usize>,
    lead: &mut Lead<'_, '_>,
    mut each: impl FnMut(u64),
) -> Result<(), Stopped> {
    words.into_iter().try_for_each(|word| {
        each(union_of(batch, vectors, word));
        lead.went_through(word_bytes(batch, vectors))
    })
}

/// Bytes that are read to look at one word of some vectors.
fn word_bytes(batch: &Vectors<'_>, vectors: &Range<usize>) -> usize {
    vectors.len() * (batch.row_bytes() / batch.row_words().max(1))
}

fn union_of(batch: &Vectors<'_>, vectors: &Range<usize>, word: usize) -> u64 {
    vectors.clone().fold(0, |union, vector| union | batch.used(vector, word))
}

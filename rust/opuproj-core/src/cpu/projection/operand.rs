//! The inputs of a group of vectors, in one of three forms that kernels multiply: lists of signed columns, int8 rows over the
//! columns that any of the vectors uses, or positions among these columns.
//!
//! All are laid out in chunks of bounded memory. A chunk covers a range of words of the planes, for all vectors of the group.
//! It has so few columns that its sums fit int32.

use std::ops::Range;

use super::positions::PanelPositions;
use crate::batch::ternary::WORD;
use crate::cpu::gather::ROWS_CAPACITY;
use crate::cpu::kernel::{Kernel, SignedColumns};
use crate::cpu::vectors::Vectors;
use crate::definition::transmission::INT32_NONZEROS;
use crate::memory::{NoMemory, push, with_capacity};
use crate::progress::{Coordinator, Stopped};

/// Nonzeros in a chunk of lists: 9 bytes each.
pub(super) const LIST_CAPACITY: usize = 1 << 20;

/// Columns of a chunk of rows or positions: 8 bytes each.
const MAX_COLUMNS: usize = 1 << 20;

/// Nonzeros in a chunk of positions: 2 bytes each.
const POSITIONS_CAPACITY: usize = 8 << 20;

/// The most words of a chunk, whose union is kept in memory.
const MAX_WORDS: usize = 1 << 20;

/// The words whose union is taken at a time: it stays in a first-level cache.
const UNION_WORDS: usize = 1 << 11;

/// How the inputs of a group are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The nonzeros of each vector by themselves: T is generated at these alone.
    Lists,
    /// All vectors over the union of their nonzero columns: each entry of T is generated once for all vectors.
    Rows,
    /// The same, but each vector adds up only the entries at its own nonzeros.
    Positions,
}

impl Form {
    /// The time of one component of a group, over that of generating one entry of a list. The group uses `columns` columns,
    /// and its vectors have so many nonzeros together.
    pub(super) fn cost(self, kernel: Kernel, n_vectors: usize, columns: u64, nonzeros: u64) -> f64 {
        match self {
            Self::Lists => nonzeros as f64,
            Self::Rows => columns as f64 * kernel.panel_shape().entry_cost(n_vectors),
            Self::Positions => kernel.column_shape().cost(columns, n_vectors, nonzeros),
        }
    }
}

/// Consecutive vectors of a batch that are multiplied together.
#[derive(Clone, Debug)]
pub(super) struct VectorGroup {
    pub(super) vectors: Range<usize>,
    pub(super) form: Form,
    /// Columns that any of the vectors uses; not counted for lists.
    pub(super) columns: u64,
    /// The nonzeros of all vectors together; not counted for sums of digits.
    pub(super) nonzeros: u64,
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
    Positions {
        columns: Vec<u64>,
        /// Those of each vector.
        vectors: Vec<PanelPositions>,
    },
}

impl Operand {
    /// The signed columns of the group's vector `v`.
    pub(super) fn list<'a>(index: &'a [u64], sign: &'a [u8], ends: &[usize], v: usize) -> SignedColumns<'a> {
        let range = if v == 0 { 0 } else { ends[v - 1] }..ends[v];
        SignedColumns { index: &index[range.clone()], sign: &sign[range] }
    }
}

/// Divides a batch into groups of at most `max_vectors` vectors and chooses the cheapest form for each.
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
        if batch.is_fused() {
            push_fused(batch, kernel, vectors, &mut groups, coordinator)?;
            continue;
        }
        let mut nonzeros: Vec<u64> = with_capacity(vectors.len())?;
        for vector in vectors.clone() {
            nonzeros.push(batch.nonzeros(vector, 0..batch.row_words()));
            coordinator.count_bytes(batch.row_bytes())?;
        }
        if vectors.len() > 1 {
            let (columns, nonzeros) = (used_columns(batch, &vectors, coordinator)?, nonzeros.iter().sum());
            let cost = |form: &Form| form.cost(kernel, vectors.len(), columns, nonzeros);
            let forms = [Form::Lists, Form::Rows, Form::Positions];
            let form = forms.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("three forms");
            if form != Form::Lists {
                push(&mut groups, VectorGroup { vectors, form, columns, nonzeros })?;
                continue;
            }
        }
        push_lists(vectors, &nonzeros, batch.per_output(), &mut groups)?;
    }
    Ok(groups)
}

/// The number of columns that any of some vectors uses.
fn used_columns(
    batch: &Vectors<'_>,
    vectors: &Range<usize>,
    coordinator: &mut Coordinator<'_, '_>,
) -> Result<u64, Stopped> {
    let mut columns = 0;
    for_each_union(batch, vectors, 0..batch.row_words(), coordinator, |used| columns += u64::from(used.count_ones()))?;
    Ok(columns)
}

/// Adds sums of digits as one group, or as one for each output. Lists and positions hold only signs, so all are rows.
fn push_fused(
    batch: &Vectors<'_>,
    kernel: Kernel,
    vectors: Range<usize>,
    groups: &mut Vec<VectorGroup>,
    coordinator: &mut Coordinator<'_, '_>,
) -> Result<(), Stopped> {
    let group = |vectors, columns| VectorGroup { vectors, form: Form::Rows, columns, nonzeros: 0 };
    let cost = |group: &VectorGroup| group.form.cost(kernel, group.vectors.len(), group.columns, 0);
    let step = batch.per_output();
    let mut alone: Vec<VectorGroup> = with_capacity(vectors.len() / step)?;
    for first in vectors.clone().step_by(step) {
        let one = first..first + step;
        let columns = used_columns(batch, &one, coordinator)?;
        alone.push(group(one, columns));
    }
    let columns = used_columns(batch, &vectors, coordinator)?;
    let together = group(vectors, columns);
    if cost(&together) < alone.iter().map(cost).sum() {
        alone.clear();
        alone.push(together);
    }
    alone.into_iter().try_for_each(|group| Ok(push(groups, group)?))
}

/// Adds vectors as lists, as many together as fit one chunk; a single vector may need several chunks.
fn push_lists(
    vectors: Range<usize>,
    nonzeros: &[u64],
    per_output: usize,
    groups: &mut Vec<VectorGroup>,
) -> Result<(), NoMemory> {
    let group = |vectors, nonzeros| VectorGroup { vectors, form: Form::Lists, columns: 0, nonzeros };
    let (mut first, mut together) = (vectors.start, 0);
    for (vector, &count) in vectors.clone().zip(nonzeros) {
        if vector > first && vector.is_multiple_of(per_output) && together + count > LIST_CAPACITY as u64 {
            push(groups, group(first..vector, together))?;
            (first, together) = (vector, 0);
        }
        together += count;
    }
    push(groups, group(first..vectors.end, together))
}

/// The range of words from `start` on whose columns and nonzeros fit one chunk.
pub(super) fn chunk_words(
    batch: &Vectors<'_>,
    group: &VectorGroup,
    start: usize,
    coordinator: &mut Coordinator<'_, '_>,
) -> Result<Range<usize>, Stopped> {
    let n_vectors = group.vectors.len();
    let int32_columns = INT32_NONZEROS as usize / usize::from(batch.largest());
    let (most_columns, most_nonzeros) = match group.form {
        Form::Lists => (usize::MAX, LIST_CAPACITY),
        Form::Rows => ((ROWS_CAPACITY / n_vectors).min(MAX_COLUMNS).min(int32_columns), usize::MAX),
        Form::Positions => (MAX_COLUMNS, POSITIONS_CAPACITY),
    };
    let fit = group.columns <= most_columns as u64 && group.nonzeros <= most_nonzeros as u64;
    if start == 0 && fit && batch.row_words() <= MAX_WORDS {
        return Ok(0..batch.row_words());
    }
    let (mut columns, mut nonzeros) = (0, 0);
    let mut end = start;
    while end < batch.row_words().min(start + MAX_WORDS) {
        let used = group.vectors.clone().map(|row| batch.used(row, end));
        let (union, count) =
            used.fold((0, 0), |(union, count), used| (union | used, count + used.count_ones() as usize));
        columns += union.count_ones() as usize;
        nonzeros += count;
        if (columns > most_columns || nonzeros > most_nonzeros) && end > start {
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
    let n = if words.len() == batch.row_words() { group.nonzeros as usize } else { 0 };
    let (mut index, mut sign, mut ends) = (with_capacity(n)?, with_capacity(n)?, with_capacity(group.vectors.len())?);
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
    let mut union = [0; UNION_WORDS];
    for start in words.clone().step_by(UNION_WORDS) {
        let words = start..words.end.min(start + UNION_WORDS);
        let union = &mut union[..words.len()];
        union.fill(0);
        for vector in vectors.clone() {
            batch.add_used(vector, words.clone(), union);
            coordinator.count_bytes(words.len() * word_bytes(batch, &(vector..vector + 1)))?;
        }
        for &used in &*union {
            each(used);
        }
    }
    Ok(())
}

/// Bytes that are read for one word of some vectors.
fn word_bytes(batch: &Vectors<'_>, vectors: &Range<usize>) -> usize {
    vectors.len() * (batch.row_bytes() / batch.row_words().max(1))
}

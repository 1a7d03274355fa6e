//! The inputs of a group of vectors in the two forms that kernels multiply: lists of signed columns, or int8 rows over the
//! columns that any of the vectors uses.
//!
//! Both come in chunks of bounded memory: a chunk covers a range of the planes' words, for all vectors of the group.

use std::ops::Range;
use std::sync::Arc;

use crate::kernel::{Kernel, MAX_NONZEROS, SignedColumns};
use crate::ternary::{TernaryBatch, WORD, expand_word};

/// Nonzeros in a chunk of lists: 9 bytes each.
pub(crate) const LIST_CAPACITY: usize = 1 << 20;

/// Bytes of int8 inputs in a chunk of rows.
pub(crate) const ROWS_CAPACITY: usize = 16 << 20;

/// Words that a chunk may span: their union is kept meanwhile.
const SPAN: usize = 1 << 20;

/// The vectors that are multiplied, one or several for each output.
#[derive(Debug)]
pub(crate) struct Vectors<'a> {
    n_outputs: usize,
    /// The column of T that their first element belongs to.
    first_column: u64,
    parts: Parts<'a>,
}

#[derive(Debug)]
enum Parts<'a> {
    /// Those of a batch.
    Whole(&'a TernaryBatch),
    /// The two binary ones p and q that each is the difference of, and a plane without any bit, which they have for
    /// their −1.
    Split(&'a TernaryBatch, Vec<u64>),
    /// Sums of several batches' vectors, each batch with its weight.
    Fused(Vec<Vec<(&'a TernaryBatch, i8)>>),
}

impl<'a> Vectors<'a> {
    pub(crate) fn whole(batch: &'a TernaryBatch) -> Self {
        Self { n_outputs: batch.n_rows(), first_column: 0, parts: Parts::Whole(batch) }
    }

    /// The same elements at other columns of T.
    pub(crate) fn at_column(self, first_column: u64) -> Self {
        Self { first_column, ..self }
    }

    /// Each vector as the two binary ones that it is the difference of.
    pub(crate) fn split(batch: &'a TernaryBatch) -> Self {
        let parts = Parts::Split(batch, vec![0; batch.row_words()]);
        Self { n_outputs: batch.n_rows(), first_column: 0, parts }
    }

    /// Digits, the highest one first, added up to as few vectors as may be: elements of `max_input` at most, and sums that
    /// cannot overflow. Also gives the weight of each such vector.
    pub(crate) fn fused(digits: &'a [Arc<TernaryBatch>], base: u32, max_input: u8) -> (Self, Vec<i64>) {
        let n_outputs = digits.first().map_or(0, |digit| digit.n_rows());
        let used = |row| {
            let union = |word| digits.iter().fold(0, |union, digit| union | used(digit.row(row), word)).count_ones();
            (0..digits[0].row_words()).map(|word| u64::from(union(word))).sum::<u64>()
        };
        let most_used = (0..n_outputs).map(used).max().unwrap_or(0).max(1);
        let limit = u64::from(max_input).min(MAX_NONZEROS / most_used).max(1);
        let (mut parts, mut weights) = (Vec::new(), Vec::new());
        let (mut part, mut weight, mut total, mut place) = (Vec::new(), 1, 0, 1);
        for (exponent, digit) in (0..).zip(digits.iter().rev()) {
            if total + weight > limit {
                parts.push(std::mem::take(&mut part));
                weights.push(place);
                (weight, total, place) = (1, 0, i64::from(base).pow(exponent));
            }
            part.push((&**digit, weight as i8));
            total += weight;
            weight *= u64::from(base);
        }
        parts.push(part);
        weights.push(place);
        (Self { n_outputs, first_column: 0, parts: Parts::Fused(parts) }, weights)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.n_outputs * self.an_output()
    }

    /// How many make one output.
    pub(crate) fn an_output(&self) -> usize {
        match &self.parts {
            Parts::Whole(_) => 1,
            Parts::Split(..) => 2,
            Parts::Fused(parts) => parts.len(),
        }
    }

    /// Words of a vector in one plane.
    pub(crate) fn row_words(&self) -> usize {
        match &self.parts {
            Parts::Whole(batch) | Parts::Split(batch, _) => batch.row_words(),
            Parts::Fused(parts) => parts[0][0].0.row_words(),
        }
    }

    /// The largest magnitude that an element may have.
    pub(crate) fn largest(&self) -> u8 {
        match &self.parts {
            Parts::Whole(_) | Parts::Split(..) => 1,
            Parts::Fused(parts) => {
                let sum = |part: &Vec<(_, i8)>| part.iter().map(|(_, weight)| weight.unsigned_abs()).sum();
                parts.iter().map(sum).max().unwrap_or(1)
            }
        }
    }

    /// A vector as a sum of ternary ones with weights: their planes of the +1 and of the −1.
    fn terms(&self, vector: usize) -> impl Iterator<Item = ((&[u64], &[u64]), i8)> + Clone {
        let (output, part) = (vector / self.an_output(), vector % self.an_output());
        let (one, several) = match &self.parts {
            Parts::Whole(batch) => (Some(batch.row(output)), None),
            Parts::Split(batch, dark) => {
                let (p, q) = batch.row(output);
                (Some((if part == 0 { p } else { q }, &dark[..])), None)
            }
            Parts::Fused(parts) => (None, Some(&parts[part])),
        };
        let several = several.into_iter().flatten().map(move |&(batch, weight)| (batch.row(output), weight));
        one.into_iter().map(|planes| (planes, 1)).chain(several)
    }

    /// Where a vector is not 0, in one word.
    pub(crate) fn used(&self, vector: usize, word: usize) -> u64 {
        self.terms(vector).fold(0, |union, (planes, _)| union | used(planes, word))
    }

    /// The nonzeros of a vector.
    pub(crate) fn nonzeros(&self, vector: usize) -> u64 {
        (0..self.row_words()).map(|word| u64::from(self.used(vector, word).count_ones())).sum()
    }

    /// The sum of a vector's elements.
    pub(crate) fn sum(&self, vector: usize) -> i64 {
        let ones = |plane: &[u64]| plane.iter().map(|word| i64::from(word.count_ones())).sum::<i64>();
        self.terms(vector)
            .map(|((positive, negative), weight)| i64::from(weight) * (ones(positive) - ones(negative)))
            .sum()
    }
}

fn used((positive, negative): (&[u64], &[u64]), word: usize) -> u64 {
    positive[word] | negative[word]
}

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
pub(crate) fn groups(batch: &Vectors<'_>, kernel: Kernel, most: usize) -> Vec<Group> {
    let mut groups = Vec::new();
    // The vectors of one output stay together.
    let most = most.next_multiple_of(batch.an_output());
    for start in (0..batch.len()).step_by(most) {
        let vectors = start..batch.len().min(start + most);
        let union = |vectors: &Range<usize>| -> u64 {
            (0..batch.row_words()).map(|word| u64::from(union_of(batch, vectors, word).count_ones())).sum()
        };
        // A panel's entry is written, read back and multiplied; a list's is generated and summed in registers.
        let rows_cost =
            |columns: u64, n_vectors: usize| columns as f64 * (1.2 + kernel.shape().multiply_cost * n_vectors as f64);
        if let Parts::Fused(_) = batch.parts {
            // Lists are of signs only: instead of them, each output has a group of its own.
            let step = batch.an_output();
            let outputs = vectors.clone().step_by(step).map(|first| first..first + step);
            let alone: Vec<(Range<usize>, u64)> = outputs.map(|vectors| (vectors.clone(), union(&vectors))).collect();
            let together = union(&vectors);
            let alone_cost: f64 = alone.iter().map(|(_, columns)| rows_cost(*columns, step)).sum();
            if rows_cost(together, vectors.len()) < alone_cost {
                groups.push(Group { vectors, form: Form::Rows, columns: together });
            } else {
                groups.extend(alone.into_iter().map(|(vectors, columns)| Group { vectors, form: Form::Rows, columns }));
            }
            continue;
        }
        let nonzeros: Vec<u64> = vectors.clone().map(|vector| batch.nonzeros(vector)).collect();
        if vectors.len() > 1 {
            let columns = union(&vectors);
            if rows_cost(columns, vectors.len()) < nonzeros.iter().sum::<u64>() as f64 {
                groups.push(Group { vectors, form: Form::Rows, columns });
                continue;
            }
        }
        // As many vectors as fit one chunk together; one alone may take several.
        let mut first = start;
        let mut columns = 0;
        for (row, &count) in vectors.clone().zip(&nonzeros) {
            if row > first && row.is_multiple_of(batch.an_output()) && columns + count > LIST_CAPACITY as u64 {
                groups.push(Group { vectors: first..row, form: Form::Lists, columns });
                (first, columns) = (row, 0);
            }
            columns += count;
        }
        groups.push(Group { vectors: first..vectors.end, form: Form::Lists, columns });
    }
    groups
}

/// The range of words after `start` whose columns fit one chunk.
pub(crate) fn span(batch: &Vectors<'_>, group: &Group, start: usize) -> Range<usize> {
    let capacity = match group.form {
        Form::Lists => LIST_CAPACITY,
        Form::Rows => ROWS_CAPACITY / group.vectors.len(),
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
    }
    start..end
}

/// The lists of a group over a span of words.
pub(crate) fn lists(batch: &Vectors<'_>, group: &Group, words: Range<usize>) -> Chunk {
    let (mut index, mut sign, mut ends) = (Vec::new(), Vec::new(), Vec::with_capacity(group.vectors.len()));
    if words.len() == batch.row_words() {
        index.reserve_exact(group.columns as usize);
        sign.reserve_exact(group.columns as usize);
    }
    for vector in group.vectors.clone() {
        let ((positive, negative), _) = batch.terms(vector).next().expect("a vector has a term");
        for word in words.clone() {
            let mut left = positive[word] | negative[word];
            while left != 0 {
                let bit = left.trailing_zeros();
                index.push(batch.first_column + (word * WORD) as u64 + u64::from(bit));
                sign.push(((negative[word] >> bit) as u8 & 1) << 7);
                left &= left - 1;
            }
        }
        ends.push(index.len());
    }
    Chunk::Lists { index, sign, ends }
}

/// The columns that a group uses in a span of words, and the words that hold them.
pub(crate) fn union(batch: &Vectors<'_>, group: &Group, words: Range<usize>) -> (Vec<u64>, Vec<u64>) {
    let union: Vec<u64> = words.clone().map(|word| union_of(batch, &group.vectors, word)).collect();
    let mut columns = Vec::with_capacity(union.iter().map(|word| word.count_ones() as usize).sum());
    for (word, &used) in words.zip(&union) {
        let mut left = used;
        while left != 0 {
            columns.push(batch.first_column + (word * WORD) as u64 + u64::from(left.trailing_zeros()));
            left &= left - 1;
        }
    }
    (union, columns)
}

/// Each vector's parts of the inputs, panel by panel.
pub(crate) fn parts(inputs: &mut [i8], n_vectors: usize, panel_columns: usize) -> Vec<Vec<&mut [i8]>> {
    let mut parts: Vec<Vec<&mut [i8]>> = (0..n_vectors).map(|_| Vec::new()).collect();
    for panel in inputs.chunks_mut(n_vectors * panel_columns) {
        let columns = panel.len() / n_vectors;
        for (parts, part) in parts.iter_mut().zip(panel.chunks_exact_mut(columns)) {
            parts.push(part);
        }
    }
    parts
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

fn union_of(batch: &Vectors<'_>, vectors: &Range<usize>, word: usize) -> u64 {
    vectors.clone().fold(0, |union, vector| union | batch.used(vector, word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoded::{Code, Encoded};

    fn weights(n_inputs: usize, digits: u32, max_input: u8) -> Vec<i64> {
        let code = Code::BalancedTernary(digits);
        let batch = Encoded::encode(&vec![1.0; n_inputs], n_inputs, &[1.0], code).expect("memory");
        let (vectors, weights) = Vectors::fused(batch.digits(), 3, max_input);
        assert!(u64::from(vectors.largest()) * n_inputs as u64 <= MAX_NONZEROS, "sums fit");
        assert!(vectors.largest() <= max_input);
        let total: i64 = (0..vectors.len()).map(|part| vectors.sum(part) * weights[part]).sum();
        assert_eq!(total, n_inputs as i64 * i64::from(code.largest()));
        weights
    }

    #[test]
    fn digits_are_added_up_as_far_as_sums_fit() {
        assert_eq!(weights(100, 5, 127), [1]);
        assert_eq!(weights(100, 6, 127), [1, 243]);
        assert_eq!(weights(100, 20, 127), [1, 243, 59_049, 14_348_907]);
        assert_eq!(weights(100, 5, 13), [1, 27]);
        assert_eq!(weights(100, 2, 1), [1, 3]);
        // 177,477 × 121 × 100 < 2³¹ and no more.
        assert_eq!(weights(177_477, 5, 127), [1]);
        assert_eq!(weights(177_478, 5, 127), [1, 81]);
        assert_eq!(weights(1_100_000, 5, 127), [1, 27]);
    }
}

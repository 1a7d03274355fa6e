//! Bit-packed batches of ternary vectors: two bits an element, a plane of the +1 and a plane of the −1.

mod format;
mod pack;
mod words;

use std::fmt;
use std::ops::Range;

pub use format::FormatError;
pub use pack::{Float, Packer, Refused, Value, max_abs};
use words::Words;

/// Elements in a word of a plane; rows begin on whole words.
pub const WORD: usize = 64;

/// A batch of vectors with elements −1, 0 and 1.
///
/// Element j of a row is bit j % 64 of word j / 64, in the plane of its sign. No bit is set in both planes, none beyond
/// the last element.
#[derive(PartialEq, Eq)]
pub struct TernaryBatch {
    n_rows: usize,
    n_inputs: usize,
    positive: Words,
    negative: Words,
}

/// Why two planes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaneError {
    /// A plane has not the words that the shape asks for.
    Size,
    /// An element of this row is both +1 and −1.
    Overlap(usize),
    /// This row has a bit set beyond its last element.
    Stray(usize),
    /// The shape's size in bytes does not fit the address space.
    TooLarge,
}

impl fmt::Display for PlaneError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size => formatter.write_str("the planes do not have the size of the batch"),
            Self::Overlap(row) => write!(formatter, "row {row} has an element that is both +1 and -1"),
            Self::Stray(row) => write!(formatter, "row {row} has a bit set beyond its last element"),
            Self::TooLarge => formatter.write_str("the batch is larger than the address space"),
        }
    }
}

impl std::error::Error for PlaneError {}

impl TernaryBatch {
    /// A batch from its planes, words in rows.
    ///
    /// # Errors
    ///
    /// If the planes have another size, overlap, or reach beyond the last element of a row.
    pub fn from_words(
        n_rows: usize,
        n_inputs: usize,
        positive: Vec<u64>,
        negative: Vec<u64>,
    ) -> Result<Self, PlaneError> {
        Self::from_planes(n_rows, n_inputs, positive.into(), negative.into())
    }

    fn from_planes(n_rows: usize, n_inputs: usize, positive: Words, negative: Words) -> Result<Self, PlaneError> {
        let words = plane_words(n_rows, n_inputs).ok_or(PlaneError::TooLarge)?;
        if positive.len() != words || negative.len() != words {
            return Err(PlaneError::Size);
        }
        let batch = Self { n_rows, n_inputs, positive, negative };
        let stray = if n_inputs.is_multiple_of(WORD) { 0 } else { u64::MAX << (n_inputs % WORD) };
        // However many rows there are, without words there is nothing to check.
        let rows = if words == 0 { 0 } else { n_rows };
        for row in 0..rows {
            let (positive, negative) = batch.row(row);
            if positive.iter().zip(negative).any(|(p, n)| p & n != 0) {
                return Err(PlaneError::Overlap(row));
            }
            if let (Some(p), Some(n)) = (positive.last(), negative.last())
                && (p | n) & stray != 0
            {
                return Err(PlaneError::Stray(row));
            }
        }
        Ok(batch)
    }

    /// A batch of zeros to fill, or nothing if there is no memory for it.
    pub(crate) fn zeros(n_rows: usize, n_inputs: usize) -> Option<Self> {
        let words = plane_words(n_rows, n_inputs)?;
        Some(Self { n_rows, n_inputs, positive: Words::zeros(words)?, negative: Words::zeros(words)? })
    }

    /// A batch of any bits, every word of which must be written before the batch is handed on, or nothing if there is no
    /// memory for it.
    pub(crate) fn any(n_rows: usize, n_inputs: usize) -> Option<Self> {
        let words = plane_words(n_rows, n_inputs)?;
        Some(Self { n_rows, n_inputs, positive: Words::any(words)?, negative: Words::any(words)? })
    }

    /// A batch from the places and signs of its nonzeros, in compressed sparse rows.
    ///
    /// Nothing if there is no memory for it.
    ///
    /// # Panics
    ///
    /// If a place lies outside the batch, or has two nonzeros, or `offsets` do not cut `columns`.
    #[must_use]
    pub fn from_sparse(n_inputs: usize, offsets: &[usize], columns: &[usize], values: &[i8]) -> Option<Self> {
        assert_eq!(columns.len(), values.len(), "one value a column");
        let mut batch = Self::zeros(offsets.len().saturating_sub(1), n_inputs)?;
        for (row, bounds) in offsets.windows(2).enumerate() {
            for (&column, &value) in columns[bounds[0]..bounds[1]].iter().zip(&values[bounds[0]..bounds[1]]) {
                batch.place(row, column, value);
            }
        }
        Some(batch)
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

    /// The number of vectors.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The length of a vector.
    #[must_use]
    pub fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    /// Words of a row in one plane.
    #[must_use]
    pub fn row_words(&self) -> usize {
        self.n_inputs.div_ceil(WORD)
    }

    /// Bytes of both planes.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        size_of_val(&self.positive[..]) + size_of_val(&self.negative[..])
    }

    /// A row's words in the plane of the +1 and in that of the −1.
    #[must_use]
    pub fn row(&self, row: usize) -> (&[u64], &[u64]) {
        let words = row * self.row_words()..(row + 1) * self.row_words();
        (&self.positive[words.clone()], &self.negative[words])
    }

    /// The same, to be written: no bit may be set in both, nor beyond the last element.
    pub(crate) fn row_mut(&mut self, row: usize) -> (&mut [u64], &mut [u64]) {
        let words = row * self.row_words()..(row + 1) * self.row_words();
        (&mut self.positive[words.clone()], &mut self.negative[words])
    }

    /// The +1 and the −1 of a row.
    #[must_use]
    pub fn counts(&self, row: usize) -> (u64, u64) {
        let ones = |plane: &[u64]| plane.iter().map(|word| u64::from(word.count_ones())).sum();
        let (positive, negative) = self.row(row);
        (ones(positive), ones(negative))
    }

    /// The first row with more than so many nonzeros.
    pub(crate) fn first_with_more_than(&self, most: u64) -> Option<usize> {
        let too_many = |&row: &usize| {
            let (positive, negative) = self.counts(row);
            positive + negative > most
        };
        let possible = self.n_inputs as u64 > most;
        (0..self.n_rows).filter(|_| possible).find(too_many)
    }

    /// Writes part of a row as int8, the elements of `words`.
    ///
    /// # Panics
    ///
    /// If `words` reaches beyond the row, or `out` has not 64 elements a word.
    pub fn expand(&self, row: usize, words: Range<usize>, out: &mut [i8]) {
        let (positive, negative) = self.row(row);
        assert_eq!(out.len(), WORD * words.len(), "64 elements a word");
        for ((&positive, &negative), out) in
            positive[words.clone()].iter().zip(&negative[words]).zip(out.as_chunks_mut::<WORD>().0)
        {
            expand_word(positive, negative, out);
        }
    }

    /// A whole row as int8.
    ///
    /// # Panics
    ///
    /// If `out` has not the length of a row.
    pub fn unpack(&self, row: usize, out: &mut [i8]) {
        assert_eq!(out.len(), self.n_inputs, "one element an input");
        let whole = self.n_inputs / WORD;
        let (front, back) = out.split_at_mut(whole * WORD);
        self.expand(row, 0..whole, front);
        if !back.is_empty() {
            let mut last = [0; WORD];
            self.expand(row, whole..whole + 1, &mut last);
            back.copy_from_slice(&last[..back.len()]);
        }
    }

    /// The batch of these rows, in this order. Nothing if there is no memory for it.
    ///
    /// # Panics
    ///
    /// If a row lies outside the batch.
    #[must_use]
    pub fn take(&self, rows: &[usize]) -> Option<Self> {
        let mut taken = Self::any(rows.len(), self.n_inputs)?;
        for (to, &from) in rows.iter().enumerate() {
            taken.copy_row(to, self, from);
        }
        Some(taken)
    }

    /// All rows of the parts, one after the other. Nothing if there is no memory for them.
    ///
    /// # Panics
    ///
    /// If the parts differ in the length of their vectors, or there is none.
    #[must_use]
    pub fn concatenate(parts: &[&Self]) -> Option<Self> {
        let n_inputs = parts.first().expect("at least one part").n_inputs;
        let mut whole = Self::any(parts.iter().map(|part| part.n_rows).sum(), n_inputs)?;
        let mut to = 0;
        for part in parts {
            assert_eq!(part.n_inputs, n_inputs, "vectors of one length");
            for from in 0..part.n_rows {
                whole.copy_row(to, part, from);
                to += 1;
            }
        }
        Some(whole)
    }

    fn copy_row(&mut self, to: usize, source: &Self, from: usize) {
        let width = self.row_words();
        let (positive, negative) = source.row(from);
        self.positive[to * width..(to + 1) * width].copy_from_slice(positive);
        self.negative[to * width..(to + 1) * width].copy_from_slice(negative);
    }
}

impl fmt::Debug for TernaryBatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TernaryBatch({} × {})", self.n_rows, self.n_inputs)
    }
}

/// 64 elements as int8.
pub(crate) fn expand_word(positive: u64, negative: u64, out: &mut [i8; WORD]) {
    for (byte, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let ones = SPREAD[usize::from((positive >> (8 * byte)) as u8)];
        let minus_ones = SPREAD[usize::from((negative >> (8 * byte)) as u8)] * 0xff;
        *out = (ones | minus_ones).to_le_bytes().map(|element| element as i8);
    }
}

/// Words of one plane, if both planes' bytes fit the address space.
fn plane_words(n_rows: usize, n_inputs: usize) -> Option<usize> {
    let words = n_rows.checked_mul(n_inputs.div_ceil(WORD))?;
    isize::try_from(words.checked_mul(16)?).is_ok().then_some(words)
}

/// A byte's bits as the lowest bits of eight bytes.
static SPREAD: [u64; 256] = {
    let mut spread = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            spread[byte] |= ((byte as u64 >> bit) & 1) << (8 * bit);
            bit += 1;
        }
        byte += 1;
    }
    spread
};

#[cfg(test)]
mod tests;

//! A batch of ternary vectors and its two planes.

use std::fmt;
use std::ops::Range;

use super::words::Words;
use crate::memory::{NoMemory, touch};
use crate::progress::{Coordinator, Stopped, on_calling_thread};

/// Elements in a word of a plane. Rows begin on whole words.
pub const WORD: usize = 64;

/// Words that are processed between two checks for a stop.
pub(super) const WORDS_PER_CHECK: usize = 1 << 13;

/// A batch of vectors with elements −1, 0 and 1.
///
/// Element j of a row is bit j % 64 of word j / 64 in the plane of its sign. No bit is set in both planes, and none beyond
/// the last element.
#[derive(PartialEq, Eq)]
pub struct TernaryBatch {
    pub(super) n_rows: usize,
    pub(super) n_inputs: usize,
    pub(super) positive: Words,
    pub(super) negative: Words,
}

/// Why there is no batch from some planes or rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaneError {
    /// A plane does not have the number of words of the shape.
    Size,
    /// An element of this row is both +1 and −1.
    Overlap(usize),
    /// This row has a bit set beyond its last element.
    Stray(usize),
    /// The shape's size in bytes does not fit the address space.
    TooLarge,
    /// These are not compressed sparse rows of that many inputs, each in the order of its columns, without duplicates.
    Sparse,
    /// The call was stopped before the check had ended.
    Stopped(Stopped),
}

impl From<Stopped> for PlaneError {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

impl fmt::Display for PlaneError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size => formatter.write_str("the planes do not have the size of the batch"),
            Self::Overlap(row) => write!(formatter, "row {row} has an element that is both +1 and -1"),
            Self::Stray(row) => write!(formatter, "row {row} has a bit set beyond its last element"),
            Self::TooLarge => formatter.write_str("the batch is larger than the address space"),
            Self::Sparse => formatter.write_str(
                "not compressed sparse rows of that many inputs, each in the order of its columns, without duplicates",
            ),
            Self::Stopped(stopped) => write!(formatter, "stopped: {stopped:?}"),
        }
    }
}

impl std::error::Error for PlaneError {}

impl TernaryBatch {
    /// A batch from the words of its planes.
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
        on_calling_thread(&mut |_| true, |coordinator| {
            Self::from_planes(n_rows, n_inputs, positive.into(), negative.into(), coordinator)
        })
    }

    pub(super) fn from_planes(
        n_rows: usize,
        n_inputs: usize,
        positive: Words,
        negative: Words,
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<Self, PlaneError> {
        let words = plane_words(n_rows, n_inputs).ok_or(PlaneError::TooLarge)?;
        if positive.len() != words || negative.len() != words {
            return Err(PlaneError::Size);
        }
        let batch = Self { n_rows, n_inputs, positive, negative };
        let stray = if n_inputs.is_multiple_of(WORD) { 0 } else { u64::MAX << (n_inputs % WORD) };
        // Rows without words need no check, however many there are.
        let rows = if words == 0 { 0 } else { n_rows };
        for row in 0..rows {
            let (positive, negative) = batch.row(row);
            for (positive, negative) in positive.chunks(WORDS_PER_CHECK).zip(negative.chunks(WORDS_PER_CHECK)) {
                if positive.iter().zip(negative).any(|(p, n)| p & n != 0) {
                    return Err(PlaneError::Overlap(row));
                }
                coordinator.count_bytes(2 * size_of_val(positive))?;
            }
            if let (Some(p), Some(n)) = (positive.last(), negative.last())
                && (p | n) & stray != 0
            {
                return Err(PlaneError::Stray(row));
            }
        }
        Ok(batch)
    }

    /// A batch of zeros to fill.
    pub(crate) fn zeros(n_rows: usize, n_inputs: usize) -> Result<Self, NoMemory> {
        let words = plane_words(n_rows, n_inputs).ok_or(NoMemory)?;
        Ok(Self { n_rows, n_inputs, positive: Words::zeros(words)?, negative: Words::zeros(words)? })
    }

    /// A batch of arbitrary bits. Every word must be written before others see the batch.
    pub(crate) fn unfilled(n_rows: usize, n_inputs: usize) -> Result<Self, NoMemory> {
        let words = plane_words(n_rows, n_inputs).ok_or(NoMemory)?;
        Ok(Self { n_rows, n_inputs, positive: Words::unfilled(words)?, negative: Words::unfilled(words)? })
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

    /// Bytes of a row in both planes.
    pub(crate) fn row_bytes(&self) -> usize {
        2 * size_of::<u64>() * self.row_words()
    }

    /// Writes to every page of the planes of a batch that was just made by [`unfilled`](Self::unfilled).
    pub(crate) fn touch(&mut self, coordinator: &mut Coordinator<'_, '_>) -> Result<(), Stopped> {
        touch(&mut self.positive, 0, || coordinator.check())?;
        touch(&mut self.negative, 0, || coordinator.check())
    }

    /// The words of a row in the plane of the +1 and in that of the −1.
    #[must_use]
    pub fn row(&self, row: usize) -> (&[u64], &[u64]) {
        let words = row * self.row_words()..(row + 1) * self.row_words();
        (&self.positive[words.clone()], &self.negative[words])
    }

    /// The same for writing: no bit may be set in both planes or beyond the last element.
    pub(crate) fn row_mut(&mut self, row: usize) -> (&mut [u64], &mut [u64]) {
        let words = row * self.row_words()..(row + 1) * self.row_words();
        (&mut self.positive[words.clone()], &mut self.negative[words])
    }

    /// The numbers of +1 and of −1 in a row.
    #[must_use]
    pub fn counts(&self, row: usize) -> (u64, u64) {
        let ones = |plane: &[u64]| plane.iter().map(|word| u64::from(word.count_ones())).sum();
        let (positive, negative) = self.row(row);
        (ones(positive), ones(negative))
    }

    /// Appends the number of nonzeros of each row to `counts`.
    ///
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or there is no memory.
    pub fn add_counts(&self, counts: &mut Vec<i64>, poll: &mut dyn FnMut(f64) -> bool) -> Result<(), Stopped> {
        counts.try_reserve(self.n_rows).map_err(|_| Stopped::NoMemory)?;
        on_calling_thread(poll, |coordinator| {
            (0..self.n_rows).try_for_each(|row| {
                let (positive, negative) = self.counts(row);
                counts.push((positive + negative) as i64);
                coordinator.count_bytes(self.row_bytes())
            })
        })
    }

    /// Writes the elements of some words of a row as int8.
    ///
    /// # Panics
    ///
    /// If `words` reaches beyond the row, or `out` does not have 64 elements a word.
    pub fn expand(&self, row: usize, words: Range<usize>, out: &mut [i8]) {
        let (positive, negative) = self.row(row);
        assert_eq!(out.len(), WORD * words.len(), "64 elements a word");
        for ((&positive, &negative), out) in
            positive[words.clone()].iter().zip(&negative[words]).zip(out.as_chunks_mut::<WORD>().0)
        {
            expand_word(positive, negative, out);
        }
    }

    /// Writes elements of a row as int8: from `start`, a multiple of 64, as many as `out` has.
    ///
    /// # Panics
    ///
    /// If `start` is not a multiple of 64, or the elements end beyond the row.
    pub fn unpack(&self, row: usize, start: usize, out: &mut [i8]) {
        assert!(start.is_multiple_of(WORD) && out.len() <= self.n_inputs - start, "elements of the row");
        let (first, whole) = (start / WORD, out.len() / WORD);
        let (front, back) = out.split_at_mut(whole * WORD);
        self.expand(row, first..first + whole, front);
        if !back.is_empty() {
            let mut last = [0; WORD];
            self.expand(row, first + whole..first + whole + 1, &mut last);
            back.copy_from_slice(&last[..back.len()]);
        }
    }

    /// Writes the same elements of consecutive rows from `row` on, `width` of each.
    ///
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`. Some rows are then unpacked.
    ///
    /// # Panics
    ///
    /// As [`unpack`](Self::unpack).
    pub fn unpack_rows(
        &self,
        row: usize,
        start: usize,
        width: usize,
        out: &mut [i8],
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), Stopped> {
        on_calling_thread(poll, |coordinator| {
            for (row, out) in (row..).zip(out.chunks_exact_mut(width.max(1))) {
                for (k, out) in out.chunks_mut(WORDS_PER_CHECK * WORD).enumerate() {
                    self.unpack(row, start + k * WORDS_PER_CHECK * WORD, out);
                    coordinator.count_bytes(out.len())?;
                }
            }
            Ok(())
        })
    }

    /// A batch of these rows, in this order.
    ///
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or there is no memory for it.
    ///
    /// # Panics
    ///
    /// If a row lies outside the batch.
    pub fn take(&self, rows: &[usize], poll: &mut dyn FnMut(f64) -> bool) -> Result<Self, Stopped> {
        let mut taken = Self::unfilled(rows.len(), self.n_inputs)?;
        on_calling_thread(poll, |coordinator| {
            rows.iter().enumerate().try_for_each(|(to, &from)| taken.copy_row(to, self, from, coordinator))?;
            Ok(taken)
        })
    }

    /// All rows of the parts, one after the other.
    ///
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`, or there is no memory for them.
    ///
    /// # Panics
    ///
    /// If the parts differ in the length of their vectors, or there are none.
    pub fn concatenate(parts: &[&Self], poll: &mut dyn FnMut(f64) -> bool) -> Result<Self, Stopped> {
        let n_inputs = parts.first().expect("at least one part").n_inputs;
        let mut whole = Self::unfilled(parts.iter().map(|part| part.n_rows).sum(), n_inputs)?;
        let mut to = 0;
        on_calling_thread(poll, |coordinator| {
            for part in parts {
                assert_eq!(part.n_inputs, n_inputs, "vectors of one length");
                for from in 0..part.n_rows {
                    whole.copy_row(to, part, from, coordinator)?;
                    to += 1;
                }
            }
            Ok(whole)
        })
    }

    /// Whether another batch has the same vectors.
    ///
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// If `poll` returned `false`.
    pub fn equals(&self, other: &Self, poll: &mut dyn FnMut(f64) -> bool) -> Result<bool, Stopped> {
        if (self.n_rows, self.n_inputs) != (other.n_rows, other.n_inputs) {
            return Ok(false);
        }
        on_calling_thread(poll, |coordinator| {
            for (plane, other) in [(&self.positive, &other.positive), (&self.negative, &other.negative)] {
                for (words, others) in plane.chunks(WORDS_PER_CHECK).zip(other.chunks(WORDS_PER_CHECK)) {
                    if words != others {
                        return Ok(false);
                    }
                    coordinator.count_bytes(2 * size_of_val(words))?;
                }
            }
            Ok(true)
        })
    }

    fn copy_row(
        &mut self,
        to: usize,
        source: &Self,
        from: usize,
        coordinator: &mut Coordinator<'_, '_>,
    ) -> Result<(), Stopped> {
        let width = self.row_words();
        let (positive, negative) = source.row(from);
        let to = to * width..(to + 1) * width;
        for (to, from) in [(&mut self.positive[to.clone()], positive), (&mut self.negative[to], negative)] {
            for (to, from) in to.chunks_mut(WORDS_PER_CHECK).zip(from.chunks(WORDS_PER_CHECK)) {
                to.copy_from_slice(from);
                coordinator.count_bytes(2 * size_of_val(from))?;
            }
        }
        Ok(())
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

/// The words of one plane, if the bytes of both planes fit the address space.
pub(super) fn plane_words(n_rows: usize, n_inputs: usize) -> Option<usize> {
    let words = n_rows.checked_mul(n_inputs.div_ceil(WORD))?;
    isize::try_from(words.checked_mul(16)?).is_ok().then_some(words)
}

/// The bits of a byte, each as the lowest bit of a byte.
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

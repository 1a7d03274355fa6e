//! The vectors that are multiplied: the vectors of a batch, halves of them, or sums of several digits.

use std::sync::Arc;

use crate::batch::ternary::{TernaryBatch, WORD};
use crate::memory::{NoMemory, push, zeros};
use crate::request::projection::Columns;

/// The vectors that are multiplied, one or several for each output.
#[derive(Debug)]
pub(super) struct Vectors<'a> {
    n_outputs: usize,
    columns: Columns<'a>,
    parts: Parts<'a>,
}

#[derive(Debug)]
enum Parts<'a> {
    /// The vectors of a batch.
    Whole(&'a TernaryBatch),
    /// Each vector as the two binary vectors p and q whose difference it is, and a plane of zeros as their plane of the −1.
    Split(&'a TernaryBatch, Vec<u64>),
    /// Sums over several batches, each with its weight.
    Fused(Vec<Vec<(&'a TernaryBatch, i8)>>),
}

impl<'a> Vectors<'a> {
    pub(super) fn whole(batch: &'a TernaryBatch) -> Self {
        Self { n_outputs: batch.n_rows(), columns: Columns::From(0), parts: Parts::Whole(batch) }
    }

    /// The same elements at other columns of T.
    pub(super) fn at(self, columns: Columns<'a>) -> Self {
        Self { columns, ..self }
    }

    /// Each vector as the two binary vectors whose difference it is.
    pub(super) fn split(batch: &'a TernaryBatch) -> Result<Self, NoMemory> {
        let parts = Parts::Split(batch, zeros(batch.row_words())?);
        Ok(Self { n_outputs: batch.n_rows(), columns: Columns::From(0), parts })
    }

    /// Digits, the highest first, added up to as few vectors as possible, such that no element exceeds `max_input`. Also
    /// returns the weight of each such vector.
    pub(super) fn fused(
        digits: &'a [Arc<TernaryBatch>],
        base: u32,
        max_input: u8,
    ) -> Result<(Self, Vec<i64>), NoMemory> {
        let n_outputs = digits.first().map_or(0, |digit| digit.n_rows());
        let limit = u64::from(max_input);
        let (mut parts, mut weights) = (Vec::new(), Vec::new());
        let (mut part, mut weight, mut total, mut place) = (Vec::new(), 1, 0, 1);
        for (exponent, digit) in (0..).zip(digits.iter().rev()) {
            if total + weight > limit {
                push(&mut parts, std::mem::take(&mut part))?;
                push(&mut weights, place)?;
                (weight, total, place) = (1, 0, i64::from(base).pow(exponent));
            }
            push(&mut part, (&**digit, weight as i8))?;
            total += weight;
            weight *= u64::from(base);
        }
        push(&mut parts, part)?;
        push(&mut weights, place)?;
        Ok((Self { n_outputs, columns: Columns::From(0), parts: Parts::Fused(parts) }, weights))
    }

    /// The number of vectors.
    pub(super) fn len(&self) -> usize {
        self.n_outputs * self.per_output()
    }

    /// The number of vectors that make one output.
    pub(super) fn per_output(&self) -> usize {
        match &self.parts {
            Parts::Whole(_) => 1,
            Parts::Split(..) => 2,
            Parts::Fused(parts) => parts.len(),
        }
    }

    /// The column of T that an element belongs to.
    pub(super) fn column(&self, element: usize) -> u64 {
        match self.columns {
            Columns::From(first) => first + element as u64,
            Columns::Listed(columns) => columns[element],
        }
    }

    /// Whether they are sums over several batches.
    pub(super) fn is_fused(&self) -> bool {
        matches!(self.parts, Parts::Fused(_))
    }

    /// Bytes that are read for one vector.
    pub(super) fn row_bytes(&self) -> usize {
        let terms =
            if let Parts::Fused(parts) = &self.parts { parts.iter().map(Vec::len).max().unwrap_or(1) } else { 1 };
        2 * size_of::<u64>() * self.row_words() * terms
    }

    /// The words of a vector in one plane.
    pub(super) fn row_words(&self) -> usize {
        match &self.parts {
            Parts::Whole(batch) | Parts::Split(batch, _) => batch.row_words(),
            Parts::Fused(parts) => parts[0][0].0.row_words(),
        }
    }

    /// The largest magnitude that an element may have.
    pub(super) fn largest(&self) -> u8 {
        match &self.parts {
            Parts::Whole(_) | Parts::Split(..) => 1,
            Parts::Fused(parts) => {
                let sum = |part: &Vec<(_, i8)>| part.iter().map(|(_, weight)| weight.unsigned_abs()).sum();
                parts.iter().map(sum).max().unwrap_or(1)
            }
        }
    }

    /// No weighted sum of the magnitudes of an output's elements is larger.
    pub(super) fn largest_total(&self, weights: &[i64]) -> f64 {
        let elements = (self.row_words() * WORD) as f64;
        weights.iter().map(|&weight| weight as f64 * f64::from(self.largest()) * elements).sum()
    }

    /// A vector as a weighted sum of ternary vectors: the planes of each, and its weight.
    pub(super) fn terms(&self, vector: usize) -> impl Iterator<Item = ((&[u64], &[u64]), i8)> + Clone {
        let (output, part) = (vector / self.per_output(), vector % self.per_output());
        let (one, several) = match &self.parts {
            Parts::Whole(batch) => (Some(batch.row(output)), None),
            Parts::Split(batch, zeros) => {
                let (p, q) = batch.row(output);
                (Some((if part == 0 { p } else { q }, &zeros[..])), None)
            }
            Parts::Fused(parts) => (None, Some(&parts[part])),
        };
        let several = several.into_iter().flatten().map(move |&(batch, weight)| (batch.row(output), weight));
        one.into_iter().map(|planes| (planes, 1)).chain(several)
    }

    /// The nonzero elements of a vector in one word.
    pub(super) fn used(&self, vector: usize, word: usize) -> u64 {
        self.terms(vector).fold(0, |union, (planes, _)| union | used(planes, word))
    }

    /// The number of nonzeros of a vector.
    pub(super) fn nonzeros(&self, vector: usize) -> u64 {
        (0..self.row_words()).map(|word| u64::from(self.used(vector, word).count_ones())).sum()
    }
}

fn used((positive, negative): (&[u64], &[u64]), word: usize) -> u64 {
    positive[word] | negative[word]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::encoded::Code;
    use crate::cpu::kernel::Kernel;
    use crate::cpu::packing::encode;

    fn weights(n_inputs: usize, digits: u32, max_input: u8) -> Vec<i64> {
        let code = Code::BalancedTernary(digits);
        let poll = &mut |_| true;
        let batch = encode(&vec![1.0; n_inputs], n_inputs, &[1.0], code, Kernel::best(), poll).expect("memory");
        let (vectors, weights) = Vectors::fused(batch.digits(), 3, max_input).expect("memory");
        assert!(vectors.largest() <= max_input);
        let sum = |((positive, _), weight): ((&[u64], &[u64]), i8)| {
            i64::from(weight) * positive.iter().map(|word| i64::from(word.count_ones())).sum::<i64>()
        };
        let part_sum = |part| vectors.terms(part).map(sum).sum::<i64>();
        let total: i64 = (0..vectors.len()).map(|part| part_sum(part) * weights[part]).sum();
        assert_eq!(total, n_inputs as i64 * i64::from(code.largest()));
        weights
    }

    #[test]
    fn digits_are_added_up_while_the_kernel_accepts_their_sums() {
        assert_eq!(weights(100, 5, 127), [1]);
        assert_eq!(weights(100, 6, 127), [1, 243]);
        assert_eq!(weights(100, 20, 127), [1, 243, 59_049, 14_348_907]);
        assert_eq!(weights(100, 5, 13), [1, 27]);
        assert_eq!(weights(100, 2, 1), [1, 3]);
    }
}

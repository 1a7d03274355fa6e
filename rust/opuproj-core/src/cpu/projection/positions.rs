//! The nonzeros of a vector as positions in the panels of a group's columns.

use std::ops::Range;

use crate::cpu::kernel::SignedPositions;
use crate::cpu::vectors::Vectors;
use crate::memory::{NoMemory, push, with_capacity};

/// One vector: its positions in each panel, those of +1 before those of −1.
#[derive(Debug)]
pub(super) struct PanelPositions {
    positions: Vec<u16>,
    /// The ends of both parts of each panel.
    ends: Vec<[usize; 2]>,
}

impl PanelPositions {
    /// The positions of one vector in panels of `panel_columns` columns, which are those of `union` in some words.
    pub(super) fn of(
        batch: &Vectors<'_>,
        vector: usize,
        words: Range<usize>,
        union: &[u64],
        panel_columns: usize,
    ) -> Result<Self, NoMemory> {
        let ((positive, negative), _) = batch.terms(vector).next().expect("a vector has a term");
        let n_columns: usize = union.iter().map(|used| used.count_ones() as usize).sum();
        let mut all = Self {
            positions: with_capacity(batch.nonzeros(vector, words.clone()) as usize)?,
            ends: with_capacity(n_columns.div_ceil(panel_columns))?,
        };
        let mut minus = Vec::new();
        // The number of columns in the words before, and the first column of the panel.
        let (mut before, mut panel) = (0, 0);
        for (word, &used) in words.zip(union) {
            let mut left = positive[word] | negative[word];
            while left != 0 {
                let bit = left & left.wrapping_neg();
                let column = before + (used & (bit - 1)).count_ones() as usize;
                while column >= panel + panel_columns {
                    all.end_panel(&mut minus);
                    panel += panel_columns;
                }
                let position = (column - panel) as u16;
                if negative[word] & bit == 0 {
                    all.positions.push(position);
                } else {
                    push(&mut minus, position)?;
                }
                left ^= bit;
            }
            before += used.count_ones() as usize;
        }
        for _ in all.ends.len()..n_columns.div_ceil(panel_columns) {
            all.end_panel(&mut minus);
        }
        Ok(all)
    }

    fn end_panel(&mut self, minus: &mut Vec<u16>) {
        let middle = self.positions.len();
        self.positions.append(minus);
        self.ends.push([middle, self.positions.len()]);
    }

    /// Its positions in one panel.
    pub(super) fn in_panel(&self, panel: usize) -> SignedPositions<'_> {
        let start = if panel == 0 { 0 } else { self.ends[panel - 1][1] };
        let [middle, end] = self.ends[panel];
        SignedPositions { positive: &self.positions[start..middle], negative: &self.positions[middle..end] }
    }
}

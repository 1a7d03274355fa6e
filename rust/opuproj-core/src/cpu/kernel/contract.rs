//! The contract of all kernels: the instruction sets, the shapes of panels, and the arguments of the inner loops.

use std::fmt;

use crate::definition::transmission::{BLOCK_COMPONENTS, MAX_MAGNITUDE};

/// The row blocks of a tile are a multiple of this, because the kernels unroll over this many.
pub const TILE_BLOCKS: usize = 8;

/// Row blocks of a [`PanelColumn`].
pub const COLUMN_BLOCKS: usize = 4;

/// Components of a [`PanelColumn`].
pub const COLUMN_COMPONENTS: usize = COLUMN_BLOCKS * BLOCK_COMPONENTS;

/// Columns of T, each with the sign of its input: one sparse ternary vector.
#[derive(Clone, Copy, Debug)]
pub struct SignedColumns<'a> {
    /// The columns, in any order.
    pub index: &'a [u64],
    /// 0 where the input is +1, 128 where it is −1: the bit that flips the sign of a keystream byte.
    pub sign: &'a [u8],
}

/// An instruction set that a kernel is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 generates, AMX tiles multiply.
    Amx,
    /// AVX-512 F, BW, DQ, VL, VBMI and VNNI, with VAES.
    Avx512,
    /// AVX2 with AES-NI.
    Avx2,
    /// Any CPU. The `aes` crate uses hardware AES where it finds it.
    Portable,
}

impl Isa {
    /// Every instruction set, best first.
    pub const ALL: [Self; 4] = [Self::Amx, Self::Avx512, Self::Avx2, Self::Portable];

    /// The name by which users choose it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// The instruction set of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isa| isa.name() == name)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The shape of a kernel's panels.
#[derive(Clone, Copy, Debug)]
pub struct PanelShape {
    /// What panels add to every entry of T. The initial value of sums must be −bias·Σx.
    pub bias: i32,
    /// The columns of a panel are a multiple of this.
    pub column_multiple: usize,
    /// The row blocks of a panel are a multiple of this.
    pub panel_blocks: usize,
    /// The columns of a full panel, which stays in cache while it is multiplied.
    pub panel_columns: usize,
    /// The largest magnitude that an element of a vector may have.
    pub max_input: u8,
    /// Whether the kernel writes a panel while it multiplies another one. Then two panels stay in cache.
    pub overlaps: bool,
    /// The time of one multiply-add in a panel over that of generating one entry. It decides between lists and panels.
    pub multiply_cost: f64,
}

impl PanelShape {
    /// The time of an entry of a panel with this many vectors, over that of generating it in registers. An entry of a panel
    /// is also written and read back.
    pub(crate) fn entry_cost(&self, n_vectors: usize) -> f64 {
        1.2 + self.multiply_cost * n_vectors as f64
    }

    /// Checks the sizes of a panel that is to be written.
    pub(super) fn check(&self, columns: &[u64], panel: &[u8]) {
        assert!(columns.len().is_multiple_of(self.column_multiple), "whole groups of columns");
        let unit = self.panel_blocks * BLOCK_COMPONENTS * columns.len();
        assert!(columns.is_empty() || panel.len().is_multiple_of(unit), "whole panels");
    }
}

/// A panel of T times a batch of int8 vectors: the arguments of [`Kernel::multiply`](super::Kernel::multiply).
#[derive(Debug)]
pub struct Product<'a> {
    /// The panel.
    pub panel: &'a [u8],
    /// Its columns.
    pub columns: usize,
    /// The vectors.
    pub x: &'a [i8],
    /// The largest magnitude that an element may have; at most [`PanelShape::max_input`].
    pub largest: u8,
    /// The distance from one vector to the next.
    pub x_stride: usize,
    /// The number of vectors.
    pub n_vectors: usize,
    /// The sums, to which is added.
    pub sums: &'a mut [i32],
    /// The distance from one vector's sums to the next vector's.
    pub sums_stride: usize,
}

impl Product<'_> {
    /// The number of row blocks of the panel.
    fn n_blocks(&self) -> usize {
        self.panel.len() / (BLOCK_COMPONENTS * self.columns)
    }

    /// Checks what the unchecked loads and stores of the kernels rely on.
    pub(super) fn check(&self, shape: &PanelShape) {
        if self.columns == 0 || self.n_vectors == 0 {
            return;
        }
        assert!(self.columns.is_multiple_of(shape.column_multiple), "whole groups of columns");
        assert!((1..=shape.max_input).contains(&self.largest), "elements as large as the kernel takes");
        assert_eq!(self.panel.len() % (shape.panel_blocks * BLOCK_COMPONENTS * self.columns), 0, "whole panels");
        let reach = |stride: usize, last: usize| {
            (self.n_vectors - 1).checked_mul(stride).and_then(|start| start.checked_add(last)).expect("in range")
        };
        assert!(reach(self.x_stride, self.columns) <= self.x.len(), "vectors within x");
        assert!(reach(self.sums_stride, self.n_blocks() * BLOCK_COMPONENTS) <= self.sums.len(), "sums within range");
    }
}

/// A panel to write: the arguments of [`Kernel::panel`](super::Kernel::panel).
#[derive(Debug)]
pub struct NextPanel<'a> {
    /// The columns of T.
    pub columns: &'a [u64],
    /// The first row block.
    pub row_block: u64,
    /// Where the panel is written.
    pub panel: &'a mut [u8],
}

/// One column of T over four row blocks, for [`Kernel::add_columns`](super::Kernel::add_columns): a cache line of entries
/// plus 128, in the order of components. All kernels have this layout.
///
/// They add columns as 16-bit lanes. A lane holds two components, low + 256 · high. One register sums the lanes (`pairs`) and
/// another their high halves (`highs`), both modulo 2¹⁶. So pairs − 256 · highs is the sum of the low halves. This takes one
/// shift for two components, where widening each of them takes two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct PanelColumn(pub [u8; COLUMN_COMPONENTS]);

impl Default for PanelColumn {
    fn default() -> Self {
        Self([0; COLUMN_COMPONENTS])
    }
}

/// What a [`PanelColumn`] adds to every entry of T.
pub(super) const COLUMN_BIAS: u8 = 128;

/// The most entries whose sum fits int16, whatever they are.
const INT16_ENTRIES: usize = i16::MAX as usize / MAX_MAGNITUDE as usize;

/// One sparse ternary vector over the columns of a panel: positions in the panel, in any order.
#[derive(Clone, Copy, Debug)]
pub struct SignedPositions<'a> {
    /// Where the vector is +1.
    pub positive: &'a [u16],
    /// Where it is −1.
    pub negative: &'a [u16],
}

impl<'a> SignedPositions<'a> {
    /// The same in runs whose sums fit int16.
    #[inline]
    pub(super) fn runs(self) -> impl Iterator<Item = Self> {
        let Self { mut positive, mut negative } = self;
        std::iter::from_fn(move || {
            let take = |rest: &mut &'a [u16], most: usize| {
                let (run, left) = rest.split_at(rest.len().min(most));
                *rest = left;
                run
            };
            let first = take(&mut positive, INT16_ENTRIES);
            let run = Self { positive: first, negative: take(&mut negative, INT16_ENTRIES - first.len()) };
            (!run.positive.is_empty() || !run.negative.is_empty()).then_some(run)
        })
    }

    /// −128 for each entry that is added and 128 for each that is subtracted: what takes off the bias of the columns.
    #[inline]
    pub(super) fn bias(self) -> i16 {
        ((self.negative.len() as i32 - self.positive.len() as i32) * i32::from(COLUMN_BIAS)) as i16
    }
}

/// The panels of columns of a kernel, and what they cost. All costs are relative to generating one entry of a list.
#[derive(Clone, Copy, Debug)]
pub struct ColumnShape {
    /// The columns of a full panel, which stays in a second-level cache.
    pub panel_columns: usize,
    /// The time to generate and write one entry.
    pub entry_cost: f64,
    /// The time to add one entry to a sum.
    pub addition_cost: f64,
    /// The time for each sum and panel, however few entries are added.
    pub sum_cost: f64,
}

impl ColumnShape {
    /// The time of one component over `columns` columns for vectors with `nonzeros` nonzeros together, over that of
    /// generating one entry of a list.
    #[must_use]
    pub fn cost(&self, columns: u64, n_vectors: usize, nonzeros: u64) -> f64 {
        let sums = columns.div_ceil(self.panel_columns as u64) * n_vectors as u64;
        columns as f64 * self.entry_cost + nonzeros as f64 * self.addition_cost + sums as f64 * self.sum_cost
    }
}

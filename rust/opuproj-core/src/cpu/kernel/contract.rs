//! The contract of all kernels: the instruction sets, the shapes of panels, and the arguments of the inner loops.

use std::fmt;

use crate::definition::transmission::BLOCK_COMPONENTS;

/// The row blocks of a tile are a multiple of this, because the kernels unroll over this many.
pub const TILE_BLOCKS: usize = 8;

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
    /// The time of one multiply-add in a panel over that of generating one entry. It decides between lists and panels.
    pub multiply_cost: f64,
}

impl PanelShape {
    /// The time of an entry of a panel with this many vectors, over that of generating it in registers. An entry of a panel
    /// is also written and read back.
    pub(crate) fn entry_cost(&self, n_vectors: usize) -> f64 {
        1.2 + self.multiply_cost * n_vectors as f64
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

//! The contract of all kernels: the instruction sets, the shapes of panels, and the arguments of the inner loops.

use std::fmt;

use crate::definition::transmission::BLOCK_COMPONENTS;

/// Row blocks per tile are a multiple of this: what the kernels unroll over.
pub const TILE_BLOCKS: usize = 8;

/// Columns of T with the sign of the input on each: one sparse ternary vector.
#[derive(Clone, Copy, Debug)]
pub struct SignedColumns<'a> {
    /// The columns, in any order.
    pub index: &'a [u64],
    /// 0 where the input is +1, 128 where it is −1: the bit that turns a keystream byte's sign.
    pub sign: &'a [u8],
}

/// An instruction set that a kernel is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 for generating and AMX tiles for multiplying.
    Amx,
    /// AVX-512 F, BW, DQ, VL, VBMI and VNNI, with VAES.
    Avx512,
    /// AVX2 with AES-NI.
    Avx2,
    /// Any CPU; hardware AES where the `aes` crate finds it.
    Portable,
}

impl Isa {
    /// Every instruction set, best first.
    pub const ALL: [Self; 4] = [Self::Amx, Self::Avx512, Self::Avx2, Self::Portable];

    /// The name that users choose it by.
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

/// The sizes that a kernel's panels come in.
#[derive(Clone, Copy, Debug)]
pub struct PanelShape {
    /// What panels add to every entry of T: sums must begin at −bias·Σx.
    pub bias: i32,
    /// Columns of a panel are a multiple of this.
    pub column_multiple: usize,
    /// Row blocks of a panel are a multiple of this.
    pub panel_blocks: usize,
    /// The columns that a panel had best have, so that it stays in cache while it is multiplied.
    pub panel_columns: usize,
    /// The largest magnitude that an element of a vector may have.
    pub max_input: u8,
    /// The time of one multiply-add in a panel over that of generating one entry: what decides between one vector at a
    /// time and panels.
    pub multiply_cost: f64,
}

impl PanelShape {
    /// The time that an entry of a panel takes with so many vectors, over that of generating it in registers: a panel's
    /// entry is also written and read back.
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
    /// No element of them is larger, and [`PanelShape::max_input`] is not smaller.
    pub largest: u8,
    /// From one vector to the next.
    pub x_stride: usize,
    /// How many vectors.
    pub n_vectors: usize,
    /// Where the sums are added.
    pub sums: &'a mut [i32],
    /// From one vector's sums to the next one's.
    pub sums_stride: usize,
}

impl Product<'_> {
    /// The row blocks of the panel.
    fn n_blocks(&self) -> usize {
        self.panel.len() / (BLOCK_COMPONENTS * self.columns)
    }

    /// What the unchecked loads and stores of the kernels rest on.
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

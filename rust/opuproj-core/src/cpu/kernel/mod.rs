//! The inner loops: a file or folder for each instruction set, one contract, the same integers from each.
//!
//! A [`Kernel`] value proves that this CPU has its instructions. So its methods are safe to call. It has these operations
//! on consecutive row blocks and a list of columns:
//!
//! * [`field`](Kernel::field): Tx of one vector. Entries of T are generated and summed in registers, never stored.
//! * [`panel`](Kernel::panel): a panel of T as bytes, in a layout that each kernel chooses.
//! * [`multiply`](Kernel::multiply): such a panel times many int8 vectors.
//! * [`multiply_and_panel`](Kernel::multiply_and_panel): both, the product with one panel and the writing of the next one.
//! * [`column_panel`](Kernel::column_panel): a panel of T whose columns are contiguous.
//! * [`add_columns`](Kernel::add_columns): such a panel times one sparse ternary vector: the sum of the columns that it uses.
//!
//! The adjoint has one, [`transposed`](Kernel::transposed): a panel for `multiply` with rows and columns exchanged. Packing
//! has one, `planes`.
//!
//! Sums are int32 and wrap. They are exact because callers add up longer sums, in 64 bits, from parts that fit int32: see
//! [`INT32_NONZEROS`](crate::definition::transmission::INT32_NONZEROS).

#![allow(clippy::unused_self, reason = "a kernel's value proves that its instructions exist")]

mod contract;
mod portable;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod safe;

pub use contract::{
    COLUMN_BLOCKS, COLUMN_COMPONENTS, ColumnShape, Isa, NextPanel, PanelColumn, PanelShape, Product, SignedColumns,
    SignedPositions, TILE_BLOCKS,
};
pub(crate) use portable::keystream_blocks;

use crate::definition::transmission::{BLOCK_COMPONENTS, Transmission};

/// The inner loops on one instruction set that this CPU has.
#[derive(Clone, Copy, Debug)]
pub struct Kernel(Inner);

#[derive(Clone, Copy, Debug)]
enum Inner {
    #[cfg(target_arch = "x86_64")]
    Amx(amx::Amx),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    Portable(portable::Portable),
}

/// Calls the method of the kernel's instruction set.
macro_rules! dispatch {
    ($kernel:expr, $inner:ident => $call:expr) => {
        match $kernel.0 {
            #[cfg(target_arch = "x86_64")]
            Inner::Amx($inner) => $call,
            #[cfg(target_arch = "x86_64")]
            Inner::Avx512($inner) => $call,
            #[cfg(target_arch = "x86_64")]
            Inner::Avx2($inner) => $call,
            Inner::Portable($inner) => $call,
        }
    };
}

impl Kernel {
    /// The kernel of `isa`, if this CPU (and its operating system) can run it.
    #[must_use]
    pub fn new(isa: Isa) -> Option<Self> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => amx::Amx::new().map(Inner::Amx),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::Avx512::new().map(Inner::Avx512),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::Avx2::new().map(Inner::Avx2),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Amx | Isa::Avx512 | Isa::Avx2 => None,
            Isa::Portable => Some(Inner::Portable(portable::Portable)),
        }
        .map(Self)
    }

    /// The AMX kernel on a CPU that may lack AMX, for tests that emulate its six tile instructions.
    ///
    /// `None` if the CPU lacks the AVX-512 instructions that this kernel also uses.
    ///
    /// # Safety
    ///
    /// The process must execute AMX tile instructions, in hardware or in a handler of the illegal-instruction trap.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    #[must_use]
    pub unsafe fn amx_unchecked() -> Option<Self> {
        // SAFETY: the caller guarantees that tile instructions are executed.
        unsafe { amx::Amx::new_unchecked() }.map(|amx| Self(Inner::Amx(amx)))
    }

    /// The best kernel of this CPU.
    ///
    /// # Panics
    ///
    /// Never: the portable kernel runs anywhere.
    #[must_use]
    pub fn best() -> Self {
        Isa::ALL.into_iter().find_map(Self::new).expect("the portable kernel runs anywhere")
    }

    /// All kernels of this CPU, best first.
    pub fn available() -> impl Iterator<Item = Self> {
        Isa::ALL.into_iter().filter_map(Self::new)
    }

    /// Its instruction set.
    #[must_use]
    pub fn isa(self) -> Isa {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Inner::Amx(_) => Isa::Amx,
            #[cfg(target_arch = "x86_64")]
            Inner::Avx512(_) => Isa::Avx512,
            #[cfg(target_arch = "x86_64")]
            Inner::Avx2(_) => Isa::Avx2,
            Inner::Portable(_) => Isa::Portable,
        }
    }

    /// Adds Tx to `sums`, for the rows of `sums.len() / 16` row blocks from `row_block` on.
    ///
    /// # Panics
    ///
    /// If there is not one sign for each column, or `sums` is not a whole number of [`TILE_BLOCKS`] blocks.
    pub fn field(self, t: &Transmission, x: SignedColumns<'_>, row_block: u64, sums: &mut [i32]) {
        assert_eq!(x.index.len(), x.sign.len(), "one sign a column");
        assert!(sums.len().is_multiple_of(TILE_BLOCKS * BLOCK_COMPONENTS), "whole tiles of row blocks");
        dispatch!(self, kernel => kernel.field(t, x, row_block, sums));
    }

    /// Writes T at `columns` for `panel.len() / (16 · columns.len())` row blocks from `row_block` on.
    ///
    /// # Panics
    ///
    /// If the number of columns is not a multiple of [`PanelShape::column_multiple`], or the panel is not a whole
    /// number of [`PanelShape::panel_blocks`] row blocks.
    pub fn panel(self, t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
        self.panel_shape().check(columns, panel);
        if !columns.is_empty() {
            dispatch!(self, kernel => kernel.panel(t, columns, row_block, panel));
        }
    }

    /// Writes the transposed panel of `row_blocks`, for `panel.len() / (16 · row_blocks.len())` columns from `column` on.
    ///
    /// For [`multiply`](Self::multiply) it is a panel whose columns are the 16 components of each row block in turn, and whose
    /// sums belong to the columns of T.
    ///
    /// # Panics
    ///
    /// If the number of components is not a multiple of [`PanelShape::column_multiple`], or the panel is not a whole number of
    /// [`PanelShape::panel_blocks`] times 16 columns.
    pub fn transposed(self, t: &Transmission, column: u64, row_blocks: &[u64], panel: &mut [u8]) {
        let components = row_blocks.len() * BLOCK_COMPONENTS;
        assert!(components.is_multiple_of(self.panel_shape().column_multiple), "whole groups of components");
        assert!(
            components == 0
                || panel.len().is_multiple_of(self.panel_shape().panel_blocks * BLOCK_COMPONENTS * components),
            "whole panels"
        );
        if components > 0 {
            dispatch!(self, kernel => kernel.transposed(t, column, row_blocks, panel));
        }
    }

    /// Adds (T + bias)·x to the sums of each vector, for a panel that [`panel`](Self::panel) wrote from `columns` columns.
    ///
    /// Vector v is `x[v · x_stride..][..columns]`. Its sums begin at `sums[v · sums_stride]`, 16 for each row block.
    ///
    /// # Panics
    ///
    /// If a vector or its sums reach beyond the slices.
    pub fn multiply(self, product: Product<'_>) {
        product.check(self.panel_shape());
        if product.columns > 0 && product.n_vectors > 0 {
            dispatch!(self, kernel => kernel.multiply(product));
        }
    }

    /// Does what [`multiply`](Self::multiply) and [`panel`](Self::panel) do: multiplies one panel and writes another one. If
    /// its shape [`overlaps`](PanelShape::overlaps), this takes less time than the two calls.
    ///
    /// # Panics
    ///
    /// As these do.
    pub fn multiply_and_panel(self, product: Product<'_>, t: &Transmission, next: NextPanel<'_>) {
        #[cfg(target_arch = "x86_64")]
        if let Inner::Amx(amx) = self.0
            && product.columns > 0
            && product.n_vectors > 0
            && !next.columns.is_empty()
        {
            product.check(self.panel_shape());
            self.panel_shape().check(next.columns, next.panel);
            return amx.multiply_and_panel(product, t, next);
        }
        self.multiply(product);
        self.panel(t, next.columns, next.row_block, next.panel);
    }

    /// The shape of its panels.
    #[must_use]
    pub fn panel_shape(self) -> &'static PanelShape {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Inner::Amx(_) => &amx::Amx::SHAPE,
            #[cfg(target_arch = "x86_64")]
            Inner::Avx512(_) => &avx512::Avx512::SHAPE,
            #[cfg(target_arch = "x86_64")]
            Inner::Avx2(_) => &avx2::Avx2::SHAPE,
            Inner::Portable(_) => &portable::Portable::SHAPE,
        }
    }

    /// Writes T at `columns`, one in each of `panel`, for [`COLUMN_BLOCKS`] row blocks from `row_block` on.
    ///
    /// # Panics
    ///
    /// If the panel does not have one column for each of `columns`.
    pub fn column_panel(self, t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [PanelColumn]) {
        assert_eq!(columns.len(), panel.len(), "one column of the panel for each of T");
        dispatch!(self, kernel => kernel.column_panel(t, columns, row_block, panel));
    }

    /// Adds Tx to `sums`, for a panel that [`column_panel`](Self::column_panel) wrote and a vector with any number of
    /// nonzeros in it.
    ///
    /// # Panics
    ///
    /// If the panel has no such position.
    pub fn add_columns(self, panel: &[PanelColumn], x: SignedPositions<'_>, sums: &mut [i32; COLUMN_COMPONENTS]) {
        dispatch!(self, kernel => kernel.add_columns(panel, x, sums));
    }

    /// The shape of its panels of columns.
    #[must_use]
    pub fn column_shape(self) -> &'static ColumnShape {
        match self.0 {
            // All of it is in AVX-512.
            #[cfg(target_arch = "x86_64")]
            Inner::Amx(_) | Inner::Avx512(_) => &avx512::Avx512::COLUMNS,
            #[cfg(target_arch = "x86_64")]
            Inner::Avx2(_) => &avx2::Avx2::COLUMNS,
            Inner::Portable(_) => &portable::Portable::COLUMNS,
        }
    }

    /// Runs `work`, compiled for this instruction set: a plain loop that the compiler vectorises.
    #[inline]
    pub fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        dispatch!(self, kernel => kernel.vectorize(work))
    }

    /// Makes planes of codes 1, −1 and 0, a word for each 64 codes. Returns whether there was any other code (2).
    ///
    /// # Panics
    ///
    /// If a plane does not have a word for each 64 codes.
    #[inline]
    pub(crate) fn planes(self, codes: &[[i8; 64]], positive: &mut [u64], negative: &mut [u64]) -> bool {
        assert!(codes.len() == positive.len() && codes.len() == negative.len(), "a word for 64 codes");
        dispatch!(self, kernel => kernel.planes(codes, positive, negative))
    }

    /// Prefetches numbers that will be read soon.
    #[inline]
    pub(crate) fn prefetch<T>(numbers: &[T]) {
        #[cfg(target_arch = "x86_64")]
        for line in (0..size_of_val(numbers)).step_by(64) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch of any address is sound.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(numbers.as_ptr().wrapping_byte_add(line).cast()) }
        }
    }

    /// Generates `n_bytes` of bare keystream in registers and folds it, as an upper limit for benchmarks.
    #[must_use]
    pub fn keystream(self, t: &Transmission, n_bytes: u64) -> u64 {
        dispatch!(self, kernel => kernel.keystream(t, n_bytes))
    }
}

#[cfg(test)]
mod tests;

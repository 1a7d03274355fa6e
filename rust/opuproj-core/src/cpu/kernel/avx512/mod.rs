//! The kernel for AVX-512: 512-bit AES rounds, a 128-byte table in two registers, and VNNI.
//!
//! A 64-byte register holds one row block of a quad of columns, a column a lane. One byte permutation turns it into the
//! quads that VNNI sums: 16 components, each with its four columns side by side.

mod columns;
mod field;
mod generator;
mod multiply;
mod pack;
mod panel;
mod sizes;

use super::contract::{
    COLUMN_COMPONENTS, ColumnShape, PanelColumn, PanelShape, Product, SignedColumns, SignedPositions,
};
use super::safe::safe_methods;
use crate::definition::transmission::Transmission;
use columns::{add_columns, column_panel};
use field::field;
use generator::keystream;
use multiply::multiply;
use pack::planes;
pub(super) use panel::PanelWriter;
use panel::{panel, transposed};
use sizes::{PANEL_BLOCKS, QUAD};

/// One operand of VNNI is unsigned, so panels hold T + 128.
const BIAS: u8 = 128;

/// The kernel for AVX-512.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) const SHAPE: PanelShape = PanelShape {
        bias: BIAS as i32,
        column_multiple: QUAD,
        panel_blocks: PANEL_BLOCKS,
        // 4 blocks × 16 × 512 bytes: two thirds of a 48 KiB first-level cache.
        panel_columns: 512,
        max_input: 127,
        overlaps: false,
        multiply_cost: 0.1,
    };

    // The costs are predicted from the number of instructions, not measured.
    pub(super) const COLUMNS: ColumnShape =
        ColumnShape { panel_columns: 2048, entry_cost: 1.2, addition_cost: 0.27, sum_cost: 6.5 };

    pub(super) fn new() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("vaes");
        found.then_some(Self(()))
    }

    /// A panel without the bias, for AMX tiles, which multiply signed by signed.
    pub(super) fn signed_panel(self, t: &Transmission, columns: &[u64], row_block: u64, output: &mut [u8]) {
        // SAFETY: a value of this type exists only where `new` found the instructions.
        unsafe { panel::<0>(t, columns, row_block, output) }
    }

    /// A transposed panel without the bias.
    pub(super) fn signed_transposed(self, t: &Transmission, column: u64, row_blocks: &[u64], output: &mut [u8]) {
        // SAFETY: as in `signed_panel`.
        unsafe { transposed::<0>(t, column, row_blocks, output) }
    }
}

safe_methods!(
    Avx512,
    "avx512f,avx512bw,avx512vl,avx512dq",
    field,
    panel::<BIAS>,
    transposed::<BIAS>,
    multiply,
    column_panel,
    add_columns,
    planes,
    keystream
);

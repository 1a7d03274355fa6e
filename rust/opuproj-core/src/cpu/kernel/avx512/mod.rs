//! The kernel for AVX-512: 512-bit AES rounds, a 128-byte table in two registers, and VNNI.
//!
//! A 64-byte register holds one row block of a quad of columns, a column a lane. One byte permutation turns it into the
//! quads that VNNI sums: 16 components, each with its four columns side by side.

mod field;
mod generator;
mod multiply;
mod pack;
mod panel;
mod sizes;

use super::contract::{PanelShape, Product, SignedColumns};
use crate::definition::transmission::Transmission;
use field::field;
use generator::keystream;
use multiply::multiply;
use pack::planes;
use panel::{panel_of, transposed_of};
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
        multiply_cost: 0.05,
    };

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

    pub(super) fn field(self, t: &Transmission, x: SignedColumns<'_>, row_block: u64, sums: &mut [i32]) {
        // SAFETY: a value of this type exists only where `new` found the instructions.
        unsafe { field(t, x, row_block, sums) }
    }

    /// Layout: row block, quad of columns, component, column.
    pub(super) fn panel(self, t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
        // SAFETY: as in `field`.
        unsafe { panel_of::<BIAS>(t, columns, row_block, panel) }
    }

    /// The same layout without the bias, for AMX tiles, which multiply signed by signed.
    pub(super) fn signed_panel(self, t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
        // SAFETY: as in `field`.
        unsafe { panel_of::<0>(t, columns, row_block, panel) }
    }

    /// Layout: 16 columns, quad of components, column, component.
    pub(super) fn transposed(self, t: &Transmission, column: u64, row_blocks: &[u64], panel: &mut [u8]) {
        // SAFETY: as in `field`.
        unsafe { transposed_of::<BIAS>(t, column, row_blocks, panel) }
    }

    /// The same layout without the bias.
    pub(super) fn signed_transposed(self, t: &Transmission, column: u64, row_blocks: &[u64], panel: &mut [u8]) {
        // SAFETY: as in `field`.
        unsafe { transposed_of::<0>(t, column, row_blocks, panel) }
    }

    pub(super) fn multiply(self, product: Product<'_>) {
        // SAFETY: as in `field`; `Kernel::multiply` has checked that vectors and sums lie within their slices.
        unsafe { multiply(product) }
    }

    #[inline]
    pub(super) fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        fn run<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: as in `field`.
        unsafe { run(work) }
    }

    pub(super) fn planes(self, codes: &[[i8; 64]], positive: &mut [u64], negative: &mut [u64]) -> bool {
        // SAFETY: as in `field`.
        unsafe { planes(codes, positive, negative) }
    }

    pub(super) fn keystream(self, t: &Transmission, n_bytes: u64) -> u64 {
        // SAFETY: as in `field`.
        unsafe { keystream(t, n_bytes) }
    }
}

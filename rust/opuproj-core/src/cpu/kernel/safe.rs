//! The methods of a kernel, safe to call because a value of the kernel's type proves that its instructions exist.

/// Implements the methods of `$kernel` by functions that need the instructions that its `new` detects. `$features` are those
/// for which the compiler vectorises plain loops.
macro_rules! safe_methods {
    (
        $kernel:ident, $features:literal,
        $field:expr, $panel:expr, $transposed:expr, $multiply:expr, $column_panel:expr, $add_columns:expr,
        $planes:expr, $keystream:expr
    ) => {
        impl $kernel {
            pub(super) fn field(self, t: &Transmission, x: SignedColumns<'_>, row_block: u64, sums: &mut [i32]) {
                // SAFETY: a value of this type exists only where `new` found the instructions.
                unsafe { $field(t, x, row_block, sums) }
            }

            pub(super) fn panel(self, t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
                // SAFETY: as in `field`.
                unsafe { $panel(t, columns, row_block, panel) }
            }

            pub(super) fn transposed(self, t: &Transmission, column: u64, row_blocks: &[u64], panel: &mut [u8]) {
                // SAFETY: as in `field`.
                unsafe { $transposed(t, column, row_blocks, panel) }
            }

            pub(super) fn multiply(self, product: Product<'_>) {
                // SAFETY: as in `field`; `Kernel::multiply` has checked that vectors and sums lie within their slices.
                unsafe { $multiply(product) }
            }

            pub(super) fn column_panel(
                self,
                t: &Transmission,
                columns: &[u64],
                row_block: u64,
                panel: &mut [PanelColumn],
            ) {
                // SAFETY: as in `field`.
                unsafe { $column_panel(t, columns, row_block, panel) }
            }

            #[inline]
            pub(super) fn add_columns(
                self,
                panel: &[PanelColumn],
                x: SignedPositions<'_>,
                sums: &mut [i32; COLUMN_COMPONENTS],
            ) {
                // SAFETY: as in `field`.
                unsafe { $add_columns(panel, x, sums) }
            }

            #[inline]
            pub(super) fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
                #[target_feature(enable = $features)]
                fn run<R>(work: impl FnOnce() -> R) -> R {
                    work()
                }
                // SAFETY: as in `field`.
                unsafe { run(work) }
            }

            #[inline]
            pub(super) fn planes(self, codes: &[[i8; 64]], positive: &mut [u64], negative: &mut [u64]) -> bool {
                // SAFETY: as in `field`.
                unsafe { $planes(codes, positive, negative) }
            }

            pub(super) fn keystream(self, t: &Transmission, n_bytes: u64) -> u64 {
                // SAFETY: as in `field`.
                unsafe { $keystream(t, n_bytes) }
            }
        }
    };
}

pub(super) use safe_methods;

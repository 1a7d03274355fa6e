//! The kernel for AMX: T is generated as in the AVX-512 kernel, and panels are multiplied in tiles, int8 by int8.
//!
//! A tile holds 16 rows of 64 bytes. One tile has 64 inputs of each of sixteen vectors, another has 64 columns of a row
//! block. The tile product uses the same quads of columns as VNNI. Stable Rust has no AMX intrinsics, so the instructions
//! are in `asm!`.
//!
//! Tile products take 64 cycles a step and leave the vector units free. So parts of the next panel are generated between
//! the steps. The CPU executes both at once, because its scheduler looks a few steps ahead.

use std::arch::asm;

use super::avx512::{Avx512, PanelWriter};
use super::contract::{COLUMN_COMPONENTS, NextPanel, PanelColumn, PanelShape, Product, SignedColumns, SignedPositions};
use crate::definition::transmission::{BLOCK_COMPONENTS, Transmission};

/// Columns in a tile, and bytes in a row of one.
const TILE_COLUMNS: usize = 64;

/// Vectors in a tile.
const TILE_VECTORS: usize = 16;

/// Row blocks of a panel: 16 × 16 × 1024 bytes stay in a second-level cache, and each load of inputs serves all of them.
const PANEL_BLOCKS: usize = 16;

/// Bytes of a tile of 64 columns of a row block.
const TILE_BYTES: usize = BLOCK_COMPONENTS * TILE_COLUMNS;

/// The kernel for AMX.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amx(Avx512);

impl Amx {
    pub(super) const SHAPE: PanelShape = PanelShape {
        bias: 0,
        column_multiple: TILE_COLUMNS,
        panel_blocks: PANEL_BLOCKS,
        // With this the inputs of 32 vectors fill two thirds of a 48 KiB first-level cache.
        panel_columns: 1024,
        max_input: 127,
        overlaps: true,
        multiply_cost: 0.015,
    };

    pub(super) fn new() -> Option<Self> {
        // SAFETY: the CPU has tiles, and the system permits this process to use them.
        if permitted() { unsafe { Self::new_unchecked() } } else { None }
    }

    /// # Safety
    ///
    /// The process must execute tile instructions.
    pub(super) unsafe fn new_unchecked() -> Option<Self> {
        Avx512::new().map(Self)
    }

    pub(super) fn field(self, t: &Transmission, x: SignedColumns<'_>, row_block: u64, sums: &mut [i32]) {
        self.0.field(t, x, row_block, sums);
    }

    /// Layout: row block, quad of columns, component, column.
    pub(super) fn panel(self, t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [u8]) {
        self.0.signed_panel(t, columns, row_block, panel);
    }

    /// Layout: 16 columns, quad of components, column, component.
    pub(super) fn transposed(self, t: &Transmission, column: u64, row_blocks: &[u64], panel: &mut [u8]) {
        self.0.signed_transposed(t, column, row_blocks, panel);
    }

    pub(super) fn multiply(self, product: Product<'_>) {
        // SAFETY: a value of this type exists only in a process that executes tile instructions; `Kernel::multiply` has
        // checked that vectors and sums lie within their slices.
        unsafe { multiply(product, || ()) }
    }

    pub(super) fn multiply_and_panel(self, product: Product<'_>, t: &Transmission, next: NextPanel<'_>) {
        // SAFETY: as in `multiply`; the AVX-512 kernel has found the other instructions.
        unsafe { multiply_and_panel(product, t, next) }
    }

    pub(super) fn column_panel(self, t: &Transmission, columns: &[u64], row_block: u64, panel: &mut [PanelColumn]) {
        self.0.column_panel(t, columns, row_block, panel);
    }

    #[inline]
    pub(super) fn add_columns(
        self,
        panel: &[PanelColumn],
        x: SignedPositions<'_>,
        sums: &mut [i32; COLUMN_COMPONENTS],
    ) {
        self.0.add_columns(panel, x, sums);
    }

    #[inline]
    pub(super) fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        self.0.vectorize(work)
    }

    pub(super) fn planes(self, codes: &[[i8; 64]], positive: &mut [u64], negative: &mut [u64]) -> bool {
        self.0.planes(codes, positive, negative)
    }

    pub(super) fn keystream(self, t: &Transmission, n_bytes: u64) -> u64 {
        self.0.keystream(t, n_bytes)
    }
}

/// Whether the CPU has int8 tiles and the system permits them. It asks the system once.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    use std::arch::x86_64::{__cpuid_count, _xgetbv};
    use std::sync::OnceLock;

    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| {
        const TILES_AND_INT8: u32 = 0b11 << 24;
        const TILE_STATE: u64 = 0b11 << 17;
        #[target_feature(enable = "xsave")]
        fn enabled_state() -> u64 {
            // SAFETY: a CPU with XSAVE has register 0.
            unsafe { _xgetbv(0) }
        }
        if !is_x86_feature_detected!("avx512f") || __cpuid_count(7, 0).edx & TILES_AND_INT8 != TILES_AND_INT8 {
            return false;
        }
        // SAFETY: AVX-512 was detected, for which the standard library checks XSAVE.
        if unsafe { enabled_state() } & TILE_STATE != TILE_STATE {
            return false;
        }
        let (arch_prctl, request_permission, tile_data) = (158i64, 0x1023i64, 18i64);
        let result: i64;
        // SAFETY: the system call takes two numbers and changes only this process's permission.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") arch_prctl => result,
                in("rdi") request_permission,
                in("rsi") tile_data,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    })
}

/// Only Linux is supported.
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The operand of `ldtilecfg`: tiles of `vectors` rows for sums (0 to 3) and inputs (4, 5), and of a quad of columns a row
/// for T (6, 7).
#[repr(C, align(64))]
struct TileShapes([u8; 64]);

impl TileShapes {
    fn new(vectors: usize) -> Self {
        let mut shapes = [0; 64];
        shapes[0] = 1;
        for tile in 0..8 {
            shapes[16 + 2 * tile] = 64;
            shapes[48 + tile] = if tile < 6 { vectors as u8 } else { (TILE_COLUMNS / 4) as u8 };
        }
        Self(shapes)
    }
}

/// Multiplies a panel and generates the next one meanwhile; see `Kernel::multiply_and_panel`.
///
/// # Safety
///
/// As of `multiply`.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
unsafe fn multiply_and_panel(product: Product<'_>, t: &Transmission, next: NextPanel<'_>) {
    let NextPanel { columns, row_block, panel } = next;
    let mut writer = PanelWriter::new::<0>(t, columns, row_block, panel);
    let (n_quads, n_steps) = (writer.left(), product.n_steps());
    let mut due = 0;
    // SAFETY: as the caller guarantees.
    unsafe {
        multiply(product, || {
            // Each step writes its share: all quads are written after the last step.
            due += n_quads;
            writer.write(due / n_steps);
            due %= n_steps;
        });
    }
    // There are no steps if there are few vectors.
    writer.write(writer.left());
}

impl Product<'_> {
    /// The number of steps of two row blocks, 64 columns and two tiles of vectors.
    fn n_steps(&self) -> usize {
        self.n_vectors / (2 * TILE_VECTORS) * (self.panel.len() / (2 * TILE_BYTES))
    }
}

/// Multiplies a panel; see `Kernel::multiply`. After each of the `n_steps` of the product it calls `between`.
///
/// # Safety
///
/// `Product::check` has passed, and the process executes tile instructions.
#[inline]
unsafe fn multiply(product: Product<'_>, mut between: impl FnMut()) {
    let Product { panel, columns, x, largest: _, x_stride, n_vectors, sums, sums_stride } = product;
    let mut first = 0;
    while first < n_vectors {
        let left = n_vectors - first;
        let paired = left >= 2 * TILE_VECTORS;
        let vectors = left.min(TILE_VECTORS);
        if first == 0 || left < TILE_VECTORS {
            let shapes = TileShapes::new(vectors);
            // SAFETY: reads 64 bytes of a struct of 64.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly, preserves_flags)) };
        }
        for (pair, blocks) in panel.chunks_exact(2 * BLOCK_COMPONENTS * columns).enumerate() {
            // SAFETY: the vectors from `first` on, and their sums for this pair of row blocks, lie within their slices.
            unsafe {
                let operands = Operands {
                    blocks: blocks.as_ptr(),
                    columns,
                    x: x.as_ptr().add(first * x_stride),
                    x_stride,
                    sums: sums.as_mut_ptr().add(first * sums_stride + pair * 2 * BLOCK_COMPONENTS),
                    sums_stride,
                };
                if paired { operands.multiply_two(&mut between) } else { operands.multiply_one() }
            }
        }
        first += if paired { 2 * TILE_VECTORS } else { vectors };
    }
    // SAFETY: only this function configures tiles. Released tiles cost the next task switch nothing.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
}

/// Two row blocks of T, and the vectors that they are multiplied by.
struct Operands {
    blocks: *const u8,
    columns: usize,
    x: *const i8,
    x_stride: usize,
    sums: *mut i32,
    sums_stride: usize,
}

impl Operands {
    /// Two row blocks times two tiles of vectors: four products for four loads. Tiles keep their contents from one `asm!`
    /// to the next, because the compiler does not use them.
    ///
    /// # Safety
    ///
    /// Tiles are configured for 16 vectors; two blocks, 32 vectors and their 2 × 16 sums each can be accessed.
    #[inline]
    unsafe fn multiply_two(self, between: &mut impl FnMut()) {
        // SAFETY: the offsets are those of the second block, of the vectors from 16 on, and of 64 columns for each step.
        unsafe {
            let (c0, c1) = (self.sums, self.sums.add(TILE_VECTORS * self.sums_stride));
            let c_stride = self.sums_stride * size_of::<i32>();
            asm!(
                "tileloadd tmm0, [{c0} + {c_stride}]",
                "tileloadd tmm1, [{c0} + {c_stride} + 64]",
                "tileloadd tmm2, [{c1} + {c_stride}]",
                "tileloadd tmm3, [{c1} + {c_stride} + 64]",
                c0 = in(reg) c0,
                c1 = in(reg) c1,
                c_stride = in(reg) c_stride,
                options(nostack, readonly, preserves_flags),
            );
            for step in 0..self.columns / TILE_COLUMNS {
                let (a, b) = (self.x.add(step * TILE_COLUMNS), self.blocks.add(step * TILE_BYTES));
                asm!(
                    "tileloadd tmm6, [{b0} + {b_stride}]",
                    "tileloadd tmm4, [{a0} + {a_stride}]",
                    "tdpbssd tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b1} + {b_stride}]",
                    "tdpbssd tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a1} + {a_stride}]",
                    "tdpbssd tmm2, tmm5, tmm6",
                    "tdpbssd tmm3, tmm5, tmm7",
                    a0 = in(reg) a,
                    a1 = in(reg) a.add(TILE_VECTORS * self.x_stride),
                    a_stride = in(reg) self.x_stride,
                    b0 = in(reg) b,
                    b1 = in(reg) b.add(BLOCK_COMPONENTS * self.columns),
                    b_stride = in(reg) TILE_COLUMNS,
                    options(nostack, readonly, preserves_flags),
                );
                between();
            }
            asm!(
                "tilestored [{c0} + {c_stride}], tmm0",
                "tilestored [{c0} + {c_stride} + 64], tmm1",
                "tilestored [{c1} + {c_stride}], tmm2",
                "tilestored [{c1} + {c_stride} + 64], tmm3",
                c0 = in(reg) c0,
                c1 = in(reg) c1,
                c_stride = in(reg) c_stride,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Two row blocks times one tile of vectors.
    ///
    /// # Safety
    ///
    /// Tiles are configured for a number of vectors; these, their 2 × 16 sums each and two blocks can be accessed.
    #[inline]
    unsafe fn multiply_one(self) {
        // SAFETY: the offset is that of the second block.
        unsafe {
            asm!(
                "tileloadd tmm0, [{c0} + {c_stride}]",
                "tileloadd tmm1, [{c0} + {c_stride} + 64]",
                "2:",
                "tileloadd tmm4, [{a0} + {a_stride}]",
                "tileloadd tmm6, [{b0} + {b_stride}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {b_stride}]",
                "tdpbssd tmm1, tmm4, tmm7",
                "add {b0}, {tile_bytes}",
                "add {b1}, {tile_bytes}",
                "add {a0}, 64",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c0} + {c_stride}], tmm0",
                "tilestored [{c0} + {c_stride} + 64], tmm1",
                tile_bytes = const TILE_BYTES,
                c0 = in(reg) self.sums,
                c_stride = in(reg) self.sums_stride * size_of::<i32>(),
                a0 = inout(reg) self.x => _,
                a_stride = in(reg) self.x_stride,
                b0 = inout(reg) self.blocks => _,
                b1 = inout(reg) self.blocks.add(BLOCK_COMPONENTS * self.columns) => _,
                b_stride = in(reg) TILE_COLUMNS,
                steps = inout(reg) self.columns / TILE_COLUMNS => _,
                options(nostack),
            );
        }
    }
}

//! The two limits of a projection, for benchmarks: the bare keystream, and the bare multiplication of a panel in cache.
//!
//! This keystream is generated block by block. Projections compute its first round once for many blocks, so they may be
//! faster. Benchmarks time these in the same run as the projection, so that a drift of the machine's speed affects both.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::kernel::{Isa, Kernel, Product};
use crate::definition::transmission::{BLOCK_COMPONENTS, Transmission};

/// The time to generate `n_bytes` bytes of ARS4x32-7, one component each, without using them.
#[must_use]
pub fn keystream(kernel: Kernel, n_bytes: u64) -> Duration {
    let t = Transmission::new(black_box(1));
    let start = Instant::now();
    black_box(kernel.keystream(&t, n_bytes));
    start.elapsed()
}

/// The time of `n` multiply-adds of a panel with vectors, both in cache. The panel is not generated again.
#[must_use]
pub fn multiply(kernel: Kernel, n: u64) -> Duration {
    // Whole tiles of AMX and whole unrolled loops of the others, but few enough to stay in cache beside the panel.
    let n_vectors = if kernel.isa() == Isa::Amx { 32 } else { 24 };
    let columns = kernel.panel_shape().panel_columns.next_multiple_of(kernel.panel_shape().column_multiple);
    let per_vector = kernel.panel_shape().panel_blocks * BLOCK_COMPONENTS;
    let mut panel = vec![0; per_vector * columns];
    let index: Vec<u64> = (0..columns as u64).collect();
    kernel.panel(&Transmission::new(1), &index, 0, &mut panel);
    let x: Vec<i8> = (0..n_vectors * columns).map(|k| (k % 3) as i8 - 1).collect();
    let mut sums = vec![0; n_vectors * per_vector];
    let start = Instant::now();
    for _ in 0..n.div_ceil((panel.len() * n_vectors) as u64) {
        kernel.multiply(Product {
            panel: &panel,
            columns,
            x: &x,
            largest: 1,
            x_stride: columns,
            n_vectors,
            sums: &mut sums,
            sums_stride: per_vector,
        });
    }
    black_box(&sums);
    start.elapsed()
}

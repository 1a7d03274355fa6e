//! The machine code of the AMX kernel on a CPU without AMX. Each tile instruction traps, and a handler executes it. This is
//! slow, but it tests the real encodings, strides and shapes. On a CPU with AMX nothing traps, and the hardware is tested.

#![cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]

#[path = "common/tiles.rs"]
mod tiles;

use std::sync::Arc;

use opuproj_core::batch::encoded::Encoded;
use opuproj_core::batch::ternary::TernaryBatch;
use opuproj_core::cpu::Cpu;
use opuproj_core::cpu::kernel::{Isa, Kernel, NextPanel, Product, SignedColumns};
use opuproj_core::cpu::packing::Packer;
use opuproj_core::definition::readout::Mode;
use opuproj_core::definition::transmission::{Transmission, gaussian};
use opuproj_core::request::adjoint::{Adjoint, AdjointMode};
use opuproj_core::request::projection::{Columns, Projection};

/// The AMX kernel; `None` on a CPU without AVX-512.
fn amx() -> Option<Kernel> {
    if let Some(kernel) = Kernel::new(Isa::Amx) {
        return Some(kernel);
    }
    tiles::install();
    // SAFETY: the handler that was just installed executes tile instructions.
    let kernel = unsafe { Kernel::amx_unchecked() };
    if kernel.is_none() {
        println!("skipped: the AMX kernel generates T with AVX-512, which this CPU lacks");
    }
    kernel
}

fn batch(n_rows: usize, n_inputs: usize) -> TernaryBatch {
    let numbers: Vec<i8> = (0..n_rows * n_inputs).map(|j| ((j * j / 3 + j / 7) % 3) as i8 - 1).collect();
    let mut packer = Packer::new(n_rows, n_inputs).expect("memory");
    packer.push(&numbers).expect("ternary");
    packer.finish().expect("all rows")
}

#[test]
fn a_panel_multiplies_to_the_definition() {
    let Some(kernel) = amx() else { return };
    let t = Transmission::new(5);
    for columns in [64, 128] {
        let index: Vec<u64> = (0..columns as u64).map(|k| k * k).collect();
        let n_sums = kernel.panel_shape().panel_blocks * 16;
        let mut panel = vec![0; n_sums * columns];
        kernel.panel(&t, &index, 9, &mut panel);
        for n_vectors in [1, 2, 15, 16, 17, 31, 32, 33, 48, 65] {
            let (x_stride, sums_stride) = (columns + 5, n_sums + 3);
            let x: Vec<i8> = (0..n_vectors * x_stride).map(|j| ((j * j / 5 + j) % 3) as i8 - 1).collect();
            let mut sums = vec![7; n_vectors * sums_stride];
            kernel.multiply(Product {
                panel: &panel,
                columns,
                x: &x,
                largest: 1,
                x_stride,
                n_vectors,
                sums: &mut sums,
                sums_stride,
            });
            for v in 0..n_vectors {
                let (found, padding) = sums[v * sums_stride..][..sums_stride].split_at(n_sums);
                for (i, &sum) in found.iter().enumerate() {
                    let expected: i32 = index.iter().zip(&x[v * x_stride..]).fold(7, |sum, (&column, &x)| {
                        sum + i32::from(gaussian(t.block(9 + i as u64 / 16, column)[i % 16])) * i32::from(x)
                    });
                    assert_eq!(sum, expected, "sum {i} of vector {v} of {n_vectors}, {columns} columns");
                }
                assert_eq!(padding, [7; 3], "only the sums are written");
            }
        }
    }
}

#[test]
fn a_projection_gives_the_bits_of_the_portable_kernel() {
    let Some(kernel) = amx() else { return };
    for (n_vectors, n_inputs, rows) in
        [(40, 100, 0..130), (17, 1100, 3..50), (35, 1100, 0..9), (1, 70, 5..6), (33, 64, 0..64)]
    {
        let batch = batch(n_vectors, n_inputs);
        let project = |kernel: Kernel, threads: usize| {
            let width = (rows.end - rows.start) as usize * 2;
            let mut out = vec![0f64; n_vectors * width];
            let (transmission, mode) = (Transmission::new(11), Mode::Complex);
            let request = Projection { transmission, mode, measurement: None, rows: rows.clone() };
            let cpu = Cpu { kernel, threads };
            let mut outputs: Vec<&mut [f64]> = out.chunks_exact_mut(width).collect();
            cpu.project(&request, &batch, Columns::From(0), &mut outputs, &mut |_| true).expect("not stopped");
            out
        };
        let portable = project(Kernel::new(Isa::Portable).expect("everywhere"), 1);
        assert_eq!(project(kernel, 1), portable, "{n_vectors} vectors of {n_inputs}");
        assert_eq!(project(kernel, 2), portable, "{n_vectors} vectors of {n_inputs}, two threads");
    }
}

#[test]
fn a_panel_is_written_while_another_is_multiplied() {
    let Some(kernel) = amx() else { return };
    let t = Transmission::new(6);
    let n_sums = kernel.panel_shape().panel_blocks * 16;
    for (columns, n_vectors, next_columns) in [(64, 33, 192), (128, 70, 64), (64, 31, 64)] {
        let [index, next_index]: [Vec<u64>; 2] =
            [columns, next_columns].map(|count| (0..count as u64).map(|k| k * k).collect());
        let mut panel = vec![0; n_sums * columns];
        kernel.panel(&t, &index, 9, &mut panel);
        let x: Vec<i8> = (0..n_vectors * columns).map(|j| ((j * j / 5 + j) % 3) as i8 - 1).collect();
        let (mut expected, mut found) = (vec![7; n_vectors * n_sums], vec![7; n_vectors * n_sums]);
        let of = |sums| Product {
            panel: &panel,
            columns,
            x: &x,
            largest: 1,
            x_stride: columns,
            n_vectors,
            sums,
            sums_stride: n_sums,
        };
        let (mut expected_panel, mut found_panel) = (vec![0; n_sums * next_columns], vec![0; n_sums * next_columns]);
        kernel.multiply(of(&mut expected));
        kernel.panel(&t, &next_index, 1 << 40, &mut expected_panel);
        let next = NextPanel { columns: &next_index, row_block: 1 << 40, panel: &mut found_panel };
        kernel.multiply_and_panel(of(&mut found), &t, next);
        assert!(found == expected, "sums of {columns} columns and {n_vectors} vectors");
        assert!(found_panel == expected_panel, "a panel of {next_columns} columns");
    }
}

#[test]
fn a_field_is_that_of_the_avx512_kernel() {
    let (Some(amx), Some(avx512)) = (amx(), Kernel::new(Isa::Avx512)) else { return };
    let t = Transmission::new(1);
    let x = SignedColumns { index: &[3, 1 << 50, 9], sign: &[0, 128, 128] };
    let (mut a, mut b) = ([0; 128], [0; 128]);
    amx.field(&t, x, 4, &mut a);
    avx512.field(&t, x, 4, &mut b);
    assert_eq!(a, b);
}

#[test]
fn the_adjoint_gives_the_bits_of_the_portable_kernel() {
    let Some(kernel) = amx() else { return };
    for (n_vectors, n_parts, n_columns) in [(1, 70, 20), (20, 130, 300)] {
        let batch = batch(n_vectors, n_parts);
        let batch = Encoded::new(3, vec![Arc::new(batch)], vec![1.0; n_vectors]).expect("one digit");
        let back = |kernel: Kernel, threads: usize| {
            let (transmission, mode) = (Transmission::new(11), AdjointMode::Complex);
            let request = Adjoint { transmission, mode, row_block: 3, n_columns };
            let mut out = vec![0f64; n_vectors * 2 * n_columns];
            let mut outputs: Vec<&mut [f64]> = out.chunks_exact_mut(2 * n_columns).collect();
            Cpu { kernel, threads }.project_back(&request, &batch, &mut outputs, &mut |_| true).expect("not stopped");
            out
        };
        let portable = back(Kernel::new(Isa::Portable).expect("everywhere"), 1);
        assert_eq!(back(kernel, 1), portable, "{n_vectors} vectors of {n_parts} parts");
        assert_eq!(back(kernel, 2), portable, "{n_vectors} vectors of {n_parts} parts, two threads");
    }
}

//! The adjoint agrees with the definition in exact integers, for every division of the work.

use opuproj_core::Stopped;
use opuproj_core::batch::encoded::{Code, Encoded};
use opuproj_core::cpu::Cpu;
use opuproj_core::cpu::kernel::Kernel;
use opuproj_core::cpu::packing::encode as encode_numbers;
use opuproj_core::definition::transmission::Transmission;
use opuproj_core::request::adjoint::{Adjoint, AdjointMode};

const MODES: [AdjointMode; 3] = [AdjointMode::Complex, AdjointMode::RealPart, AdjointMode::Real];

/// Parts of `n_rows` complex numbers for each vector, of all sizes and signs, with gaps of zeros.
fn parts(n_vectors: usize, n_rows: usize) -> Vec<f64> {
    let part = |k: usize| if (k / 300) % 3 == 1 { 0.0 } else { (k as f64 * 0.7).sin() + 0.3 * (k as f64 * 1.9).cos() };
    (0..n_vectors * 2 * n_rows).map(part).collect()
}

fn encode(y: &[f64], n_parts: usize, digits: u32) -> Encoded {
    let largest: Vec<f64> = y.chunks(n_parts).map(|y| y.iter().fold(0.0, |max: f64, y| max.max(y.abs()))).collect();
    encode_numbers(y, n_parts, &largest, Code::BalancedTernary(digits), Kernel::best(), &mut |_| true).expect("memory")
}

fn integers(batch: &Encoded, row: usize) -> Vec<i64> {
    let mut integers = vec![0; batch.digits()[0].n_inputs()];
    for digit in batch.digits() {
        let mut elements = vec![0; integers.len()];
        digit.unpack(row, 0, &mut elements);
        for (integer, element) in integers.iter_mut().zip(elements) {
            *integer = *integer * 3 + i64::from(element);
        }
    }
    integers
}

fn back(
    batch: &Encoded,
    mode: AdjointMode,
    row_block: u64,
    n_columns: usize,
    kernel: Kernel,
    threads: usize,
) -> Vec<f64> {
    let request = Adjoint { transmission: Transmission::new(9), mode, row_block, n_columns };
    let mut out = vec![f64::NAN; batch.scales().len() * n_columns * mode.parts()];
    let mut outputs: Vec<&mut [f64]> = out.chunks_exact_mut(n_columns * mode.parts()).collect();
    Cpu { kernel, threads }.project_back(&request, batch, &mut outputs, &mut |_| true).expect("not stopped");
    out
}

/// Tᴴ of the integers that the digits stand for, computed from the definition alone.
fn definition(batch: &Encoded, mode: AdjointMode, row_block: u64, n_columns: usize) -> Vec<f64> {
    let t = Transmission::new(9);
    let mut expected = Vec::new();
    for (row, scale) in batch.scales().iter().enumerate() {
        let integers = integers(batch, row);
        for column in 0..n_columns as u64 {
            let (mut re, mut im) = (0, 0);
            for (i, y) in (8 * row_block..).zip(integers.as_chunks::<2>().0) {
                let (a, b) = t.entry(i, column);
                re += i64::from(a) * y[0] + i64::from(b) * y[1];
                im += i64::from(a) * y[1] - i64::from(b) * y[0];
            }
            match mode {
                AdjointMode::Real => expected.push(re as f64 * (scale * (1.0 / 32.0))),
                AdjointMode::RealPart => expected.push(re as f64 * (scale * (1.0 / 2048f64.sqrt()))),
                AdjointMode::Complex => {
                    expected.extend([re, im].map(|part| part as f64 * (scale * (1.0 / 2048f64.sqrt()))));
                }
            }
        }
    }
    expected
}

#[test]
fn every_kernel_gives_the_definitions_sums() {
    let small = [(1, 1, 1, 1), (2, 9, 5, 5)];
    let sizes = [
        (1, 1, 1, 1),
        (1, 31, 15, 5),
        (2, 32, 16, 5),
        (3, 33, 17, 10),
        (5, 700, 257, 6),
        (2, 1500, 70, 20),
        (60, 70, 40, 10),
    ];
    for &(n_vectors, n_rows, n_columns, digits) in if cfg!(miri) { &small[..] } else { &sizes[..] } {
        let batch = encode(&parts(n_vectors, n_rows), 2 * n_rows, digits);
        for mode in MODES {
            let expected = definition(&batch, mode, 3, n_columns);
            for kernel in Kernel::available() {
                for threads in [1, 3] {
                    let found = back(&batch, mode, 3, n_columns, kernel, threads);
                    assert_eq!(found, expected, "{} {mode:?}: {n_vectors} × {n_rows} × {n_columns}", kernel.isa());
                }
            }
        }
    }
}

/// There are more int8 vectors than in a group, more sums than in a stripe, and more inputs than in a chunk.
#[test]
#[cfg_attr(miri, ignore = "as much work as it needs to have several groups, stripes and chunks")]
fn every_division_of_the_work_gives_the_same_bits() {
    let kernel = Kernel::best();
    // 300 vectors of four int8 vectors each are two groups. One of them takes 3 stripes.
    let (n_vectors, n_columns) = (300, 10_000);
    let batch = encode(&parts(n_vectors, 40), 80, 10);
    let all = back(&batch, AdjointMode::Complex, 0, n_columns, kernel, 2);
    for v in [0, 200, 255, 256, 299] {
        let one = encode(&parts(n_vectors, 40)[v * 80..(v + 1) * 80], 80, 10);
        let one = back(&one, AdjointMode::Complex, 0, n_columns, kernel, 1);
        assert!(one == all[v * 2 * n_columns..(v + 1) * 2 * n_columns], "vector {v}");
    }
    // 64 vectors of two int8 vectors each are 1.5 chunks: with 200,000 nonzeros one int8 vector cannot hold more digits.
    let (n_vectors, n_rows) = (64, 150_000);
    let batch = encode(&parts(n_vectors, n_rows), 2 * n_rows, 5);
    let all = back(&batch, AdjointMode::Real, 0, 40, kernel, 1);
    for v in [0, 63] {
        let one = encode(&parts(n_vectors, n_rows)[v * 2 * n_rows..(v + 1) * 2 * n_rows], 2 * n_rows, 5);
        assert!(back(&one, AdjointMode::Real, 0, 40, kernel, 1) == all[v * 40..(v + 1) * 40], "vector {v}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "runs for a fixed time")]
fn an_all_zero_vector_gives_zeros_and_poll_can_stop() {
    let zeros = encode(&[0.0; 140], 70, 10);
    assert!(back(&zeros, AdjointMode::Complex, 0, 30, Kernel::best(), 2).iter().all(|&part| part.to_bits() == 0));
    let (n_rows, n_columns) = (20_000, 2_000_000);
    let batch = encode(&parts(1, n_rows), 2 * n_rows, 5);
    let request = Adjoint { transmission: Transmission::new(1), mode: AdjointMode::RealPart, row_block: 0, n_columns };
    let cpu = Cpu { kernel: Kernel::best(), threads: 2 };
    let (mut out, mut seen) = (vec![0f32; n_columns], Vec::new());
    let mut poll = |part: f64| {
        seen.push(part);
        seen.len() < 3
    };
    assert_eq!(cpu.project_back(&request, &batch, &mut [&mut out[..]], &mut poll), Err(Stopped::Cancelled));
    assert!(seen.len() == 3 && seen.is_sorted() && seen[2] < 0.9, "{seen:?}");
}

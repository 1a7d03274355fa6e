//! Real numbers through T: digit by digit or added up, the exact fields are the same.

use opuproj_core::batch::encoded::{Code, Encoded};
use opuproj_core::cpu::Cpu;
use opuproj_core::cpu::kernel::{Isa, Kernel};
use opuproj_core::cpu::packing::{encode as encode_dense, encode_sparse};
use opuproj_core::definition::readout::Mode;
use opuproj_core::definition::transmission::Transmission;
use opuproj_core::request::projection::{Columns, Projection};

const MODES: [Mode; 4] = [Mode::Complex, Mode::Intensity, Mode::Linear { n_anchor: 9 }, Mode::Real];
const CODES: [Code; 8] = [
    Code::BalancedTernary(1),
    Code::BalancedTernary(5),
    Code::BalancedTernary(10),
    Code::BalancedTernary(11),
    Code::BalancedTernary(20),
    Code::SignedBits(1),
    Code::SignedBits(7),
    Code::SignedBits(15),
];

/// Numbers of all sizes and signs, some of them 0.
fn numbers(n: usize, part: f64) -> Vec<f64> {
    let wave = |j: usize| (j as f64 * 0.7).sin() + 0.3 * (j as f64 * 1.9).cos();
    (0..n).map(|j| if (j * 7919) % 1000 < (part * 1000.0) as usize { wave(j) } else { 0.0 }).collect()
}

fn encode(x: &[f64], n_inputs: usize, code: Code) -> Encoded {
    let largest: Vec<f64> =
        x.chunks(n_inputs).map(|row| row.iter().fold(0.0, |max: f64, x| max.max(x.abs()))).collect();
    let by = |kernel| encode_dense(x, n_inputs, &largest, code, kernel, &mut |_| true).expect("memory");
    let batch = by(Kernel::best());
    for kernel in Kernel::available() {
        assert!(by(kernel) == batch, "{}", kernel.isa());
    }
    batch
}

/// The integers that a vector's digits stand for.
fn integers(batch: &Encoded, row: usize) -> Vec<i64> {
    let n_inputs = batch.digits()[0].n_inputs();
    let mut integers = vec![0; n_inputs];
    for digit in batch.digits() {
        let mut elements = vec![0; n_inputs];
        digit.unpack(row, 0, &mut elements);
        for (integer, element) in integers.iter_mut().zip(elements) {
            *integer = *integer * i64::from(batch.base()) + i64::from(element);
        }
    }
    integers
}

fn project(batch: &Encoded, mode: Mode, rows: std::ops::Range<u64>, kernel: Kernel, threads: usize) -> Vec<f64> {
    let request = Projection { transmission: Transmission::new(4), mode, measurement: None, rows };
    let (cpu, width) = (Cpu { kernel, threads }, request.width());
    let mut out = vec![0.0; batch.scales().len() * width];
    let mut outputs: Vec<&mut [f64]> = out.chunks_exact_mut(width).collect();
    cpu.project_encoded(&request, batch, Columns::From(0), &mut outputs, &mut |_| true).expect("not stopped");
    out
}

#[test]
fn digits_are_the_nearest_integers() {
    for code in CODES {
        for n_inputs in [1, 63, 64, 65, 1023, 1024, 1025, 2500].into_iter().take(if cfg!(miri) { 4 } else { 8 }) {
            let x = numbers(3 * n_inputs, 0.9);
            let batch = encode(&x, n_inputs, code);
            assert_eq!(batch.digits().len(), code.digits() as usize);
            for (row, x) in x.chunks(n_inputs).enumerate() {
                let scale = batch.scales()[row];
                for (integer, x) in integers(&batch, row).into_iter().zip(x) {
                    assert!(integer.unsigned_abs() <= u64::from(code.largest()));
                    assert!((integer as f64 * scale - x).abs() <= scale * (0.5 + 1e-6), "{code:?}: {integer} for {x}");
                }
            }
        }
    }
}

#[test]
fn every_kernel_gives_the_definitions_fields() {
    let rows = 13..if cfg!(miri) { 18 } else { 90 };
    let sizes: &[_] = if cfg!(miri) { &[(2, 20, 1.0)] } else { &[(3, 700, 1.0), (20, 130, 1.0), (9, 900, 0.03)] };
    for code in CODES {
        for &(n_rows, n_inputs, part) in sizes {
            let x = numbers(n_rows * n_inputs, part);
            let batch = encode(&x, n_inputs, code);
            let t = Transmission::new(4);
            let mut expected = Vec::new();
            for row in 0..n_rows {
                let integers = integers(&batch, row);
                for i in rows.clone() {
                    let field = (0..).zip(&integers).fold((0, 0), |(re, im), (j, m)| {
                        let entry = t.entry(i, j);
                        (re + i64::from(entry.0) * m, im + i64::from(entry.1) * m)
                    });
                    let scale = batch.scales()[row] * (1.0 / 2048f64.sqrt());
                    expected.extend([field.0 as f64 * scale, field.1 as f64 * scale]);
                }
            }
            for kernel in Kernel::available() {
                for threads in [1, 3] {
                    let found = project(&batch, Mode::Complex, rows.clone(), kernel, threads);
                    assert_eq!(found, expected, "{} {code:?}", kernel.isa());
                }
            }
        }
    }
}

#[test]
fn modes_agree_among_kernels_and_with_the_field() {
    let n_inputs = if cfg!(miri) { 20 } else { 400 };
    let batch = encode(&numbers(12 * n_inputs, 0.8), n_inputs, Code::BalancedTernary(6));
    let portable = Kernel::new(Isa::Portable).expect("everywhere");
    let fields = project(&batch, Mode::Complex, 0..64, portable, 1);
    for mode in MODES {
        let first = project(&batch, mode, 0..64, portable, 1);
        for kernel in Kernel::available() {
            assert_eq!(project(&batch, mode, 0..64, kernel, 2), first, "{} {mode:?}", kernel.isa());
        }
        if mode == Mode::Intensity {
            for (intensity, field) in first.iter().zip(fields.chunks(2)) {
                let expected = field[0] * field[0] + field[1] * field[1];
                assert!((intensity - expected).abs() <= 1e-12 * expected);
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "hundreds of thousands of entries")]
fn sums_of_many_large_numbers_are_exact() {
    // A column of T again and again: 180,000 times 121 times 100 does not fit 32 bits.
    let n_inputs = 180_000;
    let t = Transmission::new(4);
    let column = (0..10_000).find(|&column| t.entry(5, column).0 == 100).expect("one in 256 columns");
    let columns = vec![column; n_inputs];
    // 20 digits also exceed what float64 holds exactly.
    for digits in [5, 6, 20] {
        let code = Code::BalancedTernary(digits);
        let batch = encode(&vec![1.0; 2 * n_inputs], n_inputs, code);
        let sum = i128::from(code.largest()) * 100 * n_inputs as i128;
        let expected = sum as f64 * (batch.scales()[0] * (1.0 / 2048f64.sqrt()));
        for kernel in Kernel::available().filter(|kernel| digits == 5 || kernel.isa() != Isa::Portable) {
            let request = Projection { transmission: t, mode: Mode::Complex, measurement: None, rows: 5..6 };
            let mut out = [0f64; 4];
            let mut outputs: Vec<&mut [f64]> = out.chunks_exact_mut(2).collect();
            let cpu = Cpu { kernel, threads: 2 };
            cpu.project_encoded(&request, &batch, Columns::Listed(&columns), &mut outputs, &mut |_| true)
                .expect("done");
            assert!(
                out[0].to_bits() == expected.to_bits() && out[2].to_bits() == expected.to_bits(),
                "{digits} digits, {}",
                kernel.isa()
            );
        }
    }
}

/// The nonzeros of rows: where each row begins, columns, values.
fn sparse<T: Copy + PartialEq + Default>(x: &[T], n_inputs: usize) -> (Vec<usize>, Vec<usize>, Vec<T>) {
    let (mut offsets, mut columns, mut values) = (vec![0], vec![], vec![]);
    for row in x.chunks(n_inputs) {
        // It keeps one zero, which is allowed.
        for (column, &value) in row.iter().enumerate().filter(|&(j, value)| *value != T::default() || j == 1) {
            columns.push(column);
            values.push(value);
        }
        offsets.push(columns.len());
    }
    (offsets, columns, values)
}

#[test]
fn sparse_and_dense_rows_are_encoded_alike() {
    for code in CODES {
        for n_inputs in [1, 63, 65, 1025, 2500].into_iter().take(if cfg!(miri) { 3 } else { 5 }) {
            for (part, size) in [(0.0, 1.0), (0.05, 1.0), (1.0, 1.0), (0.5, 1e-310), (0.5, 1e308)] {
                let x: Vec<f64> = numbers(3 * n_inputs, part).into_iter().map(|x| x * size).collect();
                let dense = encode(&x, n_inputs, code);
                let (offsets, columns, values) = sparse(&x, n_inputs);
                for kernel in Kernel::available() {
                    let batch = encode_sparse(n_inputs, &offsets, &columns, &values, code, kernel, &mut |_| true);
                    assert!(batch.expect("memory") == dense, "{code:?} {n_inputs} {part} {size} {}", kernel.isa());
                }
            }
            let narrow: Vec<f32> = numbers(2 * n_inputs, 0.3).into_iter().map(|x| x as f32).collect();
            let wide: Vec<f64> = narrow.iter().copied().map(f64::from).collect();
            let (offsets, columns, values) = sparse(&narrow, n_inputs);
            let batch = encode_sparse(n_inputs, &offsets, &columns, &values, code, Kernel::best(), &mut |_| true);
            assert!(batch.expect("memory") == encode(&wide, n_inputs, code));
        }
    }
    let none = encode_sparse::<f32>(70, &[0], &[], &[], Code::BalancedTernary(5), Kernel::best(), &mut |_| true);
    assert!(none.expect("memory").scales().is_empty());
}

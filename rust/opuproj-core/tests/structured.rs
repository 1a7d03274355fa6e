//! Every kernel gives the structured matrix of the definition, bit for bit, for every division of the work.

use std::slice::from_ref;

use opuproj_core::Stopped;
use opuproj_core::batch::floats::Floats;
use opuproj_core::batch::ternary::TernaryBatch;
use opuproj_core::cpu::Cpu;
use opuproj_core::cpu::kernel::Kernel;
use opuproj_core::cpu::packing::Packer;
use opuproj_core::cpu::structured::TransformInputs;
use opuproj_core::definition::readout::Mode;
use opuproj_core::definition::structured::{self as definition, Part, Signs};
use opuproj_core::definition::transmission::Transmission;
use opuproj_core::request::structured::Structured;

const SEED: u64 = 0x0123_4567_89ab_cdef;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn ternary(n: usize, seed: u64) -> Vec<i8> {
    numbers(n, seed).into_iter().map(|x| (x * 1.5).round() as i8).collect()
}

fn packed(rows: &[Vec<i8>]) -> TernaryBatch {
    let mut packer = Packer::new(rows.len(), rows[0].len()).expect("memory");
    packer.push(&rows.concat()).expect("ternary numbers");
    packer.finish().expect("all rows")
}

fn floats(rows: &[Vec<f32>]) -> Floats {
    let mut floats = Floats::with_capacity(rows.len(), rows[0].len()).expect("memory");
    let largest: Vec<f64> =
        rows.iter().map(|row| row.iter().fold(0.0, |most: f64, x| most.max(f64::from(x.abs())))).collect();
    floats.push(&rows.concat(), &largest, &mut |_| true).expect("memory");
    floats
}

fn run(
    kernel: Kernel,
    mode: Mode,
    rows: std::ops::Range<u64>,
    threads: usize,
    vectors: TransformInputs<'_>,
) -> Vec<Vec<f64>> {
    let width = (rows.end - rows.start) as usize * mode.parts();
    let mut results = vec![vec![f64::NAN; width]; vectors.n_rows()];
    let mut outputs: Vec<&mut [f64]> = results.iter_mut().map(|row| &mut row[..]).collect();
    let request = Structured { seed: SEED, mode, rows };
    Cpu { kernel, threads }.project_structured(&request, vectors, &mut outputs, &mut |_| true).expect("not stopped");
    results
}

/// √2 times Tx by the definition, for a vector whose largest magnitude is 1 to 2.
fn expected(x: &[f32], rows: std::ops::Range<u64>) -> Vec<[f64; 2]> {
    let n = definition::length(x.len()).expect("in range");
    let mut padded = x.to_vec();
    padded.resize(n, 0.0);
    let n = n as u64;
    let signs = Signs::new(SEED);
    (rows.start / n..rows.end.div_ceil(n))
        .flat_map(|block| {
            let [re, im] = Part::BOTH.map(|part| definition::field(&signs, &padded, block, part));
            re.into_iter().zip(im).map(|(re, im)| [re, im].map(|v| f64::from(v) / n as f64)).collect::<Vec<_>>()
        })
        .skip((rows.start % n) as usize)
        .take((rows.end - rows.start) as usize)
        .collect()
}

fn complex(expected: &[[f64; 2]]) -> Vec<f64> {
    expected.as_flattened().iter().map(|v| v * std::f64::consts::FRAC_1_SQRT_2 + 0.0).collect()
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn every_kernel_gives_the_field_of_the_definition() {
    let sizes = [1, 100, 255, 256, 257, 512, 1000, 4096, 4097, 9000, 20_000, 40_000, 70_000, 140_000, 1_000_000];
    for n_inputs in sizes.into_iter().filter(|&n| n < if cfg!(miri) { 300 } else { usize::MAX }) {
        let n = definition::length(n_inputs).expect("in range") as u64;
        // Rows of two blocks, and of a block further away.
        for rows in [n / 2 + 3..n + 5, 2 * n + 7..2 * n + 100] {
            let x = ternary(n_inputs, n_inputs as u64);
            let mut real = numbers(n_inputs, 7);
            real[n_inputs / 2] = -1.25;
            let from_ternary = complex(&expected(&x.iter().map(|&x| f32::from(x)).collect::<Vec<_>>(), rows.clone()));
            let from_real = complex(&expected(&real, rows.clone()));
            for kernel in Kernel::available() {
                let isa = kernel.isa();
                let found =
                    run(kernel, Mode::Complex, rows.clone(), 1, TransformInputs::Ternary(&packed(from_ref(&x))));
                assert!(same_bits(&found[0], &from_ternary), "ternary, {n_inputs} inputs, {isa}");
                let found =
                    run(kernel, Mode::Complex, rows.clone(), 1, TransformInputs::Real(&floats(from_ref(&real))));
                assert!(same_bits(&found[0], &from_real), "real, {n_inputs} inputs, {isa}");
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "transforms of millions")]
fn long_transforms_are_those_of_the_definition() {
    let x: Vec<i8> = ternary((1 << 21) + 1, 3);
    let wanted = complex(&expected(&x.iter().map(|&x| f32::from(x)).collect::<Vec<_>>(), 0..1 << 22));
    for kernel in Kernel::available() {
        let found = run(kernel, Mode::Complex, 0..1 << 22, 2, TransformInputs::Ternary(&packed(from_ref(&x))));
        assert!(same_bits(&found[0], &wanted), "{}", kernel.isa());
    }
}

#[test]
fn the_rows_of_real_are_both_parts_of_the_field_in_turn() {
    let x = numbers(300, 5);
    let batch = floats(from_ref(&x));
    // A block has 512 rows of T, so 1,024 results.
    for rows in [0..2048u64, 3..20, 1001..1030, 1023..1024, 1024..1025, 2047..2050] {
        let field = expected(&x, rows.start / 2..rows.end.div_ceil(2)).into_iter().flatten();
        let wanted: Vec<f64> = field.skip(rows.start as usize % 2).take((rows.end - rows.start) as usize).collect();
        for kernel in Kernel::available() {
            let found = run(kernel, Mode::Real, rows.clone(), 2, TransformInputs::Real(&batch));
            assert!(same_bits(&found[0], &wanted), "{rows:?}, {}", kernel.isa());
        }
    }
}

#[test]
fn intensity_and_linear_are_read_from_the_field() {
    let x: Vec<Vec<f32>> = (0..3).map(|k| numbers(300, k).iter().map(|x| x * 3.0).collect()).collect();
    // Across the end of a block of 512.
    let rows = if cfg!(miri) { 500..530 } else { 400..1500 };
    let batch = floats(&x);
    for kernel in Kernel::available() {
        let intensity = run(kernel, Mode::Intensity, rows.clone(), 2, TransformInputs::Real(&batch));
        let linear = run(kernel, Mode::Linear { n_anchor: 5 }, rows.clone(), 2, TransformInputs::Real(&batch));
        for (v, x) in x.iter().enumerate() {
            let field = expected(&x.iter().map(|x| x / 2.0).collect::<Vec<_>>(), rows.clone());
            for (i, [re, im]) in field.into_iter().map(|parts| parts.map(|part| 2.0 * part)).enumerate() {
                assert_eq!(intensity[v][i].to_bits(), ((re * re + im * im) * 0.5).to_bits());
                let [r_re, r_im] = anchor(5, rows.start + i as u64);
                let modulus = (r_re * r_re + r_im * r_im).sqrt();
                let [cos, sin] = [r_re / modulus, r_im / modulus].map(|phase| f64::from(phase as f32));
                assert_eq!(linear[v][i].to_bits(), (re * cos + im * sin).to_bits());
            }
        }
    }
}

fn anchor(n_anchor: u64, row: u64) -> [f64; 2] {
    let t = Transmission::new(SEED);
    (0..n_anchor).fold([0.0; 2], |[re, im], k| {
        let entry = t.entry(row, u64::MAX - k);
        [re + f64::from(entry.0), im + f64::from(entry.1)]
    })
}

#[test]
fn threads_batches_and_rows_do_not_matter() {
    let kernel = Kernel::best();
    for n_inputs in [50, if cfg!(miri) { 300 } else { 9000 }] {
        let x: Vec<Vec<i8>> = (0..7).map(|k| ternary(n_inputs, k)).collect();
        for mode in [Mode::Complex, Mode::Intensity, Mode::Linear { n_anchor: 2 }, Mode::Real] {
            let rows = 100..if cfg!(miri) { 1000 } else { 40_000 };
            let whole = run(kernel, mode, rows.clone(), 1, TransformInputs::Ternary(&packed(&x)));
            for threads in [2, 3, 8] {
                assert_eq!(run(kernel, mode, rows.clone(), threads, TransformInputs::Ternary(&packed(&x))), whole);
            }
            for (k, x) in x.iter().enumerate() {
                let alone = run(kernel, mode, 300..777, 3, TransformInputs::Ternary(&packed(from_ref(x))));
                assert_eq!(alone[0], whole[k][200 * mode.parts()..677 * mode.parts()]);
            }
        }
    }
}

#[test]
fn zeros_give_zeros_without_a_sign() {
    let zeros = packed(&[vec![0; 300]]);
    for kernel in Kernel::available() {
        for mode in [Mode::Complex, Mode::Intensity, Mode::Linear { n_anchor: 2 }, Mode::Real] {
            let found = run(kernel, mode, 0..1024, 1, TransformInputs::Ternary(&zeros));
            assert!(found[0].iter().all(|y| y.to_bits() == 0), "{mode:?}");
        }
    }
}

#[test]
fn it_reports_progress_and_stops() {
    let x = packed(&(0..8).map(|k| ternary(if cfg!(miri) { 300 } else { 200_000 }, k)).collect::<Vec<_>>());
    let rows = 0..if cfg!(miri) { 1000 } else { 1 << 22 };
    for mode in [Mode::Intensity, Mode::Linear { n_anchor: 64 }] {
        let mut results = vec![vec![0f32; rows.end as usize]; 8];
        let mut outputs: Vec<&mut [f32]> = results.iter_mut().map(|row| &mut row[..]).collect();
        let request = Structured { seed: 0, mode, rows: rows.clone() };
        let cpu = Cpu { kernel: Kernel::best(), threads: 2 };
        let mut seen = Vec::new();
        let mut poll = |done| {
            seen.push(done);
            seen.len() < 3
        };
        let ended = cpu.project_structured(&request, TransformInputs::Ternary(&x), &mut outputs, &mut poll);
        assert!(seen.is_sorted() && seen.iter().all(|done| (0.0..=1.0).contains(done)));
        assert_eq!(ended, if seen.len() < 3 { Ok(()) } else { Err(Stopped::Cancelled) });
        assert!(cfg!(miri) || seen.len() == 3);
    }
}

#[test]
#[cfg_attr(miri, ignore = "a transform of a million")]
fn a_transform_that_no_memory_holds_is_refused() {
    let x = TernaryBatch::from_sparse(1 << 20, &[0, 0], &[], &[], &mut |_| true).expect("memory");
    assert_eq!(opuproj_core::cpu::structured::bytes_per_thread(1 << 20).expect("in range") >> 20, 12);
    assert_eq!(opuproj_core::cpu::structured::bytes_per_thread(1 << 60), None);
    let request = Structured { seed: 0, mode: Mode::Linear { n_anchor: 1 }, rows: 0..1 };
    let cpu = Cpu { kernel: Kernel::best(), threads: 1 };
    let mut y = [0f32];
    cpu.project_structured(&request, TransformInputs::Ternary(&x), &mut [&mut y[..]], &mut |_| true).expect("memory");
    assert_eq!(y[0].to_bits(), 0);
}

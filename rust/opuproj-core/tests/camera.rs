//! Projections through a camera agree with a plain calculation of the whole optical chain.

#![allow(clippy::float_cmp, reason = "the same bits are asked for")]

use opuproj_core::batch::ternary::TernaryBatch;
use opuproj_core::cpu::Cpu;
use opuproj_core::cpu::kernel::Kernel;
use opuproj_core::cpu::packing::Packer;
use opuproj_core::definition::camera::Camera;
use opuproj_core::definition::readout::Mode;
use opuproj_core::definition::transmission::Transmission;
use opuproj_core::request::measurement::Measurement;
use opuproj_core::request::projection::{Columns, Projection};

const SEED: u64 = 11;
const N_ANCHOR: u32 = 12;
const LINEAR: Mode = Mode::Linear { n_anchor: N_ANCHOR };
const N_INPUTS: usize = if cfg!(miri) { 20 } else { 150 };

fn measurement(camera: Camera) -> Measurement {
    Measurement { camera, noise_seed: 5, first_vector: 0, n_anchor: N_ANCHOR, raw: false }
}

fn numbers(n_vectors: usize) -> Vec<i8> {
    (0..n_vectors * N_INPUTS).map(|i| ((i * i + i / 7) % 5) as i8).map(|r| [0, 1, -1, 1, 0][r as usize]).collect()
}

fn batch(numbers: &[i8]) -> TernaryBatch {
    let mut packer = Packer::new(numbers.len() / N_INPUTS, N_INPUTS).expect("memory");
    packer.push(numbers).expect("ternary");
    packer.finish().expect("all rows")
}

fn projection(mode: Mode, camera: Camera) -> Projection {
    Projection { transmission: Transmission::new(SEED), mode, measurement: Some(measurement(camera)), rows: 0..200 }
}

fn run(projection: &Projection, batch: &TernaryBatch) -> Vec<f64> {
    run_on(Cpu { kernel: Kernel::best(), threads: 1 }, projection, batch)
}

fn run_on(cpu: Cpu, projection: &Projection, batch: &TernaryBatch) -> Vec<f64> {
    let width = projection.width();
    let mut out = vec![0.0; batch.n_rows() * width];
    let mut outputs: Vec<&mut [f64]> = out.chunks_exact_mut(width).collect();
    cpu.project(projection, batch, Columns::From(0), &mut outputs, &mut |_| true).expect("not stopped");
    out
}

/// The field of a row over some columns.
fn field(row: u64, columns: impl Iterator<Item = u64>) -> (f64, f64) {
    let t = Transmission::new(SEED);
    let (re, im) = columns
        .map(|column| t.entry(row, column))
        .fold((0, 0), |(re, im), entry| (re + i32::from(entry.0), im + i32::from(entry.1)));
    (f64::from(re), f64::from(im))
}

/// An 8-bit reading of |a + b|² by a camera whose exposure is set for `mean`.
fn reading((a, b): (f64, f64), (c, d): (f64, f64), mean: f64, full_scale: f64) -> f64 {
    let intensity = ((a + c) * (a + c) + (b + d) * (b + d)) / 2048.0;
    let level = ((intensity / mean).min(full_scale) * (255.0 / full_scale)).round_ties_even();
    level * mean * full_scale / 255.0
}

#[test]
fn without_imperfections_nothing_changes() {
    let batch = batch(&numbers(5));
    for mode in [Mode::Intensity, LINEAR, Mode::Complex] {
        let with = projection(mode, Camera::IDEAL);
        assert_eq!(run(&with, &batch), run(&Projection { measurement: None, ..with.clone() }, &batch));
    }
}

#[test]
fn recovery_from_perfect_frames_is_the_projection() {
    // With a saturation out of reach the results are recovered from frames, which it does not change.
    let camera = Camera { full_scale: 1e9, ..Camera::IDEAL };
    let batch = batch(&numbers(5));
    for mode in [Mode::Intensity, LINEAR, Mode::Complex] {
        let with = projection(mode, camera);
        let exact = run(&Projection { measurement: None, ..with.clone() }, &batch);
        for (recovered, exact) in run(&with, &batch).into_iter().zip(exact) {
            assert!((recovered - exact).abs() < 1e-9, "{mode:?}: {recovered} and not {exact}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "tens of thousands of blocks of T")]
fn quantized_frames_are_those_of_a_plain_calculation() {
    let numbers = numbers(3);
    let camera = Camera { bits: Some(8), full_scale: 4.0, dark_floor: 0.05, ..Camera::IDEAL };
    let linear = run(&projection(LINEAR, camera), &batch(&numbers));
    let intensity = run(&projection(Mode::Intensity, camera), &batch(&numbers));
    let none = (0.0, 0.0);
    let mut dark = 0;
    for (vector, x) in numbers.chunks(N_INPUTS).enumerate() {
        let columns = |sign: i8| (0..).zip(x).filter(move |(_, x)| **x == sign).map(|(column, _)| column);
        let brightest = columns(1).count().max(columns(-1).count()) as f64 + f64::from(N_ANCHOR);
        for row in 0..200 {
            let (p, q) = (field(row, columns(1)), field(row, columns(-1)));
            let anchor = field(row, (0..u64::from(N_ANCHOR)).map(|k| u64::MAX - k));
            let read = |a, b| reading(a, b, brightest, 4.0);
            let difference = read(p, anchor) - read(p, none) - (read(q, anchor) - read(q, none));
            let power = (anchor.0 * anchor.0 + anchor.1 * anchor.1) / 2048.0;
            let at = vector * 200 + row as usize;
            if power < 0.05 * f64::from(N_ANCHOR) {
                dark += 1;
                assert!(linear[at] == 0.0);
            } else {
                assert!((linear[at] - difference / (2.0 * power).sqrt()).abs() < 1e-9);
            }
            let nonzeros = (columns(1).count() + columns(-1).count()) as f64;
            let expected = reading((p.0 - q.0, p.1 - q.1), none, nonzeros, 4.0);
            assert!((intensity[at] - expected).abs() < 1e-9);
        }
    }
    assert!(dark > 0);
}

#[test]
#[cfg_attr(miri, ignore = "tens of thousands of blocks of T")]
fn noise_depends_on_seed_frame_and_row_alone() {
    let camera = Camera { bits: Some(8), full_scale: 5.0, photons: 40.0, read_noise: 0.02, frames: 2, ..Camera::IDEAL };
    let batch = batch(&numbers(70));
    for mode in [Mode::Intensity, LINEAR, Mode::Complex] {
        let one = projection(mode, camera);
        let all = run(&one, &batch);
        let parts = mode.parts();
        for kernel in Kernel::available() {
            assert_eq!(run_on(Cpu { kernel, threads: 3 }, &one, &batch), all, "{} {mode:?}", kernel.isa());
        }
        // A shard of the rows, and a part of the batch.
        let shard = run(&Projection { rows: 77..130, ..one.clone() }, &batch);
        for (shard, all) in shard.chunks(53 * parts).zip(all.chunks(200 * parts)) {
            assert_eq!(shard, &all[77 * parts..130 * parts]);
        }
        let rest = batch.take(&(30..70).collect::<Vec<_>>(), &mut |_| true).expect("memory");
        let later = Measurement { first_vector: 30, ..one.measurement.expect("a camera") };
        assert_eq!(run(&Projection { measurement: Some(later), ..one.clone() }, &rest), &all[30 * 200 * parts..]);
        let mut seeded = later;
        seeded.noise_seed = 6;
        assert_ne!(run(&Projection { measurement: Some(seeded), ..one.clone() }, &rest), &all[30 * 200 * parts..]);
    }
}

#[test]
#[cfg_attr(miri, ignore = "tens of thousands of blocks of T")]
fn sparse_and_dense_batches_give_the_same_readings() {
    // Vectors that share their columns are multiplied together, in another way than one vector alone.
    let camera = Camera { photons: 100.0, ..Camera::IDEAL };
    let numbers = numbers(40);
    for mode in [Mode::Intensity, LINEAR, Mode::Complex] {
        let one = projection(mode, camera);
        let all = run(&one, &batch(&numbers));
        for vector in [0, 17, 39] {
            let measurement = Measurement { first_vector: vector as u64, ..one.measurement.expect("a camera") };
            let alone = run(
                &Projection { measurement: Some(measurement), ..one.clone() },
                &batch(&numbers[vector * N_INPUTS..(vector + 1) * N_INPUTS]),
            );
            assert_eq!(alone, &all[vector * alone.len()..(vector + 1) * alone.len()]);
        }
    }
}

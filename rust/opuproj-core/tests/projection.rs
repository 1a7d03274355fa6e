//! Whole projections agree with the definition and with each other: every way to compute an output gives the same bits.

use opuproj_core::Stopped;
use opuproj_core::batch::encoded::Code;
use opuproj_core::batch::ternary::TernaryBatch;
use opuproj_core::cpu::kernel::Kernel;
use opuproj_core::cpu::packing::{Packer, encode};
use opuproj_core::cpu::{Cpu, Fields, Output};
use opuproj_core::definition::anchor;
use opuproj_core::definition::camera::Camera;
use opuproj_core::definition::readout::Mode;
use opuproj_core::definition::transmission::{INT32_NONZEROS, Transmission, gaussian};
use opuproj_core::request::measurement::Measurement;
use opuproj_core::request::projection::{Columns, Projection};
use proptest::prelude::*;

const MODES: [Mode; 4] = [Mode::Complex, Mode::Intensity, Mode::Linear { n_anchor: 5 }, Mode::Real];

/// The sizes of random batches. Miri needs a tenth of a second for a block of T.
const MAX_INPUTS: usize = if cfg!(miri) { 12 } else { 700 };
const MAX_VECTORS: usize = if cfg!(miri) { 4 } else { 12 };
const MAX_ROWS: u64 = if cfg!(miri) { 10 } else { 150 };

fn batch(n_inputs: usize, numbers: &[i8]) -> TernaryBatch {
    let mut packer = Packer::new(numbers.len() / n_inputs, n_inputs).expect("memory");
    packer.push(numbers).expect("ternary");
    packer.finish().expect("all rows")
}

fn project<T: Output>((cpu, request): &(Cpu, Projection), batch: &TernaryBatch, zero: T) -> Vec<T> {
    let width = request.width();
    let mut out = vec![zero; batch.n_rows() * width];
    let mut outputs: Vec<&mut [T]> = if width == 0 {
        (0..batch.n_rows()).map(|_| &mut [][..]).collect()
    } else {
        out.chunks_exact_mut(width).collect()
    };
    cpu.project(request, batch, Columns::From(0), &mut outputs, &mut |_| true).expect("not stopped");
    out
}

/// An array as `n` equal parts, which may be empty.
fn slices<T>(numbers: &mut [T], n: usize) -> Vec<&mut [T]> {
    let width = numbers.len() / n.max(1);
    let mut rest = numbers;
    (0..n).map(|_| rest.split_off_mut(..width).expect("equal parts")).collect()
}

fn projection(seed: u64, mode: Mode, rows: std::ops::Range<u64>, kernel: Kernel, threads: usize) -> (Cpu, Projection) {
    let transmission = Transmission::new(seed);
    (Cpu { kernel, threads }, Projection { transmission, mode, measurement: None, rows })
}

/// Tx of one row and vector in integers, computed from the definition alone.
fn field(t: &Transmission, row: u64, x: &[i8]) -> (i64, i64) {
    (0..).zip(x).fold((0, 0), |(re, im), (column, &x)| {
        let entry = t.entry(row, column);
        (re + i64::from(entry.0) * i64::from(x), im + i64::from(entry.1) * i64::from(x))
    })
}

#[test]
fn entries_and_fields_are_the_golden_ones() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/data/golden.json")).expect("JSON");
    let number = |value: &serde_json::Value| value.as_str().expect("text").parse::<u64>().expect("a number");
    let list = |value: &serde_json::Value| -> Vec<i64> {
        value.as_array().expect("a list").iter().map(|number| number.as_i64().expect("an integer")).collect()
    };
    for block in golden["blocks"].as_array().expect("a list") {
        let t = Transmission::new(number(&block["seed"]));
        let bytes = t.block(number(&block["row_block"]), number(&block["column"]));
        let hex = block["bytes"].as_str().expect("text");
        assert_eq!(u128::from_be_bytes(bytes), u128::from_str_radix(hex, 16).expect("hexadecimal"));
    }
    for window in golden["entries"].as_array().expect("a list") {
        let t = Transmission::new(number(&window["seed"]));
        let (rows, columns) = (list(&window["rows"]), list(&window["columns"]));
        for (i, row) in (rows[0]..rows[1]).enumerate() {
            for (j, column) in (columns[0]..columns[1]).enumerate() {
                let (re, im) = t.entry(row as u64, column as u64);
                assert_eq!(i64::from(re), list(&window["re"][i])[j]);
                assert_eq!(i64::from(im), list(&window["im"][i])[j]);
            }
        }
    }
    for golden in golden["fields"].as_array().expect("a list") {
        let n_inputs = golden["n_inputs"].as_u64().expect("a number");
        if cfg!(miri) && n_inputs > 100 {
            continue;
        }
        let x = golden_vector(n_inputs);
        let rows = list(&golden["rows"]);
        for kernel in Kernel::available() {
            let rows = rows[0] as u64..rows[1] as u64;
            let projection = projection(number(&golden["seed"]), Mode::Complex, rows, kernel, 1);
            let parts: Vec<i64> = project(&projection, &batch(x.len(), &x), 0f64)
                .into_iter()
                .map(|part| (part * 2048f64.sqrt()).round() as i64)
                .collect();
            let expected: Vec<i64> =
                list(&golden["re"]).into_iter().zip(list(&golden["im"])).flat_map(|(re, im)| [re, im]).collect();
            assert_eq!(parts, expected, "{}", kernel.isa());
        }
    }
    for window in golden["real_entries"].as_array().expect("a list") {
        let t = Transmission::new(number(&window["seed"]));
        let (rows, columns) = (list(&window["rows"]), list(&window["columns"]));
        for (i, row) in (rows[0]..rows[1]).enumerate() {
            for (j, column) in (columns[0]..columns[1]).enumerate() {
                let byte = t.block(row as u64 / 16, column as u64)[row as usize % 16];
                assert_eq!(i64::from(gaussian(byte)), list(&window["g"][i])[j]);
            }
        }
    }
    for golden in golden["real_fields"].as_array().expect("a list") {
        let n_inputs = golden["n_inputs"].as_u64().expect("a number");
        if cfg!(miri) && n_inputs > 100 {
            continue;
        }
        let rows = list(&golden["rows"]);
        for kernel in Kernel::available() {
            let rows = rows[0] as u64..rows[1] as u64;
            let projection = projection(number(&golden["seed"]), Mode::Real, rows, kernel, 1);
            let found: Vec<i64> = project(&projection, &batch(n_inputs as usize, &golden_vector(n_inputs)), 0f64)
                .into_iter()
                .map(|result| (result * 32.0) as i64)
                .collect();
            assert_eq!(found, list(&golden["g"]), "real, {}", kernel.isa());
        }
    }
}

/// The vector of the golden fields.
fn golden_vector(n_inputs: u64) -> Vec<i8> {
    (0..n_inputs).map(|j| ((j * (j + 1) / 2 + j / 5) % 3) as i8 - 1).collect()
}

/// Batches of dense, sparse and empty vectors, and of vectors that use the same columns.
fn batches() -> impl Strategy<Value = (usize, Vec<i8>)> {
    (1..MAX_INPUTS, 0..MAX_VECTORS, prop_oneof![Just(1), Just(2), Just(20), Just(300)], any::<u64>()).prop_map(
        |(n_inputs, n_vectors, rarity, salt)| {
            let mut state = salt | 1;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state >> 20
            };
            let used: Vec<bool> = (0..n_inputs).map(|_| next() % rarity == 0).collect();
            let numbers = (0..n_vectors * n_inputs)
                .map(|j| if used[j % n_inputs] { (next() % 3) as i8 - 1 } else { 0 })
                .collect();
            (n_inputs, numbers)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 96 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_kernel_and_number_of_threads_gives_the_definition(
        (n_inputs, numbers) in batches(), first in 0..200u64, n_rows in 0..MAX_ROWS, seed in any::<u64>()
    ) {
        let batch = batch(n_inputs, &numbers);
        let t = Transmission::new(seed);
        let rows = first..first + n_rows;
        let anchor: Vec<u64> = anchor::columns(0, 5).collect();
        for mode in MODES {
            let mut expected = Vec::new();
            for x in numbers.chunks_exact(n_inputs) {
                for row in rows.clone() {
                    let (re, im) = field(&t, if mode == Mode::Real { row / 2 } else { row }, x);
                    match mode {
                        Mode::Real => expected.push((if row % 2 == 0 { re } else { im }) as f64 / 32.0),
                        Mode::Complex => expected.extend([re, im].map(|part| part as f64 * (1.0 / 2048f64.sqrt()))),
                        Mode::Intensity => expected.push((re * re + im * im) as f64 / 2048.0),
                        Mode::Linear { .. } => {
                            let (r_re, r_im) = anchor.iter().fold((0, 0), |(re, im), &pixel| {
                                let entry = t.entry(row, pixel);
                                (re + i64::from(entry.0), im + i64::from(entry.1))
                            });
                            // A field of 0 counts as phase 1.
                            let (r_re, r_im) = if (r_re, r_im) == (0, 0) { (1, 0) } else { (r_re, r_im) };
                            let length = 32.0 * ((r_re * r_re + r_im * r_im) as f64).sqrt();
                            expected.push((re * r_re + im * r_im) as f64 * (1.0 / length));
                        }
                    }
                }
            }
            for kernel in Kernel::available() {
                for threads in [1, 3] {
                    let found = project(&projection(seed, mode, rows.clone(), kernel, threads), &batch, 0f64);
                    prop_assert_eq!(&found, &expected, "{} {:?} {} threads", kernel.isa(), mode, threads);
                }
            }
        }
    }

    #[test]
    fn fields_of_parts_of_the_columns_add_up_to_the_whole(
        (n_inputs, numbers) in batches(), cuts in (0.0..=1f64, 0.0..=1f64), first in 0..200u64, n_rows in 0..MAX_ROWS,
        seed in any::<u64>()
    ) {
        let (cut_a, cut_b) = ((cuts.0 * n_inputs as f64) as usize, (cuts.1 * n_inputs as f64) as usize);
        let rows = first..first + n_rows;
        let n_vectors = numbers.len() / n_inputs;
        for kernel in Kernel::available() {
          for read in [Mode::Intensity, Mode::Real] {
            let mut fields = vec![0i32; n_vectors * n_rows as usize * read.components()];
            for columns in [0..cut_a.min(cut_b), cut_a.min(cut_b)..cut_a.max(cut_b), cut_a.max(cut_b)..n_inputs] {
                if columns.is_empty() {
                    continue;
                }
                let part: Vec<i8> = numbers.chunks_exact(n_inputs).flat_map(|x| &x[columns.clone()]).copied().collect();
                let (cpu, request) = projection(seed, read, rows.clone(), kernel, 2);
                let mut found = vec![0i32; fields.len()];
                let mut outputs = slices(&mut found, n_vectors);
                let start = columns.start as u64;
                cpu.fields(&request, &batch(columns.len(), &part), start, &mut outputs, &mut |_| true).expect("done");
                fields.iter_mut().zip(&found).for_each(|(sum, part)| *sum += part);
            }
            for mode in MODES.into_iter().filter(|mode| mode.field() == read.field()) {
                for threads in [1, 3] {
                    let projection = projection(seed, mode, rows.clone(), kernel, threads);
                    let mut found = vec![0f32; n_vectors * n_rows as usize * mode.parts()];
                    let mut fields = fields.clone();
                    let fields: Vec<&[i32]> = slices(&mut fields, n_vectors).into_iter().map(|field| &*field).collect();
                    let mut outputs = slices(&mut found, n_vectors);
                    let (cpu, request) = &projection;
                    cpu.read_fields(request, Fields::Int32(&fields), &mut outputs, &mut |_| true).expect("done");
                    let expected = project(&projection, &batch(n_inputs, &numbers), 0f32);
                    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
                    prop_assert_eq!(bits(&found), bits(&expected), "{} {:?}", kernel.isa(), mode);
                }
            }
          }
        }
    }

    #[test]
    fn a_window_of_entries_is_what_unit_vectors_give(seed in any::<u64>(), first in 0..100u64, n_rows in 1..20u64) {
        let n_inputs = if cfg!(miri) { 6 } else { 70 };
        let mut unit = vec![0; n_inputs * n_inputs];
        for j in 0..n_inputs {
            unit[j * n_inputs + j] = 1;
        }
        let batch = batch(n_inputs, &unit);
        let rows: Vec<u64> = (first..first + n_rows).collect();
        let columns: Vec<u64> = (0..n_inputs as u64).collect();
        for mode in [Mode::Complex, Mode::Linear { n_anchor: 64 }, Mode::Real] {
            let mut window = vec![0f32; rows.len() * n_inputs * mode.parts()];
            let mut outputs: Vec<&mut [f32]> = window.chunks_exact_mut(n_inputs * mode.parts()).collect();
            let cpu = Cpu { kernel: Kernel::best(), threads: 1 };
            cpu.entries(&Transmission::new(seed), mode, &rows, &columns, &mut outputs, &mut |_| true).expect("memory");
            let projected = project(&projection(seed, mode, first..first + n_rows, Kernel::best(), 1), &batch, 0f32);
            for (i, row) in window.chunks_exact(n_inputs * mode.parts()).enumerate() {
                for (j, entry) in row.chunks_exact(mode.parts()).enumerate() {
                    let at = (j * rows.len() + i) * mode.parts();
                    prop_assert_eq!(entry, &projected[at..at + mode.parts()]);
                }
            }
        }
    }
}

#[test]
fn entries_are_the_definition_for_rows_in_any_order() {
    let t = Transmission::new(9);
    let rows = [5, 6, 4, 70, 71, 0, u64::MAX >> 1, 1 << 40, 5];
    let columns = [3, 0, u64::MAX, 3];
    for kernel in Kernel::available() {
        let mut window = [0f64; 2 * 9 * 4];
        let mut outputs: Vec<&mut [f64]> = window.chunks_exact_mut(2 * 4).collect();
        let cpu = Cpu { kernel, threads: 1 };
        cpu.entries(&t, Mode::Intensity, &rows, &columns, &mut outputs, &mut |_| true).expect("memory");
        let expected = rows.iter().flat_map(|&row| {
            columns.into_iter().flat_map(move |column| {
                let (re, im) = t.entry(row, column);
                [re, im].map(|part| f64::from(part) * (1.0 / 2048f64.sqrt()))
            })
        });
        assert!(expected.eq(window), "{}", kernel.isa());

        let mut outputs: Vec<&mut [f64]> = window[..9 * 4].chunks_exact_mut(4).collect();
        cpu.entries(&t, Mode::Real, &rows, &columns, &mut outputs, &mut |_| true).expect("memory");
        let expected = rows.iter().flat_map(|&row| {
            columns
                .into_iter()
                .map(move |column| f64::from(gaussian(t.block(row / 16, column)[row as usize % 16])) / 32.0)
        });
        assert!(expected.eq(window[..9 * 4].iter().copied()), "real, {}", kernel.isa());
    }
}

#[test]
#[should_panic(expected = "no camera reads")]
fn no_camera_reads_real_projections() {
    let camera = Camera::IDEAL;
    let measurement = Measurement { camera, noise_seed: 0, first_vector: 0, n_anchor: 1, raw: false };
    let (cpu, mut request) = projection(0, Mode::Real, 0..1, Kernel::best(), 1);
    request.measurement = Some(measurement);
    let _ = cpu.project(&request, &batch(1, &[1]), Columns::From(0), &mut [&mut [0f32][..]], &mut |_| true);
}

/// There are enough vectors for several groups, and enough columns for several chunks of each form.
#[test]
#[cfg_attr(miri, ignore = "as much work as it needs to have several groups and chunks")]
fn groups_and_chunks_change_nothing() {
    let kernel = Kernel::best();
    // Dense: 1,024 vectors over 20,000 columns are 20 MB of inputs; 1,100 vectors are two groups.
    let (n_inputs, n_vectors) = (20_000, 1100);
    let numbers: Vec<i8> = (0..n_inputs * n_vectors)
        .map(|j| ((j as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62) as i8 % 3 - 1)
        .collect();
    let dense = batch(n_inputs, &numbers);
    let run = |batch: &TernaryBatch, rows| project(&projection(1, Mode::Complex, rows, kernel, 2), batch, 0f64);
    let together = run(&dense, 5..90);
    for vector in [0, 1, 511, 1023, 1024, 1099] {
        let alone = run(&dense.take(&[vector], &mut |_| true).expect("memory"), 5..90);
        assert!(alone == together[vector * 170..][..170], "vector {vector}");
    }
    let t = Transmission::new(1);
    let (re, im) = field(&t, 42, &numbers[777 * n_inputs..][..n_inputs]);
    let at = 777 * 170 + (42 - 5) * 2;
    assert_eq!(together[at..at + 2], [re, im].map(|part| part as f64 * (1.0 / 2048f64.sqrt())));

    // One vector with more nonzeros than fit a chunk of lists, besides sparse vectors and an empty one.
    let n_inputs = 1_200_000;
    let mut numbers = vec![0i8; 4 * n_inputs];
    for (j, x) in numbers[n_inputs..2 * n_inputs].iter_mut().enumerate() {
        *x = if j % 7 == 0 { -1 } else { 1 };
    }
    numbers[5] = 1;
    numbers[4 * n_inputs - 1] = -1;
    let mixed = batch(n_inputs, &numbers);
    let together = run(&mixed, 0..40);
    for (vector, found) in together.chunks_exact(80).enumerate() {
        let alone = run(&mixed.take(&[vector], &mut |_| true).expect("memory"), 0..40);
        assert!(alone == found, "vector {vector}");
        let (re, im) = field(&t, 39, &numbers[vector * n_inputs..][..n_inputs]);
        assert_eq!(found[78..], [re, im].map(|part| part as f64 * (1.0 / 2048f64.sqrt())), "vector {vector}");
    }
}

/// So many entries of the largest magnitude that their sum exceeds 32 bits: a column of T again and again.
#[test]
#[cfg_attr(miri, ignore = "tens of millions of entries")]
fn sums_beyond_32_bits_are_exact() {
    let n_inputs = INT32_NONZEROS as usize + 500_000;
    let t = Transmission::new(2);
    let column = (0..10_000).find(|&column| t.entry(7, column).0 == -100).expect("one in 256 columns");
    let columns = vec![column; n_inputs];
    let words = n_inputs.div_ceil(64);
    let mut positive = vec![u64::MAX; words];
    positive[words - 1] = u64::MAX >> (words * 64 - n_inputs);
    // The second vector has fewer nonzeros, and of both signs.
    positive.extend((0..words).map(|word| u64::from(word % 3 == 0)));
    let mut negative = vec![0; 2 * words];
    negative[words + 1] = 5;
    let batch = TernaryBatch::from_words(2, n_inputs, positive, negative).expect("planes");
    let sums = [n_inputs as f64, words.div_ceil(3) as f64 - 2.0];
    let (re, im) = t.entry(7, column);
    let (re, im) = (f64::from(re), f64::from(im));
    let listed = Columns::Listed(&columns);
    for kernel in Kernel::available() {
        let (cpu, request) = projection(2, Mode::Complex, 7..8, kernel, 2);
        let mut out = [0f64; 4];
        cpu.project(&request, &batch, listed, &mut slices(&mut out, 2), &mut |_| true).expect("done");
        let expected: Vec<f64> =
            sums.iter().flat_map(|sum| [re, im].map(|part| sum * part * (1.0 / 2048f64.sqrt()))).collect();
        assert!(expected == out, "{}", kernel.isa());
    }
}

/// Fields beyond 32 bits are written, added up and read in 64 bits.
#[test]
fn fields_beyond_32_bits_are_read() {
    let n_rows = 50;
    let mut fields: Vec<i64> = (0..2 * n_rows).map(|k| (k - 40) * 1_000_000_007).collect();
    let copy = fields.clone();
    for mode in [Mode::Complex, Mode::Intensity, Mode::Real] {
        let rows = 0..n_rows as u64 * 2 / mode.components() as u64;
        let (cpu, request) = projection(3, mode, rows.clone(), Kernel::best(), 1);
        let mut out = vec![0f64; rows.end as usize * mode.parts()];
        let fields: Vec<&[i64]> = slices(&mut fields, 1).into_iter().map(|field| &*field).collect();
        cpu.read_fields(&request, Fields::Int64(&fields), &mut [&mut out[..]], &mut |_| true).expect("done");
        let expected: Vec<f64> = match mode {
            Mode::Complex => copy.iter().map(|&part| part as f64 * (1.0 / 2048f64.sqrt())).collect(),
            Mode::Real => copy.iter().map(|&part| part as f64 / 32.0).collect(),
            Mode::Intensity => {
                let pairs = copy.as_chunks::<2>().0.iter().map(|pair| pair.map(|part| part as f64));
                pairs.map(|[re, im]| (re * re + im * im) * (1.0 / 2048.0)).collect()
            }
            Mode::Linear { .. } => unreachable!("left out"),
        };
        assert!(out == expected, "{mode:?}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "runs for a fixed time")]
fn a_stopped_projection_ends_soon_and_reports_progress() {
    let n_inputs = 100_000;
    let numbers: Vec<i8> = (0..64 * n_inputs).map(|j| (j % 3) as i8 - 1).collect();
    let batch = batch(n_inputs, &numbers);
    for kernel in Kernel::available() {
        for vectors in [1, 64] {
            let batch = batch.take(&(0..vectors).collect::<Vec<_>>(), &mut |_| true).expect("memory");
            let width = 1 << 20;
            let mut out = vec![0f32; vectors * width];
            let mut outputs: Vec<&mut [f32]> = out.chunks_exact_mut(width).collect();
            let mut fractions = Vec::new();
            let mut stopped_at = None;
            let (cpu, request) = projection(0, Mode::Intensity, 0..width as u64, kernel, 2);
            let result = cpu.project(&request, &batch, Columns::From(0), &mut outputs, &mut |fraction| {
                fractions.push(fraction);
                if fractions.len() < 5 {
                    return true;
                }
                stopped_at = Some(std::time::Instant::now());
                false
            });
            assert_eq!(result, Err(Stopped::Cancelled));
            let delay = stopped_at.expect("it was stopped").elapsed();
            assert!(delay.as_millis() < 200, "{}: {delay:?}", kernel.isa());
            assert!(fractions.is_sorted() && fractions[4] > 0.0 && fractions[4] < 1.0, "{fractions:?}");
        }
    }
}

#[test]
fn listed_columns_give_the_results_of_a_wide_batch() {
    let listed = [699_u64, 3, 64, 130, 5, 63];
    let (wide, narrow) = (700, listed.len());
    for n_vectors in [1, 2, 40].into_iter().take(if cfg!(miri) { 2 } else { 3 }) {
        let element = |v: usize, k: usize| ((v * 7 + k * 5) % 3) as i8 - 1;
        let small: Vec<i8> = (0..n_vectors * narrow).map(|at| element(at / narrow, at % narrow)).collect();
        let mut large = vec![0; n_vectors * wide];
        for (at, &element) in small.iter().enumerate() {
            large[at / narrow * wide + listed[at % narrow] as usize] = element;
        }
        let numbers = |x: &[i8], scale: f64| -> Vec<f64> { x.iter().map(|&x| f64::from(x) * scale).collect() };
        let encoded = |x: &[i8], n_inputs: usize, kernel: Kernel| {
            let code = Code::BalancedTernary(7);
            encode(&numbers(x, 0.3), n_inputs, &vec![0.3; n_vectors], code, kernel, &mut |_| true).expect("memory")
        };
        for kernel in Kernel::available() {
            for mode in MODES {
                let projection = projection(8, mode, 3..70, kernel, 2);
                let width = 67 * mode.parts();
                let expected = project(&projection, &batch(wide, &large), 0.0);
                let mut out = vec![0.0; n_vectors * width];
                let columns = Columns::Listed(&listed);
                let (cpu, request) = &projection;
                cpu.project(request, &batch(narrow, &small), columns, &mut slices(&mut out, n_vectors), &mut |_| true)
                    .expect("not stopped");
                assert!(out == expected, "{} {mode:?} {n_vectors}", kernel.isa());
                let (of_all, of_listed) = (encoded(&large, wide, kernel), encoded(&small, narrow, kernel));
                let mut expected = vec![0.0; n_vectors * width];
                let mut outputs = slices(&mut expected, n_vectors);
                cpu.project_encoded(request, &of_all, Columns::From(0), &mut outputs, &mut |_| true)
                    .expect("not stopped");
                cpu.project_encoded(request, &of_listed, columns, &mut slices(&mut out, n_vectors), &mut |_| true)
                    .expect("not stopped");
                assert!(out == expected, "{} {mode:?} {n_vectors}, encoded", kernel.isa());
            }
        }
    }
}

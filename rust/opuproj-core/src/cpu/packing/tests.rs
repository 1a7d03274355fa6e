//! Packing, unpacking, and damaged files.

use proptest::prelude::*;

use super::{Packer, Refused, max_abs};
use crate::batch::numbers::Value;
use crate::batch::ternary::{FormatError, PlaneError, TernaryBatch, WORD};
use crate::cpu::kernel::Kernel;

fn pack<T: Value>(n_inputs: usize, numbers: &[T]) -> TernaryBatch {
    pack_by(Kernel::best(), n_inputs, numbers)
}

fn pack_by<T: Value>(kernel: Kernel, n_inputs: usize, numbers: &[T]) -> TernaryBatch {
    let mut packer = Packer::new(numbers.len() / n_inputs, n_inputs).expect("memory").on(kernel);
    packer.push(numbers).expect("ternary");
    packer.finish().expect("all rows")
}

fn unpack(batch: &TernaryBatch) -> Vec<i8> {
    let mut out = vec![0; batch.n_rows() * batch.n_inputs()];
    for (row, out) in out.chunks_exact_mut(batch.n_inputs()).enumerate() {
        batch.unpack(row, 0, out);
    }
    out
}

fn bytes(batch: &TernaryBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let shape = [batch.n_rows() as u64, batch.n_inputs() as u64];
    batch.write_to(&shape, &mut bytes, &mut |_| true).expect("writing to a vector");
    bytes
}

fn read(bytes: &[u8]) -> Result<(TernaryBatch, Vec<u64>), FormatError> {
    TernaryBatch::read_from(bytes.len() as u64, &mut &bytes[..], &mut |_| true)
}

/// The same file in the previous version.
fn previous_version(bytes: &[u8]) -> Vec<u8> {
    [b"OPUTERN1", &bytes[8..bytes.len() - 12]].concat()
}

/// Rows of up to 200 elements: less than a word, whole words, and words with a rest.
fn rows() -> impl Strategy<Value = (usize, Vec<i8>)> {
    let longest: usize = if cfg!(miri) { 70 } else { 200 };
    (1..longest, 0..4usize)
        .prop_flat_map(|(n_inputs, n_rows)| (Just(n_inputs), proptest::collection::vec(-1..=1i8, n_inputs * n_rows)))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_was_packed_is_unpacked((n_inputs, numbers) in rows()) {
        let batch = pack(n_inputs, &numbers);
        prop_assert_eq!(unpack(&batch), numbers.clone());
        for kernel in Kernel::available() {
            prop_assert_eq!(&pack_by(kernel, n_inputs, &numbers), &batch, "{}", kernel.isa());
        }
        let floats: Vec<f64> = numbers.iter().map(|&x| f64::from(x)).collect();
        prop_assert_eq!(&pack(n_inputs, &floats), &batch);
        let (again, shape) = read(&bytes(&batch)).expect("what was written");
        prop_assert_eq!(shape, [batch.n_rows() as u64, n_inputs as u64]);
        prop_assert_eq!(again, batch);
    }

    #[test]
    fn counts_and_rows_are_those_of_the_numbers((n_inputs, numbers) in rows()) {
        let batch = pack(n_inputs, &numbers);
        let order: Vec<usize> = (0..batch.n_rows()).rev().collect();
        let reversed = batch.take(&order, &mut |_| true).expect("memory");
        for (row, numbers) in numbers.chunks_exact(n_inputs).enumerate() {
            let count = |value| numbers.iter().filter(|&&x| x == value).count() as u64;
            prop_assert_eq!(batch.counts(row), (count(1), count(-1)));
            prop_assert_eq!(batch.row(row), reversed.row(order[row]));
        }
    }

    #[test]
    fn thresholds_split_exactly(numbers in proptest::collection::vec(-4f32..4.0, 1..150), threshold in 0f64..4.0) {
        let expected: Vec<i8> = numbers
            .iter()
            .map(|&e| i8::from(f64::from(e) > threshold) - i8::from(f64::from(e) < -threshold))
            .collect();
        for kernel in Kernel::available() {
            let mut packer = Packer::new(1, numbers.len()).expect("memory").on(kernel);
            packer.push_ternarized(&numbers, &[threshold]).expect("no NaN");
            prop_assert_eq!(unpack(&packer.finish().expect("all rows")), &expected[..]);
        }
    }

    #[test]
    fn a_damaged_byte_is_noticed(
        (n_inputs, numbers) in rows(), at in any::<prop::sample::Index>(), byte in 1u8.., cut in any::<bool>()
    ) {
        let mut bytes = bytes(&pack(n_inputs, &numbers));
        let at = at.index(bytes.len());
        bytes[at] ^= byte;
        if cut {
            bytes.truncate(at);
        }
        prop_assert!(read(&bytes).is_err(), "byte {}", at);
    }

    #[test]
    fn rows_may_come_in_parts((n_inputs, numbers) in rows(), cuts in proptest::collection::vec(1..5usize, 0..20)) {
        let (mut numbers, whole) = (&numbers[..], pack(n_inputs, &numbers));
        let mut packer = Packer::new(whole.n_rows(), n_inputs).expect("memory");
        let mut at = 0;
        for words in cuts {
            let n = (words * WORD).min(n_inputs - at).min(numbers.len());
            packer.push(&numbers[..n]).expect("ternary");
            (numbers, at) = (&numbers[n..], (at + n) % n_inputs);
        }
        packer.push(numbers).expect("ternary");
        prop_assert_eq!(packer.finish().expect("all rows"), whole);
    }

    #[test]
    fn bits_are_those_of_the_planes((n_inputs, numbers) in rows(), msb_first in any::<bool>()) {
        let batch = pack(n_inputs, &numbers);
        let bits = [false, true].map(|negative| {
            let mut bits = Vec::new();
            batch.add_bits(negative, msb_first, &mut bits, &mut |_| true).expect("memory");
            bits
        });
        for (row, numbers) in numbers.chunks_exact(n_inputs).enumerate() {
            for (j, &x) in numbers.iter().enumerate() {
                let at = row * n_inputs.div_ceil(8) + j / 8;
                let bit = if msb_first { 7 - j % 8 } else { j % 8 };
                prop_assert_eq!([bits[0][at] >> bit & 1 == 1, bits[1][at] >> bit & 1 == 1], [x == 1, x == -1]);
            }
        }
        let planes = [&bits[0][..], &bits[1][..]];
        prop_assert_eq!(TernaryBatch::from_bits(batch.n_rows(), n_inputs, planes, msb_first, &mut |_| true), Ok(batch));
    }

    #[test]
    fn damaged_bytes_without_checksums_are_refused_or_still_a_batch(
        (n_inputs, numbers) in rows(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let mut bytes = previous_version(&bytes(&pack(n_inputs, &numbers)));
        let at = at.index(bytes.len());
        bytes[at] ^= byte;
        if cut {
            bytes.truncate(at);
        }
        if let Ok((batch, _)) = read(&bytes) {
            let (mut positive, mut negative) = (Vec::new(), Vec::new());
            for row in 0..batch.n_rows() {
                positive.extend_from_slice(batch.row(row).0);
                negative.extend_from_slice(batch.row(row).1);
            }
            let again = TernaryBatch::from_words(batch.n_rows(), batch.n_inputs(), positive, negative);
            prop_assert_eq!(again, Ok(batch));
        }
    }
}

#[test]
fn the_first_number_that_is_not_ternary_is_named() {
    let mut numbers = vec![0i32; 3 * 130];
    numbers[130 + 128] = 2;
    numbers[2 * 130] = -7;
    let mut packer = Packer::new(3, 130).expect("memory");
    assert_eq!(packer.push(&numbers), Err(Refused { row: 1, column: 128 }));
    for refused in [0.5f32, f32::NAN, f32::INFINITY, -1.000_000_1] {
        let mut packer = Packer::new(1, 2).expect("memory");
        assert_eq!(packer.push(&[0.0, refused]), Err(Refused { row: 0, column: 1 }), "{refused}");
    }
    let mut packer = Packer::new(1, 1).expect("memory");
    assert_eq!(packer.push(&[255u8]), Err(Refused { row: 0, column: 0 }));
    assert_eq!(packer.finish().err(), Some(1));
}

#[test]
fn ties_and_zeros_go_to_zero_and_nan_is_refused() {
    let mut packer = Packer::new(2, 3).expect("memory");
    packer.push_ternarized(&[0.1f32, -0.1, 0.0], &[f64::from(0.1f32)]).expect("no NaN");
    packer.push_ternarized(&[0.1f32, -0.1, -0.0], &[0.0]).expect("no NaN");
    assert_eq!(unpack(&packer.finish().expect("all rows")), [0, 0, 0, 1, -1, 0]);
    // 0.1 lies between two float32 numbers, and the upper one is above the threshold.
    let mut packer = Packer::new(1, 2).expect("memory");
    packer.push_ternarized(&[0.1f32, 0.1f32.next_down()], &[0.1]).expect("no NaN");
    assert_eq!(unpack(&packer.finish().expect("all rows")), [1, 0]);
    let mut packer = Packer::new(1, 2).expect("memory");
    assert_eq!(packer.push_ternarized(&[1.0, f64::NAN], &[0.5]), Err(Refused { row: 0, column: 1 }));
    for kernel in Kernel::available() {
        assert_eq!(max_abs(&[1.0f32, -3.0, 2.0, 0.0], 2, kernel, &mut |_| true), Ok(vec![3.0, 2.0]));
        assert!(max_abs(&[1.0, f64::NAN, 2.0], 3, kernel, &mut |_| true).expect("memory")[0].is_nan());
    }
}

#[test]
fn planes_must_agree_with_each_other_and_the_shape() {
    let planes = |positive, negative| TernaryBatch::from_words(1, 3, vec![positive], vec![negative]);
    assert!(planes(0b101, 0b010).is_ok());
    assert_eq!(planes(0b101, 0b110), Err(PlaneError::Overlap(0)));
    assert_eq!(planes(0b1000, 0), Err(PlaneError::Stray(0)));
    assert_eq!(TernaryBatch::from_words(2, 3, vec![0], vec![0]), Err(PlaneError::Size));
    assert_eq!(TernaryBatch::from_words(usize::MAX, 65, vec![], vec![]), Err(PlaneError::TooLarge));
}

#[test]
fn a_huge_claim_in_a_header_allocates_nothing() {
    for shape in [[1 << 40, 1 << 20], [u64::MAX, u64::MAX], [1 << 60, 1], [1 << 60, 0], [0, 0]] {
        for magic in [b"OPUTERN1", b"OPUTERN2"] {
            let mut bytes = magic.to_vec();
            bytes.extend(2u64.to_le_bytes());
            bytes.extend(shape.into_iter().flat_map(u64::to_le_bytes));
            assert!(matches!(read(&bytes), Err(FormatError::Length { .. } | FormatError::Shape)), "{shape:?}");
        }
    }
    assert!(matches!(read(b"OPUTERN3\0\0\0\0\0\0\0\0"), Err(FormatError::Magic)));
    assert!(matches!(read(b"OPU"), Err(FormatError::Io(_))));
}

#[test]
fn the_file_format_stays_as_it_is() {
    let batch = pack(3, &[1i8, 0, -1, 0, 1, 1]);
    // The checksums are those of Python's zlib.crc32.
    let words: [u64; 8] = [u64::from_le_bytes(*b"OPUTERN2"), 2, 2, 3, 0b001, 0b110, 0b100, 0];
    let mut expected = words.map(u64::to_le_bytes).concat();
    expected.extend([0x99e5_47df, 0x84bc_d343, 0x388a_07d2].into_iter().flat_map(u32::to_le_bytes));
    assert_eq!(bytes(&batch), expected);
    assert_eq!(batch.file_bytes(2), expected.len());
    assert!(matches!(read(&previous_version(&expected)), Ok((again, shape)) if again == batch && shape == [2, 3]));
}

#[test]
fn sparse_rows_and_parts_make_the_same_batch() {
    let numbers = [0i8, 1, 0, -1, 0, 0, 0, 0, -1, 0, 0, 1];
    let batch =
        TernaryBatch::from_sparse(4, &[0, 2, 2, 4], &[1, 3, 0, 3], &[1, -1, -1, 1], &mut |_| true).expect("memory");
    assert_eq!(batch, pack(4, &numbers));
    let parts = [batch.take(&[0], &mut |_| true).expect("memory"), batch.take(&[1, 2], &mut |_| true).expect("memory")];
    assert_eq!(TernaryBatch::concatenate(&[&parts[0], &parts[1]], &mut |_| true), Ok(batch));
}

#[test]
#[cfg_attr(miri, ignore = "planes of megabytes")]
fn planes_in_reused_memory_have_nothing_of_the_planes_before() {
    let n_inputs = 40 << 20;
    let ones = vec![1i8; n_inputs];
    for _ in 0..3 {
        let full = pack(n_inputs, &ones);
        assert!(full.row(0).0.iter().all(|&word| word == u64::MAX) && full.row(0).1.iter().all(|&word| word == 0));
        drop(full);
        let one = TernaryBatch::from_sparse(n_inputs, &[0, 1], &[77], &[-1], &mut |_| true).expect("memory");
        assert_eq!(one.counts(0), (0, 1));
        // Fewer words than the kept memory has room for.
        let fewer = pack(n_inputs - 70, &ones[70..]);
        assert_eq!(fewer.counts(0), (n_inputs as u64 - 70, 0));
        assert_eq!(fewer.row(0).0.len(), fewer.row_words());
        drop(fewer);
        let whole = bytes(&one);
        drop(pack(n_inputs, &ones));
        assert!(one.take(&[0], &mut |_| true).as_ref() == Ok(&one));
        drop(pack(n_inputs, &ones));
        assert!(TernaryBatch::concatenate(&[&one], &mut |_| true).as_ref() == Ok(&one));
        drop(pack(n_inputs, &ones));
        assert!(read(&whole).expect("a batch").0 == one);
    }
}

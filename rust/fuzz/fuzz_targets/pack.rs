//! Packing any numbers (as they are, made ternary, or from their nonzeros) gives the result of a plain loop.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opuproj_core::batch::ternary::TernaryBatch;
use opuproj_core::cpu::packing::{Packer, Refused};

/// More inputs than two of the parts that are packed together.
const MAX_INPUTS: usize = 2500;

fuzz_target!(|input: (u16, f64, Vec<f32>, Vec<i8>)| {
    let (n_inputs, threshold, floats, integers) = input;
    let n_inputs = usize::from(n_inputs) % MAX_INPUTS + 1;

    let integers = whole_rows(&integers, n_inputs);
    let mut packer = Packer::new(integers.len() / n_inputs, n_inputs).expect("memory");
    match (packer.push(integers), integers.iter().position(|x| x.unsigned_abs() > 1)) {
        (Ok(()), None) => {
            let packed = packer.finish().expect("all rows");
            assert_eq!(unpacked(&packed), integers);
            assert!(sparse(integers, n_inputs) == packed);
        }
        (refused, place) => assert_eq!(refused.err(), place.map(|place| at(place, n_inputs))),
    }

    let floats = whole_rows(&floats, n_inputs);
    let threshold = if threshold.is_finite() { threshold.abs() } else { 0.5 };
    let mut packer = Packer::new(floats.len() / n_inputs, n_inputs).expect("memory");
    let pushed = packer.push_ternarized(floats, &vec![threshold; floats.len() / n_inputs]);
    match (pushed, floats.iter().position(|e| e.is_nan())) {
        (Ok(()), None) => {
            let expected: Vec<i8> = floats
                .iter()
                .map(|&e| i8::from(f64::from(e) > threshold) - i8::from(f64::from(e) < -threshold))
                .collect();
            assert_eq!(unpacked(&packer.finish().expect("all rows")), expected);
        }
        (refused, place) => assert_eq!(refused.err(), place.map(|place| at(place, n_inputs))),
    }
});

fn whole_rows<T>(numbers: &[T], n_inputs: usize) -> &[T] {
    &numbers[..numbers.len() / n_inputs * n_inputs]
}

fn at(place: usize, n_inputs: usize) -> Refused {
    Refused { row: place / n_inputs, column: place % n_inputs }
}

/// The batch, made from the nonzeros.
fn sparse(numbers: &[i8], n_inputs: usize) -> TernaryBatch {
    let (mut offsets, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in numbers.chunks_exact(n_inputs) {
        for (column, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0) {
            columns.push(column);
            values.push(value);
        }
        offsets.push(columns.len());
    }
    TernaryBatch::from_sparse(n_inputs, &offsets, &columns, &values, &mut |_| true).expect("memory")
}

fn unpacked(batch: &TernaryBatch) -> Vec<i8> {
    let mut numbers = vec![0; batch.n_rows() * batch.n_inputs()];
    for (row, numbers) in numbers.chunks_exact_mut(batch.n_inputs()).enumerate() {
        batch.unpack(row, 0, numbers);
    }
    numbers
}

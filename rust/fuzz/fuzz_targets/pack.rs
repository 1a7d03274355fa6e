//! Any numbers, packed as they are and made ternary, are what a plain loop makes of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opuproj_core::ternary::{Packer, Refused, TernaryBatch};

fuzz_target!(|input: (u8, f64, Vec<f32>, Vec<i8>)| {
    let (n_inputs, threshold, floats, integers) = input;
    let n_inputs = usize::from(n_inputs) + 1;

    let integers = whole_rows(&integers, n_inputs);
    let mut packer = Packer::new(integers.len() / n_inputs, n_inputs).expect("memory");
    match (packer.push(integers), integers.iter().position(|x| x.unsigned_abs() > 1)) {
        (Ok(()), None) => assert_eq!(unpacked(&packer.finish().expect("all rows")), integers),
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

fn unpacked(batch: &TernaryBatch) -> Vec<i8> {
    let mut numbers = vec![0; batch.n_rows() * batch.n_inputs()];
    for (row, numbers) in numbers.chunks_exact_mut(batch.n_inputs()).enumerate() {
        batch.unpack(row, numbers);
    }
    numbers
}

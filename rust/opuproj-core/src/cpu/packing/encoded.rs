//! Real numbers into digits.

use std::sync::Arc;

use crate::batch::encoded::{Code, Encoded};
use crate::batch::numbers::Float;
use crate::batch::ternary::{PlaneError, TernaryBatch, WORD, check_offsets, row_columns};
use crate::cpu::kernel::Kernel;
use crate::memory::{collect, with_capacity};
use crate::progress::{Stopped, on_calling_thread};

/// Elements that are encoded together, a whole number of words.
const ELEMENTS_AT_ONCE: usize = 16 * WORD;

/// 2³⁰⁰: the factor by which tiny numbers are enlarged.
const LARGE: f64 = f64::from_bits((1023 + 300) << 52);

/// Encodes the vectors of `numbers`, of `n_inputs` each. `largest` holds the largest magnitude of each vector.
///
/// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
///
/// # Errors
///
/// If `poll` returned `false`, or there is no memory.
///
/// # Panics
///
/// If the numbers are not whole vectors, or there is not a magnitude for each vector.
pub fn encode<T: Float>(
    numbers: &[T],
    n_inputs: usize,
    largest: &[f64],
    code: Code,
    kernel: Kernel,
    poll: &mut dyn FnMut(f64) -> bool,
) -> Result<Encoded, Stopped> {
    assert_eq!(numbers.len(), n_inputs * largest.len(), "whole vectors");
    let mut digits = with_capacity(code.digits() as usize)?;
    for _ in 0..code.digits() {
        digits.push(TernaryBatch::unfilled(largest.len(), n_inputs)?);
    }
    let top = f64::from(code.largest());
    let mut scales = with_capacity(largest.len())?;
    scales.extend(largest.iter().map(|&largest| scale_of(largest, top)));
    on_calling_thread(poll, |coordinator| {
        // All digits are written together. Without this there would be new pages of each between two checks for a stop.
        for digit in &mut digits {
            digit.touch(coordinator)?;
        }
        let mut integers = [0; ELEMENTS_AT_ONCE];
        let mut codes = [[0; WORD]; ELEMENTS_AT_ONCE / WORD];
        for (row, (numbers, &largest)) in numbers.chunks_exact(n_inputs.max(1)).zip(largest).enumerate() {
            let (enlarged, factor) = factors_of(largest, top);
            for (stretch, numbers) in numbers.chunks(ELEMENTS_AT_ONCE).enumerate() {
                kernel.vectorize(
                    #[inline(always)]
                    || integers_of(numbers, enlarged, factor, top, &mut integers),
                );
                let words = stretch * (ELEMENTS_AT_ONCE / WORD)
                    ..stretch * (ELEMENTS_AT_ONCE / WORD) + numbers.len().div_ceil(WORD);
                for digit in digits.iter_mut().rev() {
                    kernel.vectorize(
                        #[inline(always)]
                        || next_digits(code, &mut integers, codes.as_flattened_mut()),
                    );
                    let (positive, negative) = digit.row_mut(row);
                    kernel.planes(&codes[..words.len()], &mut positive[words.clone()], &mut negative[words.clone()]);
                }
                coordinator.count_bytes(size_of_val(numbers) + digits.len() * numbers.len())?;
            }
        }
        Ok(Encoded::from_parts(code.base(), collect(digits.into_iter().map(Arc::new))?, scales))
    })
}

/// The same from compressed sparse rows: the very batch that [`encode`] makes of the same numbers and the zeros.
///
/// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
///
/// # Errors
///
/// If `poll` returned `false`, or there is no memory; or if a column lies outside the vectors, the columns of a vector are
/// not in order, or `offsets` do not divide `columns` into rows.
///
/// # Panics
///
/// If a number is not finite.
pub fn encode_sparse<T: Float>(
    n_inputs: usize,
    offsets: &[usize],
    columns: &[usize],
    values: &[T],
    code: Code,
    kernel: Kernel,
    poll: &mut dyn FnMut(f64) -> bool,
) -> Result<Encoded, PlaneError> {
    check_offsets(offsets, columns.len(), values.len())?;
    let n_rows = offsets.len() - 1;
    let mut digits = with_capacity(code.digits() as usize).map_err(Stopped::from)?;
    for _ in 0..code.digits() {
        digits.push(TernaryBatch::zeros(n_rows, n_inputs).map_err(Stopped::from)?);
    }
    let mut scales = with_capacity(n_rows).map_err(Stopped::from)?;
    let top = f64::from(code.largest());
    on_calling_thread(poll, |coordinator| {
        let mut integers = [0; ELEMENTS_AT_ONCE];
        let mut codes = [0; ELEMENTS_AT_ONCE];
        for (row, bounds) in offsets.windows(2).enumerate() {
            let columns = row_columns(columns, bounds, n_inputs, coordinator)?;
            let values = &values[bounds[0]..bounds[1]];
            let largest = T::largest_magnitude(values);
            assert!(largest.is_finite(), "finite numbers");
            scales.push(scale_of(largest, top));
            let (enlarged, factor) = factors_of(largest, top);
            for (columns, values) in columns.chunks(ELEMENTS_AT_ONCE).zip(values.chunks(ELEMENTS_AT_ONCE)) {
                kernel.vectorize(
                    #[inline(always)]
                    || integers_of(values, enlarged, factor, top, &mut integers),
                );
                for digit in digits.iter_mut().rev() {
                    kernel.vectorize(
                        #[inline(always)]
                        || next_digits(code, &mut integers[..columns.len()], &mut codes),
                    );
                    for (&column, &code) in columns.iter().zip(&codes) {
                        digit.set(row, column, code);
                    }
                    // A cache line of each plane for each element.
                    coordinator.count_bytes(128 * columns.len())?;
                }
            }
        }
        let digits = collect(digits.into_iter().map(Arc::new)).map_err(Stopped::from)?;
        Ok(Encoded::from_parts(code.base(), digits, scales))
    })
}

/// The scale of a vector: times `top` it gives the largest number, and is never infinite.
fn scale_of(largest: f64, top: f64) -> f64 {
    let scale = largest / top;
    if (scale * top).is_finite() { scale } else { scale.next_down() }
}

/// The two factors that turn numbers of this largest magnitude into integers.
fn factors_of(largest: f64, top: f64) -> (f64, f64) {
    // Tiny numbers are enlarged first, because their inverse overflows.
    let enlarged = if largest < 1e-250 { LARGE } else { 1.0 };
    (enlarged, if largest > 0.0 { top / (largest * enlarged) } else { 0.0 })
}

/// The integer nearest to each number times both factors, at most `top`. Integers beyond the last number are 0.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled for the instruction set of the caller")]
fn integers_of<T: Float>(numbers: &[T], enlarged: f64, factor: f64, top: f64, integers: &mut [i32; ELEMENTS_AT_ONCE]) {
    for (integer, &number) in integers.iter_mut().zip(numbers) {
        *integer = (number.wide() * enlarged * factor).round_ties_even().min(top).max(-top) as i32;
    }
    integers[numbers.len()..].fill(0);
}

/// Splits the lowest digit off each integer.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled for the instruction set of the caller")]
fn next_digits(code: Code, integers: &mut [i32], digits: &mut [i8]) {
    match code {
        Code::BalancedTernary(11..) => {
            for (integer, digit) in integers.iter_mut().zip(digits) {
                // The nearest third, by 2863311531/2³³: it is off by 0.07 at 1,743,392,200.
                let rest = ((i64::from(*integer) * 2_863_311_531 + (1 << 32)) >> 33) as i32;
                *digit = (*integer - 3 * rest) as i8;
                *integer = rest;
            }
        }
        Code::BalancedTernary(_) => {
            for (integer, digit) in integers.iter_mut().zip(digits) {
                // The nearest third, by 43691/2¹⁷: it is off by 0.08 at 29,524, and thirds are 1/6 away from halves.
                let rest = (*integer * 43_691 + (1 << 16)) >> 17;
                *digit = (*integer - 3 * rest) as i8;
                *integer = rest;
            }
        }
        Code::SignedBits(_) => {
            for (integer, digit) in integers.iter_mut().zip(digits) {
                let rest = *integer / 2;
                *digit = (*integer - 2 * rest) as i8;
                *integer = rest;
            }
        }
    }
}

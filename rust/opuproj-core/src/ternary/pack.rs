//! Packing numbers into planes, a piece at a time.

use super::{TernaryBatch, WORD};
use crate::kernel::Kernel;
use crate::memory::room;
use crate::work::{Stopped, alone};

/// Words that are packed at a time: their codes stay in a first-level cache.
const STRETCH: usize = 16;

/// How far ahead numbers are asked for: the hardware does not look beyond a page of 4 KiB.
const AHEAD_BYTES: usize = 4 << 10;

/// Numbers whose largest one is looked for at a time.
const MOST_AT_ONCE: usize = 1 << 16;

/// The code of a number that cannot be packed.
const REFUSED: i8 = 2;

/// A number type that can be packed.
pub trait Value: Copy + Send + Sync {
    /// 1 for 1, −1 for −1, 0 for 0, and 2 for anything else.
    fn code(self) -> i8;
}

macro_rules! value {
    ($zero:expr, $one:expr, $minus_one:expr; $($type:ty),*) => {$(
        impl Value for $type {
            #[inline(always)]
            #[allow(clippy::float_cmp, reason = "a ternary value is exactly -1, 0 or 1")]
            fn code(self) -> i8 {
                let code = if self == $zero { 0 } else { REFUSED };
                let code = if self == $one { 1 } else { code };
                if self == $minus_one { -1 } else { code }
            }
        }
    )*};
}
value!(0, 1, -1; i8, i16, i32, i64);
value!(0.0, 1.0, -1.0; f32, f64);

macro_rules! unsigned_value {
    ($($type:ty),*) => {$(
        impl Value for $type {
            #[inline(always)]
            fn code(self) -> i8 {
                if self > 1 { REFUSED } else { self as i8 }
            }
        }
    )*};
}
unsigned_value!(u8, u16, u32, u64);

/// The first number of a piece that cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its row, counted from the first of the piece.
    pub row: usize,
    /// Its column.
    pub column: usize,
}

/// A batch that is being filled from its first row on.
#[derive(Debug)]
pub struct Packer {
    kernel: Kernel,
    batch: TernaryBatch,
    filled: usize,
    /// Elements of the next row that are packed already.
    begun: usize,
}

impl Packer {
    /// A batch to fill. Nothing if there is no memory for it.
    #[must_use]
    pub fn new(n_rows: usize, n_inputs: usize) -> Option<Self> {
        // Every word of a row is written when the row is packed, and the batch is given out once all rows are.
        let batch = TernaryBatch::any(n_rows, n_inputs).ok()?;
        Some(Self { kernel: Kernel::best(), batch, filled: 0, begun: 0 })
    }

    /// The same, packed by these inner loops in place of the best ones.
    #[must_use]
    pub fn on(self, kernel: Kernel) -> Self {
        Self { kernel, ..self }
    }

    /// The length of a vector.
    #[must_use]
    pub fn n_inputs(&self) -> usize {
        self.batch.n_inputs
    }

    /// The rows still to come.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.batch.n_rows - self.filled
    }

    /// Packs rows of −1, 0 and 1. The last one may end with any whole word, to be continued by the next call.
    ///
    /// # Errors
    ///
    /// The first number that is none of them; the rows before it are packed.
    ///
    /// # Panics
    ///
    /// If the numbers end elsewhere, or are more than are missing.
    pub fn push<T: Value>(&mut self, numbers: &[T]) -> Result<(), Refused> {
        self.fill(numbers, |_| T::code)
    }

    /// Packs rows of any numbers: 1 above the row's threshold, −1 below its negative, 0 else (at it, too). The last one may
    /// end as in [`push`](Self::push).
    ///
    /// # Errors
    ///
    /// The first NaN; the rows before it are packed.
    ///
    /// # Panics
    ///
    /// If the numbers are not such rows with a threshold each, or more than are missing.
    pub fn push_ternarized<T: Float>(&mut self, numbers: &[T], thresholds: &[f64]) -> Result<(), Refused> {
        let rows = (self.begun + numbers.len()).div_ceil(self.n_inputs().max(1));
        assert_eq!(rows, thresholds.len(), "a threshold a row");
        self.fill(numbers, |row| {
            let threshold = T::floor_of(thresholds[row]);
            move |number: T| number.ternarized(threshold)
        })
    }

    /// The batch.
    ///
    /// # Errors
    ///
    /// The number of rows that are missing.
    pub fn finish(self) -> Result<TernaryBatch, usize> {
        match self.missing() {
            0 => Ok(self.batch),
            missing => Err(missing),
        }
    }

    #[inline]
    fn fill<T: Copy, C: Fn(T) -> i8>(&mut self, numbers: &[T], code_of: impl Fn(usize) -> C) -> Result<(), Refused> {
        let (n_inputs, width) = (self.batch.n_inputs, self.batch.row_words());
        if n_inputs == 0 {
            return Ok(());
        }
        let end = self.begun + numbers.len();
        assert!((end % n_inputs).is_multiple_of(WORD), "rows, or the beginning of one in whole words");
        assert!(end.div_ceil(n_inputs) <= self.missing(), "no more rows than are missing");
        let kernel = self.kernel;
        let mut codes = [[0; WORD]; STRETCH];
        let mut ahead = numbers.chunks(STRETCH * WORD).skip(AHEAD_BYTES.div_ceil(STRETCH * WORD * size_of::<T>()));
        let (mut rest, mut row) = (numbers, 0);
        while !rest.is_empty() {
            let numbers;
            (numbers, rest) = rest.split_at(rest.len().min(n_inputs - self.begun));
            let code = code_of(row);
            let first = self.filled * width + self.begun / WORD;
            let words = first..first + numbers.len().div_ceil(WORD);
            let positive = self.batch.positive[words.clone()].chunks_mut(STRETCH);
            let planes = positive.zip(self.batch.negative[words].chunks_mut(STRETCH));
            for (k, (numbers, (positive, negative))) in numbers.chunks(STRETCH * WORD).zip(planes).enumerate() {
                Kernel::prefetch(ahead.next().unwrap_or_default());
                kernel.vectorize(
                    #[inline(always)]
                    || {
                        for (to, &number) in codes.as_flattened_mut().iter_mut().zip(numbers) {
                            *to = code(number);
                        }
                    },
                );
                codes.as_flattened_mut()[numbers.len()..].fill(0);
                if kernel.planes(&codes[..positive.len()], positive, negative) {
                    let place = codes.as_flattened().iter().position(|&code| code == REFUSED);
                    let column = self.begun + k * STRETCH * WORD + place.expect("a refused number");
                    return Err(Refused { row, column });
                }
            }
            self.begun += numbers.len();
            if self.begun == n_inputs {
                (self.filled, self.begun, row) = (self.filled + 1, 0, row + 1);
            }
        }
        Ok(())
    }
}

/// A floating-point type that can be made ternary.
pub trait Float: Copy + Send + Sync {
    /// The largest number of this type that is not above `threshold`: for every number of this type, to be above the one
    /// is to be above the other.
    fn floor_of(threshold: f64) -> Self;

    /// 1 above the threshold, −1 below its negative, 2 for NaN, else 0.
    fn ternarized(self, threshold: Self) -> i8;

    /// The number, as float64.
    fn wide(self) -> f64;

    /// The largest magnitude, as float64; NaN where there is one.
    fn largest_magnitude(numbers: &[Self]) -> f64;
}

macro_rules! float {
    ($type:ty, $floor:expr) => {
        impl Float for $type {
            #[inline]
            fn floor_of(threshold: f64) -> Self {
                $floor(threshold)
            }

            #[inline(always)]
            fn ternarized(self, threshold: Self) -> i8 {
                // Without branches, which compilers do not always turn into vectors.
                i8::from(self > threshold) - i8::from(self < -threshold) + REFUSED * i8::from(self.is_nan())
            }

            #[inline(always)]
            fn wide(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            fn largest_magnitude(numbers: &[Self]) -> f64 {
                // Magnitudes are in the order of their bits, NaNs above all.
                let bits = numbers.iter().map(|number| number.abs().to_bits()).fold(0, Ord::max);
                f64::from(<$type>::from_bits(bits))
            }
        }
    };
}
float!(f32, |threshold: f64| {
    let nearest = threshold as f32;
    if f64::from(nearest) > threshold { nearest.next_down() } else { nearest }
});
float!(f64, |threshold| threshold);

/// The largest magnitude of each row of `n_inputs` numbers; NaN where the row holds one.
///
/// `poll` is called as by [`Projection::run`](crate::projection::Projection::run).
///
/// # Errors
///
/// If `poll` stopped it, or there is no memory for them.
///
/// # Panics
///
/// If `n_inputs` is 0.
pub fn max_abs<T: Float>(
    numbers: &[T],
    n_inputs: usize,
    kernel: Kernel,
    poll: &mut dyn FnMut(f64) -> bool,
) -> Result<Vec<f64>, Stopped> {
    let mut largest = room(numbers.len() / n_inputs)?;
    alone(poll, |lead| {
        for row in numbers.chunks_exact(n_inputs) {
            let mut of_row = 0.0f64;
            for part in row.chunks(MOST_AT_ONCE) {
                let of_part = kernel.vectorize(
                    #[inline(always)]
                    || T::largest_magnitude(part),
                );
                // In the order of their bits, in which NaN is above all.
                if of_part.total_cmp(&of_row).is_gt() {
                    of_row = of_part;
                }
                lead.went_through(size_of_val(part))?;
            }
            largest.push(of_row);
        }
        Ok(largest)
    })
}

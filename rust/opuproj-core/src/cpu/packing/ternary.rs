//! Packing numbers into planes, a piece at a time.

use crate::batch::numbers::{Float, NOT_TERNARY, Value};
use crate::batch::ternary::{TernaryBatch, WORD};
use crate::cpu::kernel::Kernel;
use crate::memory::with_capacity;
use crate::progress::{Stopped, on_calling_thread};

/// Words that are packed at a time: their codes stay in a first-level cache.
const STRETCH: usize = 16;

/// How far ahead numbers are asked for: the hardware does not look beyond a page of 4 KiB.
const AHEAD_BYTES: usize = 4 << 10;

/// Numbers whose largest one is looked for at a time.
const MOST_AT_ONCE: usize = 1 << 16;

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
        self.batch.n_inputs()
    }

    /// The rows still to come.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.batch.n_rows() - self.filled
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
        let n_inputs = self.batch.n_inputs();
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
            let first = self.begun / WORD;
            let words = first..first + numbers.len().div_ceil(WORD);
            let (positive, negative) = self.batch.row_mut(self.filled);
            let planes = positive[words.clone()].chunks_mut(STRETCH).zip(negative[words].chunks_mut(STRETCH));
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
                    let place = codes.as_flattened().iter().position(|&code| code == NOT_TERNARY);
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

/// The largest magnitude of each row of `n_inputs` numbers; NaN where the row holds one.
///
/// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
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
    let mut largest = with_capacity(numbers.len() / n_inputs)?;
    on_calling_thread(poll, |coordinator| {
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
                coordinator.count_bytes(size_of_val(part))?;
            }
            largest.push(of_row);
        }
        Ok(largest)
    })
}

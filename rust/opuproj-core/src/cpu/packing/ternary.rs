//! −1, 0 and 1 into planes of bits, a piece at a time.

use crate::batch::numbers::{Float, NOT_TERNARY, Value};
use crate::batch::ternary::{TernaryBatch, WORD};
use crate::cpu::kernel::Kernel;
use crate::memory::with_capacity;
use crate::progress::{Stopped, on_calling_thread};

/// Words that are packed together: their codes stay in a first-level cache.
const WORDS_AT_ONCE: usize = 16;

/// How far ahead numbers are prefetched. The hardware does not prefetch beyond a page of 4 KiB.
const PREFETCH_BYTES: usize = 4 << 10;

/// Numbers whose maximum is computed together.
const MAX_AT_ONCE: usize = 1 << 16;

/// The first number of a piece that cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its row, counted from the first of the piece.
    pub row: usize,
    /// Its column.
    pub column: usize,
}

/// Fills a batch, from the first row on.
#[derive(Debug)]
pub struct Packer {
    kernel: Kernel,
    batch: TernaryBatch,
    filled: usize,
    /// Elements of the next row that are already packed.
    begun: usize,
}

impl Packer {
    /// Begins a batch; `None` if there is no memory for it.
    #[must_use]
    pub fn new(n_rows: usize, n_inputs: usize) -> Option<Self> {
        // Packing a row writes all of its words, and `finish` returns the batch only when all rows are packed.
        let batch = TernaryBatch::unfilled(n_rows, n_inputs).ok()?;
        Some(Self { kernel: Kernel::best(), batch, filled: 0, begun: 0 })
    }

    /// Uses this kernel in place of the best one.
    #[must_use]
    pub fn on(self, kernel: Kernel) -> Self {
        Self { kernel, ..self }
    }

    /// The length of a vector.
    #[must_use]
    pub fn n_inputs(&self) -> usize {
        self.batch.n_inputs()
    }

    /// The number of rows that are missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.batch.n_rows() - self.filled
    }

    /// Packs rows of −1, 0 and 1. The last row may end after any whole word; the next call continues it.
    ///
    /// # Errors
    ///
    /// The first number that is not ternary. The rows before it are packed.
    ///
    /// # Panics
    ///
    /// If the numbers end within a word, or are more than are missing.
    pub fn push<T: Value>(&mut self, numbers: &[T]) -> Result<(), Refused> {
        self.fill(numbers, |_| T::code)
    }

    /// Packs rows of any numbers: 1 above the row's threshold, −1 below its negative, else 0 (at the threshold, too). The last
    /// row may end as in [`push`](Self::push).
    ///
    /// # Errors
    ///
    /// The first NaN. The rows before it are packed.
    ///
    /// # Panics
    ///
    /// If there is not a threshold for each row, or as [`push`](Self::push).
    pub fn push_ternarized<T: Float>(&mut self, numbers: &[T], thresholds: &[f64]) -> Result<(), Refused> {
        let rows = (self.begun + numbers.len()).div_ceil(self.n_inputs().max(1));
        assert_eq!(rows, thresholds.len(), "a threshold a row");
        self.fill(numbers, |row| {
            let threshold = T::floor_of(thresholds[row]);
            move |number: T| number.ternarized(threshold)
        })
    }

    /// The packed batch.
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
        let mut codes = [[0; WORD]; WORDS_AT_ONCE];
        let mut ahead =
            numbers.chunks(WORDS_AT_ONCE * WORD).skip(PREFETCH_BYTES.div_ceil(WORDS_AT_ONCE * WORD * size_of::<T>()));
        let (mut rest, mut row) = (numbers, 0);
        while !rest.is_empty() {
            let numbers;
            (numbers, rest) = rest.split_at(rest.len().min(n_inputs - self.begun));
            let code = code_of(row);
            let first = self.begun / WORD;
            let words = first..first + numbers.len().div_ceil(WORD);
            let (positive, negative) = self.batch.row_mut(self.filled);
            let planes =
                positive[words.clone()].chunks_mut(WORDS_AT_ONCE).zip(negative[words].chunks_mut(WORDS_AT_ONCE));
            for (k, (numbers, (positive, negative))) in numbers.chunks(WORDS_AT_ONCE * WORD).zip(planes).enumerate() {
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
                    let column = self.begun + k * WORDS_AT_ONCE * WORD + place.expect("a refused number");
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

/// The largest magnitude of each row of `n_inputs` numbers; NaN if the row has one.
///
/// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
///
/// # Errors
///
/// If `poll` returned `false`, or there is no memory.
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
            for part in row.chunks(MAX_AT_ONCE) {
                let of_part = kernel.vectorize(
                    #[inline(always)]
                    || T::largest_magnitude(part),
                );
                // In this order NaN is above all.
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

//! What shares long work among threads, and lets the caller follow and stop it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::kernel::MAX_NONZEROS;
use crate::pool;
use crate::ternary::{TernaryBatch, WORD};
use crate::vectors::Vectors;

/// Bytes of sums that a tile may have: they live in a second-level cache.
pub(crate) const TILE_SUMS: usize = 512 << 10;

/// Bytes of sums that a stripe may have.
pub(crate) const STRIPE_SUMS: usize = 16 << 20;

/// Entries of T worth the waking of another thread.
pub(crate) const ENTRIES_PER_THREAD: u64 = 1 << 22;

/// Units that the work of one entry is counted in.
pub(crate) const WORK_PER_ENTRY: u64 = 4;

/// Work between two looks at the clock: some ten microseconds of a fast kernel, some milliseconds of the slowest.
pub(crate) const WORK_PER_PAUSE: u64 = WORK_PER_ENTRY << 18;

/// How often the caller is asked whether to go on.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What work needs beyond its inputs and outputs, at most: its buffers, and those of a few threads.
const MOST_MEMORY: usize = 64 << 20;

/// Memory too little to ask for in advance.
const LITTLE_MEMORY: usize = 1 << 20;

/// Why work did not take place, or not to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The caller's `poll` said so.
    Cancelled,
    /// This vector has more than [`MAX_NONZEROS`] nonzeros.
    TooManyNonzeros(usize),
    /// There is no memory for its buffers.
    NoMemory,
}

/// Refuses a batch with a vector whose sums might not fit.
pub(crate) fn refuse_too_many(batch: &TernaryBatch) -> Result<(), Stopped> {
    match batch.first_with_more_than(MAX_NONZEROS) {
        Some(vector) => Err(Stopped::TooManyNonzeros(vector)),
        None => Ok(()),
    }
}

/// Whether buffers can be had for groups of so many vectors, with so many sums each. A buffer that is refused later on,
/// in some thread, would end the process.
pub(crate) fn has_room(vectors: &Vectors<'_>, most_vectors: usize, n_sums: usize) -> bool {
    let n_columns = vectors.row_words().saturating_mul(WORD);
    let n_vectors = vectors.len().min(most_vectors);
    // Of inputs: int8 rows or lists, and what lays them out. Of sums: their own 4 bytes, and what reads them out.
    let inputs = n_columns.saturating_mul(n_vectors + 32);
    let sums = n_sums.saturating_mul(16 * n_vectors);
    let needed = inputs.saturating_add(sums).min(MOST_MEMORY);
    needed <= LITTLE_MEMORY || Vec::<u8>::new().try_reserve_exact(needed).is_ok()
}

/// The first `length` elements of a buffer that is made long enough; what they hold is left over from before.
pub(crate) fn sized<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
    &mut buffer[..length]
}

/// What all threads know of the work.
pub(crate) struct Watch {
    total: u64,
    done: AtomicU64,
    pub(crate) cancelled: AtomicBool,
}

impl Watch {
    /// Over work of so much in total.
    pub(crate) fn of(total: u64) -> Self {
        Self { total, done: AtomicU64::new(0), cancelled: AtomicBool::new(false) }
    }
}

/// The calling thread, which alone may ask whether to go on.
pub(crate) struct Lead<'w, 'p> {
    pub(crate) watch: &'w Watch,
    poll: &'p mut dyn FnMut(f64) -> bool,
    last: Instant,
}

impl<'w, 'p> Lead<'w, 'p> {
    pub(crate) fn new(watch: &'w Watch, poll: &'p mut dyn FnMut(f64) -> bool) -> Self {
        Self { watch, poll, last: Instant::now() }
    }

    /// Has so many threads work, this one among them; each may ask whether to go on.
    pub(crate) fn share(&mut self, threads: usize, work: impl Fn(&mut dyn FnMut() -> bool) + Sync) {
        let watch = self.watch;
        pool::share(threads - 1, || work(&mut || !watch.cancelled.load(Relaxed)), || work(&mut || self.keep_on()));
    }

    fn keep_on(&mut self) -> bool {
        if self.last.elapsed() >= POLL_INTERVAL {
            let done = self.watch.done.load(Relaxed) as f64 / (self.watch.total as f64).max(1.0);
            if !(self.poll)(done.min(1.0)) {
                self.watch.cancelled.store(true, Relaxed);
            }
            self.last = Instant::now();
        }
        !self.watch.cancelled.load(Relaxed)
    }
}

/// One thread at work: what it has done that is not yet reported, and whether it is to go on.
pub(crate) struct Pace<'a> {
    watch: &'a Watch,
    keep_on: &'a mut dyn FnMut() -> bool,
    /// Work between two looks at the clock.
    per_look: u64,
    unreported: u64,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(watch: &'a Watch, keep_on: &'a mut dyn FnMut() -> bool, per_look: u64) -> Self {
        Self { watch, keep_on, per_look, unreported: 0 }
    }

    /// Notes work, and once there is enough of it, reports it and asks whether to go on.
    pub(crate) fn pause(&mut self, work: u64) -> bool {
        self.unreported += work;
        if self.unreported < self.per_look {
            return true;
        }
        self.watch.done.fetch_add(std::mem::take(&mut self.unreported), Relaxed);
        self.keep_on()
    }

    /// Asks whether to go on.
    pub(crate) fn keep_on(&mut self) -> bool {
        (self.keep_on)()
    }
}

/// The next piece of work.
pub(crate) fn next<I: Iterator>(queue: &Mutex<I>) -> Option<I::Item> {
    // A thread that panicked took its piece along; what is left is whole.
    queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
}

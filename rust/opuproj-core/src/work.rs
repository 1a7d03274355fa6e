//! What shares long work among threads, and lets the caller follow and stop it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::kernel::MAX_NONZEROS;
use crate::pool;
use crate::ternary::TernaryBatch;

/// Entries of T worth the waking of another thread.
pub(crate) const ENTRIES_PER_THREAD: u64 = 1 << 22;

/// Units that the work of one entry is counted in.
pub(crate) const WORK_PER_ENTRY: u64 = 4;

/// Work between two looks at the clock: some ten microseconds of a fast kernel, some milliseconds of the slowest.
pub(crate) const WORK_PER_PAUSE: u64 = WORK_PER_ENTRY << 18;

/// How often the caller is asked whether to go on.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

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

/// What all threads know of the work.
pub(crate) struct Watch {
    total: AtomicU64,
    done: AtomicU64,
    pub(crate) cancelled: AtomicBool,
}

impl Watch {
    /// Over work that is yet to be counted.
    pub(crate) fn new() -> Self {
        Self { total: AtomicU64::new(0), done: AtomicU64::new(0), cancelled: AtomicBool::new(false) }
    }

    /// Says how much work there is in total.
    pub(crate) fn expect(&self, total: u64) {
        self.total.store(total, Relaxed);
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
    ///
    /// The caller is asked as long as any of them works.
    pub(crate) fn share(&mut self, threads: usize, work: impl Fn(&mut dyn FnMut() -> bool) + Sync) {
        let watch = self.watch;
        let help = || work(&mut || !watch.cancelled.load(Relaxed));
        pool::share(threads - 1, help, |helpers| {
            work(&mut || self.keep_on());
            while helpers.still_at_work(POLL_INTERVAL) && self.keep_on() {}
        });
    }

    /// Whether to go on: the caller is asked now and then.
    pub(crate) fn keep_on(&mut self) -> bool {
        if self.last.elapsed() >= POLL_INTERVAL {
            let total = self.watch.total.load(Relaxed).max(1);
            let done = self.watch.done.load(Relaxed) as f64 / total as f64;
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

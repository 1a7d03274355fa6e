//! What shares long work among threads, and lets the caller follow and stop it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::kernel::MAX_NONZEROS;
use crate::memory::NoMemory;
use crate::pool;
use crate::ternary::TernaryBatch;

/// Entries of T worth the waking of another thread.
pub(crate) const ENTRIES_PER_THREAD: u64 = 1 << 22;

/// Units that the work of one entry is counted in.
pub(crate) const WORK_PER_ENTRY: u64 = 4;

/// Work between two looks at the clock: some ten microseconds of a fast kernel, some milliseconds of the slowest.
pub(crate) const WORK_PER_PAUSE: u64 = WORK_PER_ENTRY << 18;

/// Bytes that the calling thread alone goes through between two looks at the clock: some milliseconds where they are new
/// pages of memory.
const BYTES_PER_LOOK: u64 = 1 << 20;

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

impl From<NoMemory> for Stopped {
    fn from(NoMemory: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// Refuses a batch with a vector whose sums might not fit.
pub(crate) fn refuse_too_many(batch: &TernaryBatch, lead: &mut Lead<'_, '_>) -> Result<(), Stopped> {
    match batch.first_with_more_than(MAX_NONZEROS, lead)? {
        Some(vector) => Err(Stopped::TooManyNonzeros(vector)),
        None => Ok(()),
    }
}

/// What all threads know of the work.
pub(crate) struct Watch {
    total: AtomicU64,
    done: AtomicU64,
    /// Whether all of them are to stop, and whether the reason is that one found no memory.
    stopped: AtomicBool,
    no_memory: AtomicBool,
}

impl Watch {
    /// Over work that is yet to be counted.
    pub(crate) fn new() -> Self {
        let [total, done] = [0; 2].map(AtomicU64::new);
        let [stopped, no_memory] = [false; 2].map(AtomicBool::new);
        Self { total, done, stopped, no_memory }
    }

    /// Says how much work there is in total.
    pub(crate) fn expect(&self, total: u64) {
        self.total.store(total, Relaxed);
    }

    /// Stops all threads where one of them found no memory.
    fn note(&self, ended: Result<(), Stopped>) {
        if ended == Err(Stopped::NoMemory) {
            self.no_memory.store(true, Relaxed);
            self.stopped.store(true, Relaxed);
        }
    }

    fn goes_on(&self) -> bool {
        !self.stopped.load(Relaxed)
    }

    /// Whether and why the work was stopped.
    fn ended(&self) -> Result<(), Stopped> {
        match (self.goes_on(), self.no_memory.load(Relaxed)) {
            (true, _) => Ok(()),
            (false, true) => Err(Stopped::NoMemory),
            (false, false) => Err(Stopped::Cancelled),
        }
    }
}

/// The calling thread, which alone may ask whether to go on.
pub(crate) struct Lead<'w, 'p> {
    pub(crate) watch: &'w Watch,
    poll: &'p mut dyn FnMut(f64) -> bool,
    last: Instant,
    /// Bytes that it has gone through since its last look at the clock.
    unreported: u64,
}

impl<'w, 'p> Lead<'w, 'p> {
    pub(crate) fn new(watch: &'w Watch, poll: &'p mut dyn FnMut(f64) -> bool) -> Self {
        Self { watch, poll, last: Instant::now(), unreported: 0 }
    }

    /// Has so many threads work, this one among them; each may ask whether to go on.
    ///
    /// The caller is asked as long as any of them works.
    pub(crate) fn share(
        &mut self,
        threads: usize,
        work: impl Fn(&mut dyn FnMut() -> bool) -> Result<(), Stopped> + Sync,
    ) -> Result<(), Stopped> {
        let watch = self.watch;
        let help = || watch.note(work(&mut || watch.goes_on()));
        pool::share(threads - 1, help, |helpers| {
            watch.note(work(&mut || self.asks()));
            while helpers.still_at_work(POLL_INTERVAL) && self.asks() {}
        });
        watch.ended()
    }

    /// Goes on, unless the caller, who is asked now and then, says no.
    pub(crate) fn keep_on(&mut self) -> Result<(), Stopped> {
        self.asks();
        self.watch.ended()
    }

    /// Notes bytes that this thread has gone through alone, and after enough of them asks whether to go on.
    pub(crate) fn went_through(&mut self, bytes: usize) -> Result<(), Stopped> {
        self.unreported += bytes as u64;
        if self.unreported < BYTES_PER_LOOK {
            return Ok(());
        }
        self.unreported = 0;
        self.keep_on()
    }

    fn asks(&mut self) -> bool {
        if self.last.elapsed() >= POLL_INTERVAL {
            let total = self.watch.total.load(Relaxed).max(1);
            let done = self.watch.done.load(Relaxed) as f64 / total as f64;
            if !(self.poll)(done.min(1.0)) {
                self.watch.stopped.store(true, Relaxed);
            }
            self.last = Instant::now();
        }
        self.watch.goes_on()
    }
}

/// Has the calling thread work alone, and ask `poll` now and then whether to go on.
pub(crate) fn alone<T, E>(
    poll: &mut dyn FnMut(f64) -> bool,
    work: impl FnOnce(&mut Lead<'_, '_>) -> Result<T, E>,
) -> Result<T, E> {
    work(&mut Lead::new(&Watch::new(), poll))
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
    pub(crate) fn pause(&mut self, work: u64) -> Result<(), Stopped> {
        self.unreported += work;
        if self.unreported < self.per_look {
            return Ok(());
        }
        self.watch.done.fetch_add(std::mem::take(&mut self.unreported), Relaxed);
        self.keep_on()
    }

    /// Goes on, unless the caller, who is asked now and then, says no.
    pub(crate) fn keep_on(&mut self) -> Result<(), Stopped> {
        if (self.keep_on)() { Ok(()) } else { Err(Stopped::Cancelled) }
    }
}

/// The next piece of work.
pub(crate) fn next<I: Iterator>(queue: &Mutex<I>) -> Option<I::Item> {
    // A thread that panicked took its piece along; what is left is whole.
    queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
}

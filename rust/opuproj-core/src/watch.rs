//! Threads at a batch: one leads and alone asks the caller whether to go on, all note what is done.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::pool;

/// How often the caller is asked whether to go on.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What all threads know of the work.
pub(crate) struct Watch {
    total: u64,
    pub(crate) done: AtomicU64,
    pub(crate) cancelled: AtomicBool,
}

impl Watch {
    pub(crate) fn new(total: u64) -> Self {
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

    pub(crate) fn keep_on(&mut self) -> bool {
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

/// The next piece of work.
pub(crate) fn next<I: Iterator>(queue: &Mutex<I>) -> Option<I::Item> {
    // A thread that panicked took its piece along; what is left is whole.
    queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
}

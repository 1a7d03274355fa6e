//! How threads share work, and how each of them reports it.

use std::sync::Mutex;

use super::pool;
use crate::progress::{Coordinator, POLL_INTERVAL, Progress, Stopped};

/// Entries of T from which on another thread is worth waking.
pub(super) const ENTRIES_PER_THREAD: u64 = 1 << 22;

/// Units in which the work of one entry is counted.
pub(super) const WORK_PER_ENTRY: u64 = 4;

/// Work between two readings of the clock: some ten microseconds of a fast kernel, some milliseconds of the slowest.
pub(super) const WORK_PER_CHECK: u64 = WORK_PER_ENTRY << 18;

/// Runs `work` on this many threads, the calling one among them, and calls the caller's `poll` until all have ended.
///
/// `work` gets a function that says whether to go on.
pub(super) fn share(
    coordinator: &mut Coordinator<'_, '_>,
    threads: usize,
    work: impl Fn(&mut dyn FnMut() -> bool) -> Result<(), Stopped> + Sync,
) -> Result<(), Stopped> {
    let progress = coordinator.progress;
    let worker = || progress.thread_ended(work(&mut || progress.is_running()));
    pool::run(threads - 1, worker, |workers| {
        progress.thread_ended(work(&mut || coordinator.poll_if_due()));
        while workers.wait(POLL_INTERVAL) && coordinator.poll_if_due() {}
    });
    progress.result()
}

/// Counts the work of one thread: reports it and checks for a stop after every `per_check` units.
pub(super) struct Ticker<'a> {
    progress: &'a Progress,
    goes_on: &'a mut dyn FnMut() -> bool,
    per_check: u64,
    /// Work that is not reported yet.
    work: u64,
}

impl<'a> Ticker<'a> {
    pub(super) fn new(progress: &'a Progress, goes_on: &'a mut dyn FnMut() -> bool, per_check: u64) -> Self {
        Self { progress, goes_on, per_check, work: 0 }
    }

    /// Counts work. Once there is enough of it, reports it and returns an error if the thread must stop.
    pub(super) fn count(&mut self, work: u64) -> Result<(), Stopped> {
        self.work += work;
        if self.work < self.per_check {
            return Ok(());
        }
        self.progress.add_done(std::mem::take(&mut self.work));
        self.check()
    }

    /// Returns an error if the thread must stop.
    pub(super) fn check(&mut self) -> Result<(), Stopped> {
        if (self.goes_on)() { Ok(()) } else { Err(Stopped::Cancelled) }
    }
}

/// The next task of a queue.
pub(super) fn next<I: Iterator>(queue: &Mutex<I>) -> Option<I::Item> {
    // A thread that panicked has taken its task; the rest of the queue is intact.
    queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
}

//! Long calls report their progress, and the caller can stop them.
//!
//! Only the calling thread calls the caller's `poll` function, through its `Coordinator`. Other threads see in the shared
//! `Progress` whether to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::memory::NoMemory;

/// Bytes that the calling thread processes alone between two readings of the clock. That takes some milliseconds where the
/// bytes are new pages of memory.
const BYTES_PER_CHECK: u64 = 1 << 20;

/// The interval at which `poll` is called.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Why a call did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The caller's `poll` returned `false`.
    Cancelled,
    /// There is no memory for its buffers.
    NoMemory,
}

impl From<NoMemory> for Stopped {
    fn from(NoMemory: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// The state of a call that all its threads share.
pub(crate) struct Progress {
    total: AtomicU64,
    done: AtomicU64,
    /// Whether all threads must stop, and whether the reason is that one of them found no memory.
    stopped: AtomicBool,
    no_memory: AtomicBool,
}

impl Progress {
    /// No work is counted yet.
    pub(crate) fn new() -> Self {
        let [total, done] = [0; 2].map(AtomicU64::new);
        let [stopped, no_memory] = [false; 2].map(AtomicBool::new);
        Self { total, done, stopped, no_memory }
    }

    /// Sets the total amount of work.
    pub(crate) fn set_total(&self, total: u64) {
        self.total.store(total, Relaxed);
    }

    /// Adds to the work that is done.
    pub(crate) fn add_done(&self, work: u64) {
        self.done.fetch_add(work, Relaxed);
    }

    /// Takes the result of one thread: if it found no memory, all threads stop.
    pub(crate) fn thread_ended(&self, result: Result<(), Stopped>) {
        if result == Err(Stopped::NoMemory) {
            self.no_memory.store(true, Relaxed);
            self.stopped.store(true, Relaxed);
        }
    }

    /// Whether threads shall go on.
    pub(crate) fn is_running(&self) -> bool {
        !self.stopped.load(Relaxed)
    }

    /// Whether and why the work was stopped.
    pub(crate) fn result(&self) -> Result<(), Stopped> {
        match (self.is_running(), self.no_memory.load(Relaxed)) {
            (true, _) => Ok(()),
            (false, true) => Err(Stopped::NoMemory),
            (false, false) => Err(Stopped::Cancelled),
        }
    }

    fn fraction(&self) -> f64 {
        let total = self.total.load(Relaxed).max(1);
        (self.done.load(Relaxed) as f64 / total as f64).min(1.0)
    }
}

/// The calling thread's side of a call: it alone may call the caller's `poll`.
pub(crate) struct Coordinator<'w, 'p> {
    pub(crate) progress: &'w Progress,
    poll: &'p mut dyn FnMut(f64) -> bool,
    last_poll: Instant,
    /// Bytes that this thread has processed since it last read the clock.
    bytes: u64,
}

impl<'w, 'p> Coordinator<'w, 'p> {
    pub(crate) fn new(progress: &'w Progress, poll: &'p mut dyn FnMut(f64) -> bool) -> Self {
        Self { progress, poll, last_poll: Instant::now(), bytes: 0 }
    }

    /// Calls `poll` if that is due. Returns an error if the call must stop.
    pub(crate) fn check(&mut self) -> Result<(), Stopped> {
        self.poll_if_due();
        self.progress.result()
    }

    /// Counts bytes that this thread has processed alone, and checks after enough of them.
    pub(crate) fn count_bytes(&mut self, bytes: usize) -> Result<(), Stopped> {
        self.bytes += bytes as u64;
        if self.bytes < BYTES_PER_CHECK {
            return Ok(());
        }
        self.bytes = 0;
        self.check()
    }

    /// Calls `poll` if that is due, and returns whether the call goes on.
    pub(crate) fn poll_if_due(&mut self) -> bool {
        if self.last_poll.elapsed() >= POLL_INTERVAL {
            if !(self.poll)(self.progress.fraction()) {
                self.progress.stopped.store(true, Relaxed);
            }
            self.last_poll = Instant::now();
        }
        self.progress.is_running()
    }
}

/// Runs work on the calling thread alone, which calls `poll` at intervals.
pub(crate) fn on_calling_thread<T, E>(
    poll: &mut dyn FnMut(f64) -> bool,
    work: impl FnOnce(&mut Coordinator<'_, '_>) -> Result<T, E>,
) -> Result<T, E> {
    work(&mut Coordinator::new(&Progress::new(), poll))
}

//! The threads that help a caller: a pool for each call at work, kept for the next one, made anew in a forked process.
//!
//! Calls of several threads at once do not share a pool: helpers of one would wait for those of another to end. A forked
//! child inherits the memory of a pool but none of its threads, so work handed to it would never end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::thread::{self, Thread};
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::memory::check_room_for_threads;

/// Idle pools that are kept, at most.
const MOST_IDLE: usize = 4;

/// A thread's stack.
const STACK_BYTES: usize = 2 << 20;

struct Pool {
    process: u32,
    threads: ThreadPool,
}

impl Pool {
    fn n_threads(&self) -> usize {
        self.threads.current_num_threads()
    }
}

static IDLE: Mutex<Vec<Pool>> = Mutex::new(Vec::new());

/// Those who help, for the one who is helped.
pub(crate) struct Helpers {
    at_work: AtomicUsize,
    coordinator: Thread,
}

impl Helpers {
    /// Whether any of them is still at work, after waiting for that to end, so long at most.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        if self.at_work.load(Acquire) > 0 {
            thread::park_timeout(most);
        }
        self.at_work.load(Acquire) > 0
    }
}

/// One of them, until it ends or panics.
struct Helper<'a>(&'a Helpers);

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        if self.0.at_work.fetch_sub(1, AcqRel) == 1 {
            self.0.coordinator.unpark();
        }
    }
}

/// Runs `coordinator` on the calling thread and `help` on as many others, and returns when all of them have.
///
/// With fewer threads than asked for (the system refuses more), the work is merely shared by fewer.
pub(crate) fn share(helpers: usize, help: impl Fn() + Sync, coordinator: impl FnOnce(&Helpers)) {
    let pool = if helpers == 0 { None } else { idle(helpers).or_else(|| build(helpers)) };
    let helping = pool.as_ref().map_or(0, |pool| helpers.min(pool.n_threads()));
    let team = Helpers { at_work: AtomicUsize::new(helping), coordinator: thread::current() };
    let Some(pool) = pool else { return coordinator(&team) };
    pool.threads.in_place_scope(|scope| {
        for _ in 0..helping {
            scope.spawn(|_| {
                let _helper = Helper(&team);
                help();
            });
        }
        coordinator(&team);
    });
    keep(pool);
}

/// A pool that nobody uses of so many threads, and of as few more as possible.
fn idle(threads: usize) -> Option<Pool> {
    // Another thread may have held the lock when this process was forked: then nobody will ever open it.
    let mut idle = IDLE.try_lock().ok()?;
    let process = std::process::id();
    while let Some(old) = idle.iter().position(|pool| pool.process != process) {
        // Its threads live in the parent: what they held when it was forked would never be let go here.
        std::mem::forget(idle.swap_remove(old));
    }
    let fitting =
        (0..idle.len()).filter(|&at| idle[at].n_threads() >= threads).min_by_key(|&at| idle[at].n_threads())?;
    Some(idle.swap_remove(fitting))
}

/// Keeps a pool for the next call, in place of the smallest one if there are enough.
fn keep(pool: Pool) {
    let Ok(mut idle) = IDLE.try_lock() else { return };
    idle.push(pool);
    if idle.len() > MOST_IDLE
        && let Some(smallest) = (0..idle.len()).min_by_key(|&at| idle[at].n_threads())
    {
        idle.swap_remove(smallest);
    }
}

/// A pool of so many threads, or of as many as the system grants: what it refuses is asked for again by the next call.
fn build(threads: usize) -> Option<Pool> {
    let of = |threads: usize| {
        check_room_for_threads(threads, STACK_BYTES).ok()?;
        let pool = ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK_BYTES);
        pool.thread_name(|k| format!("opuproj-{k}")).build().ok()
    };
    let mut halves = std::iter::successors(Some(threads), |&threads| Some(threads / 2).filter(|&threads| threads > 0));
    let threads = halves.find_map(of)?;
    Some(Pool { process: std::process::id(), threads })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn calls_at_once_do_not_wait_for_each_other() {
        let (release, released) = mpsc::channel::<()>();
        let (started, start) = mpsc::channel();
        let released = Mutex::new(released);
        thread::scope(|scope| {
            scope.spawn(|| {
                let help = || {
                    started.send(()).expect("somebody waits");
                    released.lock().expect("no panic").recv().expect("released");
                };
                share(1, help, |_| {});
            });
            start.recv().expect("the first call has its helper");
            let (done, end) = mpsc::channel();
            thread::spawn(move || {
                share(1, || {}, |_| {});
                done.send(()).expect("somebody waits");
            });
            let other = end.recv_timeout(Duration::from_secs(20));
            release.send(()).expect("the first call waits");
            other.expect("a call that had nothing to wait for");
        });
    }

    #[test]
    fn the_lead_hears_when_the_last_helper_ends() {
        for helpers in 0..4 {
            let helped = AtomicUsize::new(0);
            let help = || {
                thread::sleep(Duration::from_millis(20));
                helped.fetch_add(1, Relaxed);
            };
            share(helpers, help, |team| while team.wait(Duration::from_secs(60)) {});
            assert_eq!(helped.load(Relaxed), helpers);
        }
    }
}

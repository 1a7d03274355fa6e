//! Pools of worker threads. Each running call has a pool of its own, which is kept for the next call.
//!
//! Concurrent calls do not share a pool, because the workers of one would then wait for those of another. A forked process
//! makes new pools: it inherits the memory of a pool but none of its threads, so work given to that pool would never end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::thread::{self, Thread};
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::memory::check_room_for_threads;

/// The most idle pools that are kept.
const MAX_IDLE: usize = 4;

/// Bytes of a worker's stack.
const WORKER_STACK_BYTES: usize = 2 << 20;

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

/// The worker threads of one call, as the calling thread sees them.
pub(super) struct Workers {
    running: AtomicUsize,
    caller: Thread,
}

impl Workers {
    /// Waits at most `timeout` for all workers to end, and returns whether any is still running.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        if self.running.load(Acquire) > 0 {
            thread::park_timeout(timeout);
        }
        self.running.load(Acquire) > 0
    }
}

/// Counts one running worker until it ends or panics.
struct RunningWorker<'a>(&'a Workers);

impl Drop for RunningWorker<'_> {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, AcqRel) == 1 {
            self.0.caller.unpark();
        }
    }
}

/// Runs `caller` on the calling thread and `worker` on `n_workers` others. Returns when all of them have ended.
///
/// If the system refuses threads, fewer workers run.
pub(super) fn run(n_workers: usize, worker: impl Fn() + Sync, caller: impl FnOnce(&Workers)) {
    let pool = if n_workers == 0 { None } else { take_idle(n_workers).or_else(|| build(n_workers)) };
    let running = pool.as_ref().map_or(0, |pool| n_workers.min(pool.n_threads()));
    let workers = Workers { running: AtomicUsize::new(running), caller: thread::current() };
    let Some(pool) = pool else { return caller(&workers) };
    pool.threads.in_place_scope(|scope| {
        for _ in 0..running {
            scope.spawn(|_| {
                let _running = RunningWorker(&workers);
                worker();
            });
        }
        caller(&workers);
    });
    keep(pool);
}

/// Takes the smallest idle pool of at least this many threads.
fn take_idle(threads: usize) -> Option<Pool> {
    // Another thread may have held the lock when this process was forked. Then it is never released.
    let mut idle = IDLE.try_lock().ok()?;
    let process = std::process::id();
    while let Some(old) = idle.iter().position(|pool| pool.process != process) {
        // Its threads run in the parent process. Dropping the pool here could wait for them for ever.
        std::mem::forget(idle.swap_remove(old));
    }
    let fitting =
        (0..idle.len()).filter(|&at| idle[at].n_threads() >= threads).min_by_key(|&at| idle[at].n_threads())?;
    Some(idle.swap_remove(fitting))
}

/// Keeps a pool for the next call. If there are too many, it drops the smallest one.
fn keep(pool: Pool) {
    let Ok(mut idle) = IDLE.try_lock() else { return };
    idle.push(pool);
    if idle.len() > MAX_IDLE
        && let Some(smallest) = (0..idle.len()).min_by_key(|&at| idle[at].n_threads())
    {
        idle.swap_remove(smallest);
    }
}

/// A pool of this many threads, or of fewer if the system refuses. The next call then tries again.
fn build(threads: usize) -> Option<Pool> {
    let of = |threads: usize| {
        check_room_for_threads(threads, WORKER_STACK_BYTES).ok()?;
        let pool = ThreadPoolBuilder::new().num_threads(threads).stack_size(WORKER_STACK_BYTES);
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
    fn concurrent_calls_do_not_wait_for_each_other() {
        let (release, released) = mpsc::channel::<()>();
        let (started, start) = mpsc::channel();
        let released = Mutex::new(released);
        thread::scope(|scope| {
            scope.spawn(|| {
                let worker = || {
                    started.send(()).expect("a receiver");
                    released.lock().expect("no panic").recv().expect("released");
                };
                run(1, worker, |_| {});
            });
            start.recv().expect("the first call has its worker");
            let (done, end) = mpsc::channel();
            thread::spawn(move || {
                run(1, || {}, |_| {});
                done.send(()).expect("a receiver");
            });
            let other = end.recv_timeout(Duration::from_secs(20));
            release.send(()).expect("the first call is waiting");
            other.expect("the second call ends by itself");
        });
    }

    #[test]
    fn the_caller_learns_when_the_last_worker_ends() {
        for n_workers in 0..4 {
            let ended = AtomicUsize::new(0);
            let worker = || {
                thread::sleep(Duration::from_millis(20));
                ended.fetch_add(1, Relaxed);
            };
            run(n_workers, worker, |workers| while workers.wait(Duration::from_secs(60)) {});
            assert_eq!(ended.load(Relaxed), n_workers);
        }
    }
}

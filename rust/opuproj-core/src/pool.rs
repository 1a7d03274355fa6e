//! The threads that help a caller: a pool of our own, made anew in a forked process.
//!
//! A forked child inherits the memory of a pool but none of its threads, so work handed to it would never end.

use std::sync::{Arc, Mutex};

use rayon::{ThreadPool, ThreadPoolBuilder};

struct Pool {
    process: u32,
    threads: Arc<ThreadPool>,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

/// Runs `lead` on the calling thread and `help` on as many others, and returns when all of them have.
///
/// With fewer threads than asked for (the system refuses more), the work is merely shared by fewer.
pub(crate) fn share(helpers: usize, help: impl Fn() + Sync, lead: impl FnOnce()) {
    let pool = if helpers == 0 { None } else { pool(helpers) };
    let Some(pool) = pool else { return lead() };
    pool.in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| help());
        }
        lead();
    });
}

/// A pool of at least so many threads.
fn pool(threads: usize) -> Option<Arc<ThreadPool>> {
    // Another thread may have held the lock when this process was forked: then nobody will ever open it.
    let Ok(mut shared) = POOL.try_lock() else { return build(threads) };
    let process = std::process::id();
    match &*shared {
        Some(pool) if pool.process == process && pool.threads.current_num_threads() >= threads => {
            Some(Arc::clone(&pool.threads))
        }
        _ => {
            let built = build(threads)?;
            let old = shared.replace(Pool { process, threads: Arc::clone(&built) });
            if let Some(old) = old.filter(|old| old.process != process) {
                // Its threads live in the parent: dropping it here would wait for them.
                std::mem::forget(old);
            }
            Some(built)
        }
    }
}

fn build(threads: usize) -> Option<Arc<ThreadPool>> {
    ThreadPoolBuilder::new().num_threads(threads).thread_name(|k| format!("opuproj-{k}")).build().ok().map(Arc::new)
}

//! Packed batches on disk, whole or not there, and as bytes in memory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use opuproj_core::Stopped;
use opuproj_core::batch::ternary::{FormatError, TernaryBatch};
use opuproj_core::memory::check_room_for_threads;

/// Between two questions whether to go on waiting for the disk.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Of the thread that waits for the disk.
const STACK_BYTES: usize = 64 << 10;

/// Writes a batch to a file, which takes its name when all of it is on disk; else nothing of it stays.
pub(crate) fn save(
    batch: &TernaryBatch,
    shape: &[u64],
    path: &Path,
    poll: &mut dyn FnMut(f64) -> bool,
) -> Result<(), FormatError> {
    let partial = beside(path);
    let saved = write(batch, shape, &partial, poll).and_then(|()| Ok(fs::rename(&partial, path)?));
    if saved.is_err() {
        // Whether or not it was there: nothing half written may stay.
        let _ = fs::remove_file(&partial);
    }
    saved
}

/// A name in the same folder that no other file has.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    let moment = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    name.push(format!(".{}-{moment}.partial", std::process::id()));
    path.with_file_name(name)
}

/// Writes a batch to a new file, and waits until it is on disk.
fn write(
    batch: &TernaryBatch,
    shape: &[u64],
    path: &Path,
    poll: &mut dyn FnMut(f64) -> bool,
) -> Result<(), FormatError> {
    let mut file = File::create_new(path)?;
    batch.write_to(shape, &mut file, poll)?;
    // The disk may take long, and the system does not come back for a signal meanwhile: another thread waits for it.
    let file = Arc::new(file);
    let (done, waiting) = mpsc::channel();
    let same = Arc::clone(&file);
    let wait = move || {
        // The call was interrupted, so there is no caller to tell.
        let _ = done.send(same.sync_all());
    };
    let granted = check_room_for_threads(1, STACK_BYTES).is_ok();
    if !(granted && thread::Builder::new().stack_size(STACK_BYTES).spawn(wait).is_ok()) {
        return Ok(file.sync_all()?);
    }
    loop {
        match waiting.recv_timeout(POLL_INTERVAL) {
            Ok(synced) => return Ok(synced?),
            Err(RecvTimeoutError::Timeout) if poll(1.0) => {}
            Err(_) => return Err(Stopped::Cancelled.into()),
        }
    }
}

/// Memory that is written from its first byte on.
pub(crate) struct Fill<'a>(pub(crate) &'a mut [MaybeUninit<u8>]);

impl Write for Fill<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.0.len());
        let (here, rest) = std::mem::take(&mut self.0).split_at_mut(n);
        for (to, &byte) in here.iter_mut().zip(bytes) {
            to.write(byte);
        }
        self.0 = rest;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Packed batches as files, which are complete or absent, and as bytes in memory.

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

/// The interval at which signals are answered while waiting for the disk.
const SYNC_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes of the stack of the thread that waits for the disk.
const SYNC_STACK_BYTES: usize = 64 << 10;

/// Writes a batch to a temporary file and renames it when all of it is on disk. After an error it removes that file.
pub(crate) fn save(
    batch: &TernaryBatch,
    shape: &[u64],
    path: &Path,
    poll: &mut dyn FnMut(f64) -> bool,
) -> Result<(), FormatError> {
    let partial = temporary_path(path);
    let saved = write(batch, shape, &partial, poll).and_then(|()| Ok(fs::rename(&partial, path)?));
    if saved.is_err() {
        // The file may not exist. In any case no incomplete file may stay.
        let _ = fs::remove_file(&partial);
    }
    saved
}

/// A name in the same folder that no other file has.
fn temporary_path(path: &Path) -> PathBuf {
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
    // The disk may take long, and `sync_all` does not return for a signal. So another thread waits for it.
    let file = Arc::new(file);
    let (done, waiting) = mpsc::channel();
    let same = Arc::clone(&file);
    let wait = move || {
        // An error means that the call was interrupted, so nobody receives the result.
        let _ = done.send(same.sync_all());
    };
    let granted = check_room_for_threads(1, SYNC_STACK_BYTES).is_ok();
    if !(granted && thread::Builder::new().stack_size(SYNC_STACK_BYTES).spawn(wait).is_ok()) {
        return Ok(file.sync_all()?);
    }
    loop {
        match waiting.recv_timeout(SYNC_POLL_INTERVAL) {
            Ok(synced) => return Ok(synced?),
            Err(RecvTimeoutError::Timeout) if poll(1.0) => {}
            Err(_) => return Err(Stopped::Cancelled.into()),
        }
    }
}

/// Uninitialized memory that is written from its first byte on.
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

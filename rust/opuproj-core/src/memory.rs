//! Fallible allocation: where there is no memory, a vector returns [`NoMemory`] instead of aborting the process.
//!
//! Everything whose size grows with the input is allocated by these functions.

use std::thread;

use bytemuck::Zeroable;
use memmap2::MmapMut;

/// Bytes of the smallest page of memory, and such pages between two checks for a stop.
const PAGE_BYTES: usize = 4 << 10;
const PAGES_PER_CHECK: usize = 256;

/// Bytes that threads need beside their stacks.
const THREAD_OVERHEAD: usize = 2 << 20;

/// The system refused memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// An empty vector with room for `n` elements.
///
/// # Errors
///
/// If there is no memory.
pub fn with_capacity<T>(n: usize) -> Result<Vec<T>, NoMemory> {
    let mut empty = Vec::new();
    empty.try_reserve_exact(n).map_err(|_| NoMemory)?;
    Ok(empty)
}

/// Adds an element to a vector.
///
/// # Errors
///
/// If there is no memory.
pub fn push<T>(all: &mut Vec<T>, element: T) -> Result<(), NoMemory> {
    if all.len() == all.capacity() {
        all.try_reserve(1).map_err(|_| NoMemory)?;
    }
    all.push(element);
    Ok(())
}

/// A vector of all elements.
///
/// # Errors
///
/// If there is no memory.
pub fn collect<T>(elements: impl IntoIterator<Item = T>) -> Result<Vec<T>, NoMemory> {
    let elements = elements.into_iter();
    let mut all = with_capacity(elements.size_hint().0)?;
    for element in elements {
        push(&mut all, element)?;
    }
    Ok(all)
}

/// Checks that there is memory for `n` threads with stacks of this size: asks the system for it and gives it back.
///
/// # Errors
///
/// If there is not. A thread that starts and finds no memory for what the system's libraries need aborts the process.
pub fn check_room_for_threads(n: usize, stack_bytes: usize) -> Result<(), NoMemory> {
    let n_bytes =
        n.checked_mul(stack_bytes).and_then(|n_bytes| n_bytes.checked_add(THREAD_OVERHEAD)).ok_or(NoMemory)?;
    MmapMut::map_anon(n_bytes).map(drop).map_err(|_| NoMemory)
}

/// Frees a large buffer on a thread of its own, because the system takes tenths of a second a gigabyte. Without memory for
/// a thread it is freed here.
pub(crate) fn drop_in_background<T: Send + 'static>(buffer: T) {
    const STACK_BYTES: usize = 64 << 10;
    if check_room_for_threads(1, STACK_BYTES).is_ok() {
        drop(thread::Builder::new().stack_size(STACK_BYTES).spawn(move || drop(buffer)));
    }
}

/// `n` zeros, in pages that the system clears when they are first used.
pub(crate) fn zeros<T: Zeroable>(n: usize) -> Result<Vec<T>, NoMemory> {
    bytemuck::try_zeroed_vec(n).map_err(|()| NoMemory)
}

/// Writes to all pages of new memory in order, and calls `check` at intervals: the first write to a page takes long.
pub(crate) fn touch<T: Copy, E>(new: &mut [T], value: T, mut check: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    for (k, page) in new.chunks_mut(PAGE_BYTES / size_of::<T>()).enumerate() {
        page[0] = value;
        if k.is_multiple_of(PAGES_PER_CHECK) {
            check()?;
        }
    }
    Ok(())
}

/// The first `length` elements of a buffer, which grows if it is shorter. Their values are those of the last use.
pub(crate) fn resized<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) -> Result<&mut [T], NoMemory> {
    if buffer.len() < length {
        buffer.try_reserve_exact(length - buffer.len()).map_err(|_| NoMemory)?;
        buffer.resize(length, T::default());
    }
    Ok(&mut buffer[..length])
}

/// Replaces the contents of a buffer.
pub(crate) fn refill<T>(buffer: &mut Vec<T>, elements: impl ExactSizeIterator<Item = T>) -> Result<(), NoMemory> {
    buffer.clear();
    buffer.try_reserve(elements.len()).map_err(|_| NoMemory)?;
    buffer.extend(elements);
    Ok(())
}

//! Memory that may be refused: vectors whose every growth ends in [`NoMemory`], not in the end of the process.
//!
//! Whatever grows with the input, however small, is allocated by what stands here.

use std::thread;

use bytemuck::Zeroable;
use memmap2::MmapMut;

use crate::work::Stopped;

/// Bytes of sums that a tile may have: they live in a second-level cache.
pub(crate) const TILE_SUMS: usize = 512 << 10;

/// Bytes of sums that a stripe may have.
pub(crate) const STRIPE_SUMS: usize = 16 << 20;

/// Bytes of the smallest page of memory, and such pages between two looks at the clock.
const PAGE_BYTES: usize = 4 << 10;
const PAGES_PER_LOOK: usize = 256;

/// What threads need beside their stacks.
const THREADS_NEED: usize = 2 << 20;

/// The system refused memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// An empty vector with room for so many elements.
///
/// # Errors
///
/// If there is no memory.
pub fn room<T>(n: usize) -> Result<Vec<T>, NoMemory> {
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

/// All elements.
///
/// # Errors
///
/// If there is no memory.
pub fn collected<T>(elements: impl IntoIterator<Item = T>) -> Result<Vec<T>, NoMemory> {
    let elements = elements.into_iter();
    let mut all = room(elements.size_hint().0)?;
    for element in elements {
        push(&mut all, element)?;
    }
    Ok(all)
}

/// Whether there is memory for so many threads with stacks of this size, which is asked for and given back.
///
/// # Errors
///
/// If there is not: a thread that is begun and finds no memory for what the system's libraries need ends the process.
pub fn room_for_threads(n: usize, stack_bytes: usize) -> Result<(), NoMemory> {
    let n_bytes = n.checked_mul(stack_bytes).and_then(|n_bytes| n_bytes.checked_add(THREADS_NEED)).ok_or(NoMemory)?;
    MmapMut::map_anon(n_bytes).map(drop).map_err(|_| NoMemory)
}

/// Frees much memory on a thread of its own, which takes the system tenths of a second a gigabyte; here if none is granted.
pub(crate) fn let_go<T: Send + 'static>(held: T) {
    const STACK_BYTES: usize = 64 << 10;
    if room_for_threads(1, STACK_BYTES).is_ok() {
        drop(thread::Builder::new().stack_size(STACK_BYTES).spawn(move || drop(held)));
    }
}

/// So many zeros, in pages that the system clears when they are first used.
pub(crate) fn zeros<T: Zeroable>(n: usize) -> Result<Vec<T>, NoMemory> {
    bytemuck::try_zeroed_vec(n).map_err(|()| NoMemory)
}

/// Writes to all pages of new memory in order, and asks now and then whether to go on: the first touch of a page takes long.
pub(crate) fn touch<T: Copy>(
    new: &mut [T],
    value: T,
    mut keep_on: impl FnMut() -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    for (k, page) in new.chunks_mut(PAGE_BYTES / size_of::<T>()).enumerate() {
        page[0] = value;
        if k.is_multiple_of(PAGES_PER_LOOK) {
            keep_on()?;
        }
    }
    Ok(())
}

/// The first `length` elements of a buffer that is made long enough; what they hold is left over from before.
pub(crate) fn sized<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) -> Result<&mut [T], NoMemory> {
    if buffer.len() < length {
        buffer.try_reserve_exact(length - buffer.len()).map_err(|_| NoMemory)?;
        buffer.resize(length, T::default());
    }
    Ok(&mut buffer[..length])
}

/// The buffer with these elements in place of what it held.
pub(crate) fn refill<T>(buffer: &mut Vec<T>, elements: impl ExactSizeIterator<Item = T>) -> Result<(), NoMemory> {
    buffer.clear();
    buffer.try_reserve(elements.len()).map_err(|_| NoMemory)?;
    buffer.extend(elements);
    Ok(())
}

//! The words of a plane, in memory that large planes get faster than from the allocator.
//!
//! The system clears every page before its first use, which takes longer than packing into it. So large planes lie in
//! huge pages, which are cleared faster, and what the last ones lay in is kept for the next.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

use memmap2::MmapMut;

use crate::memory::{NoMemory, zeros};

/// Planes from this many bytes on are mapped by themselves: a few huge pages.
const MAPPED_BYTES: usize = 4 << 20;

/// Bytes that are kept after use: both planes of the blocks that a projection packs, and as much again.
const KEPT_BYTES: usize = 32 << 20;

static KEPT: Mutex<Vec<MmapMut>> = Mutex::new(Vec::new());

/// Words of a plane.
pub(super) enum Words {
    Allocated(Vec<u64>),
    Mapped(Mapped),
}

impl Words {
    /// As many zeros.
    pub(super) fn zeros(n_words: usize) -> Result<Self, NoMemory> {
        let mut words = Self::any(n_words)?;
        if let Self::Mapped(Mapped { cleared: false, .. }) = words {
            words.fill(0);
        }
        Ok(words)
    }

    /// As many words of any values, all of which must be written before they are read.
    pub(super) fn any(n_words: usize) -> Result<Self, NoMemory> {
        let n_bytes = n_words.checked_mul(size_of::<u64>()).ok_or(NoMemory)?;
        if n_bytes >= MAPPED_BYTES {
            return Mapped::new(n_bytes).map(Self::Mapped).ok_or(NoMemory);
        }
        zeros(n_words).map(Self::Allocated)
    }
}

impl Deref for Words {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        match self {
            Self::Allocated(words) => words,
            Self::Mapped(mapped) => bytemuck::cast_slice(mapped.bytes()),
        }
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Allocated(words) => words,
            Self::Mapped(mapped) => bytemuck::cast_slice_mut(mapped.bytes_mut()),
        }
    }
}

impl From<Vec<u64>> for Words {
    fn from(words: Vec<u64>) -> Self {
        Self::Allocated(words)
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Words {}

/// The first bytes of a mapping, which is kept when they are no longer needed.
pub(super) struct Mapped {
    /// There until this is dropped.
    map: Option<MmapMut>,
    n_bytes: usize,
    cleared: bool,
}

impl Mapped {
    fn new(n_bytes: usize) -> Option<Self> {
        if let Some(map) = kept(n_bytes) {
            return Some(Self { map: Some(map), n_bytes, cleared: false });
        }
        let map = MmapMut::map_anon(n_bytes).ok()?;
        // Advice only: small pages hold the same.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(Self { map: Some(map), n_bytes, cleared: true })
    }

    fn bytes(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[..self.n_bytes])
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.map.as_mut().map_or(&mut [], |map| &mut map[..self.n_bytes])
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // Not waiting for the lock: in a forked child nobody may be there to release it.
        if let (Some(map), Ok(mut kept)) = (self.map.take(), KEPT.try_lock())
            && kept.iter().chain([&map]).map(|map| map.len()).sum::<usize>() <= KEPT_BYTES
        {
            kept.push(map);
        }
    }
}

/// What was kept that holds so many bytes, and not many more.
fn kept(n_bytes: usize) -> Option<MmapMut> {
    let mut kept = KEPT.try_lock().ok()?;
    let place = kept.iter().position(|map| (n_bytes..=2 * n_bytes).contains(&map.len()))?;
    Some(kept.swap_remove(place))
}

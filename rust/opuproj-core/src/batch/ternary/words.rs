//! The memory of a plane. Large planes get it faster here than from the allocator.
//!
//! The system clears every page before its first use, which takes longer than packing into it. Large planes therefore use
//! huge pages, which the system clears faster, and freed pages are kept for the next plane.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

use memmap2::MmapMut;

use crate::memory::{NoMemory, zeros};

/// Planes of this many bytes or more have a mapping of their own: a few huge pages.
const MAPPED_BYTES: usize = 4 << 20;

/// Bytes that are kept after use: twice both planes of the blocks that a projection packs.
const KEPT_BYTES: usize = 32 << 20;

static KEPT: Mutex<Vec<MmapMut>> = Mutex::new(Vec::new());

/// The words of a plane.
pub(super) enum Words {
    Allocated(Vec<u64>),
    Mapped(Mapped),
}

impl Words {
    /// `n_words` zeros.
    pub(super) fn zeros(n_words: usize) -> Result<Self, NoMemory> {
        let mut words = Self::unfilled(n_words)?;
        if let Self::Mapped(Mapped { cleared: false, .. }) = words {
            words.fill(0);
        }
        Ok(words)
    }

    /// `n_words` words of arbitrary values, which must be written before they are read.
    pub(super) fn unfilled(n_words: usize) -> Result<Self, NoMemory> {
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

/// The first bytes of a mapping. The mapping is kept when they are no longer needed.
pub(super) struct Mapped {
    /// `None` only while this is dropped.
    map: Option<MmapMut>,
    n_bytes: usize,
    cleared: bool,
}

impl Mapped {
    fn new(n_bytes: usize) -> Option<Self> {
        if let Some(map) = take_kept(n_bytes) {
            return Some(Self { map: Some(map), n_bytes, cleared: false });
        }
        let map = MmapMut::map_anon(n_bytes).ok()?;
        // This is only advice: small pages work, too.
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
        // Does not wait for the lock: in a forked child no thread may exist that releases it.
        if let (Some(map), Ok(mut kept)) = (self.map.take(), KEPT.try_lock())
            && kept.iter().chain([&map]).map(|map| map.len()).sum::<usize>() <= KEPT_BYTES
        {
            kept.push(map);
        }
    }
}

/// A kept mapping that holds `n_bytes` and at most twice as many.
fn take_kept(n_bytes: usize) -> Option<MmapMut> {
    let mut kept = KEPT.try_lock().ok()?;
    let place = kept.iter().position(|map| (n_bytes..=2 * n_bytes).contains(&map.len()))?;
    Some(kept.swap_remove(place))
}

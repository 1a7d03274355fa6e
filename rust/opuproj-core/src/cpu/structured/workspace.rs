//! The scratch memory of a thread, which is kept from call to call.

use std::sync::Mutex;

use super::lanes::Line;
use super::passes::{LINES_PER_BLOCK, SignBlock, TransformShape};
use crate::cpu::threads::Ticker;
use crate::definition::structured;
use crate::memory::{NoMemory, with_capacity};
use crate::progress::Stopped;

/// Blocks of signs that are generated together if columns are short.
const SIGN_BLOCKS: usize = 64;

/// Lines of each part that are finished before they are read.
const FINISHED_LINES: usize = 128;

/// Lines that a plane grows by at a time: 1 MiB.
const GROWTH_LINES: usize = 1 << 14;

/// Bytes of spare workspaces that are kept at most.
const SPARE_BYTES: usize = 32 << 20;

/// The bytes of a thread's workspace, if they fit the address space.
#[must_use]
pub fn bytes_per_thread(n_inputs: usize) -> Option<usize> {
    let n = structured::length(n_inputs).filter(|&n| n <= 1 << 48)?;
    Some(
        Workspace::lines(TransformShape::new(n)) * size_of::<Line>()
            + sign_blocks(TransformShape::new(n)) * size_of::<SignBlock>(),
    )
}

/// Blocks of signs that a thread needs together.
fn sign_blocks(shape: TransformShape) -> usize {
    (shape.groups() * blocks_at_once(shape)).max(shape.lines() / LINES_PER_BLOCK)
}

/// Blocks of signs of a row that a pass between row groups takes together.
pub(super) fn blocks_at_once(shape: TransformShape) -> usize {
    (SIGN_BLOCKS / shape.groups()).clamp(1, shape.lines() / LINES_PER_BLOCK)
}

/// Lines of a row that are finished and read together: 16 KiB of both parts in a column of 16 row groups.
pub(super) fn lines_at_once(shape: TransformShape) -> usize {
    (FINISHED_LINES / shape.groups()).clamp(1, shape.lines())
}

/// The workspace of a thread. Its memory is reserved before the work begins; the thread itself fills it.
pub(super) struct Workspace {
    /// The result of the first round.
    pub(super) first: Vec<Line>,
    /// The real and the imaginary part of a block.
    pub(super) parts: [Vec<Line>; 2],
    /// The lines of a column between two steps (`packed`), and those of some columns after the last step, for both parts.
    pub(super) packed: Vec<Line>,
    pub(super) finished: [Vec<Line>; 2],
    pub(super) signs: Vec<SignBlock>,
}

/// The workspaces of the last calls. Their pages need not be cleared again.
static SPARE: Mutex<Vec<Workspace>> = Mutex::new(Vec::new());

impl Workspace {
    /// Takes a workspace of an earlier call, if its transforms had the same length.
    pub(super) fn take_spare(shape: TransformShape) -> Option<Self> {
        // Another thread may have held the lock when this process was forked. Then it is never released.
        let mut spare = SPARE.try_lock().ok()?;
        let k = spare.iter().position(|space| space.first.len() == shape.plane())?;
        Some(spare.swap_remove(k))
    }

    /// Keeps it for later calls, unless too much is kept already.
    pub(super) fn keep(self, shape: TransformShape) {
        let Ok(mut spare) = SPARE.try_lock() else { return };
        let bytes = |space: &Self| 3 * size_of_val(&space.first[..]);
        spare.retain(|space| space.first.len() == shape.plane());
        if spare.iter().map(bytes).sum::<usize>() + bytes(&self) <= SPARE_BYTES {
            spare.push(self);
        }
    }

    fn lines(shape: TransformShape) -> usize {
        3 * shape.plane() + 2 * lines_at_once(shape) * shape.groups() + shape.groups().max(shape.group())
    }

    /// An empty workspace with its memory reserved.
    pub(super) fn reserved(shape: TransformShape) -> Result<Self, NoMemory> {
        let plane = || with_capacity(shape.plane());
        let finished = lines_at_once(shape) * shape.groups();
        Ok(Self {
            first: plane()?,
            parts: [plane()?, plane()?],
            packed: with_capacity(shape.groups().max(shape.group()))?,
            finished: [with_capacity(finished)?, with_capacity(finished)?],
            signs: with_capacity(sign_blocks(shape))?,
        })
    }

    /// Extends all buffers to their lengths, a part at a time, because the first write to a page takes long.
    pub(super) fn fill(&mut self, shape: TransformShape, ticker: &mut Ticker<'_>) -> Result<(), Stopped> {
        let [re, im] = &mut self.parts;
        for plane in [&mut self.first, re, im] {
            extend(plane, shape.plane(), || ticker.check())?;
        }
        let [re, im] = &mut self.finished;
        for place in [re, im] {
            extend(place, lines_at_once(shape) * shape.groups(), || ticker.check())?;
        }
        extend(&mut self.packed, shape.groups().max(shape.group()), || ticker.check())?;
        self.signs.resize(sign_blocks(shape), SignBlock::default());
        Ok(())
    }
}

/// Extends a plane to a length that was reserved, and calls `check` at intervals.
pub(super) fn extend(
    plane: &mut Vec<Line>,
    length: usize,
    mut check: impl FnMut() -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    while plane.len() < length {
        plane.resize(length.min(plane.len() + GROWTH_LINES), Line::ZERO);
        check()?;
    }
    Ok(())
}

//! What threads work in: scratch memory that is kept from call to call.

use std::sync::Mutex;

use super::lanes::Line;
use super::passes::{LINES_PER_BLOCK, SignBlock, TransformShape};
use crate::cpu::threads::Ticker;
use crate::definition::structured;
use crate::memory::{NoMemory, with_capacity};
use crate::progress::Stopped;

/// Blocks of signs that are made at a time where columns are short.
const SIGN_BLOCKS: usize = 64;

/// Lines that are made at a time: 1 MiB.
const LINES_AT_ONCE: usize = 1 << 14;

/// Bytes of spare workspaces that are kept.
const SPARE_BYTES: usize = 32 << 20;

/// Bytes that each thread works in, if they fit the address space.
#[must_use]
pub fn bytes_per_thread(n_inputs: usize) -> Option<usize> {
    let n = structured::length(n_inputs).filter(|&n| n <= 1 << 48)?;
    Some(
        Workspace::lines(TransformShape::new(n)) * size_of::<Line>()
            + sign_blocks(TransformShape::new(n)) * size_of::<SignBlock>(),
    )
}

/// Blocks of signs that a thread needs at a time.
fn sign_blocks(shape: TransformShape) -> usize {
    (shape.groups() * blocks_at_once(shape)).max(shape.lines() / LINES_PER_BLOCK)
}

/// Blocks of signs of a row that the passes between groups take together.
pub(super) fn blocks_at_once(shape: TransformShape) -> usize {
    (SIGN_BLOCKS / shape.groups()).clamp(1, shape.lines() / LINES_PER_BLOCK)
}

/// What a thread works in: one allocation each, made before the work begins and filled by the thread.
pub(super) struct Workspace {
    /// The first round's result.
    pub(super) first: Vec<Line>,
    /// The real and the imaginary part of a block.
    pub(super) parts: [Vec<Line>; 2],
    /// A strip of columns, between two steps and at the end.
    pub(super) packed: Vec<Line>,
    pub(super) gathered: [Vec<Line>; 2],
    pub(super) signs: Vec<SignBlock>,
}

/// What the last calls worked in: the next one need not have its pages made anew.
static SPARE: Mutex<Vec<Workspace>> = Mutex::new(Vec::new());

impl Workspace {
    /// One of a call before, if it was for transforms of the same length.
    pub(super) fn spare(shape: TransformShape) -> Option<Self> {
        // Another thread may have held the lock when this process was forked: then nobody will ever open it.
        let mut spare = SPARE.try_lock().ok()?;
        let k = spare.iter().position(|space| space.first.len() == shape.plane())?;
        Some(spare.swap_remove(k))
    }

    /// Keeps it for calls to come, if there is room.
    pub(super) fn keep(self, shape: TransformShape) {
        let Ok(mut spare) = SPARE.try_lock() else { return };
        let bytes = |space: &Self| 3 * size_of_val(&space.first[..]);
        spare.retain(|space| space.first.len() == shape.plane());
        if spare.iter().map(bytes).sum::<usize>() + bytes(&self) <= SPARE_BYTES {
            spare.push(self);
        }
    }

    fn lines(shape: TransformShape) -> usize {
        3 * shape.plane() + 2 * shape.groups() + shape.groups().max(shape.group())
    }

    pub(super) fn reserved(shape: TransformShape) -> Result<Self, NoMemory> {
        let plane = || with_capacity(shape.plane());
        Ok(Self {
            first: plane()?,
            parts: [plane()?, plane()?],
            packed: with_capacity(shape.groups().max(shape.group()))?,
            gathered: [with_capacity(shape.groups())?, with_capacity(shape.groups())?],
            signs: with_capacity(sign_blocks(shape))?,
        })
    }

    /// Makes everything as long as it is to be, a stretch at a time: the first touch of a page takes long.
    pub(super) fn fill(&mut self, shape: TransformShape, ticker: &mut Ticker<'_>) -> Result<(), Stopped> {
        let [re, im] = &mut self.parts;
        for plane in [&mut self.first, re, im] {
            lengthen(plane, shape.plane(), || ticker.check())?;
        }
        let [re, im] = &mut self.gathered;
        for place in [re, im] {
            lengthen(place, shape.groups(), || ticker.check())?;
        }
        lengthen(&mut self.packed, shape.groups().max(shape.group()), || ticker.check())?;
        self.signs.resize(sign_blocks(shape), SignBlock::default());
        Ok(())
    }
}

/// Makes a plane as long as it has been reserved, and asks now and then whether to go on.
pub(super) fn lengthen(
    plane: &mut Vec<Line>,
    length: usize,
    mut keep_on: impl FnMut() -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    while plane.len() < length {
        plane.resize(length.min(plane.len() + LINES_AT_ONCE), Line::ZERO);
        keep_on()?;
    }
    Ok(())
}

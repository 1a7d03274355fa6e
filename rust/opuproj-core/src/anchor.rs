//! The anchor: known light beside the data, whose field turns intensities into linear projections.

use crate::kernel::{Kernel, SignedColumns, TILE_BLOCKS};
use crate::memory::{NoMemory, collected, room, zeros};
use crate::transmission::{BLOCK_COMPONENTS, BLOCK_ROWS, Transmission};
use crate::work::{Stopped, alone};

/// The most pixels that an anchor may have. Up to here the products of anchor and data fields are exact in float64.
pub const MAX_ANCHOR: u32 = 4096;

/// The columns that anchor `which` lights, of `pixels` each: from the last column down, one anchor after the other.
pub(crate) fn columns(which: u64, pixels: u64) -> Result<Vec<u64>, NoMemory> {
    collected((which * pixels..(which + 1) * pixels).map(|k| u64::MAX - k))
}

/// The anchor's field r at one row, to be turned by. A dark pixel (r = 0) counts as phase 1.
#[inline]
pub(crate) fn lit([re, im]: [i32; 2]) -> [f64; 2] {
    if (re, im) == (0, 0) { [1.0, 0.0] } else { [f64::from(re), f64::from(im)] }
}

/// Its phase r/|r|.
#[inline]
pub(crate) fn phase_of(r: [i32; 2]) -> [f64; 2] {
    let [re, im] = lit(r);
    let modulus = (re * re + im * im).sqrt();
    [re / modulus, im / modulus]
}

/// The phases r/|r| of an anchor's field at so many rows from `first_row` on, real and imaginary part; 1 where r = 0.
///
/// `poll` is called as by [`Projection::run`](crate::projection::Projection::run).
///
/// # Errors
///
/// If `poll` stopped it, or memory is short.
pub fn phases(
    kernel: Kernel,
    t: &Transmission,
    n_anchor: u32,
    first_row: u64,
    n_rows: usize,
    poll: &mut dyn FnMut(f64) -> bool,
) -> Result<Vec<[f64; 2]>, Stopped> {
    const TILE_ROWS: usize = TILE_BLOCKS * BLOCK_ROWS;
    let index = columns(0, u64::from(n_anchor))?;
    let sign = zeros(index.len())?;
    // Tiles begin with a row block, the rows perhaps in the middle of one.
    let before = (first_row % BLOCK_ROWS as u64) as usize;
    let (mut phases, mut skip) = (room(n_rows)?, before);
    alone(poll, |lead| {
        for tile in 0.. {
            if phases.len() == n_rows {
                break;
            }
            let mut field = [0; TILE_BLOCKS * BLOCK_COMPONENTS];
            let row_block = first_row / BLOCK_ROWS as u64 + tile * TILE_BLOCKS as u64;
            kernel.field(t, SignedColumns { index: &index, sign: &sign }, row_block, &mut field);
            let here = &field.as_chunks::<2>().0[skip..TILE_ROWS.min(skip + n_rows - phases.len())];
            phases.extend(here.iter().map(|&r| phase_of(r)));
            skip = 0;
            lead.went_through(size_of_val(&field) * index.len())?;
        }
        Ok(phases)
    })
}

//! The anchor: known light beside the data, whose field turns intensities into linear projections.

use crate::kernel::{Kernel, SignedColumns, TILE_BLOCKS};
use crate::transmission::{BLOCK_COMPONENTS, BLOCK_ROWS, Transmission};

/// The most pixels that an anchor may have. Up to here the products of anchor and data fields are exact in float64.
pub const MAX_ANCHOR: u32 = 4096;

/// The columns that anchor `which` lights, of `pixels` each: from the last column down, one anchor after the other.
pub(crate) fn columns(which: u64, pixels: u64) -> Vec<u64> {
    (which * pixels..(which + 1) * pixels).map(|k| u64::MAX - k).collect()
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

/// The phases r/|r| of an anchor's field from `first_row` on, parts in turn; 1 where r = 0.
///
/// # Panics
///
/// If there are not two parts for each row.
pub fn phases(kernel: Kernel, t: &Transmission, n_anchor: u32, first_row: u64, phases: &mut [f64]) {
    const TILE_ROWS: usize = TILE_BLOCKS * BLOCK_ROWS;
    assert!(phases.len().is_multiple_of(2), "two parts a row");
    let index = columns(0, u64::from(n_anchor));
    let sign = vec![0; index.len()];
    // Tiles begin with a row block, the rows perhaps in the middle of one.
    let before = (first_row % BLOCK_ROWS as u64) as usize;
    let (mut rest, mut skip) = (phases, before);
    for tile in 0.. {
        if rest.is_empty() {
            break;
        }
        let mut field = [0; TILE_BLOCKS * BLOCK_COMPONENTS];
        let row_block = first_row / BLOCK_ROWS as u64 + tile * TILE_BLOCKS as u64;
        kernel.field(t, SignedColumns { index: &index, sign: &sign }, row_block, &mut field);
        let here;
        (here, rest) = rest.split_at_mut(rest.len().min(2 * (TILE_ROWS - skip)));
        for (phase, r) in here.as_chunks_mut::<2>().0.iter_mut().zip(&field.as_chunks::<2>().0[skip..]) {
            *phase = phase_of(*r);
        }
        skip = 0;
    }
}

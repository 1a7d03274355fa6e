//! The anchor: known light beside the data. Its field turns intensities into linear projections.

/// The most pixels that an anchor may have. Up to here the products of anchor and data fields are exact in float64.
pub const MAX_ANCHOR: u32 = 4096;

/// The columns of T that anchor number `which` lights, of `pixels` each: from the last column down, one anchor after the
/// other.
#[must_use]
pub fn columns(which: u64, pixels: u64) -> impl ExactSizeIterator<Item = u64> + Clone {
    let first = which * pixels;
    (0..pixels as usize).map(move |k| u64::MAX - first - k as u64)
}

/// The anchor's field r at one row as float64, with 1 in place of 0.
#[inline]
#[must_use]
pub fn nonzero([re, im]: [i32; 2]) -> [f64; 2] {
    if (re, im) == (0, 0) { [1.0, 0.0] } else { [f64::from(re), f64::from(im)] }
}

/// The phase r/|r| of the anchor's field at one row; 1 where r is 0.
#[inline]
#[must_use]
pub fn phase(r: [i32; 2]) -> [f64; 2] {
    let [re, im] = nonzero(r);
    let modulus = (re * re + im * im).sqrt();
    [re / modulus, im / modulus]
}

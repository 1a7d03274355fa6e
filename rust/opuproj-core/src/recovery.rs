//! From the frames of a camera to a result: an intensity, or a projection recovered from several intensities.
//!
//! Light gives intensities only. With an anchor of known field r beside the data,
//!
//! |T(p+a)|² − |Tp|² − |T(q+a)|² + |Tq|² = 2 Re(conj(r) · T(p−q)),
//!
//! so that four frames give one linear projection of a ternary x = p − q (Ohana et al., Optics Express 31, 25881, 2023),
//! and the frames of several anchors, p and q without an anchor taken once, give the complex field as the least-squares
//! solution of one such equation an anchor (the multilateration of Gupta et al., ICASSP 2020).

#![allow(clippy::inline_always, reason = "callers compile these loops for their instruction set")]
#![allow(clippy::needless_range_loop, reason = "loops over lanes of several arrays")]

use crate::anchor;
use crate::camera::{Camera, Detector, Exposure};
use crate::memory::{NoMemory, push};
use crate::noise::{LANES, Lanes};
use crate::readout::{Mode, Real, VARIANCE};

/// T's entries are integers over the root of 1/this.
const UNIT: f64 = 1.0 / VARIANCE;

/// How a projection is seen by a camera.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// The camera.
    pub detector: Detector,
    /// Counts vectors before the first one of the batch, so that each has frames of its own.
    pub first_vector: u64,
    /// Pixels of an anchor of "complex"; "linear" has its own.
    pub n_anchor: u32,
    /// Whether "intensity" gives the camera's own numbers in place of intensities.
    pub raw: bool,
}

impl Sight {
    /// How many anchors a mode takes.
    fn anchors(&self, mode: Mode) -> u32 {
        match mode {
            Mode::Intensity => 0,
            Mode::Linear { .. } => 1,
            Mode::Complex => self.detector.camera.anchors,
        }
    }

    /// Pixels of one anchor.
    pub(crate) fn anchor_pixels(&self, mode: Mode) -> u64 {
        match mode {
            Mode::Intensity => 0,
            Mode::Linear { n_anchor } => u64::from(n_anchor),
            Mode::Complex => u64::from(self.n_anchor),
        }
    }

    /// The columns of T that each anchor lights: the last ones there are, those of "linear" being the first anchor's.
    pub(crate) fn anchor_columns(&self, mode: Mode) -> Result<Vec<Vec<u64>>, NoMemory> {
        let (pixels, mut anchors) = (self.anchor_pixels(mode), Vec::new());
        for which in 0..u64::from(self.anchors(mode)) {
            push(&mut anchors, anchor::columns(which, pixels)?)?;
        }
        Ok(anchors)
    }

    /// How many exposures a vector takes.
    #[must_use]
    pub fn exposures(&self, mode: Mode) -> u64 {
        match mode {
            Mode::Intensity => 1,
            Mode::Linear { .. } | Mode::Complex => 2 * (1 + u64::from(self.anchors(mode))),
        }
    }

    /// How many frames of each pixel are worked out for a vector.
    pub(crate) fn readings(&self, mode: Mode) -> u64 {
        let Camera { frames, .. } = self.detector.camera;
        self.exposures(mode) * if self.detector.camera.is_noisy() { u64::from(frames) } else { 1 }
    }

    /// The intensity that counts as 1 for frames of so many lit pixels.
    pub(crate) fn mean(&self, lit: u64) -> f64 {
        self.detector.camera.exposure.unwrap_or(lit as f64)
    }
}

/// One vector in front of the camera.
#[derive(Clone, Copy)]
pub(crate) struct Shot<'a> {
    pub(crate) sight: &'a Sight,
    pub(crate) mode: Mode,
    /// Counts vectors from the first one of the batch.
    pub(crate) vector: u64,
    /// The row of T of the field's first entry.
    pub(crate) first_row: u64,
    pub(crate) mean: f64,
}

impl Shot<'_> {
    /// How many frames of each pixel are worked out.
    pub(crate) fn readings(&self) -> u64 {
        self.sight.readings(self.mode)
    }

    /// How many anchors it takes.
    pub(crate) fn anchors(&self) -> usize {
        self.sight.anchors(self.mode) as usize
    }

    fn exposure(&self, k: u64) -> Exposure {
        Exposure {
            index: (self.sight.first_vector + self.vector) * self.sight.exposures(self.mode) + k,
            first_row: self.first_row,
            mean: self.mean,
        }
    }

    /// What the camera reads of |Tx|² at no more than [`LANES`] rows.
    #[inline(always)]
    pub(crate) fn intensity<T: Real>(&self, field: &[i32], out: &mut [T]) {
        let mut values = [0.0; LANES];
        intensities(field, &[], &mut values);
        if self.sight.raw {
            self.sight.detector.raw(self.exposure(0), &mut values);
        } else {
            self.sight.detector.read(self.exposure(0), &mut values);
        }
        for (out, value) in out.iter_mut().zip(values) {
            *out = T::rounded(value);
        }
    }

    /// What is recovered of T(p − q) from its frames, at no more than [`LANES`] rows: R(p − q), or the parts of the field
    /// in turn.
    #[inline(always)]
    pub(crate) fn recover<T: Real>(&self, p: &[i32], q: &[i32], anchors: &[&[i32]], out: &mut [T]) {
        let plain = [self.frame(0, p, &[]), self.frame(1, q, &[])];
        if self.mode == Mode::Complex {
            let mut equations = Equations::default();
            for (k, anchor) in anchors.iter().enumerate() {
                equations.add(anchor, &self.products(k, [p, q], &plain, anchor));
            }
            equations.solve(self.floor() * anchors.len() as f64 / 2.0, out);
        } else {
            self.along(anchors[0], &self.products(0, [p, q], &plain, anchors[0]), out);
        }
    }

    /// Re(conj(r)·y) for the field r of the k-th anchor, from what it adds to the two frames without it.
    #[inline(always)]
    fn products(&self, k: usize, fields: [&[i32]; 2], plain: &[Lanes<f64>; 2], anchor: &[i32]) -> Lanes<f64> {
        let k = 2 + 2 * k as u64;
        let with = [self.frame(k, fields[0], anchor), self.frame(k + 1, fields[1], anchor)];
        let mut products = [0.0; LANES];
        for j in 0..LANES {
            products[j] = 0.5 * (with[0][j] - plain[0][j] - (with[1][j] - plain[1][j]));
        }
        products
    }

    /// One exposure of some rows.
    #[inline(always)]
    fn frame(&self, k: u64, field: &[i32], anchor: &[i32]) -> Lanes<f64> {
        let mut values = [0.0; LANES];
        intensities(field, anchor, &mut values);
        self.sight.detector.read(self.exposure(k), &mut values);
        values
    }

    /// √2/|r| times products Re(conj(r)·y).
    #[inline(always)]
    fn along<T: Real>(&self, anchor: &[i32], products: &Lanes<f64>, out: &mut [T]) {
        let floor = self.floor();
        for ((out, product), &[re, im]) in out.iter_mut().zip(products).zip(anchor.as_chunks::<2>().0) {
            let (re, im) = (f64::from(re), f64::from(im));
            let power = (re * re + im * im) * UNIT;
            let lit = power > 0.0 && power >= floor;
            *out = T::rounded(if lit { product * (2.0 / power).sqrt() } else { 0.0 });
        }
    }

    /// The anchor's intensity below which a pixel is dark.
    fn floor(&self) -> f64 {
        self.sight.detector.camera.dark_floor * self.sight.anchor_pixels(self.mode) as f64
    }
}

/// The normal equations of the y whose products Re(conj(r)·y) with all anchors come nearest to those measured: sums of
/// r·rᵗ and of the products times r, for r as a real vector of two parts.
struct Equations {
    xx: Lanes<f64>,
    xy: Lanes<f64>,
    yy: Lanes<f64>,
    x: Lanes<f64>,
    y: Lanes<f64>,
}

impl Default for Equations {
    fn default() -> Self {
        let [xx, xy, yy, x, y] = [[0.0; LANES]; 5];
        Self { xx, xy, yy, x, y }
    }
}

impl Equations {
    #[inline(always)]
    fn add(&mut self, anchor: &[i32], products: &Lanes<f64>) {
        for (j, &[re, im]) in anchor.as_chunks::<2>().0.iter().enumerate() {
            let (re, im) = (f64::from(re) * UNIT.sqrt(), f64::from(im) * UNIT.sqrt());
            self.xx[j] += re * re;
            self.xy[j] += re * im;
            self.yy[j] += im * im;
            self.x[j] += products[j] * re;
            self.y[j] += products[j] * im;
        }
    }

    /// Writes each y; 0 where the anchors light the weaker of its two directions less than `floor`.
    #[inline(always)]
    fn solve<T: Real>(&self, floor: f64, out: &mut [T]) {
        for (j, out) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let (xx, xy, yy) = (self.xx[j], self.xy[j], self.yy[j]);
            let determinant = xx * yy - xy * xy;
            let half = 0.5 * (xx + yy);
            let weaker = half - (half * half - determinant).max(0.0).sqrt();
            let scale = if determinant > 0.0 && weaker >= floor { 1.0 / determinant } else { 0.0 };
            let re = (yy * self.x[j] - xy * self.y[j]) * scale;
            let im = (xx * self.y[j] - xy * self.x[j]) * scale;
            *out = [T::rounded(re), T::rounded(im)];
        }
    }
}

/// |field + anchor|² of the first rows, in the units of |Tx|²; the field alone without an anchor.
#[inline(always)]
fn intensities(field: &[i32], anchor: &[i32], out: &mut Lanes<f64>) {
    let squared = |re: f64, im: f64| (re * re + im * im) * UNIT;
    let field = field.as_chunks::<2>().0;
    if anchor.is_empty() {
        for (out, &[re, im]) in out.iter_mut().zip(field) {
            *out = squared(f64::from(re), f64::from(im));
        }
    } else {
        for ((out, &[re, im]), &[a_re, a_im]) in out.iter_mut().zip(field).zip(anchor.as_chunks::<2>().0) {
            *out = squared(f64::from(re) + f64::from(a_re), f64::from(im) + f64::from(a_im));
        }
    }
}

//! From the frames of a camera to a result: an intensity, or a projection recovered from several intensities.
//!
//! Light gives intensities only. With an anchor of known field r beside the data,
//!
//! |T(p+a)|² − |Tp|² − |T(q+a)|² + |Tq|² = 2 Re(conj(r) · T(p−q)),
//!
//! so four frames give one linear projection of a ternary x = p − q (Ohana et al., Optics Express 31, 25881, 2023).
//! Each of several anchors gives one such equation; p and q without an anchor are taken once. The least-squares solution
//! of these equations is the complex field (the multilateration of Gupta et al., ICASSP 2020).

#![allow(clippy::inline_always, reason = "callers compile these functions for their instruction set")]

use super::camera::Camera;
use super::readout::VARIANCE;

/// T's entries are integers times the root of this.
const UNIT: f64 = 1.0 / VARIANCE;

/// |field|² at one row, in the units of |Tx|².
#[inline(always)]
#[must_use]
pub fn intensity([re, im]: [f64; 2]) -> f64 {
    (re * re + im * im) * UNIT
}

/// |field + anchor|² at one row; `[0, 0]` stands for no anchor.
#[inline(always)]
#[must_use]
pub fn intensity_with([re, im]: [f64; 2], [a_re, a_im]: [i32; 2]) -> f64 {
    intensity([re + f64::from(a_re), im + f64::from(a_im)])
}

/// Re(conj(r)·y) from two frames with the anchor and two without it, each of p and of q.
#[inline(always)]
#[must_use]
pub fn product(with: [f64; 2], without: [f64; 2]) -> f64 {
    0.5 * (with[0] - without[0] - (with[1] - without[1]))
}

/// √2/|r| times a product Re(conj(r)·y); 0 where the anchor's intensity is below `floor`.
#[inline(always)]
#[must_use]
pub fn linear(product: f64, [re, im]: [i32; 2], floor: f64) -> f64 {
    let (re, im) = (f64::from(re), f64::from(im));
    let power = (re * re + im * im) * UNIT;
    let bright = power > 0.0 && power >= floor;
    if bright { product * (2.0 / power).sqrt() } else { 0.0 }
}

/// The normal equations of the y whose products Re(conj(r)·y) with all anchors come nearest to those measured: sums of
/// r·rᵗ and of the products times r, for r as a real vector of two parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Equations {
    /// Sum of Re(r)².
    pub xx: f64,
    /// Sum of Re(r)·Im(r).
    pub xy: f64,
    /// Sum of Im(r)².
    pub yy: f64,
    /// Sum of the products times Re(r).
    pub x: f64,
    /// Sum of the products times Im(r).
    pub y: f64,
}

impl Equations {
    /// Adds the equation of one anchor.
    #[inline(always)]
    pub fn add(&mut self, [re, im]: [i32; 2], product: f64) {
        let (re, im) = (f64::from(re) * UNIT.sqrt(), f64::from(im) * UNIT.sqrt());
        self.xx += re * re;
        self.xy += re * im;
        self.yy += im * im;
        self.x += product * re;
        self.y += product * im;
    }

    /// The parts of y; 0 where the anchors light the weaker of its two directions less than `floor`.
    #[inline(always)]
    #[must_use]
    pub fn solve(&self, floor: f64) -> [f64; 2] {
        let Self { xx, xy, yy, x, y } = *self;
        let determinant = xx * yy - xy * xy;
        let half = 0.5 * (xx + yy);
        let weaker = half - (half * half - determinant).max(0.0).sqrt();
        let scale = if determinant > 0.0 && weaker >= floor { 1.0 / determinant } else { 0.0 };
        [(yy * x - xy * y) * scale, (xx * y - xy * x) * scale]
    }
}

/// One row of a measurement of one vector.
#[derive(Clone, Copy, Debug)]
pub struct Pixel<'a> {
    /// The camera.
    pub camera: &'a Camera,
    /// The seed of its noise.
    pub noise_seed: u64,
    /// The number of the vector's first exposure. Exposure 0 takes p, 1 takes q, 2 + 2k takes p and 3 + 2k takes q with the
    /// k-th anchor.
    pub first_exposure: u64,
    /// The row of T.
    pub row: u64,
    /// The intensity that counts as 1.
    pub mean: f64,
}

impl Pixel<'_> {
    /// R(p − q) from four frames, for the fields of p, q and the anchor.
    #[must_use]
    pub fn linear(&self, p: [i32; 2], q: [i32; 2], anchor: [i32; 2], floor: f64) -> f64 {
        linear(self.product(0, [p, q], anchor), anchor, floor)
    }

    /// T(p − q) from the frames of all anchors; `floor` is the dark floor of one anchor.
    #[must_use]
    pub fn complex(&self, p: [i32; 2], q: [i32; 2], anchors: &[[i32; 2]], floor: f64) -> [f64; 2] {
        let mut equations = Equations::default();
        for (k, &anchor) in anchors.iter().enumerate() {
            equations.add(anchor, self.product(k as u64, [p, q], anchor));
        }
        equations.solve(complex_floor(floor, anchors.len()))
    }

    fn product(&self, k: u64, [p, q]: [[i32; 2]; 2], anchor: [i32; 2]) -> f64 {
        let frame = |exposure: u64, field: [i32; 2], anchor| {
            let index = self.first_exposure + exposure;
            self.camera.read(self.noise_seed, index, self.row, self.mean, intensity_with(field.map(f64::from), anchor))
        };
        let with = [frame(2 + 2 * k, p, anchor), frame(3 + 2 * k, q, anchor)];
        product(with, [frame(0, p, [0; 2]), frame(1, q, [0; 2])])
    }
}

/// The floor of [`Equations::solve`] for a dark floor of one anchor: each anchor lights each direction half.
#[must_use]
pub fn complex_floor(floor: f64, n_anchors: usize) -> f64 {
    floor * n_anchors as f64 / 2.0
}

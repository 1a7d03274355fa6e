//! What a camera reads of many pixels at a time, in loops that compilers vectorise: the readings of
//! [`definition::camera`](crate::definition::camera) and the recoveries of
//! [`definition::recovery`](crate::definition::recovery).

#![allow(clippy::inline_always, reason = "callers compile these loops for their instruction set")]
#![allow(clippy::needless_range_loop, reason = "loops over several arrays")]

use super::kernel::Kernel;
use super::noise::{self, PIXELS, Pixels};
use crate::definition::camera::Camera;
use crate::definition::readout::{Mode, Number};
use crate::definition::recovery::{self, Equations};
use crate::request::measurement::Measurement;

/// The measurement of one vector.
#[derive(Clone, Copy)]
pub(super) struct VectorMeasurement<'a> {
    pub(super) measurement: &'a Measurement,
    pub(super) mode: Mode,
    /// The number of the vector in its batch.
    pub(super) vector: u64,
    /// The row of T of the field's first entry.
    pub(super) first_row: u64,
    /// The intensity that counts as 1; 0 for an all-zero vector.
    pub(super) mean: f64,
}

impl VectorMeasurement<'_> {
    /// How many frames of each pixel are computed.
    pub(super) fn frames(&self) -> u64 {
        self.measurement.frames(self.mode)
    }

    /// How many anchors it takes.
    pub(super) fn anchors(&self) -> usize {
        self.measurement.anchors(self.mode) as usize
    }

    /// What the camera reads of |Tx|² at no more than [`PIXELS`] rows.
    pub(super) fn intensity<T: Number>(&self, kernel: Kernel, field: &[f64], out: &mut [T]) {
        let mut values = [0.0; PIXELS];
        self.expose(kernel, 0, field, &[], self.measurement.raw, &mut values);
        round(kernel, &values, out);
    }

    /// What is recovered of T(p − q) from its frames at no more than [`PIXELS`] rows: R(p − q), or the two parts of the
    /// field in turn.
    pub(super) fn recover<T: Number>(&self, kernel: Kernel, p: &[f64], q: &[f64], anchors: &[&[i32]], out: &mut [T]) {
        let mut results = [0.0; 2 * PIXELS];
        let results = &mut results[..out.len()];
        self.recover_exact(kernel, [p, q], anchors, results);
        round(kernel, results, out);
    }

    fn recover_exact(&self, kernel: Kernel, fields: [&[f64]; 2], anchors: &[&[i32]], results: &mut [f64]) {
        let floor = self.measurement.dark_floor(self.mode);
        let (mut with, mut without) = ([[0.0; PIXELS]; 2], [[0.0; PIXELS]; 2]);
        let frames = |k: u64, anchor: &[i32], values: &mut [Pixels<f64>; 2]| {
            for ((half, field), values) in (0..).zip(fields).zip(values) {
                self.expose(kernel, k + half, field, anchor, false, values);
            }
        };
        frames(0, &[], &mut without);
        let mut equations = PixelEquations::default();
        for (k, anchor) in (0..).zip(anchors) {
            frames(2 + 2 * k, anchor, &mut with);
            kernel.vectorize(
                #[inline(always)]
                || {
                    let products = products(&with, &without);
                    if self.mode == Mode::Complex {
                        equations.add(anchor, &products);
                    } else {
                        for ((result, product), &r) in results.iter_mut().zip(products).zip(anchor.as_chunks::<2>().0) {
                            *result = recovery::linear(product, r, floor);
                        }
                    }
                },
            );
        }
        if self.mode == Mode::Complex {
            let floor = recovery::complex_floor(floor, anchors.len());
            kernel.vectorize(
                #[inline(always)]
                || equations.solve(floor, results),
            );
        }
    }

    /// Writes what the camera reads in exposure `k` of |field + anchor|² at some rows: in its own numbers if `raw`, else
    /// as intensities.
    fn expose(&self, kernel: Kernel, k: u64, field: &[f64], anchor: &[i32], raw: bool, values: &mut Pixels<f64>) {
        // One closure for all exposures and types of outputs, because each instruction set compiles it, and it is long.
        kernel.vectorize(
            #[inline(always)]
            || {
                intensities(field, anchor, values);
                self.read_raw(k, values);
                if !raw {
                    self.scale(values);
                }
            },
        );
    }

    /// Turns the camera's own numbers into intensities.
    #[inline(always)]
    fn scale(&self, values: &mut Pixels<f64>) {
        let unit = self.measurement.camera.unit(self.mean);
        for value in values {
            *value *= unit;
        }
    }

    /// Replaces intensities by what the camera reads of them in exposure `k`, in the camera's own numbers.
    #[inline(always)]
    fn read_raw(&self, k: u64, values: &mut Pixels<f64>) {
        let Measurement { camera, first_vector, .. } = self.measurement;
        let exposure = (first_vector + self.vector) * self.measurement.exposures(self.mode) + k;
        let relative = if self.mean > 0.0 { 1.0 / self.mean } else { 0.0 };
        for value in values.iter_mut() {
            *value *= relative;
        }
        let frames = u64::from(camera.frames);
        if frames == 1 || !camera.is_noisy() {
            self.read_frame(exposure * frames, values);
            return;
        }
        let mut sums = [0.0; PIXELS];
        for frame in 0..frames {
            let mut one = *values;
            self.read_frame(exposure * frames + frame, &mut one);
            for (sum, one) in sums.iter_mut().zip(one) {
                *sum += one;
            }
        }
        for (value, sum) in values.iter_mut().zip(sums) {
            *value = sum / f64::from(camera.frames);
        }
    }

    /// One frame.
    #[inline(always)]
    fn read_frame(&self, frame: u64, values: &mut Pixels<f64>) {
        let Measurement { camera, noise_seed, .. } = self.measurement;
        let Camera { full_scale, photons, read_noise, .. } = *camera;
        if camera.is_noisy() {
            let (mut shot, mut read) = ([0; PIXELS], [0; PIXELS]);
            noise::words(*noise_seed, frame, self.first_row, &mut shot, &mut read);
            if photons.is_finite() {
                for value in values.iter_mut() {
                    *value *= photons;
                }
                *values = noise::poisson(&shot, values);
                let part = 1.0 / photons;
                for value in values.iter_mut() {
                    *value *= part;
                }
            }
            if read_noise > 0.0 {
                for (value, z) in values.iter_mut().zip(noise::normal(&read)) {
                    *value += read_noise * z;
                }
            }
        }
        if full_scale.is_finite() || read_noise > 0.0 {
            for value in values.iter_mut() {
                // Not `clamp`: the check that it begins with would keep the loop from being vectorised.
                *value = value.max(0.0).min(full_scale);
            }
        }
        if let Some(levels) = camera.levels() {
            let scale = levels / full_scale;
            for value in values.iter_mut() {
                *value = (*value * scale).round_ties_even();
            }
        }
    }
}

/// The [`Equations`] of each pixel, an array for each sum.
struct PixelEquations {
    xx: Pixels<f64>,
    xy: Pixels<f64>,
    yy: Pixels<f64>,
    x: Pixels<f64>,
    y: Pixels<f64>,
}

impl Default for PixelEquations {
    fn default() -> Self {
        let [xx, xy, yy, x, y] = [[0.0; PIXELS]; 5];
        Self { xx, xy, yy, x, y }
    }
}

impl PixelEquations {
    #[inline(always)]
    fn of(&self, j: usize) -> Equations {
        Equations { xx: self.xx[j], xy: self.xy[j], yy: self.yy[j], x: self.x[j], y: self.y[j] }
    }

    #[inline(always)]
    fn add(&mut self, anchor: &[i32], products: &Pixels<f64>) {
        for (j, &r) in anchor.as_chunks::<2>().0.iter().enumerate() {
            let mut one = self.of(j);
            one.add(r, products[j]);
            (self.xx[j], self.xy[j], self.yy[j], self.x[j], self.y[j]) = (one.xx, one.xy, one.yy, one.x, one.y);
        }
    }

    #[inline(always)]
    fn solve(&self, floor: f64, out: &mut [f64]) {
        for (j, out) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            *out = self.of(j).solve(floor);
        }
    }
}

/// Re(conj(r)·y) for the field r of an anchor, from frames of p and q with the anchor and without it.
#[inline(always)]
fn products(with: &[Pixels<f64>; 2], without: &[Pixels<f64>; 2]) -> Pixels<f64> {
    let mut products = [0.0; PIXELS];
    for j in 0..PIXELS {
        products[j] = recovery::product([with[0][j], with[1][j]], [without[0][j], without[1][j]]);
    }
    products
}

/// Rounds results to the type of the output.
fn round<T: Number>(kernel: Kernel, results: &[f64], out: &mut [T]) {
    kernel.vectorize(
        #[inline(always)]
        || {
            for (out, &result) in out.iter_mut().zip(results) {
                *out = T::rounded(result);
            }
        },
    );
}

/// |field + anchor|² of the first rows; the field alone if `anchor` is empty.
#[inline(always)]
fn intensities(field: &[f64], anchor: &[i32], out: &mut Pixels<f64>) {
    let field = field.as_chunks::<2>().0;
    if anchor.is_empty() {
        for (out, &field) in out.iter_mut().zip(field) {
            *out = recovery::intensity(field);
        }
    } else {
        for ((out, &field), &anchor) in out.iter_mut().zip(field).zip(anchor.as_chunks::<2>().0) {
            *out = recovery::intensity_with(field, anchor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::recovery::Pixel;

    fn field(salt: i64) -> Vec<i32> {
        (0..2 * PIXELS as i64).map(|k| ((k * k * 37 + salt * (k + 5) * 211) % 4001 - 2000) as i32).collect()
    }

    #[test]
    fn readings_and_recoveries_are_those_of_the_definition() {
        let ideal = Camera::IDEAL;
        let cameras = [
            Camera { bits: Some(8), full_scale: 4.0, photons: 30.0, read_noise: 0.03, frames: 3, ..ideal },
            Camera { photons: 2000.0, dark_floor: 0.1, ..ideal },
            Camera { full_scale: 2.0, exposure: Some(300.0), anchors: 4, dark_floor: 0.3, ..ideal },
        ];
        let floats = |field: &[i32]| field.iter().map(|&part| f64::from(part)).collect::<Vec<_>>();
        let (p, q, anchors) = (field(1), field(2), [3, 4, 5, 6].map(field));
        let pairs = |field: &[i32]| field.as_chunks::<2>().0.to_vec();
        for camera in cameras {
            let measurement = Measurement { camera, noise_seed: 8, first_vector: 5, n_anchor: 900, raw: false };
            let modes = [Mode::Intensity, Mode::Linear { n_anchor: 700 }, Mode::Complex];
            for (mode, kernel) in
                modes.into_iter().flat_map(|mode| Kernel::available().map(move |kernel| (mode, kernel)))
            {
                let (vector, first_row, mean) = (7, 1001, measurement.mean(1000));
                let of_vector = VectorMeasurement { measurement: &measurement, mode, vector, first_row, mean };
                let used: Vec<&[i32]> = anchors.iter().map(|anchor| &anchor[..]).take(of_vector.anchors()).collect();
                let mut found = [0.0; 2 * PIXELS];
                let found = &mut found[..PIXELS * mode.parts()];
                if mode == Mode::Intensity {
                    of_vector.intensity(kernel, &floats(&p), found);
                } else {
                    of_vector.recover(kernel, &floats(&p), &floats(&q), &used, found);
                }
                let floor = measurement.dark_floor(mode);
                for (j, found) in found.chunks(mode.parts()).enumerate() {
                    let row = first_row + j as u64;
                    let first_exposure = (5 + vector) * measurement.exposures(mode);
                    let pixel = Pixel { camera: &camera, noise_seed: 8, first_exposure, row, mean };
                    let (p, q) = (pairs(&p)[j], pairs(&q)[j]);
                    let anchors: Vec<[i32; 2]> = used.iter().map(|anchor| pairs(anchor)[j]).collect();
                    let expected = match mode {
                        Mode::Intensity => {
                            vec![camera.read(8, first_exposure, row, mean, recovery::intensity(p.map(f64::from)))]
                        }
                        Mode::Linear { .. } => vec![pixel.linear(p, q, anchors[0], floor)],
                        Mode::Complex => pixel.complex(p, q, &anchors, floor).to_vec(),
                        Mode::Real => unreachable!("no camera reads it"),
                    };
                    let bits = |numbers: &[f64]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(found), bits(&expected), "{mode:?}, row {row}, {camera:?}");
                }
            }
        }
    }
}

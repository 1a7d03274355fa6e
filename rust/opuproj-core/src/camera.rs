//! What a real detector makes of an intensity: photons, electronics, saturation, quantization, repeated frames.

#![allow(clippy::inline_always, reason = "callers compile these loops for their instruction set")]

use crate::noise::{self, LANES, Lanes};

/// A camera's imperfections. Intensities here are relative: 1 is what the exposure is set for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    /// Bits of a reading, 1 to 16; none for one that is not quantized.
    pub bits: Option<u32>,
    /// The intensity that saturates; infinite for a camera that never does, which must not be quantized.
    pub full_scale: f64,
    /// The intensity |Tx|² that counts as 1; by default the mean one of each vector's brightest frame.
    pub exposure: Option<f64>,
    /// Photons detected per pixel and frame at intensity 1; infinite for light without shot noise.
    pub photons: f64,
    /// Standard deviation of the electronics' noise.
    pub read_noise: f64,
    /// Frames that a reading is the mean of.
    pub frames: u32,
    /// Pixels on which the anchor's intensity is below this part of its mean are recovered as 0.
    pub dark_floor: f64,
    /// Anchors of a complex recovery.
    pub anchors: u32,
}

impl Camera {
    /// A camera without any imperfection.
    pub const IDEAL: Self = Self {
        bits: None,
        full_scale: f64::INFINITY,
        exposure: None,
        photons: f64::INFINITY,
        read_noise: 0.0,
        frames: 1,
        dark_floor: 0.0,
        anchors: 3,
    };

    /// Whether its readings are the intensities themselves.
    #[must_use]
    pub fn is_ideal(&self) -> bool {
        Self { exposure: None, frames: 1, anchors: 3, ..*self } == Self::IDEAL
    }

    /// Whether one frame differs from the next.
    pub(crate) fn is_noisy(&self) -> bool {
        self.photons.is_finite() || self.read_noise > 0.0
    }

    fn levels(&self) -> Option<f64> {
        self.bits.map(|bits| f64::from((1u32 << bits) - 1))
    }
}

/// A camera and its stream of noise.
#[derive(Clone, Copy, Debug)]
pub struct Detector {
    /// The camera.
    pub camera: Camera,
    /// Which noise.
    pub noise_seed: u64,
}

/// Which frames are taken, of which rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exposure {
    /// Counts exposures; each takes as many frames as the camera averages.
    pub(crate) index: u64,
    pub(crate) first_row: u64,
    /// The intensity that counts as 1; 0 for a vector that is dark.
    pub(crate) mean: f64,
}

impl Detector {
    /// Replaces intensities by what the camera reads of them, in the same units.
    #[inline(always)]
    pub(crate) fn read(&self, at: Exposure, values: &mut Lanes<f64>) {
        self.raw(at, values);
        let Camera { full_scale, .. } = self.camera;
        let unit = match self.camera.levels() {
            Some(levels) => at.mean * full_scale / levels,
            None => at.mean,
        };
        for value in values {
            *value *= unit;
        }
    }

    /// Replaces intensities by the camera's own numbers: levels if it quantizes, else relative intensities.
    #[inline(always)]
    pub(crate) fn raw(&self, at: Exposure, values: &mut Lanes<f64>) {
        let Camera { frames, .. } = self.camera;
        let relative = if at.mean > 0.0 { 1.0 / at.mean } else { 0.0 };
        for value in values.iter_mut() {
            *value *= relative;
        }
        if frames == 1 || !self.camera.is_noisy() {
            self.frame(at.index * u64::from(frames), at.first_row, values);
            return;
        }
        let mut sums = [0.0; LANES];
        for frame in 0..u64::from(frames) {
            let mut one = *values;
            self.frame(at.index * u64::from(frames) + frame, at.first_row, &mut one);
            for (sum, one) in sums.iter_mut().zip(one) {
                *sum += one;
            }
        }
        *values = sums.map(|sum| sum / f64::from(frames));
    }

    /// One frame.
    #[inline(always)]
    fn frame(&self, frame: u64, first_row: u64, values: &mut Lanes<f64>) {
        let Camera { full_scale, photons, read_noise, .. } = self.camera;
        if self.camera.is_noisy() {
            let (mut shot, mut read) = ([0; LANES], [0; LANES]);
            noise::words(self.noise_seed, frame, first_row, &mut shot, &mut read);
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
                // Not clamp: what it checks first would keep the loop from being vectorised.
                *value = value.max(0.0).min(full_scale);
            }
        }
        if let Some(levels) = self.camera.levels() {
            let scale = levels / full_scale;
            for value in values.iter_mut() {
                *value = (*value * scale).round_ties_even();
            }
        }
    }
}

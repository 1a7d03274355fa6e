//! What a real detector makes of an intensity: photons, electronics, saturation, quantization, repeated frames.

use super::noise;

/// A camera's imperfections. Its intensities are relative: the exposure is set so that a given intensity counts as 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    /// Bits of a reading, 1 to 16; `None` if readings are not quantized.
    pub bits: Option<u32>,
    /// The intensity that saturates. It is infinite for a camera that never saturates, which must not quantize.
    pub full_scale: f64,
    /// The intensity |Tx|² that counts as 1; by default the mean intensity of each vector's brightest frame.
    pub exposure: Option<f64>,
    /// Photons detected per pixel and frame at intensity 1; infinite for light without shot noise.
    pub photons: f64,
    /// Standard deviation of the noise of the electronics.
    pub read_noise: f64,
    /// Frames that a reading is the mean of.
    pub frames: u32,
    /// Pixels on which the anchor's intensity is below this fraction of its mean are recovered as 0.
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
    #[must_use]
    pub fn is_noisy(&self) -> bool {
        self.photons.is_finite() || self.read_noise > 0.0
    }

    /// The largest level of a quantized reading.
    #[must_use]
    pub fn levels(&self) -> Option<f64> {
        self.bits.map(|bits| f64::from((1u32 << bits) - 1))
    }

    /// The intensity that one of the camera's own numbers stands for, where the intensity `mean` counts as 1.
    #[must_use]
    pub fn unit(&self, mean: f64) -> f64 {
        match self.levels() {
            Some(levels) => mean * self.full_scale / levels,
            None => mean,
        }
    }

    /// What the camera reads of an intensity at a row, in the same unit; `mean` is the intensity that counts as 1.
    ///
    /// Exposures are numbered. Each takes as many frames as the camera averages.
    #[must_use]
    pub fn read(&self, noise_seed: u64, exposure: u64, row: u64, mean: f64, intensity: f64) -> f64 {
        self.read_raw(noise_seed, exposure, row, mean, intensity) * self.unit(mean)
    }

    /// The same in the camera's own numbers: levels if it quantizes, else relative intensities.
    #[must_use]
    pub fn read_raw(&self, noise_seed: u64, exposure: u64, row: u64, mean: f64, intensity: f64) -> f64 {
        let relative = intensity * if mean > 0.0 { 1.0 / mean } else { 0.0 };
        let frames = u64::from(self.frames);
        if frames == 1 || !self.is_noisy() {
            return self.frame(noise_seed, exposure * frames, row, relative);
        }
        let readings = (0..frames).map(|k| self.frame(noise_seed, exposure * frames + k, row, relative));
        readings.fold(0.0, |sum, reading| sum + reading) / f64::from(self.frames)
    }

    /// One frame's reading of a relative intensity.
    fn frame(&self, noise_seed: u64, frame: u64, row: u64, mut value: f64) -> f64 {
        if self.is_noisy() {
            let [shot, read] = noise::words(noise_seed, frame, row);
            if self.photons.is_finite() {
                value = noise::poisson(shot, value * self.photons) * (1.0 / self.photons);
            }
            if self.read_noise > 0.0 {
                value += self.read_noise * noise::normal(read);
            }
        }
        if self.full_scale.is_finite() || self.read_noise > 0.0 {
            value = value.max(0.0).min(self.full_scale);
        }
        match self.levels() {
            Some(levels) => (value * (levels / self.full_scale)).round_ties_even(),
            None => value,
        }
    }
}

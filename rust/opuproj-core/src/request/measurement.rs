//! A camera that reads the results of a projection.

use crate::definition::anchor;
use crate::definition::camera::Camera;
use crate::definition::readout::Mode;

/// How a camera measures a projection.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// The camera.
    pub camera: Camera,
    /// The seed of its noise.
    pub noise_seed: u64,
    /// The number of vectors before the first one of the batch, so that each vector has frames of its own.
    pub first_vector: u64,
    /// Pixels of an anchor of "complex"; "linear" has its own.
    pub n_anchor: u32,
    /// Whether "intensity" gives the camera's own numbers in place of intensities.
    pub raw: bool,
}

impl Measurement {
    /// How many anchors a mode takes.
    #[must_use]
    pub fn anchors(&self, mode: Mode) -> u32 {
        match mode {
            Mode::Intensity | Mode::Real => 0,
            Mode::Linear { .. } => 1,
            Mode::Complex => self.camera.anchors,
        }
    }

    /// Pixels of one anchor.
    #[must_use]
    pub fn anchor_pixels(&self, mode: Mode) -> u64 {
        if mode == Mode::Complex { u64::from(self.n_anchor) } else { mode.anchor_pixels() }
    }

    /// The columns of T that each anchor lights: the last columns of T. The anchor of "linear" is the first of these.
    pub fn anchor_columns(&self, mode: Mode) -> impl Iterator<Item = impl ExactSizeIterator<Item = u64> + Clone> {
        let pixels = self.anchor_pixels(mode);
        (0..u64::from(self.anchors(mode))).map(move |which| anchor::columns(which, pixels))
    }

    /// How many exposures a vector takes.
    #[must_use]
    pub fn exposures(&self, mode: Mode) -> u64 {
        match mode {
            Mode::Intensity | Mode::Real => 1,
            Mode::Linear { .. } | Mode::Complex => 2 * (1 + u64::from(self.anchors(mode))),
        }
    }

    /// How many frames of each pixel are computed for a vector.
    #[must_use]
    pub fn frames(&self, mode: Mode) -> u64 {
        self.exposures(mode) * if self.camera.is_noisy() { u64::from(self.camera.frames) } else { 1 }
    }

    /// The intensity that counts as 1 in frames of this many lit pixels.
    #[must_use]
    pub fn mean(&self, lit_pixels: u64) -> f64 {
        self.camera.exposure.unwrap_or(lit_pixels as f64)
    }

    /// The anchor's intensity below which a pixel is recovered as 0.
    #[must_use]
    pub fn dark_floor(&self, mode: Mode) -> f64 {
        self.camera.dark_floor * self.anchor_pixels(mode) as f64
    }
}

//! The specification of this crate in plain scalar code. Read this folder first.
//!
//! Each module states one part of what the crate computes, a number at a time, in the order in which to read them:
//!
//! 1. [`transmission`]: the entries of the transmission matrix T.
//! 2. [`anchor`]: the anchor, known light beside the data, and the phases of its field.
//! 3. [`readout`]: from the exact integer field of a row to a result.
//! 4. [`noise`]: the random numbers of a detector.
//! 5. [`camera`]: what a real detector makes of an intensity.
//! 6. [`recovery`]: a projection from several camera frames.
//! 7. [`structured`]: the structured matrix, which is applied by fast transforms.
//!
//! This folder uses nothing else of the crate: no threads, no `unsafe`, no instruction sets (`tests/layers.rs` checks the
//! imports). Everything fast is tested against it and gives the same bits.

pub mod anchor;
pub mod camera;
pub mod noise;
pub mod readout;
pub mod recovery;
pub mod structured;
pub mod transmission;

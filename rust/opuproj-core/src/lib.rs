//! A transmission matrix too large to store, generated from a seed while it is multiplied.
//!
//! An Optical Processing Unit sends a vector x through a scattering medium, a fixed random matrix T, and a camera sees
//! |Tx|². This crate is that operator for ternary x: batch in, field or intensity or linear recovery out. A tour, in the
//! order in which data flows:
//!
//! * [`transmission`] defines T in a page of scalar code. Everything else must agree with it, bit for bit.
//! * [`ternary`] holds batches of −1, 0 and 1 in two bits an element: packing, unpacking, a file format.
//! * [`encoded`] holds real numbers as several such batches, a digit each.
//! * [`kernel`] has the inner loops, a file or folder an instruction set, chosen when the program runs.
//! * [`projection`] takes a batch through T: which form its inputs take, tiles of rows, threads, cancellation.
//! * [`adjoint`] takes a batch back, through Tᴴ.
//! * [`readout`] makes results of exact integer fields; [`anchor`] is the light by which it does so for "linear".
//! * [`camera`] is what a real detector makes of an intensity, and [`recovery`] what can be had back from its frames.
//! * [`structured`] is a sibling of T by fast transforms, with a definition, kernels and a projection of its own.
//! * [`memory`] has vectors that end in an error, not in the end of the process, where there is no memory for them.
//! * [`limits`] measures what all that is compared with: the bare keystream, and the bare multiplication.
//!
//! ```
//! use opuproj_core::kernel::Kernel;
//! use opuproj_core::projection::Projection;
//! use opuproj_core::readout::Mode;
//! use opuproj_core::ternary::Packer;
//! use opuproj_core::transmission::Transmission;
//!
//! let mut packer = Packer::new(1, 4).expect("memory");
//! packer.push(&[1i8, 0, -1, 1]).expect("ternary numbers");
//! let batch = packer.finish().expect("all rows");
//!
//! let projection = Projection {
//!     transmission: Transmission::new(42),
//!     mode: Mode::Intensity,
//!     sight: None,
//!     rows: 0..3,
//!     kernel: Kernel::best(),
//!     threads: 2,
//! };
//! let mut intensities = [0f32; 3];
//! projection.run(&batch, &mut [&mut intensities[..]], &mut |_| true).expect("nobody stops it");
//!
//! let field = |i: usize| {
//!     let parts = [0, 2, 3].map(|j| projection.transmission.entry(i as u64, j));
//!     let sum = |part: fn((i8, i8)) -> i8| parts.iter().zip([1., -1., 1.]).map(|(&p, x)| x * f32::from(part(p))).sum();
//!     let (re, im): (f32, f32) = (sum(|p| p.0), sum(|p| p.1));
//!     (re * re + im * im) / 2048.0
//! };
//! assert_eq!(intensities, [field(0), field(1), field(2)]);
//! ```

pub mod adjoint;
pub mod anchor;
pub mod camera;
pub mod encoded;
pub mod kernel;
pub mod limits;
pub mod memory;
pub mod projection;
pub mod readout;
pub mod recovery;
pub mod structured;
pub mod ternary;
pub mod transmission;

mod noise;
mod operand;
mod pool;
mod vectors;
mod work;

pub use work::Stopped;

//! A transmission matrix too large to store, generated from a seed while it is multiplied.
//!
//! An Optical Processing Unit sends a vector x through a scattering medium, a fixed random matrix T, and a camera sees
//! |Tx|². This crate computes that operator for ternary x, and for real x in digits. Its folders, in the order in which
//! each depends on the ones before:
//!
//! * [`definition`] is the specification in plain scalar code. Read it first; everything else must give the same bits.
//! * [`memory`] and [`progress`]: allocation that can fail, and calls that report progress and can be stopped.
//! * [`request`] is what a caller asks for: which matrix, which rows, what is read, which camera.
//! * [`batch`] holds input vectors: ternary, in digits, or as float32.
//! * [`cpu`] is how the CPU computes a request: kernels, threads, memory, packing.
//!
//! ```
//! use opuproj_core::cpu::Cpu;
//! use opuproj_core::cpu::kernel::Kernel;
//! use opuproj_core::cpu::packing::Packer;
//! use opuproj_core::definition::readout::Mode;
//! use opuproj_core::definition::transmission::Transmission;
//! use opuproj_core::request::projection::{Columns, Projection};
//!
//! let mut packer = Packer::new(1, 4).expect("memory");
//! packer.push(&[1i8, 0, -1, 1]).expect("ternary numbers");
//! let batch = packer.finish().expect("all rows");
//!
//! let transmission = Transmission::new(42);
//! let request = Projection { transmission, mode: Mode::Intensity, measurement: None, rows: 0..3 };
//! let cpu = Cpu { kernel: Kernel::best(), threads: 2 };
//! let mut intensities = [0f32; 3];
//! cpu.project(&request, &batch, Columns::From(0), &mut [&mut intensities[..]], &mut |_| true).expect("not stopped");
//!
//! let field = |i: usize| {
//!     let parts = [0, 2, 3].map(|j| transmission.entry(i as u64, j));
//!     let sum = |part: fn((i8, i8)) -> i8| parts.iter().zip([1., -1., 1.]).map(|(&p, x)| x * f32::from(part(p))).sum();
//!     let (re, im): (f32, f32) = (sum(|p| p.0), sum(|p| p.1));
//!     (re * re + im * im) / 2048.0
//! };
//! assert_eq!(intensities, [field(0), field(1), field(2)]);
//! ```

pub mod batch;
pub mod cpu;
pub mod definition;
pub mod memory;
pub mod progress;
pub mod request;

pub use progress::Stopped;

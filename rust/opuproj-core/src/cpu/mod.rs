//! How the CPU computes what a [`request`](crate::request) asks for. [`Cpu`] has a method for each request.
//!
//! * [`kernel`]: the inner loops, a file or folder for each instruction set, chosen when the program runs.
//! * [`packing`]: numbers into batches.
//! * `vectors`, `gather`: the vectors that are multiplied, and their int8 elements.
//! * `projection`: a batch through T, in groups of vectors and tiles of rows.
//! * `adjoint`: a batch back through Tᴴ, in tiles of columns.
//! * [`structured`]: a batch through the structured matrix, by passes over memory.
//! * `entries`: exact entries of T and R, and the phases of an anchor.
//! * `field`: exact integer fields, in 32 or 64 bits.
//! * `outputs`, `reference`, `camera`, `noise`: the readout of many rows at a time, in several number types.
//! * `threads`, `pool`: how threads share work.
//! * [`limits`]: the rates of the bare keystream and the bare multiplication, for benchmarks.

mod adjoint;
mod camera;
mod entries;
mod field;
mod gather;
pub mod kernel;
pub mod limits;
mod noise;
mod outputs;
pub mod packing;
mod pool;
mod projection;
mod reference;
mod resources;
pub mod structured;
mod threads;
mod vectors;

pub use field::Fields;
pub use outputs::Output;
pub use resources::Cpu;

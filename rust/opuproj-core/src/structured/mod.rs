//! A structured sibling of T: blocks of three rounds of random signs and Walsh–Hadamard transforms.
//!
//! Its rows cost O(log n) operations each rather than n. What is lost is independence: entries depend on each other, the rows
//! of a block's part are orthogonal, and none can be computed alone. See Dong, Ohana, Rafayelyan and Krzakala, "Reservoir
//! computing meets recurrent kernels and structured transforms" (arXiv:2006.07310).
//!
//! * [`definition`] says what the matrix is, in scalar code.
//! * `lanes` is what an instruction set must do, `avx512` and `avx2` are those that have a file of their own.
//! * `passes` are the transforms, cut so that each goes through memory as seldom as it can; `signs` are their diagonals.
//! * `reading` makes results of the two parts; a `worker` does all that for a vector, in a `workspace`.
//! * [`Structured`] takes a batch through all of it.

#![allow(clippy::inline_always, reason = "what is not inlined lacks the instruction set of the function around it")]

pub mod definition;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod inputs;
mod lanes;
mod passes;
mod projection;
mod reading;
mod signs;
mod worker;
mod workspace;

pub use inputs::{Floats, Inputs};
pub use projection::Structured;
pub use workspace::bytes_per_thread;

use crate::kernel::{Isa, Kernel};
use lanes::Pass;

/// Runs a pass on a kernel's instruction set.
fn run<P: Pass>(kernel: Kernel, pass: P) -> P::Output {
    match kernel.isa() {
        // SAFETY: a kernel of these instruction sets exists only where AVX-512 F, BW, DQ and VL do.
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => unsafe { avx512::run(pass) },
        // SAFETY: a kernel of this instruction set exists only where AVX2 does.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::run(pass) },
        _ => pass.run::<lanes::Plain>(),
    }
}

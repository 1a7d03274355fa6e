//! The structured matrix by fast transforms ([`definition::structured`](crate::definition::structured)).
//!
//! * `run` takes a batch through all of it: tasks, threads, progress and cancellation.
//! * `inputs`: the vectors.
//! * `passes`: the transforms, in as few passes over memory as possible.
//! * `lanes`: what an instruction set must provide; `avx512` and `avx2` provide it, `dispatch` chooses one.
//! * `registers`: what these two have in common.
//! * `signs`: the diagonals of random signs.
//! * `readout`: results from the two parts of a transform.
//! * `worker`: one thread at work on a task; `workspace`: the memory that it works in.

#![allow(clippy::inline_always, reason = "what is not inlined lacks the instruction set of the function around it")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dispatch;
mod inputs;
mod lanes;
mod passes;
mod readout;
#[cfg(target_arch = "x86_64")]
mod registers;
mod run;
mod signs;
mod worker;
mod workspace;

pub use inputs::TransformInputs;
pub use workspace::bytes_per_thread;

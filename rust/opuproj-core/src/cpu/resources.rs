//! The part of the CPU that a call may use.

use super::kernel::Kernel;

/// The CPU backend: its methods compute what a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// The inner loops.
    pub kernel: Kernel,
    /// Threads to use, the calling one among them; at least 1.
    pub threads: usize,
}

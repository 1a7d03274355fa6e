//! Runs a pass on the lanes of a kernel's instruction set.

#[cfg(target_arch = "x86_64")]
use super::avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::lanes::{Pass, Plain};
use crate::cpu::kernel::{Isa, Kernel};

/// Runs a pass on a kernel's instruction set.
pub(super) fn run<P: Pass>(kernel: Kernel, pass: P) -> P::Output {
    match kernel.isa() {
        // SAFETY: a kernel of these instruction sets exists only on a CPU with AVX-512 F, BW, DQ and VL.
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => unsafe { avx512::run(pass) },
        // SAFETY: a kernel of this instruction set exists only on a CPU with AVX2.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::run(pass) },
        _ => pass.run::<Plain>(),
    }
}

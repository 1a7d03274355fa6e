//! The signs of a diagonal, some blocks of the keystream at a time.

use super::passes::SignBlock;
use crate::cpu::kernel::{Isa, Kernel, keystream_blocks};
use crate::definition::structured::Signs;

/// Blocks that are generated together.
const BLOCKS_AT_ONCE: usize = 8;

/// Writes blocks of signs of a diagonal. `number` gives the number of each: block j has elements 128 j to 128 j + 127.
pub(super) fn fill(kernel: Kernel, signs: &Signs, diagonal: u64, number: impl Fn(usize) -> u64, out: &mut [SignBlock]) {
    match kernel.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => {
            // SAFETY: a kernel of these instruction sets exists only on a CPU with AVX-512 F and BW and VAES.
            unsafe { super::avx512::signs(signs.keystream(), diagonal, number, out) }
        }
        _ => {
            for (k, out) in out.chunks_mut(BLOCKS_AT_ONCE).enumerate() {
                let counters = std::array::from_fn(|j| number(BLOCKS_AT_ONCE * k + j.min(out.len() - 1)));
                let blocks = keystream_blocks(signs.keystream(), counters, diagonal);
                for (out, block) in out.iter_mut().zip(blocks) {
                    for (out, pair) in out.iter_mut().zip(block.as_chunks::<2>().0) {
                        *out = u16::from_le_bytes(*pair);
                    }
                }
            }
        }
    }
}

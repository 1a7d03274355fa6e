//! Ternary numbers into planes of bits.

use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn planes(codes: &[[i8; 64]], positive: &mut [u64], negative: &mut [u64]) -> bool {
    let mut refused = 0;
    for (codes, (positive, negative)) in codes.iter().zip(positive.iter_mut().zip(negative)) {
        // SAFETY: reads 64 bytes of an array of 64.
        let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
        *positive = _mm512_cmpeq_epi8_mask(codes, _mm512_set1_epi8(1));
        *negative = _mm512_movepi8_mask(codes);
        refused |= _mm512_cmpgt_epi8_mask(codes, _mm512_set1_epi8(1));
    }
    refused != 0
}

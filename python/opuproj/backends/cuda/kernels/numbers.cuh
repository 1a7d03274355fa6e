// Numbers of every dtype: whether they are -1, 0 or 1, their value as float64, and numbers rounded to bfloat16.
#pragma once
#include <device.cuh>

struct half_bits {
  unsigned short bits;
};
struct bfloat_bits {
  unsigned short bits;
};

enum Ternary { ZERO = 0, PLUS = 1, MINUS = 2, OTHER = 3 };

template <class T> __device__ __forceinline__ Ternary ternary(T x) {
  return x == T(0) ? ZERO : x == T(1) ? PLUS : T(-1) < T(0) && x == T(-1) ? MINUS : OTHER;
}
__device__ __forceinline__ Ternary ternary_bits(u32 bits, u32 one) {
  return (bits & 0x7fff) == 0 ? ZERO : bits == one ? PLUS : bits == (one | 0x8000) ? MINUS : OTHER;
}
template <> __device__ __forceinline__ Ternary ternary(half_bits x) { return ternary_bits(x.bits, 0x3c00); }
template <> __device__ __forceinline__ Ternary ternary(bfloat_bits x) { return ternary_bits(x.bits, 0x3f80); }

template <class T> __device__ __forceinline__ double wide(T x) { return (double)x; }
template <> __device__ __forceinline__ double wide(bfloat_bits x) {
  u32 bits = (u32)x.bits << 16;
  return (double)*(float*)&bits;
}
template <> __device__ __forceinline__ double wide(half_bits x) {
  u32 sign = (x.bits & 0x8000u) << 16, exponent = x.bits >> 10 & 31, mantissa = x.bits & 1023;
  if (exponent == 0) {  // a number below the smallest normal one: mantissa times 2^-24
    double value = mantissa * (1.0 / 16777216.0);
    return sign ? -value : value;
  }
  u32 bits = sign | (exponent == 31 ? 255 : exponent + 112) << 23 | mantissa << 13;
  return (double)*(float*)&bits;
}
__device__ __forceinline__ bool is_finite(double x) { return x - x == 0; }

// A number as an R, rounded to nearest, to even at ties.
template <class R, class S> __device__ __forceinline__ R narrow(S x) { return (R)x; }
template <> __device__ __forceinline__ bfloat_bits narrow(float x) {
  u32 bits = *(u32*)&x;
  if (x != x) return {0x7fc0};
  return {(unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

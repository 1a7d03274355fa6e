// A detector's noise: the words and quantiles of the scalar definition (definition/noise.rs of the Rust core), with the same
// operations in the same order. Those of a normal number are float32.
#pragma once
#include <device.cuh>

struct Words {
  u32 shot, read;
};

// The two words of a row of a frame, by Philox4x32 with 10 rounds.
__device__ __forceinline__ Words words(u64 seed, u64 frame, u64 row) {
  u64 block = row / 2;
  u32 s0 = (u32)block, s1 = (u32)(block >> 32), s2 = (u32)frame, s3 = (u32)(frame >> 32);
  u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; round++) {
    u64 a = (u64)0xD2511F53u * s0, b = (u64)0xCD9E8D57u * s2;
    s0 = (u32)(b >> 32) ^ s1 ^ k0;
    s1 = (u32)b;
    s2 = (u32)(a >> 32) ^ s3 ^ k1;
    s3 = (u32)a;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  if (row & 1) return {s2, s3};
  return {s0, s1};
}

// A polynomial by its coefficients, those of the highest power first.
template <class T, int N> __device__ __forceinline__ T polynomial(T x, const T (&coefficients)[N]) {
  T sum = coefficients[0];
#pragma unroll
  for (int i = 1; i < N; i++) sum = sum * x + coefficients[i];
  return sum;
}

// The natural logarithm of a positive normal number.
__device__ __forceinline__ float logarithm(float x) {
  int bits;
  memcpy(&bits, &x, 4);
  int exponent = (bits - 0x3f3504f3) >> 23, mantissa_bits = bits - exponent * (1 << 23);
  float mantissa;
  memcpy(&mantissa, &mantissa_bits, 4);
  float s = (mantissa - 1.0f) / (mantissa + 1.0f);
  const float series[] = {2.0f / 9.0f, 2.0f / 7.0f, 2.0f / 5.0f, 2.0f / 3.0f, 2.0f};
  return (float)exponent * 0.693147180559945309f + s * polynomial(s * s, series);
}

// The standard normal quantile of a word.
__device__ __forceinline__ double normal(u32 word) {
  float tail = ((float)(int)(word & 0x7fffffffu) + 0.5f) * (1.0f / 4294967296.0f);
  float w = -logarithm(4.0f * tail * (1.0f - tail)), factor;
  if (w < 5.0f) {
    const float centre[] = {2.8102264e-8f, 3.4327394e-7f, -3.5233877e-6f, -4.3915065e-6f, 2.1858087e-4f,
                            -1.253725e-3f, -4.1776816e-3f, 0.24664073f, 1.5014094f};
    factor = polynomial(w - 2.5f, centre);
  } else {
    const float far[] = {-2.0021426e-4f, 1.0095056e-4f, 1.3493432e-3f, -3.6734284e-3f, 5.7395077e-3f,
                         -7.6224613e-3f, 9.4388705e-3f, 1.001674f, 2.8329768f};
    factor = polynomial(sqrtf(w) - 3.0f, far);
  }
  float size = 1.41421356237309505f * (1.0f - 2.0f * tail) * factor;
  return (double)(word >> 31 ? -size : size);
}

// e^x for -10 <= x <= 0: the series of e^(x/16), squared four times.
__device__ __forceinline__ double exponential(double x) {
  constexpr double F2 = 1.0 / 2, F3 = F2 / 3, F4 = F3 / 4, F5 = F4 / 5, F6 = F5 / 6, F7 = F6 / 7, F8 = F7 / 8, F9 = F8 / 9,
                   F10 = F9 / 10, F11 = F10 / 11, F12 = F11 / 12, F13 = F12 / 13;
  const double inverse_factorials[] = {F13, F12, F11, F10, F9, F8, F7, F6, F5, F4, F3, F2, 1.0, 1.0};
  double series = polynomial(x / 16.0, inverse_factorials), fourth = series * series * (series * series);
  return fourth * fourth * (fourth * fourth);
}

// The Poisson number of a mean, as the quantile of a word.
__device__ __forceinline__ double poisson(u32 word, double mean) {
  if (mean >= 10.0) {
    double z = normal(word), z2 = z * z, root = sqrt(mean), inverse = 1.0 / root;
    double quantile = mean + root * z + (2.0 + z2) * (1.0 / 6.0) - (z + z2 * z * 0.5) * (inverse * (1.0 / 36.0)) +
                      (-8.0 / 405.0 + 7.0 / 810.0 * z2 + z2 * z2 * (1.0 / 270.0)) * (inverse * inverse);
    quantile = floor(quantile);
    return quantile > 0.0 ? quantile : 0.0;
  }
  double uniform = ((double)(int)(word ^ 0x80000000u) + 2147483648.5) * (1.0 / 4294967296.0);
  double term = exponential(-mean), sum = term;
  int count = 0;
  while (uniform > sum && count < 48) {
    count++;
    term *= mean * (1.0 / (double)count);
    sum += term;
  }
  return (double)count;
}

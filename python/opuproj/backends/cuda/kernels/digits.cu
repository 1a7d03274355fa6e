// The sum over digits that a camera sees one after the other, by the operations of the CPU: each is rounded to the precision of the
// results. The CPU multiplies complex numbers by base + 0i and scale + 0i, which decides the signs of zeros.
#include <table.cuh>

// out = base * out + one, or one for the first digit, which is the highest. With `scales`, the results of each vector are then
// multiplied by its scale, in float64. There are `width` numbers a vector, each of two parts if COMPLEX; `one` has no gaps.
template <bool COMPLEX, class R>
__device__ __forceinline__ void add_digit(
    R* __restrict__ out, i64 stride, i64 width, int vectors, const R* __restrict__ one, int first, int base,
    const double* __restrict__ scales) {
  R unit = (R)base, zero = (R)0;
  for (Places at(vectors, width); at.inside(); at.advance()) {
    i64 v = at.row, place = v * width + at.column;
    if (COMPLEX) {
      R *p = out + v * stride + 2 * at.column, re = one[2 * place], im = one[2 * place + 1];
      if (!first) {
        R a = p[0], b = p[1];
        re = (a * unit - b * zero) + re;
        im = (a * zero + b * unit) + im;
      }
      if (scales) {
        double a = re, b = im, scale = scales[v];
        re = (R)(a * scale - b * 0.0);
        im = (R)(a * 0.0 + b * scale);
      }
      p[0] = re;
      p[1] = im;
    } else {
      R *p = out + v * stride + at.column, value = one[place];
      if (!first) value = *p * unit + value;
      if (scales) value = (R)((double)value * scales[v]);
      *p = value;
    }
  }
}
#define ADD_DIGIT(COMPLEX, R)                                                                              \
  (R * out, i64 stride, i64 width, int vectors, const R* one, int first, int base, const double* scales) { \
    add_digit<COMPLEX>(out, stride, width, vectors, one, first, base, scales);                             \
  }
extern "C" __global__ void __launch_bounds__(256) add_digit_float32 ADD_DIGIT(false, float)
extern "C" __global__ void __launch_bounds__(256) add_digit_float64 ADD_DIGIT(false, double)
extern "C" __global__ void __launch_bounds__(256) add_digit_complex64 ADD_DIGIT(true, float)
extern "C" __global__ void __launch_bounds__(256) add_digit_complex128 ADD_DIGIT(true, double)

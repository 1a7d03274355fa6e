// From exact integer fields to results, by the formulas of the scalar definition (definition/readout.rs of the Rust core), in
// float64, rounded once.
#include <numbers.cuh>
#include <table.cuh>

// high * 2^32 + low as float64, rounded once, to even at ties.
__device__ __forceinline__ double rounded(i64 high, u64 low) {
  high += (i64)(low >> 32);
  low &= 0xffffffffull;
  if (high >= -(1ll << 31) && high < 1ll << 31) return (double)(high * (1ll << 32) + (i64)low);
  bool negative = high < 0;
  if (negative) {
    high = -high - (low != 0);
    low = -low & 0xffffffffull;
  }
  int shift = 0;  // leave 63 bits, the lowest of which says whether a lower bit was set
  while (high >> shift >> 31) shift++;
  u64 kept = (u64)high << (32 - shift) | low >> shift | ((low & ((1ull << shift) - 1)) != 0);
  double value = (double)(i64)kept * (double)(1ull << shift);
  return negative ? -value : value;
}

// The weighted sum of the parts of a vector at one component, as float64. Weights are below 2^24, and fields below 2^62.
template <class F>
__device__ __forceinline__ double total(const F* fields, i64 ld, int parts, i64 w0, i64 w1, i64 w2, i64 w3) {
  if (parts == 1) return (double)fields[0];
  i64 high = 0;
  u64 low = 0;
  for (int part = 0; part < parts; part++) {
    i64 field = fields[part * ld], weight = part == 0 ? w0 : part == 1 ? w1 : part == 2 ? w2 : w3;
    high += weight * (field >> 32);
    low += weight * (field & 0xffffffffll);
  }
  return rounded(high, low);
}

// The field (re, im) turned by the phase of the anchor's field, times scale / sqrt(2048).
__device__ __forceinline__ double turned(double re, double im, double r_re, double r_im, double scale) {
  if (r_re == 0 && r_im == 0) r_re = 1;
  double linear_scale = 1.0 / (32.0 * sqrt(r_re * r_re + r_im * r_im));
  return (re * r_re + im * r_im) * (linear_scale * scale) + 0.0;
}

enum Mode { SCALED, INTENSITY, LINEAR };

// Results of `vectors` inputs, `width` numbers each: out[v * stride + i]. Part p of input v is row v * parts + p of the fields, whose
// component 0 is number `first` of the row. SCALED gives each component times factor, INTENSITY and LINEAR one number for each
// two components. `anchor` is the anchor's field. Inputs with bad_rows set give NaN.
template <int MODE, class F, class R>
__device__ __forceinline__ void read(
    R* __restrict__ out, i64 stride, i64 width, int vectors, const F* __restrict__ fields, i64 ld, int first, int parts, i64 w0, i64 w1,
    i64 w2, i64 w3, const double* __restrict__ scales, double factor, const int* __restrict__ anchor, const u8* __restrict__ bad_rows) {
  for (Places at(vectors, width); at.inside(); at.advance()) {
    i64 v = at.row, i = at.column;
    const F* row = fields + v * parts * ld + first;
    double scale = scales ? scales[v] : 1.0, result;
    if (MODE == SCALED) {
      result = total(row + i, ld, parts, w0, w1, w2, w3) * (scale * factor);
    } else {
      double re = total(row + 2 * i, ld, parts, w0, w1, w2, w3), im = total(row + 2 * i + 1, ld, parts, w0, w1, w2, w3);
      if (MODE == INTENSITY) {
        re = re * scale;
        im = im * scale;
        result = (re * re + im * im) * (1.0 / 2048.0);
      } else {
        result = turned(re, im, anchor[first + 2 * i], anchor[first + 2 * i + 1], scale);
      }
    }
    if (bad_rows && bad_rows[v]) result = not_a_number();
    out[v * stride + i] = (R)result;
  }
}
#define READ(MODE, F, R)                                                                                                    \
  (R * out, i64 stride, i64 width, int vectors, const F* fields, i64 ld, int first, int parts, i64 w0, i64 w1, i64 w2,      \
   i64 w3, const double* scales, double factor, const int* anchor, const u8* bad_rows) {                                    \
    read<MODE>(out, stride, width, vectors, fields, ld, first, parts, w0, w1, w2, w3, scales, factor, anchor, bad_rows);    \
  }
extern "C" __global__ void __launch_bounds__(256) scaled_int32_float32 READ(SCALED, int, float)
extern "C" __global__ void __launch_bounds__(256) scaled_int32_float64 READ(SCALED, int, double)
extern "C" __global__ void __launch_bounds__(256) scaled_int64_float32 READ(SCALED, i64, float)
extern "C" __global__ void __launch_bounds__(256) scaled_int64_float64 READ(SCALED, i64, double)
extern "C" __global__ void __launch_bounds__(256) intensity_int32_float32 READ(INTENSITY, int, float)
extern "C" __global__ void __launch_bounds__(256) intensity_int32_float64 READ(INTENSITY, int, double)
extern "C" __global__ void __launch_bounds__(256) intensity_int64_float32 READ(INTENSITY, i64, float)
extern "C" __global__ void __launch_bounds__(256) intensity_int64_float64 READ(INTENSITY, i64, double)
extern "C" __global__ void __launch_bounds__(256) linear_int32_float32 READ(LINEAR, int, float)
extern "C" __global__ void __launch_bounds__(256) linear_int32_float64 READ(LINEAR, int, double)
extern "C" __global__ void __launch_bounds__(256) linear_int64_float32 READ(LINEAR, i64, float)
extern "C" __global__ void __launch_bounds__(256) linear_int64_float64 READ(LINEAR, i64, double)

enum Activation { NONE, TANH, SIGMOID, RELU };

// The derivative of an activation function where its value is y.
template <class S> __device__ __forceinline__ S slope(int activation, S y) {
  return activation == TANH ? 1 - y * y : activation == SIGMOID ? y * (1 - y) : S(y > 0);
}

// Real results of ternary vectors for `layers` layers of `width` outputs each: rounded to S, times the vector's factor, times the
// slope at the layer's output, rounded to R. That of layer l, vector v and output i is out[l * layer_stride + v * stride + i], and
// the layer's output is at the same place of `outputs`. `first` and `anchor` are as above, and so is `factor`, which SCALED uses.
template <int MODE, class S, class R>
__device__ __forceinline__ void feedback(
    R* __restrict__ out, i64 layer_stride, i64 stride, i64 width, int vectors, int layers, const int* __restrict__ fields, i64 ld,
    i64 first, double factor, const int* __restrict__ anchor, const u8* __restrict__ bad_rows, const S* __restrict__ factors,
    int activation, const R* __restrict__ outputs) {
  for (i64 row = blockIdx.x; row < (i64)layers * vectors; row += gridDim.x) {  // a row for each block: one division a row
    i64 layer = row / vectors, v = row % vectors, begin = first + layer * width * (MODE == LINEAR ? 2 : 1);
    i64 place = layer * layer_stride + v * stride;
    const int *here = fields + v * ld + begin, *r = anchor + begin;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) {
      double result;
      if (MODE == SCALED) result = (double)here[i] * factor;
      else result = turned(here[2 * i], here[2 * i + 1], r[2 * i], r[2 * i + 1], 1.0);
      S scaled = bad_rows[v] ? (S)not_a_number() : (S)result * factors[v];
      if (activation != NONE) scaled = scaled * slope(activation, (S)wide(outputs[place + i]));
      out[place + i] = narrow<R>(scaled);
    }
  }
}
#define FEEDBACK(MODE, S, R)                                                                                                \
  (R * out, i64 layer_stride, i64 stride, i64 width, int vectors, int layers, const int* fields, i64 ld, i64 first,         \
   double factor, const int* anchor, const u8* bad_rows, const S* factors, int activation, const R* outputs) {              \
    feedback<MODE, S, R>(out, layer_stride, stride, width, vectors, layers, fields, ld, first, factor, anchor, bad_rows,    \
                         factors, activation, outputs);                                                                     \
  }
extern "C" __global__ void __launch_bounds__(256) scaled_feedback_bfloat16 FEEDBACK(SCALED, float, bfloat_bits)
extern "C" __global__ void __launch_bounds__(256) scaled_feedback_float32 FEEDBACK(SCALED, float, float)
extern "C" __global__ void __launch_bounds__(256) scaled_feedback_float64 FEEDBACK(SCALED, double, double)
extern "C" __global__ void __launch_bounds__(256) linear_feedback_bfloat16 FEEDBACK(LINEAR, float, bfloat_bits)
extern "C" __global__ void __launch_bounds__(256) linear_feedback_float32 FEEDBACK(LINEAR, float, float)
extern "C" __global__ void __launch_bounds__(256) linear_feedback_float64 FEEDBACK(LINEAR, double, double)

// phases[2 i], phases[2 i + 1] = r/|r| of the anchor's field at row i, and 1 where it is 0.
extern "C" __global__ void __launch_bounds__(256) phases(double* __restrict__ out, const int* __restrict__ anchor, int first, i64 rows) {
  for (i64 i = blockIdx.x * blockDim.x + threadIdx.x; i < rows; i += (i64)gridDim.x * blockDim.x) {
    double re = anchor[first + 2 * i], im = anchor[first + 2 * i + 1];
    if (re == 0 && im == 0) re = 1;
    double modulus = sqrt(re * re + im * im);
    out[2 * i] = re / modulus;
    out[2 * i + 1] = im / modulus;
  }
}

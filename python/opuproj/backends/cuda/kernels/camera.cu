// What a camera reads, and what is recovered from its frames: the readings and recoveries of the scalar definition
// (definition/camera.rs and definition/recovery.rs of the Rust core), in float64, rounded once.
#include <noise.cuh>
#include <table.cuh>

// counts[2 r] = the pixels that the positive part of row r lights, counts[2 r + 1] = those of its negative part. A warp takes a
// row.
extern "C" __global__ void __launch_bounds__(256) lit_pixels(
    int* __restrict__ counts, const u32* __restrict__ positive, const u32* __restrict__ negative, int rows, int words) {
  i64 warp = ((i64)blockIdx.x * blockDim.x + threadIdx.x) >> 5, warps = ((i64)gridDim.x * blockDim.x) >> 5;
  int lane = threadIdx.x & 31;
  for (i64 row = warp; row < rows; row += warps) {
    int plus = 0, minus = 0;
    for (int word = lane; word < words; word += 32) {
      plus += __popc(positive[row * words + word]);
      minus += __popc(negative[row * words + word]);
    }
    plus = lanes_total(plus);
    minus = lanes_total(minus);
    if (lane == 0) {
      counts[2 * row] = plus;
      counts[2 * row + 1] = minus;
    }
  }
}

struct Camera {
  double levels, full_scale, photons, read_noise;  // levels: the largest one, or 0 if readings are not quantized
  double of_photon, of_level;                      // 1 / photons, and levels / full_scale
  int frames;
  u64 noise_seed;
  bool limited, shot_noise, noisy;
};

// One frame's reading of a relative intensity, in the camera's own numbers.
__device__ __forceinline__ double frame_of(const Camera& camera, u64 frame, u64 row, double value) {
  if (camera.noisy) {
    Words word = words(camera.noise_seed, frame, row);
    if (camera.shot_noise) value = poisson(word.shot, value * camera.photons) * camera.of_photon;
    if (camera.read_noise > 0.0) value += camera.read_noise * normal(word.read);
  }
  if (camera.limited) {
    value = value > 0.0 ? value : 0.0;
    value = value < camera.full_scale ? value : camera.full_scale;
  }
  return camera.levels > 0.0 ? rint(value * camera.of_level) : value;
}

// The reading of a relative intensity in an exposure: the mean of its frames.
__device__ __forceinline__ double reading(const Camera& camera, u64 exposure, u64 row, double relative) {
  double sum = 0.0;
  for (int k = 0; k < camera.frames; k++) sum += frame_of(camera, exposure * camera.frames + k, row, relative);
  return camera.frames == 1 ? sum : sum / (double)camera.frames;
}

__device__ __forceinline__ double intensity_of(double re, double im) { return (re * re + im * im) * (1.0 / 2048.0); }

template <class R> struct Result {
  static constexpr bool RAW = false;
  static __device__ __forceinline__ R of(double value) { return (R)value; }
  static __device__ __forceinline__ R bad() { return (R)not_a_number(); }
};
template <class R> struct Levels {  // readings are whole numbers
  static constexpr bool RAW = true;
  static __device__ __forceinline__ R of(double value) { return (R)(int)value; }
  static __device__ __forceinline__ R bad() { return 0; }
};
template <> struct Result<u8> : Levels<u8> {};
template <> struct Result<unsigned short> : Levels<unsigned short> {};

enum Mode { INTENSITY, LINEAR, COMPLEX };

// Results of `vectors` inputs at `rows` rows of T, of which `first_row` is the first. Result i of input v is at out[v * stride +
// i]; for COMPLEX, its parts are at 2 i and 2 i + 1. INTENSITY reads field v; LINEAR and COMPLEX read fields 2 v and 2 v + 1, those
// of the positive and the negative part of input v. Component 0 of `first_row` is number `first` of a field and of an anchor's
// field. `exposure` is the intensity that counts as 1. If it is NaN, that is the number of lit pixels of an input's brightest
// frame: the larger of its `counts`, which has one number for each field, plus `anchor_pixels`. `bits` is 0 for readings that are
// not quantized. Integer results are the camera's own numbers. Inputs with bad_rows set give NaN, or 0 as an integer.
template <int MODE, class F, class R>
__device__ __forceinline__ void measure(
    R* __restrict__ out, i64 stride, i64 rows, int vectors, const F* __restrict__ fields, i64 ld, int first,
    const int* __restrict__ anchors, i64 anchor_ld, int n_anchors, int anchor_pixels, const int* __restrict__ counts, int bits,
    double full_scale, double exposure, double photons, double read_noise, int frames, double dark_floor, u64 noise_seed,
    u64 first_vector, u64 first_row, const u8* __restrict__ bad_rows) {
  Camera camera;
  camera.levels = (double)((1u << bits) - 1);
  camera.full_scale = full_scale;
  camera.photons = photons;
  camera.read_noise = read_noise;
  camera.of_photon = 1.0 / photons;
  camera.of_level = camera.levels / full_scale;
  camera.noise_seed = noise_seed;
  camera.shot_noise = photons - photons == 0.0;  // finite
  camera.noisy = camera.shot_noise || read_noise > 0.0;
  camera.limited = full_scale - full_scale == 0.0 || read_noise > 0.0;
  camera.frames = camera.noisy ? frames : 1;  // all frames are the same without noise
  constexpr int HALVES = MODE == INTENSITY ? 1 : 2;
  u64 exposures = MODE == INTENSITY ? 1 : 2 * (1 + (u64)n_anchors);
  double floor_of_one = dark_floor * (double)anchor_pixels, floor_of_all = floor_of_one * (double)n_anchors / 2.0;
  for (Places at(vectors, rows); at.inside(); at.advance()) {
    i64 v = at.row, i = at.column;
    R* result = out + v * stride + (MODE == COMPLEX ? 2 * i : i);
    if (bad_rows && bad_rows[v]) {
      result[0] = Result<R>::bad();
      if (MODE == COMPLEX) result[1] = Result<R>::bad();
      continue;
    }
    double mean = exposure;
    if (exposure != exposure) {
      int lit = counts[HALVES * v];
      if (MODE != INTENSITY) lit = max(lit, counts[2 * v + 1]);
      mean = (double)((i64)lit + anchor_pixels);
    }
    double relative = mean > 0.0 ? 1.0 / mean : 0.0;
    double unit = bits ? mean * full_scale / camera.levels : mean;
    u64 number = (first_vector + v) * exposures, row = first_row + i;
    const F* field = fields + HALVES * v * ld + first + 2 * i;
    if (MODE == INTENSITY) {
      double value = reading(camera, number, row, intensity_of((double)field[0], (double)field[1]) * relative);
      result[0] = Result<R>::of(Result<R>::RAW ? value : value * unit);
    } else {
      double xx = 0.0, xy = 0.0, yy = 0.0, x = 0.0, y = 0.0, linear = 0.0, without[2], with[2];
      const int* anchor = anchors + first + 2 * i;
      for (int k = -1; k < n_anchors; k++) {  // -1: the exposures without an anchor
        double a_re = 0.0, a_im = 0.0;
        if (k >= 0) {
          a_re = (double)anchor[k * anchor_ld];
          a_im = (double)anchor[k * anchor_ld + 1];
        }
#pragma unroll 1
        for (int half = 0; half < 2; half++) {
          double re = (double)field[half * ld] + a_re, im = (double)field[half * ld + 1] + a_im;
          double value = reading(camera, number + 2 * (k + 1) + half, row, intensity_of(re, im) * relative) * unit;
          if (half == 0) with[0] = value;
          else with[1] = value;
        }
        if (k < 0) {
          without[0] = with[0];
          without[1] = with[1];
          continue;
        }
        double product = 0.5 * (with[0] - without[0] - (with[1] - without[1]));
        if (MODE == LINEAR) {
          double power = (a_re * a_re + a_im * a_im) * (1.0 / 2048.0);
          linear = power > 0.0 && power >= floor_of_one ? product * sqrt(2.0 / power) : 0.0;
        } else {
          double re = a_re * sqrt(1.0 / 2048.0), im = a_im * sqrt(1.0 / 2048.0);
          xx += re * re;
          xy += re * im;
          yy += im * im;
          x += product * re;
          y += product * im;
        }
      }
      if (MODE == LINEAR) {
        result[0] = Result<R>::of(linear);
      } else {
        double determinant = xx * yy - xy * xy, half = 0.5 * (xx + yy), square = half * half - determinant;
        double weaker = half - sqrt(square > 0.0 ? square : 0.0);
        double scale = determinant > 0.0 && weaker >= floor_of_all ? 1.0 / determinant : 0.0;
        result[0] = Result<R>::of((yy * x - xy * y) * scale);
        result[1] = Result<R>::of((xx * y - xy * x) * scale);
      }
    }
  }
}
// The kernels of LINEAR and COMPLEX ask for two blocks a multiprocessor, because the compiler spills if it aims at more.
#define MEASURE(MODE, F, R)                                                                                                      \
  (R * out, i64 stride, i64 rows, int vectors, const F* fields, i64 ld, int first, const int* anchors, i64 anchor_ld,            \
   int n_anchors, int anchor_pixels, const int* counts, int bits, double full_scale, double exposure, double photons,            \
   double read_noise, int frames, double dark_floor, u64 noise_seed, u64 first_vector, u64 first_row, const u8* bad_rows) {      \
    measure<MODE>(out, stride, rows, vectors, fields, ld, first, anchors, anchor_ld, n_anchors, anchor_pixels, counts, bits,     \
                  full_scale, exposure, photons, read_noise, frames, dark_floor, noise_seed, first_vector, first_row, bad_rows); \
  }
extern "C" __global__ void __launch_bounds__(256) intensity_int32_float32 MEASURE(INTENSITY, int, float)
extern "C" __global__ void __launch_bounds__(256) intensity_int32_float64 MEASURE(INTENSITY, int, double)
extern "C" __global__ void __launch_bounds__(256) intensity_int32_uint8 MEASURE(INTENSITY, int, u8)
extern "C" __global__ void __launch_bounds__(256) intensity_int32_uint16 MEASURE(INTENSITY, int, unsigned short)
extern "C" __global__ void __launch_bounds__(256) intensity_int64_float32 MEASURE(INTENSITY, i64, float)
extern "C" __global__ void __launch_bounds__(256) intensity_int64_float64 MEASURE(INTENSITY, i64, double)
extern "C" __global__ void __launch_bounds__(256) intensity_int64_uint8 MEASURE(INTENSITY, i64, u8)
extern "C" __global__ void __launch_bounds__(256) intensity_int64_uint16 MEASURE(INTENSITY, i64, unsigned short)
extern "C" __global__ void __launch_bounds__(256, 2) linear_int32_float32 MEASURE(LINEAR, int, float)
extern "C" __global__ void __launch_bounds__(256, 2) linear_int32_float64 MEASURE(LINEAR, int, double)
extern "C" __global__ void __launch_bounds__(256, 2) linear_int64_float32 MEASURE(LINEAR, i64, float)
extern "C" __global__ void __launch_bounds__(256, 2) linear_int64_float64 MEASURE(LINEAR, i64, double)
extern "C" __global__ void __launch_bounds__(256, 2) complex_int32_float32 MEASURE(COMPLEX, int, float)
extern "C" __global__ void __launch_bounds__(256, 2) complex_int32_float64 MEASURE(COMPLEX, int, double)
extern "C" __global__ void __launch_bounds__(256, 2) complex_int64_float32 MEASURE(COMPLEX, i64, float)
extern "C" __global__ void __launch_bounds__(256, 2) complex_int64_float64 MEASURE(COMPLEX, i64, double)

// The structured ensemble: n S x = H D3 H D2 H D1 x for blocks of rows, and its readout. The scalar definition is
// rust/opuproj-core/src/definition/structured.rs. Additions are float32, in the definition's order: a butterfly has no product,
// so nothing can be fused.
//
// A module is compiled for one n, 2 to the power LOG2_N, from 8 to 34. The bits of an element's index are divided into groups,
// from the lowest up: ALONG bits, MIDDLE bits and the rest, ACROSS bits. The stages of a group's bits run within a block of
// threads: 32 numbers a thread, so five stages in registers, and exchanges through shared memory between them. Rounds 1 and 3
// take the groups upwards and round 2 downwards. So a pass over memory joins the last group of a round to the first of the next:
//
//   n up to 2^14   whole
//   up to 2^24     first_pass, second_pass, third_pass, last_pass
//   beyond         first_pass, middle_pass up, second_pass, middle_pass down, third_pass, middle_pass up, last_pass
//
// Diagonals of signs are made once for all vectors, by `signs`. A launch of whole, first_pass or third_pass has blocks of
// ALONG_THREADS threads, one of second_pass or last_pass CROSS_THREADS, and one of middle_pass MIDDLE_THREADS. All of these need
// 132 bytes of shared memory a thread.
#include <transmission.cuh>

#ifndef LOG2_N
#define LOG2_N 20
#endif
#ifndef ALONG
#define ALONG (LOG2_N <= 14 ? LOG2_N : LOG2_N <= 20 ? 10 : LOG2_N <= 24 ? LOG2_N - 10 : LOG2_N <= 30 ? 10 : LOG2_N - 20)
#endif
#ifndef MIDDLE
#define MIDDLE (LOG2_N <= 24 ? 0 : 10)
#endif
constexpr i64 N = 1ll << LOG2_N;
constexpr int ACROSS = LOG2_N - (ALONG) - (MIDDLE);
constexpr bool DIVIDED = ACROSS > 0, HAS_MIDDLE = MIDDLE > 0;

// Numbers of 2^BITS rows and of COLUMNS columns, which a group of threads transforms along the columns. A thread holds 32 rows of
// a column: those that differ in five bits of the row's number, from bit `start` on.
template <int BITS, int COLUMNS> struct Group {
  static_assert(BITS >= 5, "a thread holds 32 rows");
  static constexpr int THREADS = COLUMNS << (BITS - 5), LAST = BITS - 5, STEPS = (BITS + 4) / 5;
  __device__ static constexpr int start(int step) { return 5 * step < LAST ? 5 * step : LAST; }
  float* tile;
  int g, column;  // of this thread: which rows, and which column

  __device__ __forceinline__ explicit Group(u32* shared) {
    tile = (float*)shared + (threadIdx.x / THREADS) * (33 * THREADS);
    g = (threadIdx.x % THREADS) / COLUMNS;
    column = threadIdx.x % COLUMNS;
  }
  // Row number i of a thread is first_row + i << START: a constant from the first one on, for the addresses of loads and stores.
  template <int START> __device__ __forceinline__ int first_row() const {
    return (g & ((1 << START) - 1)) + ((g >> START) << (START + 5));
  }
  // The place of the first row in shared memory, and the distance of row number i from it. A row in 33 is left free, so that the
  // lanes of a warp use different banks.
  template <int START> __device__ __forceinline__ float* place() const {
    int row = first_row<START>();
    return tile + (row + row / 32) * COLUMNS + column;
  }
  template <int START> __device__ __forceinline__ static int distance(int i) {
    return ((i << START) + ((i << START) / 32)) * COLUMNS;
  }
  __device__ __forceinline__ void barrier() const {
    if (THREADS <= 32) warp_barrier();
    else __syncthreads();
  }
  template <int FROM, int TO> __device__ __forceinline__ void exchange(float v[32]) const {
    if constexpr (FROM != TO) {
      float *to = place<FROM>(), *from = place<TO>();
      barrier();
#pragma unroll
      for (int i = 0; i < 32; i++) to[distance<FROM>(i)] = v[i];
      barrier();
#pragma unroll
      for (int i = 0; i < 32; i++) v[i] = from[distance<TO>(i)];
    }
  }
  // The stages of bits FIRST to 4 of a thread's own rows.
  template <bool UP, int FIRST> __device__ __forceinline__ static void stages(float v[32]) {
#pragma unroll
    for (int k = FIRST; k < 5; k++) {
      int stride = UP ? 1 << k : 1 << (4 + FIRST - k);
#pragma unroll
      for (int j = 0; j < 32; j++)
        if (!(j & stride)) {
          float a = v[j], b = v[j | stride];
          v[j] = a + b;
          v[j | stride] = a - b;
        }
    }
  }
  // All stages upwards: from bit 0 on, to bit LAST on.
  template <int STEP = 0> __device__ __forceinline__ void up(float v[32]) const {
    stages<true, 5 * STEP - start(STEP)>(v);
    if constexpr (STEP + 1 < STEPS) {
      exchange<start(STEP), start(STEP + 1)>(v);
      up<STEP + 1>(v);
    }
  }
  // All stages downwards: from bit LAST on, to bit 0 on.
  template <int STEP = STEPS - 1> __device__ __forceinline__ void down(float v[32]) const {
    stages<false, 5 * STEP - start(STEP)>(v);
    if constexpr (STEP > 0) {
      exchange<start(STEP), start(STEP - 1)>(v);
      down<STEP - 1>(v);
    }
  }
};

// Columns that a block of threads transforms across at a time.
__device__ constexpr int columns_for(int bits) { return bits == 10 ? 16 : 256 >> (bits - 5); }
constexpr int CROSS_BITS = DIVIDED ? ACROSS : 5, MIDDLE_BITS = HAS_MIDDLE ? (MIDDLE) : 5;  // valid where there is no such group
constexpr int CROSS_COLUMNS = columns_for(CROSS_BITS), MIDDLE_COLUMNS = columns_for(MIDDLE_BITS);
using Along = Group<ALONG, 1>;
using Cross = Group<CROSS_BITS, CROSS_COLUMNS>;
using Middle = Group<MIDDLE_BITS, MIDDLE_COLUMNS>;
// Blocks may be smaller than ALONG_THREADS, but must be multiples of Along::THREADS and of 32.
constexpr int ALONG_THREADS = Along::THREADS < 256 ? 256 : Along::THREADS;
constexpr int CROSS_THREADS = Cross::THREADS, MIDDLE_THREADS = Middle::THREADS;
constexpr int ROW_STEP = 1 << (LOG2_N - CROSS_BITS);      // elements between two rows that second_pass and last_pass transform
constexpr i64 CROSS_TASKS = DIVIDED ? ROW_STEP / CROSS_COLUMNS : 1;
static_assert(!DIVIDED || (ACROSS >= 5 && ACROSS <= 10 && ROW_STEP >= CROSS_COLUMNS), "columns for a block of threads");
static_assert(!HAS_MIDDLE || (MIDDLE_BITS >= 5 && MIDDLE_BITS <= 10 && 1 << (ALONG) >= MIDDLE_COLUMNS), "columns for a block of threads");

__device__ __forceinline__ float flip(float v, u32 word, int bit) { return word >> bit & 1 ? -v : v; }
__device__ __forceinline__ void flip_all(float out[32], const float v[32], u32 word) {
#pragma unroll
  for (int i = 0; i < 32; i++) out[i] = flip(v[i], word, i);
}

// The signs of diagonals first to first + count - 1, N / 32 words each; a set bit means -1. Word k of a diagonal holds what one
// thread needs: elements 32 k to 32 k + 31, but in the diagonals of round 2, whose numbers are odd, elements k, k + N / 32,
// k + 2 N / 32, ... A warp makes 4096 signs at a time. Shared memory: the tables, and 512 bytes a warp.
extern "C" __global__ void __launch_bounds__(512, 1) signs(u32* __restrict__ out, u64 seed, u64 first, i64 count, u32 stride) {
  KeysOf<1> keys{seed};
  Tables t = fill_tables(shared, keys, stride);
  constexpr int AT_ONCE = N < 4096 ? N : 4096, LANES = AT_ONCE / 128;
  constexpr i64 SLABS = N / AT_ONCE;
  int lane = threadIdx.x & 31;
  u32* words = shared + SHARED_BYTES / 4 + (threadIdx.x >> 5) * 128;
  i64 warps = (i64)(gridDim.x * blockDim.x) >> 5;
  for (i64 task = (blockIdx.x * blockDim.x + threadIdx.x) >> 5; task < count * SLABS; task += warps) {
    u64 diagonal = first + task / SLABS;
    i64 slab = task % SLABS, block = diagonal & 1 ? slab + lane * SLABS : slab * LANES + lane;
    u32 state[4] = {(u32)block, (u32)(block >> 32), (u32)diagonal, (u32)(diagonal >> 32)}, next[4];
#pragma unroll
    for (int j = 0; j < 4; j++) state[j] ^= keys.word(0, j);
#pragma unroll
    for (int round = 1; round <= 6; round++) {
      aes_round(t, keys, round, state, next);
#pragma unroll
      for (int j = 0; j < 4; j++) state[j] = next[j];
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {  // the last round: the second byte of the table is the S-box
      next[j] = keys.word(7, j);
#pragma unroll
      for (int k = 0; k < 4; k++) next[j] ^= byte_of(look(t, 0, byte_of(state[(j + k) & 3], k)), 1) << 8 * k;
    }
    u32* p = out + (task / SLABS) * (N / 32) + slab * (AT_ONCE / 32);
    if (!(diagonal & 1)) {
#pragma unroll
      for (int j = 0; j < 4; j++)
        if (lane < LANES) p[4 * lane + j] = next[j];
      continue;
    }
    warp_barrier();
#pragma unroll
    for (int j = 0; j < 4; j++) words[4 * lane + j] = next[j];
    warp_barrier();
    for (int k = lane; k < AT_ONCE / 32; k += 32) {
      u32 word = 0;
#pragma unroll
      for (int i = 0; i < 32; i++) {
        int element = k + i * (AT_ONCE / 32);
        word |= (words[element >> 5] >> (element & 31) & 1) << i;
      }
      p[k] = word;
    }
  }
}

// The phases of an anchor as float32: out[2 k] and out[2 k + 1] are cosine and sine of row k, from the two parts of its field.
extern "C" __global__ void __launch_bounds__(256) phases(float* __restrict__ out, const int* __restrict__ fields, i64 rows) {
  i64 each = (i64)gridDim.x * blockDim.x;
  for (i64 k = (i64)blockIdx.x * blockDim.x + threadIdx.x; k < rows; k += each) {
    double re = fields[2 * k], im = fields[2 * k + 1];
    if (re == 0 && im == 0) re = 1;
    double modulus = sqrt(re * re + im * im);
    out[2 * k] = (float)(re / modulus);
    out[2 * k + 1] = (float)(im / modulus);
  }
}

// The exponent of the power of two that a vector with this largest magnitude is divided by.
__device__ __forceinline__ int exponent(double largest) {
  if (largest == 0) return 0;
  u64 bits;
  memcpy(&bits, &largest, 8);
  return max(-960, min(1000, (int)(bits >> 52 & 0x7ff) - 1023));
}
__device__ __forceinline__ double power_of_two(int exponent) {
  u64 bits = (u64)(1023 + exponent) << 52;
  double power;
  memcpy(&power, &bits, 8);
  return power;
}

// Vectors: rows of float32 (kind 0) or float64 (kind 1) numbers, ld numbers apart, with the largest magnitude of each row; or bit
// planes (kind 2) of ld words a row. `largest` may be null for planes. Results of a row whose largest magnitude is not finite are NaN.
struct Source {
  const void* x;
  const u32* negative;
  i64 ld, n_inputs;
  const double* largest;
  int kind;
  // The factor of the vector's transforms.
  __device__ __forceinline__ double scale(i64 vector) const {
    if (!largest) return 1.0 / N;
    double magnitude = largest[vector];
    if (!(magnitude - magnitude == 0)) return magnitude - magnitude;  // NaN
    return power_of_two(exponent(magnitude)) / N;
  }
};
#define SOURCE_ARGUMENTS const void *x, const u32 *negative, i64 ld, i64 n_inputs, const double *largest, int kind
#define SOURCE Source{x, negative, ld, n_inputs, largest, kind}

// Writes a thread's numbers, those from bit LAST on, to shared memory.
template <class X> __device__ __forceinline__ void load_numbers(const Along& along, const Source& source, i64 vector, i64 first) {
  i64 begin = first + along.g, left = source.n_inputs - begin;
  const X* p = (const X*)source.x + vector * source.ld + begin;
  double scale = power_of_two(-exponent(source.largest[vector]));
  constexpr float SMALLEST = 1.0f / 1024 / 1024 / 1024 / 1024 / 1024 / 1024 / 1024 / 1024 / 1024 / 1024;  // 2^-100
  float* to = along.place<Along::LAST>();
#pragma unroll
  for (int i = 0; i < 32; i++) {
    float y = (i << Along::LAST) < left ? (float)((double)p[i << Along::LAST] * scale) : 0;
    to[Along::distance<Along::LAST>(i)] = y > -SMALLEST && y < SMALLEST ? 0 : y;
  }
}

// D1 x and the stages of round 1 along a row of 2^ALONG elements that begins with element `first`.
__device__ __forceinline__ void begin(float v[32], const Along& along, const Source& source, i64 vector, i64 first, const u32* __restrict__ d1) {
  i64 word = first / 32 + along.g;
  u32 signs = d1[word];
  if (source.kind == 2) {
    u32 plus = 0, minus = 0;
    if (word < source.ld) {
      plus = ((const u32*)source.x)[vector * source.ld + word];
      minus = source.negative[vector * source.ld + word];
    }
#pragma unroll
    for (int i = 0; i < 32; i++) v[i] = (plus | minus) >> i & 1 ? flip(1, minus ^ signs, i) : 0;
  } else {
    along.barrier();
    if (source.kind == 0) load_numbers<float>(along, source, vector, first);
    else load_numbers<double>(along, source, vector, first);
    along.barrier();
    float* from = along.place<0>();
#pragma unroll
    for (int i = 0; i < 32; i++) v[i] = flip(from[Along::distance<0>(i)], signs, i);
  }
  along.up(v);
}

// Results of a launch's blocks: row k of T, counted from the first block, is result number k; in mode "real", numbers 2 k and
// 2 k + 1. Result number `skip` of each vector becomes the first of `count` results in memory; the others are left out. Vectors
// are ld_out results apart, of which each is two numbers in mode "complex". phases: cosine and sine of each result.
enum Mode { COMPLEX, INTENSITY, LINEAR, REAL };
struct Results {
  void* out;
  i64 ld, skip, count;
  const float* phases;
  int mode, is_double;
};
#define RESULT_ARGUMENTS void *out, i64 ld_out, i64 skip, i64 result_count, const float *anchor_phases, int mode, int is_double
#define RESULTS Results{out, ld_out, skip, result_count, anchor_phases, mode, is_double}

template <int MODE, class T>
__device__ __forceinline__ void read_as(const float re[32], const float im[32], const Results& results, i64 vector, i64 first, double scale) {
  constexpr double FRAC_1_SQRT_2 = 0.70710678118654752440;
  T* out = (T*)results.out + vector * results.ld * (MODE == COMPLEX ? 2 : 1);
#pragma unroll
  for (int i = 0; i < 32; i++) {
    double a = re[i], b = im[i];
    i64 k = (first + i * (N / 32)) * (MODE == REAL ? 2 : 1) - results.skip;
    bool asked = (u64)k < (u64)results.count;
    // Adding 0 turns -0 into 0.
    if (MODE == COMPLEX && asked) {
      out[2 * k] = (T)(a * scale * FRAC_1_SQRT_2 + 0.0);
      out[2 * k + 1] = (T)(b * scale * FRAC_1_SQRT_2 + 0.0);
    }
    if (MODE == INTENSITY && asked) out[k] = (T)((a * a + b * b) * scale * (0.5 * scale));
    if (MODE == LINEAR && asked) {
      double cosine = results.phases[2 * k], sine = results.phases[2 * k + 1];
      out[k] = (T)(a * scale * cosine + b * scale * sine + 0.0);
    }
    if (MODE == REAL) {
      if (asked) out[k] = (T)(a * scale + 0.0);
      if ((u64)(k + 1) < (u64)results.count) out[k + 1] = (T)(b * scale + 0.0);
    }
  }
}
template <class T>
__device__ __forceinline__ void read_in(const float re[32], const float im[32], const Results& results, i64 vector, i64 first, double scale) {
  if (results.mode == COMPLEX) read_as<COMPLEX, T>(re, im, results, vector, first, scale);
  else if (results.mode == INTENSITY) read_as<INTENSITY, T>(re, im, results, vector, first, scale);
  else if (results.mode == LINEAR) read_as<LINEAR, T>(re, im, results, vector, first, scale);
  else read_as<REAL, T>(re, im, results, vector, first, scale);
}
// Reads rows first, first + N / 32, first + 2 N / 32, ...
__device__ __forceinline__ void read(const float re[32], const float im[32], const Results& results, i64 vector, i64 first, double scale) {
  if (results.is_double) read_in<double>(re, im, results, vector, first, scale);
  else read_in<float>(re, im, results, vector, first, scale);
}

// Rounds 2 and 3 of a part, from the end of round 1. d: diagonals D2 and D3 of the part.
__device__ __forceinline__ void later_rounds(float out[32], const float v[32], const Along& along, const u32* __restrict__ d) {
  flip_all(out, v, d[0]);
  along.down(out);
  flip_all(out, out, d[N / 32]);
  along.up(out);
}

// In all passes, d1 is diagonal D1, and d the diagonals D2 and D3 of the real part of the launch's first block, then those of the
// imaginary part, then those of the next block.

// All rounds of vectors that fit shared memory. A group of 2^(ALONG - 5) threads takes a vector and `chunk` blocks at a time.
extern "C" __global__ void __launch_bounds__(ALONG_THREADS, 512 / ALONG_THREADS) whole(
    RESULT_ARGUMENTS, SOURCE_ARGUMENTS, const u32* __restrict__ d1, const u32* __restrict__ d, int vectors, int blocks, int chunk) {
  if constexpr (!DIVIDED) {
    Along along(shared);
    Source source = SOURCE;
    Results results = RESULTS;
    int groups = blockDim.x / Along::THREADS, chunks = (blocks + chunk - 1) / chunk;
    i64 tasks = (i64)vectors * chunks;
    // All threads of a block take the same number of turns, for the barriers. A group without a task writes no results.
    for (i64 turn = (i64)blockIdx.x * groups; turn < tasks; turn += (i64)gridDim.x * groups) {
      i64 task = turn + threadIdx.x / Along::THREADS;
      int vector = (int)(min(task, tasks - 1) / chunks), block = task < tasks ? (int)(task % chunks) * chunk : blocks;
      float first[32], re[32], im[32];
      begin(first, along, source, vector, 0, d1);
#pragma unroll 1
      for (int k = 0; k < chunk; k++, block++) {
        const u32* diagonals = d + (i64)min(block, blocks - 1) * (4 * (N / 32)) + along.g;
        later_rounds(re, first, along, diagonals);
        later_rounds(im, first, along, diagonals + 2 * (N / 32));
        if (block < blocks) read(re, im, results, vector, block * N + along.g, source.scale(vector));
      }
    }
  }
}

// Round 1 along rows. out: [vectors][N].
extern "C" __global__ void __launch_bounds__(ALONG_THREADS) first_pass(
    float* __restrict__ out, SOURCE_ARGUMENTS, const u32* __restrict__ d1, i64 vectors) {
  if constexpr (DIVIDED) {
    Along along(shared);
    Source source = SOURCE;
    i64 groups = blockDim.x / Along::THREADS, rows = vectors << (LOG2_N - (ALONG));
    for (i64 r = blockIdx.x * groups + threadIdx.x / Along::THREADS; r < rows; r += gridDim.x * groups) {
      i64 first = (r << (ALONG)) % N;
      float v[32];
      begin(v, along, source, r >> (LOG2_N - (ALONG)), first, d1);
      float* p = out + (r << (ALONG)) + along.g;
#pragma unroll
      for (int i = 0; i < 32; i++) p[i << Along::LAST] = v[i];
    }
  }
}

// The middle bits of a round, in place, for `count` transforms of N numbers.
extern "C" __global__ void __launch_bounds__(MIDDLE_THREADS) middle_pass(float* __restrict__ data, i64 count, int is_up) {
  if constexpr (HAS_MIDDLE) {
    Middle middle(shared);
    constexpr int TILES = (1 << (ALONG)) / MIDDLE_COLUMNS;
    i64 tasks = (count << ACROSS) * TILES;
    for (i64 task = blockIdx.x; task < tasks; task += gridDim.x) {
      float* tile = data + (task / TILES << ((ALONG) + MIDDLE_BITS)) + task % TILES * MIDDLE_COLUMNS + middle.column;
      float *low = tile + ((i64)middle.g << ((ALONG) + 5)), *high = tile + ((i64)middle.g << (ALONG)), v[32];
      if (is_up) {
#pragma unroll
        for (int i = 0; i < 32; i++) v[i] = low[(i64)i << (ALONG)];
        middle.up(v);
#pragma unroll
        for (int i = 0; i < 32; i++) high[(i64)i << (Middle::LAST + (ALONG))] = v[i];
      } else {
#pragma unroll
        for (int i = 0; i < 32; i++) v[i] = high[(i64)i << (Middle::LAST + (ALONG))];
        middle.down(v);
#pragma unroll
        for (int i = 0; i < 32; i++) low[(i64)i << (ALONG)] = v[i];
      }
    }
  }
}

// The upper bits of round 1, then for each part D2 and the upper bits of round 2. in: [vectors][N]; out: [vectors][parts][N].
extern "C" __global__ void __launch_bounds__(CROSS_THREADS) second_pass(
    float* __restrict__ out, const float* __restrict__ in, const u32* __restrict__ d, i64 vectors, i64 parts) {
  if constexpr (DIVIDED) {
    Cross cross(shared);
    for (i64 task = blockIdx.x; task < vectors * CROSS_TASKS; task += gridDim.x) {
      i64 vector = task / CROSS_TASKS;
      int column = (int)(task % CROSS_TASKS) * CROSS_COLUMNS + cross.column;
      i64 low = (i64)cross.g * 32 * ROW_STEP + column, high = (i64)cross.g * ROW_STEP + column;  // the first elements of a thread
      const float* p = in + vector * N + low;
      float first[32], v[32];
#pragma unroll
      for (int i = 0; i < 32; i++) first[i] = p[(i64)i * ROW_STEP];
      cross.up(first);
      for (i64 part = 0; part < parts; part++) {
        flip_all(v, first, d[2 * part * (N / 32) + high]);
        cross.down(v);
        float* q = out + (vector * parts + part) * N + low;
#pragma unroll
        for (int i = 0; i < 32; i++) q[(i64)i * ROW_STEP] = v[i];
      }
    }
  }
}

// Round 2 along rows, D3 and round 3 along rows, in place. data: [vectors][parts][N].
extern "C" __global__ void __launch_bounds__(ALONG_THREADS) third_pass(
    float* __restrict__ data, const u32* __restrict__ d, i64 vectors, i64 parts) {
  if constexpr (DIVIDED) {
    Along along(shared);
    i64 groups = blockDim.x / Along::THREADS, rows = vectors * parts << (LOG2_N - (ALONG));
    for (i64 r = blockIdx.x * groups + threadIdx.x / Along::THREADS; r < rows; r += gridDim.x * groups) {
      i64 part = (r >> (LOG2_N - (ALONG))) % parts;
      u32 word = d[(2 * part + 1) * (N / 32) + (r << (ALONG)) % N / 32 + along.g];
      float *p = data + (r << (ALONG)) + along.g, v[32];
#pragma unroll
      for (int i = 0; i < 32; i++) v[i] = p[i << Along::LAST];
      along.down(v);
      flip_all(v, v, word);
      along.up(v);
#pragma unroll
      for (int i = 0; i < 32; i++) p[i << Along::LAST] = v[i];
    }
  }
}

// The upper bits of round 3, and the readout. in: [vectors][blocks][2][N].
extern "C" __global__ void __launch_bounds__(CROSS_THREADS) last_pass(
    RESULT_ARGUMENTS, const float* __restrict__ in, const double* __restrict__ largest, i64 vectors, i64 blocks) {
  if constexpr (DIVIDED) {
    Cross cross(shared);
    Source source{nullptr, nullptr, 0, 0, largest, 0};
    Results results = RESULTS;
    for (i64 task = blockIdx.x; task < vectors * blocks * CROSS_TASKS; task += gridDim.x) {
      i64 which = task / CROSS_TASKS, vector = which / blocks, block = which % blocks;
      int column = (int)(task % CROSS_TASKS) * CROSS_COLUMNS + cross.column;
      i64 low = (i64)cross.g * 32 * ROW_STEP + column, high = (i64)cross.g * ROW_STEP + column;  // the first elements of a thread
      const float* p = in + 2 * which * N + low;
      float re[32], im[32];
#pragma unroll
      for (int i = 0; i < 32; i++) re[i] = p[(i64)i * ROW_STEP];
#pragma unroll
      for (int i = 0; i < 32; i++) im[i] = p[N + (i64)i * ROW_STEP];
      cross.up(re);
      cross.up(im);
      read(re, im, results, vector, block * N + high, source.scale(vector));
    }
  }
}

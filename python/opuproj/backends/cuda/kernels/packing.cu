// Numbers into the forms that are multiplied: ternary ones into bit planes, real ones into fused digits.
#include <numbers.cuh>

// Bit planes of rows of -1, 0 and 1, which begin `stride` numbers apart. counts[row] grows by the row's nonzeros, and `used` gets a
// bit for each column that a row uses. Other values set bad_rows[row] and lower *bad to the place row * n + column. A warp takes a
// word of 32 columns.
template <class T>
__device__ __forceinline__ void pack(
    u32* __restrict__ positive, u32* __restrict__ negative, int* __restrict__ counts, u32* __restrict__ used, u64* bad,
    u8* __restrict__ bad_rows, const T* __restrict__ x, i64 stride, int rows, int n, int words) {
  int lane = threadIdx.x & 31;
  i64 warp = (i64)(blockIdx.x * blockDim.x + threadIdx.x) >> 5, warps = (gridDim.x * blockDim.x) >> 5;
  for (i64 task = warp; task < (i64)rows * words; task += warps) {
    int row = (int)(task / words), word = (int)(task % words), column = word * 32 + lane;
    Ternary value = column < n ? ternary(x[row * stride + column]) : ZERO;
    if (value == OTHER) {
      atomicMin(bad, (u64)row * n + column);
      bad_rows[row] = 1;
    }
    u32 plus = ballot(value == PLUS), minus = ballot(value == MINUS);
    if (lane == 0) {
      positive[task] = plus;
      negative[task] = minus;
      if (plus | minus) {
        atomicAdd(counts + row, __popc(plus | minus));
        atomicOr(used + word, plus | minus);
      }
    }
  }
}
#define PACK(T)                                                                                                       \
  (u32 * positive, u32 * negative, int* counts, u32* used, u64* bad, u8* bad_rows, const T* x, i64 stride, int rows, int n, \
   int words) {                                                                                                             \
    pack(positive, negative, counts, used, bad, bad_rows, x, stride, rows, n, words);                                       \
  }
extern "C" __global__ void __launch_bounds__(256) pack_bool PACK(u8)
extern "C" __global__ void __launch_bounds__(256) pack_uint8 PACK(u8)
extern "C" __global__ void __launch_bounds__(256) pack_int8 PACK(i8)
extern "C" __global__ void __launch_bounds__(256) pack_uint16 PACK(unsigned short)
extern "C" __global__ void __launch_bounds__(256) pack_int16 PACK(short)
extern "C" __global__ void __launch_bounds__(256) pack_uint32 PACK(u32)
extern "C" __global__ void __launch_bounds__(256) pack_int32 PACK(int)
extern "C" __global__ void __launch_bounds__(256) pack_uint64 PACK(u64)
extern "C" __global__ void __launch_bounds__(256) pack_int64 PACK(i64)
extern "C" __global__ void __launch_bounds__(256) pack_float16 PACK(half_bits)
extern "C" __global__ void __launch_bounds__(256) pack_bfloat16 PACK(bfloat_bits)
extern "C" __global__ void __launch_bounds__(256) pack_float32 PACK(float)
extern "C" __global__ void __launch_bounds__(256) pack_float64 PACK(double)

// The columns in use, in order, and their number. One block of 1024 threads.
extern "C" __global__ void __launch_bounds__(1024) compact(
    const u32* __restrict__ used, int words, u32* __restrict__ columns, int* __restrict__ count) {
  int each = (words + blockDim.x - 1) / blockDim.x, begin = threadIdx.x * each, end = min(words, begin + each), sum = 0;
  for (int w = begin; w < end; w++) sum += __popc(used[w]);
  int before = lanes_before(sum), total = lanes_total(sum), warps = blockDim.x >> 5;
  if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = (u32)total;
  __syncthreads();
  for (int w = 0; w < (int)(threadIdx.x >> 5); w++) before += (int)shared[w];
  if (threadIdx.x == 0) {
    int all = 0;
    for (int w = 0; w < warps; w++) all += (int)shared[w];
    *count = all;
  }
  for (int w = begin; w < end; w++)
    for (u32 bits = used[w]; bits; bits &= bits - 1) columns[before++] = (u32)w * 32 + __ffs(bits) - 1;
}

// out[v * width + k] = the element of vector v at column number start + k, and 0 from number *count on (n without a count). Columns
// are those of a list, or all. If split, vectors 2 r and 2 r + 1 are the planes of row r. A thread makes four numbers.
extern "C" __global__ void __launch_bounds__(256) expand(
    i8* __restrict__ out, i64 width, const u32* __restrict__ positive, const u32* __restrict__ negative, int words, int vectors,
    int split, const u32* __restrict__ columns, int start, const int* __restrict__ count, int n, const int* path, int mine) {
  if (path && *path != mine) return;
  int end = count ? min(n, *count) : n;
  i64 fours = width / 4;
  for (i64 task = blockIdx.x * blockDim.x + threadIdx.x; task < vectors * fours; task += gridDim.x * blockDim.x) {
    int vector = (int)(task / fours), k = (int)(task % fours) * 4;
    i64 row = (i64)(split ? vector >> 1 : vector) * words;
    u32 four = 0;
    for (int i = 0; i < 4; i++) {
      int number = start + k + i;
      if (number >= end) break;
      u32 column = columns ? columns[number] : (u32)number;
      u32 plus = positive[row + (column >> 5)] >> (column & 31) & 1, minus = negative[row + (column >> 5)] >> (column & 31) & 1;
      u32 byte = split ? (vector & 1 ? minus : plus) : plus | minus * 255;
      four |= byte << 8 * i;
    }
    *(u32*)(out + vector * width + k) = four;
  }
}

// The bits of the largest magnitude of each row, which begin as 0. NaN and infinities set bad_rows[row] and lower *bad. A warp takes
// 2048 columns.
template <class T>
__device__ __forceinline__ void largest(
    u64* __restrict__ found, u64* bad, u8* __restrict__ bad_rows, const T* __restrict__ x, i64 stride, int rows, int n) {
  int lane = threadIdx.x & 31, parts = (n + 2047) / 2048;
  i64 warp = (i64)(blockIdx.x * blockDim.x + threadIdx.x) >> 5, warps = (gridDim.x * blockDim.x) >> 5;
  for (i64 task = warp; task < (i64)rows * parts; task += warps) {
    int row = (int)(task / parts), begin = (int)(task % parts) * 2048, end = min(n, begin + 2048);
    double most = 0;
    for (int k = begin + lane; k < end; k += 32) {
      double value = wide(x[row * stride + k]);
      if (!is_finite(value)) {
        atomicMin(bad, (u64)row * n + k);
        bad_rows[row] = 1;
      } else {
        value = value < 0 ? -value : value;
        most = value > most ? value : most;
      }
    }
    if (most > 0) atomicMax(found + row, *(u64*)&most);
  }
}

// Each number as an integer of some digits (Encoded in the Rust core), as one int8 number for each 5 digits of base 3, or each 7 of
// base 2, the lowest first: parts[(row * n_parts + part) * ld + column], zeros beyond n. scales[row] times the integers is x.
template <class T>
__device__ __forceinline__ void encode(
    i8* __restrict__ parts, i64 ld, int n_parts, double* __restrict__ scales, const u64* __restrict__ found, const T* __restrict__ x,
    i64 stride, int rows, int n, int base, double top) {
  for (i64 task = blockIdx.x * blockDim.x + threadIdx.x; task < rows * ld; task += gridDim.x * blockDim.x) {
    int row = (int)(task / ld), column = (int)(task % ld);
    double most = *(const double*)(found + row), scale = most / top;
    if (!is_finite(scale * top)) {  // the next smaller number
      u64 bits = *(u64*)&scale - 1;
      scale = *(double*)&bits;
    }
    if (column == 0) scales[row] = scale;
    // Tiny numbers are enlarged first, because their inverse overflows.
    double large = 2037035976334486086268445688409378161051468393665936250636140449354381299763336706183397376.0;  // 2^300
    double enlarged = most < 1e-250 ? large : 1.0, factor = most > 0 ? top / (most * enlarged) : 0.0;
    double value = column < n ? wide(x[row * stride + column]) : 0.0;
    value = is_finite(value) ? rint(value * enlarged * factor) : 0.0;
    int m = (int)(value > top ? top : value < -top ? -top : value);
    for (int part = 0; part < n_parts; part++) {
      int low;
      if (base == 3) {  // the remainder nearest to 0
        low = m % 243;
        low = low > 121 ? low - 243 : low < -121 ? low + 243 : low;
        m = (m - low) / 243;
      } else {
        low = m % 128;
        m /= 128;
      }
      parts[((i64)row * n_parts + part) * ld + column] = (i8)low;
    }
  }
}
#define LARGEST(T)                                                                                                          \
  (u64 * found, u64 * bad, u8 * bad_rows, const T* x, i64 stride, int rows, int n) {                                        \
    largest(found, bad, bad_rows, x, stride, rows, n);                                                                      \
  }
#define ENCODE(T)                                                                                                           \
  (i8 * parts, i64 ld, int n_parts, double* scales, const u64* found, const T* x, i64 stride, int rows, int n, int base,    \
   double top) {                                                                                                            \
    encode(parts, ld, n_parts, scales, found, x, stride, rows, n, base, top);                                               \
  }
extern "C" __global__ void __launch_bounds__(256) largest_float16 LARGEST(half_bits)
extern "C" __global__ void __launch_bounds__(256) largest_bfloat16 LARGEST(bfloat_bits)
extern "C" __global__ void __launch_bounds__(256) largest_float32 LARGEST(float)
extern "C" __global__ void __launch_bounds__(256) largest_float64 LARGEST(double)
extern "C" __global__ void __launch_bounds__(256) encode_float16 ENCODE(half_bits)
extern "C" __global__ void __launch_bounds__(256) encode_bfloat16 ENCODE(bfloat_bits)
extern "C" __global__ void __launch_bounds__(256) encode_float32 ENCODE(float)
extern "C" __global__ void __launch_bounds__(256) encode_float64 ENCODE(double)

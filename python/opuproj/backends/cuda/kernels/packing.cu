// Numbers into the forms that are multiplied: ternary ones into bit planes, real ones into fused digits.
#include <numbers.cuh>

// Eight bits, each in the lowest bit of four.
__device__ __forceinline__ u32 spread(u32 bits) {
  bits = (bits | bits << 12) & 0x000f000f;
  bits = (bits | bits << 6) & 0x03030303;
  return (bits | bits << 3) & 0x11111111;
}

// Bit planes of rows of numbers that begin `stride` numbers apart; code(row) turns a number of that row into its ternary value.
// counts[row] grows by the row's nonzeros, and `used` gets a bit for each column that a row uses; each may be null. Other values
// set bad_rows[row] and raise *bad, which begins as 0, to the complement of the place row * n + column: the lowest place stays. A
// warp takes 128 columns of a row.
template <class T, class Code>
__device__ __forceinline__ void planes(
    u32* __restrict__ positive, u32* __restrict__ negative, int* __restrict__ counts, u32* used, u64* bad,
    u8* __restrict__ bad_rows, const T* __restrict__ x, i64 stride, int rows, int n, int words, Code code) {
  int lane = threadIdx.x & 31, pieces = max(1, (n + 127) / 128);
  int warp = (blockIdx.x * blockDim.x + threadIdx.x) >> 5, warps = (gridDim.x * blockDim.x) >> 5;
  int row = warp / pieces, piece = warp % pieces, next_rows = warps / pieces, next_pieces = warps % pieces;
  while (row < rows) {
    int begin = piece * 128, word = begin / 32 + lane;
    const T* numbers = x + row * stride + begin;
    auto code_of = code(row);
    // A lane takes either four neighbours, loaded together, or every 32nd number.
    bool neighbours = sizeof(T) == 1 && begin + 128 <= n && ((u64)numbers & 3) == 0;
    u32 four = neighbours ? ((const u32*)numbers)[lane] : 0;
    u32 plus = 0, minus = 0;  // one word of each plane, in lanes 0 to 3
    int count = 0, wrong = -1;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int place = neighbours ? 4 * lane + i : 32 * i + lane;
      Ternary value = ZERO;
      if (!neighbours) {
        if (begin + place < n) value = code_of(numbers[place]);
      } else if constexpr (sizeof(T) == 1) {
        value = code_of((T)(four >> 8 * i & 255));
      }
      if (value == OTHER && wrong < 0) wrong = place;
      u32 all_plus = ballot(value == PLUS), all_minus = ballot(value == MINUS);
      count += __popc(all_plus | all_minus);
      if (neighbours) {
        plus |= spread(all_plus >> 8 * (lane & 3) & 255) << i;
        minus |= spread(all_minus >> 8 * (lane & 3) & 255) << i;
      } else if (lane == i) {
        plus = all_plus;
        minus = all_minus;
      }
    }
    if (wrong >= 0) {
      atomicMax(bad, ~((u64)row * n + begin + wrong));
      bad_rows[row] = 1;
    }
    if (lane < 4 && word < words) {
      positive[(i64)row * words + word] = plus;
      negative[(i64)row * words + word] = minus;
      u32 either = plus | minus;
      if (used && either & ~used[word]) atomicOr(used + word, either);  // few rows use a column first
    }
    if (lane == 0 && counts && count) atomicAdd(counts + row, count);
    // The task after as many as there are warps, without divisions of 64 bits.
    row += next_rows;
    piece += next_pieces;
    if (piece >= pieces) {
      piece -= pieces;
      row++;
    }
  }
}

// Of rows of -1, 0 and 1.
template <class T>
__device__ __forceinline__ void pack(
    u32* positive, u32* negative, int* counts, u32* used, u64* bad, u8* bad_rows, const T* x, i64 stride, int rows, int n,
    int words) {
  auto code = [](int) { return [](T number) { return ternary(number); }; };
  planes(positive, negative, counts, used, bad, bad_rows, x, stride, rows, n, words, code);
}

// Of any numbers: 1 above the row's threshold, -1 below its negative, else 0. Only NaN is another value.
template <class T>
__device__ __forceinline__ void ternarize(
    u32* positive, u32* negative, int* counts, u32* used, u64* bad, u8* bad_rows, const T* x, i64 stride, int rows, int n,
    int words, const double* __restrict__ thresholds) {
  auto code = [=](int row) {
    double threshold = thresholds[row];
    return [=](T number) {
      double value = wide(number);
      return value != value ? OTHER : value > threshold ? PLUS : value < -threshold ? MINUS : ZERO;
    };
  };
  planes(positive, negative, counts, used, bad, bad_rows, x, stride, rows, n, words, code);
}
#define PACK(T)                                                                                                             \
  (u32 * positive, u32 * negative, int* counts, u32* used, u64* bad, u8* bad_rows, const T* x, i64 stride, int rows, int n, \
   int words) {                                                                                                             \
    pack(positive, negative, counts, used, bad, bad_rows, x, stride, rows, n, words);                                       \
  }
#define TERNARIZE(T)                                                                                                        \
  (u32 * positive, u32 * negative, int* counts, u32* used, u64* bad, u8* bad_rows, const T* x, i64 stride, int rows, int n, \
   int words, const double* thresholds) {                                                                                   \
    ternarize(positive, negative, counts, used, bad, bad_rows, x, stride, rows, n, words, thresholds);                      \
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
extern "C" __global__ void __launch_bounds__(256) ternarize_float16 TERNARIZE(half_bits)
extern "C" __global__ void __launch_bounds__(256) ternarize_bfloat16 TERNARIZE(bfloat_bits)
extern "C" __global__ void __launch_bounds__(256) ternarize_float32 TERNARIZE(float)
extern "C" __global__ void __launch_bounds__(256) ternarize_float64 TERNARIZE(double)

// The columns in use, in order, their number, and the path of a batch of vectors: 0 for lists, 1 for the columns in use, 2 for all
// columns. Costs are in entries of T, for a row block: a column of a list takes `list_cost` percent of what a column takes that is
// generated in order for the whole batch; a column in use, `compact_cost` percent. One block of 1024 threads.
extern "C" __global__ void __launch_bounds__(1024) choose(
    int* __restrict__ path, u32* __restrict__ columns, int* __restrict__ count, const u32* __restrict__ used, int words,
    const int* __restrict__ counts, int vectors, int n_columns, int capacity, int list_cost, int compact_cost, int passes) {
  u32 *sums = shared, *most = shared + 32, *total = shared + 33;
  int each = (words + blockDim.x - 1) / blockDim.x, begin = threadIdx.x * each, end = min(words, begin + each), sum = 0;
  for (int w = begin; w < end; w++) sum += __popc(used[w]);
  int before = lanes_before(sum), of_warp = lanes_total(sum), warps = blockDim.x >> 5;
  if ((threadIdx.x & 31) == 0) sums[threadIdx.x >> 5] = (u32)of_warp;
  if (threadIdx.x == 0) *most = *total = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
    atomicMax(most, (u32)counts[i]);
    atomicAdd(total, min((u32)counts[i], (u32)capacity));
  }
  for (int w = 0; w < (int)(threadIdx.x >> 5); w++) before += (int)sums[w];
  for (int w = begin; w < end; w++)
    for (u32 bits = used[w]; bits; bits &= bits - 1) columns[before++] = (u32)w * 32 + __ffs(bits) - 1;
  __syncthreads();
  if (threadIdx.x == 0) {
    int all = 0;
    for (int w = 0; w < warps; w++) all += (int)sums[w];
    *count = all;
    u64 dense = (u64)n_columns * passes * 100, compact = (u64)all * passes * compact_cost, lists = (u64)*total * list_cost;
    int best = compact < dense ? 1 : 2;
    if (*most <= (u32)capacity && lists < min(compact, dense)) best = 0;
    *path = best;
  }
}

// The nonzeros of each vector, in order: out[vector * capacity + i] is twice the column, plus 1 for an element -1; counts[vector] is
// their number. A warp takes a vector. Nonzeros beyond the capacity are left out: `choose` chooses another path then.
__device__ __forceinline__ void list_nonzeros(
    u32* __restrict__ out, int* __restrict__ counts, int capacity, const u32* __restrict__ positive,
    const u32* __restrict__ negative, int words, int vectors, int split) {
  int lane = threadIdx.x & 31, warp = (blockIdx.x * blockDim.x + threadIdx.x) >> 5, warps = (gridDim.x * blockDim.x) >> 5;
  for (int vector = warp; vector < vectors; vector += warps) {
    i64 row = (i64)(split ? vector >> 1 : vector) * words;
    int done = 0;
    for (int w = 0; w < words; w += 32) {
      u32 minus = w + lane < words ? negative[row + w + lane] : 0, plus = w + lane < words ? positive[row + w + lane] : 0;
      if (split) {
        plus = vector & 1 ? minus : plus;
        minus = 0;
      }
      u32 bits = plus | minus;
      if (!any_lane(bits != 0)) continue;
      int before = lanes_before(__popc(bits)), total = lanes_total(__popc(bits));
      for (int at = done + before; bits; at++, bits &= bits - 1) {
        int bit = __ffs(bits) - 1;
        if (at < capacity) out[(i64)vector * capacity + at] = (u32)((w + lane) * 32 + bit) * 2 + (minus >> bit & 1);
      }
      done += total;
    }
    if (lane == 0) counts[vector] = done;
  }
}
extern "C" __global__ void __launch_bounds__(256) lists(
    u32* out, int* counts, int capacity, const u32* positive, const u32* negative, int words, int vectors, int split) {
  list_nonzeros(out, counts, capacity, positive, negative, words, vectors, split);
}

// The lowest four bits, each in the lowest bit of a byte.
__device__ __forceinline__ u32 bytes_of(u32 bits) { return (bits & 15) * 0x00204081 & 0x01010101; }

// out[v * width + k] = the element of vector v at column number start + k, and 0 from number *count on (n without a count). Columns
// are those of a list, or all. If split, vectors 2 r and 2 r + 1 are the planes of row r. A thread makes four numbers.
__device__ __forceinline__ void expand_bits(
    i8* __restrict__ out, i64 width, const u32* __restrict__ positive, const u32* __restrict__ negative, int words, int vectors,
    int split, const u32* __restrict__ columns, int start, const int* __restrict__ count, int n) {
  int end = count ? min(n, *count) : n;
  i64 fours = width / 4;
  for (i64 task = blockIdx.x * blockDim.x + threadIdx.x; task < vectors * fours; task += gridDim.x * blockDim.x) {
    int vector = (int)(task / fours), k = (int)(task % fours) * 4;
    i64 row = (i64)(split ? vector >> 1 : vector) * words;
    u32 four = 0;
    int first = start + k;
    if (!columns && first % 4 == 0 && first + 4 <= end) {  // four bits of one word
      i64 word = row + (first >> 5);
      u32 plus = bytes_of(positive[word] >> (first & 31)), minus = bytes_of(negative[word] >> (first & 31));
      *(u32*)(out + vector * width + k) = split ? (vector & 1 ? minus : plus) : plus | minus * 255;
      continue;
    }
    for (int i = 0; i < 4; i++) {
      int number = first + i;
      if (number >= end) break;
      u32 column = columns ? columns[number] : (u32)number;
      u32 plus = positive[row + (column >> 5)] >> (column & 31) & 1, minus = negative[row + (column >> 5)] >> (column & 31) & 1;
      u32 byte = split ? (vector & 1 ? minus : plus) : plus | minus * 255;
      four |= byte << 8 * i;
    }
    *(u32*)(out + vector * width + k) = four;
  }
}
extern "C" __global__ void __launch_bounds__(256) expand(
    i8* out, i64 width, const u32* positive, const u32* negative, int words, int vectors, int split, const u32* columns, int start,
    const int* count, int n, const int* path, int mine) {
  if (!path || *path == mine) expand_bits(out, width, positive, negative, words, vectors, split, columns, start, count, n);
}

// What the path takes that `choose` chose: lists, or int8 rows of the columns in use.
extern "C" __global__ void __launch_bounds__(256) lists_or_rows(
    u32* lists, int* counts, int capacity, i8* rows, i64 width, const u32* positive, const u32* negative, int words, int vectors,
    int split, const u32* columns, const int* count, int n, const int* __restrict__ path) {
  if (*path == 0) list_nonzeros(lists, counts, capacity, positive, negative, words, vectors, split);
  if (*path == 1) expand_bits(rows, width, positive, negative, words, vectors, split, columns, 0, count, n);
}

// The bits of the largest magnitude of each row, which begin as 0. NaN and infinities set bad_rows[row] and raise *bad, as in
// `planes`. A warp takes 2048 columns.
template <class T>
__device__ __forceinline__ void largest(
    u64* __restrict__ found, u64* bad, u8* __restrict__ bad_rows, const T* __restrict__ x, i64 stride, int rows, i64 n) {
  int lane = threadIdx.x & 31;
  i64 parts = (n + 2047) / 2048;
  i64 warp = (i64)(blockIdx.x * blockDim.x + threadIdx.x) >> 5, warps = (gridDim.x * blockDim.x) >> 5;
  for (i64 task = warp; task < rows * parts; task += warps) {
    i64 row = task / parts, begin = task % parts * 2048, end = min(n, begin + 2048);
    double most = 0;
    for (i64 k = begin + lane; k < end; k += 32) {
      double value = wide(x[row * stride + k]);
      if (!is_finite(value)) {
        atomicMax(bad, ~((u64)row * n + k));
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
// base 2, the lowest first: parts[(row * n_parts + part) * ld + column], zeros beyond n. scales[row] times the integers is x. A
// thread makes four integers.
template <class T>
__device__ __forceinline__ void encode(
    i8* __restrict__ parts, i64 ld, int n_parts, double* __restrict__ scales, const u64* __restrict__ found, const T* __restrict__ x,
    i64 stride, int rows, int n, int base, double top) {
  i64 fours = ld / 4;
  for (i64 task = blockIdx.x * blockDim.x + threadIdx.x; task < rows * fours; task += gridDim.x * blockDim.x) {
    int row = (int)(task / fours), column = (int)(task % fours) * 4;
    double most = *(const double*)(found + row);
    if (column == 0) {
      double scale = most / top;
      if (!is_finite(scale * top)) {  // the next smaller number
        u64 bits = *(u64*)&scale - 1;
        scale = *(double*)&bits;
      }
      scales[row] = scale;
    }
    // Tiny numbers are enlarged first, because their inverse overflows.
    double large = 2037035976334486086268445688409378161051468393665936250636140449354381299763336706183397376.0;  // 2^300
    double enlarged = most < 1e-250 ? large : 1.0, factor = most > 0 ? top / (most * enlarged) : 0.0;
    int m[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      double value = column + i < n ? wide(x[row * stride + column + i]) : 0.0;
      value = is_finite(value) ? rint(value * enlarged * factor) : 0.0;
      m[i] = (int)(value > top ? top : value < -top ? -top : value);
    }
    for (int part = 0; part < n_parts; part++) {
      u32 four = 0;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int low;
        if (base == 3) {  // the remainder nearest to 0
          low = m[i] % 243;
          low = low > 121 ? low - 243 : low < -121 ? low + 243 : low;
          m[i] = (m[i] - low) / 243;
        } else {
          low = m[i] % 128;
          m[i] /= 128;
        }
        four |= (u32)(low & 255) << 8 * i;
      }
      *(u32*)(parts + ((i64)row * n_parts + part) * ld + column) = four;
    }
  }
}
#define LARGEST(T)                                                                                                          \
  (u64 * found, u64 * bad, u8 * bad_rows, const T* x, i64 stride, int rows, i64 n) {                                        \
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

// Bit planes of one digit of encoded numbers, counted from the lowest, with counts and `used` as by `planes`.
extern "C" __global__ void __launch_bounds__(256) digit_planes(
    u32* positive, u32* negative, int* counts, u32* used, const i8* parts, i64 ld, int n_parts, int rows, int n, int words,
    int base, int digit) {
  int each = base == 3 ? 5 : 7, part = digit / each, place = digit % each;
  int unit = 1;  // base^place
  for (int i = 0; i < place; i++) unit *= base;
  auto code = [=](int) {
    return [=](i8 number) {
      int low;
      if (base == 3) {  // without the digits below, and then without those above
        int rest = (int)number + (unit - 1) / 2 + 123 * unit;  // 123, a multiple of 3, makes it positive
        low = rest / unit % 3;
        low = low == 2 ? -1 : low;
      } else {
        low = number / unit % 2;
      }
      return low > 0 ? PLUS : low < 0 ? MINUS : ZERO;
    };
  };
  planes(positive, negative, counts, used, (u64*)0, (u8*)0, parts + part * ld, n_parts * ld, rows, n, words, code);
}

// The nonzeros of each row of planes, added to counts[row], and a bit in `used` for each column that a row uses.
extern "C" __global__ void __launch_bounds__(256) survey(
    int* counts, u32* used, const u32* __restrict__ positive, const u32* __restrict__ negative, int rows, int words) {
  for (i64 task = blockIdx.x * blockDim.x + threadIdx.x; task < (i64)rows * words; task += gridDim.x * blockDim.x) {
    u32 either = positive[task] | negative[task];
    int row = (int)(task / words), word = (int)(task % words);
    if (either) atomicAdd(counts + row, __popc(either));
    if (either & ~used[word]) atomicOr(used + word, either);
  }
}

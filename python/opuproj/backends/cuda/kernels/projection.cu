// Panels of T, and fields T x of packed vectors. Sums are exact integers, so no order of summation changes a result.
//
// Packed vectors are two bit planes, of the elements 1 and of the elements -1: [row][words], the first element in the lowest
// bit. Fields are int32, [vector][ld]. Component 16 r + place belongs to row block first_block + r.
#include <transmission.cuh>

// A kernel that is not the one that `choose` chose returns at once.
__device__ __forceinline__ bool chosen(const int* path, int mine) { return !path || *path == mine; }

// The share of a row block in round 1, with the round's key.
__device__ __forceinline__ void row_half(const Tables& t, const Keys& keys, u64 block, u32 row[4]) {
  half_round<0>(t, keys, block, row);
#pragma unroll
  for (int j = 0; j < 4; j++) row[j] ^= keys.word(1, j);
}
// The 16 entries of one column in the row block of this share.
__device__ __forceinline__ void column_entries(const Tables& t, const Keys& keys, const u32 row[4], u64 column, int entries[16]) {
  u32 state[4];
  half_round<1>(t, keys, column, state);
#pragma unroll
  for (int j = 0; j < 4; j++) state[j] ^= row[j];
  finish_one(t, keys, state, entries);
}

// Column number i of a call: entry i of a list, or the i-th after the first column.
__device__ __forceinline__ u64 column_at(u64 first_column, const u32* columns, int i) {
  return first_column + (columns ? columns[i] : (u32)i);
}

// panel[(16 r + place) * ld + c] = entry `place` of row block first_block + r and column number start + c, for r < blocks and
// c < n_columns, a multiple of 128. Columns from number *count on are left as they are. A warp takes 128 columns and `chunk` row
// blocks at a time; a lane, four neighbouring columns.
extern "C" __global__ void __launch_bounds__(512, 1) panel(
    u8* __restrict__ out, i64 ld, u64 seed, u64 first_block, int blocks, u64 first_column, const u32* __restrict__ columns,
    int start, int n_columns, const int* __restrict__ count, const int* path, int mine, int chunk, u32 stride) {
  if (!chosen(path, mine)) return;
  int valid = count ? min(n_columns, max(0, *count - start)) : n_columns;
  if (valid == 0) return;
  Keys keys{seed};
  Tables t = fill_tables(shared, keys, stride);
  int lane = threadIdx.x & 31, warp = (blockIdx.x * blockDim.x + threadIdx.x) >> 5, warps = (gridDim.x * blockDim.x) >> 5;
  int groups = (valid + 127) / 128, chunks = (blocks + chunk - 1) / chunk;
  for (i64 task = warp; task < (i64)groups * chunks; task += warps) {
    int c = (int)(task % groups) * 128 + lane * 4, r = (int)(task / groups) * chunk, end = min(blocks, r + chunk);
    Prefix<0> prefix[4];
    bool first = true;
    for (; r < end; r++) {
      u64 block = first_block + r;
      if (first || (block & 255) == 0) {
        first = false;
#pragma unroll
        for (int i = 0; i < 4; i++)
          prefix[i].set(t, keys, block, column_at(first_column, columns, start + min(c + i, valid - 1)));
      }
      u32 looked = look(t, 0, ((u32)block ^ keys.word(0, 0)) & 255), state[4][4], entries[16];
#pragma unroll
      for (int i = 0; i < 4; i++) prefix[i].state(t, looked, state[i]);
      finish(t, keys, state, entries);
      u8* p = out + (i64)r * 16 * ld + c;
#pragma unroll
      for (int place = 0; place < 16; place++) *(u32*)(p + place * ld) = entries[place];
    }
  }
}

// The transposed panel, for the adjoint: out[c * ld + 16 r + place] = entry `place` of row block first_block + r and column
// first_column + c, for r < blocks and c < n_columns. Rows begin at multiples of 16 bytes. A warp takes 32 row blocks and `chunk`
// columns at a time, a multiple of 4; a lane, one row block.
extern "C" __global__ void __launch_bounds__(512, 1) transposed_panel(
    u8* __restrict__ out, i64 ld, u64 seed, u64 first_block, int blocks, u64 first_column, int n_columns, int chunk, u32 stride) {
  Keys keys{seed};
  Tables t = fill_tables(shared, keys, stride);
  int lane = threadIdx.x & 31, warp = (blockIdx.x * blockDim.x + threadIdx.x) >> 5, warps = (gridDim.x * blockDim.x) >> 5;
  int groups = (blocks + 31) / 32, chunks = (n_columns + chunk - 1) / chunk;
  for (i64 task = warp; task < (i64)groups * chunks; task += warps) {
    int r = (int)(task % groups) * 32 + lane, c = (int)(task / groups) * chunk, end = min(n_columns, c + chunk);
    Prefix<2> prefix;
    u64 page = ~0ull;  // of 256 columns, which share a prefix; none has this number
    for (; c < end; c += 4) {
      u32 state[4][4], entries[16];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        u64 column = first_column + c + i;
        if (column >> 8 != page) {
          page = column >> 8;
          prefix.set(t, keys, first_block + r, column);
        }
        prefix.state(t, look(t, 0, ((u32)column ^ keys.word(0, 2)) & 255), state[i]);
      }
      finish(t, keys, state, entries);
      u32 words[4][4];  // of each column, its 16 places in order
#pragma unroll
      for (int w = 0; w < 4; w++) {
        u32 *e = entries + 4 * w, low = __byte_perm(e[0], e[1], 0x5140), low2 = __byte_perm(e[2], e[3], 0x5140),
            high = __byte_perm(e[0], e[1], 0x7362), high2 = __byte_perm(e[2], e[3], 0x7362);
        words[0][w] = __byte_perm(low, low2, 0x5410);
        words[1][w] = __byte_perm(low, low2, 0x7632);
        words[2][w] = __byte_perm(high, high2, 0x5410);
        words[3][w] = __byte_perm(high, high2, 0x7632);
      }
#pragma unroll
      for (int i = 0; i < 4; i++)
        if (r < blocks && c + i < end)
          *(int4*)(out + (c + i) * ld + 16ll * r) = int4{(int)words[i][0], (int)words[i][1], (int)words[i][2], (int)words[i][3]};
    }
  }
}

// Four int8 numbers from four bits of each plane.
__device__ __forceinline__ u32 spread(u32 bits) { return (bits & 15) * 0x00204081u & 0x01010101u; }

// Operands of the fused product: four elements of each of N vectors, number g, g + 8, and so on, from column k on, a multiple of 4.
struct Planes {  // rows of bit planes; if split, vectors 2 r and 2 r + 1 are the two planes of row r
  const u32 *positive, *negative;
  int words, vectors;
  bool split;
  template <int N> struct Fours {
    u32 bits;  // eight for each vector, which take fewer registers than bytes: those of the elements 1, then those of -1
    __device__ __forceinline__ bool used() const { return bits != 0; }
    __device__ __forceinline__ u32 bytes(int n) const { return spread(bits >> 8 * n) | spread(bits >> 8 * n + 4) * 255; }
  };
  template <int N> __device__ __forceinline__ Fours<N> fours(int g, int k) const {
    Fours<N> found{0};
#pragma unroll
    for (int n = 0; n < N; n++) {
      int vector = 8 * n + g;
      if (vector >= vectors) continue;
      int at = (split ? vector >> 1 : vector) * words + (k >> 5), bit = k & 31;  // of at most 32 rows, of less than 2^26 words
      if (split) found.bits |= ((vector & 1 ? negative : positive)[at] >> bit & 15) << 8 * n;
      else found.bits |= (positive[at] >> bit & 15 | (negative[at] >> bit & 15) << 4) << 8 * n;
    }
    return found;
  }
};
struct Bytes {  // rows of int8
  const i8* x;
  i64 ld;
  int vectors;
  template <int N> struct Fours {
    u32 of[N];
    __device__ __forceinline__ bool used() const {
      u32 any = 0;
#pragma unroll
      for (int n = 0; n < N; n++) any |= of[n];
      return any != 0;
    }
    __device__ __forceinline__ u32 bytes(int n) const { return of[n]; }
  };
  template <int N> __device__ __forceinline__ Fours<N> fours(int g, int k) const {
    Fours<N> found;
#pragma unroll
    for (int n = 0; n < N; n++) found.of[n] = 8 * n + g < vectors ? *(const u32*)(x + (8 * n + g) * ld + k) : 0;
    return found;
  }
};

// A number that the compiler takes for another one. What is computed from it is computed where it is used: else the compiler would
// keep it in registers, of which the sums leave few.
__device__ __forceinline__ int hidden(int number) {
  asm volatile("" : "+r"(number));
  return number;
}
// The row block of a lane, from its warp's task.
__device__ __forceinline__ int row_block(int task, int slices) { return hidden(task) / slices * 8 + (threadIdx.x >> 2 & 7); }

// fields[vector * ld + 16 r + place] = sum over columns of T x, or += if there are several slices of the columns, for 8 N vectors.
// In a warp's product, lane 4 g + q holds rows g and g + 8 at columns 4 q to 4 q + 3. Any components of T may be called rows. So
// product f takes places 2 f and 2 f + 1 of eight row blocks: a lane then needs entries of its own row block only. A warp skips
// 16 columns that none of its vectors uses. With LISTED, columns come from a list, and each lane finishes them from round 1 on.
template <int N, bool LISTED, class Operand>
__device__ __forceinline__ void field(
    int* __restrict__ fields, i64 ld, u64 seed, u64 first_block, int blocks, u64 first_column, const u32* __restrict__ columns,
    int n_columns, const Operand& x, int slice, int slices, u32 stride) {
  Keys keys{seed};
  Tables t = fill_tables(shared, keys, stride);
  int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3;
  int warp = (blockIdx.x * blockDim.x + threadIdx.x) >> 5, warps = (gridDim.x * blockDim.x) >> 5;
  int groups = (blocks + 7) / 8;
  for (int task = warp; task < groups * slices; task += warps) {  // slices are as many as keep a GPU's warps busy
    int begin = task % slices * slice, end = min(n_columns, begin + slice);
    int sums[8][N][4] = {};
    Prefix<2> prefix;
    u32 row[4];
    if (LISTED) {
      row_half(t, keys, first_block + row_block(task, slices), row);
    }
    for (int next = begin; next < end;) {
      if (!LISTED) prefix.set(t, keys, first_block + row_block(task, slices), first_column + next);
      do {
        int k = hidden(next);
        auto fours = x.template fours<N>(g, k + 4 * q);
        if (!any_lane(fours.used())) continue;
        u32 state[4][4];
        if (LISTED) {
#pragma unroll
          for (int i = 0; i < 4; i++) {
            u32 first[4];
            half_round<1>(t, keys, first_column + columns[min(k + 4 * q + i, n_columns - 1)], first);
#pragma unroll
            for (int j = 0; j < 4; j++) first[j] ^= row[j];
            aes_round(t, keys, 2, first, state[i]);
          }
        } else {
#pragma unroll
          for (int i = 0; i < 4; i++)
            prefix.state(t, look(t, 0, ((u32)first_column + k + 4 * q + i ^ keys.word(0, 2)) & 255), state[i]);
        }
        middle_rounds(t, keys, state);
        u32 b[N];
#pragma unroll
        for (int n = 0; n < N; n++) b[n] = fours.bytes(n);
#pragma unroll
        for (int f = 0; f < 8; f++) {  // as soon as both are made, so that they need no registers for long
          u32 low = last_round(t, state, 2 * f), high = last_round(t, state, 2 * f + 1);
#pragma unroll
          for (int n = 0; n < N; n++) multiply(sums[f][n], low, high, b[n]);
        }
      } while ((next += 16) < end && ((u32)first_column + next & 255));  // a prefix is that of 256 columns
    }
    i64 block = row_block(task, slices);
    if (block < blocks) {
#pragma unroll
      for (int n = 0; n < N; n++)
#pragma unroll
        for (int f = 0; f < 8; f++)
#pragma unroll
          for (int i = 0; i < 4; i++) {
            int vector = 8 * n + 2 * q + (i & 1);
            if (vector >= x.vectors) continue;
            int* p = fields + vector * ld + block * 16 + 2 * f + (i >> 1);
            if (slices == 1) *p = sums[f][n][i];
            else atomicAdd(p, sums[f][n][i]);
          }
    }
  }
}

// Fields of packed vectors over columns first_column to first_column + n_columns - 1; first_column and n_columns are multiples
// of 16, as is `slice`.
#define PLANES_ARGUMENTS                                                                                                    \
  int *fields, i64 ld, u64 seed, u64 first_block, int blocks, u64 first_column, int n_columns, const u32 *positive,         \
      const u32 *negative, int words, int vectors, int split, int slice, int slices, const int *path, int mine, u32 stride
#define FROM_PLANES(N)                                                                                                      \
  if (chosen(path, mine))                                                                                                   \
    field<N, false>(fields, ld, seed, first_block, blocks, first_column, nullptr, n_columns,                                \
                    Planes{positive, negative, words, vectors, split != 0}, slice, slices, stride);
extern "C" __global__ void __launch_bounds__(512, 1) field_8(PLANES_ARGUMENTS) { FROM_PLANES(1) }
extern "C" __global__ void __launch_bounds__(512, 1) field_16(PLANES_ARGUMENTS) { FROM_PLANES(2) }
extern "C" __global__ void __launch_bounds__(384, 1) field_32(PLANES_ARGUMENTS) { FROM_PLANES(4) }

// Fields of int8 vectors over the first *count columns of a list (over n_columns columns from first_column on without a list).
#define BYTES_ARGUMENTS                                                                                                     \
  int *fields, i64 ld, u64 seed, u64 first_block, int blocks, u64 first_column, const u32 *columns, int n_columns,          \
      const int *count, const i8 *x, i64 ld_x, int vectors, int slice, int slices, const int *path, int mine, u32 stride
#define FROM_BYTES(N)                                                                                                       \
  if (!chosen(path, mine)) return;                                                                                          \
  if (count) n_columns = min(n_columns, *count);                                                                            \
  if (columns)                                                                                                              \
    field<N, true>(fields, ld, seed, first_block, blocks, first_column, columns, n_columns, Bytes{x, ld_x, vectors}, slice, \
                   slices, stride);                                                                                         \
  else                                                                                                                      \
    field<N, false>(fields, ld, seed, first_block, blocks, first_column, columns, n_columns, Bytes{x, ld_x, vectors},       \
                    slice, slices, stride);
extern "C" __global__ void __launch_bounds__(512, 1) field_bytes_8(BYTES_ARGUMENTS) { FROM_BYTES(1) }
extern "C" __global__ void __launch_bounds__(512, 1) field_bytes_16(BYTES_ARGUMENTS) { FROM_BYTES(2) }
extern "C" __global__ void __launch_bounds__(384, 1) field_bytes_32(BYTES_ARGUMENTS) { FROM_BYTES(4) }

// Fields of sparse vectors, each over its own nonzeros. A lane sums the 16 components of a row block.
extern "C" __global__ void __launch_bounds__(512, 1) field_lists(
    int* __restrict__ fields, i64 ld, u64 seed, u64 first_block, int blocks, u64 first_column, const u32* __restrict__ lists,
    int capacity, const int* __restrict__ counts, int vectors, const int* path, int mine, u32 stride) {
  if (!chosen(path, mine)) return;
  Keys keys{seed};
  Tables t = fill_tables(shared, keys, stride);
  int lane = threadIdx.x & 31, warp = (blockIdx.x * blockDim.x + threadIdx.x) >> 5, warps = (gridDim.x * blockDim.x) >> 5;
  int groups = (blocks + 31) / 32;
  for (i64 task = warp; task < (i64)groups * vectors; task += warps) {
    int vector = (int)(task % vectors), r = (int)(task / vectors) * 32 + lane, n = min(counts[vector], capacity);
    const u32* list = lists + (i64)vector * capacity;
    u32 row[4];
    row_half(t, keys, first_block + r, row);
    int sums[16] = {};
    for (int i = 0; i < n; i++) {
      u32 entry = list[i];
      int entries[16];
      column_entries(t, keys, row, first_column + (entry >> 1), entries);
#pragma unroll
      for (int place = 0; place < 16; place++) sums[place] += entry & 1 ? -entries[place] : entries[place];
    }
    if (r < blocks) {
      int4* p = (int4*)(fields + vector * ld + 16ll * r);
#pragma unroll
      for (int k = 0; k < 4; k++) p[k] = int4{sums[4 * k], sums[4 * k + 1], sums[4 * k + 2], sums[4 * k + 3]};
    }
  }
}

// fields[component] = sum of the entries of columns first_column to first_column + n - 1: the field of an anchor.
extern "C" __global__ void __launch_bounds__(512, 1) field_of_ones(
    int* __restrict__ fields, u64 seed, u64 first_block, int blocks, u64 first_column, int n, u32 stride) {
  Keys keys{seed};
  Tables t = fill_tables(shared, keys, stride);
  for (i64 r = blockIdx.x * blockDim.x + threadIdx.x; r < blocks; r += gridDim.x * blockDim.x) {
    u32 row[4];
    row_half(t, keys, first_block + r, row);
    int sums[16] = {};
    for (int i = 0; i < n; i++) {
      int entries[16];
      column_entries(t, keys, row, first_column + i, entries);
#pragma unroll
      for (int place = 0; place < 16; place++) sums[place] += entries[place];
    }
#pragma unroll
    for (int place = 0; place < 16; place++) fields[16 * r + place] = sums[place];
  }
}

// Entries of the transmission matrix: ARS4x32-7 by table look-ups in shared memory, then the Gaussian of a byte. The scalar
// definition is rust/opuproj-core/src/definition/transmission.rs.
//
// The round table has 256 words, with a copy for each of the 32 banks of shared memory (32 KiB). So two lanes of a warp never
// access one bank at the same time. AES's other three tables are this one with its bytes rotated. The last round has no
// MixColumns. Therefore its S-box, round key and Gaussian together are one table of bytes for each of the 16 places (4 KiB).
#pragma once
#include <device.cuh>

constexpr u64 WEYL_LOW = 0x9E3779B97F4A7C15ull, WEYL_HIGH = 0xBB67AE8584CAA73Bull;
constexpr int ROUND_TABLE_WORDS = 256 * 32, SHARED_BYTES = ROUND_TABLE_WORDS * 4 + 16 * 256;

__constant__ u8 MAGNITUDE[128] = {
    0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10,
    10, 11, 11, 11, 12, 12, 12, 13, 13, 13, 14, 14, 14, 15, 15, 15, 16, 16, 17, 17, 17, 18, 18, 18, 19, 19, 19, 20, 20, 21, 21, 21,
    22, 22, 23, 23, 23, 24, 24, 25, 25, 25, 26, 26, 27, 27, 28, 28, 29, 29, 30, 30, 31, 31, 32, 32, 33, 33, 34, 34, 35, 35, 36, 37,
    37, 38, 39, 39, 40, 40, 41, 42, 43, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 52, 54, 56, 57, 59, 61, 63, 65, 67, 71, 71, 76, 100};

template <u64 STREAM> struct KeysOf {  // the stream is known to the compiler, so that the high halves are constants
  u64 seed;
  __device__ u32 word(int round, int j) const {
    u64 half = j < 2 ? seed + round * WEYL_LOW : STREAM + round * WEYL_HIGH;
    return (u32)(j & 1 ? half >> 32 : half);
  }
};
using Keys = KeysOf<0>;                // of T; the structured ensemble's signs are stream 1

struct Tables {
  u32 rounds;                       // shared address of this lane's copy of the round table
  u32 stride;                       // bytes between its entries, 128: a kernel argument, so that the address is a multiply-add
  u32 last;                         // shared address of the 16 tables of the last round
};

__device__ __forceinline__ u32 byte_of(u32 word, int k) { return __byte_perm(word, 0, 0x4440 | k); }

// AES's table `row` at a byte: (2, 1, 1, 3) times its S-box, turned left by `row` bytes.
__device__ __forceinline__ u32 look(const Tables& t, int row, u32 byte) {
  u32 v = shared_word(byte * t.stride + t.rounds);
  return row == 0 ? v : __byte_perm(v, v, row == 1 ? 0x2103 : row == 2 ? 0x1032 : 0x0321);
}

// The AES S-box without a table of 256 constants: x^254 in GF(2^8), then the affine map. Only used to fill the tables.
__device__ inline u32 gf_multiply(u32 a, u32 b) {
  u32 product = 0;
  for (int i = 0; i < 8; i++) {
    if (b >> i & 1) product ^= a;
    a = a << 1 ^ (a & 128 ? 0x11b : 0);
  }
  return product;
}
__device__ inline u32 sbox(u32 x) {
  u32 square = gf_multiply(x, x), power = square;                     // x^2, then the product of x^2, x^4, ... x^128
  for (int i = 0; i < 6; i++) { square = gf_multiply(square, square); power = gf_multiply(power, square); }
  u32 twice = power | power << 8;
  return (power ^ twice >> 4 ^ twice >> 5 ^ twice >> 6 ^ twice >> 7 ^ 0x63) & 255;
}

// Every thread of the block must call this once, before any other function.
template <class K> __device__ inline Tables fill_tables(u32* shared, const K& keys, u32 stride) {
  u8* last = (u8*)(shared + ROUND_TABLE_WORDS);
  for (int byte = threadIdx.x; byte < 256; byte += blockDim.x) {
    u32 s = sbox(byte), twice = s << 1 ^ (s & 128 ? 0x11b : 0);
    u32 entry = twice | s << 8 | s << 16 | (twice ^ s) << 24;
    for (int bank = 0; bank < 32; bank++) shared[byte * 32 + (bank + byte & 31)] = entry;
    for (int place = 0; place < 16; place++) {
      u32 v = s ^ byte_of(keys.word(7, place / 4), place % 4);
      int magnitude = MAGNITUDE[v & 127];
      last[place * 256 + byte] = (u8)(v & 128 ? -magnitude : magnitude);
    }
  }
  __syncthreads();
  u32 base = shared_address(shared);
  return {base + (threadIdx.x & 31) * 4, stride, base + ROUND_TABLE_WORDS * 4};
}

// An AES round of look-ups, without the look-up of byte 0 of word `without` (none for -1).
template <class K>
__device__ __forceinline__ void aes_round(const Tables& t, const K& keys, int round, const u32 in[4], u32 out[4], int without = -1) {
#pragma unroll
  for (int j = 0; j < 4; j++) {
    out[j] = keys.word(round, j) ^ look(t, 1, byte_of(in[(j + 1) & 3], 1)) ^ look(t, 2, byte_of(in[(j + 2) & 3], 2)) ^
             look(t, 3, byte_of(in[(j + 3) & 3], 3));
    if (j != without) out[j] ^= look(t, 0, byte_of(in[j], 0));
  }
}

// What rounds 1 and 2 leave where of the counter only the lowest byte of word W (0: row block, 2: column) varies: that
// byte enters one look-up of round 1, and the word that comes of it four of round 2.
template <int W> struct Prefix {
  u32 word, second[4];
  __device__ __forceinline__ void set(const Tables& t, const Keys& keys, u64 row_block, u64 column) {
    u32 state[4] = {(u32)row_block, (u32)(row_block >> 32), (u32)column, (u32)(column >> 32)}, first[4];
#pragma unroll
    for (int j = 0; j < 4; j++) state[j] ^= keys.word(0, j);
    aes_round(t, keys, 1, state, first, W);
    word = first[W];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      second[j] = keys.word(2, j);
#pragma unroll
      for (int k = 0; k < 4; k++)
        if (((j + k) & 3) != W) second[j] ^= look(t, k, byte_of(first[(j + k) & 3], k));
    }
  }
  // The state after round 2; `looked` is look(t, 0, varying byte ^ its key).
  __device__ __forceinline__ void state(const Tables& t, u32 looked, u32 out[4]) const {
    u32 v = word ^ looked;
#pragma unroll
    for (int k = 0; k < 4; k++) out[(W - k) & 3] = second[(W - k) & 3] ^ look(t, k, byte_of(v, k));
  }
};

// Rounds 3 to 6 of four blocks.
__device__ __forceinline__ void middle_rounds(const Tables& t, const Keys& keys, u32 state[4][4]) {
#pragma unroll
  for (int block = 0; block < 4; block++)
#pragma unroll
    for (int round = 3; round <= 6; round++) {
      u32 next[4];
      aes_round(t, keys, round, state[block], next);
#pragma unroll
      for (int j = 0; j < 4; j++) state[block][j] = next[j];
    }
}
// Round 7 of four blocks: byte `place` of each, the first block lowest.
__device__ __forceinline__ u32 last_round(const Tables& t, const u32 state[4][4], int place) {
  u32 v[4];
#pragma unroll
  for (int block = 0; block < 4; block++)
    v[block] = shared_byte(t.last + byte_of(state[block][(place / 4 + place % 4) & 3], place % 4) + place * 256);
  return __byte_perm(__byte_perm(v[0], v[1], 0x0040), __byte_perm(v[2], v[3], 0x0040), 0x5410);
}
// Rounds 3 to 7 of four blocks: entries[place] holds byte `place` of the four.
__device__ __forceinline__ void finish(const Tables& t, const Keys& keys, u32 state[4][4], u32 entries[16]) {
  middle_rounds(t, keys, state);
#pragma unroll
  for (int place = 0; place < 16; place++) entries[place] = last_round(t, state, place);
}

// The 16 entries of one block, sign-extended, from its state after round 1.
__device__ __forceinline__ void finish_one(const Tables& t, const Keys& keys, u32 state[4], int entries[16]) {
#pragma unroll
  for (int round = 2; round <= 6; round++) {
    u32 next[4];
    aes_round(t, keys, round, state, next);
#pragma unroll
    for (int j = 0; j < 4; j++) state[j] = next[j];
  }
#pragma unroll
  for (int place = 0; place < 16; place++)
    entries[place] = shared_signed_byte(t.last + byte_of(state[(place / 4 + place % 4) & 3], place % 4) + place * 256);
}

// What round 1 makes of the halves of the counter, without the key: words 2 HALF and 2 HALF + 1. The xor of both is round 1.
template <int HALF> __device__ __forceinline__ void half_round(const Tables& t, const Keys& keys, u64 value, u32 out[4]) {
  u32 state[4] = {};
  state[2 * HALF] = (u32)value ^ keys.word(0, 2 * HALF);
  state[2 * HALF + 1] = (u32)(value >> 32) ^ keys.word(0, 2 * HALF + 1);
#pragma unroll
  for (int j = 0; j < 4; j++) {
    out[j] = 0;
#pragma unroll
    for (int k = 0; k < 4; k++)
      if (((j + k) & 3) / 2 == HALF) out[j] ^= look(t, k, byte_of(state[(j + k) & 3], k));
  }
}

// A GPU's block on one CPU thread, for tests without a GPU. This file takes the place of the package's file of the same
// name. The threads of a block are fibres. They run in turn, each until it reaches a barrier, or a product or vote of its warp.
#pragma once
#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;
typedef signed char i8;
typedef long long i64;
using std::max;
using std::min;

#define __global__
#define __device__
#define __constant__ static const
#define __shared__
#define __restrict__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct Index {
  u32 x;
};
static Index threadIdx, blockIdx, blockDim, gridDim;
alignas(128) static u32 shared[228 * 256];  // 228 KiB

struct int4 {
  int x, y, z, w;
};

struct Fibre {
  ucontext_t start;
  jmp_buf place;
  bool started = false, done = false;
  u32 a0, a1, b;
};
static std::vector<Fibre> fibres;
static std::vector<char> stacks;
static ucontext_t scheduler;
static jmp_buf scheduler_place;
static void (*body)();
constexpr size_t STACK = 1 << 16;

static void yield() {
  Fibre& f = fibres[threadIdx.x];
  if (!_setjmp(f.place)) _longjmp(scheduler_place, 1);
}
static void enter() {
  body();
  fibres[threadIdx.x].done = true;
  _longjmp(scheduler_place, 1);
}
static void resume(Fibre& f) {
  if (_setjmp(scheduler_place)) return;
  if (f.started) _longjmp(f.place, 1);
  f.started = true;
  setcontext(&f.start);
}

// Fibres run in rounds, each to its next yield. So one yield of all threads is a barrier, and all threads must yield alike.
inline void __syncthreads() { yield(); }
inline void warp_barrier() { yield(); }

template <class Kernel> void run_blocks(u32 grid, u32 block, Kernel kernel) {
  static Kernel* current;
  current = &kernel;
  body = [] { (*current)(); };
  gridDim.x = grid;
  blockDim.x = block;
  stacks.resize(STACK * block);
  for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++) {
    memset(shared, 0xab, sizeof shared);  // a kernel must write what it reads
    fibres.assign(block, {});
    for (u32 i = 0; i < block; i++) {
      getcontext(&fibres[i].start);
      fibres[i].start.uc_stack.ss_sp = &stacks[STACK * i];
      fibres[i].start.uc_stack.ss_size = STACK;
      fibres[i].start.uc_link = &scheduler;
      makecontext(&fibres[i].start, enter, 0);
    }
    for (bool running = true; running;) {
      running = false;
      for (threadIdx.x = 0; threadIdx.x < block; threadIdx.x++)
        if (!fibres[threadIdx.x].done) {
          running = true;
          resume(fibres[threadIdx.x]);
        }
    }
  }
}

// Calls a kernel with arguments given by their addresses, as cuLaunchKernel does.
template <class... A, size_t... I> void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(*(A*)arguments[I]...);
}
template <class... A> void launch(void (*kernel)(A...), u32 grid, u32 block, void** arguments) {
  run_blocks(grid, block, [=] { call(kernel, arguments, std::index_sequence_for<A...>()); });
}

// The types of a kernel's arguments, a letter and a size each: p for a pointer, f for a float, u and i for integers.
template <class T> std::string type_name() {
  char kind = std::is_pointer_v<T> ? 'p' : std::is_floating_point_v<T> ? 'f' : std::is_unsigned_v<T> ? 'u' : 'i';
  return kind + std::to_string(sizeof(T)) + ' ';
}
template <class... A> const char* types(void (*)(A...)) {
  static const std::string all = (std::string() + ... + type_name<A>());
  return all.c_str();
}

inline u32 __byte_perm(u32 x, u32 y, u32 selector) {
  u64 bytes = (u64)y << 32 | x;
  u32 out = 0;
  for (int i = 0; i < 4; i++) out |= (u32)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
  return out;
}
inline int __popc(u32 x) { return __builtin_popcount(x); }
inline int __ffs(u32 x) { return __builtin_ffs(x); }
template <class T> T atomicAdd(T* p, T v) { T old = *p; *p += v; return old; }
template <class T> T atomicMin(T* p, T v) { T old = *p; *p = std::min(old, v); return old; }
template <class T> T atomicMax(T* p, T v) { T old = *p; *p = std::max(old, v); return old; }
template <class T> T atomicOr(T* p, T v) { T old = *p; *p |= v; return old; }
template <class T> T atomicCAS(T* p, T expected, T v) { T old = *p; if (old == expected) *p = v; return old; }
inline u32 shared_address(const void* p) { return (u32)((const char*)p - (const char*)shared); }
inline u32 shared_word(u32 address) { u32 v; memcpy(&v, (const char*)shared + address, 4); return v; }
inline u32 shared_byte(u32 address) { return ((const u8*)shared)[address]; }
inline int shared_signed_byte(u32 address) { return ((const i8*)shared)[address]; }
inline void multiply(int sums[4], u32 a0, u32 a1, u32 b) {
  u32 lane = threadIdx.x & 31, first = threadIdx.x - lane, g = lane >> 2, q = lane & 3;
  Fibre& mine = fibres[threadIdx.x];
  mine.a0 = a0;
  mine.a1 = a1;
  mine.b = b;
  yield();  // now all lanes have passed their parts
  auto at = [](u32 word, int i) { return (int)(i8)(word >> 8 * i & 255); };
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 16; k++) {
      const Fibre& row = fibres[first + 4 * g + k / 4];
      sums[i] += at(i < 2 ? row.a0 : row.a1, k % 4) * at(fibres[first + 4 * (2 * q + (i & 1)) + k / 4].b, k % 4);
    }
  yield();  // and now all have read those of the others
}
// Passes a number of each lane of the warp, with the lane, to a function.
template <class Use> void for_lanes(u32 number, Use use) {
  u32 first = threadIdx.x & ~31u;
  fibres[threadIdx.x].b = number;
  yield();
  for (u32 i = first; i < std::min(first + 32, blockDim.x); i++) use(i - first, fibres[i].b);
  yield();
}
inline bool any_lane(bool condition) {
  bool any = false;
  for_lanes(condition, [&](u32, u32 other) { any |= other != 0; });
  return any;
}
inline int lanes_before(int n) {
  int sum = 0;
  for_lanes((u32)n, [&](u32 lane, u32 other) { sum += lane < (threadIdx.x & 31) ? (int)other : 0; });
  return sum;
}
inline int lanes_total(int n) {
  int sum = 0;
  for_lanes((u32)n, [&](u32, u32 other) { sum += (int)other; });
  return sum;
}
inline u32 ballot(bool condition) {
  u32 bits = 0;
  for_lanes(condition, [&](u32 lane, u32 other) { bits |= other << lane; });
  return bits;
}
inline double not_a_number() { return std::nan(""); }

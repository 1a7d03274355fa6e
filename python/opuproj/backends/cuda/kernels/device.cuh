// What the kernels take from the GPU beyond CUDA C++: look-ups by shared address, and the int8 matrix product of a warp.
// The tests have a file of the same name that stands in for a GPU on a CPU.
#pragma once
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;
typedef signed char i8;
typedef long long i64;

extern __shared__ u32 shared[];

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ __forceinline__ u32 shared_word(u32 address) {
  u32 v;
  asm("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}
__device__ __forceinline__ u32 shared_byte(u32 address) {
  u32 v;
  asm("{.reg .u16 h; ld.shared.u8 h, [%1]; cvt.u32.u16 %0, h;}" : "=r"(v) : "r"(address));
  return v;
}
__device__ __forceinline__ int shared_signed_byte(u32 address) {
  int v;
  asm("{.reg .s16 h; ld.shared.s8 h, [%1]; cvt.s32.s16 %0, h;}" : "=r"(v) : "r"(address));
  return v;
}

// sums += A B for a warp, with A of 16 x 16 and B of 16 x 8 int8 numbers. Lane 4 g + q holds rows g and g + 8 of A at columns
// 4 q to 4 q + 3, column g of B at the same rows, and the sums of rows g, g, g + 8, g + 8 at columns 2 q, 2 q + 1, 2 q, 2 q + 1.
__device__ __forceinline__ void multiply(int sums[4], u32 a0, u32 a1, u32 b) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a0), "r"(a1), "r"(b));
}
__device__ __forceinline__ void warp_barrier() { __syncwarp(); }
// Whether a condition holds in any lane of the warp.
__device__ __forceinline__ bool any_lane(bool condition) { return __any_sync(0xffffffffu, condition); }
// The sum of a number over the lanes before this one, and over all lanes.
__device__ __forceinline__ int lanes_before(int n) {
  int sum = n;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    int other = __shfl_up_sync(0xffffffffu, sum, step);
    if ((threadIdx.x & 31) >= step) sum += other;
  }
  return sum - n;
}
__device__ __forceinline__ int lanes_total(int n) { return __reduce_add_sync(0xffffffffu, n); }
// A bit for each lane of the warp in which a condition holds.
__device__ __forceinline__ u32 ballot(bool condition) { return __ballot_sync(0xffffffffu, condition); }
__device__ __forceinline__ double not_a_number() { return __longlong_as_double(0x7ff8000000000000ll); }

// What the backward kernels share: cells as samples are filed by them, vector reductions to memory, and sums over a
// group of lanes.
#pragma once

#include "common.cuh"

namespace racdino::cuda {

// A cell by the pixel of its first corner inside the level, so that cells over the border share it with a neighbour.
// Slot 0 is that pixel's column (row), slot 1 the next; a slot without a corner of this sample has slope 0.
template <typename A>
struct Slots {
  A fx[2], fy[2], dx[2], dy[2];  // factor and its slope
  int column, row, pixel;
  unsigned neighbours;  // 1: there is a column right; 2: there is a row below

  __device__ Slots(const Cell<A>& cell, const Level& level) {
    const bool left = cell.x0 >= 0, above = cell.y0 >= 0;
    column = left ? cell.x0 : 0;
    row = above ? cell.y0 : 0;
    const bool right = column + 1 < level.W, below = row + 1 < level.H;
    pixel = level.start + row * level.W + column;
    neighbours = (right ? 1u : 0u) + (below ? 2u : 0u);
    fx[0] = left ? 1 - cell.lx : cell.lx;
    dx[0] = left ? -1 : 1;
    fx[1] = left && right ? cell.lx : 0;
    dx[1] = left && right ? 1 : 0;
    fy[0] = above ? 1 - cell.ly : cell.ly;
    dy[0] = above ? -1 : 1;
    fy[1] = above && below ? cell.ly : 0;
    dy[1] = above && below ? 1 : 0;
  }
  __device__ bool used(int c) const { return dx[c & 1] != 0 && dy[c >> 1] != 0; }
  __device__ A factor(int c) const { return fy[c >> 1] * fx[c & 1]; }
};

// Inclusive sum over the block.
__device__ inline unsigned block_scan(unsigned x, unsigned* warp_sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const unsigned before = __shfl_up_sync(0xffffffffu, x, distance);
    if (lane >= distance) x += before;
  }
  if (lane == 31) warp_sums[warp] = x;
  __syncthreads();
  for (int w = 0; w < warp; ++w) x += warp_sums[w];
  return x;
}

// Two levels that have pixels in common, or may have.
__device__ inline bool may_share_pixels(const Problem& problem, const Level* levels) {
  bool may = false;
  for (int l = 1; l < problem.L; ++l) {
    may |= levels[l].start < levels[l - 1].start + levels[l - 1].H * levels[l - 1].W;
  }
  return may;
}

// Floats one reduction instruction adds. Vector reductions came with Hopper and CUDA 12.1 (PTX 8.1); elsewhere the
// lanes of a group add single neighbouring floats, which memory still sees as whole sectors.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 && CUDART_VERSION >= 12010
template <typename A, int V>
constexpr int kReduceWidth = std::is_same<A, float>::value && V % 4 == 0 ? 4 : 1;

__device__ inline void add_to_memory(float* p, const float (&x)[4]) {
  asm volatile(
      "red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)),
      "f"(x[0]),
      "f"(x[1]),
      "f"(x[2]),
      "f"(x[3]));
}
#else
template <typename A, int V>
constexpr int kReduceWidth = 1;

__device__ inline void add_to_memory(float* p, const float (&x)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) atomicAdd(p + i, x[i]);
}
#endif

template <typename A>
__device__ inline void add_to_memory(A* p, const A (&x)[1]) {
  atomicAdd(p, x[0]);
}

// Sum x[0..15] over a group of T lanes so that each lane ends with 16/T of the sums; that of x[i] is with lane i * T
// / 16. Eight lanes need 14 shuffles, where summing each number by itself would take 48. A template per step: with the
// steps as a loop, nvcc indexes x at run time and puts it in local memory.
template <int distance, int count = 16, typename A>
__device__ inline void reduce_scatter_from(A (&x)[16]) {
  if constexpr (distance > 0) {
    if constexpr (count > 1) {
      const bool upper = threadIdx.x & distance;
#pragma unroll
      for (int i = 0; i < count / 2; ++i) {
        const A give = upper ? x[i] : x[i + count / 2], keep = upper ? x[i + count / 2] : x[i];
        x[i] = keep + __shfl_xor_sync(0xffffffffu, give, distance);
      }
      reduce_scatter_from<distance / 2, count / 2>(x);
    } else {
      x[0] += __shfl_xor_sync(0xffffffffu, x[0], distance);
      reduce_scatter_from<distance / 2, 1>(x);
    }
  }
}
template <int T, typename A>
__device__ inline void reduce_scatter(A (&x)[16]) {
  reduce_scatter_from<T / 2>(x);
}

// The sums of reduce_scatter, written where the whole group can read them.
template <int T, typename A>
__device__ inline void store_sums(const A (&x)[16], A* sums, int lane) {
  if constexpr (T <= 16) {
#pragma unroll
    for (int i = 0; i < 16 / T; ++i) sums[lane * (16 / T) + i] = x[i];
  } else if (lane % 2 == 0) {
    sums[lane / 2] = x[0];
  }
}

// As RACDINO_VARIANTS, but a lane's sums fill 16 bytes, whatever the values are stored in.
#define RACDINO_SUM_VARIANTS(X)              \
  RACDINO_VARIANTS_OF(X, double, float64, 2) \
  RACDINO_VARIANTS_OF(X, float, float32, 4)  \
  RACDINO_VARIANTS_OF(X, __half, float16, 4) \
  RACDINO_VARIANTS_OF(X, __nv_bfloat16, bfloat16, 4)

inline int sum_width(const Problem& problem, Type type) {
  const int full = type == Type::float64 ? 2 : 4;
  const bool fits = problem.D % full == 0 && aligned(problem.value) && aligned(problem.grad_output) &&
                    aligned(problem.grad_value);
  return fits ? full : 1;
}

}  // namespace racdino::cuda

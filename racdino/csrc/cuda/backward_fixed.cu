// Before and after the backward in fixed point: what sets its unit, and the way back.
#include "backward.cuh"

#include <algorithm>

namespace racdino::cuda {
namespace {

constexpr int kChannels = 4;  // of a lane, as in backward_by_cell.cu

__device__ inline unsigned larger(unsigned bits, float x) {
  const unsigned mine = __float_as_uint(x) & 0x7fffffffu;
  return mine < 0x7f800000u ? max(bits, mine) : bits;  // finite
}

__device__ inline void keep_larger(unsigned bits, uint32_t* largest) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, distance));
  if (threadIdx.x % 32 == 0) atomicMax(largest, bits);
}

template <typename T>
__device__ inline void find_largest(const Problem& problem, const FixedPoint& fixed) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, step = gridDim.x * kThreads;
  const int64_t rows = problem.B * problem.Q * problem.M;
  unsigned bits = 0;
  for (int64_t i = first; i < rows * problem.D / kChannels; i += step) {
    float x[kChannels];
    Pack<T, kChannels>::load(static_cast<const T*>(problem.grad_output) + i * kChannels).unpack(x);
#pragma unroll
    for (int e = 0; e < kChannels; ++e) bits = larger(bits, x[e]);
  }
  keep_larger(bits, fixed.largest);
  bits = 0;
  for (int64_t i = first; i < rows * problem.L * problem.P; i += step) {
    bits = larger(bits, __ldg(static_cast<const float*>(problem.weights) + i));
  }
  keep_larger(bits, fixed.largest + 1);
}

template <typename T>
__device__ inline void from_fixed(const Problem& problem, const FixedPoint& fixed) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int lanes = problem.D / kChannels, lane = i % lanes;
  const int64_t row = i / lanes;
  if (row >= problem.B * problem.S * problem.M) return;
  const float unit = ldexpf(1, -fixed_exponent(problem, fixed));
  float x[kChannels];
#pragma unroll
  for (int e = 0; e < kChannels; ++e) {
    const int64_t sum = fixed.sums[row * problem.D + e * lanes + lane];
    x[e] = sum < -(int64_t{1} << 61) ? __int_as_float(0x7fc00000) : __ll2float_rn(sum) * unit;
  }
  Pack<T, kChannels>::pack(x).store(static_cast<T*>(problem.grad_value) + i * kChannels);
}

}  // namespace

#define RACDINO_TYPES(X) X(float, float32) X(__half, float16) X(__nv_bfloat16, bfloat16)

#define RACDINO_KERNEL(type, name)                                                   \
  extern "C" __global__ void __launch_bounds__(kThreads)                             \
      ms_deform_attn_largest_##name(const Problem problem, const FixedPoint fixed) { \
    find_largest<type>(problem, fixed);                                              \
  }                                                                                  \
  extern "C" __global__ void __launch_bounds__(kThreads)                             \
      ms_deform_attn_from_fixed_##name(const Problem problem, const FixedPoint fixed) { \
    from_fixed<type>(problem, fixed);                                                \
  }
RACDINO_TYPES(RACDINO_KERNEL)
#undef RACDINO_KERNEL

cudaError_t launch_largest(const Problem& problem, Type type, const FixedPoint& fixed, cudaStream_t stream) {
  constexpr unsigned blocks = 1024;
#define RACDINO_LAUNCH(element, name) \
  if (type == Type::name) ms_deform_attn_largest_##name<<<blocks, kThreads, 0, stream>>>(problem, fixed);
  RACDINO_TYPES(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

cudaError_t launch_from_fixed(const Problem& problem, Type type, const FixedPoint& fixed, cudaStream_t stream) {
  const int64_t threads = problem.B * problem.S * problem.M * problem.D / kChannels;
  const unsigned blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
#define RACDINO_LAUNCH(element, name) \
  if (type == Type::name) ms_deform_attn_from_fixed_##name<<<blocks, kThreads, 0, stream>>>(problem, fixed);
  RACDINO_TYPES(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

}  // namespace racdino::cuda

// What the two forward kernels share: the weighted sum over samples.
#pragma once

#include "common.cuh"

namespace racdino::cuda {

constexpr int kBatch = 2;  // samples in flight per lane; 1 and 4 measure the same on an H200

// sum += `count` samples, each of four weighted corners; all loads are issued before the first is used.
template <int count, typename T, int V>
__device__ inline void gather(
    const char* value,
    unsigned stride,
    const Place* place,
    const Four<Accumulate<T>>* weight,
    Accumulate<T> (&sum)[V]) {
  Pack<T, V> corner[count][4];
#pragma unroll
  for (int j = 0; j < count; ++j) {
    const Place here = place[j];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      corner[j][c] = Pack<T, V>::load(value + static_cast<uint64_t>(here.corner(c)) * stride);
    }
  }
#pragma unroll
  for (int j = 0; j < count; ++j) {
    const Four<Accumulate<T>> w = weight[j];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      Accumulate<T> x[V];
      corner[j][c].unpack(x);
#pragma unroll
      for (int i = 0; i < V; ++i) sum[i] += w.x[c] * x[i];
    }
  }
}

}  // namespace racdino::cuda

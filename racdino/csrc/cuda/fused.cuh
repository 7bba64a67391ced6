// What the kernels of the fused operator share: where a sample lies from its reference, and the softmax of a row.
#pragma once

#include "common.cuh"

namespace racdino::cuda {

// The type 16-bit offsets and logits are widened to is that of all sums.
template <typename S>
__device__ inline Accumulate<S> read(const S* p) {
  Accumulate<S> x[1];
  Pack<S, 1>::load(p).unpack(x);
  return x[0];
}

// A query's reference on one level.
template <typename A>
struct Reference {
  A x, y;
  A half_w, half_h;  // half a box over the number of points; 0: a point, whose offsets are in pixels

  __device__ Reference() : x(0), y(0), half_w(0), half_h(0) {}
  // share: half over the number of points.
  __device__ Reference(const Fusion& fusion, A share, int64_t b, int64_t q, int l) : Reference() {
    const A* at = static_cast<const A*>(fusion.reference) + b * fusion.batch_step + q * fusion.query_step +
                  l * fusion.level_step;
    x = __ldg(at);
    y = __ldg(at + 1);
    if (fusion.boxes) {
      half_w = share * __ldg(at + 2);
      half_h = share * __ldg(at + 3);
    }
  }
};

// The softmax of a row of n logits, by the kLanes lanes of a group; every lane of the warp takes part. The weights are
// exp(logit - largest) * scale.
template <int kLanes, typename A>
struct Softmax {
  A largest = 0, scale = 0;

  Softmax() = default;
  template <typename S>
  __device__ Softmax(const S* logits, int n, int lane) {
    largest = -INFINITY;
    for (int s = lane; s < n; s += kLanes) largest = max(largest, read(logits + s));
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
    }
    A sum = 0;
    for (int s = lane; s < n; s += kLanes) sum += exp(read(logits + s) - largest);
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    }
    scale = 1 / sum;
  }
  __device__ A weight(A logit) const { return exp(logit - largest) * scale; }
};

// X(storage, name): what offsets and logits may be stored in.
#define RACDINO_STORAGES(X) \
  X(double, float64) X(float, float32) X(__half, float16) X(__nv_bfloat16, bfloat16)

}  // namespace racdino::cuda

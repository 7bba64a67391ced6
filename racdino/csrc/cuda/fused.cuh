// What the kernels of the fused operator share: where a sample lies from its reference, and the softmax of a row.
#pragma once

#include "common.cuh"

namespace racdino::cuda {

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
    if (reinterpret_cast<uintptr_t>(at) % (2 * sizeof(A)) == 0) {
      read_pair<true>(at, x, y);
    } else {
      read_pair<false>(at, x, y);
    }
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
  A largest, scale;

  // This lane's first kUnit logits, loaded by themselves so that those of several rows can be under way together.
  template <int kUnit, typename S>
  __device__ static void begin(const S* logits, int n, int lane, A (&x)[kUnit]) {
    if (lane * kUnit < n) {
      Pack<S, kUnit>::load(logits + lane * kUnit).unpack(x);
    } else {
#pragma unroll
      for (int i = 0; i < kUnit; ++i) x[i] = -INFINITY;
    }
  }
  template <int kUnit, typename S>
  __device__ static Softmax of(const S* logits, int n, int lane, const A (&first)[kUnit]) {
    Softmax row;
    row.largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kUnit; ++i) row.largest = max(row.largest, first[i]);
#pragma unroll 1
    for (int s = kLanes * kUnit + lane; s < n; s += kLanes) row.largest = max(row.largest, read(logits + s));
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      row.largest = max(row.largest, __shfl_xor_sync(0xffffffffu, row.largest, distance));
    }
    A sum = 0;
#pragma unroll
    for (int i = 0; i < kUnit; ++i) sum += exp(first[i] - row.largest);
#pragma unroll 1
    for (int s = kLanes * kUnit + lane; s < n; s += kLanes) sum += exp(read(logits + s) - row.largest);
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    }
    row.scale = 1 / sum;
    return row;
  }
  template <typename S>
  __device__ static Softmax of(const S* logits, int n, int lane) {
    A first[1];
    begin(logits, n, lane, first);
    return of(logits, n, lane, first);
  }
  __device__ A weight(A logit) const { return exp(logit - largest) * scale; }
};

// X(storage, name): what offsets and logits may be stored in.
#define RACDINO_STORAGES(X) \
  X(double, float64) X(float, float32) X(__half, float16) X(__nv_bfloat16, bfloat16)

}  // namespace racdino::cuda

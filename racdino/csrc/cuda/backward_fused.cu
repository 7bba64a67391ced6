// The two ends of the fused operator's backward; between them the plain operator's backward does its work. Softmax:
//   grad_logit = weight * (grad_weight - sum over the row of weight * grad_weight)
#include "fused.cuh"

#include <algorithm>

namespace racdino::cuda {
namespace {

constexpr int kRowLanes = 4;       // lanes that share a row of (B, Q, M)
constexpr int64_t kBlocks = 4096;  // at most; a block then serves several times its rows with one table of levels

struct Row {
  int64_t row, b, q;
  int lane;
  bool active;  // false: a spare group at the end, which works on the last row and stores nothing

  __device__ Row(const Problem& problem, int64_t turn) {
    const int64_t rows = problem.B * problem.Q * problem.M;
    row = turn * (kThreads / kRowLanes) + threadIdx.x / kRowLanes;
    active = row < rows;
    if (!active) row = rows - 1;
    b = row / problem.M / problem.Q;
    q = row / problem.M % problem.Q;
    lane = threadIdx.x % kRowLanes;
  }
  // What it takes for each row to have had its turn.
  __host__ __device__ static int64_t turns(const Problem& problem) {
    constexpr int rows = kThreads / kRowLanes;
    return (problem.B * problem.Q * problem.M + rows - 1) / rows;
  }
  static unsigned blocks(const Problem& problem) { return static_cast<unsigned>(std::min(turns(problem), kBlocks)); }
};

template <typename S>
__device__ inline void locate(
    const Problem& problem,
    const Fusion& fusion,
    const Level* levels,
    const Row& row,
    Accumulate<S>* locations,
    Accumulate<S>* weights) {
  using A = Accumulate<S>;
  const int n = problem.L * problem.P;
  const int64_t first = row.row * n;
  const S* offsets = static_cast<const S*>(fusion.offsets);
  const S* logits = static_cast<const S*>(fusion.logits) + first;
  const auto softmax = Softmax<kRowLanes, A>::of(logits, n, row.lane);
  if (!row.active) return;
  for (int s = row.lane; s < n; s += kRowLanes) {
    const int l = s / problem.P;
    const Level level = levels[l];
    const Reference<A> reference(fusion, A(0.5) / problem.P, row.b, row.q, l);
    const A x = read(offsets + 2 * (first + s)), y = read(offsets + 2 * (first + s) + 1);
    locations[2 * (first + s)] = reference.x + (fusion.boxes ? x * reference.half_w : x / level.W);
    locations[2 * (first + s) + 1] = reference.y + (fusion.boxes ? y * reference.half_h : y / level.H);
    weights[first + s] = softmax.weight(read(logits + s));
  }
}

template <typename S>
__device__ inline void unlocate(
    const Problem& problem, const Fusion& fusion, const Level* levels, const Row& row, S* grad_offsets, S* grad_logits) {
  using A = Accumulate<S>;
  const int n = problem.L * problem.P;
  const int64_t first = row.row * n;
  const A* weights = static_cast<const A*>(problem.weights) + first;
  const A* grad_weights = static_cast<const A*>(problem.grad_weights) + first;
  const A* grad_locations = static_cast<const A*>(problem.grad_locations) + 2 * first;
  A mean = 0;
  if (grad_logits) {
    for (int s = row.lane; s < n; s += kRowLanes) mean += weights[s] * grad_weights[s];
#pragma unroll
    for (int distance = kRowLanes / 2; distance > 0; distance /= 2) {
      mean += __shfl_xor_sync(0xffffffffu, mean, distance);
    }
  }
  if (!row.active) return;
  for (int s = row.lane; s < n; s += kRowLanes) {
    if (grad_logits) grad_logits[first + s] = narrow<S>(weights[s] * (grad_weights[s] - mean));
    if (!grad_offsets) continue;
    const int l = s / problem.P;
    const Level level = levels[l];
    const Reference<A> reference(fusion, A(0.5) / problem.P, row.b, row.q, l);
    const A x = grad_locations[2 * s], y = grad_locations[2 * s + 1];
    grad_offsets[2 * (first + s)] = narrow<S>(fusion.boxes ? x * reference.half_w : x / level.W);
    grad_offsets[2 * (first + s) + 1] = narrow<S>(fusion.boxes ? y * reference.half_h : y / level.H);
  }
}

// Every row its turn; all threads of a block take as many, since those of a warp sum together.
template <typename F>
__device__ inline void each_row(const Problem& problem, F work) {
  extern __shared__ Level levels[];
  load_levels(problem, levels);
  for (int64_t turn = blockIdx.x; turn < Row::turns(problem); turn += gridDim.x) work(levels, Row(problem, turn));
}

}  // namespace

#define RACDINO_KERNEL(S, stored)                                                                        \
  extern "C" __global__ void __launch_bounds__(kThreads) ms_deform_attn_locate_##stored(                 \
      const Problem problem, const Fusion fusion, Accumulate<S>* locations, Accumulate<S>* weights) {    \
    each_row(problem, [&](const Level* levels, const Row& row) {                                         \
      locate<S>(problem, fusion, levels, row, locations, weights);                                       \
    });                                                                                                  \
  }                                                                                                      \
  extern "C" __global__ void __launch_bounds__(kThreads) ms_deform_attn_unlocate_##stored(               \
      const Problem problem, const Fusion fusion, S* grad_offsets, S* grad_logits) {                     \
    each_row(problem, [&](const Level* levels, const Row& row) {                                         \
      unlocate<S>(problem, fusion, levels, row, grad_offsets, grad_logits);                              \
    });                                                                                                  \
  }
RACDINO_STORAGES(RACDINO_KERNEL)
#undef RACDINO_KERNEL

cudaError_t launch_locate(
    const Problem& problem, const Fusion& fusion, void* locations, void* weights, cudaStream_t stream) {
#define RACDINO_LAUNCH(S, stored)                                                                              \
  if (fusion.storage == Type::stored) {                                                                        \
    ms_deform_attn_locate_##stored<<<Row::blocks(problem), kThreads, problem.L * sizeof(Level), stream>>>(     \
        problem, fusion, static_cast<Accumulate<S>*>(locations), static_cast<Accumulate<S>*>(weights));        \
  }
  RACDINO_STORAGES(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

cudaError_t launch_unlocate(
    const Problem& problem, const Fusion& fusion, void* grad_offsets, void* grad_logits, cudaStream_t stream) {
#define RACDINO_LAUNCH(S, stored)                                                                              \
  if (fusion.storage == Type::stored) {                                                                        \
    ms_deform_attn_unlocate_##stored<<<Row::blocks(problem), kThreads, problem.L * sizeof(Level), stream>>>(   \
        problem, fusion, static_cast<S*>(grad_offsets), static_cast<S*>(grad_logits));                         \
  }
  RACDINO_STORAGES(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

}  // namespace racdino::cuda

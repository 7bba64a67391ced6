// Forward of the fused operator: as forward.cu, with each sample's location and weight made from its reference, offset
// and logit by the lane that would have loaded them.
#include "fused.cuh"
#include "gather.cuh"

namespace racdino::cuda {
namespace {

template <typename T, int V, int kLanes, typename S>
__device__ inline void forward_fused(const Problem& problem, const Fusion& fusion) {
  using A = Accumulate<T>;
  extern __shared__ Level levels[];
  // One spare slot per group: the groups of a warp read different banks.
  __shared__ Four<A> weight[kThreads + kThreads / kLanes];
  __shared__ Place place[kThreads + kThreads / kLanes];

  const Task<kLanes> task(problem);
  const int n = problem.L * problem.P, chunks = problem.D / V, base = task.group * (kLanes + 1);
  const S* offsets = static_cast<const S*>(fusion.offsets) + 2 * task.row * n;
  const S* logits = static_cast<const S*>(fusion.logits) + task.row * n;
  const unsigned stride = static_cast<unsigned>(problem.M * problem.D * sizeof(T));
  const char* value = static_cast<const char*>(problem.value) +
                      (task.b * problem.S * problem.M + task.m) * problem.D * static_cast<int64_t>(sizeof(T));
  char* output = static_cast<char*>(problem.output) + task.row * problem.D * static_cast<int64_t>(sizeof(T));

  A x = 0, y = 0, logit = 0;  // of this lane's sample, loaded one round ahead
  Reference<A> reference;
  const auto fetch = [&](int s) {
    if (s >= n) return;
    x = read(offsets + 2 * s);
    y = read(offsets + 2 * s + 1);
    logit = read(logits + s);
    reference = Reference<A>(problem, fusion, task.b, task.q, s / problem.P);
  };
  fetch(task.lane);
  const Softmax<kLanes, A> softmax(logits, n, task.lane);
  load_levels(problem, levels);

  for (int first = 0; first < chunks; first += kLanes) {
    const int chunk = first + task.lane;
    const int64_t offset = static_cast<int64_t>(chunk) * V * sizeof(T);
    A sum[V] = {};
    for (int s0 = 0; s0 < n; s0 += kLanes) {
      const int s = s0 + task.lane, count = min(kLanes, n - s0);
      Corners<A> corners;
      A a = 0;
      if (s < n) {
        const Level level = levels[s / problem.P];
        const A scale_x = fusion.boxes ? reference.half_w * level.W : A(1);
        const A scale_y = fusion.boxes ? reference.half_h * level.H : A(1);
        corners = Corners<A>(
            cell_at(
                reference.x * level.W + x * scale_x - A(0.5), reference.y * level.H + y * scale_y - A(0.5), level),
            level);
        a = softmax.weight(logit);
      }
      __syncwarp();  // the previous round has been read
      weight[base + task.lane] = corners.factors(a);
      place[base + task.lane] = {corners.pixel, corners.step};
      const bool all_inside = __all_sync(0xffffffffu, s >= n || corners.pixel >= 0);
      __syncwarp();
      if (s0 + kLanes < n) {
        fetch(s + kLanes);
      } else if (first + kLanes < chunks) {
        fetch(task.lane);
      }
      if (chunk >= chunks) continue;
      int j = 0;
      if (all_inside) {
        for (; j + kBatch <= count; j += kBatch) {
          gather<kBatch, T>(value + offset, stride, place + base + j, weight + base + j, sum);
        }
      }
      for (; j < count; ++j) {
        if (place[base + j].pixel >= 0) gather<1, T>(value + offset, stride, place + base + j, weight + base + j, sum);
      }
    }
    if (task.active && chunk < chunks) Pack<T, V>::pack(sum).store(output + offset);
  }
}

}  // namespace

// Offsets and logits in the type of sums, or in 16 bits like the values: X(type, name, storage, its name, V, T).
#define RACDINO_FUSED_VARIANTS_OF(X, type, name, S, stored, V)                                             \
  X(type, name, S, stored, V, 4) X(type, name, S, stored, V, 8) X(type, name, S, stored, V, 16)            \
  X(type, name, S, stored, V, 32) X(type, name, S, stored, 1, 8) X(type, name, S, stored, 1, 32)
#define RACDINO_FUSED_VARIANTS(X)                                       \
  RACDINO_FUSED_VARIANTS_OF(X, double, float64, double, float64, 2)     \
  RACDINO_FUSED_VARIANTS_OF(X, float, float32, float, float32, 4)       \
  RACDINO_FUSED_VARIANTS_OF(X, __half, float16, float, float32, 8)      \
  RACDINO_FUSED_VARIANTS_OF(X, __half, float16, __half, float16, 8)     \
  RACDINO_FUSED_VARIANTS_OF(X, __nv_bfloat16, bfloat16, float, float32, 8) \
  RACDINO_FUSED_VARIANTS_OF(X, __nv_bfloat16, bfloat16, __nv_bfloat16, bfloat16, 8)

#define RACDINO_KERNEL(type, name, S, stored, V, T)                                                      \
  extern "C" __global__ void __launch_bounds__(kThreads)                                                 \
      ms_deform_attn_fused_##name##_##stored##_v##V##_t##T(const Problem problem, const Fusion fusion) { \
    forward_fused<type, V, T, S>(problem, fusion);                                                       \
  }
RACDINO_FUSED_VARIANTS(RACDINO_KERNEL)
#undef RACDINO_KERNEL

cudaError_t launch_forward_fused(const Problem& problem, const Fusion& fusion, Type type, cudaStream_t stream) {
  const int width = vector_width(problem, type), lanes = lanes_for(problem.D, width);
#define RACDINO_LAUNCH(element, name, S, stored, V, T)                                       \
  if (type == Type::name && fusion.storage == Type::stored && width == V && lanes == T) {    \
    ms_deform_attn_fused_##name##_##stored##_v##V##_t##T<<<                                  \
        static_cast<unsigned>(Task<T>::blocks(problem)),                                     \
        kThreads,                                                                            \
        problem.L * sizeof(Level),                                                           \
        stream>>>(problem, fusion);                                                          \
  }
  RACDINO_FUSED_VARIANTS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

}  // namespace racdino::cuda

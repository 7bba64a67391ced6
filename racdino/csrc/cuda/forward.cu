// Forward: out[b,q,m,:] = sum over samples of weight * bilinear(value).
#include "common.cuh"

namespace racdino::cuda {
namespace {

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

template <typename T, int V, int kLanes>
__device__ inline void forward(const Problem& problem) {
  using A = Accumulate<T>;
  extern __shared__ Level levels[];
  // One spare slot per group: the groups of a warp read different banks.
  __shared__ Four<A> weight[kThreads + kThreads / kLanes];
  __shared__ Place place[kThreads + kThreads / kLanes];

  const Task<kLanes> task(problem);
  const int n = problem.L * problem.P, chunks = problem.D / V, base = task.group * (kLanes + 1);
  const A* locations = static_cast<const A*>(problem.locations) + 2 * task.row * n;
  const A* weights = static_cast<const A*>(problem.weights) + task.row * n;
  const unsigned stride = static_cast<unsigned>(problem.M * problem.D * sizeof(T));
  const char* value = static_cast<const char*>(problem.value) +
                      (task.b * problem.S * problem.M + task.m) * problem.D * static_cast<int64_t>(sizeof(T));
  char* output = static_cast<char*>(problem.output) + task.row * problem.D * static_cast<int64_t>(sizeof(T));

  A x = 0, y = 0, a = 0;  // of this lane's sample, loaded one round ahead: the first while the table of levels is
  const auto fetch = [&](int s) {
    if (s >= n) return;
    x = __ldg(locations + 2 * s);
    y = __ldg(locations + 2 * s + 1);
    a = __ldg(weights + s);
  };
  fetch(task.lane);
  load_levels(problem, levels);

  for (int first = 0; first < chunks; first += kLanes) {
    const int chunk = first + task.lane;
    const int64_t offset = static_cast<int64_t>(chunk) * V * sizeof(T);
    A sum[V] = {};
    for (int s0 = 0; s0 < n; s0 += kLanes) {
      const int s = s0 + task.lane, count = min(kLanes, n - s0);
      Corners<A> corners;
      if (s < n) {
        const Level level = levels[s / problem.P];
        corners = Corners<A>(cell_of(x, y, level), level);
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

#define RACDINO_KERNEL(type, name, V, T)                                   \
  extern "C" __global__ void __launch_bounds__(kThreads)                   \
      ms_deform_attn_forward_##name##_v##V##_t##T(const Problem problem) { \
    forward<type, V, T>(problem);                                          \
  }
RACDINO_VARIANTS(RACDINO_KERNEL)
#undef RACDINO_KERNEL

cudaError_t launch_forward(const Problem& problem, Type type, cudaStream_t stream) {
  const int width = vector_width(problem, type), lanes = lanes_for(problem.D, width);
#define RACDINO_LAUNCH(element, name, V, T)              \
  if (type == Type::name && width == V && lanes == T) {  \
    ms_deform_attn_forward_##name##_v##V##_t##T<<<       \
        static_cast<unsigned>(Task<T>::blocks(problem)), \
        kThreads,                                        \
        problem.L * sizeof(Level),                       \
        stream>>>(problem);                              \
  }
  RACDINO_VARIANTS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

}  // namespace racdino::cuda

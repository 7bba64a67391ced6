// grad_value without atomics: samples are sorted by the cell they fall into, then every pixel collects its four cells
// in that order. The order of every sum is fixed, so the result is bitwise the same in every run.
#include "common.cuh"

namespace racdino::cuda {
namespace {

// The pixel a cell is filed under: its first corner, moved inside the level. Cells over the border share the key of
// their neighbours inside; whoever reads them computes the factors again and is not misled.
template <typename A>
__device__ inline void sample_keys(const Problem& problem, int64_t* keys) {
  extern __shared__ Level levels[];
  load_levels(problem, levels);
  const int n = problem.L * problem.P;
  const int64_t samples = problem.B * problem.Q * problem.M * n;
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i >= samples) return;
  const Level level = levels[i % n / problem.P];
  const int64_t row = i / n, b = row / problem.M / problem.Q, m = row % problem.M;
  const A* location = static_cast<const A*>(problem.locations) + 2 * i;
  const Corners<A> corners(cell_of(location[0], location[1], level), level);
  keys[i] = corners.pixel < 0 ? problem.B * problem.M * problem.S : (b * problem.M + m) * problem.S + corners.pixel;
}

// A warp or a whole block per (batch, pixel, head): its groups take the samples in turn, their sums are added in the
// order of groups. A block pays where a pixel is sampled often.
template <typename T, int V, int kLanes>
__device__ inline void sorted_value_gradient(
    const Problem& problem, const int64_t* order, const int64_t* first, int threads_per_pixel) {
  using A = Accumulate<T>;
  extern __shared__ Level levels[];
  __shared__ A partial[kThreads][V];
  load_levels(problem, levels);
  const int groups = threads_per_pixel / kLanes, thread = threadIdx.x % threads_per_pixel;
  const int n = problem.L * problem.P, group = thread / kLanes, lane = thread % kLanes;
  const int64_t rows = problem.B * problem.S * problem.M;
  const int64_t mine =
      static_cast<int64_t>(blockIdx.x) * (kThreads / threads_per_pixel) + threadIdx.x / threads_per_pixel;
  const unsigned row = static_cast<unsigned>(mine < rows ? mine : rows - 1);  // spare warps repeat the last row
  const int m = row % problem.M, pixel = row / problem.M % static_cast<unsigned>(problem.S);
  const int64_t head =
      (row / problem.M / static_cast<unsigned>(problem.S) * static_cast<int64_t>(problem.M) + m) * problem.S;
  const A* locations = static_cast<const A*>(problem.locations);
  const A* weights = static_cast<const A*>(problem.weights);
  const T* grad_output = static_cast<const T*>(problem.grad_output);
  T* grad_value = static_cast<T*>(problem.grad_value) + static_cast<int64_t>(row) * problem.D;

  for (int first_channel = 0; first_channel < problem.D; first_channel += kLanes * V) {
    const int channel = first_channel + lane * V;
    A sum[V] = {};
    for (int l = 0; l < problem.L; ++l) {
      const Level level = levels[l];
      const int inner = pixel - level.start;
      if (inner < 0 || inner >= level.H * level.W) continue;
      const int x = inner % level.W, y = inner / level.W;
      for (int c = 0; c < 4; ++c) {
        const int key_x = x - (c & 1), key_y = y - (c >> 1);
        if (key_x < 0 || key_y < 0) continue;
        const int64_t key = head + level.start + key_y * level.W + key_x;
        for (int64_t j = first[key] + group; j < first[key + 1]; j += groups) {
          const int64_t i = order[j];
          if (i % n / problem.P != l) continue;  // of another level that shares these pixels
          const Cell<A> cell = cell_of(__ldg(locations + 2 * i), __ldg(locations + 2 * i + 1), level);
          const int dx = x - cell.x0, dy = y - cell.y0;
          if (dx < 0 || dx > 1 || dy < 0 || dy > 1 || channel >= problem.D) continue;
          const A w = (dx ? cell.lx : 1 - cell.lx) * (dy ? cell.ly : 1 - cell.ly) * __ldg(weights + i);
          A g[V];
          Pack<T, V>::load(grad_output + i / n * problem.D + channel).unpack(g);
#pragma unroll
          for (int k = 0; k < V; ++k) sum[k] += w * g[k];
        }
      }
    }
    __syncthreads();  // the previous channels have been read
#pragma unroll
    for (int k = 0; k < V; ++k) partial[threadIdx.x][k] = sum[k];
    __syncthreads();
    if (group == 0 && mine < rows && channel < problem.D) {
      for (int other = 1; other < groups; ++other) {
#pragma unroll
        for (int k = 0; k < V; ++k) sum[k] += partial[threadIdx.x + other * kLanes][k];
      }
      Pack<T, V>::pack(sum).store(grad_value + channel);
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
    ms_deform_attn_sample_keys_float64(const Problem problem, int64_t* keys) {
  sample_keys<double>(problem, keys);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    ms_deform_attn_sample_keys_float32(const Problem problem, int64_t* keys) {
  sample_keys<float>(problem, keys);
}

cudaError_t launch_sample_keys(const Problem& problem, Type type, int64_t* keys, cudaStream_t stream) {
  const int64_t samples = problem.B * problem.Q * problem.M * problem.L * problem.P;
  const unsigned blocks = static_cast<unsigned>((samples + kThreads - 1) / kThreads);
  const auto kernel = type == Type::float64 ? ms_deform_attn_sample_keys_float64 : ms_deform_attn_sample_keys_float32;
  kernel<<<blocks, kThreads, problem.L * sizeof(Level), stream>>>(problem, keys);
  return cudaGetLastError();
}

#define RACDINO_KERNEL(type, name, V, T)                                                                      \
  extern "C" __global__ void __launch_bounds__(kThreads) ms_deform_attn_backward_sorted_##name##_v##V##_t##T( \
      const Problem problem, const int64_t* order, const int64_t* first, int threads) {                       \
    sorted_value_gradient<type, V, T>(problem, order, first, threads);                                        \
  }
RACDINO_VARIANTS(RACDINO_KERNEL)
#undef RACDINO_KERNEL

cudaError_t launch_sorted_value_gradient(
    const Problem& problem, Type type, const int64_t* order, const int64_t* first, cudaStream_t stream) {
  const int width = vector_width(problem, type), lanes = lanes_for(problem.D, width);
  const bool often = problem.Q * problem.L * problem.P >= 8 * problem.S;  // each sample is read from four pixels
  const int threads = often ? kThreads : 32, pixels = kThreads / threads;
  const unsigned blocks = static_cast<unsigned>((problem.B * problem.S * problem.M + pixels - 1) / pixels);
#define RACDINO_LAUNCH(element, name, V, T)                                                                       \
  if (type == Type::name && width == V && lanes == T) {                                                           \
    ms_deform_attn_backward_sorted_##name##_v##V##_t##T<<<blocks, kThreads, problem.L * sizeof(Level), stream>>>( \
        problem, order, first, threads);                                                                          \
  }
  RACDINO_VARIANTS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

}  // namespace racdino::cuda

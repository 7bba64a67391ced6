// grad_value without atomics, in a fixed order, so that the result is bitwise the same in every run: file every sample
// under its cell, sort (sort.cu), add up equal stretches of the sorted samples cell by cell, collect the sums pixel by
// pixel. Stretches are of equal length whatever the cells hold, so that a cell sampled often keeps nobody waiting.
#include "backward.cuh"

namespace racdino::cuda {
namespace {

template <typename A>
__device__ inline void file(const Problem& problem, const Samples& samples) {
  extern __shared__ Level levels[];
  load_levels(problem, levels);
  const unsigned i = blockIdx.x * kThreads + threadIdx.x, n = problem.L * problem.P;
  if (i >= samples.count) return;
  const Level level = levels[i % n / problem.P];
  const unsigned row = i / n, head = row / problem.M / static_cast<unsigned>(problem.Q) * problem.M + row % problem.M;
  const A* location = static_cast<const A*>(problem.locations) + 2 * static_cast<int64_t>(i);
  const Cell<A> cell = cell_of(__ldg(location), __ldg(location + 1), level);
  samples.cell[i] = static_cast<uint32_t>(
      cell.inside ? head * problem.S + Slots<A>(cell, level).pixel : samples.cells);
  samples.sample[i] = i;
}

// What one sample adds to its cell, for its group to read.
template <typename A>
struct Share {
  Four<A> weight;  // of each corner
  unsigned cell, row;
};

// The weights of sample i at the corners of its cell, 0 where it has none.
template <typename A>
__device__ inline Four<A> corner_weights(const Problem& problem, unsigned i, const Level& level) {
  const A* location = static_cast<const A*>(problem.locations) + 2 * static_cast<int64_t>(i);
  const Slots<A> slots(cell_of(__ldg(location), __ldg(location + 1), level), level);
  const A a = __ldg(static_cast<const A*>(problem.weights) + i);
  Four<A> weight;
#pragma unroll
  for (int c = 0; c < 4; ++c) weight.x[c] = slots.used(c) ? slots.factor(c) * a : A(0);
  return weight;
}

// A group of lanes per stretch. Each lane prepares one sample of a round, then the group takes them one by one, with the
// rows of grad_output of kAhead samples on their way.
template <typename T, int V, int kLanes>
__device__ inline void add_up(const Problem& problem, const Samples& sorted, int2* ranges, Accumulate<T>* sums) {
  using A = Accumulate<T>;
  constexpr int kAhead = 4;
  extern __shared__ Level levels[];
  __shared__ Share<A> shares[kThreads + kThreads / kLanes];  // a spare one per group, as in forward.cu
  load_levels(problem, levels);
  const int group = threadIdx.x / kLanes, lane = threadIdx.x % kLanes, base = group * (kLanes + 1);
  const int64_t stretch = static_cast<int64_t>(blockIdx.x) * (kThreads / kLanes) + group;
  const unsigned n = problem.L * problem.P, nowhere = static_cast<unsigned>(sorted.cells);
  const T* grad_output = static_cast<const T*>(problem.grad_output);

  for (int first = 0; first < problem.D; first += kLanes * V) {
    const int channel = first + lane * V;
    unsigned here = nowhere;
    A sum[4][V] = {};
    const auto store = [&](bool carried) {
      if (here == nowhere || channel >= problem.D) return;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if (carried && c % 2 == 1) continue;
        Pack<A, V>::pack(sum[c]).store(sums + ((here + stretch) * 4 + c) * problem.D + channel);
      }
    };
    for (int j0 = 0; j0 < kStretch; j0 += kLanes) {
      const int64_t j = stretch * kStretch + j0 + lane;
      Share<A> mine = {{}, nowhere, 0};
      if (j < sorted.count) mine.cell = sorted.cell[j];
      if (mine.cell != nowhere) {
        const unsigned i = sorted.sample[j];
        mine.row = i / n;
        mine.weight = corner_weights<A>(problem, i, levels[i % n / problem.P]);
        if (j == 0 || sorted.cell[j - 1] != mine.cell) ranges[mine.cell].x = static_cast<int>(j);
        if (j + 1 == sorted.count || sorted.cell[j + 1] != mine.cell) ranges[mine.cell].y = static_cast<int>(j) + 1;
      }
      __syncwarp();  // the previous round has been read
      shares[base + lane] = mine;
      __syncwarp();
#pragma unroll
      for (int k0 = 0; k0 < kLanes; k0 += kAhead) {
        Pack<T, V> packed[kAhead] = {};
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
          const unsigned row = shares[base + k0 + k].row;
          if (channel < problem.D) {
            packed[k] = Pack<T, V>::load(grad_output + static_cast<int64_t>(row) * problem.D + channel);
          }
        }
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
          const Share<A> share = shares[base + k0 + k];
          if (share.cell != here) {
            // Right corners are the left ones of the next cell, which takes their sums along. At the end of a row, and
            // so of a level, there are none, and the sums are zeros.
            const bool carried = share.cell == here + 1;
            store(carried);
            here = share.cell;
#pragma unroll
            for (int c = 0; c < 4; c += 2) {
#pragma unroll
              for (int e = 0; e < V; ++e) {
                sum[c][e] = carried ? sum[c + 1][e] : A(0);
                sum[c + 1][e] = 0;
              }
            }
          }
          A g[V];
          packed[k].unpack(g);
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            if (share.weight.x[c] == A(0)) continue;  // no corner of this sample: what is not a number stays out
#pragma unroll
            for (int e = 0; e < V; ++e) sum[c][e] += share.weight.x[c] * g[e];
          }
        }
      }
    }
    store(false);
  }
}

// add(packed, weight) for what each sample of a cell adds to one of its corners. For levels that share pixels: their
// samples share cells, but not their neighbours.
template <typename T, int V, typename Add>
__device__ inline void each_sample(
    const Problem& problem,
    const Samples& sorted,
    int2 range,
    int l,
    const Level& level,
    int corner,
    int channel,
    Add add) {
  using A = Accumulate<T>;
  const unsigned n = problem.L * problem.P;
  for (int j = range.x; j < range.y; ++j) {
    const unsigned i = sorted.sample[j];
    if (i % n / problem.P != l) continue;
    const A weight = corner_weights<A>(problem, i, level).x[corner];
    if (weight == A(0)) continue;
    const T* row = static_cast<const T*>(problem.grad_output) + i / n * static_cast<int64_t>(problem.D);
    add(Pack<T, V>::load(row + channel), weight);
  }
}

// A group per (batch, head, pixel). What the first stretch of each of the four cells around the pixel has is loaded
// together.
template <typename T, int V, int kLanes>
__device__ inline void collect(
    const Problem& problem, const Samples& sorted, const int2* ranges, const Accumulate<T>* sums) {
  using A = Accumulate<T>;
  extern __shared__ Level levels[];
  load_levels(problem, levels);
  const int lane = threadIdx.x % kLanes;
  const unsigned cell = blockIdx.x * (kThreads / kLanes) + threadIdx.x / kLanes, S = static_cast<unsigned>(problem.S);
  if (cell >= sorted.cells) return;
  const unsigned head = cell / S, b = head / problem.M, m = head - b * problem.M;
  const int pixel = static_cast<int>(cell - head * S);
  const int64_t row = (b * problem.S + pixel) * problem.M + m;
  const bool by_sample = may_share_pixels(problem, levels);

  for (int channel = lane * V; channel < problem.D; channel += kLanes * V) {
    A sum[V] = {};
    const auto add = [&](const auto& packed, A weight) {
      A x[V];
      packed.unpack(x);
#pragma unroll
      for (int e = 0; e < V; ++e) sum[e] += weight * x[e];
    };
    for (int l = 0; l < problem.L; ++l) {
      const Level level = levels[l];
      const int inner = pixel - level.start;
      if (inner < 0 || inner >= level.H * level.W) continue;
      const int x = inner % level.W, y = inner / level.W;
      int2 range[4];
      int stretch[4], last[4];
      Pack<A, V> packed[4] = {};
      const auto cell_of_corner = [&](int c) { return static_cast<int64_t>(cell) - c % 2 - c / 2 * level.W; };
      const auto sums_of = [&](int c, int of_stretch) {
        return Pack<A, V>::load(sums + ((cell_of_corner(c) + of_stretch) * 4 + c) * problem.D + channel);
      };
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        range[c] = x >= c % 2 && y >= c / 2 ? ranges[cell_of_corner(c)] : int2{0, 0};
      }
      if (by_sample) {
#pragma unroll
        for (int c = 0; c < 4; ++c) each_sample<T, V>(problem, sorted, range[c], l, level, c, channel, add);
        continue;
      }
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const bool some = range[c].x < range[c].y;
        stretch[c] = range[c].x / kStretch;
        last[c] = some ? (range[c].y - 1) / kStretch : stretch[c] - 1;
        if (c % 2 == 1) {  // the last sums may have gone along to the next cell
          const int2 next = range[c - 1];
          if (some && next.x < next.y && next.x / kStretch == last[c]) --last[c];
        }
        if (stretch[c] <= last[c]) packed[c] = sums_of(c, stretch[c]);
      }
#pragma unroll
      for (int c = 0; c < 4; ++c) add(packed[c], 1);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        for (int more = stretch[c] + 1; more <= last[c]; ++more) add(sums_of(c, more), 1);
      }
    }
    Pack<T, V>::pack(sum).store(static_cast<T*>(problem.grad_value) + row * problem.D + channel);
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
    ms_deform_attn_file_float64(const Problem problem, const Samples samples) {
  file<double>(problem, samples);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    ms_deform_attn_file_float32(const Problem problem, const Samples samples) {
  file<float>(problem, samples);
}

cudaError_t launch_file(const Problem& problem, Type type, const Samples& samples, cudaStream_t stream) {
  const unsigned blocks = (static_cast<unsigned>(samples.count) + kThreads - 1) / kThreads;
  const auto kernel = type == Type::float64 ? ms_deform_attn_file_float64 : ms_deform_attn_file_float32;
  kernel<<<blocks, kThreads, problem.L * sizeof(Level), stream>>>(problem, samples);
  return cudaGetLastError();
}

#define RACDINO_KERNEL(type, name, V, T)                                                                    \
  extern "C" __global__ void __launch_bounds__(kThreads) ms_deform_attn_add_up_##name##_v##V##_t##T(        \
      const Problem problem, const Samples sorted, int2* ranges, Accumulate<type>* sums) {                  \
    add_up<type, V, T>(problem, sorted, ranges, sums);                                                      \
  }                                                                                                         \
  extern "C" __global__ void __launch_bounds__(kThreads) ms_deform_attn_collect_##name##_v##V##_t##T(       \
      const Problem problem, const Samples sorted, const int2* ranges, const Accumulate<type>* sums) {      \
    collect<type, V, T>(problem, sorted, ranges, sums);                                                     \
  }
RACDINO_SUM_VARIANTS(RACDINO_KERNEL)
#undef RACDINO_KERNEL

cudaError_t launch_add_up(
    const Problem& problem, Type type, const Samples& sorted, int32_t* ranges, void* sums, cudaStream_t stream) {
  const int width = sum_width(problem, type), lanes = lanes_for(problem.D, width);
  const unsigned stretches = (static_cast<unsigned>(sorted.count) + kStretch - 1) / kStretch;
#define RACDINO_LAUNCH(element, name, V, T)                                                                      \
  if (type == Type::name && width == V && lanes == T) {                                                          \
    constexpr unsigned groups = kThreads / T;                                                                    \
    ms_deform_attn_add_up_##name##_v##V##_t##T<<<                                                                \
        (stretches + groups - 1) / groups,                                                                       \
        kThreads,                                                                                                \
        problem.L * sizeof(Level),                                                                               \
        stream>>>(problem, sorted, reinterpret_cast<int2*>(ranges), static_cast<Accumulate<element>*>(sums));    \
  }
  RACDINO_SUM_VARIANTS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

cudaError_t launch_collect(
    const Problem& problem,
    Type type,
    const Samples& sorted,
    const int32_t* ranges,
    const void* sums,
    cudaStream_t stream) {
  const int width = sum_width(problem, type), lanes = lanes_for(problem.D, width);
  const unsigned groups = kThreads / lanes, blocks = static_cast<unsigned>((sorted.cells + groups - 1) / groups);
#define RACDINO_LAUNCH(element, name, V, T)                                                                \
  if (type == Type::name && width == V && lanes == T) {                                                    \
    ms_deform_attn_collect_##name##_v##V##_t##T<<<blocks, kThreads, problem.L * sizeof(Level), stream>>>(  \
        problem,                                                                                           \
        sorted,                                                                                            \
        reinterpret_cast<const int2*>(ranges),                                                             \
        static_cast<const Accumulate<element>*>(sums));                                                    \
  }
  RACDINO_SUM_VARIANTS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

}  // namespace racdino::cuda

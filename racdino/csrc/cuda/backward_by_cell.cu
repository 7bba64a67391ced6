// Backward where many samples share a cell. A block takes the samples of a tile of queries in one level of one head and
// files them by cell in shared memory (a counting sort). Its groups of lanes then walk through the file: a cell's value
// rows are read once and its gradient rows added to memory once, however many samples it holds, and of two cells side
// by side only the rows between them that change. What is left per sample is one row of grad_output, the four dot
// products that backward.cu explains, and four multiply-adds per channel in registers.
//
// The order within a cell is whatever the counters gave, as the order of atomic additions would be.
#include "backward.cuh"

#include <algorithm>

namespace racdino::cuda {
namespace {

constexpr int kEach = 8;  // samples a thread files
constexpr int kSamples = kThreads * kEach;
constexpr int kStrip = 16;                 // rows of a tile of queries
constexpr int kQueries = kStrip * kStrip;  // of a tile, at most
constexpr int kBins = 4096;                // counters, two to a word
constexpr int kChannels = 4;               // of a lane: one vector reduction
constexpr int64_t kSamplesWorthFiling = 150000;

// Elements from the start of a head's slice, all multiples of 4.
struct Spot {
  unsigned cell;   // the first pixel's; plus 1: there is a column right; plus 2: there is a row below
  unsigned query;  // of grad_output
};
constexpr unsigned kNowhere = ~0u;

// The j-th query in an order that takes neighbours in the image together, where the queries are the pixels of all
// levels or of one: strips of kStrip rows, column by column. Elsewhere the order they have; any permutation is right.
__device__ inline int query_at(const Problem& problem, const Level* levels, int j) {
  const bool pyramid = problem.Q == problem.S;
  Level mine = {0, 0, 0};
  int start = 0;
#pragma unroll 1  // unrolled, ptxas reads beyond the table
  for (int l = 0; l < problem.L; ++l) {
    const Level level = levels[l];
    const int pixels = level.H * level.W;
    if (pyramid ? j >= start && j - start < pixels : pixels == problem.Q) {
      mine = {level.H, level.W, pyramid ? start : 0};
    }
    start += pixels;
  }
  if (mine.W == 0 || (pyramid && start != problem.S)) return j;
  const int inner = j - mine.start, strip = inner / (kStrip * mine.W), within = inner - strip * kStrip * mine.W;
  const int height = min(kStrip, mine.H - strip * kStrip);
  const int column = within / height, row = strip * kStrip + within - column * height;
  return mine.start + row * mine.W + column;
}

template <typename T, int kLanes>
__device__ inline void backward_by_cell(const Problem& problem, int queries_per_tile) {
  constexpr int kGroups = kThreads / kLanes, kSlots = kThreads + kGroups, V = kChannels;
  extern __shared__ Level levels[];
  __shared__ float info[3][kSamples];  // location and weight, then their gradients
  __shared__ unsigned bins[kBins / 2];
  __shared__ int queries[kQueries];
  __shared__ Four<float> weight[kSlots], dots[kSlots];  // a spare slot per group, as in forward.cu
  __shared__ Spot spots[kSlots];
  __shared__ int low, high;
  __shared__ unsigned warp_sums[kThreads / 32];
  unsigned short* order = reinterpret_cast<unsigned short*>(bins);  // when the counters have served

  const unsigned l = blockIdx.x % problem.L, m = blockIdx.x / problem.L % problem.M;
  const unsigned tile_and_batch = blockIdx.x / problem.L / problem.M;
  const unsigned tiles = static_cast<unsigned>((problem.Q + queries_per_tile - 1) / queries_per_tile);
  const int64_t b = tile_and_batch / tiles;
  const int first_query = tile_and_batch % tiles * queries_per_tile;
  const int P = problem.P;
  const int count = P * min(queries_per_tile, static_cast<int>(problem.Q) - first_query);
  const int64_t n = static_cast<int64_t>(problem.L) * P;
  const unsigned reciprocal = (1u << 20) / P + 1;  // exact for t * P < 2^20
  const auto query_of = [&](int t) { return t * reciprocal >> 20; };
  const auto sample_of = [&](int t) {
    const int query = query_of(t);
    return ((b * problem.Q + queries[query]) * problem.M + m) * n + l * P + t - query * P;
  };

  if (threadIdx.x == 0) low = 1 << 30, high = 0;
  for (int i = threadIdx.x; i < kBins / 2; i += kThreads) bins[i] = 0;
  load_levels(problem, levels);
  const Level level = levels[l];
  for (int i = threadIdx.x; i < count / P; i += kThreads) queries[i] = query_at(problem, levels, first_query + i);
  __syncthreads();

  // Where the samples fall.
  int pixel[kEach], lowest = 1 << 30, highest = 0;
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    const int t = k * kThreads + threadIdx.x;
    pixel[k] = -1;
    if (t >= count) continue;
    const int64_t sample = sample_of(t);
    float x = __ldg(static_cast<const float*>(problem.locations) + 2 * sample);
    float y = __ldg(static_cast<const float*>(problem.locations) + 2 * sample + 1);
    float a = __ldg(static_cast<const float*>(problem.weights) + sample);
    const Cell<float> cell = cell_of(x, y, level);
    if (cell.inside) {
      pixel[k] = Slots<float>(cell, level).pixel;
      lowest = min(lowest, pixel[k]);
      highest = max(highest, pixel[k]);
    } else {
      x = y = a = 0;  // its gradients
    }
    info[0][t] = x, info[1][t] = y, info[2][t] = a;
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    lowest = min(lowest, __shfl_xor_sync(0xffffffffu, lowest, distance));
    highest = max(highest, __shfl_xor_sync(0xffffffffu, highest, distance));
  }
  if (threadIdx.x % 32 == 0) {
    atomicMin(&low, lowest);
    atomicMax(&high, highest);
  }
  __syncthreads();

  // File them. In a level of many pixels a bin holds neighbouring cells, whose samples come in any order.
  int shift = 0;
  while ((high - low) >> shift >= kBins) ++shift;
  unsigned place[kEach];
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    const int bin = (pixel[k] - low) >> shift, half = bin % 2 * 16;
    if (pixel[k] >= 0) place[k] = atomicAdd(&bins[bin / 2], 1u << half) >> half & 0xffff;
  }
  __syncthreads();
  constexpr int kWords = kBins / 2 / kThreads;
  unsigned word[kWords], mine = 0;
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    word[i] = bins[threadIdx.x * kWords + i];
    mine += (word[i] & 0xffff) + (word[i] >> 16);
  }
  unsigned before = block_scan(mine, warp_sums) - mine;
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    const unsigned lower = word[i] & 0xffff;
    bins[threadIdx.x * kWords + i] = before | (before + lower) << 16;
    before += lower + (word[i] >> 16);
  }
  __syncthreads();
  int total = 0;
  for (int w = 0; w < kThreads / 32; ++w) total += warp_sums[w];
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    const int bin = (pixel[k] - low) >> shift;
    if (pixel[k] >= 0) place[k] += bins[bin / 2] >> bin % 2 * 16 & 0xffff;
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    if (pixel[k] >= 0) order[place[k]] = static_cast<unsigned short>(k * kThreads + threadIdx.x);
  }
  __syncthreads();

  // Walk through the file.
  const int group = threadIdx.x / kLanes, lane = threadIdx.x % kLanes, base = group * (kLanes + 1);
  const unsigned stride = problem.M * problem.D, below = level.W * stride;
  const int64_t channel = static_cast<int64_t>(m) * problem.D + lane * V;
  const T* grad_output = static_cast<const T*>(problem.grad_output) + b * problem.Q * stride + channel;
  const T* value = static_cast<const T*>(problem.value) + b * problem.S * stride + channel;
  float* grad_value = static_cast<float*>(problem.grad_value) + b * problem.S * stride + channel;
  unsigned here = kNowhere;
  float sum[4][V] = {};
  Pack<T, V> v[2][4] = {};
  const auto add = [&](unsigned c) {
    if ((here & c) == c) {
      add_to_memory(grad_value + ((here & ~3u) + (c & 1 ? stride : 0) + (c & 2 ? below : 0)), sum[c]);
    }
  };

  const int run = (total + 4 * kGroups - 1) / (4 * kGroups) * 4;  // of each group
  for (int j0 = 0; j0 < run; j0 += kLanes) {
    const int j = group * run + j0 + lane;
    const bool filed = j < total && j0 + lane < run;
    const int t = filed ? order[j] : 0;
    const float x = filed ? info[0][t] : 0, y = filed ? info[1][t] : 0, a = filed ? info[2][t] : 0;
    const Slots<float> slots(cell_of(x, y, level), level);
    Four<float> w;
#pragma unroll
    for (int c = 0; c < 4; ++c) w.x[c] = slots.used(c) && filed ? slots.factor(c) * a : 0;
    __syncwarp();  // the previous round has been read
    weight[base + lane] = w;
    spots[base + lane] = {filed ? slots.pixel * stride + slots.neighbours : kNowhere, queries[query_of(t)] * stride};
    __syncwarp();

#pragma unroll 1
    for (int k0 = 0; k0 < kLanes && k0 < run - j0; k0 += 4) {
      float dot[16];
#pragma unroll
      for (int k = 0; k < 4; k += 2) {
        // Two samples' loads are under way together: grad_output, and the corners where the cell is another.
        unsigned cell[2];
        bool moves[2];
        Pack<T, V> packed[2];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const Spot spot = spots[base + k0 + k + h];
          packed[h] = Pack<T, V>::load(grad_output + spot.query);
          cell[h] = spot.cell;
          moves[h] = spot.cell != (h ? cell[0] : here) && spot.cell != kNowhere;
#pragma unroll
          for (unsigned c = 0; c < 4; ++c) {
            if (h == 0) v[0][c] = v[1][c];
            v[h][c].load_if(
                moves[h] && (spot.cell & c) == c,
                value + ((spot.cell & ~3u) + (c & 1 ? stride : 0) + (c & 2 ? below : 0)));
          }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          if (moves[h]) {
            const bool beside = here & 1 && (here & ~1u) + stride == (cell[h] & ~1u) && here != kNowhere;
            if (here != kNowhere) add(0), add(2);
            if (here != kNowhere && !beside) add(1), add(3);
#pragma unroll
            for (int e = 0; e < V; ++e) {
              sum[0][e] = beside ? sum[1][e] : 0, sum[2][e] = beside ? sum[3][e] : 0;
              sum[1][e] = sum[3][e] = 0;
            }
            here = cell[h];
          } else if (h == 1) {
#pragma unroll
            for (int c = 0; c < 4; ++c) v[1][c] = v[0][c];
          }
          float g[V];
          packed[h].unpack(g);
          const Four<float> scale = weight[base + k0 + k + h];
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            float x[V];
            v[h][c].unpack(x);
            dot[4 * (k + h) + c] = 0;
#pragma unroll
            for (int e = 0; e < V; ++e) dot[4 * (k + h) + c] += g[e] * x[e];
            if (scale.x[c] == 0) continue;  // no corner of this sample: what is not a number stays out
#pragma unroll
            for (int e = 0; e < V; ++e) sum[c][e] += scale.x[c] * g[e];
          }
        }
      }
      reduce_scatter<kLanes>(dot);
      store_sums<kLanes>(dot, reinterpret_cast<float*>(&dots[base + k0]), lane);
    }
    __syncwarp();
    if (!filed) continue;
    const Four<float> dot = dots[base + lane];
    float grad_weight = 0, slope_x = 0, slope_y = 0;
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float d = slots.used(c) ? dot.x[c] : 0;
      grad_weight += slots.factor(c) * d;
      slope_x += slots.dx[c & 1] * slots.fy[c >> 1] * d;
      slope_y += slots.dy[c >> 1] * slots.fx[c & 1] * d;
    }
    info[0][t] = level.W * a * slope_x, info[1][t] = level.H * a * slope_y, info[2][t] = grad_weight;
  }
  if (here != kNowhere) add(0), add(1), add(2), add(3);
  __syncthreads();

  for (int t = threadIdx.x; t < count; t += kThreads) {
    const int64_t sample = sample_of(t);
    if (problem.grad_weights) static_cast<float*>(problem.grad_weights)[sample] = info[2][t];
    if (problem.grad_locations) static_cast<float2*>(problem.grad_locations)[sample] = {info[0][t], info[1][t]};
  }
}

}  // namespace

// X(type, name, T): groups that just cover the head width.
#define RACDINO_WALKS_OF(X, type, name) X(type, name, 4) X(type, name, 8) X(type, name, 16) X(type, name, 32)
#define RACDINO_WALKS(X)               \
  RACDINO_WALKS_OF(X, float, float32)  \
  RACDINO_WALKS_OF(X, __half, float16) \
  RACDINO_WALKS_OF(X, __nv_bfloat16, bfloat16)

#define RACDINO_KERNEL(type, name, T)                                                              \
  extern "C" __global__ void __launch_bounds__(kThreads, 5)                                        \
      ms_deform_attn_backward_by_cell_##name##_t##T(const Problem problem, int queries_per_tile) { \
    backward_by_cell<type, T>(problem, queries_per_tile);                                          \
  }
RACDINO_WALKS(RACDINO_KERNEL)
#undef RACDINO_KERNEL

// As many in every tile.
static int queries_of_tile(const Problem& problem) {
  const int most = std::min(kQueries, kSamples / problem.P);
  const int64_t tiles = (problem.Q + most - 1) / most;
  return static_cast<int>((problem.Q + tiles - 1) / tiles);
}

static int64_t blocks_by_cell(const Problem& problem) {
  const int queries = queries_of_tile(problem);
  return problem.B * problem.M * problem.L * ((problem.Q + queries - 1) / queries);
}

bool pays_by_cell(const Problem& problem, Type type) {
  const auto aligned_to = [](const void* p, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; };
  const uintptr_t bytes = type == Type::float32 ? 16 : 8;
  const bool has_walk = problem.D == 16 || problem.D == 32 || problem.D == 64 || problem.D == 128;
  const bool can = type != Type::float64 && has_walk && aligned_to(problem.value, bytes) &&
                   aligned_to(problem.grad_output, bytes) && problem.L <= 32 && problem.P <= 64 &&
                   std::max(problem.S, problem.Q) * problem.M * problem.D < int64_t{1} << 31 &&
                   blocks_by_cell(problem) < int64_t{1} << 31;
  // Few queries leave the blocks empty, few samples leave the device so.
  return can && problem.Q * problem.P >= kSamples / 2 &&
         problem.B * problem.Q * problem.M * problem.L * problem.P >= kSamplesWorthFiling;
}

cudaError_t launch_backward_by_cell(const Problem& problem, Type type, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(blocks_by_cell(problem));
#define RACDINO_LAUNCH(element, name, T)                                                                    \
  if (type == Type::name && problem.D == kChannels * T) {                                                   \
    ms_deform_attn_backward_by_cell_##name##_t##T<<<blocks, kThreads, problem.L * sizeof(Level), stream>>>( \
        problem, queries_of_tile(problem));                                                                 \
  }
  RACDINO_WALKS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

}  // namespace racdino::cuda

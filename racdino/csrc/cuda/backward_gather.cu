// grad_value in a fixed order, so that the result is bitwise the same in every run, where a pixel has few samples: file
// the samples of each chunk by tile of pixels (a stable counting sort in shared memory), then let the pixels of a tile
// gather. A block fetches the samples of its tile from all chunks and sorts them by cell, again in shared memory. Every
// pixel adds up those of the four cells around it.
#include "backward.cuh"

#include <algorithm>

namespace racdino::cuda {
namespace {

constexpr int kWarps = kThreads / 32;
constexpr int kMostChunks = 64, kLeastChunk = 1024;
constexpr int kMostTiles = 512, kPerTile = 192;         // of a level; samples of a tile, at least, where all are alike
constexpr int kSideShift = 5, kSide = 1 << kSideShift;  // of a window: what a block gathers at a time
constexpr int kCells = (kSide + 1) * (kSide + 1);
constexpr unsigned kNowhere = ~0u;

// Samples a thread sorts in a round, and a block; they fit in shared memory beside a table of kMaxLevels.
template <typename A>
constexpr int kEach = sizeof(A) == 8 ? 2 : 3;
template <typename A>
constexpr int kRound = kThreads * kEach<A>;

// A level's tiles are squares of 1 << shift pixels, as small as their number allows. A window is a tile or, of one of
// more than kSide pixels, a part.
struct Grid {
  int shift, columns, rows;
  int window_shift, window_columns, windows;
};

__device__ inline Grid grid_of(const Level& level, int most) {
  const auto parts = [](int pixels, int shift) { return ((pixels - 1) >> shift) + 1; };
  int shift = 0;
  while (parts(level.H, shift) * parts(level.W, shift) > most) ++shift;
  const int window = min(shift, kSideShift), columns = parts(level.W, window);
  return {shift, parts(level.W, shift), parts(level.H, shift), window, columns, columns * parts(level.H, window)};
}

// The samples of one (batch, head, level).
struct Slice {
  int64_t b;
  int m, l;
  // Of sample t = query * P + point: its row in (B, Q, M), and its place in (B, Q, M, L, P).
  __device__ unsigned row(const Problem& problem, unsigned t) const {
    return (static_cast<unsigned>(b * problem.Q) + t / problem.P) * problem.M + m;
  }
  __device__ unsigned sample(const Problem& problem, unsigned t) const {
    return row(problem, t) * (problem.L * problem.P) + l * problem.P + t % problem.P;
  }
  // Of value.
  __device__ int64_t value_row(const Problem& problem, int pixel) const {
    return (b * problem.S + pixel) * problem.M + m;
  }
  __device__ int64_t place(const Problem& problem) const { return (b * problem.M + m) * problem.L + l; }
};

// Of the lanes of a warp that come with the same bin, each gets the next place; in the order of lanes. Bins are of this
// warp alone.
template <typename Counter>
__device__ inline unsigned next_place(Counter* bins, unsigned bin) {
  const unsigned mask = __match_any_sync(0xffffffffu, bin);
  const unsigned before = __popc(mask & ((1u << threadIdx.x % 32) - 1));
  const unsigned place = bin == kNowhere ? 0 : bins[bin];
  __syncwarp();
  if (before == 0 && bin != kNowhere) bins[bin] = static_cast<Counter>(place + __popc(mask));
  __syncwarp();
  return place + before;
}

// Counts of each warp (kWarps, bins) -> where its samples go; the first warp's are where the bins start. Returns the
// number of samples.
template <typename Counter>
__device__ inline unsigned counts_to_places(Counter* counters, int bins, unsigned* warp_sums) {
  const int each = (bins + kThreads - 1) / kThreads;
  const int first = min(static_cast<int>(threadIdx.x) * each, bins), last = min(first + each, bins);
  unsigned mine = 0;
  for (int bin = first; bin < last; ++bin) {
    for (int w = 0; w < kWarps; ++w) mine += counters[w * bins + bin];
  }
  unsigned place = block_scan(mine, warp_sums) - mine;
  for (int bin = first; bin < last; ++bin) {
    for (int w = 0; w < kWarps; ++w) {
      const unsigned count = counters[w * bins + bin];
      counters[w * bins + bin] = static_cast<Counter>(place);
      place += count;
    }
  }
  __syncthreads();
  unsigned total = 0;
  for (int w = 0; w < kWarps; ++w) total += warp_sums[w];
  return total;
}

// A tile has four bins: its last column is 1, the corner 2, the last row 3, the rest 0. So what a neighbour needs of it
// lies together.
template <typename A>
__device__ inline void file_by_tile(const Problem& problem, const Tiles& tiles) {
  extern __shared__ Level levels[];
  __shared__ unsigned warp_sums[kWarps];
  unsigned* counters = reinterpret_cast<unsigned*>(levels + problem.L);
  const unsigned slice_place = blockIdx.x / tiles.chunks, chunk = blockIdx.x % tiles.chunks;
  const unsigned head = slice_place / problem.L;
  const Slice slice = {head / problem.M, static_cast<int>(head % problem.M), static_cast<int>(slice_place % problem.L)};
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  load_levels(problem, levels);
  const Level level = levels[slice.l];
  const Grid grid = grid_of(level, tiles.most);
  const int bins = 4 * grid.columns * grid.rows;
  for (int i = threadIdx.x; i < kWarps * bins; i += kThreads) counters[i] = 0;
  __syncthreads();

  const unsigned count = static_cast<unsigned>(problem.Q) * problem.P, first = chunk * tiles.chunk;
  const unsigned start = first + warp * (tiles.chunk / kWarps), end = min(count, start + tiles.chunk / kWarps);
  uint32_t* samples = tiles.samples + static_cast<int64_t>(slice_place) * count + first;
  const auto walk = [&](bool places) {
    constexpr int kAtOnce = 4;
    for (unsigned t0 = start; t0 < end; t0 += 32 * kAtOnce) {
      unsigned bin[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const unsigned t = t0 + k * 32 + lane;
        bin[k] = kNowhere;
        if (t >= end) continue;
        const int64_t i = slice.sample(problem, t);
        const A* location = static_cast<const A*>(problem.locations) + 2 * i;
        A x, y;
        read_pair<false>(location, x, y);
        const Cell<A> cell = cell_of(x, y, level);
        if (!cell.inside) continue;
        const Slots<A> slots(cell, level);
        const int tile = (slots.row >> grid.shift) * grid.columns + (slots.column >> grid.shift);
        const int inner = (1 << grid.shift) - 1;
        const bool last_column = (slots.column & inner) == inner, last_row = (slots.row & inner) == inner;
        bin[k] = 4 * tile + (last_row ? (last_column ? 2 : 3) : (last_column ? 1 : 0));
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const unsigned place = next_place(counters + warp * bins, bin[k]);
        if (places && bin[k] != kNowhere) samples[place] = t0 + k * 32 + lane;
      }
    }
  };
  walk(false);
  __syncthreads();
  const unsigned total = counts_to_places(counters, bins, warp_sums);
  uint32_t* starts = tiles.starts + static_cast<int64_t>(blockIdx.x) * (4 * tiles.most + 1);
  for (int i = threadIdx.x; i <= bins; i += kThreads) starts[i] = i < bins ? counters[i] : total;
  __syncthreads();
  walk(true);
}

template <typename T>
__device__ inline void zero_row(T* row, int count) {
  for (int i = 0; i < count; ++i) row[i] = narrow<T>(0);
}

// Pixels [x, x + width) x [y, y + height) of a slice.
struct Window {
  Slice slice;
  Level level;
  int x, y, width, height;
  int tile, tile_columns, neighbours;  // its tile; 1: there is one on the left; 2: there is one above
};

// In shared memory, as registers are few.
template <typename A>
struct Shared {
  Window window;
  // Samples sorted by cell: the weight of each corner; the row of grad_output.
  Four<A> weight[kRound<A>];
  unsigned row[kRound<A>];
  unsigned from[4 * kMostChunks], before[4 * kMostChunks];  // stretches of filed samples, and samples before them
  unsigned short counters[kWarps * kCells], starts[kCells + 1];
  unsigned warp_sums[kWarps];
};

__device__ inline Window window_at(const Level* levels, const int* ends, int most, unsigned b, unsigned m, unsigned w) {
  int l = 0;
  while (static_cast<int>(w) >= ends[l]) ++l;
  const Level level = levels[l];
  const Grid grid = grid_of(level, most);
  const int inner = w - (l > 0 ? ends[l - 1] : 0), side = 1 << grid.window_shift;
  const int y = inner / grid.window_columns, x = inner - y * grid.window_columns;
  const int tile_x = x * side >> grid.shift, tile_y = y * side >> grid.shift;
  return {
      {b, static_cast<int>(m), l},
      level,
      x * side,
      y * side,
      min(side, level.W - x * side),
      min(side, level.H - y * side),
      tile_y * grid.columns + tile_x,
      grid.columns,
      (tile_x > 0 ? 1 : 0) + (tile_y > 0 ? 2 : 0)};
}

// The stretches of filed samples that the window's tile needs. Returns the number of samples.
template <typename A>
__device__ inline unsigned find_stretches(const Problem& problem, const Tiles& tiles, Shared<A>& shared) {
  const Window& window = shared.window;
  const int64_t slice_place = window.slice.place(problem);
  const int stretches = 4 * tiles.chunks, each = (stretches + kThreads - 1) / kThreads;
  unsigned length[4 * kMostChunks / kThreads], mine = 0;
#pragma unroll
  for (int k = 0; k < 4 * kMostChunks / kThreads; ++k) {
    const int i = threadIdx.x * each + k, left = i & 1, above = i >> 1 & 1;
    length[k] = 0;
    if (k >= each || i >= stretches || (i & 3 & ~window.neighbours)) continue;
    const uint32_t* starts = tiles.starts + (slice_place * tiles.chunks + i / 4) * (4 * tiles.most + 1) +
                             4 * (window.tile - above * window.tile_columns - left);
    const unsigned from = starts[above ? 2 : left];
    length[k] = starts[left ? 3 : 4] - from;
    shared.from[i] = i / 4 * tiles.chunk + from;
    mine += length[k];
  }
  const unsigned sum = block_scan(mine, shared.warp_sums);
  unsigned before = sum - mine;
#pragma unroll
  for (int k = 0; k < 4 * kMostChunks / kThreads; ++k) {
    const int i = threadIdx.x * each + k;
    if (k < each && i < stretches) shared.before[i] = before;
    before += length[k];
  }
  __syncthreads();
  unsigned total = 0;
  for (int w = 0; w < kWarps; ++w) total += shared.warp_sums[w];
  return total;
}

// Samples [first, first + kRound) of the stretches, by cell. The cell left above the window's first pixel is the first.
template <typename A>
__device__ inline void sort_round(
    const Problem& problem, const Tiles& tiles, unsigned first, unsigned total, Shared<A>& shared) {
  const Window& window = shared.window;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, columns = window.width + 1;
  const int cells = columns * (window.height + 1);
  for (int i = threadIdx.x; i < kWarps * cells; i += kThreads) shared.counters[i] = 0;
  const uint32_t* samples = tiles.samples + window.slice.place(problem) * problem.Q * problem.P;
  Four<A> weight[kEach<A>];
  unsigned row[kEach<A>], bin[kEach<A>];
#pragma unroll
  for (int k = 0; k < kEach<A>; ++k) {
    const unsigned j = first + (warp * kEach<A> + k) * 32 + lane;
    bin[k] = kNowhere;
    if (j >= total) continue;
    int low = 0, high = 4 * tiles.chunks;  // the stretch that holds j
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (shared.before[middle] <= j ? low : high) = middle;
    }
    const unsigned t = __ldg(samples + shared.from[low] + j - shared.before[low]), i = window.slice.sample(problem, t);
    row[k] = window.slice.row(problem, t);
    A x, y;
    read_pair<false>(static_cast<const A*>(problem.locations) + 2 * static_cast<int64_t>(i), x, y);
    const A a = __ldg(static_cast<const A*>(problem.weights) + i);
    const Slots<A> slots(cell_of(x, y, window.level), window.level);
#pragma unroll
    for (int c = 0; c < 4; ++c) weight[k].x[c] = slots.used(c) ? slots.factor(c) * a : A(0);
    const int column = slots.column - window.x + 1, line = slots.row - window.y + 1;
    if (column >= 0 && column < columns && line >= 0 && line <= window.height) bin[k] = line * columns + column;
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kEach<A>; ++k) {
    const unsigned place = next_place(shared.counters + warp * cells, bin[k]);
    if (bin[k] != kNowhere) bin[k] += place << 16;
  }
  __syncthreads();
  const unsigned sorted = counts_to_places(shared.counters, cells, shared.warp_sums);
  for (int i = threadIdx.x; i <= cells; i += kThreads) {
    shared.starts[i] = static_cast<unsigned short>(i < cells ? shared.counters[i] : sorted);
  }
#pragma unroll
  for (int k = 0; k < kEach<A>; ++k) {
    if (bin[k] == kNowhere) continue;
    const unsigned at = shared.counters[warp * cells + (bin[k] & 0xffff)] + (bin[k] >> 16);
    shared.weight[at] = weight[k];
    shared.row[at] = row[k];
  }
  __syncthreads();
}

// What the sorted samples add to the window's pixels. A group of lanes per pixel, or all groups of a warp. carries: to
// what is in sums; keeps: the result there, too.
template <typename T, int V, int kLanes>
__device__ inline void add_up(
    const Problem& problem,
    const Shared<Accumulate<T>>& shared,
    Accumulate<T>* sums,
    bool together,
    bool carries,
    bool keeps) {
  using A = Accumulate<T>;
  constexpr int kAhead = 4;
  const Window& window = shared.window;
  const int share = together ? 32 / kLanes : 1, group = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const int columns = window.width + 1, pixels = window.width * window.height;
  const T* grad_output = static_cast<const T*>(problem.grad_output);
  for (int p0 = 0; p0 < pixels; p0 += kThreads / kLanes / share) {
    const int p = p0 + group / share;
    const bool active = p < pixels;
    const int y = p / window.width, x = p - y * window.width, cell = active ? y * columns + x : 0;
    const unsigned short *upper = shared.starts + cell, *lower = shared.starts + cell + (active ? columns : 0);
    const int start = upper[0], middle = upper[1], above = active ? upper[2] - start : 0;
    const int shift = lower[0] - above, lower_middle = lower[1], count = active ? above + lower[2] - lower[0] : 0;
    const int pixel = window.level.start + (window.y + y) * window.level.W + window.x + x;
    const int64_t place = window.slice.value_row(problem, pixel) * problem.D;
    for (int first = 0; first < problem.D; first += kLanes * V) {
      const int channel = first + lane * V, last = channel < problem.D ? count : 0;
      A sum[V] = {};
      for (int j0 = group % share; j0 < last; j0 += share * kAhead) {
        A weight[kAhead];
        Pack<T, V> packed[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
          const int j = j0 + k * share, inside = min(j, last - 1);
          const bool is_above = inside < above;
          const int at = inside + (is_above ? start : shift);
          const int corner = is_above ? (at < middle ? 3 : 2) : (at < lower_middle ? 1 : 0);
          weight[k] = j < last ? shared.weight[at].x[corner] : A(0);
          packed[k] = Pack<T, V>::load(grad_output + static_cast<int64_t>(shared.row[at]) * problem.D + channel);
        }
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
          if (weight[k] == A(0)) continue;  // no corner of this sample: what is not a number stays out
          A g[V];
          packed[k].unpack(g);
#pragma unroll
          for (int e = 0; e < V; ++e) sum[e] += weight[k] * g[e];
        }
      }
      if (together) {
#pragma unroll
        for (int distance = 16; distance >= kLanes; distance /= 2) {
#pragma unroll
          for (int e = 0; e < V; ++e) sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], distance);
        }
      }
      if (!active || group % share != 0 || channel >= problem.D) continue;
      if (carries) {
#pragma unroll
        for (int e = 0; e < V; ++e) sum[e] += sums[place + channel + e];
      }
      if (keeps) Pack<A, V>::pack(sum).store(sums + place + channel);
      Pack<T, V>::pack(sum).store(static_cast<T*>(problem.grad_value) + place + channel);
    }
  }
}

template <typename T, int V, int kLanes>
__device__ inline void gather(const Problem& problem, const Tiles& tiles) {
  using A = Accumulate<T>;
  extern __shared__ Level levels[];
  __shared__ Shared<A> shared;
  int* ends = reinterpret_cast<int*>(levels + problem.L);  // windows in all levels so far
  load_levels(problem, levels);
  for (int l = threadIdx.x; l < problem.L; l += kThreads) ends[l] = grid_of(levels[l], tiles.most).windows;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int l = 1; l < problem.L; ++l) ends[l] += ends[l - 1];
  }
  __syncthreads();
  A* sums = static_cast<A*>(tiles.sums);

  // Pixels of no level.
  const int64_t row = problem.M * problem.D;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < problem.B * problem.S;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const int pixel = i % problem.S;
    bool used = false;
    for (int l = 0; l < problem.L; ++l) {
      used |= pixel >= levels[l].start && pixel < levels[l].start + levels[l].H * levels[l].W;
    }
    if (!used) zero_row(static_cast<T*>(problem.grad_value) + i * row, row);
  }

  // Where levels share pixels, a block adds up all levels of a head one after the other.
  const bool alone = may_share_pixels(problem, levels);
  const unsigned windows = ends[problem.L - 1], heads = problem.B * problem.M;
  const unsigned items = alone ? heads : heads * windows;
  for (unsigned item = blockIdx.x; item < items; item += gridDim.x) {
    const unsigned b = item / problem.M / (alone ? 1 : windows), m = item % problem.M;
    if (alone) {
      const Slice slice = {b, static_cast<int>(m), 0};
      for (int pixel = threadIdx.x; pixel < problem.S; pixel += kThreads) {
        zero_row(sums + slice.value_row(problem, pixel) * problem.D, problem.D);
      }
    }
    const unsigned first = alone ? 0 : item / problem.M % windows, last = alone ? windows : first + 1;
    for (unsigned w = first; w < last; ++w) {
      if (threadIdx.x == 0) shared.window = window_at(levels, ends, tiles.most, b, m, w);
      __syncthreads();
      const unsigned total = find_stretches(problem, tiles, shared);
      const bool together = total >= 8 * shared.window.width * shared.window.height;
      unsigned j = 0;
      do {
        sort_round(problem, tiles, j, total, shared);
        add_up<T, V, kLanes>(problem, shared, sums, together, alone || j > 0, alone || j + kRound<A> < total);
        __syncthreads();
        j += kRound<A>;
      } while (j < total);
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
    ms_deform_attn_file_by_tile_float64(const Problem problem, const Tiles tiles) {
  file_by_tile<double>(problem, tiles);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    ms_deform_attn_file_by_tile_float32(const Problem problem, const Tiles tiles) {
  file_by_tile<float>(problem, tiles);
}

// With more, each pixel visits so many samples that sorting them all and adding up by cell (backward_sorted.cu) is
// faster: measured at 2.3 samples per pixel and head (half the time), 2.9 (three quarters), 4.6 (from three quarters
// with 2 images to a tenth more with 12) and 6 (a tenth more).
bool pays_to_gather(const Problem& problem) { return problem.Q * problem.L * problem.P < 6 * problem.S; }

Tiles tiles_for(const Problem& problem) {
  const auto parts = [](int64_t whole, int64_t part) { return (whole + part - 1) / part; };
  const int64_t count = problem.Q * problem.P;
  Tiles tiles{};
  tiles.most = static_cast<int32_t>(std::min<int64_t>(std::max<int64_t>(count / kPerTile, 1), kMostTiles));
  const int64_t chunk = parts(parts(count, kMostChunks), kThreads) * kThreads;
  tiles.chunk = static_cast<int32_t>(std::max<int64_t>(kLeastChunk, chunk));
  tiles.chunks = static_cast<int32_t>(parts(count, tiles.chunk));
  return tiles;
}

cudaError_t launch_file_by_tile(const Problem& problem, Type type, const Tiles& tiles, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(problem.B * problem.M * problem.L * tiles.chunks);
  const auto kernel = type == Type::float64 ? ms_deform_attn_file_by_tile_float64 : ms_deform_attn_file_by_tile_float32;
  const size_t counters = sizeof(unsigned) * kWarps * 4 * tiles.most;
  kernel<<<blocks, kThreads, problem.L * sizeof(Level) + counters, stream>>>(problem, tiles);
  return cudaGetLastError();
}

// Eight blocks, even if registers spill: they wait for each other's memory. Five take a tenth more time.
#define RACDINO_KERNEL(type, name, V, T)                                                     \
  extern "C" __global__ void __launch_bounds__(kThreads, 8)                                  \
      ms_deform_attn_gather_##name##_v##V##_t##T(const Problem problem, const Tiles tiles) { \
    gather<type, V, T>(problem, tiles);                                                      \
  }
RACDINO_SUM_VARIANTS(RACDINO_KERNEL)
#undef RACDINO_KERNEL

cudaError_t launch_gather(const Problem& problem, Type type, const Tiles& tiles, cudaStream_t stream) {
  const int width = sum_width(problem, type), lanes = lanes_for(problem.D, width);
  constexpr int64_t kMostBlocks = 4096;
  const unsigned blocks = static_cast<unsigned>(std::min<int64_t>(problem.B * problem.M * problem.S, kMostBlocks));
#define RACDINO_LAUNCH(element, name, V, T)             \
  if (type == Type::name && width == V && lanes == T) { \
    ms_deform_attn_gather_##name##_v##V##_t##T<<<       \
        blocks,                                         \
        kThreads,                                       \
        problem.L * (sizeof(Level) + sizeof(int)),      \
        stream>>>(problem, tiles);                      \
  }
  RACDINO_SUM_VARIANTS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

}  // namespace racdino::cuda

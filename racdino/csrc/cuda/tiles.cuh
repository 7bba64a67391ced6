// Forward of a block that serves several tiles of queries, so that its table of levels and its divisions are paid once.
// Where samples come from is the Source's: fetch(task, s, l) loads sample s, of level l, of this lane; begin(task) is
// called by every lane when a row starts; cell(level) and weight() then speak of the sample fetched last.
#pragma once

#include "common.cuh"

namespace racdino::cuda {

// Blocks a multiprocessor shall hold. Left to itself, ptxas fits eight and starts the loads a few at a time.
constexpr int kTileBlocks = 6;

// Which (batch, query, head) a group serves: as Task, in several tiles one after the other.
template <int T>
struct Tiles {
  static constexpr unsigned kGroups = kThreads / T;
  int64_t b, q, row;  // of (B, Q, M)
  int m, group, lane;
  bool active;  // false: a spare group at the end, which works on the last query and stores nothing
  unsigned tile, end;

  __device__ Tiles(const Problem& problem, int tiles_of_block) {
    const unsigned M = problem.M, tiles = tiles_of(problem);
    const unsigned blocks = (tiles + tiles_of_block - 1) / tiles_of_block, block = blockIdx.x / M;
    m = blockIdx.x - block * M;
    b = block / blocks;
    tile = (block - static_cast<unsigned>(b) * blocks) * tiles_of_block;
    end = min(tile + tiles_of_block, tiles);
    group = threadIdx.x / T;
    lane = threadIdx.x % T;
    move_to(problem, tile);
  }
  __device__ void move_to(const Problem& problem, unsigned other) {
    tile = other;
    q = tile * kGroups + group;
    active = q < problem.Q;
    if (!active) q = problem.Q - 1;
    row = (b * problem.Q + q) * problem.M + m;
  }
  __host__ __device__ static unsigned tiles_of(const Problem& problem) {
    return static_cast<unsigned>((problem.Q + kGroups - 1) / kGroups);
  }
  static unsigned blocks(const Problem& problem, int tiles_of_block) {
    const int64_t blocks = (tiles_of(problem) + tiles_of_block - 1) / tiles_of_block;
    return static_cast<unsigned>(problem.B * problem.M * blocks);
  }
};

// sum += `count` samples. A corner's place is counted in lanes' loads from `value`. The pointer is this lane's own and
// nothing to be taken apart again (see sum_tiles): that leaves one multiply-add per address, and ptxas has the registers
// to start all loads before it needs the first.
template <int count, typename T, int V>
__device__ inline void gather_places(
    const char* value, const uint4* place, const Four<Accumulate<T>>* weight, Accumulate<T> (&sum)[V]) {
  Pack<T, V> corner[count][4];
#pragma unroll
  for (int j = 0; j < count; ++j) {
    const uint4 here = place[j];
    const unsigned at[4] = {here.x, here.y, here.z, here.w};
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      corner[j][c] = Pack<T, V>::load(value + static_cast<uint64_t>(at[c]) * (V * sizeof(T)));
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

template <typename T, int V, int kLanes, typename Source>
__device__ inline void sum_tiles(const Problem& problem, Source source, int tiles_of_block) {
  using A = Accumulate<T>;
  constexpr int kAhead = 2;  // samples whose loads are under way together
  constexpr unsigned kNowhere = ~0u;
  extern __shared__ Level levels[];
  // One spare slot per group: the groups of a warp read different banks.
  __shared__ Four<A> weight[kThreads + kThreads / kLanes];
  __shared__ uint4 place[kThreads + kThreads / kLanes];

  Tiles<kLanes> task(problem, tiles_of_block);
  const int n = problem.L * problem.P, chunks = problem.D / V, base = task.group * (kLanes + 1);
  const unsigned stride = static_cast<unsigned>(problem.M * chunks);
  const int64_t row_bytes = problem.D * static_cast<int64_t>(sizeof(T));
  const char* value =
      static_cast<const char*>(problem.value) + (task.b * problem.S * problem.M + task.m) * row_bytes;
  // The level of a lane's sample is counted up rather than divided.
  const int first_level = task.lane / problem.P, first_point = task.lane % problem.P;
  int l = first_level, p = first_point;
  const auto rewind = [&] { l = first_level, p = first_point; };
  const auto fetch = [&](int s) {
    if (s < n) source.fetch(problem, task, s, l);
  };
  fetch(task.lane);
  load_levels(problem, levels);

  while (true) {
    source.begin(problem, task);
    char* output = static_cast<char*>(problem.output) + task.row * row_bytes;
    const bool active = task.active, last = task.tile + 1 == task.end;
    for (int first = 0; first < chunks; first += kLanes) {
      const int chunk = first + task.lane;
      const int64_t offset = min(chunk, chunks - 1) * static_cast<int64_t>(V * sizeof(T));  // a spare lane reads along
      const char* mine = value + offset;
      asm volatile("" : "+l"(mine));
      A sum[V] = {};
      for (int s0 = 0; s0 < n; s0 += kLanes) {
        const int s = s0 + task.lane, count = min(kLanes, n - s0);
        Corners<A> corners;
        A a = 0;
        if (s < n) {
          const Level level = levels[l];
          corners = Corners<A>(source.cell(level), level);
          a = source.weight();
        }
        const unsigned at = corners.pixel * stride, right = corners.step & 1 ? stride : 0;
        const unsigned below = (corners.step >> 1) * stride;
        __syncwarp();  // the previous round has been read
        weight[base + task.lane] = corners.factors(a);
        place[base + task.lane] = corners.pixel < 0
                                      ? uint4{kNowhere, kNowhere, kNowhere, kNowhere}
                                      : uint4{at, at + right, at + below, at + below + right};
        const bool all_inside = __all_sync(0xffffffffu, s >= n || corners.pixel >= 0);
        __syncwarp();
        // The next sample is loaded a round ahead, over the end of a row too.
        if (s0 + kLanes < n) {
          for (p += kLanes; p >= problem.P; p -= problem.P) ++l;
          fetch(s + kLanes);
        } else {
          rewind();
          if (first + kLanes >= chunks && !last) task.move_to(problem, task.tile + 1);
          if (first + kLanes < chunks || !last) fetch(task.lane);
        }
        int j = 0;
        if (all_inside) {
          for (; j + kAhead <= count; j += kAhead) {
            gather_places<kAhead, T>(mine, place + base + j, weight + base + j, sum);
          }
        }
        for (; j < count; ++j) {
          if (place[base + j].x != kNowhere) gather_places<1, T>(mine, place + base + j, weight + base + j, sum);
        }
      }
      if (active && chunk < chunks) Pack<T, V>::pack(sum).store(output + offset);
    }
    if (last) break;
  }
}

// Tiles a block should serve: where blocks are many, more than one.
template <int T>
inline int tiles_of_block(const Problem& problem) {
  const int64_t tiles = problem.B * problem.M * Tiles<T>::tiles_of(problem);
  return tiles >= 16384 ? 4 : 1;
}

}  // namespace racdino::cuda

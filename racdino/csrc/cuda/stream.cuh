// Forward of both operators. A group of lanes takes the samples of its queries as one stream, kLanes at a time: every
// lane works one of them out, then the group gathers them together. Rows may begin and end anywhere in a round, so that
// no lane waits where a row has fewer samples than the group has lanes.
//
// Where samples come from is the Source's: fetch(turn, tile, l, p) loads point p of level l for this lane; cell(level)
// and weight() then speak of it; prepare(turn, tile) comes before a round whose first sample is of that tile.
#pragma once

#include "common.cuh"

#include <cuda_pipeline_primitives.h>

#include <algorithm>

namespace racdino::cuda {

// Threads of a block, and those a multiprocessor shall hold: left to itself, ptxas starts the loads a few at a time.
// Staged: the block has the values of its heads in shared memory.
template <int kLanes, bool kStaged>
constexpr int kStreamThreads = kStaged ? 384 : kLanes == 4 ? 128 : 256;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kResident = 768;  // with more, registers spill
#else
constexpr int kResident = 1024;
#endif
template <int kLanes, bool kStaged>
constexpr int kStreamBlocks = kStaged ? 2 : kResident / kStreamThreads<kLanes, kStaged>;

// Heads side by side in a block. Rows of 64 bytes of one head all lie in the same half of their 128-byte lines and so
// in the same half of L1's banks; those of its neighbour lie in the other half, and both are read at once.
template <int kLanes>
constexpr int kHeads = kLanes == 4 ? 2 : 1;

// How blocks share the queries of a head, in tiles of one query per group: the grid is of heads by parts by images, so
// that no block divides to find its place. The first `longer` parts are of one tile more than `tiles`.
struct Parts {
  int tiles, longer;
  bool apart;  // the tiles of a part are not neighbours: all parts go through the image together
  int image;   // the grid's first
};

// Which head a group serves, and which of its queries.
template <int kLanes, int kBlock>
struct Turn {
  static constexpr int kQueries = kBlock / kLanes / kHeads<kLanes>;  // of a tile
  int64_t first;                                                     // row of query 0 in (B, Q, M)
  int b, m, group, lane, tiles;
  unsigned queries, place, step;  // of the group's query of tile 0, and from one tile to the next
  bool active;                    // false: a spare group, which works on the last head and stores nothing

  __device__ Turn(const Problem& problem, const Parts& parts) : queries(static_cast<unsigned>(problem.Q)) {
    const int part = blockIdx.y;
    b = parts.image + blockIdx.z;
    group = threadIdx.x / kLanes;
    lane = threadIdx.x % kLanes;
    tiles = parts.tiles + (part < parts.longer);
    step = (parts.apart ? gridDim.y : 1) * kQueries;
    place = (parts.apart ? part : part * parts.tiles + min(part, parts.longer)) * kQueries + group / kHeads<kLanes>;
    m = blockIdx.x * kHeads<kLanes> + group % kHeads<kLanes>;
    active = m < problem.M;
    if (!active) m = problem.M - 1;
    first = b * problem.Q * problem.M + m;
  }
  // The last one again behind it.
  __device__ unsigned query(int tile) const { return min(tile * step + place, queries - 1); }
  __device__ bool has(int tile) const { return tile * step + place < queries; }

  static unsigned heads_of(const Problem& problem) { return (problem.M + kHeads<kLanes> - 1) / kHeads<kLanes>; }
  static unsigned tiles_of(const Problem& problem) {
    return static_cast<unsigned>((problem.Q + kQueries - 1) / kQueries);
  }
};

// One lane's sample, for the group to read: 16 bytes of float, one load. A corner outside is read at its neighbour's
// place, whose factor has both shares; so an axis has two shares only where it has two pixels.
template <typename A>
struct alignas(16) Spot {
  unsigned pixel;  // left above
  A right;         // share of the right column; 0: there is none
  A above, below;  // factors of the rows, with the weight; below 0: there is none

  __device__ static Spot of(const Cell<A>& cell, const Level& level, A weight) {
    const bool left = cell.x0 >= 0, top = cell.y0 >= 0;
    const bool columns = left && cell.x0 + 1 < level.W, rows = top && cell.y0 + 1 < level.H;
    const A scaled = columns ? weight : weight * (left ? 1 - cell.lx : cell.lx);
    const int corner = level.start + (top ? cell.y0 : 0) * level.W + (left ? cell.x0 : 0);
    return {
        static_cast<unsigned>(corner),
        columns ? cell.lx : A(0),
        scaled * (top ? 1 - cell.ly : cell.ly),
        rows ? scaled * cell.ly : A(0)};
  }
  __device__ unsigned corner(int c, unsigned width) const {
    return pixel + (c & 2 && below != A(0) ? width : 0) + (c & 1 && right != A(0) ? 1 : 0);
  }
  __device__ Four<A> factors() const {
    const A above_right = above * right, below_right = below * right;
    return {{above - above_right, above_right, below - below_right, below_right}};
  }
};

// sum += samples of one level; load(j, pixel) loads a corner of sample j. Loads of two samples are started before the
// first of them is used.
template <int kUnit, typename T, int V, typename Load>
__device__ inline void gather(const Spot<Accumulate<T>>* spots, unsigned width, Load load, Accumulate<T> (&sum)[V]) {
  using A = Accumulate<T>;
  constexpr int kAhead = kUnit < 2 ? 1 : 2;
#pragma unroll
  for (int j0 = 0; j0 < kUnit; j0 += kAhead) {
    Pack<T, V> corner[kAhead][4];
    Four<A> factor[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const Spot<A> spot = spots[j0 + j];
#pragma unroll
      for (int c = 0; c < 4; ++c) corner[j][c] = load(j0 + j, spot.corner(c, width));
      factor[j] = spot.factors();
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        A x[V];
        corner[j][c].unpack(x);
#pragma unroll
        for (int i = 0; i < V; ++i) sum[i] += factor[j].x[c] * x[i];
      }
    }
  }
}

// What samples outside read in place.
static __device__ const uint4 kZeros = {0, 0, 0, 0};

// The values of a group's head, read where they are.
template <typename T, int V, int kLanes>
struct InPlace {
  const char* value;  // this lane's part of pixel 0
  unsigned pixel_bytes;
  static constexpr unsigned zeros = 0;  // the pixel of a sample outside

  template <typename Turn>
  __device__ InPlace(uint4*, const char* value_, unsigned bytes, const Turn&, int) : value(value_), pixel_bytes(bytes) {
    // Nothing to be taken apart again: an address is one multiply-add, and ptxas has the registers to start all loads
    // before it needs the first.
    asm volatile("" : "+l"(value));
  }
  __device__ Pack<T, V> load(const char* from, unsigned pixel) const {
    return Pack<T, V>::load_line(at(from, pixel, pixel_bytes));
  }
  // Samples [u, u + kUnit) of the round. inside: one bit for the sample of each lane of the warp.
  template <int kUnit>
  __device__ void add(
      const Spot<Accumulate<T>>* spots, unsigned width, unsigned inside, int u, Accumulate<T> (&sum)[V]) const {
    unsigned all = 0;
#pragma unroll
    for (int g = 0; g < 32; g += kLanes) all |= ((1u << kUnit) - 1) << g;
    if ((inside >> u & all) == all) {
      gather<kUnit, T>(spots, width, [&](int, unsigned pixel) { return load(value, pixel); }, sum);
    } else {
      const unsigned ours = inside >> u >> threadIdx.x % 32 / kLanes * kLanes;
      const char* nothing = reinterpret_cast<const char*>(&kZeros);
      gather<kUnit, T>(
          spots,
          width,
          [&](int j, unsigned pixel) { return load(ours >> j & 1 ? value : nothing, pixel); },
          sum);
    }
  }
};

// The same, copied to shared memory, a row to each pixel of the block's heads and one of zeros behind the last.
template <typename T, int V, int kLanes>
struct Staged {
  static constexpr int kWords = kHeads<kLanes> * kLanes;
  unsigned mine;  // address of this lane's word of pixel 0
  unsigned zeros;

  template <typename Turn>
  __device__ Staged(uint4* memory, const char* value, unsigned pixel_bytes, const Turn&, int pixels) : zeros(pixels) {
    uint4* to = memory + threadIdx.x % kWords;
#pragma unroll 4
    for (int pixel = threadIdx.x / kWords; pixel < pixels; pixel += kStreamThreads<kLanes, true> / kWords) {
      __pipeline_memcpy_async(to + pixel * kWords, at(value, pixel, pixel_bytes), sizeof(uint4));
    }
    if (threadIdx.x < kWords) to[pixels * kWords] = uint4{0, 0, 0, 0};
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();
    mine = static_cast<unsigned>(__cvta_generic_to_shared(to));
  }
  static int64_t bytes(int64_t pixels) { return (pixels + 1) * kWords * static_cast<int64_t>(sizeof(uint4)); }
  // In assembler and volatile, so that loads stay together and before the arithmetic.
  __device__ Pack<T, V> load(unsigned pixel) const {
    Pack<T, V> loaded;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(loaded.word.x), "=r"(loaded.word.y), "=r"(loaded.word.z), "=r"(loaded.word.w)
                 : "r"(mine + pixel * static_cast<unsigned>(kWords * sizeof(uint4))));
    return loaded;
  }
  template <int kUnit>
  __device__ void add(const Spot<Accumulate<T>>* spots, unsigned width, unsigned, int, Accumulate<T> (&sum)[V]) const {
    gather<kUnit, T>(spots, width, [&](int, unsigned pixel) { return load(pixel); }, sum);
  }
};

// A place in the stream: point p of level l of the query of a tile.
struct Point {
  int tile, l, p;

  __device__ Point(const Problem& problem, int tile_, int ahead) : tile(tile_), l(0), p(0) { advance(problem, ahead); }
  __device__ void advance(const Problem& problem, int samples) {
    for (p += samples; p >= problem.P; p -= problem.P) {
      if (++l == problem.L) l = 0, ++tile;
    }
  }
  // The same for samples of one level, which may be the last of their row; the tile stays.
  __device__ bool ends_row(const Problem& problem, int samples) {
    if ((p += samples) < problem.P) return false;
    p = 0;
    if (++l < problem.L) return false;
    l = 0;
    return true;
  }
};

// Words of shared memory the table of levels takes.
__host__ __device__ inline int words_of_levels(const Problem& problem) {
  return static_cast<int>((problem.L * sizeof(Level) + sizeof(uint4) - 1) / sizeof(uint4));
}

// kUnit samples that follow each other lie in one level.
template <typename T, int V, int kLanes, int kUnit, bool kStaged, typename Source, typename... More>
__device__ inline void sum_stream(const Problem& problem, const Parts& parts, const More&... more) {
  using A = Accumulate<T>;
  using Values = std::conditional_t<kStaged, Staged<T, V, kLanes>, InPlace<T, V, kLanes>>;
  constexpr int kBlock = kStreamThreads<kLanes, kStaged>;
  constexpr int kRun = kLanes < 8 ? 8 : kLanes;  // slots to a spare one, so that groups use different banks
  extern __shared__ uint4 dynamic[];
  __shared__ Spot<A> slots[kBlock + kBlock / kRun];

  const RawLevel level_ahead(problem, threadIdx.x);
  const Turn<kLanes, kBlock> turn(problem, parts);
  Source source(problem, turn, more...);
  Point mine(problem, 0, turn.lane);
  const auto fetch = [&] { source.fetch(turn, min(mine.tile, turn.tiles - 1), mine.l, mine.p); };
  fetch();  // always a round ahead
  Level* levels = reinterpret_cast<Level*>(dynamic);
  load_levels(problem, levels, level_ahead);

  const int chunks = problem.D / V;
  const int64_t row_bytes = problem.D * static_cast<int64_t>(sizeof(T));
  const unsigned pixel_bytes = static_cast<unsigned>(problem.M * row_bytes);
  const char* head = static_cast<const char*>(problem.value) + (turn.b * problem.S * problem.M + turn.m) * row_bytes;
  Spot<A>* own = slots + threadIdx.x + threadIdx.x / kRun;
  for (int first = 0; first < chunks; first += kLanes) {
    const int64_t offset = min(first + turn.lane, chunks - 1) * static_cast<int64_t>(V * sizeof(T));  // spare: the last
    const Values values(
        dynamic + words_of_levels(problem), head + offset, pixel_bytes, turn, static_cast<int>(problem.S));
    char* output = static_cast<char*>(problem.output) + turn.first * row_bytes + offset;
    const bool stores = turn.active && first + turn.lane < chunks;
    A sum[V] = {};
    Point here(problem, 0, 0);
    while (here.tile < turn.tiles) {
      source.prepare(turn, here.tile);
      const Level level = levels[mine.l];
      const Cell<A> cell = source.cell(level);
      const unsigned inside = __ballot_sync(0xffffffffu, cell.inside || mine.tile >= turn.tiles);
      const Spot<A> spot = cell.inside ? Spot<A>::of(cell, level, source.weight()) : Spot<A>{values.zeros, 0, 0, 0};
      __syncwarp();  // the round before has been read
      *own = spot;
      __syncwarp();
      mine.advance(problem, kLanes);
      fetch();
#pragma unroll 1
      for (int u = 0; u < kLanes && here.tile < turn.tiles; u += kUnit) {
        values.template add<kUnit>(own - turn.lane + u, levels[here.l].W, inside, u, sum);
        if (!here.ends_row(problem, kUnit)) continue;
        if (stores && turn.has(here.tile)) {
          Pack<T, V>::pack(sum).store(at(output, turn.query(here.tile), pixel_bytes));
        }
#pragma unroll
        for (int i = 0; i < V; ++i) sum[i] = 0;
        ++here.tile;
      }
    }
    if (first + kLanes < chunks) {
      source.restart();
      mine = Point(problem, 0, turn.lane);
      fetch();
    }
  }
}

// The variants compiled: X(V, T, unit, staged, ...). Single elements serve every width and address that 16 bytes do not
// divide; units of one, every number of points.
#define RACDINO_NARROW_STREAMS(X, wide, ...)                                                 \
  X(wide, 4, 1, 0, __VA_ARGS__) X(wide, 8, 1, 0, __VA_ARGS__) X(wide, 16, 1, 0, __VA_ARGS__) \
  X(wide, 32, 1, 0, __VA_ARGS__) X(1, 8, 1, 0, __VA_ARGS__) X(1, 32, 1, 0, __VA_ARGS__)
#define RACDINO_WIDE_STREAMS(X, wide, ...)                                                   \
  RACDINO_NARROW_STREAMS(X, wide, __VA_ARGS__)                                               \
  X(wide, 4, 4, 0, __VA_ARGS__) X(wide, 8, 4, 0, __VA_ARGS__) X(wide, 16, 4, 0, __VA_ARGS__) \
  X(wide, 32, 4, 0, __VA_ARGS__) X(wide, 4, 4, 1, __VA_ARGS__) X(wide, 8, 4, 1, __VA_ARGS__)

struct Card {
  int processors = 0, shared = 0, l2 = 0;  // multiprocessors, the bytes of shared memory of each, those of the L2 cache

  Card() {
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return;
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
    cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, device);
  }
};

// Which variant a problem takes.
struct Shape {
  int width, lanes, unit;
  bool staged;

  // sources_aligned: those of the samples.
  Shape(const Problem& problem, Type type, bool sources_aligned)
      : width(vector_width(problem, type)), lanes(lanes_for(problem.D, width)) {
    const bool wide = width > 1 && type != Type::float64;
    unit = wide && problem.P % 4 == 0 && sources_aligned ? 4 : 1;
    staged = unit == 4 && lanes <= 8 && pays_to_stage(problem);
  }
  bool is(int V, int T, int unit_, bool staged_) const {
    return width == V && lanes == T && unit == unit_ && staged == staged_;
  }

 private:
  // Two blocks shall fit, and read what they stage often enough.
  bool pays_to_stage(const Problem& problem) const {
    constexpr int64_t kBesides = 16384;  // what else a block has in shared memory
    const int64_t pitch = lanes * (lanes == 4 ? 2 : 1) * 16;
    return problem.Q * problem.L * problem.P >= 8 * problem.S &&
           2 * ((problem.S + 1) * pitch + kBesides) <= Card().shared;
  }
};

constexpr int64_t kMostBlocks = 65535;  // of a grid, along y and along z

// Parts that share the queries of a head, which makes up to twice the time; apart: as in Parts.
template <typename T, int kLanes, bool kStaged, int kBlocks>
inline int parts_of(const Problem& problem, bool& apart) {
  using Where = Turn<kLanes, kStreamThreads<kLanes, kStaged>>;
  const Card card;
  const int64_t tiles = Where::tiles_of(problem), heads = problem.B * Where::heads_of(problem);
  const int64_t processors = std::max(card.processors, 1), slots = processors * kBlocks;
  apart = false;
  const int64_t one_wave = std::clamp<int64_t>(slots / heads, 1, tiles);
  const auto over = [](int64_t whole, int64_t part) { return (whole + part - 1) / part; };
  if (kStaged) {
    // Every block copies the values: no more of them than it takes to have the last wave nearly full.
    const auto waste = [&](int64_t parts) { return over(heads * parts, slots) * slots - heads * parts; };
    int64_t parts = one_wave;
    if (2 * heads > slots) {
      while (parts < std::min<int64_t>(tiles, 8) && 6 * waste(parts) > heads * parts) ++parts;
    }
    return static_cast<int>(parts);
  }
  // The blocks of a head shall be near enough to each other to meet in L2. With two heads to a block they are far apart
  // soon.
  constexpr int64_t kMostTiles = kHeads<kLanes> == 2 ? 2 : 12;
  int64_t parts = over(tiles, kMostTiles);
  if (heads * parts <= slots) {
    // All at once: as many as leave the busiest multiprocessor the fewest tiles.
    const auto busiest = [&](int64_t n) { return over(heads * n, processors) * tiles / static_cast<double>(n); };
    for (int64_t more = parts + 1; more <= one_wave; ++more) {
      if (busiest(more) <= busiest(parts)) parts = more;
    }
    return static_cast<int>(parts);
  }
  // In waves: whole ones, and so many parts that the images of one fit L2, with room for what else is read. As they go
  // through these together, they need not even all of them.
  apart = true;
  const int64_t image_bytes = problem.S * problem.M * problem.D * static_cast<int64_t>(sizeof(T));
  parts = std::max(parts, over(slots * image_bytes, Where::heads_of(problem) * std::max<int64_t>(card.l2, 1) / 8 * 5));
  parts = over(heads * std::min(parts, tiles), slots) * slots / heads;
  return static_cast<int>(std::min({parts, tiles, kMostBlocks}));
}

// kBlocks: those a multiprocessor holds.
template <
    typename T,
    int V,
    int kLanes,
    bool kStaged,
    int kBlocks = kStreamBlocks<kLanes, kStaged>,
    typename Kernel,
    typename... More>
inline cudaError_t launch(Kernel kernel, const Problem& problem, cudaStream_t stream, const More&... more) {
  constexpr int kBlock = kStreamThreads<kLanes, kStaged>;
  using Where = Turn<kLanes, kBlock>;
  bool apart;
  const int parts = parts_of<T, kLanes, kStaged, kBlocks>(problem, apart), tiles = Where::tiles_of(problem);
  int64_t bytes = words_of_levels(problem) * sizeof(uint4);
  if constexpr (kStaged) {
    bytes += Staged<T, V, kLanes>::bytes(problem.S);
    const auto status =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (status != cudaSuccess) return status;
  }
  for (int64_t image = 0; image < problem.B; image += kMostBlocks) {
    const dim3 blocks(Where::heads_of(problem), parts, std::min<int64_t>(problem.B - image, kMostBlocks));
    const Parts shared{tiles / parts, tiles % parts, apart, static_cast<int>(image)};
    kernel<<<blocks, kBlock, bytes, stream>>>(problem, more..., shared);
  }
  return cudaGetLastError();
}

}  // namespace racdino::cuda

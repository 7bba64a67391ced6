// Gradients of locations and weights alone, from the dot products that backward.cu explains. A group of lanes takes the
// samples of its queries as one stream, as in the forward (stream.cuh), with the row of grad_output in registers.
#include "backward.cuh"
#include "stream.cuh"

namespace racdino::cuda {
namespace {

// Fewer threads resident than in the forward: each has dot products and a row of grad_output beside what it loads.
template <int kLanes, bool kStaged>
constexpr int kDotsBlocks = kStaged ? 2 : 768 / kStreamThreads<kLanes, kStaged>;

// Sums over two lanes, `distance` apart, of the products of two samples: the lower lane gets those of the first.
template <int distance, typename A>
__device__ inline Four<A> fold(const Four<A>& first, const Four<A>& second) {
  const bool upper = threadIdx.x & distance;
  Four<A> sum;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const A keep = upper ? second.x[c] : first.x[c], give = upper ? first.x[c] : second.x[c];
    sum.x[c] = keep + __shfl_xor_sync(0xffffffffu, give, distance);
  }
  return sum;
}

// This lane's channels of <g, corner> of two samples, all of whose corners are loaded together, folded.
template <typename T, int V, typename Load>
__device__ inline Four<Accumulate<T>> products(const Place* places, const Accumulate<T> (&g)[V], Load load) {
  using A = Accumulate<T>;
  Pack<T, V> corner[2][4];
  Four<A> dot[2];
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const Place here = places[j];
#pragma unroll
    for (int c = 0; c < 4; ++c) corner[j][c] = load(here.corner(c));
  }
#pragma unroll
  for (int j = 0; j < 2; ++j) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      A x[V];
      corner[j][c].unpack(x);
      dot[j].x[c] = g[0] * x[0];
#pragma unroll
      for (int i = 1; i < V; ++i) dot[j].x[c] += g[i] * x[i];
    }
  }
  return fold<1>(dot[0], dot[1]);
}

// What a lane keeps of its sample until the dot products are there.
template <typename A>
struct Kept {
  A lx, ly, weight_x, weight_y;  // weight times the level's size
  unsigned corners;              // one bit for each that is inside
  unsigned query, sample;        // sample: l * P + p
  bool stores;
};

// The lanes of a group just cover a head, and four samples that follow each other lie in one level.
template <typename T, int V, int kLanes, bool kStaged>
__device__ inline void stream_dots(const Problem& problem, const Parts& parts) {
  static_assert(kLanes == 4 || kLanes == 8);
  using A = Accumulate<T>;
  using Values = std::conditional_t<kStaged, Staged<T, V, kLanes>, InPlace<T, V, kLanes>>;
  constexpr int kBlock = kStreamThreads<kLanes, kStaged>, kRun = 8;  // slots to a spare one, as in stream.cuh
  extern __shared__ uint4 dynamic[];
  __shared__ Place slots[kBlock + kBlock / kRun];

  const Turn<kLanes, kBlock> turn(problem, parts);
  const unsigned n = problem.L * problem.P, row_bytes = problem.M * n * sizeof(A);  // of weights, to the next query
  const A* locations = static_cast<const A*>(problem.locations) + 2 * turn.first * n;
  const A* weights = static_cast<const A*>(problem.weights) + turn.first * n;
  Point mine(problem, 0, turn.lane);
  A x, y, weight;
  const auto fetch = [&] {  // always a round ahead
    const unsigned query = turn.query(min(mine.tile, turn.tiles - 1)), sample = mine.l * problem.P + mine.p;
    read_pair<true>(at(locations, query, 2 * row_bytes) + 2 * sample, x, y);
    weight = read(at(weights, query, row_bytes) + sample);
  };
  fetch();
  const unsigned pixel_bytes = static_cast<unsigned>(problem.M * problem.D * sizeof(T));
  const T* grad_output = static_cast<const T*>(problem.grad_output) + turn.first * problem.D + turn.lane * V;
  const auto grad_row = [&](int tile) {
    return Pack<T, V>::load(at(grad_output, turn.query(min(tile, turn.tiles - 1)), pixel_bytes));
  };
  Pack<T, V> ahead = grad_row(0);
  Level* levels = reinterpret_cast<Level*>(dynamic);
  load_levels(problem, levels);
  const T* value = static_cast<const T*>(problem.value) +
                   (turn.b * problem.S * problem.M + turn.m) * problem.D + turn.lane * V;
  const Values values(
      dynamic + words_of_levels(problem),
      reinterpret_cast<const char*>(value),
      pixel_bytes,
      turn,
      static_cast<int>(problem.S));
  const auto load = [&](unsigned pixel) {
    if constexpr (kStaged) {
      return values.load(pixel);
    } else {
      return values.load(values.value, pixel);
    }
  };

  A g[V];
  ahead.unpack(g);
  ahead = grad_row(1);
  Point here(problem, 0, 0);
  // Of four samples, each lane gets the products of that with its own last two bits.
  const auto four = [&](const Place* places) {
    const Four<A> first = products<T, V>(places, g, load), second = products<T, V>(places + 2, g, load);
    if (here.ends_row(problem, 4)) {
      ++here.tile;
      ahead.unpack(g);
      ahead = grad_row(here.tile + 1);
    }
    return fold<2>(first, second);
  };

  Place* own = slots + threadIdx.x + threadIdx.x / kRun;
  while (here.tile < turn.tiles) {
    const Level level = levels[mine.l];
    const Cell<A> cell = cell_of(x, y, level);
    const bool left = cell.x0 >= 0, right = cell.x0 + 1 < level.W, above = cell.y0 >= 0, below = cell.y0 + 1 < level.H;
    const A a = cell.inside ? weight : A(0);
    Place place = {0, 0};  // outside: of some pixel, whose products nobody takes
    if (cell.inside) {
      place.pixel = level.start + (above ? cell.y0 : 0) * level.W + (left ? cell.x0 : 0);
      place.step = 2u * (above && below ? level.W : 0) + (left && right ? 1u : 0u);
    }
    __syncwarp();  // the round before has been read
    *own = place;
    __syncwarp();
    const Kept<A> kept = {
        cell.inside ? cell.lx : A(0),
        cell.inside ? cell.ly : A(0),
        a * level.W,
        a * level.H,
        cell.inside ? (above ? left + 2u * right : 0) + (below ? 4u * left + 8u * right : 0) : 0,
        turn.query(min(mine.tile, turn.tiles - 1)),
        static_cast<unsigned>(mine.l * problem.P + mine.p),
        turn.active && mine.tile < turn.tiles && turn.has(mine.tile)};
    mine.advance(problem, kLanes);
    fetch();
    Four<A> dot = four(own - turn.lane);
    if constexpr (kLanes == 8) {
      const Four<A> second = here.tile < turn.tiles ? four(own - turn.lane + 4) : Four<A>{};
      dot = fold<4>(dot, second);
    }
    if (!kept.stores) continue;
#pragma unroll
    for (int c = 0; c < 4; ++c) dot.x[c] = kept.corners >> c & 1 ? dot.x[c] : A(0);
    const A fx = 1 - kept.lx, fy = 1 - kept.ly;
    if (problem.grad_weights) {
      A* row = at(static_cast<A*>(problem.grad_weights) + turn.first * n, kept.query, row_bytes);
      row[kept.sample] = fy * (fx * dot.x[0] + kept.lx * dot.x[1]) + kept.ly * (fx * dot.x[2] + kept.lx * dot.x[3]);
    }
    if (problem.grad_locations) {
      const A slope[2] = {
          kept.weight_x * (fy * (dot.x[1] - dot.x[0]) + kept.ly * (dot.x[3] - dot.x[2])),
          kept.weight_y * (fx * (dot.x[2] - dot.x[0]) + kept.lx * (dot.x[3] - dot.x[1]))};
      A* row = at(static_cast<A*>(problem.grad_locations) + 2 * turn.first * n, kept.query, 2 * row_bytes);
      Pack<A, 2>::pack(slope).store(row + 2 * kept.sample);
    }
  }
}

}  // namespace

// X(V, T, staged, type, name)
#define RACDINO_DOTS_OF(X, V, type, name) \
  X(V, 4, 0, type, name) X(V, 8, 0, type, name) X(V, 4, 1, type, name) X(V, 8, 1, type, name)
#define RACDINO_DOTS(X)                 \
  RACDINO_DOTS_OF(X, 4, float, float32) \
  RACDINO_DOTS_OF(X, 8, __half, float16) RACDINO_DOTS_OF(X, 8, __nv_bfloat16, bfloat16)

#define RACDINO_KERNEL(V, T, staged, type, name)                                                       \
  extern "C" __global__ void __launch_bounds__(kStreamThreads<T, staged>, kDotsBlocks<T, staged>)      \
      ms_deform_attn_dots_##name##_v##V##_t##T##_s##staged(const Problem problem, const Parts parts) { \
    stream_dots<type, V, T, staged>(problem, parts);                                                   \
  }
RACDINO_DOTS(RACDINO_KERNEL)
#undef RACDINO_KERNEL

// Other types, widths and numbers of points: backward.cu.
cudaError_t launch_dots(const Problem& problem, Type type, cudaStream_t stream) {
  const Shape shape(problem, type, aligned(problem.locations));
#define RACDINO_LAUNCH(V, T, staged, type_, name)                               \
  if (type == Type::name && problem.D == V * T && shape.is(V, T, 4, staged)) {  \
    return launch<type_, V, T, staged, kDotsBlocks<T, staged>>(                 \
        ms_deform_attn_dots_##name##_v##V##_t##T##_s##staged, problem, stream); \
  }
  RACDINO_DOTS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return launch_backward(problem, type, stream);
}

}  // namespace racdino::cuda

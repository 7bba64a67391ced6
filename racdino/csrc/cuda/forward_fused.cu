// Forward of the fused operator: each sample's location and weight are made from its reference, offset and logit by the
// lane that the plain operator has load them.
#include "fused.cuh"
#include "stream.cuh"

namespace racdino::cuda {
namespace {

// Samples as the fused operator gets them. Every kLanes tiles, the softmax of all their rows is worked out ahead.
template <typename T, int kLanes, int kUnit, bool kStaged, typename S>
struct Made {
  using A = Accumulate<T>;
  using Row = Softmax<kLanes, A>;
  static constexpr int kTiles = 2 * kLanes;  // kept, since a round may reach into the next kLanes
  static constexpr int kTogether = 2;        // whose logits are loaded together
  const Fusion& fusion;
  const S *offsets, *logits;  // of query 0
  unsigned row_bytes, n, P;   // of logits, from a query to the next; points of a row; of a level
  A share;                    // half over the number of points
  Row* rows;                  // the softmax of those of this group
  int ready = 0, reach;       // the tile up to which they are there; tiles a round goes on
  Row own;                    // that of this lane's row, where a row has four samples
  int tile = 0;
  A x = 0, y = 0, logit = 0;
  Reference<A> reference;

  template <typename Turn>
  __device__ Made(const Problem& problem, const Turn& turn, const Fusion& fusion_)
      : fusion(fusion_),
        row_bytes(problem.M * problem.L * problem.P * sizeof(S)),
        n(problem.L * problem.P),
        P(problem.P),
        share(A(0.5) / problem.P),
        reach((kLanes + n - 2) / n) {
    __shared__ Row memory[kStreamThreads<kLanes, kStaged> / kLanes * kTiles];
    offsets = static_cast<const S*>(fusion.offsets) + 2 * turn.first * n;
    logits = static_cast<const S*>(fusion.logits) + turn.first * n;
    rows = memory + turn.group * kTiles;
  }
  __device__ void restart() { ready = 0; }
  template <typename Turn>
  __device__ void prepare(const Turn& turn, int of_tile) {
    if (kUnit == 4 && n == 4) {  // four lanes have the row at hand
      const A first[1] = {logit};
      const auto quad = Softmax<4, A>::of(logits, 4, turn.lane % 4, first);
      own = {quad.largest, quad.scale};
      return;
    }
    if (ready > of_tile + reach) return;
    __syncwarp();
#pragma unroll 1
    for (int t = ready; t < min(ready + kLanes, turn.tiles); t += kTogether) {
      const auto row = [&](int i) { return at(logits, turn.query(t + i), row_bytes); };
      A first[kTogether][kUnit];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) Row::begin(row(i), n, turn.lane, first[i]);
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const Row softmax = Row::of(row(i), n, turn.lane, first[i]);
        if (turn.lane == 0) rows[(t + i) % kTiles] = softmax;
      }
    }
    ready += kLanes;
    __syncwarp();
  }
  template <typename Turn>
  __device__ void fetch(const Turn& turn, int of_tile, int l, int p) {
    const unsigned query = turn.query(of_tile), sample = l * P + p;
    read_pair<kUnit % 2 == 0>(at(offsets, query, 2 * row_bytes) + 2 * sample, x, y);
    logit = read(at(logits, query, row_bytes) + sample);
    reference = Reference<A>(fusion, share, turn.b, query, l);
    tile = of_tile;
  }
  __device__ Cell<A> cell(const Level& level) const {
    const A scale_x = fusion.boxes ? reference.half_w * level.W : A(1);
    const A scale_y = fusion.boxes ? reference.half_h * level.H : A(1);
    return cell_at(
        reference.x * level.W + x * scale_x - A(0.5), reference.y * level.H + y * scale_y - A(0.5), level);
  }
  __device__ A weight() const { return (kUnit == 4 && n == 4 ? own : rows[tile % kTiles]).weight(logit); }
};

}  // namespace

// Offsets and logits in the type of sums, or in 16 bits like the values: X(type, name, storage, its name, ...).
#define RACDINO_FUSED_STREAMS(X)                                      \
  RACDINO_NARROW_STREAMS(X, 2, double, float64, double, float64)      \
  RACDINO_WIDE_STREAMS(X, 4, float, float32, float, float32)          \
  RACDINO_WIDE_STREAMS(X, 8, __half, float16, float, float32)         \
  RACDINO_WIDE_STREAMS(X, 8, __half, float16, __half, float16)        \
  RACDINO_WIDE_STREAMS(X, 8, __nv_bfloat16, bfloat16, float, float32) \
  RACDINO_WIDE_STREAMS(X, 8, __nv_bfloat16, bfloat16, __nv_bfloat16, bfloat16)

#define RACDINO_KERNEL(V, T, unit, staged, type, name, S, stored)                                   \
  extern "C" __global__ void __launch_bounds__(kStreamThreads<T, staged>, kStreamBlocks<T, staged>) \
      ms_deform_attn_fused_##name##_##stored##_v##V##_t##T##_u##unit##_s##staged(                   \
          const Problem problem, const Fusion fusion, const Parts parts) {                          \
    sum_stream<type, V, T, unit, staged, Made<type, T, unit, staged, S>>(problem, parts, fusion);   \
  }
RACDINO_FUSED_STREAMS(RACDINO_KERNEL)
#undef RACDINO_KERNEL

cudaError_t launch_forward_fused(const Problem& problem, const Fusion& fusion, Type type, cudaStream_t stream) {
  const Shape shape(problem, type, aligned(fusion.offsets) && aligned(fusion.logits));
#define RACDINO_LAUNCH(V, T, unit, staged, type_, name, S, stored)                                            \
  if (type == Type::name && fusion.storage == Type::stored && shape.is(V, T, unit, staged)) {                 \
    return launch<type_, V, T, staged>(                                                                       \
        ms_deform_attn_fused_##name##_##stored##_v##V##_t##T##_u##unit##_s##staged, problem, stream, fusion); \
  }
  RACDINO_FUSED_STREAMS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaErrorInvalidValue;
}

}  // namespace racdino::cuda

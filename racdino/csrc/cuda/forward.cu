// Forward: out[b,q,m,:] = sum over samples of weight * bilinear(value).
#include "stream.cuh"

namespace racdino::cuda {
namespace {

// Samples as the operator gets them.
template <typename T, int kUnit>
struct Given {
  using A = Accumulate<T>;
  const A *locations, *weights;  // of query 0
  unsigned row_bytes, P;         // of weights, from a query to the next; points of a level
  A x = 0, y = 0, a = 0;

  template <typename Turn>
  __device__ Given(const Problem& problem, const Turn& turn)
      : row_bytes(problem.M * problem.L * problem.P * sizeof(A)), P(problem.P) {
    const int64_t first = turn.first * (problem.L * problem.P);
    locations = static_cast<const A*>(problem.locations) + 2 * first;
    weights = static_cast<const A*>(problem.weights) + first;
  }
  template <typename Turn>
  __device__ void prepare(const Turn&, int) {}
  __device__ void restart() {}
  template <typename Turn>
  __device__ void fetch(const Turn& turn, int tile, int l, int p) {
    const unsigned query = turn.query(tile), sample = l * P + p;
    read_pair<kUnit % 2 == 0>(at(locations, query, 2 * row_bytes) + 2 * sample, x, y);
    a = read(at(weights, query, row_bytes) + sample);
  }
  __device__ Cell<A> cell(const Level& level) const { return cell_of(x, y, level); }
  __device__ A weight() const { return a; }
};

}  // namespace

// X(..., type, name)
#define RACDINO_PLAIN_STREAMS(X)                \
  RACDINO_NARROW_STREAMS(X, 2, double, float64) \
  RACDINO_WIDE_STREAMS(X, 4, float, float32)    \
  RACDINO_WIDE_STREAMS(X, 8, __half, float16)   \
  RACDINO_WIDE_STREAMS(X, 8, __nv_bfloat16, bfloat16)

#define RACDINO_KERNEL(V, T, unit, staged, type, name)                                              \
  extern "C" __global__ void __launch_bounds__(kStreamThreads<T, staged>, kStreamBlocks<T, staged>) \
      ms_deform_attn_forward_##name##_v##V##_t##T##_u##unit##_s##staged(                            \
          const Problem problem, const Parts parts) {                                               \
    sum_stream<type, V, T, unit, staged, Given<type, unit>>(problem, parts);                        \
  }
RACDINO_PLAIN_STREAMS(RACDINO_KERNEL)
#undef RACDINO_KERNEL

cudaError_t launch_forward(const Problem& problem, Type type, cudaStream_t stream) {
  const Shape shape(problem, type, aligned(problem.locations));
#define RACDINO_LAUNCH(V, T, unit, staged, type_, name)                                      \
  if (type == Type::name && shape.is(V, T, unit, staged)) {                                  \
    return launch<type_, V, T, staged>(                                                      \
        ms_deform_attn_forward_##name##_v##V##_t##T##_u##unit##_s##staged, problem, stream); \
  }
  RACDINO_PLAIN_STREAMS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaErrorInvalidValue;
}

}  // namespace racdino::cuda

// Forward of the fused operator: each sample's location and weight are made from its reference, offset and logit by the
// lane that the plain operator has load them.
#include "fused.cuh"
#include "tiles.cuh"

namespace racdino::cuda {
namespace {

// Samples as the fused operator gets them.
template <typename T, int kLanes, typename S>
struct Made {
  using A = Accumulate<T>;
  const Fusion& fusion;
  A share;  // half over the number of points
  A x = 0, y = 0, logit = 0;
  Reference<A> reference;
  Softmax<kLanes, A> softmax;

  __device__ Made(const Problem& problem, const Fusion& fusion_) : fusion(fusion_), share(A(0.5) / problem.P) {}
  __device__ void fetch(const Problem& problem, const Tiles<kLanes>& task, int s, int l) {
    const int64_t sample = task.row * (problem.L * problem.P) + s;
    x = read(static_cast<const S*>(fusion.offsets) + 2 * sample);
    y = read(static_cast<const S*>(fusion.offsets) + 2 * sample + 1);
    logit = read(static_cast<const S*>(fusion.logits) + sample);
    reference = Reference<A>(fusion, share, task.b, task.q, l);
  }
  __device__ void begin(const Problem& problem, const Tiles<kLanes>& task) {
    const int n = problem.L * problem.P;
    softmax = Softmax<kLanes, A>(static_cast<const S*>(fusion.logits) + task.row * n, n, task.lane);
  }
  __device__ Cell<A> cell(const Level& level) const {
    const A scale_x = fusion.boxes ? reference.half_w * level.W : A(1);
    const A scale_y = fusion.boxes ? reference.half_h * level.H : A(1);
    return cell_at(
        reference.x * level.W + x * scale_x - A(0.5), reference.y * level.H + y * scale_y - A(0.5), level);
  }
  __device__ A weight() const { return softmax.weight(logit); }
};

}  // namespace

// Offsets and logits in the type of sums, or in 16 bits like the values: X(type, name, storage, its name, V, T).
#define RACDINO_FUSED_VARIANTS_OF(X, type, name, S, stored, V)                                  \
  X(type, name, S, stored, V, 4) X(type, name, S, stored, V, 8) X(type, name, S, stored, V, 16) \
  X(type, name, S, stored, V, 32) X(type, name, S, stored, 1, 8) X(type, name, S, stored, 1, 32)
#define RACDINO_FUSED_VARIANTS(X)                                          \
  RACDINO_FUSED_VARIANTS_OF(X, double, float64, double, float64, 2)        \
  RACDINO_FUSED_VARIANTS_OF(X, float, float32, float, float32, 4)          \
  RACDINO_FUSED_VARIANTS_OF(X, __half, float16, float, float32, 8)         \
  RACDINO_FUSED_VARIANTS_OF(X, __half, float16, __half, float16, 8)        \
  RACDINO_FUSED_VARIANTS_OF(X, __nv_bfloat16, bfloat16, float, float32, 8) \
  RACDINO_FUSED_VARIANTS_OF(X, __nv_bfloat16, bfloat16, __nv_bfloat16, bfloat16, 8)

#define RACDINO_KERNEL(type, name, S, stored, V, T)                                                                 \
  extern "C" __global__ void __launch_bounds__(kThreads, kTileBlocks)                                               \
      ms_deform_attn_fused_##name##_##stored##_v##V##_t##T(const Problem problem, const Fusion fusion, int tiles) { \
    sum_tiles<type, V, T>(problem, Made<type, T, S>(problem, fusion), tiles);                                       \
  }
RACDINO_FUSED_VARIANTS(RACDINO_KERNEL)
#undef RACDINO_KERNEL

cudaError_t launch_forward_fused(const Problem& problem, const Fusion& fusion, Type type, cudaStream_t stream) {
  const int width = vector_width(problem, type), lanes = lanes_for(problem.D, width);
#define RACDINO_LAUNCH(element, name, S, stored, V, T)                                    \
  if (type == Type::name && fusion.storage == Type::stored && width == V && lanes == T) { \
    const int tiles = tiles_of_block<T>(problem);                                         \
    ms_deform_attn_fused_##name##_##stored##_v##V##_t##T<<<                               \
        Tiles<T>::blocks(problem, tiles),                                                 \
        kThreads,                                                                         \
        problem.L * sizeof(Level),                                                        \
        stream>>>(problem, fusion, tiles);                                                \
  }
  RACDINO_FUSED_VARIANTS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

}  // namespace racdino::cuda

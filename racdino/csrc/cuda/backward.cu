// Backward in one pass. With g = grad_output[b,q,m,:] and dot[c] = <g, corner c>, everything about a sample follows
// from four dot products:
//   grad_weight     = sum over c of factor[c] * dot[c]
//   grad_location.x = W * weight * (fy0 * (dot[1] - dot[0]) + fy1 * (dot[3] - dot[2])), and .y alike
//   grad_value at corner c += weight * factor[c] * g
#include "backward.cuh"

namespace racdino::cuda {
namespace {

// Lanes of the warp that hold samples [j0, j0 + 4) of their group's round.
template <int T>
__device__ inline unsigned batch_mask(int j0) {
  unsigned mask = 0;
#pragma unroll
  for (int g = 0; g < 32; g += T) mask |= 0xfu << g;
  return mask << j0;
}

template <typename T, int V, int kLanes>
__device__ inline void backward(const Problem& problem) {
  using A = Accumulate<T>;
  extern __shared__ Level levels[];
  constexpr int kSlots = kThreads + kThreads / kLanes;  // with a spare one per group, as in forward.cu
  __shared__ Four<A> weight[kSlots], dots[kSlots];
  __shared__ Place place[kSlots];
  load_levels(problem, levels);

  const Task<kLanes> task(problem);
  const int n = problem.L * problem.P, chunks = problem.D / V, base = task.group * (kLanes + 1);
  const A* locations = static_cast<const A*>(problem.locations) + 2 * task.row * n;
  const A* weights = static_cast<const A*>(problem.weights) + task.row * n;
  const unsigned stride = static_cast<unsigned>(problem.M * problem.D);
  const int64_t head = (task.b * problem.S * problem.M + task.m) * problem.D;
  const char* value = static_cast<const char*>(problem.value) + head * static_cast<int64_t>(sizeof(T));
  const T* grad_output = static_cast<const T*>(problem.grad_output) + task.row * problem.D;
  A* grad_value = problem.grad_value ? static_cast<A*>(problem.grad_value) + head : nullptr;
  const bool wants_dots = problem.grad_locations || problem.grad_weights;

  for (int s0 = 0; s0 < n; s0 += kLanes) {
    const int s = s0 + task.lane, count = min(kLanes, n - s0);
    Corners<A> corners;
    Level level = {0, 0, 0};
    A a = 0;
    if (s < n) {
      level = levels[s / problem.P];
      corners = Corners<A>(cell_of(__ldg(locations + 2 * s), __ldg(locations + 2 * s + 1), level), level);
      a = __ldg(weights + s);
    }
    const Four<A> factor = corners.factors(1);
    __syncwarp();  // the previous round has been read
    Four<A> scaled;
#pragma unroll
    for (int c = 0; c < 4; ++c) scaled.x[c] = factor.x[c] == A(0) ? A(0) : factor.x[c] * a;  // 0, of a NaN weight too
    weight[base + task.lane] = scaled;
    place[base + task.lane] = {corners.pixel, corners.step};
    const unsigned inside = __ballot_sync(0xffffffffu, corners.pixel >= 0);
    __syncwarp();

    for (int j0 = 0; j0 < count; j0 += 4) {
      const unsigned mask = batch_mask<kLanes>(j0);
      const bool all_inside = (inside & mask) == mask;
      A dot[16] = {};
      for (int first = 0; first < chunks; first += kLanes) {
        const int chunk = first + task.lane;
        if (wants_dots && chunk < chunks) {
          A g[V];
          Pack<T, V>::load(grad_output + chunk * V).unpack(g);
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const Place here = place[base + j0 + j];
            if (all_inside || here.pixel >= 0) {
#pragma unroll
              for (int c = 0; c < 4; ++c) {
                A x[V];
                Pack<T, V>::load(value + (static_cast<uint64_t>(here.corner(c)) * stride + chunk * V) * sizeof(T))
                    .unpack(x);
#pragma unroll
                for (int i = 0; i < V; ++i) dot[4 * j + c] += g[i] * x[i];
              }
            }
          }
        }
        if (grad_value && task.active) {
          // The same channels dealt out differently: one instruction of the group covers neighbouring addresses.
          constexpr int width = kReduceWidth<A, V>;
          A g[V];
          int channel[V / width];
#pragma unroll
          for (int k = 0; k < V / width; ++k) {
            channel[k] = first * V + (k * kLanes + task.lane) * width;
#pragma unroll
            for (int i = 0; i < width; ++i) {
              g[k * width + i] = channel[k] < problem.D ? widen(grad_output[channel[k] + i]) : A(0);
            }
          }
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const Place here = place[base + j0 + j];
            const Four<A> w = weight[base + j0 + j];
#pragma unroll
            for (int c = 0; c < 4; ++c) {
              if (w.x[c] == A(0)) continue;  // outside, or nothing to add
              A* row = grad_value + static_cast<uint64_t>(here.corner(c)) * stride;
#pragma unroll
              for (int k = 0; k < V / width; ++k) {
                A x[width];
#pragma unroll
                for (int i = 0; i < width; ++i) x[i] = w.x[c] * g[k * width + i];
                if (channel[k] < problem.D) add_to_memory(row + channel[k], x);
              }
            }
          }
        }
      }
      if (wants_dots) {
        reduce_scatter<kLanes>(dot);
        store_sums<kLanes>(dot, reinterpret_cast<A*>(&dots[base + j0]), task.lane);
      }
    }
    if (!wants_dots) continue;
    __syncwarp();
    if (task.active && s < n) {
      const Four<A> dot = corners.pixel >= 0 ? dots[base + task.lane] : Four<A>{{0, 0, 0, 0}};
      const int64_t sample = task.row * n + s;
      if (problem.grad_weights) {
        static_cast<A*>(problem.grad_weights)[sample] =
            factor.x[0] * dot.x[0] + factor.x[1] * dot.x[1] + factor.x[2] * dot.x[2] + factor.x[3] * dot.x[3];
      }
      if (problem.grad_locations) {
        const A slope_x = corners.fy[0] * (corners.in_x[1] * dot.x[1] - corners.in_x[0] * dot.x[0]) +
                          corners.fy[1] * (corners.in_x[1] * dot.x[3] - corners.in_x[0] * dot.x[2]);
        const A slope_y = corners.fx[0] * (corners.in_y[1] * dot.x[2] - corners.in_y[0] * dot.x[0]) +
                          corners.fx[1] * (corners.in_y[1] * dot.x[3] - corners.in_y[0] * dot.x[1]);
        static_cast<A*>(problem.grad_locations)[2 * sample] = level.W * a * slope_x;
        static_cast<A*>(problem.grad_locations)[2 * sample + 1] = level.H * a * slope_y;
      }
    }
  }
}

}  // namespace

#define RACDINO_KERNEL(type, name, V, T)                                    \
  extern "C" __global__ void __launch_bounds__(kThreads)                    \
      ms_deform_attn_backward_##name##_v##V##_t##T(const Problem problem) { \
    backward<type, V, T>(problem);                                          \
  }
RACDINO_VARIANTS(RACDINO_KERNEL)
#undef RACDINO_KERNEL

cudaError_t launch_backward(const Problem& problem, Type type, cudaStream_t stream) {
  const int width = vector_width(problem, type), lanes = lanes_for(problem.D, width);
#define RACDINO_LAUNCH(element, name, V, T)              \
  if (type == Type::name && width == V && lanes == T) {  \
    ms_deform_attn_backward_##name##_v##V##_t##T<<<      \
        static_cast<unsigned>(Task<T>::blocks(problem)), \
        kThreads,                                        \
        problem.L * sizeof(Level),                       \
        stream>>>(problem);                              \
  }
  RACDINO_VARIANTS(RACDINO_LAUNCH)
#undef RACDINO_LAUNCH
  return cudaGetLastError();
}

}  // namespace racdino::cuda

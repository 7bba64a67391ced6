// The mapping of the original Deformable-DETR kernels, written anew for comparison only: one thread per output channel,
// so that all D threads of a (query, head) load and compute the same coordinates, one float at a time, in 32-bit
// arithmetic; backward with one block of D threads per (query, head), three products per channel and sample, summed by
// thread 0.
#include "../racdino/csrc/cuda/launch.h"

using racdino::cuda::Problem;

namespace {

// One channel of the four corners; what lies outside the level is zero.
struct Corners {
  float value[4], weight[4], lx, ly;
  int place[4];  // -1: outside
};

__device__ inline Corners corners_at(const float* value, int H, int W, int stride, int channel, float y, float x) {
  const int x0 = static_cast<int>(floorf(x)), y0 = static_cast<int>(floorf(y));
  Corners c;
  c.lx = x - x0;
  c.ly = y - y0;
  const float hx = 1 - c.lx, hy = 1 - c.ly;
  c.weight[0] = hy * hx;
  c.weight[1] = hy * c.lx;
  c.weight[2] = c.ly * hx;
  c.weight[3] = c.ly * c.lx;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int cx = x0 + (k & 1), cy = y0 + (k >> 1);
    const bool inside = cx >= 0 && cy >= 0 && cx < W && cy < H;
    c.place[k] = inside ? (cy * W + cx) * stride + channel : -1;
    c.value[k] = inside ? value[c.place[k]] : 0;
  }
  return c;
}

}  // namespace

extern "C" __global__ void forward_one_thread_per_channel(const Problem p) {
  const int D = p.D, M = p.M, S = static_cast<int>(p.S), Q = static_cast<int>(p.Q), B = static_cast<int>(p.B);
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= B * Q * M * D) return;
  const int d = index % D, row = index / D, m = row % M, b = row / M / Q, stride = M * D;
  const float* location = static_cast<const float*>(p.locations) + row * p.L * p.P * 2;
  const float* weight = static_cast<const float*>(p.weights) + row * p.L * p.P;
  float sum = 0;
  for (int l = 0; l < p.L; ++l) {
    const int H = static_cast<int>(p.spatial_shapes[2 * l]), W = static_cast<int>(p.spatial_shapes[2 * l + 1]);
    const float* value =
        static_cast<const float*>(p.value) + (b * S + static_cast<int>(p.level_start_index[l])) * stride;
    for (int k = 0; k < p.P; ++k) {
      const float x = location[0] * W - 0.5f, y = location[1] * H - 0.5f;
      if (y > -1 && x > -1 && y < H && x < W) {
        const Corners c = corners_at(value, H, W, stride, m * D + d, y, x);
        sum += *weight * (c.weight[0] * c.value[0] + c.weight[1] * c.value[1] + c.weight[2] * c.value[2] +
                          c.weight[3] * c.value[3]);
      }
      location += 2;
      weight += 1;
    }
  }
  static_cast<float*>(p.output)[index] = sum;
}

// The original compiles its backward for each width; so does this, for the one that is measured.
extern "C" __global__ void backward_one_thread_per_channel(const Problem p) {
  constexpr int D = 32;
  __shared__ float products[3 * D];
  const int M = p.M, S = static_cast<int>(p.S), Q = static_cast<int>(p.Q);
  const int d = threadIdx.x, row = blockIdx.x, m = row % M, b = row / M / Q, stride = M * D;
  const float g = static_cast<const float*>(p.grad_output)[row * D + d];
  int sample = row * p.L * p.P;
  for (int l = 0; l < p.L; ++l) {
    const int H = static_cast<int>(p.spatial_shapes[2 * l]), W = static_cast<int>(p.spatial_shapes[2 * l + 1]);
    const int start = (b * S + static_cast<int>(p.level_start_index[l])) * stride;
    const float* value = static_cast<const float*>(p.value) + start;
    float* grad_value = static_cast<float*>(p.grad_value) + start;
    for (int k = 0; k < p.P; ++k, ++sample) {
      const float a = static_cast<const float*>(p.weights)[sample];
      const float x = static_cast<const float*>(p.locations)[2 * sample] * W - 0.5f;
      const float y = static_cast<const float*>(p.locations)[2 * sample + 1] * H - 0.5f;
      float by_weight = 0, by_x = 0, by_y = 0;
      if (y > -1 && x > -1 && y < H && x < W) {
        const Corners c = corners_at(value, H, W, stride, m * D + d, y, x);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (c.place[i] >= 0) atomicAdd(grad_value + c.place[i], a * c.weight[i] * g);
        }
        const float hx = 1 - c.lx, hy = 1 - c.ly;
        by_weight = g * (c.weight[0] * c.value[0] + c.weight[1] * c.value[1] + c.weight[2] * c.value[2] +
                         c.weight[3] * c.value[3]);
        by_x = W * a * g * (hy * (c.value[1] - c.value[0]) + c.ly * (c.value[3] - c.value[2]));
        by_y = H * a * g * (hx * (c.value[2] - c.value[0]) + c.lx * (c.value[3] - c.value[1]));
      }
      products[d] = by_weight;
      products[D + 2 * d] = by_x;
      products[D + 2 * d + 1] = by_y;
      __syncthreads();
      if (d == 0) {
#pragma unroll
        for (int i = 1; i < D; ++i) {
          by_weight += products[i];
          by_x += products[D + 2 * i];
          by_y += products[D + 2 * i + 1];
        }
        static_cast<float*>(p.grad_weights)[sample] = by_weight;
        static_cast<float*>(p.grad_locations)[2 * sample] = by_x;
        static_cast<float*>(p.grad_locations)[2 * sample + 1] = by_y;
      }
      __syncthreads();
    }
  }
}

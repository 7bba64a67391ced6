// The mapping of the original Deformable-DETR kernels, written anew for comparison only: one thread per output channel, so
// that all D threads of a (query, head) load and compute the same coordinates, one float at a time; backward with one block
// of D threads per (query, head), three products per channel and sample, summed by thread 0.
#include "../racdino/csrc/cuda/launch.h"

using racdino::cuda::Problem;

namespace {

struct Sample {
  float weight[4], lx, ly, H, W, a;
  const float* corner[4];
  long long place[4];
};

__device__ bool find(const Problem& p, long long row, long long b, int m, int s, Sample& out) {
  const int l = s / p.P, n = p.L * p.P;
  const int H = static_cast<int>(p.spatial_shapes[2 * l]), W = static_cast<int>(p.spatial_shapes[2 * l + 1]);
  const float* location = static_cast<const float*>(p.locations) + 2 * (row * n + s);
  const float x = location[0] * W - 0.5f, y = location[1] * H - 0.5f;
  if (!(x > -1 && y > -1 && x < W && y < H)) return false;
  const int x0 = static_cast<int>(floorf(x)), y0 = static_cast<int>(floorf(y));
  out.lx = x - x0;
  out.ly = y - y0;
  out.H = H;
  out.W = W;
  out.a = static_cast<const float*>(p.weights)[row * n + s];
  const float hx = 1 - out.lx, hy = 1 - out.ly;
  const float weight[4] = {hy * hx, hy * out.lx, out.ly * hx, out.ly * out.lx};
  for (int c = 0; c < 4; ++c) {
    const int cx = x0 + (c & 1), cy = y0 + (c >> 1);
    const bool inside = cx >= 0 && cx < W && cy >= 0 && cy < H;
    out.weight[c] = weight[c];
    out.place[c] = ((b * p.S + p.level_start_index[l] + cy * W + cx) * p.M + m) * p.D;
    out.corner[c] = inside ? static_cast<const float*>(p.value) + out.place[c] : nullptr;
  }
  return true;
}

}  // namespace

extern "C" __global__ void forward_one_thread_per_channel(const Problem p) {
  const long long i = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x;
  if (i >= p.B * p.Q * p.M * p.D) return;
  const int d = i % p.D, m = i / p.D % p.M;
  const long long row = i / p.D, b = row / p.M / p.Q;
  float sum = 0;
  for (int s = 0; s < p.L * p.P; ++s) {
    Sample sample;
    if (!find(p, row, b, m, s, sample)) continue;
    float blend = 0;
    for (int c = 0; c < 4; ++c) {
      if (sample.corner[c]) blend += sample.weight[c] * sample.corner[c][d];
    }
    sum += sample.a * blend;
  }
  static_cast<float*>(p.output)[i] = sum;
}

extern "C" __global__ void backward_one_thread_per_channel(const Problem p) {
  extern __shared__ float products[];  // 3 * D
  const long long row = blockIdx.x, b = row / p.M / p.Q;
  const int d = threadIdx.x, m = row % p.M, n = p.L * p.P;
  const float g = static_cast<const float*>(p.grad_output)[row * p.D + d];
  for (int s = 0; s < n; ++s) {
    Sample sample;
    float by_weight = 0, by_x = 0, by_y = 0;
    if (find(p, row, b, m, s, sample)) {
      float v[4];
      for (int c = 0; c < 4; ++c) {
        v[c] = sample.corner[c] ? sample.corner[c][d] : 0;
        if (sample.corner[c]) {
          atomicAdd(static_cast<float*>(p.grad_value) + sample.place[c] + d, sample.a * sample.weight[c] * g);
        }
      }
      const float hx = 1 - sample.lx, hy = 1 - sample.ly;
      by_weight = g * (sample.weight[0] * v[0] + sample.weight[1] * v[1] + sample.weight[2] * v[2] + sample.weight[3] * v[3]);
      by_x = sample.W * sample.a * g * (hy * (v[1] - v[0]) + sample.ly * (v[3] - v[2]));
      by_y = sample.H * sample.a * g * (hx * (v[2] - v[0]) + sample.lx * (v[3] - v[1]));
    }
    products[d] = by_weight;
    products[p.D + d] = by_x;
    products[2 * p.D + d] = by_y;
    __syncthreads();
    if (d == 0) {
      for (int k = 1; k < p.D; ++k) {
        by_weight += products[k];
        by_x += products[p.D + k];
        by_y += products[2 * p.D + k];
      }
      static_cast<float*>(p.grad_weights)[row * n + s] = by_weight;
      static_cast<float*>(p.grad_locations)[2 * (row * n + s)] = by_x;
      static_cast<float*>(p.grad_locations)[2 * (row * n + s) + 1] = by_y;
    }
    __syncthreads();
  }
}

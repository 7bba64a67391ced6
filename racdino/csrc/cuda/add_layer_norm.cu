// Residual sum and layer norm, one pass over memory each way. A warp serves a row and holds it in registers: the mean
// first, then the squared deviations from it, so that a mean far from zero costs no digits.
#include "add_layer_norm.h"
#include "common.cuh"

#include <algorithm>

namespace racdino::cuda {
namespace {

constexpr int kForwardWarps = 2, kBackwardWarps = 4;  // of a block

// Blocks a multiprocessor shall hold: as many as the registers of a row of C channels leave room for.
constexpr int forward_blocks(int C) { return C <= 768 ? 16 : C <= 1024 ? 12 : 10; }
constexpr int backward_blocks(int C) { return C <= 384 ? 5 : C <= 768 ? 3 : 2; }  // with sums for weight and bias

// The first row of a warp.
template <int kWarps>
__device__ inline int64_t first_row() {
  return static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
}

// How a row of C channels lies in a warp: kChunks times 32 lanes of V neighbours.
template <typename T, int C>
struct Row {
  static constexpr int V = C % (32 * 16 / sizeof(T)) == 0 ? 16 / sizeof(T) : 8 / sizeof(T);
  static constexpr int kChunks = C / (32 * V);
  static_assert(kChunks * 32 * V == C);

  __device__ static int64_t place(int64_t row, int chunk) { return row * C + (chunk * 32 + threadIdx.x % 32) * V; }
};

// A row as it is stored, a lane's part of it.
template <typename T, int C>
struct Packed {
  using R = Row<T, C>;
  Pack<T, R::V> chunk[R::kChunks];

  __device__ void load(const void* rows, int64_t row) {
#pragma unroll
    for (int k = 0; k < R::kChunks; ++k) {
      chunk[k] = Pack<T, R::V>::load(static_cast<const T*>(rows) + R::place(row, k));
    }
  }
};

// One chunk of weight or bias.
template <typename T, int V>
__device__ inline void read_parameter(const void* parameter, bool is_float, int64_t place, float (&x)[V]) {
  if constexpr (sizeof(T) == 2) {
    if (is_float) {
      const float* p = static_cast<const float*>(parameter) + place;
#pragma unroll
      for (int i = 0; i < V; i += 4) {
        float four[4];
        Pack<float, 4>::load(p + i).unpack(four);
#pragma unroll
        for (int j = 0; j < 4; ++j) x[i + j] = four[j];
      }
      return;
    }
  }
  Pack<T, V>::load(static_cast<const T*>(parameter) + place).unpack(x);
}

__device__ inline float sum_of_warp(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

template <typename T, int C>
__global__ void __launch_bounds__(32 * kForwardWarps, forward_blocks(C)) add_layer_norm(const NormRows norm) {
  using R = Row<T, C>;
  const int64_t row = first_row<kForwardWarps>();
  if (row >= norm.rows) return;
  Packed<T, C> packed;
  packed.load(norm.x, row);
  float x[R::kChunks][R::V];
  if (norm.update != nullptr) {
    Packed<T, C> update;
    update.load(norm.update, row);
#pragma unroll
    for (int k = 0; k < R::kChunks; ++k) {
      float y[R::V];
      packed.chunk[k].unpack(x[k]);
      update.chunk[k].unpack(y);
#pragma unroll
      for (int i = 0; i < R::V; ++i) x[k][i] += y[i];
      packed.chunk[k] = Pack<T, R::V>::pack(x[k]);
      packed.chunk[k].store(static_cast<T*>(norm.sum) + R::place(row, k));
    }
  }
  float mean = 0;
#pragma unroll
  for (int k = 0; k < R::kChunks; ++k) {
    packed.chunk[k].unpack(x[k]);
#pragma unroll
    for (int i = 0; i < R::V; ++i) mean += x[k][i];
  }
  mean = sum_of_warp(mean) / C;
  float variance = 0;
#pragma unroll
  for (int k = 0; k < R::kChunks; ++k) {
#pragma unroll
    for (int i = 0; i < R::V; ++i) {
      x[k][i] -= mean;
      variance += x[k][i] * x[k][i];
    }
  }
  const float rstd = 1 / sqrt(sum_of_warp(variance) / C + norm.eps);
#pragma unroll
  for (int k = 0; k < R::kChunks; ++k) {
    float weight[R::V], bias[R::V];
    read_parameter<T>(norm.weight, norm.weight_is_float, R::place(0, k), weight);
    read_parameter<T>(norm.bias, norm.weight_is_float, R::place(0, k), bias);
#pragma unroll
    for (int i = 0; i < R::V; ++i) x[k][i] = x[k][i] * rstd * weight[i] + bias[i];
    Pack<T, R::V>::pack(x[k]).store(static_cast<T*>(norm.normed) + R::place(row, k));
  }
  if (threadIdx.x % 32 == 0) {
    norm.mean[row] = mean;
    norm.rstd[row] = rstd;
  }
}

// A block's sums for weight and bias: those of its warps, one after the other.
template <typename T, int C>
__device__ inline void store_partial(
    const NormRows& norm,
    const float (&of_weight)[Row<T, C>::kChunks][Row<T, C>::V],
    const float (&of_bias)[Row<T, C>::kChunks][Row<T, C>::V]) {
  using R = Row<T, C>;
  __shared__ float sums[2][C];
  for (int warp = 0; warp < kBackwardWarps; ++warp) {
    if (threadIdx.x / 32 == warp) {
#pragma unroll
      for (int k = 0; k < R::kChunks; ++k) {
#pragma unroll
        for (int i = 0; i < R::V; ++i) {
          const int c = static_cast<int>(R::place(0, k)) + i;
          sums[0][c] = (warp == 0 ? 0 : sums[0][c]) + of_weight[k][i];
          sums[1][c] = (warp == 0 ? 0 : sums[1][c]) + of_bias[k][i];
        }
      }
    }
    __syncthreads();
  }
  float* partial = norm.partial + static_cast<int64_t>(blockIdx.x) * 2 * C;
  for (int c = threadIdx.x; c < 2 * C; c += blockDim.x) partial[c] = sums[0][c];
}

template <typename T, int C, bool kWeightWanted>
__global__ void __launch_bounds__(32 * kBackwardWarps, kWeightWanted ? backward_blocks(C) : 1)
    add_layer_norm_backward(const NormRows norm) {
  using R = Row<T, C>;
  float of_weight[R::kChunks][R::V] = {}, of_bias[R::kChunks][R::V] = {};
  const int64_t step = static_cast<int64_t>(gridDim.x) * kBackwardWarps;
  for (int64_t row = first_row<kBackwardWarps>(); row < norm.rows; row += step) {
    Packed<T, C> packed_x, packed_grad, residual;
    packed_x.load(norm.x, row);
    packed_grad.load(norm.grad_normed, row);
    if (norm.grad_sum != nullptr) residual.load(norm.grad_sum, row);
    const float mean = read(norm.mean + row);
    const float rstd = read(norm.rstd + row);
    float x[R::kChunks][R::V], grad[R::kChunks][R::V];  // normed, before weight and bias; times weight
    float grad_mean = 0, projection = 0;
#pragma unroll
    for (int k = 0; k < R::kChunks; ++k) {
      float weight[R::V];
      read_parameter<T>(norm.weight, norm.weight_is_float, R::place(0, k), weight);
      packed_x.chunk[k].unpack(x[k]);
      packed_grad.chunk[k].unpack(grad[k]);
#pragma unroll
      for (int i = 0; i < R::V; ++i) {
        x[k][i] = (x[k][i] - mean) * rstd;
        if constexpr (kWeightWanted) {
          of_weight[k][i] += grad[k][i] * x[k][i];
          of_bias[k][i] += grad[k][i];
        }
        grad[k][i] *= weight[i];
        grad_mean += grad[k][i];
        projection += grad[k][i] * x[k][i];
      }
    }
    grad_mean = sum_of_warp(grad_mean) / C;
    projection = sum_of_warp(projection) / C;
#pragma unroll
    for (int k = 0; k < R::kChunks; ++k) {
      float more[R::V] = {};
      if (norm.grad_sum != nullptr) residual.chunk[k].unpack(more);
#pragma unroll
      for (int i = 0; i < R::V; ++i) {
        grad[k][i] = rstd * (grad[k][i] - grad_mean - x[k][i] * projection) + more[i];
      }
      Pack<T, R::V>::pack(grad[k]).store(static_cast<T*>(norm.grad_x) + R::place(row, k));
    }
  }
  if constexpr (kWeightWanted) store_partial<T, C>(norm, of_weight, of_bias);
}

// The sums of all blocks, always in the same order: a thread takes every 32nd block, one warp adds up 32 threads.
template <typename T>
__global__ void __launch_bounds__(1024) sum_partials(const NormRows norm) {
  __shared__ float sums[32][33];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, columns = 2 * norm.C;
  const float* partial = norm.partial + blockIdx.x * 32;
  float sum = 0;
#pragma unroll 4
  for (int block = warp; block < norm.blocks; block += 32) {
    sum += read(partial + static_cast<int64_t>(block) * columns + lane);
  }
  sums[warp][lane] = sum;
  __syncthreads();
  sum = sum_of_warp(sums[lane][warp]);
  if (lane != 0) return;
  const int column = blockIdx.x * 32 + warp;
  void* gradient = column < norm.C ? norm.grad_weight : norm.grad_bias;
  const int c = column < norm.C ? column : column - norm.C;
  if (norm.weight_is_float) {
    static_cast<float*>(gradient)[c] = sum;
  } else {
    static_cast<T*>(gradient)[c] = narrow<T>(sum);
  }
}

unsigned blocks_for(int64_t rows, int warps) { return static_cast<unsigned>((rows + warps - 1) / warps); }

template <typename T, int C>
void launch(const NormRows& norm, bool backward, cudaStream_t stream) {
  const unsigned of_rows = blocks_for(norm.rows, backward ? kBackwardWarps : kForwardWarps);
  if (!backward) {
    add_layer_norm<T, C><<<of_rows, 32 * kForwardWarps, 0, stream>>>(norm);
  } else if (norm.partial == nullptr) {
    add_layer_norm_backward<T, C, false><<<of_rows, 32 * kBackwardWarps, 0, stream>>>(norm);
  } else {
    add_layer_norm_backward<T, C, true><<<norm.blocks, 32 * kBackwardWarps, 0, stream>>>(norm);
    sum_partials<T><<<2 * C / 32, 1024, 0, stream>>>(norm);
  }
}

template <typename T>
void launch_width(const NormRows& norm, bool backward, cudaStream_t stream) {
  if (norm.C == 384) launch<T, 384>(norm, backward, stream);
  if (norm.C == 768) launch<T, 768>(norm, backward, stream);
  if (norm.C == 1024) launch<T, 1024>(norm, backward, stream);
  if (norm.C == 1536) launch<T, 1536>(norm, backward, stream);
}

cudaError_t launch_type(const NormRows& norm, Type type, bool backward, cudaStream_t stream) {
  if (type == Type::float32) launch_width<float>(norm, backward, stream);
  if (type == Type::float16) launch_width<__half>(norm, backward, stream);
  if (type == Type::bfloat16) launch_width<__nv_bfloat16>(norm, backward, stream);
  return cudaGetLastError();
}

}  // namespace

cudaError_t norm_blocks(int64_t rows, int32_t C, int32_t* blocks) {
  int device = 0, processors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  *blocks = static_cast<int32_t>(std::min<int64_t>(blocks_for(rows, kBackwardWarps), processors * backward_blocks(C)));
  return error;
}

cudaError_t launch_add_layer_norm(const NormRows& norm, Type type, cudaStream_t stream) {
  return launch_type(norm, type, false, stream);
}

cudaError_t launch_add_layer_norm_backward(const NormRows& norm, Type type, cudaStream_t stream) {
  return launch_type(norm, type, true, stream);
}

}  // namespace racdino::cuda

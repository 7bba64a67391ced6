// Batch norm and ReLU of channels-last maps: two passes over memory each way, and none for the ReLU, whose mask is
// computed again from x. A thread keeps its few channels and walks over pixels; what the blocks have found of a channel,
// a small kernel adds up, always in the same order.
#include "batch_norm_act.h"
#include "common.cuh"

#include <algorithm>

namespace racdino::cuda {
namespace {

constexpr int kBytes = 16;  // of a vector
constexpr int kBlockThreads = 256;
constexpr int kBlocks = 4;  // of a multiprocessor
// Pixels that a thread loads together. Backward needs the registers for its channels' numbers.
constexpr int kForwardRows = 4, kBackwardRows = 1;
constexpr int kLanes = 8, kSlices = 64;  // channels and shares of the blocks in the small kernels

template <typename T>
constexpr int kV = kBytes / sizeof(T);

template <int n>
using Count = std::integral_constant<int, n>;

// The first channel of a thread. Those beyond the last have no rows.
template <typename T>
__device__ inline int channel_of() {
  return (blockIdx.y * blockDim.x + threadIdx.x) * kV<T>;
}

// visit(Count<n>(), row) for the n rows from row in steps of blockDim.y. A map's second reading is backwards: its end is
// still in the cache.
template <typename T, int kRows, bool backwards, typename Visit>
__device__ inline void for_rows(const BatchNorm& norm, const Visit& visit) {
  if (channel_of<T>() >= norm.C) return;
  const int of_chunk = kRows * blockDim.y;
  const int64_t chunks = (norm.N + of_chunk - 1) / of_chunk;
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const int64_t row = (backwards ? chunks - 1 - chunk : chunk) * of_chunk + threadIdx.y;
    if (row + of_chunk - blockDim.y < norm.N) {
      visit(Count<kRows>(), row);
    } else {
      for (int64_t one = row; one < norm.N; one += blockDim.y) visit(Count<1>(), one);
    }
  }
}

template <typename T, int n>
__device__ inline void load_rows(const BatchNorm& norm, const void* map, int64_t row, Pack<T, kV<T>> (&packs)[n]) {
  const T* p = static_cast<const T*>(map) + row * norm.C + channel_of<T>();
#pragma unroll
  for (int j = 0; j < n; ++j) packs[j] = Pack<T, kV<T>>::load(p + static_cast<int64_t>(j * blockDim.y) * norm.C);
}

// A number of each of a thread's channels.
template <int V>
__device__ inline void read_channels(const float* p, int channel, int C, float (&x)[V]) {
#pragma unroll
  for (int i = 0; i < V; ++i) x[i] = channel < C ? read(p + channel + i) : 0.f;
}

// What a map's channels become: (x - mean) * scale + bias. A mean far from zero costs no digits so.
template <typename T>
struct Affine {
  float mean[kV<T>], rstd[kV<T>], scale[kV<T>], bias[kV<T>];

  __device__ explicit Affine(const BatchNorm& norm) {
    const int channel = channel_of<T>();
    read_channels(norm.mean, channel, norm.C, mean);
    read_channels(norm.variance, channel, norm.C, rstd);
    read_channels(norm.weight, channel, norm.C, scale);
    read_channels(norm.bias, channel, norm.C, bias);
#pragma unroll
    for (int i = 0; i < kV<T>; ++i) {
      rstd[i] = 1 / sqrtf(rstd[i] + norm.eps);
      scale[i] *= rstd[i];
    }
  }
  __device__ float operator()(int i, float x) const { return fmaf(x - mean[i], scale[i], bias[i]); }
  // By a ReLU, which sees the result rounded to T: what becomes zero there has no gradient, as in torch.
  __device__ bool is_cut(int i, float x) const { return widen(narrow<T>((*this)(i, x))) <= 0; }
};

// Mean and squared deviations of each of a thread's channels. As Chan et al. 1979 merge them: those loaded together have
// their own mean first.
template <typename T>
__global__ void __launch_bounds__(kBlockThreads, kBlocks) find_statistics(const BatchNorm norm) {
  constexpr int V = kV<T>;
  float count = 0, mean[V] = {}, squares[V] = {};
  for_rows<T, kForwardRows, false>(norm, [&](auto count_of, int64_t row) {
    constexpr int n = decltype(count_of)::value;
    Pack<T, V> packs[n];
    load_rows(norm, norm.x, row, packs);
    const float share = float(n) / (count + n), between = count * share;
    count += n;
    float x[n][V];
#pragma unroll
    for (int j = 0; j < n; ++j) packs[j].unpack(x[j]);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      float sum = x[0][i], here = 0;
#pragma unroll
      for (int j = 1; j < n; ++j) sum += x[j][i];
      sum *= 1.f / n;
#pragma unroll
      for (int j = 0; j < n; ++j) here = fmaf(x[j][i] - sum, x[j][i] - sum, here);
      const float step = sum - mean[i];
      mean[i] = fmaf(step, share, mean[i]);
      squares[i] += fmaf(step * step, between, here);
    }
  });

  extern __shared__ float means[];  // (blockDim.y, columns)
  __shared__ float counts[kBlockThreads];
  const int columns = blockDim.x * V;
  float* deviations = means + blockDim.y * columns;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    means[threadIdx.y * columns + threadIdx.x * V + i] = mean[i];
    deviations[threadIdx.y * columns + threadIdx.x * V + i] = squares[i];
  }
  if (threadIdx.x == 0) counts[threadIdx.y] = count;
  __syncthreads();
  float* partial = norm.partial + static_cast<int64_t>(blockIdx.x) * 2 * norm.C + blockIdx.y * columns;
  for (int c = threadIdx.y * blockDim.x + threadIdx.x; c < columns; c += blockDim.x * blockDim.y) {
    if (blockIdx.y * columns + c >= norm.C) break;
    float all = 0, step = 0, sum = 0;
    for (int y = 0; y < blockDim.y; ++y) {
      all += counts[y];
      step = fmaf(counts[y], means[y * columns + c] - means[c], step);
    }
    step /= all;
    for (int y = 0; y < blockDim.y; ++y) {
      const float off = means[y * columns + c] - means[c] - step;
      sum += deviations[y * columns + c] + counts[y] * off * off;
    }
    partial[c] = means[c] + step;
    partial[norm.C + c] = sum;
  }
}

// The sum over the slices of each channel, for all of its threads.
__device__ inline double sum_of_slices(double x) {
  __shared__ double sums[kSlices][kLanes];
  __syncthreads();
  sums[threadIdx.y][threadIdx.x] = x;
  for (int half = kSlices / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) sums[threadIdx.y][threadIdx.x] += sums[threadIdx.y + half][threadIdx.x];
  }
  __syncthreads();
  return sums[0][threadIdx.x];
}

// From the blocks' means and squared deviations those of all, in double: this is where a mean far from zero could cost
// digits.
__global__ void __launch_bounds__(kLanes* kSlices) add_statistics(const BatchNorm norm, int rows_of_chunk) {
  const int c = min(blockIdx.x * kLanes + threadIdx.x, norm.C - 1);  // beyond the last: the last once more
  const int64_t chunks = (norm.N + rows_of_chunk - 1) / rows_of_chunk;
  const auto rows_of = [&](int block) {
    const int64_t rows = (chunks - block + norm.blocks - 1) / norm.blocks * rows_of_chunk;
    return (chunks - 1) % norm.blocks == block ? rows - (chunks * rows_of_chunk - norm.N) : rows;
  };
  const double some = norm.partial[c];
  double sum = 0;
#pragma unroll 4
  for (int block = threadIdx.y; block < norm.blocks; block += kSlices) {
    sum += rows_of(block) * (read(norm.partial + static_cast<int64_t>(block) * 2 * norm.C + c) - some);
  }
  const double mean = some + sum_of_slices(sum) / norm.N;
  sum = 0;
#pragma unroll 4
  for (int block = threadIdx.y; block < norm.blocks; block += kSlices) {
    const float* partial = norm.partial + static_cast<int64_t>(block) * 2 * norm.C + c;
    const double off = read(partial) - mean;
    sum += read(partial + norm.C) + rows_of(block) * off * off;
  }
  const double squares = sum_of_slices(sum);
  if (threadIdx.y > 0 || blockIdx.x * kLanes + threadIdx.x >= norm.C) return;
  norm.mean[c] = mean;
  norm.variance[c] = squares / norm.N;
  norm.running_mean[c] += norm.momentum * (static_cast<float>(mean) - norm.running_mean[c]);
  norm.running_var[c] += norm.momentum * (static_cast<float>(squares / (norm.N - 1)) - norm.running_var[c]);
}

template <typename T, bool relu>
__global__ void __launch_bounds__(kBlockThreads, kBlocks) normalize(const BatchNorm norm) {
  constexpr int V = kV<T>;
  const Affine<T> affine(norm);
  for_rows<T, kForwardRows, true>(norm, [&](auto count_of, int64_t row) {
    constexpr int n = decltype(count_of)::value;
    Pack<T, V> packs[n];
    load_rows(norm, norm.x, row, packs);
    T* y = static_cast<T*>(norm.y) + row * norm.C + channel_of<T>();
#pragma unroll
    for (int j = 0; j < n; ++j) {
      float x[V];
      packs[j].unpack(x);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        x[i] = affine(i, x[i]);
        if (relu) x[i] = x[i] < 0 ? 0 : x[i];  // not fmaxf: NaN stays
      }
      Pack<T, V>::pack(x).store(y + static_cast<int64_t>(j * blockDim.y) * norm.C);
    }
  });
}

// Sums of the gradient, and of it times x - mean.
template <typename T, bool relu>
__global__ void __launch_bounds__(kBlockThreads, kBlocks) find_gradients(const BatchNorm norm) {
  constexpr int V = kV<T>;
  const Affine<T> affine(norm);
  float sum[V] = {}, projection[V] = {};
  for_rows<T, kBackwardRows, false>(norm, [&](auto count_of, int64_t row) {
    constexpr int n = decltype(count_of)::value;
    Pack<T, V> packs[n], grads[n];
    load_rows(norm, norm.x, row, packs);
    load_rows(norm, norm.grad, row, grads);
#pragma unroll
    for (int j = 0; j < n; ++j) {
      float x[V], grad[V];
      packs[j].unpack(x);
      grads[j].unpack(grad);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (relu && affine.is_cut(i, x[i])) grad[i] = 0;
        sum[i] += grad[i];
        projection[i] = fmaf(grad[i], x[i] - affine.mean[i], projection[i]);
      }
    }
  });

  extern __shared__ float sums[];  // (blockDim.y, columns)
  const int columns = blockDim.x * V;
  float* projections = sums + blockDim.y * columns;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    sums[threadIdx.y * columns + threadIdx.x * V + i] = sum[i];
    projections[threadIdx.y * columns + threadIdx.x * V + i] = projection[i];
  }
  __syncthreads();
  float* partial = norm.partial + static_cast<int64_t>(blockIdx.x) * 2 * norm.C + blockIdx.y * columns;
  for (int c = threadIdx.y * blockDim.x + threadIdx.x; c < columns; c += blockDim.x * blockDim.y) {
    if (blockIdx.y * columns + c >= norm.C) break;
    float of_sum = 0, of_projection = 0;
    for (int y = 0; y < blockDim.y; ++y) {
      of_sum += sums[y * columns + c];
      of_projection += projections[y * columns + c];
    }
    partial[c] = of_sum;
    partial[norm.C + c] = of_projection;
  }
}

__global__ void __launch_bounds__(kLanes* kSlices) add_gradients(const BatchNorm norm) {
  const int c = min(blockIdx.x * kLanes + threadIdx.x, norm.C - 1);  // beyond the last: the last once more
  double sum = 0, projection = 0;
#pragma unroll 4
  for (int block = threadIdx.y; block < norm.blocks; block += kSlices) {
    const float* partial = norm.partial + static_cast<int64_t>(block) * 2 * norm.C + c;
    sum += read(partial);
    projection += read(partial + norm.C);
  }
  sum = sum_of_slices(sum);
  projection = sum_of_slices(projection);
  if (threadIdx.y > 0 || blockIdx.x * kLanes + threadIdx.x >= norm.C) return;
  norm.grad_bias[c] = sum;
  norm.grad_weight[c] = projection / sqrtf(norm.variance[c] + norm.eps);
}

template <typename T, bool relu, bool training>
__global__ void __launch_bounds__(kBlockThreads, kBlocks) find_grad_x(const BatchNorm norm) {
  constexpr int V = kV<T>;
  const Affine<T> affine(norm);
  float constant[V] = {}, slope[V] = {};  // what the statistics, moving with x, take from its gradient
  if constexpr (training) {
    read_channels(norm.grad_bias, channel_of<T>(), norm.C, constant);
    read_channels(norm.grad_weight, channel_of<T>(), norm.C, slope);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      constant[i] *= affine.scale[i] / norm.N;
      slope[i] *= affine.scale[i] * affine.rstd[i] / norm.N;
    }
  }
  for_rows<T, kBackwardRows, true>(norm, [&](auto count_of, int64_t row) {
    constexpr int n = decltype(count_of)::value;
    [[maybe_unused]] Pack<T, V> packs[n];
    Pack<T, V> grads[n];
    if constexpr (relu || training) load_rows(norm, norm.x, row, packs);
    load_rows(norm, norm.grad, row, grads);
    T* grad_x = static_cast<T*>(norm.grad_x) + row * norm.C + channel_of<T>();
#pragma unroll
    for (int j = 0; j < n; ++j) {
      [[maybe_unused]] float x[V];
      float grad[V];
      if constexpr (relu || training) packs[j].unpack(x);
      grads[j].unpack(grad);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if constexpr (relu) {
          if (affine.is_cut(i, x[i])) grad[i] = 0;
        }
        grad[i] *= affine.scale[i];
        if constexpr (training) grad[i] -= fmaf(x[i] - affine.mean[i], slope[i], constant[i]);
      }
      Pack<T, V>::pack(grad).store(grad_x + static_cast<int64_t>(j * blockDim.y) * norm.C);
    }
  });
}

// How a map's pixels and channels are shared out.
template <typename T>
struct Layout {
  dim3 threads;    // vectors of channels, pixels
  unsigned tiles;  // blocks side by side, each with its part of the channels

  explicit Layout(const BatchNorm& norm) {
    const unsigned vectors = norm.C / kV<T>;
    tiles = (vectors + kBlockThreads - 1) / kBlockThreads;
    const unsigned across = (vectors + tiles - 1) / tiles;
    threads = dim3(across, kBlockThreads / across);
  }
  size_t shared() const { return sizeof(float) * 2 * kV<T> * threads.x * threads.y; }
};

// Blocks that walk over a map, kBlocks for each multiprocessor, or fewer where there is less to do.
template <typename T>
int blocks_for(const BatchNorm& norm, int processors) {
  const int64_t rows = kForwardRows * Layout<T>(norm).threads.y;
  return static_cast<int>(std::min<int64_t>((norm.N + rows - 1) / rows, processors * kBlocks));
}

cudaError_t processors_here(int* processors) {
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  return error == cudaSuccess ? cudaDeviceGetAttribute(processors, cudaDevAttrMultiProcessorCount, device) : error;
}

template <typename T>
void launch(const BatchNorm& norm, cudaStream_t stream) {
  const Layout<T> layout(norm);
  const dim3 blocks(norm.blocks, layout.tiles), adders((norm.C + kLanes - 1) / kLanes);
  if (norm.training) {
    find_statistics<T><<<blocks, layout.threads, layout.shared(), stream>>>(norm);
    add_statistics<<<adders, dim3(kLanes, kSlices), 0, stream>>>(norm, kForwardRows * layout.threads.y);
  }
  (norm.relu ? normalize<T, true> : normalize<T, false>)<<<blocks, layout.threads, 0, stream>>>(norm);
}

template <typename T>
void launch_backward(const BatchNorm& norm, cudaStream_t stream) {
  const Layout<T> layout(norm);
  const dim3 blocks(norm.blocks, layout.tiles), adders((norm.C + kLanes - 1) / kLanes);
  if (norm.grad_weight != nullptr) {
    (norm.relu ? find_gradients<T, true>
               : find_gradients<T, false>)<<<blocks, layout.threads, layout.shared(), stream>>>(norm);
    add_gradients<<<adders, dim3(kLanes, kSlices), 0, stream>>>(norm);
  }
  const auto find = norm.training ? (norm.relu ? find_grad_x<T, true, true> : find_grad_x<T, false, true>)
                                  : (norm.relu ? find_grad_x<T, true, false> : find_grad_x<T, false, false>);
  find<<<blocks, layout.threads, 0, stream>>>(norm);
}

}  // namespace

cudaError_t batch_norm_blocks(const BatchNorm& norm, Type type, int32_t* blocks) {
  int processors = 0;
  const cudaError_t error = processors_here(&processors);
  if (type == Type::float32) *blocks = blocks_for<float>(norm, processors);
  if (type == Type::float16) *blocks = blocks_for<__half>(norm, processors);
  if (type == Type::bfloat16) *blocks = blocks_for<__nv_bfloat16>(norm, processors);
  return error;
}

cudaError_t launch_batch_norm_act(const BatchNorm& norm, Type type, cudaStream_t stream) {
  if (type == Type::float32) launch<float>(norm, stream);
  if (type == Type::float16) launch<__half>(norm, stream);
  if (type == Type::bfloat16) launch<__nv_bfloat16>(norm, stream);
  return cudaGetLastError();
}

cudaError_t launch_batch_norm_act_backward(const BatchNorm& norm, Type type, cudaStream_t stream) {
  if (type == Type::float32) launch_backward<float>(norm, stream);
  if (type == Type::float16) launch_backward<__half>(norm, stream);
  if (type == Type::bfloat16) launch_backward<__nv_bfloat16>(norm, stream);
  return cudaGetLastError();
}

}  // namespace racdino::cuda

// Depthwise 3x3 convolution of tokens and GELU.
//
// A thread owns V neighbouring channels and a strip of R rows of one level, through whose columns it walks with three
// of them in registers, R + 2 rows high; neighbouring lanes own neighbouring channels. Several walks share the columns
// of a strip, so that few images fill the device too. Forward is one such pass. Backward convolves again for the
// gradient before GELU, which a second pass convolves with the weights turned round. One pass for both, where that
// gradient is in registers only but computed twice, was 10 % slower.
#include "common.cuh"
#include "depthwise_conv_gelu.h"

namespace racdino::cuda {
namespace {

constexpr int V = kConvChannels;
constexpr int kLanes = 32;

// The walks of one image, level after level; those of one level row of strips after row of strips.
struct Walks {
  struct Level {
    int32_t height, width, start;
    int32_t first;    // walk
    int32_t strips;   // below each other
    int32_t columns;  // of a walk; the last one's may be fewer
  };
  int32_t levels, count;
  Level level[kMaxConvLevels];
};

Walks walks_of(const DepthwiseConv& conv, int rows, int most_columns) {
  Walks walks{};
  walks.levels = conv.levels;
  int32_t start = 0;
  for (int l = 0; l < conv.levels; ++l) {
    const int32_t height = conv.height[l], width = conv.width[l];
    const int32_t strips = (height + rows - 1) / rows, across = (width + most_columns - 1) / most_columns;
    walks.level[l] = {height, width, start, walks.count, strips, (width + across - 1) / across};
    walks.count += strips * across;
    start += height * width;
  }
  return walks;
}

// One thread's.
struct Walk {
  int height, width;  // of the level
  int y, x, end;      // first row; first column and the one after the last
  int limit;          // the column after the last that is looked at
  int64_t offset;     // in elements, of the level's first pixel in this image, at this thread's channels

  __device__ Walk(const DepthwiseConv& conv, const Walks& walks, int walk, int channel, int rows) {
    const int image = walk / walks.count;
    walk -= image * walks.count;
    int l = 0;
    while (l + 1 < walks.levels && walk >= walks.level[l + 1].first) ++l;
    const Walks::Level& level = walks.level[l];
    walk -= level.first;
    const int across = walk / level.strips;
    height = level.height;
    width = level.width;
    y = (walk - across * level.strips) * rows;
    x = across * level.columns;
    end = min(x + level.columns, width);
    limit = min(end + 1, width);
    offset = (static_cast<int64_t>(image) * conv.S + level.start) * conv.C + channel;
  }
  // Which of N rows from the given one on the level has, a bit each.
  template <int N>
  __device__ unsigned rows_there(int first) const {
    unsigned there = 0;
#pragma unroll
    for (int r = 0; r < N; ++r) {
      if (static_cast<unsigned>(first + r) < static_cast<unsigned>(height)) there |= 1u << r;
    }
    return there;
  }
};

template <typename T>
__device__ inline T* below(T* p, unsigned step) {
  using Byte = std::conditional_t<std::is_const<T>::value, const char, char>;
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(p) + step);
}

// N rows of one column as they are in memory; zero where there is nothing.
template <typename T, int N>
struct Column {
  Pack<T, V> at[N];

  // step: bytes from row to row. there: which of the rows there are, a bit each.
  __device__ Column(const T* first, unsigned step, unsigned there) {
#pragma unroll
    for (unsigned r = 0; r < N; ++r) {
      at[r] = {};
      at[r].load_if(there & 1u << r, below(first, r * step));
    }
  }
};

template <typename A, int N>
struct Values {
  A at[N][V];

  Values() = default;
  template <typename T>
  __device__ explicit Values(const Column<T, N>& column) {
#pragma unroll
    for (int r = 0; r < N; ++r) column.at[r].unpack(at[r]);
  }
};

template <typename T>
struct Taps {
  using A = Accumulate<T>;
  A tap[9][V], bias[V];

  __device__ Taps(const DepthwiseConv& conv, int channel) {
    conv.float_weight ? fill<std::conditional_t<std::is_same<T, double>::value, T, float>>(conv, channel)
                      : fill<T>(conv, channel);
  }
  template <typename P>
  __device__ void fill(const DepthwiseConv& conv, int channel) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
#pragma unroll
      for (int k = 0; k < 9; ++k) tap[k][v] = read(static_cast<const P*>(conv.weight) + (channel + v) * 9 + k);
      bias[v] = read(static_cast<const P*>(conv.bias) + channel + v);
    }
  }
  // At row r + 1 of the middle column; flipped: with the weights turned round and without bias.
  template <bool flipped, int N>
  __device__ void convolve(const Values<A, N> (&columns)[3], int r, A (&sum)[V]) const {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      sum[v] = flipped ? A(0) : bias[v];
#pragma unroll
      for (int k = 0; k < 9; ++k) sum[v] += tap[flipped ? 8 - k : k][v] * columns[k % 3].at[r + k / 3][v];
    }
  }
};

__device__ inline float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// The normal distribution: its integral up to x and its density there, as precise as T deserves.
template <typename T>
struct Normal {
  using A = Accumulate<T>;
  A below, density;

  __device__ explicit Normal(A x) {
    constexpr A kHeight = A(0.3989422804014327);  // 1 / sqrt(2 pi)
    if constexpr (sizeof(T) == 2) {
      // Abramowitz and Stegun 26.2.17, off by at most 7.5e-8; the factors are theirs times kHeight.
      const float t = reciprocal(fmaf(0.2316419f, fabsf(x), 1));
      const float power = power_of_two(x * x * -0.72134752f);  // log2(e) / 2
      const float tail =
          power * t *
          (0.127414796f + t * (-0.142248368f + t * (0.710706871f + t * (-0.726576013f + t * 0.530702714f))));
      density = kHeight * power;
      below = x < 0 ? tail : 1 - tail;
    } else {
      below = normcdf(x);
      density = kHeight * exp(x * x * A(-0.5));
    }
  }
};

// The columns x - 1, x and x + 1 of a strip and its neighbours above and below, for x from the walk's first on.
template <typename T, int R>
struct Window {
  Values<Accumulate<T>, R + 2> columns[3];
  Column<T, R + 2> next;
  const T* at;  // of next
  unsigned step, there;
  int C, x, limit;

  __device__ Window(const T* level, const Walk& walk, int C, unsigned step, unsigned there)
      : next(level, step, 0), at(level + ((walk.y - 1) * walk.width + walk.x - 1) * C), step(step), there(there), C(C),
        x(walk.x - 1), limit(walk.limit) {
    next = Column<T, R + 2>(at, step, x >= 0 ? there : 0);
    advance();
    advance();
  }
  __device__ void advance() {
    columns[0] = columns[1];
    columns[1] = columns[2];
    columns[2] = Values<Accumulate<T>, R + 2>(next);
    at += C;
    ++x;
    next = Column<T, R + 2>(at, step, x < limit ? there : 0);
  }
};

// GELU of the convolution; or, not gelu, the gradient of x from the one before GELU.
template <typename T, int R, bool gelu>
__global__ void convolve(const DepthwiseConv conv, const Walks walks, int tiles) {
  using A = Accumulate<T>;
  const int channel = (blockIdx.x % tiles * kLanes + threadIdx.x) * V;
  const int64_t number = static_cast<int64_t>(blockIdx.x / tiles) * blockDim.y + threadIdx.y;
  if (channel >= conv.C || number >= conv.B * walks.count) return;
  const Walk walk(conv, walks, static_cast<int>(number), channel, R);
  const Taps<T> taps(conv, channel);
  const unsigned step = walk.width * conv.C * sizeof(T), there = walk.rows_there<R + 2>(walk.y - 1);
  const T* const in = static_cast<const T*>(gelu ? conv.x : conv.grad_convolved) + walk.offset;
  T* out = static_cast<T*>(gelu ? conv.output : conv.grad_x) + walk.offset + (walk.y * walk.width + walk.x) * conv.C;
  Window<T, R> window(in, walk, conv.C, step, there);
#pragma unroll 3
  for (int x = walk.x; x < walk.end; ++x, out += conv.C) {
    window.advance();
#pragma unroll
    for (unsigned r = 0; r < R; ++r) {
      A sum[V];
      taps.template convolve<!gelu>(window.columns, r, sum);
      if constexpr (gelu) {
#pragma unroll
        for (int v = 0; v < V; ++v) sum[v] *= Normal<T>(sum[v]).below;
      }
      if (there & 2u << r) Pack<T, V>::pack(sum).store(below(out, r * step));
    }
  }
}

// What the threads of a block have for each of its channels, added up in their order.
template <typename A>
__device__ inline void block_sums(const DepthwiseConv& conv, int tiles, const A (&total)[kConvSums][V]) {
  extern __shared__ __align__(16) unsigned char memory[];
  A* shared = reinterpret_cast<A*>(memory);  // (blockDim.y, kConvSums, kWidth)
  constexpr int kWidth = kLanes * V;
#pragma unroll
  for (int k = 0; k < kConvSums; ++k) {
#pragma unroll
    for (int v = 0; v < V; ++v) shared[(threadIdx.y * kConvSums + k) * kWidth + threadIdx.x * V + v] = total[k][v];
  }
  __syncthreads();
  const int first = blockIdx.x % tiles * kWidth;
  A* partial = static_cast<A*>(conv.partial) + static_cast<int64_t>(blockIdx.x / tiles) * kConvSums * conv.C + first;
  for (int i = threadIdx.y * kLanes + threadIdx.x; i < kConvSums * kWidth; i += kLanes * blockDim.y) {
    A sum = 0;
    for (int walk = 0; walk < blockDim.y; ++walk) sum += shared[walk * kConvSums * kWidth + i];
    const int k = i / kWidth, c = i % kWidth;
    if (first + c < conv.C) partial[k * conv.C + c] = sum;
  }
}

// The gradient before GELU, and this block's share of those of weight and bias.
template <typename T, int R>
__global__ void gelu_backward(const DepthwiseConv conv, const Walks walks, int tiles) {
  using A = Accumulate<T>;
  const int channel = (blockIdx.x % tiles * kLanes + threadIdx.x) * V;
  const int64_t number = static_cast<int64_t>(blockIdx.x / tiles) * blockDim.y + threadIdx.y;
  A total[kConvSums][V] = {};
  if (channel < conv.C && number < conv.B * walks.count) {
    const Walk walk(conv, walks, static_cast<int>(number), channel, R);
    const Taps<T> taps(conv, channel);
    const unsigned step = walk.width * conv.C * sizeof(T), there = walk.rows_there<R + 2>(walk.y - 1);
    const int64_t first = walk.offset + (walk.y * walk.width + walk.x) * conv.C;
    const T* grad = static_cast<const T*>(conv.grad) + first;
    T* out = static_cast<T*>(conv.grad_convolved) + first;
    const unsigned stored = conv.grad_x == nullptr ? 0 : there;
    Window<T, R> window(static_cast<const T*>(conv.x) + walk.offset, walk, conv.C, step, there);
    Column<T, R> next(grad, step, there >> 1);
#pragma unroll 3
    for (int x = walk.x; x < walk.end; ++x, out += conv.C) {
      window.advance();
      const Values<A, R> upstream(next);
      grad += conv.C;
      next = Column<T, R>(grad, step, x + 1 < walk.end ? there >> 1 : 0);
#pragma unroll
      for (unsigned r = 0; r < R; ++r) {
        A d[V];
        taps.template convolve<false>(window.columns, r, d);
#pragma unroll
        for (int v = 0; v < V; ++v) {
          const Normal<T> normal(d[v]);
          d[v] = upstream.at[r][v] * (normal.below + d[v] * normal.density);
#pragma unroll
          for (int k = 0; k < 9; ++k) total[k][v] += d[v] * window.columns[k % 3].at[r + k / 3][v];
          total[9][v] += d[v];
        }
        if (stored & 2u << r) Pack<T, V>::pack(d).store(below(out, r * step));
      }
    }
  }
  if (conv.partial != nullptr) block_sums(conv, tiles, total);
}

// Adds up what the blocks have, always in the same order.
constexpr int kSlices = 16;
template <typename T>
__global__ void __launch_bounds__(32 * kSlices) add_up(const DepthwiseConv conv, int64_t blocks) {
  using A = Accumulate<T>;
  __shared__ A sums[kSlices][32];
  const int i = blockIdx.x * 32 + threadIdx.x, n = kConvSums * conv.C;
  A sum = 0;
  if (i < n) {
#pragma unroll 4
    for (int64_t block = threadIdx.y; block < blocks; block += kSlices) {
      sum += static_cast<const A*>(conv.partial)[block * n + i];
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || i >= n) return;
  for (int slice = 1; slice < kSlices; ++slice) sum += sums[slice][threadIdx.x];
  const int k = i / conv.C, c = i % conv.C;
  void* const to = k < 9 ? conv.grad_weight : conv.grad_bias;
  const int place = k < 9 ? c * 9 + k : c;
  if (conv.float_weight) {
    static_cast<float*>(to)[place] = static_cast<float>(sum);
  } else {
    static_cast<T*>(to)[place] = narrow<T>(sum);
  }
}

// How a kernel is launched: rows of a strip, most columns of a walk, walks of a block. Found on an H100 with bfloat16;
// wider types have registers for fewer rows.
struct Shape {
  int rows, columns, walks;
};
template <typename T>
constexpr Shape kForward = {sizeof(T) == 2 ? 5 : sizeof(T) == 4 ? 4 : 2, 15, 4};
template <typename T>
constexpr Shape kGradX = {sizeof(T) <= 4 ? 4 : 2, 12, 4};
constexpr Shape kBackward = {2, 24, 8};

int64_t blocks_of(const DepthwiseConv& conv, const Walks& walks, const Shape& shape) {
  return (conv.B * walks.count + shape.walks - 1) / shape.walks;
}

int tiles_of(const DepthwiseConv& conv) { return (conv.C + kLanes * V - 1) / (kLanes * V); }

template <typename T, bool gelu>
void launch_convolve(const DepthwiseConv& conv, cudaStream_t stream) {
  constexpr Shape shape = gelu ? kForward<T> : kGradX<T>;
  const Walks walks = walks_of(conv, shape.rows, shape.columns);
  const int tiles = tiles_of(conv);
  const auto blocks = static_cast<unsigned>(tiles * blocks_of(conv, walks, shape));
  convolve<T, shape.rows, gelu><<<blocks, dim3(kLanes, shape.walks), 0, stream>>>(conv, walks, tiles);
}

template <typename T>
void launch_backward(const DepthwiseConv& conv, cudaStream_t stream) {
  constexpr Shape shape = kBackward;
  constexpr size_t shared = sizeof(Accumulate<T>) * shape.walks * kConvSums * kLanes * V;
  const Walks walks = walks_of(conv, shape.rows, shape.columns);
  const int tiles = tiles_of(conv);
  const int64_t blocks = blocks_of(conv, walks, shape);
  gelu_backward<T, shape.rows>
      <<<static_cast<unsigned>(tiles * blocks), dim3(kLanes, shape.walks), shared, stream>>>(conv, walks, tiles);
  if (conv.partial != nullptr) {
    add_up<T><<<(kConvSums * conv.C + 31) / 32, dim3(32, kSlices), 0, stream>>>(conv, blocks);
  }
  if (conv.grad_x != nullptr) launch_convolve<T, false>(conv, stream);
}

}  // namespace

int64_t conv_partial_sums(const DepthwiseConv& conv) {
  constexpr Shape shape = kBackward;
  return blocks_of(conv, walks_of(conv, shape.rows, shape.columns), shape);
}

cudaError_t launch_depthwise_conv_gelu(const DepthwiseConv& conv, Type type, cudaStream_t stream) {
  if (type == Type::float64) launch_convolve<double, true>(conv, stream);
  if (type == Type::float32) launch_convolve<float, true>(conv, stream);
  if (type == Type::float16) launch_convolve<__half, true>(conv, stream);
  if (type == Type::bfloat16) launch_convolve<__nv_bfloat16, true>(conv, stream);
  return cudaGetLastError();
}

cudaError_t launch_depthwise_conv_gelu_backward(const DepthwiseConv& conv, Type type, cudaStream_t stream) {
  if (type == Type::float64) launch_backward<double>(conv, stream);
  if (type == Type::float32) launch_backward<float>(conv, stream);
  if (type == Type::float16) launch_backward<__half>(conv, stream);
  if (type == Type::bfloat16) launch_backward<__nv_bfloat16>(conv, stream);
  return cudaGetLastError();
}

}  // namespace racdino::cuda

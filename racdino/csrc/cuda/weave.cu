// The two upper and the two lower pixels of every token as one map, bilinearly shrunk by one row or column where its
// side is odd, and added to another map: racdino/backbones/finest_map.py in one pass over memory each way.
//
// The doubled map, of which upper has the even rows and lower the odd ones, never exists. Its pixel i goes to the
// pixels i - 1 and i of an odd side, so backward gathers as forward does, and always has the same result. A thread owns
// one vector of channels of neighbouring pixels of a row; the rows that blocks share come from the L2 cache.
#include "common.cuh"
#include "weave.h"

namespace racdino::cuda {
namespace {

constexpr int kColumns = 4;  // pixels of a thread

// Of a side, rounded up.
__host__ __device__ inline int half(int side) { return (side + 1) / 2; }

// How far from pixel i to pixel i + 1 of the doubled side the i-th of an odd number of pixels lies.
template <typename A>
struct Places {
  int side;
  A step;

  __device__ explicit Places(int side_) : side(side_), step(A(1) / side_) {}
  __device__ A operator()(int i) const { return (i + A(0.5)) * step; }
  // Of a pixel of the doubled side: its shares in pixels i and i - 1; 0 where there is no such pixel.
  __device__ A in_same(int i) const { return i < side ? 1 - (*this)(i) : A(0); }
  __device__ A in_previous(int i) const { return i > 0 ? (*this)(i - 1) : A(0); }
};

// One vector of channels of a row of pixels.
template <typename T>
struct Row {
  static constexpr int V = 16 / sizeof(T);
  const uint4* first;
  int pixels, pitch;

  __device__ Row(const void* map, int64_t row, int pixels_, int pitch_, int vector)
      : first(static_cast<const uint4*>(map) + row * pixels_ * pitch_ + vector), pixels(pixels_), pitch(pitch_) {}
  // Beyond the row: of its nearest pixel, so that loading needs no branch.
  __device__ Pack<T, V> operator[](int pixel) const {
    return Pack<T, V>::load(first + min(max(pixel, 0), pixels - 1) * pitch);
  }
  __device__ void store(int pixel, const Pack<T, V>& pack) const {
    if (pixel < pixels) pack.store(const_cast<uint4*>(first) + pixel * pitch);
  }
};

// Where a thread works: on kColumns pixels from (row, column) of image b.
struct Spot {
  int row, column, vector;
  int64_t b;

  __device__ explicit Spot(const Weave& weave) : row(blockIdx.y), b(blockIdx.z) {
    const unsigned thread = blockIdx.x * kThreads + threadIdx.x, vectors = weave.vectors;
    column = thread / vectors * kColumns;
    vector = thread % vectors;
  }
  template <typename T>
  __device__ Row<T> map_row(const Weave& weave, const void* map, int at) const {
    return {map, b * weave.H + at, weave.W, weave.vectors, vector};
  }
  template <typename T>
  __device__ Row<T> doubled_row(const Weave& weave, const void* upper, const void* lower, int at) const {
    return {at % 2 ? lower : upper, b * half(weave.H) + at / 2, 2 * half(weave.W), weave.vectors, vector};
  }
};

template <typename T, bool down, bool across>
__global__ void __launch_bounds__(kThreads) weave_forward(const Weave weave) {
  using A = Accumulate<T>;
  constexpr int V = Row<T>::V;
  const Spot spot(weave);
  if (spot.column >= weave.W) return;
  Pack<T, V> doubled[1 + down][kColumns + across], added[kColumns];
#pragma unroll
  for (int r = 0; r < 1 + down; ++r) {
    const Row<T> from = spot.doubled_row<T>(weave, weave.upper, weave.lower, spot.row + r);
#pragma unroll
    for (int k = 0; k < kColumns + across; ++k) doubled[r][k] = from[spot.column + k];
  }
  const Row<T> from = spot.map_row<T>(weave, weave.added, spot.row);
#pragma unroll
  for (int k = 0; k < kColumns; ++k) added[k] = from[spot.column + k];
  const Row<T> to = spot.map_row<T>(weave, weave.map, spot.row);
  const Places<A> columns(weave.W);
  const A to_below = Places<A>(weave.H)(spot.row);
  A left[V];
#pragma unroll
  for (int k = 0; k < kColumns + across; ++k) {
    A here[V];
    doubled[0][k].unpack(here);
    if constexpr (down) {
      A below[V];
      doubled[1][k].unpack(below);
#pragma unroll
      for (int i = 0; i < V; ++i) here[i] += to_below * (below[i] - here[i]);
    }
    if (k >= across) {
      const int column = spot.column + k - across;
      const A to_right = columns(column);
      A sum[V];
      added[k - across].unpack(sum);
#pragma unroll
      for (int i = 0; i < V; ++i) sum[i] += across ? left[i] + to_right * (here[i] - left[i]) : here[i];
      to.store(column, Pack<T, V>::pack(sum));
    }
#pragma unroll
    for (int i = 0; i < V; ++i) left[i] = here[i];
  }
}

// A row or column outside the map has the share 0 and is read at its neighbour, which has a share of its own: at most,
// an infinite gradient becomes NaN.
template <typename T, bool down, bool across>
__global__ void __launch_bounds__(kThreads) weave_backward(const Weave weave) {
  using A = Accumulate<T>;
  constexpr int V = Row<T>::V;
  const Spot spot(weave);
  const Row<T> to = spot.doubled_row<T>(weave, weave.grad_upper, weave.grad_lower, spot.row);
  if (spot.column >= to.pixels) return;
  Pack<T, V> grad[1 + down][kColumns + across];
#pragma unroll
  for (int r = 0; r < 1 + down; ++r) {
    const Row<T> from = spot.map_row<T>(weave, weave.grad, min(max(spot.row + r - down, 0), weave.H - 1));
#pragma unroll
    for (int k = 0; k < kColumns + across; ++k) grad[r][k] = from[spot.column + k - across];
  }
  const Places<A> rows(weave.H), columns(weave.W);
  const A in_same_row = rows.in_same(spot.row), in_previous_row = rows.in_previous(spot.row);
  A left[V];
#pragma unroll
  for (int k = 0; k < kColumns + across; ++k) {
    A here[V];
    grad[down][k].unpack(here);
    if constexpr (down) {
      A above[V];
      grad[0][k].unpack(above);
#pragma unroll
      for (int i = 0; i < V; ++i) here[i] = in_same_row * here[i] + in_previous_row * above[i];
    }
    if (k >= across) {
      const int column = spot.column + k - across;
      const A in_same = columns.in_same(column), in_previous = columns.in_previous(column);
      A sum[V];
#pragma unroll
      for (int i = 0; i < V; ++i) sum[i] = across ? in_same * here[i] + in_previous * left[i] : here[i];
      to.store(column, Pack<T, V>::pack(sum));
    }
#pragma unroll
    for (int i = 0; i < V; ++i) left[i] = here[i];
  }
}

template <typename T, bool down, bool across>
void launch(const Weave& weave, cudaStream_t stream) {
  const bool backward = weave.grad != nullptr;
  const int rows = backward ? 2 * half(weave.H) : weave.H, columns = backward ? 2 * half(weave.W) : weave.W;
  const unsigned threads = (columns + kColumns - 1) / kColumns * static_cast<unsigned>(weave.vectors);
  const dim3 blocks((threads + kThreads - 1) / kThreads, rows, weave.B);
  (backward ? weave_backward<T, down, across> : weave_forward<T, down, across>)<<<blocks, kThreads, 0, stream>>>(weave);
}

template <typename T>
void launch(const Weave& weave, cudaStream_t stream) {
  const bool down = weave.H % 2, across = weave.W % 2;
  if (down) {
    across ? launch<T, true, true>(weave, stream) : launch<T, true, false>(weave, stream);
  } else {
    across ? launch<T, false, true>(weave, stream) : launch<T, false, false>(weave, stream);
  }
}

}  // namespace

cudaError_t launch_weave(const Weave& weave, Type type, cudaStream_t stream) {
  switch (type) {
    case Type::float64:
      launch<double>(weave, stream);
      break;
    case Type::float32:
      launch<float>(weave, stream);
      break;
    case Type::float16:
      launch<__half>(weave, stream);
      break;
    case Type::bfloat16:
      launch<__nv_bfloat16>(weave, stream);
      break;
  }
  return cudaGetLastError();
}

}  // namespace racdino::cuda

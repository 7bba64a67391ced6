// What the kernels share: storage types, 16-byte loads, the level table, and where a sample falls.
//
// A group of T lanes serves one (batch, query, head); each lane holds V neighbouring channels, one 16-byte load.
// Samples are taken T at a time: every lane computes the coordinates of one of them and leaves the result in shared
// memory, so that a coordinate is computed once per sample, not once per channel.
#pragma once

#include "launch.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdio>
#include <type_traits>

namespace racdino::cuda {

constexpr int kThreads = 128;

template <typename T>
using Accumulate = std::conditional_t<std::is_same<T, double>::value, double, float>;

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ inline T narrow(Accumulate<T> x) {
  return x;
}
template <>
__device__ inline __half narrow<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// V elements as one machine word, so that loads and stores are as wide as they can be.
template <int bytes>
struct Word;
template <>
struct Word<2> {
  using Type = unsigned short;
};
template <>
struct Word<4> {
  using Type = unsigned int;
};
template <>
struct Word<8> {
  using Type = uint2;
};
template <>
struct Word<16> {
  using Type = uint4;
};

template <typename T, int V>
struct Pack {
  typename Word<V * sizeof(T)>::Type word;

  __device__ static Pack load(const void* p) {
    return {__ldg(static_cast<const typename Word<V * sizeof(T)>::Type*>(p))};
  }
  // The same, and the 128 bytes around it from memory to L2, where blocks that run at the same time look for them:
  // 16-bit rows of a head are shorter.
  __device__ static Pack load_line(const void* p) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    if constexpr (V * sizeof(T) == 16) {
      Pack loaded;
      asm("ld.global.nc.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
          : "=r"(loaded.word.x), "=r"(loaded.word.y), "=r"(loaded.word.z), "=r"(loaded.word.w)
          : "l"(__cvta_generic_to_global(p)));
      return loaded;
    }
#endif
    return load(p);
  }
  // Keep what is there unless wanted. In assembler, because a condition around a load becomes a branch, and the loads
  // behind it wait.
  __device__ void load_if(bool wanted, const void* p) {
    const auto global = __cvta_generic_to_global(p);
    const unsigned condition = wanted;
    if constexpr (sizeof word == 16) {
      asm("{.reg .pred wanted; setp.ne.u32 wanted, %5, 0; @wanted ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];}"
          : "+r"(word.x), "+r"(word.y), "+r"(word.z), "+r"(word.w)
          : "l"(global), "r"(condition));
    } else if constexpr (sizeof word == 8) {
      asm("{.reg .pred wanted; setp.ne.u32 wanted, %3, 0; @wanted ld.global.nc.v2.u32 {%0, %1}, [%2];}"
          : "+r"(word.x), "+r"(word.y)
          : "l"(global), "r"(condition));
    } else {
      static_assert(sizeof word == 4);
      asm("{.reg .pred wanted; setp.ne.u32 wanted, %2, 0; @wanted ld.global.nc.u32 %0, [%1];}"
          : "+r"(word)
          : "l"(global), "r"(condition));
    }
  }
  __device__ void store(void* p) const { *static_cast<typename Word<V * sizeof(T)>::Type*>(p) = word; }
  __device__ void unpack(Accumulate<T> (&x)[V]) const {
    if constexpr (std::is_same<T, __nv_bfloat16>::value && V % 2 == 0) {
      // Upper halves of floats. Taken out of their pairs first, as below, each is two instructions.
      uint32_t pairs[V / 2];
      memcpy(pairs, &word, sizeof word);
#pragma unroll
      for (int i = 0; i < V / 2; ++i) {
        x[2 * i] = __uint_as_float(pairs[i] << 16);
        x[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
      }
    } else {
      T elements[V];
      memcpy(elements, &word, sizeof word);
#pragma unroll
      for (int i = 0; i < V; ++i) x[i] = widen(elements[i]);
    }
  }
  __device__ static Pack pack(const Accumulate<T> (&x)[V]) {
    T elements[V];
#pragma unroll
    for (int i = 0; i < V; ++i) elements[i] = narrow<T>(x[i]);
    Pack packed;
    memcpy(&packed.word, elements, sizeof packed.word);
    return packed;
  }
};

// In the type of sums.
template <typename S>
__device__ inline Accumulate<S> read(const S* p) {
  Accumulate<S> x[1];
  Pack<S, 1>::load(p).unpack(x);
  return x[0];
}

// Two neighbours; together: by one load.
template <bool together, typename S>
__device__ inline void read_pair(const S* p, Accumulate<S>& x, Accumulate<S>& y) {
  Accumulate<S> pair[2];
  if constexpr (together) {
    Pack<S, 2>::load(p).unpack(pair);
  } else {
    pair[0] = read(p), pair[1] = read(p + 1);
  }
  x = pair[0], y = pair[1];
}

// p + index * bytes in one instruction: nvcc itself adds a high half of `bytes`, zero, to the product.
template <typename E>
__device__ inline E* at(E* p, unsigned index, unsigned bytes) {
  uint64_t address;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(address) : "r"(index), "r"(bytes), "l"(p));
  return reinterpret_cast<E*>(address);
}

template <typename A>
struct alignas(16) Four {
  A x[4];
};

struct Level {
  int H, W, start;
};

// As the tensors have it. These are never read on the host (that would stop the stream), so a level that reaches beyond
// value is found here; the kernel then fails loudly rather than read foreign memory.
struct RawLevel {
  int64_t H = 0, W = 0, start = 0;

  __device__ RawLevel(const Problem& problem, int l) {
    if (l >= problem.L) return;
    H = problem.spatial_shapes[2 * l];
    W = problem.spatial_shapes[2 * l + 1];
    start = problem.level_start_index[l];
  }
  __device__ Level checked(const Problem& problem, int l) const {
    if (H < 1 || W < 1 || H > problem.S || W > problem.S || start < 0 || start + H * W > problem.S) {
      printf(
          "ms_deform_attn: level %d of spatial_shapes is %lld x %lld and starts at %lld in level_start_index, "
          "expected a level inside the %lld pixels of value.\n",
          l,
          static_cast<long long>(H),
          static_cast<long long>(W),
          static_cast<long long>(start),
          static_cast<long long>(problem.S));
      __trap();
    }
    return {static_cast<int>(H), static_cast<int>(W), static_cast<int>(start)};
  }
};

// Fill the table in dynamic shared memory. first: that of threadIdx.x, which may have been loaded long before.
__device__ inline void load_levels(const Problem& problem, Level* levels, const RawLevel& first) {
  if (threadIdx.x < problem.L) levels[threadIdx.x] = first.checked(problem, threadIdx.x);
  for (int l = threadIdx.x + blockDim.x; l < problem.L; l += blockDim.x) {
    levels[l] = RawLevel(problem, l).checked(problem, l);
  }
  __syncthreads();
}
__device__ inline void load_levels(const Problem& problem, Level* levels) {
  load_levels(problem, levels, RawLevel(problem, threadIdx.x));
}

// Where one sample falls: grid_sample with align_corners=False and zero padding.
template <typename A>
struct Cell {
  int x0, y0;   // the corner left above
  A lx, ly;     // distance from it
  bool inside;  // false: contributes nothing; NaN and infinity are here, tested before the conversion to integer
};

// At (x, y) in pixels, whose centres are the whole numbers.
template <typename A>
__device__ inline Cell<A> cell_at(A x, A y, const Level& level) {
  const bool inside = x > A(-1) && x < level.W && y > A(-1) && y < level.H;
  const A x_floor = floor(inside ? x : A(0)), y_floor = floor(inside ? y : A(0));
  return {static_cast<int>(x_floor), static_cast<int>(y_floor), x - x_floor, y - y_floor, inside};
}

// At a location in [0, 1].
template <typename A>
__device__ inline Cell<A> cell_of(A loc_x, A loc_y, const Level& level) {
  return cell_at(loc_x * level.W - A(0.5), loc_y * level.H - A(0.5), level);
}

// The four corners (y0,x0) (y0,x1) (y1,x0) (y1,x1) of a cell. One outside the level has factor 0 and the place of its
// neighbour inside, so that loading needs no branch.
template <typename A>
struct Corners {
  A fx[2], fy[2];      // 1-lx and lx, 0 outside
  A in_x[2], in_y[2];  // 1, 0 outside
  int pixel;           // of the first corner, in value; -1: the sample contributes nothing
  unsigned step;       // 2 * (pixels to the row below) + (pixels to the column right)

  __device__ Corners() : fx{0, 0}, fy{0, 0}, in_x{0, 0}, in_y{0, 0}, pixel(-1), step(0) {}
  __device__ Corners(const Cell<A>& cell, const Level& level) : Corners() {
    if (!cell.inside) return;
    const bool left = cell.x0 >= 0, right = cell.x0 + 1 < level.W;
    const bool above = cell.y0 >= 0, below = cell.y0 + 1 < level.H;
    in_x[0] = left;
    in_x[1] = right;
    in_y[0] = above;
    in_y[1] = below;
    fx[0] = left ? 1 - cell.lx : A(0);
    fx[1] = right ? cell.lx : A(0);
    fy[0] = above ? 1 - cell.ly : A(0);
    fy[1] = below ? cell.ly : A(0);
    pixel = level.start + (above ? cell.y0 : 0) * level.W + (left ? cell.x0 : 0);
    step = 2u * (above && below ? level.W : 0) + (left && right ? 1u : 0u);
  }
  __device__ Four<A> factors(A scale) const {
    return {{fy[0] * fx[0] * scale, fy[0] * fx[1] * scale, fy[1] * fx[0] * scale, fy[1] * fx[1] * scale}};
  }
};

// One lane's sample, for the whole group to read.
struct Place {
  int pixel;
  unsigned step;
  __device__ unsigned corner(int c) const { return pixel + (c & 1 ? step & 1 : 0) + (c & 2 ? step >> 1 : 0); }
};

// Which (batch, query, head) a group serves. Neighbouring groups take neighbouring queries of one head: their samples
// lie close together and meet in the L1 cache. Neighbouring blocks take the heads of the same queries.
template <int T>
struct Task {
  int64_t b, q, row;  // row of (B, Q, M)
  int m, group, lane;
  bool active;  // false: a spare group at the end, which works on the last query and stores nothing

  __device__ explicit Task(const Problem& problem) {
    constexpr int groups = kThreads / T;
    const unsigned tiles = static_cast<unsigned>((problem.Q + groups - 1) / groups);
    const unsigned tile_and_batch = blockIdx.x / problem.M;
    m = blockIdx.x % problem.M;
    b = tile_and_batch / tiles;
    group = threadIdx.x / T;
    lane = threadIdx.x % T;
    q = static_cast<int64_t>(tile_and_batch % tiles) * groups + group;
    active = q < problem.Q;
    if (!active) q = problem.Q - 1;
    row = (b * problem.Q + q) * problem.M + m;
  }
  static int64_t blocks(const Problem& problem) {
    constexpr int groups = kThreads / T;
    return problem.B * problem.M * ((problem.Q + groups - 1) / groups);
  }
};

// The variants compiled: 16-byte lanes in groups that just cover the head width, and single elements for every width or
// address that 16 bytes do not divide. X(type, name, V, T).
#define RACDINO_WIDE_VARIANTS(X, type, name, V) \
  X(type, name, V, 4) X(type, name, V, 8) X(type, name, V, 16) X(type, name, V, 32)
#define RACDINO_VARIANTS_OF(X, type, name, V) \
  RACDINO_WIDE_VARIANTS(X, type, name, V) X(type, name, 1, 8) X(type, name, 1, 32)
#define RACDINO_VARIANTS(X)                  \
  RACDINO_VARIANTS_OF(X, double, float64, 2) \
  RACDINO_VARIANTS_OF(X, float, float32, 4)  \
  RACDINO_VARIANTS_OF(X, __half, float16, 8) \
  RACDINO_VARIANTS_OF(X, __nv_bfloat16, bfloat16, 8)

inline bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// Lanes per group for a head of D channels, V to a lane.
inline int lanes_for(int D, int V) {
  const int wanted = (D + V - 1) / V;
  if (V == 1) return wanted <= 8 ? 8 : 32;
  return wanted <= 4 ? 4 : wanted <= 8 ? 8 : wanted <= 16 ? 16 : 32;
}

inline int vector_width(const Problem& problem, Type type) {
  const int full = type == Type::float64 ? 2 : type == Type::float32 ? 4 : 8;
  const bool fits = problem.D % full == 0 && aligned(problem.value) && aligned(problem.output) &&
                    aligned(problem.grad_output) && aligned(problem.grad_value);
  return fits ? full : 1;
}

}  // namespace racdino::cuda

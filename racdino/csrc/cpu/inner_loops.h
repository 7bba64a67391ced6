// The loops over samples and channels, compiled once per instruction set and chosen at run time. No torch header here:
// a header's inline functions compiled for AVX-512 could be the copy the linker keeps for everyone.
#pragma once

#include <cstdint>

namespace racdino::cpu {

// One call, everything contiguous. T is float or double; n = L * P samples of one (query, head), in memory order.
template <typename T>
struct Problem {
  const T* value;        // (B, S, M, D)
  const T* locations;    // (B, Q, M, n, 2) as (x, y)
  const T* weights;      // (B, Q, M, n)
  const T* grad_output;  // (B, Q, M, D), backward only
  T* output;             // (B, Q, M, D), forward only
  T* grad_value;         // like value, zeroed by the caller; null: not wanted
  T* grad_locations;     // like locations; null: not wanted
  T* grad_weights;       // like weights; null: not wanted
  int64_t S, M, D, Q, n;
  // Per sample, from its level:
  const T* width;
  const T* height;
  const int32_t* row_length;  // width as an integer
  const int32_t* start;       // first pixel of the level
};

// Where n samples read: pixel and weight of the four corners (y0,x0) (y0,x1) (y1,x0) (y1,x1), as columns of length n.
// A corner outside the level points at the nearest pixel inside and has factor 0, so no later loop branches on it.
template <typename T>
struct Plan {
  int32_t* pixel[4];
  T* weight[4];    // bilinear factor, times the attention weight where the loop wants that
  T* factor_x[2];  // 1-lx and lx, zero outside
  T* factor_y[2];
  T* inside_x[2];  // 1 or 0
  T* inside_y[2];
  int32_t* inside;  // 0: contributes nothing (NaN and infinite locations are here)
  T* dot[4];        // backward: <grad_output, corner>
};

constexpr int64_t kPlanColumns = 21;  // of at most sizeof(double) each

template <typename T>
struct InnerLoops {
  // (batch, query, head) triples [begin, end), flattened in memory order.
  void (*forward)(const Problem<T>&, const Plan<T>&, int64_t begin, int64_t end);
  void (*sample_gradients)(const Problem<T>&, const Plan<T>&, int64_t begin, int64_t end);
  // All queries of one (batch, head), restricted to samples [n0, n1) and channels [d0, d1): whoever owns these owns
  // their rows of grad_value, so that tasks need no atomics and every sum has one order.
  void (*value_gradient)(
      const Problem<T>&, const Plan<T>&, int64_t b, int64_t m, int64_t n0, int64_t n1, int64_t d0, int64_t d1);
};

const InnerLoops<float>& generic_float();
const InnerLoops<double>& generic_double();
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RACDINO_X86_VARIANTS 1
const InnerLoops<float>& avx2_float();
const InnerLoops<double>& avx2_double();
const InnerLoops<float>& avx512_float();
const InnerLoops<double>& avx512_double();
#endif

}  // namespace racdino::cpu

// Included once per instruction set, with RACDINO_ISA (a name) and RACDINO_VECTOR_BYTES defined. Coordinates follow
// grid_sample with align_corners=False and zero padding: x = loc_x * W - 0.5, a sample counts when -1 < x < W and -1 <
// y < H.
#include "inner_loops.h"

#include <type_traits>

#define RACDINO_JOIN_(a, b) a##_##b
#define RACDINO_JOIN(a, b) RACDINO_JOIN_(a, b)

namespace racdino::cpu {
namespace RACDINO_ISA {

template <typename T, int bytes>
struct VectorOf {
  typedef T Type __attribute__((vector_size(bytes)));
};

// The same few operations on a vector and on a scalar, so that one loop body serves both.
template <typename V, typename T>
inline V load(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <typename V, typename T>
inline void store(T* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}

inline float floor(float x) { return __builtin_floorf(x); }
inline double floor(double x) { return __builtin_floor(x); }

// The sum of a vector's lanes, by halves.
inline float total(float x) { return x; }
inline double total(double x) { return x; }
template <typename V>
inline auto total(V v) {
  using T = std::decay_t<decltype(v[0])>;
  if constexpr (sizeof(V) == 2 * sizeof(T)) {
    return v[0] + v[1];
  } else if constexpr (sizeof(V) == 16) {
    return (v[0] + v[1]) + (v[2] + v[3]);
  } else {
    using Half = typename VectorOf<T, sizeof(V) / 2>::Type;
    const T* lanes = reinterpret_cast<const T*>(&v);
    return total(load<Half>(lanes) + load<Half>(lanes + sizeof(Half) / sizeof(T)));
  }
}

// Fill the plan for samples [n0, n1) of one (query, head). Range test first, conversion to integer after: 1e30 and NaN
// have no integer.
template <typename T>
inline void make_plan(
    const Problem<T>& problem, const Plan<T>& plan, const T* locations, const T* weights, int64_t n0, int64_t n1) {
  const T* __restrict__ width = problem.width;
  const T* __restrict__ height = problem.height;
  const int32_t* __restrict__ row_length = problem.row_length;
  const int32_t* __restrict__ start = problem.start;
#pragma GCC ivdep
  for (int64_t i = n0; i < n1; ++i) {
    const T W = width[i], H = height[i];
    const T x = locations[2 * i] * W - T(0.5), y = locations[2 * i + 1] * H - T(0.5);
    const bool inside = (x > T(-1)) & (x < W) & (y > T(-1)) & (y < H);
    const T safe_x = inside ? x : T(0), safe_y = inside ? y : T(0);
    const T x0 = floor(safe_x), y0 = floor(safe_y);
    const T lx = safe_x - x0, ly = safe_y - y0;
    const T x0_inside = inside & (x0 >= T(0)) ? T(1) : T(0), x1_inside = inside & (x0 < W - T(1)) ? T(1) : T(0);
    const T y0_inside = inside & (y0 >= T(0)) ? T(1) : T(0), y1_inside = inside & (y0 < H - T(1)) ? T(1) : T(0);
    const T fx0 = (T(1) - lx) * x0_inside, fx1 = lx * x1_inside;
    const T fy0 = (T(1) - ly) * y0_inside, fy1 = ly * y1_inside;
    const int32_t column0 = static_cast<int32_t>(x0 < T(0) ? T(0) : x0);
    const int32_t column1 = static_cast<int32_t>(x0 < W - T(1) ? x0 + T(1) : W - T(1));
    const int32_t row0 = start[i] + static_cast<int32_t>(y0 < T(0) ? T(0) : y0) * row_length[i];
    const int32_t row1 = start[i] + static_cast<int32_t>(y0 < H - T(1) ? y0 + T(1) : H - T(1)) * row_length[i];
    const T a = weights ? weights[i] : T(1);
    plan.inside[i] = inside;
    plan.pixel[0][i] = row0 + column0;
    plan.pixel[1][i] = row0 + column1;
    plan.pixel[2][i] = row1 + column0;
    plan.pixel[3][i] = row1 + column1;
    plan.weight[0][i] = fy0 * fx0 * a;
    plan.weight[1][i] = fy0 * fx1 * a;
    plan.weight[2][i] = fy1 * fx0 * a;
    plan.weight[3][i] = fy1 * fx1 * a;
    plan.factor_x[0][i] = fx0;
    plan.factor_x[1][i] = fx1;
    plan.factor_y[0][i] = fy0;
    plan.factor_y[1][i] = fy1;
    plan.inside_x[0][i] = x0_inside;
    plan.inside_x[1][i] = x1_inside;
    plan.inside_y[0][i] = y0_inside;
    plan.inside_y[1][i] = y1_inside;
  }
}

// Expand call(V, N, d), N vectors of type V from channel d on, until [d0, d1) is covered: blocks of full vectors first,
// then ever shorter vectors, at last single channels.
#define RACDINO_FOR_CHANNELS(T, d0, d1, call)                                      \
  do {                                                                             \
    using V = typename VectorOf<T, RACDINO_VECTOR_BYTES>::Type;                    \
    using V32 = typename VectorOf<T, (RACDINO_VECTOR_BYTES > 32 ? 32 : 16)>::Type; \
    using V16 = typename VectorOf<T, 16>::Type;                                    \
    constexpr int64_t lanes = sizeof(V) / sizeof(T);                               \
    constexpr int64_t lanes32 = sizeof(V32) / sizeof(T), lanes16 = 16 / sizeof(T); \
    int64_t d = (d0);                                                              \
    for (; d + 4 * lanes <= (d1); d += 4 * lanes) call(V, 4, d);                   \
    for (; d + 2 * lanes <= (d1); d += 2 * lanes) call(V, 2, d);                   \
    for (; d + lanes <= (d1); d += lanes) call(V, 1, d);                           \
    for (; d + lanes32 <= (d1); d += lanes32) call(V32, 1, d);                     \
    for (; d + lanes16 <= (d1); d += lanes16) call(V16, 1, d);                     \
    for (; d < (d1); ++d) call(T, 1, d);                                           \
  } while (0)

template <typename V, int N, typename T>
inline void forward_block(const Problem<T>& problem, const Plan<T>& plan, const T* value, T* output) {
  constexpr int64_t width = sizeof(V) / sizeof(T);
  const int64_t stride = problem.M * problem.D;
  V sum[N] = {};
  for (int64_t i = 0; i < problem.n; ++i) {
    if (!plan.inside[i]) continue;
    const T* r0 = value + plan.pixel[0][i] * stride;
    const T* r1 = value + plan.pixel[1][i] * stride;
    const T* r2 = value + plan.pixel[2][i] * stride;
    const T* r3 = value + plan.pixel[3][i] * stride;
    const T w0 = plan.weight[0][i], w1 = plan.weight[1][i], w2 = plan.weight[2][i], w3 = plan.weight[3][i];
    for (int k = 0; k < N; ++k) {
      // One sum per sample first: samples then depend on each other through a single addition.
      const V blend = w0 * load<V>(r0 + k * width) + w1 * load<V>(r1 + k * width) + w2 * load<V>(r2 + k * width) +
                      w3 * load<V>(r3 + k * width);
      sum[k] += blend;
    }
  }
  for (int k = 0; k < N; ++k) store<V>(output + k * width, sum[k]);
}

template <typename T>
void forward(const Problem<T>& problem, const Plan<T>& plan, int64_t begin, int64_t end) {
  const int64_t heads = problem.M, D = problem.D, n = problem.n;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t b = i / (problem.Q * heads), m = i % heads;
    make_plan(problem, plan, problem.locations + 2 * i * n, problem.weights + i * n, 0, n);
    const T* value = problem.value + (b * problem.S * heads + m) * D;
    T* output = problem.output + i * D;
#define RACDINO_CALL(V, N, d) forward_block<V, N>(problem, plan, value + d, output + d)
    RACDINO_FOR_CHANNELS(T, 0, D, RACDINO_CALL);
#undef RACDINO_CALL
  }
}

// dot[c] += <grad_output, corner c>: the four numbers every gradient of a sample's location and weight is made of.
template <typename V, int N, typename T>
inline void dot_block(const T* grad, const T* const corner[4], int64_t d, T dot[4]) {
  constexpr int64_t width = sizeof(V) / sizeof(T);
  V sum[4] = {};
  for (int k = 0; k < N; ++k) {
    const V g = load<V>(grad + d + k * width);
    for (int c = 0; c < 4; ++c) sum[c] += g * load<V>(corner[c] + d + k * width);
  }
  for (int c = 0; c < 4; ++c) dot[c] += total(sum[c]);
}

template <typename T>
void sample_gradients(const Problem<T>& problem, const Plan<T>& plan, int64_t begin, int64_t end) {
  const int64_t heads = problem.M, D = problem.D, n = problem.n, stride = heads * D;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t b = i / (problem.Q * heads), m = i % heads;
    make_plan<T>(problem, plan, problem.locations + 2 * i * n, nullptr, 0, n);
    const T* value = problem.value + (b * problem.S * heads + m) * D;
    const T* grad = problem.grad_output + i * D;
    for (int64_t s = 0; s < n; ++s) {
      T dot[4] = {};
      if (plan.inside[s]) {
        const T* corner[4];
        for (int c = 0; c < 4; ++c) corner[c] = value + plan.pixel[c][s] * stride;
#define RACDINO_CALL(V, N, d) dot_block<V, N>(grad, corner, d, dot)
        RACDINO_FOR_CHANNELS(T, 0, D, RACDINO_CALL);
#undef RACDINO_CALL
      }
      for (int c = 0; c < 4; ++c) plan.dot[c][s] = dot[c];
    }
    if (T* grad_weights = problem.grad_weights) {
#pragma GCC ivdep
      for (int64_t s = 0; s < n; ++s) {
        grad_weights[i * n + s] = plan.weight[0][s] * plan.dot[0][s] + plan.weight[1][s] * plan.dot[1][s] +
                                  plan.weight[2][s] * plan.dot[2][s] + plan.weight[3][s] * plan.dot[3][s];
      }
    }
    if (T* grad_locations = problem.grad_locations) {
#pragma GCC ivdep
      for (int64_t s = 0; s < n; ++s) {
        const T dot0 = plan.dot[0][s], dot1 = plan.dot[1][s], dot2 = plan.dot[2][s], dot3 = plan.dot[3][s];
        const T in_x0 = plan.inside_x[0][s], in_x1 = plan.inside_x[1][s];
        const T in_y0 = plan.inside_y[0][s], in_y1 = plan.inside_y[1][s];
        const T slope_x =
            plan.factor_y[0][s] * (in_x1 * dot1 - in_x0 * dot0) + plan.factor_y[1][s] * (in_x1 * dot3 - in_x0 * dot2);
        const T slope_y =
            plan.factor_x[0][s] * (in_y1 * dot2 - in_y0 * dot0) + plan.factor_x[1][s] * (in_y1 * dot3 - in_y0 * dot1);
        const T a = problem.weights[i * n + s];
        grad_locations[2 * (i * n + s)] = problem.width[s] * a * slope_x;
        grad_locations[2 * (i * n + s) + 1] = problem.height[s] * a * slope_y;
      }
    }
  }
}

template <typename V, int N, typename T>
inline void scatter_block(
    const Problem<T>& problem, const Plan<T>& plan, const T* grad, T* grad_value, int64_t n0, int64_t n1) {
  constexpr int64_t width = sizeof(V) / sizeof(T);
  const int64_t stride = problem.M * problem.D;
  V g[N];
  for (int k = 0; k < N; ++k) g[k] = load<V>(grad + k * width);
  for (int64_t s = n0; s < n1; ++s) {
    if (!plan.inside[s]) continue;
    for (int c = 0; c < 4; ++c) {
      const T w = plan.weight[c][s];
      T* row = grad_value + plan.pixel[c][s] * stride;
      for (int k = 0; k < N; ++k) store<V>(row + k * width, load<V>(row + k * width) + w * g[k]);
    }
  }
}

template <typename T>
void value_gradient(
    const Problem<T>& problem,
    const Plan<T>& plan,
    int64_t b,
    int64_t m,
    int64_t n0,
    int64_t n1,
    int64_t d0,
    int64_t d1) {
  const int64_t heads = problem.M, D = problem.D, n = problem.n;
  T* grad_value = problem.grad_value + (b * problem.S * heads + m) * D;
  for (int64_t q = 0; q < problem.Q; ++q) {
    const int64_t i = (b * problem.Q + q) * heads + m;
    make_plan(problem, plan, problem.locations + 2 * i * n, problem.weights + i * n, n0, n1);
    const T* grad = problem.grad_output + i * D;
#define RACDINO_CALL(V, N, d) scatter_block<V, N>(problem, plan, grad + d, grad_value + d, n0, n1)
    RACDINO_FOR_CHANNELS(T, d0, d1, RACDINO_CALL);
#undef RACDINO_CALL
  }
}

#undef RACDINO_FOR_CHANNELS

}  // namespace RACDINO_ISA

const InnerLoops<float>& RACDINO_JOIN(RACDINO_ISA, float)() {
  static constexpr InnerLoops<float> loops = {
      RACDINO_ISA::forward<float>, RACDINO_ISA::sample_gradients<float>, RACDINO_ISA::value_gradient<float>};
  return loops;
}

const InnerLoops<double>& RACDINO_JOIN(RACDINO_ISA, double)() {
  static constexpr InnerLoops<double> loops = {
      RACDINO_ISA::forward<double>, RACDINO_ISA::sample_gradients<double>, RACDINO_ISA::value_gradient<double>};
  return loops;
}

}  // namespace racdino::cpu

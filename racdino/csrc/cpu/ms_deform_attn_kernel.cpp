// CPU key: multithreaded forward and backward. Work is split so that every number is summed by one thread in one order:
// results are bitwise equal over runs and thread counts, and no atomics are needed.
#include "../ms_deform_attn.h"
#include "inner_loops.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace racdino {
namespace {

using cpu::InnerLoops;
using cpu::Plan;
using cpu::Problem;

// The instruction set torch itself would take, its variable ATEN_CPU_CAPABILITY (default, avx2, avx512) included.
template <typename T>
const InnerLoops<T>& inner_loops() {
  constexpr bool is_float = std::is_same_v<T, float>;
  const auto pick = [](auto& for_float, auto& for_double) -> const InnerLoops<T>& {
    if constexpr (is_float) {
      return for_float();
    } else {
      return for_double();
    }
  };
#ifdef RACDINO_X86_VARIANTS
  static const int level = [] {
    const char* variable = std::getenv("ATEN_CPU_CAPABILITY");
    const std::string_view limit = variable ? variable : "avx512";
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    return limit == "default" || !has_avx2 ? 0 : limit == "avx2" || !has_avx512 ? 1 : 2;
  }();
  if (level == 2) return pick(cpu::avx512_float, cpu::avx512_double);
  if (level == 1) return pick(cpu::avx2_float, cpu::avx2_double);
#endif
  return pick(cpu::generic_float, cpu::generic_double);
}

// The size of each sample's level, spelled out per sample so that planning is one flat loop.
template <typename T>
struct LevelTable {
  std::vector<T> width, height;
  std::vector<int32_t> row_length, start;

  LevelTable(const at::Tensor& spatial_shapes, const at::Tensor& level_start_index, const Sizes& sizes) {
    const at::Tensor shapes = spatial_shapes.contiguous(), starts = level_start_index.contiguous();
    for (int64_t l = 0; l < sizes.L; ++l) {
      const int64_t H = shapes.data_ptr<int64_t>()[2 * l], W = shapes.data_ptr<int64_t>()[2 * l + 1];
      const int64_t first = starts.data_ptr<int64_t>()[l];
      TORCH_CHECK(
          H > 0 && W > 0 && H <= sizes.S && W <= sizes.S && first >= 0 && first + H * W <= sizes.S,
          "ms_deform_attn: level " + std::to_string(l) + " of spatial_shapes is " + std::to_string(H) + " x " +
              std::to_string(W) + " and starts at " + std::to_string(first) +
              " in level_start_index, expected a level inside the " + std::to_string(sizes.S) + " pixels of value.");
      for (int64_t p = 0; p < sizes.P; ++p) {
        width.push_back(static_cast<T>(W));
        height.push_back(static_cast<T>(H));
        row_length.push_back(static_cast<int32_t>(W));
        start.push_back(static_cast<int32_t>(first));
      }
    }
  }
};

// One thread's plan.
template <typename T>
class PlanBuffer {
 public:
  explicit PlanBuffer(int64_t n) : storage_(static_cast<size_t>(cpu::kPlanColumns * n)) {
    T* next = storage_.data();
    const auto column = [&] {
      T* begin = next;
      next += n;
      return begin;
    };
    for (auto& c : plan.pixel) c = reinterpret_cast<int32_t*>(column());
    for (auto& c : plan.weight) c = column();
    for (auto& c : plan.factor_x) c = column();
    for (auto& c : plan.factor_y) c = column();
    for (auto& c : plan.inside_x) c = column();
    for (auto& c : plan.inside_y) c = column();
    for (auto& c : plan.dot) c = column();
    plan.inside = reinterpret_cast<int32_t*>(column());
  }
  Plan<T> plan;

 private:
  std::vector<T> storage_;
};

// Below this many multiply-adds a second thread costs more than it brings.
constexpr int64_t kWorkPerThread = 1 << 16;

template <typename Loop>
void for_each_query_and_head(const Sizes& sizes, const Loop& loop) {
  const int64_t work = std::max<int64_t>(1, 4 * sizes.L * sizes.P * sizes.D);
  at::parallel_for(0, sizes.B * sizes.Q * sizes.M, std::max<int64_t>(1, kWorkPerThread / work), loop);
}

template <typename T>
Problem<T> make_problem(const Sizes& sizes, const LevelTable<T>& levels) {
  Problem<T> problem{};
  problem.S = sizes.S;
  problem.M = sizes.M;
  problem.D = sizes.D;
  problem.Q = sizes.Q;
  problem.n = sizes.L * sizes.P;
  problem.width = levels.width.data();
  problem.height = levels.height.data();
  problem.row_length = levels.row_length.data();
  problem.start = levels.start.data();
  return problem;
}

template <typename T>
void run_forward(Problem<T> problem, const Sizes& sizes) {
  const auto& loops = inner_loops<T>();
  for_each_query_and_head(sizes, [&](int64_t begin, int64_t end) {
    PlanBuffer<T> buffer(problem.n);
    loops.forward(problem, buffer.plan, begin, end);
  });
}

// grad_value: a task is one (batch, head), cut by level and then by cache line of channels while threads would idle.
template <typename T>
void run_value_gradient(const Problem<T>& problem, const Sizes& sizes) {
  if (problem.n == 0) return;
  const int64_t wanted = 2 * at::get_num_threads();
  const int64_t levels = sizes.B * sizes.M < wanted ? sizes.L : 1;
  constexpr int64_t line = 64 / sizeof(T);
  const int64_t lines = sizes.B * sizes.M * levels < wanted ? (sizes.D + line - 1) / line : 1;
  const int64_t samples = problem.n / levels, channels = lines == 1 ? sizes.D : line;
  const auto& loops = inner_loops<T>();
  at::parallel_for(0, sizes.B * sizes.M * levels * lines, 1, [&](int64_t begin, int64_t end) {
    PlanBuffer<T> buffer(problem.n);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t c = task % lines, l = task / lines % levels, bm = task / lines / levels;
      loops.value_gradient(
          problem,
          buffer.plan,
          bm / sizes.M,
          bm % sizes.M,
          l * samples,
          (l + 1) * samples,
          c * channels,
          std::min(sizes.D, (c + 1) * channels));
    }
  });
}

template <typename T>
void run_backward(const Problem<T>& problem, const Sizes& sizes) {
  if (problem.grad_locations || problem.grad_weights) {
    const auto& loops = inner_loops<T>();
    for_each_query_and_head(sizes, [&](int64_t begin, int64_t end) {
      PlanBuffer<T> buffer(problem.n);
      loops.sample_gradients(problem, buffer.plan, begin, end);
    });
  }
  if (problem.grad_value) run_value_gradient(problem, sizes);
}

// 16-bit inputs are widened once, each number then being read about L * P times, and results rounded once at the end.
template <typename T>
at::Tensor widened(const at::Tensor& tensor) {
  return tensor.to(c10::CppTypeToScalarType<T>::value).contiguous();
}

template <typename T>
at::Tensor forward_as(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    const Sizes& sizes) {
  const LevelTable<T> levels(spatial_shapes, level_start_index, sizes);
  const at::Tensor v = widened<T>(value), loc = widened<T>(sampling_locations), w = widened<T>(attention_weights);
  at::Tensor output = at::empty({sizes.B, sizes.Q, sizes.M * sizes.D}, v.options());
  auto problem = make_problem<T>(sizes, levels);
  problem.value = v.data_ptr<T>();
  problem.locations = loc.data_ptr<T>();
  problem.weights = w.data_ptr<T>();
  problem.output = output.data_ptr<T>();
  run_forward(problem, sizes);
  return output.to(value.scalar_type());
}

template <typename T>
Gradients backward_as(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    const at::Tensor& grad_output,
    const Sizes& sizes,
    std::array<bool, 3> output_mask) {
  const LevelTable<T> levels(spatial_shapes, level_start_index, sizes);
  const at::Tensor v = widened<T>(value), loc = widened<T>(sampling_locations), w = widened<T>(attention_weights);
  const at::Tensor g = widened<T>(grad_output);
  const auto nothing = at::empty({0}, v.options());
  at::Tensor grad_value = output_mask[0] ? at::zeros(v.sizes(), v.options()) : nothing;
  at::Tensor grad_locations = output_mask[1] ? at::empty(loc.sizes(), v.options()) : nothing;
  at::Tensor grad_weights = output_mask[2] ? at::empty(w.sizes(), v.options()) : nothing;
  auto problem = make_problem<T>(sizes, levels);
  problem.value = v.data_ptr<T>();
  problem.locations = loc.data_ptr<T>();
  problem.weights = w.data_ptr<T>();
  problem.grad_output = g.data_ptr<T>();
  problem.grad_value = output_mask[0] ? grad_value.data_ptr<T>() : nullptr;
  problem.grad_locations = output_mask[1] ? grad_locations.data_ptr<T>() : nullptr;
  problem.grad_weights = output_mask[2] ? grad_weights.data_ptr<T>() : nullptr;
  run_backward(problem, sizes);
  return {
      grad_value.to(value.scalar_type()),
      grad_locations.to(sampling_locations.scalar_type()),
      grad_weights.to(attention_weights.scalar_type())};
}

at::Tensor forward_cpu(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    int64_t im2col_step) {
  const Sizes sizes =
      check_inputs(value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step);
  const auto forward = accumulate_type(value) == at::kDouble ? forward_as<double> : forward_as<float>;
  return forward(value, spatial_shapes, level_start_index, sampling_locations, attention_weights, sizes);
}

Gradients backward_cpu(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    const at::Tensor& grad_output,
    int64_t im2col_step,
    std::array<bool, 3> output_mask) {
  const Sizes sizes =
      check_inputs(value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step);
  check_grad_output(grad_output, value, sizes);
  const auto backward = accumulate_type(value) == at::kDouble ? backward_as<double> : backward_as<float>;
  return backward(
      value, spatial_shapes, level_start_index, sampling_locations, attention_weights, grad_output, sizes, output_mask);
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CPU, m) {
  m.impl("ms_deform_attn_forward", racdino::forward_cpu);
  m.impl("ms_deform_attn_backward", racdino::backward_cpu);
}

// CUDA key: prepares tensors and launches the kernels of the files beside this one. Nothing here waits for the device,
// so that calls can be captured in a CUDA graph.
#ifdef RACDINO_WITH_CUDA
#include "prepare.h"

#include <ATen/Context.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace racdino {
namespace {

// The tensors the kernels read, in the layout and types they expect. Locations are never shortened to 16 bits.
struct Arguments {
  at::Tensor value, spatial_shapes, level_start_index, locations, weights;
  cuda::Problem problem;

  Arguments(
      const at::Tensor& value_,
      const at::Tensor& spatial_shapes_,
      const at::Tensor& level_start_index_,
      const at::Tensor& sampling_locations,
      const at::Tensor& attention_weights,
      const Sizes& sizes)
      : value(value_.contiguous()),
        spatial_shapes(spatial_shapes_.contiguous()),
        level_start_index(level_start_index_.contiguous()),
        locations(sampling_locations.to(accumulate_type(value_)).contiguous()),
        weights(attention_weights.to(accumulate_type(value_)).contiguous()),
        problem(problem_of(sizes)) {
    problem.value = value.data_ptr();
    problem.spatial_shapes = spatial_shapes.data_ptr<int64_t>();
    problem.level_start_index = level_start_index.data_ptr<int64_t>();
    problem.locations = locations.data_ptr();
    problem.weights = weights.data_ptr();
  }
};

at::Tensor forward_cuda(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    int64_t im2col_step) {
  const Sizes sizes =
      check_inputs(value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step);
  check_limits(sizes);
  const c10::cuda::CUDAGuard on_device(value.device());
  const at::DimVector shape{sizes.B, sizes.Q, sizes.M * sizes.D};
  if (nothing_to_sample(sizes)) return at::zeros(shape, value.options());
  at::Tensor output = unfilled(shape, value.options());
  Arguments arguments(value, spatial_shapes, level_start_index, sampling_locations, attention_weights, sizes);
  arguments.problem.output = output.data_ptr();
  C10_CUDA_CHECK(cuda::launch_forward(arguments.problem, type_of(value.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  return output;
}

// Of a call that adds up in a fixed order.
int64_t sample_count(const Sizes& sizes) {
  const int64_t count = sizes.B * sizes.Q * sizes.M * sizes.L * sizes.P;
  TORCH_CHECK(
      count < (int64_t{1} << 31),
      "ms_deform_attn: the call has " + std::to_string(count) +
          " samples, expected fewer than 2^31 under torch.use_deterministic_algorithms(True).");
  return count;
}

// Memory of torch's for the kernels alone.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) : memory_(c10::cuda::CUDACachingAllocator::get()->allocate(bytes)) {}
  void* data() const { return memory_.get(); }

 private:
  c10::DataPtr memory_;
};

void sorted_value_gradient(const cuda::Problem& problem, const at::Tensor& value, const Sizes& sizes) {
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const auto type = type_of(value.scalar_type());
  const int64_t count = sample_count(sizes), cells = sizes.B * sizes.M * sizes.S;
  const Scratch filed(8 * count), in_order(8 * count);
  const auto samples_in = [&](const Scratch& scratch) {
    auto* first = static_cast<uint32_t*>(scratch.data());
    return cuda::Samples{first, first + count, static_cast<int32_t>(count), cells};
  };
  const cuda::Samples unsorted = samples_in(filed), sorted = samples_in(in_order);
  C10_CUDA_CHECK(cuda::launch_file(problem, type, unsorted, stream));
  size_t bytes = 0;
  C10_CUDA_CHECK(cuda::launch_sort(unsorted, sorted, nullptr, bytes, stream));
  const Scratch workspace(bytes);
  C10_CUDA_CHECK(cuda::launch_sort(unsorted, sorted, workspace.data(), bytes, stream));

  const int64_t stretches = (count + cuda::kStretch - 1) / cuda::kStretch;
  const int64_t element = value.scalar_type() == at::kDouble ? 8 : 4;
  const Scratch ranges(8 * cells), sums((cells + stretches) * 4 * sizes.D * element);
  auto* range = static_cast<int32_t*>(ranges.data());
  C10_CUDA_CHECK(cudaMemsetAsync(range, 0, 8 * cells, stream));
  C10_CUDA_CHECK(cuda::launch_add_up(problem, type, sorted, range, sums.data(), stream));
  C10_CUDA_CHECK(cuda::launch_collect(problem, type, sorted, range, sums.data(), stream));
}

void gathered_value_gradient(const cuda::Problem& problem, const at::Tensor& value, const Sizes& sizes) {
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const auto type = type_of(value.scalar_type());
  cuda::Tiles tiles = cuda::tiles_for(problem);
  const bool narrow = value.element_size() < 4;
  const Scratch samples(4 * sample_count(sizes)), sums(narrow ? 4 * value.numel() : 0);
  const Scratch starts(4 * sizes.B * sizes.M * sizes.L * tiles.chunks * (4 * tiles.most + 1));
  tiles.samples = static_cast<uint32_t*>(samples.data());
  tiles.starts = static_cast<uint32_t*>(starts.data());
  tiles.sums = narrow ? sums.data() : problem.grad_value;
  C10_CUDA_CHECK(cuda::launch_file_by_tile(problem, type, tiles, stream));
  C10_CUDA_CHECK(cuda::launch_gather(problem, type, tiles, stream));
}

Gradients backward_cuda(
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
  check_limits(sizes);
  const c10::cuda::CUDAGuard on_device(value.device());
  const auto accumulated = value.options().dtype(accumulate_type(value));
  const auto zeros_like = [](const at::Tensor& tensor, bool wanted) {
    return at::zeros(wanted ? tensor.sizes() : at::IntArrayRef{0}, tensor.options());
  };
  if (nothing_to_sample(sizes)) {
    return {
        zeros_like(value, output_mask[0]),
        zeros_like(sampling_locations, output_mask[1]),
        zeros_like(attention_weights, output_mask[2])};
  }
  Arguments arguments(value, spatial_shapes, level_start_index, sampling_locations, attention_weights, sizes);
  const at::Tensor g = grad_output.contiguous();
  const bool deterministic = output_mask[0] && at::globalContext().deterministicAlgorithms();
  at::Tensor grad_value = zeros_like(arguments.value, false);
  at::Tensor grad_locations = unfilled(output_mask[1] ? arguments.locations.sizes() : at::IntArrayRef{0}, accumulated);
  at::Tensor grad_weights = unfilled(output_mask[2] ? arguments.weights.sizes() : at::IntArrayRef{0}, accumulated);
  auto& problem = arguments.problem;
  const auto type = type_of(value.scalar_type());
  problem.grad_output = g.data_ptr();
  const bool by_level = output_mask[0] && cuda::pays_by_level(problem, type);
  if (output_mask[0]) {
    grad_value = deterministic || by_level ? unfilled(value.sizes(), value.options())
                                           : at::zeros(value.sizes(), accumulated);
    problem.grad_value = grad_value.data_ptr();
  }
  problem.grad_locations = output_mask[1] ? grad_locations.data_ptr() : nullptr;
  problem.grad_weights = output_mask[2] ? grad_weights.data_ptr() : nullptr;
  if (deterministic && !by_level) {
    const auto value_gradient = cuda::pays_to_gather(problem) ? gathered_value_gradient : sorted_value_gradient;
    value_gradient(problem, arguments.value, sizes);
    problem.grad_value = nullptr;
  }
  const auto stream = c10::cuda::getCurrentCUDAStream();
  if (by_level) {
    C10_CUDA_CHECK(cuda::launch_backward_by_level(problem, type, deterministic, stream));
  } else if (problem.grad_value) {
    const auto launch = cuda::pays_by_cell(problem, type) ? cuda::launch_backward_by_cell : cuda::launch_backward;
    C10_CUDA_CHECK(launch(problem, type, stream));
  } else if (problem.grad_locations || problem.grad_weights) {
    C10_CUDA_CHECK(cuda::launch_dots(problem, type, stream));
  }
  return {
      grad_value.to(value.scalar_type()),
      grad_locations.to(sampling_locations.scalar_type()),
      grad_weights.to(attention_weights.scalar_type())};
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CUDA, m) {
  m.impl("ms_deform_attn_forward", racdino::forward_cuda);
  m.impl("ms_deform_attn_backward", racdino::backward_cuda);
}
#endif

// CUDA key of the fused operator: launches forward_fused.cu and backward_fused.cu; the plain operator's backward does
// the work between. Nothing here waits for the device, so that calls can be captured in a CUDA graph.
#ifdef RACDINO_WITH_CUDA
#include "prepare.h"

#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace racdino {
namespace {

// Offsets and logits in one type that the kernels know: theirs, if it is that of sums or of 16-bit values.
at::ScalarType storage_of(const at::Tensor& value, const at::Tensor& offsets, const at::Tensor& logits) {
  const auto dtype = offsets.scalar_type();
  return dtype == value.scalar_type() && dtype == logits.scalar_type() ? dtype : accumulate_type(value);
}

// The tensors the kernels read, in the layout and types they expect.
struct FusedArguments {
  at::Tensor value, spatial_shapes, level_start_index, reference, offsets, logits;
  cuda::Problem problem;
  cuda::Fusion fusion{};

  FusedArguments(
      const at::Tensor& value_,
      const at::Tensor& spatial_shapes_,
      const at::Tensor& level_start_index_,
      const at::Tensor& reference_points,
      const at::Tensor& sampling_offsets,
      const at::Tensor& attention_logits,
      const Sizes& sizes)
      : value(value_.contiguous()),
        spatial_shapes(spatial_shapes_.contiguous()),
        level_start_index(level_start_index_.contiguous()),
        reference(reference_points.to(accumulate_type(value_))),
        problem(problem_of(sizes)) {
    const auto storage = storage_of(value_, sampling_offsets, attention_logits);
    offsets = sampling_offsets.to(storage).contiguous();
    logits = attention_logits.to(storage).contiguous();
    if (reference.stride(-1) != 1) reference = reference.contiguous();
    const at::Tensor everywhere = reference.expand({sizes.B, sizes.Q, sizes.L, reference.size(-1)});
    problem.value = value.data_ptr();
    problem.spatial_shapes = spatial_shapes.data_ptr<int64_t>();
    problem.level_start_index = level_start_index.data_ptr<int64_t>();
    fusion.reference = reference.data_ptr();
    fusion.offsets = offsets.data_ptr();
    fusion.logits = logits.data_ptr();
    fusion.batch_step = everywhere.stride(0);
    fusion.query_step = everywhere.stride(1);
    fusion.level_step = everywhere.stride(2);
    fusion.boxes = reference.size(-1) == 4;
    fusion.storage = type_of(storage);
  }
};

at::Tensor fused_cuda(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits) {
  const Sizes sizes = check_fused_inputs(
      value, spatial_shapes, level_start_index, reference_points, sampling_offsets, attention_logits);
  check_limits(sizes);
  const c10::cuda::CUDAGuard on_device(value.device());
  const at::DimVector shape{sizes.B, sizes.Q, sizes.M * sizes.D};
  if (nothing_to_sample(sizes)) return at::zeros(shape, value.options());
  at::Tensor output = unfilled(shape, value.options());
  FusedArguments arguments(
      value, spatial_shapes, level_start_index, reference_points, sampling_offsets, attention_logits, sizes);
  arguments.problem.output = output.data_ptr();
  C10_CUDA_CHECK(
      cuda::launch_forward_fused(
          arguments.problem, arguments.fusion, type_of(value.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  return output;
}

FusedGradients fused_backward_cuda(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits,
    const at::Tensor& grad_output,
    std::array<bool, 4> output_mask) {
  const Sizes sizes = check_fused_inputs(
      value, spatial_shapes, level_start_index, reference_points, sampling_offsets, attention_logits);
  check_limits(sizes);
  const c10::cuda::CUDAGuard on_device(value.device());
  FusedArguments arguments(
      value, spatial_shapes, level_start_index, reference_points, sampling_offsets, attention_logits, sizes);
  auto& problem = arguments.problem;
  const auto accumulated = value.options().dtype(accumulate_type(value));
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const bool something = !nothing_to_sample(sizes);
  const at::Tensor locations = unfilled(sampling_offsets.sizes(), accumulated);
  const at::Tensor weights = unfilled(locations.sizes().slice(0, 5), accumulated);
  if (something) {
    C10_CUDA_CHECK(
        cuda::launch_locate(problem, arguments.fusion, locations.data_ptr(), weights.data_ptr(), stream));
  }
  const auto [grad_value, grad_locations, grad_weights] = ms_deform_attn_backward(
      arguments.value,
      arguments.spatial_shapes,
      arguments.level_start_index,
      locations,
      weights,
      grad_output,
      64,
      {output_mask[0], output_mask[1] || output_mask[2], output_mask[3]});

  const auto empty_like = [](const at::Tensor& tensor, bool wanted) {
    return unfilled(wanted ? tensor.sizes() : at::IntArrayRef{0}, tensor.options());
  };
  at::Tensor grad_reference = empty_like(reference_points, false);
  at::Tensor grad_offsets = empty_like(arguments.offsets, output_mask[2]);
  at::Tensor grad_logits = empty_like(arguments.logits, output_mask[3]);
  if (something && (output_mask[2] || output_mask[3])) {
    problem.weights = weights.data_ptr();
    problem.grad_locations = grad_locations.data_ptr();
    problem.grad_weights = grad_weights.data_ptr();
    C10_CUDA_CHECK(
        cuda::launch_unlocate(
            problem,
            arguments.fusion,
            output_mask[2] ? grad_offsets.data_ptr() : nullptr,
            output_mask[3] ? grad_logits.data_ptr() : nullptr,
            stream));
  }
  if (output_mask[1]) grad_reference = reference_gradient(grad_locations, reference_points, arguments.offsets);
  return {
      grad_value,
      grad_reference,
      grad_offsets.to(sampling_offsets.scalar_type()),
      grad_logits.to(attention_logits.scalar_type())};
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CUDA, m) {
  m.impl("ms_deform_attn_fused", racdino::fused_cuda);
  m.impl("ms_deform_attn_fused_backward", racdino::fused_backward_cuda);
}
#endif

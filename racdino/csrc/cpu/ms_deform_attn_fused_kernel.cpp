// CPU key of the fused operator: softmax and locations by torch, sampling and its gradients by the kernels beside this
// file. The whole is bitwise what a module would get that called the parts itself in float32.
#include "../ms_deform_attn.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/library.h>

namespace racdino {
namespace {

// What the sampling kernels take, and what its gradients need again.
struct Sampling {
  at::Tensor scale;      // of an offset, to a fraction of the level's size: 1/(W,H), or half of the box over P
  at::Tensor offsets;    // (B, Q, M, L, P, 2)
  at::Tensor locations;  // like offsets
  at::Tensor weights;    // (B, Q, M, L, P)

  Sampling(
      const at::Tensor& value,
      const at::Tensor& spatial_shapes,
      const at::Tensor& reference_points,
      const at::Tensor& sampling_offsets,
      const at::Tensor& attention_logits,
      const Sizes& sizes)
      : offsets(sampling_offsets.to(accumulate_type(value))) {
    const auto dtype = accumulate_type(value);
    const at::Tensor reference = reference_points.to(dtype).unsqueeze(2).unsqueeze(4);  // (B, Q, 1, L, 1, 2 or 4)
    if (reference.size(-1) == 2) {
      const at::Tensor size = spatial_shapes.flip(-1).to(dtype).view({1, 1, 1, sizes.L, 1, 2});  // (W, H)
      scale = size.reciprocal();
      locations = reference + offsets / size;
    } else {
      scale = reference.slice(-1, 2) * (0.5 / static_cast<double>(sizes.P));
      locations = reference.slice(-1, 0, 2) + offsets / sizes.P * reference.slice(-1, 2) * 0.5;
    }
    weights = attention_logits.to(dtype)
                  .reshape({sizes.B, sizes.Q, sizes.M, sizes.L * sizes.P})
                  .softmax(-1)
                  .view({sizes.B, sizes.Q, sizes.M, sizes.L, sizes.P});
  }
};

at::Tensor fused_cpu(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits) {
  const Sizes sizes = check_fused_inputs(
      value, spatial_shapes, level_start_index, reference_points, sampling_offsets, attention_logits);
  const Sampling sampling(value, spatial_shapes, reference_points, sampling_offsets, attention_logits, sizes);
  return ms_deform_attn_forward(value, spatial_shapes, level_start_index, sampling.locations, sampling.weights, 64);
}

FusedGradients fused_backward_cpu(
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
  const Sampling sampling(value, spatial_shapes, reference_points, sampling_offsets, attention_logits, sizes);
  const auto [grad_value, grad_locations, grad_weights] = ms_deform_attn_backward(
      value,
      spatial_shapes,
      level_start_index,
      sampling.locations,
      sampling.weights,
      grad_output,
      64,
      {output_mask[0], output_mask[1] || output_mask[2], output_mask[3]});
  at::Tensor grad_reference = at::empty({0}, reference_points.options());
  at::Tensor grad_offsets = at::empty({0}, sampling_offsets.options());
  at::Tensor grad_logits = at::empty({0}, attention_logits.options());
  if (output_mask[1]) grad_reference = reference_gradient(grad_locations, reference_points, sampling.offsets);
  if (output_mask[2]) grad_offsets = (grad_locations * sampling.scale).to(sampling_offsets.scalar_type());
  if (output_mask[3]) {
    const at::Tensor mean = (grad_weights * sampling.weights).sum({-2, -1}, /*keepdim=*/true);
    grad_logits = (sampling.weights * (grad_weights - mean))
                      .to(attention_logits.scalar_type())
                      .reshape(attention_logits.sizes());
  }
  return {grad_value, grad_reference, grad_offsets, grad_logits};
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CPU, m) {
  m.impl("ms_deform_attn_fused", racdino::fused_cpu);
  m.impl("ms_deform_attn_fused_backward", racdino::fused_backward_cpu);
}

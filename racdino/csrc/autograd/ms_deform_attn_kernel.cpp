// Autograd key: the op is differentiable however it is called (torch.ops included), from torch 2.0 on.
#include "../ms_deform_attn.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace racdino {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class Forward : public torch::autograd::Function<Forward> {
 public:
  static Variable forward(
      AutogradContext* ctx,
      const Variable& value,
      const Variable& spatial_shapes,
      const Variable& level_start_index,
      const Variable& sampling_locations,
      const Variable& attention_weights,
      int64_t im2col_step) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({value, spatial_shapes, level_start_index, sampling_locations, attention_weights});
    ctx->saved_data["im2col_step"] = im2col_step;
    return ms_deform_attn_forward(
        value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad_output) {
    const auto saved = ctx->get_saved_variables();
    const std::array<bool, 3> wanted = {ctx->needs_input_grad(0), ctx->needs_input_grad(3), ctx->needs_input_grad(4)};
    auto [grad_value, grad_locations, grad_weights] = ms_deform_attn_backward(
        saved[0],
        saved[1],
        saved[2],
        saved[3],
        saved[4],
        grad_output[0],
        ctx->saved_data["im2col_step"].toInt(),
        wanted);
    const Variable none;
    return {
        wanted[0] ? grad_value : none,
        none,
        none,
        wanted[1] ? grad_locations : none,
        wanted[2] ? grad_weights : none,
        none};
  }
};

// Without this key a second derivative would silently come out as zero.
class Backward : public torch::autograd::Function<Backward> {
 public:
  static variable_list forward(
      AutogradContext* /*ctx*/,
      const Variable& value,
      const Variable& spatial_shapes,
      const Variable& level_start_index,
      const Variable& sampling_locations,
      const Variable& attention_weights,
      const Variable& grad_output,
      int64_t im2col_step,
      std::array<bool, 3> output_mask) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [grad_value, grad_locations, grad_weights] = ms_deform_attn_backward(
        value,
        spatial_shapes,
        level_start_index,
        sampling_locations,
        attention_weights,
        grad_output,
        im2col_step,
        output_mask);
    return {grad_value, grad_locations, grad_weights};
  }

  static variable_list backward(AutogradContext* /*ctx*/, const variable_list& /*grad_output*/) {
    TORCH_CHECK(false, "ms_deform_attn: second derivatives are not implemented (nor in Deformable-DETR's original).");
  }
};

class Fused : public torch::autograd::Function<Fused> {
 public:
  static Variable forward(
      AutogradContext* ctx,
      const Variable& value,
      const Variable& spatial_shapes,
      const Variable& level_start_index,
      const Variable& reference_points,
      const Variable& sampling_offsets,
      const Variable& attention_logits) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward(
        {value, spatial_shapes, level_start_index, reference_points, sampling_offsets, attention_logits});
    return ms_deform_attn_fused(
        value, spatial_shapes, level_start_index, reference_points, sampling_offsets, attention_logits);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad_output) {
    const auto saved = ctx->get_saved_variables();
    const std::array<bool, 4> wanted = {
        ctx->needs_input_grad(0), ctx->needs_input_grad(3), ctx->needs_input_grad(4), ctx->needs_input_grad(5)};
    auto [grad_value, grad_reference, grad_offsets, grad_logits] = ms_deform_attn_fused_backward(
        saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], grad_output[0], wanted);
    const Variable none;
    return {
        wanted[0] ? grad_value : none,
        none,
        none,
        wanted[1] ? grad_reference : none,
        wanted[2] ? grad_offsets : none,
        wanted[3] ? grad_logits : none};
  }
};

class FusedBackward : public torch::autograd::Function<FusedBackward> {
 public:
  static variable_list forward(
      AutogradContext* /*ctx*/,
      const Variable& value,
      const Variable& spatial_shapes,
      const Variable& level_start_index,
      const Variable& reference_points,
      const Variable& sampling_offsets,
      const Variable& attention_logits,
      const Variable& grad_output,
      std::array<bool, 4> output_mask) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [grad_value, grad_reference, grad_offsets, grad_logits] = ms_deform_attn_fused_backward(
        value,
        spatial_shapes,
        level_start_index,
        reference_points,
        sampling_offsets,
        attention_logits,
        grad_output,
        output_mask);
    return {grad_value, grad_reference, grad_offsets, grad_logits};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad_output) {
    return Backward::backward(ctx, grad_output);
  }
};

at::Tensor forward_autograd(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    int64_t im2col_step) {
  return Forward::apply(value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step);
}

Gradients backward_autograd(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    const at::Tensor& grad_output,
    int64_t im2col_step,
    std::array<bool, 3> output_mask) {
  auto gradients = Backward::apply(
      value,
      spatial_shapes,
      level_start_index,
      sampling_locations,
      attention_weights,
      grad_output,
      im2col_step,
      output_mask);
  return {gradients[0], gradients[1], gradients[2]};
}

at::Tensor fused_autograd(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits) {
  return Fused::apply(
      value, spatial_shapes, level_start_index, reference_points, sampling_offsets, attention_logits);
}

FusedGradients fused_backward_autograd(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits,
    const at::Tensor& grad_output,
    std::array<bool, 4> output_mask) {
  auto gradients = FusedBackward::apply(
      value,
      spatial_shapes,
      level_start_index,
      reference_points,
      sampling_offsets,
      attention_logits,
      grad_output,
      output_mask);
  return {gradients[0], gradients[1], gradients[2], gradients[3]};
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, Autograd, m) {
  m.impl("ms_deform_attn_forward", racdino::forward_autograd);
  m.impl("ms_deform_attn_backward", racdino::backward_autograd);
  m.impl("ms_deform_attn_fused", racdino::fused_autograd);
  m.impl("ms_deform_attn_fused_backward", racdino::fused_backward_autograd);
}

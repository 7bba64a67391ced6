// Multi-scale deformable attention: what the dispatch-key folders share. The schema is in ms_deform_attn.cpp.
// Shape letters: B batch, S pixels of all levels, M heads, D channels of a head, Q queries, L levels, P points.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <tuple>

namespace racdino {

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // of value, sampling_locations, attention_weights
// of value, reference_points, sampling_offsets, attention_logits
using FusedGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

struct Sizes {
  int64_t B, S, M, D, Q, L, P;
};

// Call the op through the dispatcher, so that the caller's keys decide which kernel runs.
at::Tensor ms_deform_attn_forward(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    int64_t im2col_step);

Gradients ms_deform_attn_backward(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    const at::Tensor& grad_output,
    int64_t im2col_step,
    std::array<bool, 3> output_mask);

at::Tensor ms_deform_attn_fused(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits);

FusedGradients ms_deform_attn_fused_backward(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits,
    const at::Tensor& grad_output,
    std::array<bool, 4> output_mask);

// Raise one sentence naming the argument, what it is and what it should be; return the sizes. Reads no device memory.
Sizes check_inputs(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    int64_t im2col_step);

Sizes check_fused_inputs(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits);

void check_grad_output(const at::Tensor& grad_output, const at::Tensor& value, const Sizes& sizes);

// Of reference_points, in their type. The first two numbers of each move its samples, a box's size spreads them.
at::Tensor reference_gradient(
    const at::Tensor& grad_locations, const at::Tensor& reference_points, const at::Tensor& sampling_offsets);

// As in torch's own messages: [2, 42, 24].
std::string shape_name(at::IntArrayRef shape);

// The type sums are kept in: float64 for float64, float32 for everything shorter.
inline at::ScalarType accumulate_type(const at::Tensor& value) {
  return value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace racdino

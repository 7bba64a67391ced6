// Autocast keys: values keep the 16 bits their projection gave them, locations and weights are raised to float32.
// A float16 location is off by up to 0.06 pixels on a level 256 wide, a bfloat16 one by half a pixel: never cast them
// down.
#include "../ms_deform_attn.h"

#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace racdino {
namespace {

template <c10::DispatchKey key, c10::DeviceType device>
at::Tensor forward_autocast(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    int64_t im2col_step) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(key);
  return ms_deform_attn_forward(
      value,
      spatial_shapes,
      level_start_index,
      at::autocast::cached_cast(at::kFloat, sampling_locations, device),
      at::autocast::cached_cast(at::kFloat, attention_weights, device),
      im2col_step);
}

// Offsets and logits are only stored in 16 bits: the kernels widen them before the first operation.
template <c10::DispatchKey key, c10::DeviceType device>
at::Tensor fused_autocast(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(key);
  return ms_deform_attn_fused(
      value,
      spatial_shapes,
      level_start_index,
      at::autocast::cached_cast(at::kFloat, reference_points, device),
      sampling_offsets,
      attention_logits);
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, AutocastCPU, m) {
  m.impl("ms_deform_attn_forward", racdino::forward_autocast<c10::DispatchKey::AutocastCPU, c10::DeviceType::CPU>);
  m.impl("ms_deform_attn_fused", racdino::fused_autocast<c10::DispatchKey::AutocastCPU, c10::DeviceType::CPU>);
}

TORCH_LIBRARY_IMPL(racdino, AutocastCUDA, m) {
  m.impl("ms_deform_attn_forward", racdino::forward_autocast<c10::DispatchKey::AutocastCUDA, c10::DeviceType::CUDA>);
  m.impl("ms_deform_attn_fused", racdino::fused_autocast<c10::DispatchKey::AutocastCUDA, c10::DeviceType::CUDA>);
}

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

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, AutocastCPU, m) {
  m.impl("ms_deform_attn_forward", racdino::forward_autocast<c10::DispatchKey::AutocastCPU, c10::DeviceType::CPU>);
}

TORCH_LIBRARY_IMPL(racdino, AutocastCUDA, m) {
  m.impl("ms_deform_attn_forward", racdino::forward_autocast<c10::DispatchKey::AutocastCUDA, c10::DeviceType::CUDA>);
}

// CUDA key of crop: checks, then launches crop.cu. Nothing here waits for the device.
#ifdef RACDINO_WITH_CUDA
#include "../ms_deform_attn.h"
#include "crop.h"

#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <string>

namespace racdino {
namespace {

constexpr int64_t kBytes = 16;  // that the kernels read of a pixel at a time

// given: x or its cropped gradient, of which messages speak. whole: the shape of x.
cuda::Crop sizes_of(const at::Tensor& given, at::IntArrayRef whole, int64_t height, int64_t width) {
  const int64_t size = given.element_size();
  TORCH_CHECK(
      whole.size() == 4 && (size == 2 || size == 4) && whole[1] * size % kBytes == 0,
      "crop: the map is " + shape_name(given.sizes()) + " " + c10::toString(given.scalar_type()) +
          ", expected (B, C, H, W) with elements of 2 or 4 bytes and C a multiple of 16 bytes.");
  TORCH_CHECK(
      height >= 0 && height <= whole[2] && width >= 0 && width <= whole[3],
      "crop: expected the upper left part of " + std::to_string(whole[2]) + "x" + std::to_string(whole[3]) +
          " pixels, not " + std::to_string(height) + "x" + std::to_string(width) + ".");
  TORCH_CHECK(
      whole[0] <= cuda::kMaxImages && whole[1] <= cuda::kMaxChannels && whole[2] * whole[3] <= cuda::kMaxPixels,
      "crop: the map is " + shape_name(whole) + ", expected at most " + std::to_string(cuda::kMaxImages) +
          " images of 2^20 channels and 2^30 pixels.");
  cuda::Crop crop{};
  crop.B = static_cast<int32_t>(whole[0]);
  crop.C = static_cast<int32_t>(whole[1]);
  crop.H = static_cast<int32_t>(whole[2]);
  crop.W = static_cast<int32_t>(whole[3]);
  crop.height = static_cast<int32_t>(height);
  crop.width = static_cast<int32_t>(width);
  return crop;
}

// x itself where each of its images is channels-last and begins at a multiple of 16 bytes.
at::Tensor channels_last(const at::Tensor& x) {
  const int64_t C = x.size(1), W = x.size(3);
  const bool fits = x.stride(1) == 1 && x.stride(2) == W * C && x.stride(3) == C &&
                    x.stride(0) * x.element_size() % kBytes == 0 &&
                    reinterpret_cast<uintptr_t>(x.data_ptr()) % kBytes == 0;
  return fits ? x : x.clone(at::MemoryFormat::ChannelsLast);
}

at::Tensor crop_cuda(const at::Tensor& x, int64_t height, int64_t width) {
  const c10::cuda::CUDAGuard on_device(x.device());
  cuda::Crop crop = sizes_of(x, x.sizes(), height, width);
  at::Tensor part = at::empty({x.size(0), x.size(1), height, width}, x.options());
  if (part.numel() == 0) return part;
  const at::Tensor whole = channels_last(x);
  crop.whole = whole.data_ptr();
  crop.part = part.data_ptr();
  crop.image = whole.stride(0);
  C10_CUDA_CHECK(cuda::launch_crop(crop, x.element_size(), c10::cuda::getCurrentCUDAStream()));
  return part;
}

at::Tensor crop_backward_cuda(const at::Tensor& grad, int64_t H, int64_t W) {
  const c10::cuda::CUDAGuard on_device(grad.device());
  TORCH_CHECK(
      grad.dim() == 4, "crop: the gradient is " + shape_name(grad.sizes()) + ", expected (B, C, height, width).");
  const at::DimVector shape{grad.size(0), grad.size(1), H, W};
  cuda::Crop crop = sizes_of(grad, shape, grad.size(2), grad.size(3));
  at::Tensor whole = at::empty(shape, grad.options(), at::MemoryFormat::ChannelsLast);
  if (grad.numel() == 0) return whole.zero_();
  const at::Tensor part = grad.contiguous();
  crop.whole = whole.data_ptr();
  crop.part = part.data_ptr();
  crop.image = H * W * grad.size(1);
  C10_CUDA_CHECK(cuda::launch_crop_backward(crop, grad.element_size(), c10::cuda::getCurrentCUDAStream()));
  return whole;
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CUDA, m) {
  m.impl("crop", racdino::crop_cuda);
  m.impl("crop_backward", racdino::crop_backward_cuda);
}
#endif

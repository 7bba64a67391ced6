// What the kernels of crop.cu take and how they are launched. Torch-free, as launch.h is and why.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace racdino::cuda {

// Elements of 2 or 4 bytes. Backward reads part and writes whole.
struct Crop {
  void* whole;    // (B, H, W, C), an image contiguous, at a multiple of 16 bytes as are C and image
  void* part;     // (B, C, height, width), contiguous: the upper left pixels
  int64_t image;  // elements from one image of whole to the next
  int32_t B, C, H, W;
  int32_t height, width;
};

constexpr int64_t kMaxImages = 65535;
constexpr int64_t kMaxPixels = 1 << 30;  // H * W
constexpr int64_t kMaxChannels = 1 << 20;

cudaError_t launch_crop(const Crop& crop, int64_t element_bytes, cudaStream_t stream);
cudaError_t launch_crop_backward(const Crop& crop, int64_t element_bytes, cudaStream_t stream);

}  // namespace racdino::cuda

// What the kernels of weave.cu take and how they are launched. Torch-free, as launch.h is and why.
// Shape letters: B images, H x W a map, h x w tokens (half of it, rounded up), C channels.
#pragma once

#include "launch.h"

namespace racdino::cuda {

// Everything contiguous, of one type, and at multiples of 16 bytes.
struct Weave {
  const void* upper;  // (B, h, 2w, C); as lower, added and map in forward only
  const void* lower;  // like upper
  const void* added;  // (B, H, W, C)
  void* map;          // like added
  const void* grad;   // like map; as grad_upper and grad_lower in backward only, null: this is forward
  void* grad_upper;   // like upper
  void* grad_lower;   // like upper
  int32_t B, H, W;
  int32_t vectors;  // of 16 bytes in the channels of a pixel
};

constexpr int64_t kMaxGrid = 65535;   // B and 2h
constexpr int64_t kMaxRow = 1 << 30;  // vectors in a row of 2w pixels

cudaError_t launch_weave(const Weave& weave, Type type, cudaStream_t stream);

}  // namespace racdino::cuda

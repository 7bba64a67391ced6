// What the kernels of depthwise_conv_gelu.cu take and how they are launched. Torch-free, as launch.h is and why.
// Shape letters: B images, S tokens of all levels together, C channels.
#pragma once

#include "launch.h"

namespace racdino::cuda {

constexpr int32_t kMaxConvLevels = 8;
constexpr int32_t kConvChannels = 2;  // C is a multiple of it, and pointers are aligned to as many elements
constexpr int32_t kConvSums = 10;     // gradients of nine weights and of the bias

// Everything contiguous.
struct DepthwiseConv {
  const void* x;           // (B, S, C), aligned as above, like all of its shape and type
  const void* weight;      // (C, 3, 3), in the type of x or float32
  const void* bias;        // (C), in the type of weight
  const void* grad;        // like x, backward only
  void* output;            // like x, forward only
  void* grad_convolved;    // like x, backward only: the gradient before the GELU
  void* grad_x;            // like x; null: unwanted, and grad_convolved too
  void* grad_weight;       // like weight; null: unwanted, as are the next two
  void* grad_bias;         // like bias
  void* partial;           // (conv_partial_sums(), kConvSums, C) float, or double for float64
  int64_t B;
  int32_t S, C, levels;    // an image's S * C elements are less than 2 GiB, B * S is below 2^31
  int32_t height[kMaxConvLevels], width[kMaxConvLevels];
  bool float_weight;       // weight is float32, whatever x is
};

int64_t conv_partial_sums(const DepthwiseConv& conv);
cudaError_t launch_depthwise_conv_gelu(const DepthwiseConv& conv, Type type, cudaStream_t stream);
cudaError_t launch_depthwise_conv_gelu_backward(const DepthwiseConv& conv, Type type, cudaStream_t stream);

}  // namespace racdino::cuda

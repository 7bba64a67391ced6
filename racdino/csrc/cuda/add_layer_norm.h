// What the kernels of add_layer_norm.cu take and how they are launched. Torch-free, as launch.h is and why.
#pragma once

#include "launch.h"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace racdino::cuda {

// Everything contiguous and at addresses that 16 bytes divide; of one type where no other is named. Rows of C channels.
struct NormRows {
  const void* x;            // (rows, C); backward: what was normed, the sum
  const void* update;       // like x, forward only; null: nothing is added and no sum written
  const void* weight;       // (C); in float or in the type of x
  const void* bias;         // like weight, forward only
  const void* grad_normed;  // like x, backward only
  const void* grad_sum;     // like x, backward only; null: zero
  void* sum;                // like x: x + update, forward only
  void* normed;             // like x, forward only
  float* mean;              // (rows), of the sum as it was rounded
  float* rstd;              // (rows), 1 / sqrt(variance + eps)
  void* grad_x;             // like x, backward only: that of update as well
  float* partial;           // (blocks, 2, C), backward only: sums for weight and bias; null: unwanted
  void* grad_weight;        // like weight
  void* grad_bias;          // like bias
  int64_t rows;
  float eps;
  int32_t C;
  int32_t blocks;  // of the backward pass, from norm_blocks
  bool weight_is_float;
};

constexpr int32_t kNormWidths[] = {384, 768, 1024, 1536};  // C of the kernels: DINOv2's S, B, L and g

// How many blocks the backward pass with sums for weight and bias takes on this device.
cudaError_t norm_blocks(int64_t rows, int32_t C, int32_t* blocks);

cudaError_t launch_add_layer_norm(const NormRows& norm, Type type, cudaStream_t stream);
cudaError_t launch_add_layer_norm_backward(const NormRows& norm, Type type, cudaStream_t stream);

}  // namespace racdino::cuda

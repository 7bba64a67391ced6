// What the kernels of batch_norm_act.cu take and how they are launched. Torch-free, as launch.h is and why.
#pragma once

#include "launch.h"

namespace racdino::cuda {

// Maps are channels-last: N pixels of C channels, in float32, float16 or bfloat16. The numbers of a channel are float32.
struct BatchNorm {
  const void* x;        // (N, C)
  const float* weight;  // (C), like all below
  const float* bias;
  float* mean;          // of x if training, else running_mean; forward writes it if training
  float* variance;      // alike, biased
  float* running_mean;  // updated by forward if training
  float* running_var;
  void* y;              // (N, C), forward only
  const void* grad;     // (N, C), backward only, like all below
  void* grad_x;         // (N, C)
  float* grad_weight;   // null if unwanted and not training
  float* grad_bias;
  float* partial;       // (blocks, 2, C), sums of what each block has seen
  int64_t N;
  int32_t C, blocks;
  float eps, momentum;
  bool training, relu;
};

// Channels that a thread takes: C has to be a multiple.
constexpr int batch_norm_vector(Type type) { return type == Type::float32 ? 4 : 8; }

// How many blocks shall share the work.
cudaError_t batch_norm_blocks(const BatchNorm& norm, Type type, int32_t* blocks);

cudaError_t launch_batch_norm_act(const BatchNorm& norm, Type type, cudaStream_t stream);
cudaError_t launch_batch_norm_act_backward(const BatchNorm& norm, Type type, cudaStream_t stream);

}  // namespace racdino::cuda

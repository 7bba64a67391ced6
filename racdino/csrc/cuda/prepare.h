// What operators ask before they launch a kernel.
#pragma once

#include "../ms_deform_attn.h"
#include "launch.h"

#include <ATen/cuda/EmptyTensor.h>

#include <string>

namespace racdino {

inline cuda::Type type_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return cuda::Type::float64;
    case at::kHalf:
      return cuda::Type::float16;
    case at::kBFloat16:
      return cuda::Type::bfloat16;
    default:
      return cuda::Type::float32;
  }
}

// A tensor in a message.
inline std::string described(const at::Tensor& tensor) {
  return shape_name(tensor.sizes()) + " " + c10::toString(tensor.scalar_type()) + " on " + tensor.device().str();
}

inline void check_tensor(
    const std::string& op,
    const char* name,
    const at::Tensor& tensor,
    at::IntArrayRef shape,
    at::ScalarType dtype,
    at::Device device) {
  TORCH_CHECK(
      tensor.sizes() == shape && tensor.scalar_type() == dtype && tensor.device() == device,
      op + ": " + name + " is " + described(tensor) + ", expected " + shape_name(shape) + " " + c10::toString(dtype) +
          " on " + device.str() + ".");
}

// As kernels read it: dense, and beginning where a word of so many bytes may. A tensor may lie anywhere in a longer piece
// of memory.
inline at::Tensor in_words(
    const at::Tensor& tensor, size_t bytes = 16, at::MemoryFormat format = at::MemoryFormat::Contiguous) {
  const at::Tensor dense = tensor.contiguous(format);
  const bool aligned = reinterpret_cast<uintptr_t>(dense.data_ptr()) % bytes == 0;
  return aligned ? dense : dense.clone(format);
}

inline void check_limits(const Sizes& sizes) {
  constexpr int64_t limit = int64_t{1} << 31;
  TORCH_CHECK(
      sizes.B * sizes.Q * sizes.M < limit && sizes.B * sizes.S * sizes.M < limit && sizes.M * sizes.D < limit / 8 &&
          sizes.M * sizes.L * sizes.P < limit / 8 && sizes.L <= cuda::kMaxLevels,
      "ms_deform_attn: value " + shape_name({sizes.B, sizes.S, sizes.M, sizes.D}) + " with " + std::to_string(sizes.Q) +
          " queries and " + std::to_string(sizes.L) +
          " levels of " + std::to_string(sizes.P) +
          " points is too large for one launch, expected B*Q*M and B*S*M below 2^31, M*D and M*L*P below 2^28 and at "
          "most " +
          std::to_string(cuda::kMaxLevels) + " levels.");
}

inline bool nothing_to_sample(const Sizes& sizes) { return sizes.B * sizes.Q * sizes.M * sizes.D * sizes.L * sizes.P == 0; }

// What at::empty makes. Under deterministic algorithms that also fills the tensor, which would take longer than some of
// the kernels.
inline at::Tensor unfilled(at::IntArrayRef sizes, const at::TensorOptions& options) {
  return at::detail::empty_cuda(sizes, options);
}

// The sizes alone.
inline cuda::Problem problem_of(const Sizes& sizes) {
  cuda::Problem problem{};
  problem.B = sizes.B;
  problem.S = sizes.S;
  problem.Q = sizes.Q;
  problem.M = static_cast<int32_t>(sizes.M);
  problem.D = static_cast<int32_t>(sizes.D);
  problem.L = static_cast<int32_t>(sizes.L);
  problem.P = static_cast<int32_t>(sizes.P);
  return problem;
}

}  // namespace racdino

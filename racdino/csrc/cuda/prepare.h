// What both operators ask before they launch a kernel.
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

// CUDA key of a build without CUDA: one sentence instead of torch's list of back ends.
#ifndef RACDINO_WITH_CUDA
#include "../ms_deform_attn.h"

#include <torch/library.h>

namespace racdino {
namespace {

constexpr const char* kMessage =
    "ms_deform_attn: value is on a CUDA device, but racdino was built without CUDA; build it with "
    "`FORCE_CUDA=1 python setup.py build_ext --inplace` in the checkout, or move the tensors to the CPU.";

at::Tensor forward_not_built(
    const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, int64_t) {
  TORCH_CHECK(false, kMessage);
}

Gradients backward_not_built(
    const at::Tensor&,
    const at::Tensor&,
    const at::Tensor&,
    const at::Tensor&,
    const at::Tensor&,
    const at::Tensor&,
    int64_t,
    std::array<bool, 3>) {
  TORCH_CHECK(false, kMessage);
}

at::Tensor fused_not_built(
    const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  TORCH_CHECK(false, kMessage);
}

FusedGradients fused_backward_not_built(
    const at::Tensor&,
    const at::Tensor&,
    const at::Tensor&,
    const at::Tensor&,
    const at::Tensor&,
    const at::Tensor&,
    const at::Tensor&,
    std::array<bool, 4>) {
  TORCH_CHECK(false, kMessage);
}

void ray_locations_not_built(const c10::OperatorHandle&, torch::jit::Stack*) {
  TORCH_CHECK(
      false,
      "ray_locations: the boxes are on a CUDA device, but racdino was built without CUDA; build it with "
      "`FORCE_CUDA=1 python setup.py build_ext --inplace` in the checkout, or move the model to the CPU.");
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CUDA, m) {
  m.impl("ray_locations", torch::CppFunction::makeFromBoxedFunction<&racdino::ray_locations_not_built>());
  m.impl("ms_deform_attn_forward", racdino::forward_not_built);
  m.impl("ms_deform_attn_backward", racdino::backward_not_built);
  m.impl("ms_deform_attn_fused", racdino::fused_not_built);
  m.impl("ms_deform_attn_fused_backward", racdino::fused_backward_not_built);
}
#endif

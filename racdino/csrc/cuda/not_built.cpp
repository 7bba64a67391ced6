// CUDA key of a build without CUDA: one sentence instead of torch's list of back ends.
#ifndef RACDINO_WITH_CUDA
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <string>

namespace racdino {
namespace {

void not_built(const c10::OperatorHandle& op, torch::jit::Stack*) {
  const std::string name = op.schema().name();  // "racdino::..."
  TORCH_CHECK(
      false,
      name.substr(name.rfind(':') + 1) +
          ": the tensors are on a CUDA device, but racdino was built without CUDA; build it with "
          "`FORCE_CUDA=1 python setup.py build_ext --inplace` in the checkout, or move them to the CPU.");
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CUDA, m) {
  const auto answer = [&m](const char* name) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&racdino::not_built>());
  };
  answer("add_layer_norm");
  answer("add_layer_norm_backward");
  answer("batch_norm_act");
  answer("batch_norm_act_backward");
  answer("ms_deform_attn_forward");
  answer("ms_deform_attn_backward");
  answer("ms_deform_attn_fused");
  answer("ms_deform_attn_fused_backward");
  answer("ray_locations");
  answer("ray_locations_backward");
  answer("weave");
  answer("weave_backward");
  answer("crop");
  answer("crop_backward");
  answer("depthwise_conv_gelu");
  answer("depthwise_conv_gelu_backward");
}
#endif

// CUDA key of depthwise_conv_gelu: checks, then launches depthwise_conv_gelu.cu. Nothing here waits for the device.
#ifdef RACDINO_WITH_CUDA
#include "../ms_deform_attn.h"
#include "depthwise_conv_gelu.h"

#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <limits>
#include <string>

namespace racdino {
namespace {

// Contiguous, and where the kernels' loads may begin.
at::Tensor readable(const at::Tensor& tensor) {
  const at::Tensor contiguous = tensor.contiguous();
  const auto address = reinterpret_cast<uintptr_t>(contiguous.data_ptr());
  return address % (cuda::kConvChannels * contiguous.element_size()) == 0 ? contiguous : contiguous.clone();
}

void check(const char* name, const at::Tensor& tensor, at::IntArrayRef expected, at::ScalarType dtype, at::Device on) {
  TORCH_CHECK(
      tensor.sizes() == expected && tensor.scalar_type() == dtype && tensor.device() == on,
      "depthwise_conv_gelu: " + std::string(name) + " is " + shape_name(tensor.sizes()) + " " +
          c10::toString(tensor.scalar_type()) + " on " + tensor.device().str() + ", expected " + shape_name(expected) +
          " " + c10::toString(dtype) + " on " + on.str() + ".");
}

// The tensors the kernels read and their sizes.
struct ConvArguments {
  at::Tensor x, weight, bias;
  cuda::DepthwiseConv conv{};
  cuda::Type type;

  ConvArguments(
      const at::Tensor& x_, const at::Tensor& weight_, const at::Tensor& bias_, at::IntArrayRef sizes)
      : x(readable(x_)), weight(weight_.contiguous()), bias(bias_.contiguous()) {
    const auto dtype = x.scalar_type();
    TORCH_CHECK(
        x.dim() == 3 && x.size(2) % cuda::kConvChannels == 0 &&
            (dtype == at::kDouble || dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16),
        "depthwise_conv_gelu: x is " + shape_name(x.sizes()) + " " + c10::toString(dtype) +
            ", expected (B, S, C) Double, Float, Half or BFloat16 with an even C.");
    const int64_t B = x.size(0), S = x.size(1), C = x.size(2), levels = static_cast<int64_t>(sizes.size()) / 2;
    TORCH_CHECK(
        sizes.size() % 2 == 0 && levels > 0 && levels <= cuda::kMaxConvLevels,
        "depthwise_conv_gelu: sizes has " + std::to_string(sizes.size()) +
            " numbers, expected height and width of 1 to " + std::to_string(cuda::kMaxConvLevels) + " levels.");
    int64_t tokens = 0;
    for (int64_t l = 0; l < levels; ++l) {
      const int64_t height = sizes[2 * l], width = sizes[2 * l + 1];
      TORCH_CHECK(
          height > 0 && width > 0 && height <= S && width <= S,
          "depthwise_conv_gelu: level " + std::to_string(l) + " of sizes is " + std::to_string(height) + " x " +
              std::to_string(width) + ", expected at least 1 x 1 and no side beyond the " + std::to_string(S) +
              " tokens of x.");
      tokens += height * width;
      conv.height[l] = static_cast<int32_t>(height);
      conv.width[l] = static_cast<int32_t>(width);
    }
    TORCH_CHECK(
        tokens == S,
        "depthwise_conv_gelu: sizes " + shape_name(sizes) + " have " + std::to_string(tokens) +
            " tokens together, but x has " + std::to_string(S) +
            "; give the height and width of every level in x, in their order.");
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    TORCH_CHECK(
        S * C * static_cast<int64_t>(x.element_size()) <= kMost && B * S <= kMost,
        "depthwise_conv_gelu: x is " + shape_name(x.sizes()) + " " + c10::toString(dtype) +
            ", expected less than 2 GiB per image and B*S below 2^31.");
    const bool float_parameters = dtype != at::kDouble && weight.scalar_type() == at::kFloat;
    check("weight", weight, {C, 1, 3, 3}, float_parameters ? at::kFloat : dtype, x.device());
    check("bias", bias, {C}, weight.scalar_type(), x.device());
    type = dtype == at::kDouble   ? cuda::Type::float64
           : dtype == at::kFloat  ? cuda::Type::float32
           : dtype == at::kHalf   ? cuda::Type::float16
                                  : cuda::Type::bfloat16;
    conv.x = x.data_ptr();
    conv.weight = weight.data_ptr();
    conv.bias = bias.data_ptr();
    conv.B = B;
    conv.S = static_cast<int32_t>(S);
    conv.C = static_cast<int32_t>(C);
    conv.levels = static_cast<int32_t>(levels);
    conv.float_weight = float_parameters;
  }
};

at::Tensor depthwise_conv_gelu_cuda(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, at::IntArrayRef sizes) {
  const c10::cuda::CUDAGuard on_device(x.device());
  ConvArguments arguments(x, weight, bias, sizes);
  at::Tensor output = at::empty(x.sizes(), x.options());
  if (output.numel() == 0) return output;
  arguments.conv.output = output.data_ptr();
  C10_CUDA_CHECK(
      cuda::launch_depthwise_conv_gelu(arguments.conv, arguments.type, c10::cuda::getCurrentCUDAStream()));
  return output;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> depthwise_conv_gelu_backward_cuda(
    const at::Tensor& grad_,
    const at::Tensor& x,
    const at::Tensor& weight,
    const at::Tensor& bias,
    at::IntArrayRef sizes,
    bool x_wanted,
    bool weight_wanted) {
  const c10::cuda::CUDAGuard on_device(x.device());
  ConvArguments arguments(x, weight, bias, sizes);
  check("grad", grad_, x.sizes(), x.scalar_type(), x.device());
  const at::Tensor grad = readable(grad_);
  const auto if_wanted = [](bool wanted, at::IntArrayRef shape, const at::Tensor& like) {
    return wanted ? at::empty(shape, like.options()) : at::empty({0}, like.options());
  };
  at::Tensor grad_x = if_wanted(x_wanted, x.sizes(), x);
  // In the parameters' own strides.
  at::Tensor grad_weight = weight_wanted ? at::empty_like(arguments.weight) : at::empty({0}, weight.options());
  at::Tensor grad_bias = if_wanted(weight_wanted, bias.sizes(), bias);
  if (x.numel() == 0) return {grad_x, grad_weight.zero_(), grad_bias.zero_()};
  auto& conv = arguments.conv;
  conv.grad = grad.data_ptr();
  at::Tensor partial;
  if (weight_wanted) {
    const auto sums = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    partial = at::empty(
        {cuda::conv_partial_sums(conv), cuda::kConvSums, conv.C}, x.options().dtype(sums));
    conv.partial = partial.data_ptr();
    conv.grad_weight = grad_weight.data_ptr();
    conv.grad_bias = grad_bias.data_ptr();
  }
  const at::Tensor grad_convolved = if_wanted(x_wanted, x.sizes(), x);
  if (x_wanted) {
    conv.grad_convolved = grad_convolved.data_ptr();
    conv.grad_x = grad_x.data_ptr();
  }
  C10_CUDA_CHECK(
      cuda::launch_depthwise_conv_gelu_backward(conv, arguments.type, c10::cuda::getCurrentCUDAStream()));
  return {grad_x, grad_weight, grad_bias};
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CUDA, m) {
  m.impl("depthwise_conv_gelu", racdino::depthwise_conv_gelu_cuda);
  m.impl("depthwise_conv_gelu_backward", racdino::depthwise_conv_gelu_backward_cuda);
}
#endif

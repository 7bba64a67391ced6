// CUDA key of add_layer_norm: checks, then launches add_layer_norm.cu. Nothing here waits for the device.
#ifdef RACDINO_WITH_CUDA
#include "../ms_deform_attn.h"
#include "add_layer_norm.h"
#include "prepare.h"

#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <tuple>

namespace racdino {
namespace {

void check(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, at::ScalarType dtype, at::Device device) {
  TORCH_CHECK(
      tensor.sizes() == shape && tensor.scalar_type() == dtype && tensor.device() == device,
      "add_layer_norm: " + std::string(name) + " is " + shape_name(tensor.sizes()) + " " +
          c10::toString(tensor.scalar_type()) + " on " + tensor.device().str() + ", expected " + shape_name(shape) +
          " " + c10::toString(dtype) + " on " + device.str() + ".");
}

void check_rows(const at::Tensor& x) {
  const auto dtype = x.scalar_type();
  const auto& widths = cuda::kNormWidths;
  TORCH_CHECK(
      x.dim() > 0 && std::count(std::begin(widths), std::end(widths), x.size(-1)) &&
          (dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16),
      "add_layer_norm: x is " + shape_name(x.sizes()) + " " + c10::toString(dtype) +
          ", expected (..., C) Float, Half or BFloat16 with C one of 384, 768, 1024 and 1536.");
}

// weight or bias: in the type of x, or in float.
void check_weight(const at::Tensor& weight, const at::Tensor& x) {
  check("weight", weight, {x.size(-1)}, weight.scalar_type() == at::kFloat ? at::kFloat : x.scalar_type(), x.device());
}

// As the kernels read it. A parameter may lie anywhere in a longer piece of memory.
at::Tensor in_words(const at::Tensor& tensor) {
  const at::Tensor contiguous = tensor.contiguous();
  const bool aligned = reinterpret_cast<uintptr_t>(contiguous.data_ptr()) % 16 == 0;
  return aligned ? contiguous : contiguous.clone();
}

cuda::NormRows rows_of(const at::Tensor& x, const at::Tensor& weight) {
  cuda::NormRows norm{};
  norm.x = x.data_ptr();
  norm.weight = weight.data_ptr();
  norm.rows = x.numel() / x.size(-1);
  norm.C = static_cast<int32_t>(x.size(-1));
  norm.weight_is_float = weight.scalar_type() == at::kFloat;
  return norm;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> add_layer_norm_cuda(
    const at::Tensor& x_,
    const c10::optional<at::Tensor>& update_,
    const at::Tensor& weight_,
    const at::Tensor& bias_,
    double eps) {
  check_rows(x_);
  check_weight(weight_, x_);
  check("bias", bias_, weight_.sizes(), weight_.scalar_type(), x_.device());
  const bool adds = update_.has_value();
  if (adds) check("update", *update_, x_.sizes(), x_.scalar_type(), x_.device());
  const c10::cuda::CUDAGuard on_device(x_.device());
  const at::Tensor x = in_words(x_), weight = in_words(weight_), bias = in_words(bias_);
  const at::Tensor update = adds ? in_words(*update_) : at::Tensor();
  at::Tensor sum = adds ? at::empty(x.sizes(), x.options()) : at::empty({0}, x.options());
  at::Tensor normed = at::empty(x.sizes(), x.options());
  const at::IntArrayRef lead = x.sizes().slice(0, x.dim() - 1);
  at::Tensor mean = at::empty(lead, x.options().dtype(at::kFloat)), rstd = at::empty(lead, mean.options());
  if (x.numel() == 0) return {sum, normed, mean, rstd};
  cuda::NormRows norm = rows_of(x, weight);
  norm.update = adds ? update.data_ptr() : nullptr;
  norm.bias = bias.data_ptr();
  norm.sum = sum.data_ptr();
  norm.normed = normed.data_ptr();
  norm.mean = mean.data_ptr<float>();
  norm.rstd = rstd.data_ptr<float>();
  norm.eps = static_cast<float>(eps);
  C10_CUDA_CHECK(cuda::launch_add_layer_norm(norm, type_of(x.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  return {sum, normed, mean, rstd};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> add_layer_norm_backward_cuda(
    const at::Tensor& grad_normed_,
    const c10::optional<at::Tensor>& grad_sum_,
    const at::Tensor& sum_,
    const at::Tensor& mean_,
    const at::Tensor& rstd_,
    const at::Tensor& weight_,
    bool weight_wanted) {
  check_rows(sum_);
  check_weight(weight_, sum_);
  check("grad_normed", grad_normed_, sum_.sizes(), sum_.scalar_type(), sum_.device());
  if (grad_sum_.has_value()) check("grad_sum", *grad_sum_, sum_.sizes(), sum_.scalar_type(), sum_.device());
  const at::IntArrayRef lead = sum_.sizes().slice(0, sum_.dim() - 1);
  check("mean", mean_, lead, at::kFloat, sum_.device());
  check("rstd", rstd_, lead, at::kFloat, sum_.device());
  const c10::cuda::CUDAGuard on_device(sum_.device());
  const at::Tensor sum = in_words(sum_), grad_normed = in_words(grad_normed_), weight = in_words(weight_);
  const at::Tensor grad_sum = grad_sum_.has_value() ? in_words(*grad_sum_) : at::Tensor();
  const at::Tensor mean = mean_.contiguous(), rstd = rstd_.contiguous();
  at::Tensor grad_x = at::empty(sum.sizes(), sum.options());
  const int64_t wanted = weight_wanted ? weight.size(0) : 0;
  at::Tensor grad_weight = at::empty({wanted}, weight.options()), grad_bias = at::empty({wanted}, weight.options());
  if (sum.numel() == 0) return {grad_x, grad_weight.zero_(), grad_bias.zero_()};
  cuda::NormRows norm = rows_of(sum, weight);
  norm.grad_normed = grad_normed.data_ptr();
  norm.grad_sum = grad_sum.defined() ? grad_sum.data_ptr() : nullptr;
  norm.mean = mean.data_ptr<float>();
  norm.rstd = rstd.data_ptr<float>();
  norm.grad_x = grad_x.data_ptr();
  at::Tensor partial;
  if (weight_wanted) {
    C10_CUDA_CHECK(cuda::norm_blocks(norm.rows, norm.C, &norm.blocks));
    partial = at::empty({norm.blocks, 2, norm.C}, mean.options());
    norm.partial = partial.data_ptr<float>();
    norm.grad_weight = grad_weight.data_ptr();
    norm.grad_bias = grad_bias.data_ptr();
  }
  C10_CUDA_CHECK(
      cuda::launch_add_layer_norm_backward(norm, type_of(sum.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  return {grad_x, grad_weight, grad_bias};
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CUDA, m) {
  m.impl("add_layer_norm", racdino::add_layer_norm_cuda);
  m.impl("add_layer_norm_backward", racdino::add_layer_norm_backward_cuda);
}
#endif

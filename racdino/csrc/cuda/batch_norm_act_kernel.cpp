// CUDA key of batch_norm_act: checks, then launches batch_norm_act.cu. Nothing here waits for the device.
#ifdef RACDINO_WITH_CUDA
#include "../ms_deform_attn.h"
#include "batch_norm_act.h"
#include "prepare.h"

#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <string>
#include <tuple>

namespace racdino {
namespace {

std::string described(const at::Tensor& tensor) {
  return shape_name(tensor.sizes()) + " " + c10::toString(tensor.scalar_type()) + " on " + tensor.device().str();
}

// As the kernels read it: channels-last, in whole vectors.
at::Tensor in_vectors(const at::Tensor& map) {
  const at::Tensor last = map.contiguous(at::MemoryFormat::ChannelsLast);
  const bool aligned = reinterpret_cast<uintptr_t>(last.data_ptr()) % 16 == 0;
  return aligned ? last : last.clone(at::MemoryFormat::ChannelsLast);
}

at::Tensor like(const at::Tensor& map) {
  return at::empty(map.sizes(), map.options(), at::MemoryFormat::ChannelsLast);
}

// A pointer to a number per channel.
float* channels(const char* name, const at::Tensor& tensor, const at::Tensor& x) {
  TORCH_CHECK(
      tensor.sizes() == x.sizes().slice(1, 1) && tensor.scalar_type() == at::kFloat && tensor.device() == x.device() &&
          tensor.is_contiguous(),
      "batch_norm_act: " + std::string(name) + " is " + described(tensor) + ", expected [" +
          std::to_string(x.size(1)) + "] Float on " + x.device().str() + ", contiguous.");
  return tensor.data_ptr<float>();
}

void check_map(const at::Tensor& x, bool training) {
  const auto dtype = x.scalar_type();
  TORCH_CHECK(
      x.dim() == 4 && (dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16) &&
          x.size(1) % cuda::batch_norm_vector(type_of(dtype)) == 0,
      "batch_norm_act: x is " + described(x) +
          ", expected (B, C, H, W) Float, Half or BFloat16 with C a multiple of 4 for Float and of 8 for the others.");
  TORCH_CHECK(
      x.numel() > 0 && (!training || x.numel() > x.size(1)),
      "batch_norm_act: x is " + described(x) + ", expected values, and in training more than one per channel.");
}

cuda::BatchNorm norm_of(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  cuda::BatchNorm norm{};
  norm.x = x.data_ptr();
  norm.weight = channels("weight", weight, x);
  norm.bias = channels("bias", bias, x);
  norm.N = x.numel() / x.size(1);
  norm.C = static_cast<int32_t>(x.size(1));
  norm.eps = static_cast<float>(eps);
  C10_CUDA_CHECK(cuda::batch_norm_blocks(norm, type_of(x.scalar_type()), &norm.blocks));
  return norm;
}

// Room for what the blocks find.
at::Tensor partial_for(cuda::BatchNorm& norm, const at::Tensor& x) {
  at::Tensor partial = at::empty({norm.blocks, 2, norm.C}, x.options().dtype(at::kFloat));
  norm.partial = partial.data_ptr<float>();
  return partial;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> batch_norm_act_cuda(
    const at::Tensor& x_,
    const at::Tensor& weight,
    const at::Tensor& bias,
    const at::Tensor& running_mean,
    const at::Tensor& running_var,
    bool training,
    double momentum,
    double eps,
    bool relu) {
  check_map(x_, training);
  const c10::cuda::CUDAGuard on_device(x_.device());
  const at::Tensor x = in_vectors(x_);
  cuda::BatchNorm norm = norm_of(x, weight, bias, eps);
  at::Tensor y = like(x), partial;
  const auto numbers = x.options().dtype(at::kFloat);
  at::Tensor mean = at::empty({training ? norm.C : 0}, numbers), variance = at::empty_like(mean);
  norm.running_mean = norm.mean = channels("running_mean", running_mean, x);
  norm.running_var = norm.variance = channels("running_var", running_var, x);
  if (training) {
    norm.mean = mean.data_ptr<float>();
    norm.variance = variance.data_ptr<float>();
    partial = partial_for(norm, x);
    // As torch's own operators do for what they write to.
    running_mean.unsafeGetTensorImpl()->bump_version();
    running_var.unsafeGetTensorImpl()->bump_version();
  }
  norm.y = y.data_ptr();
  norm.momentum = static_cast<float>(momentum);
  norm.training = training;
  norm.relu = relu;
  C10_CUDA_CHECK(cuda::launch_batch_norm_act(norm, type_of(x.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  return {y, mean, variance};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> batch_norm_act_backward_cuda(
    const at::Tensor& grad_,
    const at::Tensor& x_,
    const at::Tensor& weight,
    const at::Tensor& bias,
    const at::Tensor& mean,
    const at::Tensor& variance,
    bool training,
    double eps,
    bool relu,
    bool parameters_wanted) {
  check_map(x_, training);
  TORCH_CHECK(
      grad_.sizes() == x_.sizes() && grad_.scalar_type() == x_.scalar_type() && grad_.device() == x_.device(),
      "batch_norm_act: the gradient is " + described(grad_) + ", expected one like x, " + described(x_) + ".");
  const c10::cuda::CUDAGuard on_device(x_.device());
  const at::Tensor x = in_vectors(x_), grad = in_vectors(grad_);
  cuda::BatchNorm norm = norm_of(x, weight, bias, eps);
  const bool sums = training || parameters_wanted;
  at::Tensor grad_x = like(x), partial;
  at::Tensor grad_weight = at::empty({sums ? norm.C : 0}, weight.options()), grad_bias = at::empty_like(grad_weight);
  norm.mean = channels("mean", mean, x);
  norm.variance = channels("variance", variance, x);
  if (sums) {
    norm.grad_weight = grad_weight.data_ptr<float>();
    norm.grad_bias = grad_bias.data_ptr<float>();
    partial = partial_for(norm, x);
  }
  norm.grad = grad.data_ptr();
  norm.grad_x = grad_x.data_ptr();
  norm.training = training;
  norm.relu = relu;
  C10_CUDA_CHECK(
      cuda::launch_batch_norm_act_backward(norm, type_of(x.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  return {grad_x, grad_weight, grad_bias};
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CUDA, m) {
  m.impl("batch_norm_act", racdino::batch_norm_act_cuda);
  m.impl("batch_norm_act_backward", racdino::batch_norm_act_backward_cuda);
}
#endif

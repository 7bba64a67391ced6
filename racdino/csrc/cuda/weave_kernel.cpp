// CUDA key of weave: checks, then launches weave.cu. Nothing here waits for the device.
#ifdef RACDINO_WITH_CUDA
#include "../ms_deform_attn.h"
#include "prepare.h"
#include "weave.h"

#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <string>
#include <tuple>

namespace racdino {
namespace {

constexpr int64_t kBytes = 16;  // of a vector

at::Tensor in_vectors(const at::Tensor& tensor) {
  const at::Tensor contiguous = tensor.contiguous();
  return reinterpret_cast<uintptr_t>(contiguous.data_ptr()) % kBytes == 0 ? contiguous : contiguous.clone();
}

std::string described(const at::Tensor& tensor) {
  return shape_name(tensor.sizes()) + " " + c10::toString(tensor.scalar_type()) + " on " + tensor.device().str();
}

// map: added, or the gradient.
cuda::Weave sizes_of(const char* name, const at::Tensor& map) {
  const auto dtype = map.scalar_type();
  TORCH_CHECK(
      map.dim() == 4 && (dtype == at::kDouble || dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16) &&
          map.size(3) * map.element_size() % kBytes == 0,
      "weave: " + std::string(name) + " is " + described(map) +
          ", expected (B, H, W, C) Double, Float, Half or BFloat16 with C a multiple of 16 bytes.");
  const int64_t vectors = map.size(3) * map.element_size() / kBytes;
  TORCH_CHECK(
      map.size(0) <= cuda::kMaxGrid && map.size(1) < cuda::kMaxGrid && (map.size(2) + 1) * vectors <= cuda::kMaxRow,
      "weave: " + std::string(name) + " is " + described(map) + ", expected B at most " +
          std::to_string(cuda::kMaxGrid) + ", H less, and at most 2^30 vectors of 16 bytes in a row of W + 1 pixels.");
  cuda::Weave weave{};
  weave.B = static_cast<int32_t>(map.size(0));
  weave.H = static_cast<int32_t>(map.size(1));
  weave.W = static_cast<int32_t>(map.size(2));
  weave.vectors = static_cast<int32_t>(vectors);
  return weave;
}

at::DimVector half_shape(const at::Tensor& map) {
  return {map.size(0), (map.size(1) + 1) / 2, (map.size(2) + 1) / 2 * 2, map.size(3)};
}

void check_half(const char* name, const at::Tensor& half, const at::Tensor& added) {
  const at::DimVector expected = half_shape(added);
  TORCH_CHECK(
      half.sizes() == at::IntArrayRef(expected) && half.device() == added.device() &&
          half.scalar_type() == added.scalar_type(),
      "weave: " + std::string(name) + " is " + described(half) + ", expected " + shape_name(expected) + " for added, " +
          described(added) + ".");
}

void launch(const cuda::Weave& weave, const at::Tensor& map) {
  if (map.numel() == 0) return;
  C10_CUDA_CHECK(cuda::launch_weave(weave, type_of(map.scalar_type()), c10::cuda::getCurrentCUDAStream()));
}

at::Tensor weave_cuda(const at::Tensor& upper_, const at::Tensor& lower_, const at::Tensor& added_) {
  const c10::cuda::CUDAGuard on_device(added_.device());
  cuda::Weave weave = sizes_of("added", added_);
  check_half("upper", upper_, added_);
  check_half("lower", lower_, added_);
  const at::Tensor upper = in_vectors(upper_), lower = in_vectors(lower_), added = in_vectors(added_);
  at::Tensor map = at::empty(added.sizes(), added.options());
  weave.upper = upper.data_ptr();
  weave.lower = lower.data_ptr();
  weave.added = added.data_ptr();
  weave.map = map.data_ptr();
  launch(weave, map);
  return map;
}

std::tuple<at::Tensor, at::Tensor> weave_backward_cuda(const at::Tensor& grad_) {
  const c10::cuda::CUDAGuard on_device(grad_.device());
  cuda::Weave weave = sizes_of("the gradient", grad_);
  const at::Tensor grad = in_vectors(grad_);
  const at::DimVector shape = half_shape(grad);
  at::Tensor upper = at::empty(shape, grad.options()), lower = at::empty(shape, grad.options());
  weave.grad = grad.data_ptr();
  weave.grad_upper = upper.data_ptr();
  weave.grad_lower = lower.data_ptr();
  launch(weave, grad);
  return {upper, lower};
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CUDA, m) {
  m.impl("weave", racdino::weave_cuda);
  m.impl("weave_backward", racdino::weave_backward_cuda);
}
#endif

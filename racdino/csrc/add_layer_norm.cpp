// Residual sum and layer norm: schema. The only kernels are cuda/add_layer_norm.cu's; elsewhere racdino/ops computes
// the same in plain torch.
#include <torch/library.h>

// x, update, grads and sum: (..., C) of one type. weight, bias: (C), of that type or float. mean, rstd: (...) float, of
// the rounded sum. Without update, sum is empty: it would be x.
TORCH_LIBRARY_FRAGMENT(racdino, m) {
  m.def(
      "add_layer_norm(Tensor x, Tensor? update, Tensor weight, Tensor bias, float eps) -> "
      "(Tensor sum, Tensor normed, Tensor mean, Tensor rstd)");
  // grad_x is the gradient of update as well. The others are empty unless weight_wanted.
  m.def(
      "add_layer_norm_backward(Tensor grad_normed, Tensor? grad_sum, Tensor sum, Tensor mean, Tensor rstd, "
      "Tensor weight, bool weight_wanted) -> (Tensor grad_x, Tensor grad_weight, Tensor grad_bias)");
}

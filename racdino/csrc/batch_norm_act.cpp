// Batch norm and ReLU over channels-last maps: schema. The only kernels are cuda/batch_norm_act.cu's; elsewhere torch's
// own layers do the same (racdino/ops/batch_norm_act.py).
#include <torch/library.h>

// x: (B, C, H, W). Without training, mean and variance are empty, and backward takes the running ones as such. Without
// training and parameters_wanted, the gradients of weight and bias are empty.
TORCH_LIBRARY_FRAGMENT(racdino, m) {
  m.def(
      "batch_norm_act(Tensor x, Tensor weight, Tensor bias, Tensor(a!) running_mean, Tensor(b!) running_var, "
      "bool training, float momentum, float eps, bool relu) -> (Tensor y, Tensor mean, Tensor variance)");
  m.def(
      "batch_norm_act_backward(Tensor grad, Tensor x, Tensor weight, Tensor bias, Tensor mean, Tensor variance, "
      "bool training, float eps, bool relu, bool parameters_wanted) -> "
      "(Tensor grad_x, Tensor grad_weight, Tensor grad_bias)");
}

// Depthwise convolution of tokens and GELU: schema. The only kernels are cuda/depthwise_conv_gelu.cu's; elsewhere
// racdino/ops/depthwise_conv_gelu.py computes the same in plain torch.
#include <torch/library.h>

// sizes: height, width of each level. Shapes and types: cuda/depthwise_conv_gelu.h. Unwanted gradients are empty.
TORCH_LIBRARY_FRAGMENT(racdino, m) {
  m.def("depthwise_conv_gelu(Tensor x, Tensor weight, Tensor bias, int[] sizes) -> Tensor");
  m.def(
      "depthwise_conv_gelu_backward(Tensor grad, Tensor x, Tensor weight, Tensor bias, int[] sizes, bool x_wanted, "
      "bool weight_wanted) -> (Tensor, Tensor, Tensor)");
}

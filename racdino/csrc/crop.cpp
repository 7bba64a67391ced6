// The upper left part of channels-last maps, contiguous: schema. The only kernels are cuda/crop.cu's; elsewhere
// racdino/backbones/crop.py does the same in plain torch.
#include <torch/library.h>

// x and the gradient of x: (B, C, H, W) in channels-last memory. The result and its gradient: (B, C, height, width).
TORCH_LIBRARY_FRAGMENT(racdino, m) {
  m.def("crop(Tensor x, int height, int width) -> Tensor");
  m.def("crop_backward(Tensor grad, int H, int W) -> Tensor");
}

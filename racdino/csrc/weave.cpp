// The finest map of DinoAdapter: schema. The only kernels are cuda/weave.cu's; elsewhere
// racdino/backbones/finest_map.py computes the same in plain torch.
#include <torch/library.h>

// Shapes: cuda/weave.h. The gradient of added is that of the map.
TORCH_LIBRARY_FRAGMENT(racdino, m) {
  m.def("weave(Tensor upper, Tensor lower, Tensor added) -> Tensor");
  m.def("weave_backward(Tensor grad) -> (Tensor, Tensor)");
}

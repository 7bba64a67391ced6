// Places where RaCFormer's queries look: schema. The only kernels are cuda/ray_locations.cu's; on other devices the
// detector computes the same in plain torch (racdino/detector/decoder/).
#include <torch/library.h>

// Shapes: cuda/ray_locations.h. Without lidar2img and map_shapes: places on the ground.
TORCH_LIBRARY_FRAGMENT(racdino, m) {
  m.def(
      "ray_locations(Tensor offsets, Tensor steps, Tensor boxes, Tensor ages, float[] pc_range, float radius, "
      "float region, Tensor? lidar2img, Tensor? map_shapes, int[] image_size) -> Tensor");
  m.def(
      "ray_locations_backward(Tensor grad_locations, Tensor offsets, Tensor steps, Tensor boxes, Tensor ages, "
      "float[] pc_range, float radius, float region, Tensor? lidar2img, Tensor? map_shapes, int[] image_size, "
      "bool boxes_wanted) -> (Tensor, Tensor, Tensor)");
}

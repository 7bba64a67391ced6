// CUDA key of ray_locations: checks, then launches ray_locations.cu. Nothing here waits for the device.
#ifdef RACDINO_WITH_CUDA
#include "../ms_deform_attn.h"
#include "ray_locations.h"

#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <string>

namespace racdino {
namespace {

void check(const char* name, const at::Tensor& tensor, at::IntArrayRef expected, const at::Tensor& offsets) {
  TORCH_CHECK(
      tensor.sizes() == expected && tensor.device() == offsets.device() &&
          (tensor.scalar_type() == offsets.scalar_type() || tensor.scalar_type() == at::kLong),
      "ray_locations: " + std::string(name) + " is " + shape_name(tensor.sizes()) + " " +
          c10::toString(tensor.scalar_type()) + " on " + tensor.device().str() + ", expected " + shape_name(expected) +
          " like offsets, " + c10::toString(offsets.scalar_type()) + " on " + offsets.device().str() + ".");
}

// (B, Q, ...) as rows of one distance, each contiguous: as it is, if it is part of longer rows.
at::Tensor in_rows(const at::Tensor& tensor) {
  const bool rows = tensor.numel() > 0 && tensor.dim() > 2 && tensor.select(0, 0).select(0, 0).is_contiguous() &&
                    (tensor.size(0) == 1 || tensor.stride(0) == tensor.size(1) * tensor.stride(1));
  return rows ? tensor : tensor.contiguous();
}

// The tensors the kernels read and their sizes.
struct RayArguments {
  at::Tensor offsets, steps, boxes, ages, lidar2img, map_shapes;
  cuda::Rays rays{};

  RayArguments(
      const at::Tensor& offsets_,
      const at::Tensor& steps_,
      const at::Tensor& boxes_,
      const at::Tensor& ages_,
      at::ArrayRef<double> pc_range,
      double radius,
      double region,
      const c10::optional<at::Tensor>& lidar2img_,
      const c10::optional<at::Tensor>& map_shapes_,
      at::IntArrayRef image_size)
      : offsets(in_rows(offsets_)),
        steps(in_rows(steps_)),
        boxes(boxes_.contiguous()),
        ages(ages_.contiguous()) {
    const bool views = lidar2img_.has_value();
    const auto dtype = offsets.scalar_type();
    TORCH_CHECK(
        offsets.dim() == 6 && offsets.size(5) == (views ? 3 : 2) && (dtype == at::kFloat || dtype == at::kDouble) &&
            ages.dim() == 2 && pc_range.size() == 6 && views == map_shapes_.has_value(),
        "ray_locations: offsets is " + shape_name(offsets.sizes()) + " " + c10::toString(dtype) +
            ", expected Float or Double (B, Q, D, G, P, 3) with lidar2img and map_shapes, or (B, Q, D, G, P, 2) "
            "without; ages (B, T); six numbers of pc_range.");
    const int64_t B = offsets.size(0), Q = offsets.size(1), D = offsets.size(2), T = ages.size(1);
    const int64_t points = D * offsets.size(3) * offsets.size(4);
    TORCH_CHECK(
        points <= cuda::kMaxPoints && B * Q < (int64_t{1} << 31),
        "ray_locations: a query looks at " + std::to_string(points) + " points per frame, expected at most " +
            std::to_string(cuda::kMaxPoints) + ", and B*Q below 2^31.");
    check("steps", steps, {B, Q, D}, offsets);
    check("boxes", boxes, {B, Q, 10}, offsets);
    check("ages", ages, {B, T}, offsets);
    if (views) {
      lidar2img = lidar2img_->contiguous();
      map_shapes = map_shapes_->contiguous();
      rays.N = static_cast<int32_t>(lidar2img.dim() == 5 ? lidar2img.size(2) : 0);
      rays.L = static_cast<int32_t>(map_shapes.size(0));
      check("lidar2img", lidar2img, {B, T, rays.N, 4, 4}, offsets);
      check("map_shapes", map_shapes, {rays.L, 2}, offsets);
      TORCH_CHECK(
          map_shapes.scalar_type() == at::kLong && image_size.size() == 2,
          "ray_locations: expected map_shapes as Long and image_size as two numbers.");
      rays.lidar2img = lidar2img.data_ptr();
      rays.map_shapes = map_shapes.data_ptr<int64_t>();
      rays.height = static_cast<double>(image_size[0]);
      rays.width = static_cast<double>(image_size[1]);
    }
    rays.offsets = offsets.data_ptr();
    rays.steps = steps.data_ptr();
    rays.offsets_row = offsets.stride(1);
    rays.steps_row = steps.stride(1);
    rays.boxes = boxes.data_ptr();
    rays.ages = ages.data_ptr();
    for (int axis = 0; axis < 3; ++axis) {
      rays.low[axis] = pc_range[axis];
      rays.high[axis] = pc_range[3 + axis];
    }
    rays.radius = radius;
    rays.region = region;
    rays.B = static_cast<int32_t>(B);
    rays.T = static_cast<int32_t>(T);
    rays.Q = static_cast<int32_t>(Q);
    rays.D = static_cast<int32_t>(D);
    rays.G = static_cast<int32_t>(offsets.size(3));
    rays.P = static_cast<int32_t>(offsets.size(4));
  }
  at::DimVector locations_shape() const {
    if (rays.lidar2img == nullptr) return {rays.B, rays.T, rays.Q, rays.G, rays.D * rays.P, 2};
    return {rays.B, rays.T, rays.Q, rays.D * rays.P, rays.G, rays.L, 2};
  }
  bool is_double() const { return offsets.scalar_type() == at::kDouble; }
};

at::Tensor ray_locations_cuda(
    const at::Tensor& offsets,
    const at::Tensor& steps,
    const at::Tensor& boxes,
    const at::Tensor& ages,
    at::ArrayRef<double> pc_range,
    double radius,
    double region,
    const c10::optional<at::Tensor>& lidar2img,
    const c10::optional<at::Tensor>& map_shapes,
    at::IntArrayRef image_size) {
  const c10::cuda::CUDAGuard on_device(offsets.device());
  RayArguments arguments(offsets, steps, boxes, ages, pc_range, radius, region, lidar2img, map_shapes, image_size);
  at::Tensor locations = at::empty(arguments.locations_shape(), offsets.options());
  if (locations.numel() == 0) return locations;
  arguments.rays.locations = locations.data_ptr();
  C10_CUDA_CHECK(
      cuda::launch_ray_locations(arguments.rays, arguments.is_double(), c10::cuda::getCurrentCUDAStream()));
  return locations;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> ray_locations_backward_cuda(
    const at::Tensor& grad_locations,
    const at::Tensor& offsets,
    const at::Tensor& steps,
    const at::Tensor& boxes,
    const at::Tensor& ages,
    at::ArrayRef<double> pc_range,
    double radius,
    double region,
    const c10::optional<at::Tensor>& lidar2img,
    const c10::optional<at::Tensor>& map_shapes,
    at::IntArrayRef image_size,
    bool boxes_wanted) {
  const c10::cuda::CUDAGuard on_device(offsets.device());
  RayArguments arguments(offsets, steps, boxes, ages, pc_range, radius, region, lidar2img, map_shapes, image_size);
  check("grad_locations", grad_locations, arguments.locations_shape(), offsets);
  const at::Tensor grad = grad_locations.contiguous();
  const auto like = [&](const at::Tensor& tensor) { return at::empty(tensor.sizes(), offsets.options()); };
  at::Tensor grad_offsets = like(offsets), grad_steps = like(steps);
  at::Tensor grad_boxes = boxes_wanted ? like(boxes) : at::empty({0}, offsets.options());
  if (grad.numel() == 0) return {grad_offsets.zero_(), grad_steps.zero_(), grad_boxes.zero_()};
  auto& rays = arguments.rays;
  rays.grad_locations = grad.data_ptr();
  rays.grad_offsets = grad_offsets.data_ptr();
  rays.grad_steps = grad_steps.data_ptr();
  rays.grad_boxes = boxes_wanted ? grad_boxes.data_ptr() : nullptr;
  C10_CUDA_CHECK(
      cuda::launch_ray_locations_backward(rays, arguments.is_double(), c10::cuda::getCurrentCUDAStream()));
  return {grad_offsets, grad_steps, grad_boxes};
}

}  // namespace
}  // namespace racdino

TORCH_LIBRARY_IMPL(racdino, CUDA, m) {
  m.impl("ray_locations", racdino::ray_locations_cuda);
  m.impl("ray_locations_backward", racdino::ray_locations_backward_cuda);
}
#endif

// What the kernels of ray_locations.cu take and how they are launched. Torch-free, as launch.h is and why.
// Shape letters: B samples, T frames, Q queries, D places along the ray, G groups, P points of each, N views, L levels.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace racdino::cuda {

// Everything contiguous and of one type, float or double; but offsets and steps may be parts of longer rows.
struct Rays {
  const void* offsets;         // (B, Q, D, G, P, 2 or 3), in units of the box
  const void* steps;           // (B, Q, D), before the sigmoid
  const void* boxes;           // (B, Q, 10) query boxes
  const void* ages;            // (B, T) seconds
  const void* lidar2img;       // (B, T, N, 4, 4); null: places on the ground, not in views
  const int64_t* map_shapes;   // (L, 2) rows and columns of the maps of stacked views, read on the device only
  const void* grad_locations;  // like locations, backward only
  void* locations;             // (B, T, Q, G, D * P, 2), or in views (B, T, Q, D * P, G, L, 2); forward only
  void* grad_offsets;          // like offsets
  void* grad_steps;            // like steps
  void* grad_boxes;            // like boxes; null: unwanted
  int64_t offsets_row, steps_row;  // elements from one (b, q) to the next
  double low[3], high[3];      // the range, metres
  double radius, region;       // metres of one unit of d; half of the stretch that is covered, in units of d
  double width, height;        // of the images that lidar2img speaks of, pixels
  int32_t B, T, Q, D, G, P, N, L;
};

constexpr int32_t kMaxPoints = 512;  // D * G * P: a block serves one query

cudaError_t launch_ray_locations(const Rays& rays, bool is_double, cudaStream_t stream);
cudaError_t launch_ray_locations_backward(const Rays& rays, bool is_double, cudaStream_t stream);

}  // namespace racdino::cuda

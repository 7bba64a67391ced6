// Where RaCFormer's queries look: points around a box, moved back in time and along the ray from the car, as places on
// the ground or in the first view that shows them. The same as racdino/detector/decoder/ray_points.py and
// view_sampling.py step by step, in one pass; a block serves one query, a thread one of its points in every frame.
#include "ray_locations.h"

namespace racdino::cuda {
namespace {

constexpr double kAtTheCar = 1e-12;  // metres; as in ray_points.py
constexpr double kNear = 1e-5;       // metres; as in view_sampling.py
constexpr int kBoxNumbers = 10;
constexpr int kBoxSums = 7;  // gradients of centre x, y, yaw, three sizes, height

// Comparisons, not fmin and fmax: NaN must stay.
template <typename A>
__device__ inline A clamped(A x, A low, A high) {
  return x < low ? low : x > high ? high : x;
}
template <typename A>
__device__ inline bool within(A x, A low, A high) {
  return x >= low && x <= high;
}

// What a query's box says.
template <typename A>
struct Box {
  A theta_cos, theta_sin, distance;  // of the centre; metres
  A x, y, z, vx, vy;                 // metres and m/s, the centre within the range
  A turn_x, turn_y;                  // (cos, sin) of the yaw
  A size[3];                         // metres

  __device__ Box(const Rays& rays, const A* box) {
    sincospi(2 * box[0], &theta_sin, &theta_cos);
    distance = box[1] * A(rays.radius);
    x = clamped(distance * theta_cos, A(rays.low[0]), A(rays.high[0]));
    y = clamped(distance * theta_sin, A(rays.low[1]), A(rays.high[1]));
    z = A(rays.low[2]) + box[2] * A(rays.high[2] - rays.low[2]);
    for (int axis = 0; axis < 3; ++axis) size[axis] = exp(box[3 + axis]);
    const A norm = sqrt(box[6] * box[6] + box[7] * box[7]);
    turn_x = norm == 0 ? A(1) : box[7] / norm;
    turn_y = norm == 0 ? A(0) : box[6] / norm;
    vx = box[8];
    vy = box[9];
  }
};

// Gradients of the sums of kBoxSums to those of the ten numbers of the box. The velocity gets none.
template <typename A>
__device__ inline void box_gradient(const Rays& rays, const A* box, const A* sums, A* grad) {
  const Box<A> here(rays, box);
  const bool x_moves = within(here.distance * here.theta_cos, A(rays.low[0]), A(rays.high[0]));
  const bool y_moves = within(here.distance * here.theta_sin, A(rays.low[1]), A(rays.high[1]));
  const A gx = x_moves ? sums[0] : A(0), gy = y_moves ? sums[1] : A(0);
  grad[0] = A(6.283185307179586) * here.distance * (gy * here.theta_cos - gx * here.theta_sin);
  grad[1] = A(rays.radius) * (gx * here.theta_cos + gy * here.theta_sin);
  grad[2] = A(rays.high[2] - rays.low[2]) * sums[6];
  for (int axis = 0; axis < 3; ++axis) grad[3 + axis] = sums[3 + axis] * here.size[axis];
  const A squared = box[6] * box[6] + box[7] * box[7];
  grad[6] = squared == 0 ? A(0) : sums[2] * box[7] / squared;
  grad[7] = squared == 0 ? A(0) : -sums[2] * box[6] / squared;
  grad[8] = grad[9] = 0;
}

// One point of a query, before time and ray move it.
template <typename A, bool views>
struct Point {
  static constexpr int kDims = views ? 3 : 2;
  int64_t offset;     // of its numbers among those of the query
  int d;              // its place along the ray
  A raw[3];           // its offset in units of the box
  A around_x, around_y, z;  // metres from the centre, and height
  A along;            // metres along the ray
  A step_slope;       // by how many metres that changes with the number in steps

  __device__ Point(const Rays& rays, const Box<A>& box, int64_t row, int i) {
    const int p = views ? i / rays.G % rays.P : i % rays.P, g = views ? i % rays.G : i / (rays.P * rays.D);
    d = views ? i / (rays.G * rays.P) : i / rays.P % rays.D;
    offset = ((static_cast<int64_t>(d) * rays.G + g) * rays.P + p) * kDims;
    const A* numbers = static_cast<const A*>(rays.offsets) + row * rays.offsets_row + offset;
    for (int axis = 0; axis < kDims; ++axis) raw[axis] = numbers[axis];
    const A x = raw[0] * box.size[0], y = raw[1] * box.size[1];
    around_x = x * box.turn_x - y * box.turn_y;
    around_y = x * box.turn_y + y * box.turn_x;
    z = views ? box.z + raw[2] * box.size[2] : A(0);
    const A step = 1 / (1 + exp(-static_cast<const A*>(rays.steps)[row * rays.steps_row + d]));
    const A region = A(rays.region), reach = region / rays.D / 2 * A(rays.radius);
    const A even = rays.D > 1 ? -region + d * (2 * region / (rays.D - 1)) : -region;
    along = even * A(rays.radius) + (2 * step - 1) * reach;
    step_slope = 2 * step * (1 - step) * reach;
  }
};

// A point in one frame.
template <typename A>
struct Moved {
  A x, y;         // before the ray moves it, never at the car itself
  A distance;     // from the car
  bool anywhere;  // false: at the car, where +x was taken
  A far_x, far_y;  // after the ray has moved it, not yet brought into the range

  template <typename P>
  __device__ Moved(const Box<A>& box, const P& point, A age)
      : x(box.x - box.vx * age + point.around_x), y(box.y - box.vy * age + point.around_y) {
    distance = sqrt(x * x + y * y);
    anywhere = !(distance < A(kAtTheCar));
    if (!anywhere) {
      x = distance = A(kAtTheCar);
      y = 0;
    }
    const A scale = 1 + point.along / distance;
    far_x = x * scale;
    far_y = y * scale;
  }
  // Gradients of far_x, far_y to those of x, y; returns that of along.
  __device__ A backward(A along, A& gx, A& gy) const {
    const A of_scale = (gx * x + gy * y) / distance, scale = 1 + along / distance;
    const A radial = of_scale * along / (distance * distance);
    gx = anywhere ? gx * scale - radial * x : A(0);
    gy = anywhere ? gy * scale - radial * y : A(0);
    return of_scale;
  }
};

// What a camera makes of a point: (u, v) times depth, and depth.
template <typename A>
__device__ inline void project(const A* matrix, A x, A y, A z, A (&image)[3]) {
  for (int row = 0; row < 3; ++row) {
    image[row] = matrix[4 * row] * x + matrix[4 * row + 1] * y + matrix[4 * row + 2] * z + matrix[4 * row + 3];
  }
}

// The first view of a frame that shows a point, or view 0.
template <typename A>
struct Seen {
  int view = 0;
  const A* matrix;
  A image[3];
  A u, v;  // over the size of the image

  __device__ Seen(const Rays& rays, const A* matrices, A x, A y, A z) {
    for (int n = 0; n < rays.N; ++n) {
      look(rays, matrices + 16 * n, x, y, z);
      if (image[2] > A(kNear) && u > 0 && u < 1 && v > 0 && v < 1) {
        view = n;
        return;
      }
    }
    look(rays, matrices, x, y, z);
  }
  __device__ void look(const Rays& rays, const A* from, A x, A y, A z) {
    matrix = from;
    project(matrix, x, y, z, image);
    const A depth = image[2] < A(kNear) ? A(kNear) : image[2];
    u = image[0] / (depth * A(rays.width));
    v = image[1] / (depth * A(rays.height));
  }
  // Gradients of u, v to those of the point.
  __device__ void backward(const Rays& rays, A gu, A gv, A (&grad)[3]) const {
    const A depth = image[2] < A(kNear) ? A(kNear) : image[2];
    const A of_u = gu / (depth * A(rays.width)), of_v = gv / (depth * A(rays.height));
    const A of_depth = image[2] >= A(kNear) ? -(of_u * image[0] + of_v * image[1]) / depth : A(0);
    for (int axis = 0; axis < 3; ++axis) {
      grad[axis] = of_u * matrix[axis] + of_v * matrix[4 + axis] + of_depth * matrix[8 + axis];
    }
  }
};

// One level's map of stacked views, a row of zeros after each.
template <typename A>
struct Map {
  A rows, columns, view_rows;

  __device__ Map(const Rays& rays, int level)
      : rows(rays.map_shapes[2 * level]), columns(rays.map_shapes[2 * level + 1]), view_rows(rows / rays.N) {}
  // One pixel outside reads zero already; going further would read the view above or below.
  __device__ A x(A u) const { return (clamped(u * (columns - 1), A(-1), columns) + A(0.5)) / columns; }
  __device__ A y(A v, int view) const {
    return (clamped(v * (view_rows - 2), A(-1), view_rows - 1) + view * view_rows + A(0.5)) / rows;
  }
  __device__ A grad_u(A u, A grad) const {
    return within(u * (columns - 1), A(-1), columns) ? grad * (columns - 1) / columns : A(0);
  }
  __device__ A grad_v(A v, A grad) const {
    return within(v * (view_rows - 2), A(-1), view_rows - 1) ? grad * (view_rows - 2) / rows : A(0);
  }
};

template <typename A>
__device__ inline const A* matrices_of(const Rays& rays, int b, int t) {
  return static_cast<const A*>(rays.lidar2img) + (static_cast<int64_t>(b) * rays.T + t) * rays.N * 16;
}

// Where the numbers of point i of query q in frame t begin in locations.
template <bool views>
__device__ inline int64_t place_of(const Rays& rays, int b, int t, int q, int i) {
  const int64_t n = static_cast<int64_t>(rays.D) * rays.G * rays.P;
  return (((static_cast<int64_t>(b) * rays.T + t) * rays.Q + q) * n + i) * (views ? 2 * rays.L : 2);
}

template <typename A, bool views>
__global__ void __launch_bounds__(kMaxPoints) ray_locations(const Rays rays) {
  const int64_t row = blockIdx.x;
  const int b = row / rays.Q, q = row - static_cast<int64_t>(b) * rays.Q, i = threadIdx.x;
  if (i >= rays.D * rays.G * rays.P) return;
  const Box<A> box(rays, static_cast<const A*>(rays.boxes) + row * kBoxNumbers);
  const Point<A, views> point(rays, box, row, i);
  for (int t = 0; t < rays.T; ++t) {
    const Moved<A> moved(box, point, static_cast<const A*>(rays.ages)[b * rays.T + t]);
    const A x = clamped(moved.far_x, A(rays.low[0]), A(rays.high[0]));
    const A y = clamped(moved.far_y, A(rays.low[1]), A(rays.high[1]));
    A* out = static_cast<A*>(rays.locations) + place_of<views>(rays, b, t, q, i);
    if constexpr (views) {
      const Seen<A> seen(rays, matrices_of<A>(rays, b, t), x, y, point.z);
      for (int level = 0; level < rays.L; ++level) {
        const Map<A> map(rays, level);
        out[2 * level] = map.x(seen.u);
        out[2 * level + 1] = map.y(seen.v, seen.view);
      }
    } else {
      out[0] = (x - A(rays.low[0])) / A(rays.high[0] - rays.low[0]);
      out[1] = (y - A(rays.low[1])) / A(rays.high[1] - rays.low[1]);
    }
  }
}

// The sums over a query's points are taken by one thread each, in the order of the points: always the same result.
template <typename A, bool views>
__global__ void __launch_bounds__(kMaxPoints) ray_locations_backward(const Rays rays) {
  extern __shared__ unsigned char memory[];
  A* part = reinterpret_cast<A*>(memory);  // (1 + kBoxSums, blockDim.x): of along, then of the box
  __shared__ A sums[kBoxSums];
  const int64_t row = blockIdx.x;
  const int b = row / rays.Q, q = row - static_cast<int64_t>(b) * rays.Q, i = threadIdx.x;
  const int n = rays.D * rays.G * rays.P;
  const A* numbers = static_cast<const A*>(rays.boxes) + row * kBoxNumbers;
  if (i < n) {
    const Box<A> box(rays, numbers);
    const Point<A, views> point(rays, box, row, i);
    A sum[3] = {0, 0, 0}, of_along = 0;
    for (int t = 0; t < rays.T; ++t) {
      const Moved<A> moved(box, point, static_cast<const A*>(rays.ages)[b * rays.T + t]);
      const A* grad = static_cast<const A*>(rays.grad_locations) + place_of<views>(rays, b, t, q, i);
      A at[3] = {0, 0, 0};
      if constexpr (views) {
        const A x = clamped(moved.far_x, A(rays.low[0]), A(rays.high[0]));
        const A y = clamped(moved.far_y, A(rays.low[1]), A(rays.high[1]));
        const Seen<A> seen(rays, matrices_of<A>(rays, b, t), x, y, point.z);
        A gu = 0, gv = 0;
        for (int level = 0; level < rays.L; ++level) {
          const Map<A> map(rays, level);
          gu += map.grad_u(seen.u, grad[2 * level]);
          gv += map.grad_v(seen.v, grad[2 * level + 1]);
        }
        seen.backward(rays, gu, gv, at);
      } else {
        for (int axis = 0; axis < 2; ++axis) at[axis] = grad[axis] / A(rays.high[axis] - rays.low[axis]);
      }
      A gx = within(moved.far_x, A(rays.low[0]), A(rays.high[0])) ? at[0] : A(0);
      A gy = within(moved.far_y, A(rays.low[1]), A(rays.high[1])) ? at[1] : A(0);
      of_along += moved.backward(point.along, gx, gy);
      sum[0] += gx;
      sum[1] += gy;
      sum[2] += at[2];
    }
    const A turned_x = sum[0] * box.turn_x + sum[1] * box.turn_y, turned_y = sum[1] * box.turn_x - sum[0] * box.turn_y;
    const A of_box[3] = {turned_x, turned_y, sum[2]};
    A* out = static_cast<A*>(rays.grad_offsets) + row * n * Point<A, views>::kDims + point.offset;
    for (int axis = 0; axis < Point<A, views>::kDims; ++axis) out[axis] = of_box[axis] * box.size[axis];
    part[i] = of_along * point.step_slope;
    if (rays.grad_boxes != nullptr) {
      const A of_yaw = sum[1] * point.around_x - sum[0] * point.around_y;
      const A all[kBoxSums] = {
          sum[0],
          sum[1],
          of_yaw,
          turned_x * point.raw[0],
          turned_y * point.raw[1],
          views ? sum[2] * point.raw[2] : A(0),
          sum[2]};
      for (int j = 0; j < kBoxSums; ++j) part[(1 + j) * blockDim.x + i] = all[j];
    }
  }
  __syncthreads();
  for (int d = i; d < rays.D; d += blockDim.x) {
    A sum = 0;
    for (int j = 0; j < n; ++j) {
      if ((views ? j / (rays.G * rays.P) : j / rays.P % rays.D) == d) sum += part[j];
    }
    static_cast<A*>(rays.grad_steps)[row * rays.D + d] = sum;
  }
  if (rays.grad_boxes == nullptr) return;
  if (i < kBoxSums) {
    sums[i] = 0;
    for (int j = 0; j < n; ++j) sums[i] += part[(1 + i) * blockDim.x + j];
  }
  __syncthreads();
  if (i == 0) box_gradient(rays, numbers, sums, static_cast<A*>(rays.grad_boxes) + row * kBoxNumbers);
}

template <typename A>
void launch(const Rays& rays, bool backward, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(rays.B) * rays.Q;
  const unsigned threads = (rays.D * rays.G * rays.P + 31) / 32 * 32;
  const size_t shared = (rays.grad_boxes == nullptr ? 1 : 1 + kBoxSums) * threads * sizeof(A);
  const bool views = rays.lidar2img != nullptr;
  if (backward) {
    (views ? ray_locations_backward<A, true> : ray_locations_backward<A, false>)<<<blocks, threads, shared, stream>>>(
        rays);
  } else {
    (views ? ray_locations<A, true> : ray_locations<A, false>)<<<blocks, threads, 0, stream>>>(rays);
  }
}

}  // namespace

cudaError_t launch_ray_locations(const Rays& rays, bool is_double, cudaStream_t stream) {
  is_double ? launch<double>(rays, false, stream) : launch<float>(rays, false, stream);
  return cudaGetLastError();
}

cudaError_t launch_ray_locations_backward(const Rays& rays, bool is_double, cudaStream_t stream) {
  is_double ? launch<double>(rays, true, stream) : launch<float>(rays, true, stream);
  return cudaGetLastError();
}

}  // namespace racdino::cuda

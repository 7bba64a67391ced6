// Backward of 16-bit values where few samples go to many pixels: nothing is added to memory, so that grad_value needs
// neither zeros before nor a cast after. A block has all samples of one level of one head. It files them by pixel in
// shared memory (a counting sort), each twice: with the pixel left above, whose row has two of its corners, and with
// the one below, for the other two. Its groups of lanes then walk through the file, each along its share of the pixels:
// of two pixels side by side the sums move on in registers, and every pixel is written once. The dot products that
// backward.cu explains come after, sample by sample.
//
// The order within a pixel is whatever the counters gave, as the order of atomic additions would be; or, where one and
// the same is wanted each time, that of the samples.
#include "backward.cuh"

namespace racdino::cuda {
namespace {

constexpr int kBlock = 512, kBlocks = 2;  // of a multiprocessor
constexpr int kV = 8;                     // channels of a lane: 16 bytes
constexpr int kLanes = 4, kGroups = kBlock / kLanes;
constexpr int kMostSamples = 4096;
constexpr int64_t kSamplesWorthFiling = 150000;  // as by cell

// A visit as it is filed: the sample, and flags.
constexpr unsigned kSample = kMostSamples - 1;
constexpr unsigned kLower = 1u << 12;    // for the lower two corners
constexpr unsigned kFirst = 1u << 13;    // of its pixel
constexpr unsigned kNothing = 1u << 14;  // no sample: a pixel without any has one visit all the same

// Where a sample falls: 4 * the pixel left above, and flags.
constexpr unsigned kInside = 1, kHasLower = 2;

// In shared memory, in bytes.
struct Layout {
  int counters, visits, cells, bytes;

  __host__ __device__ explicit Layout(const Problem& problem) {
    const int count = static_cast<int>(problem.Q) * problem.P, pixels = static_cast<int>(problem.S);
    const int sums = kBlock * kV * static_cast<int>(sizeof(float));
    counters = padded(problem.L * static_cast<int>(sizeof(Level)));
    visits = counters + larger(4 * pixels, sums);             // then: the sums of the groups' first pixels
    cells = visits + larger(2 * (2 * count + pixels), sums);  // then: what groups hand on
    bytes = cells + padded(4 * count);
  }

 private:
  __host__ __device__ static int padded(int bytes) { return (bytes + 15) / 16 * 16; }
  __host__ __device__ static int larger(int a, int b) { return padded(a > b ? a : b); }
};

// The samples of one (batch, head, level). Sample t is point t % P of query t / P.
struct Samples {
  const float2* locations;
  const float* weights;
  float2* grad_locations;
  float* grad_weights;
  unsigned reciprocal, query_step;

  __device__ Samples(const Problem& problem, int64_t b, int m, int l)
      : reciprocal((1u << 20) / problem.P + 1), query_step((problem.M * problem.L - 1) * problem.P) {
    const int64_t first = ((b * problem.Q * problem.M + m) * problem.L + l) * problem.P;
    locations = static_cast<const float2*>(problem.locations) + first;
    weights = static_cast<const float*>(problem.weights) + first;
    grad_locations = problem.grad_locations ? static_cast<float2*>(problem.grad_locations) + first : nullptr;
    grad_weights = problem.grad_weights ? static_cast<float*>(problem.grad_weights) + first : nullptr;
  }
  __device__ unsigned query(unsigned t) const { return t * reciprocal >> 20; }  // exact for t * P < 2^20
  __device__ unsigned place(unsigned t) const { return t + query(t) * query_step; }
  __device__ void store(unsigned t, float x, float y, float weight) const {
    const unsigned i = place(t);
    if (grad_weights) grad_weights[i] = weight;
    if (grad_locations) grad_locations[i] = {x, y};
  }
};

// In pixels. Spelt out, so that a sample falls into the same cell each time.
__device__ inline float2 in_pixels(float2 location, const Level& level) {
  return {fmaf(location.x, static_cast<float>(level.W), -0.5f), fmaf(location.y, static_cast<float>(level.H), -0.5f)};
}

__device__ inline float2 location_of(const Samples& samples, unsigned t, const Level& level) {
  return in_pixels(__ldg(at(samples.locations, samples.place(t), sizeof(float2))), level);
}
__device__ inline float weight_of(const Samples& samples, unsigned t) {
  return __ldg(at(samples.weights, samples.place(t), sizeof(float)));
}

// The rows of one (batch, head), at this lane's channels.
template <typename T>
struct Rows {
  const T* value;
  const T* grad_output;
  T* grad_value;
  int64_t stride;  // from one to the next, in elements
  unsigned bytes;  // the same

  __device__ Rows(const Problem& problem, int64_t b, int m, int lane)
      : stride(static_cast<int64_t>(problem.M) * problem.D) {
    const int64_t channel = static_cast<int64_t>(m) * problem.D + lane * kV;
    value = static_cast<const T*>(problem.value) + b * problem.S * stride + channel;
    grad_output = static_cast<const T*>(problem.grad_output) + b * problem.Q * stride + channel;
    grad_value = static_cast<T*>(problem.grad_value) + b * problem.S * stride + channel;
    bytes = static_cast<unsigned>(stride * sizeof(T));
  }
};

// What a lane leaves for its group to read.
struct alignas(16) Visit {
  float left, right;  // factors of the two corners, with the weight
  unsigned query, first;
};
struct alignas(16) Corners {
  unsigned pixel, right, below, query;  // steps to the corners, 0 where there is none
};
union Post {
  Visit visit;
  Corners corners;
  __device__ Post() {}
};

// The gradients of a sample to each lane, all lanes of a group working on one after the other. wanted: whether there is
// one; all lanes of the warp come together.
template <typename T>
__device__ inline void differentiate(
    const Rows<T>& rows, const Samples& samples, const Level& level, unsigned t, bool wanted, Post* posts) {
  const int lane = threadIdx.x % kLanes;
  const float2 xy = location_of(samples, t, level);
  const float a = weight_of(samples, t);
  const Cell<float> cell = cell_at(xy.x, xy.y, level);
  const Slots<float> slots(cell, level);
  __syncwarp();  // the previous ones have been read
  posts[lane].corners = {
      static_cast<unsigned>(slots.pixel),
      slots.dx[1] != 0 ? 1u : 0u,
      slots.dy[1] != 0 ? static_cast<unsigned>(level.W) : 0u,
      samples.query(t)};
  __syncwarp();
  float dot[4 * kLanes];
#pragma unroll
  for (int j = 0; j < kLanes; ++j) {
    const Corners corners = posts[j].corners;
    const auto packed = Pack<T, kV>::load(at(rows.grad_output, corners.query, rows.bytes));
    Pack<T, kV> corner[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const unsigned pixel = corners.pixel + (c & 1 ? corners.right : 0) + (c & 2 ? corners.below : 0);
      corner[c] = Pack<T, kV>::load(at(rows.value, pixel, rows.bytes));
    }
    float g[kV], x[kV];
    packed.unpack(g);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      corner[c].unpack(x);
      dot[4 * j + c] = 0;
#pragma unroll
      for (int e = 0; e < kV; ++e) dot[4 * j + c] += g[e] * x[e];
    }
  }
  reduce_scatter<kLanes>(dot);  // each lane has those of its own sample
  if (!wanted) return;
  float grad_weight = 0, slope_x = 0, slope_y = 0;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const float d = slots.used(c) ? dot[c] : 0;
    grad_weight += slots.factor(c) * d;
    slope_x += slots.dx[c & 1] * slots.fy[c >> 1] * d;
    slope_y += slots.dy[c >> 1] * slots.fx[c & 1] * d;
  }
  samples.store(t, level.W * a * slope_x, level.H * a * slope_y, grad_weight);
}

// Levels that share pixels cannot each write their own. Nobody's model has such levels, so this is simple, and slow: a
// group goes through all samples of the head for each of its pixels.
template <typename T>
__device__ inline void gather_from_all_levels(
    const Problem& problem, const Level* levels, const Rows<T>& rows, int64_t b, int m, int part) {
  const int n = problem.L * problem.P, total = static_cast<int>(problem.Q) * n;
#pragma unroll 1
  for (int pixel = part * kGroups + threadIdx.x / kLanes; pixel < problem.S; pixel += problem.L * kGroups) {
    float sum[kV] = {};
#pragma unroll 1
    for (int s = 0; s < total; ++s) {
      const int query = s / n, l = s % n / problem.P;
      const Samples samples(problem, b, m, l);
      const Level level = levels[l];
      const unsigned t = query * problem.P + s % problem.P;
      const float2 xy = location_of(samples, t, level);
      const Cell<float> cell = cell_at(xy.x, xy.y, level);
      const Slots<float> slots(cell, level);
      float weight = 0;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const bool here = slots.pixel + c % 2 + c / 2 * level.W == pixel;
        if (cell.inside && slots.used(c) && here) weight = slots.factor(c) * weight_of(samples, t);
      }
      if (weight == 0) continue;
      float g[kV];
      Pack<T, kV>::load(at(rows.grad_output, query, rows.bytes)).unpack(g);
#pragma unroll
      for (int e = 0; e < kV; ++e) sum[e] += weight * g[e];
    }
    Pack<T, kV>::pack(sum).store(rows.grad_value + pixel * rows.stride);
  }
}

// Pixels of no level get zeros.
template <typename T>
__device__ inline void zero_unused(const Problem& problem, const Level* levels, int64_t b, int m, int part) {
#pragma unroll 1
  for (int pixel = part * kBlock + threadIdx.x; pixel < problem.S; pixel += problem.L * kBlock) {
    bool used = false;
#pragma unroll 1
    for (int l = 0; l < problem.L; ++l) {
      used |= pixel >= levels[l].start && pixel < levels[l].start + levels[l].H * levels[l].W;
    }
    if (used) continue;
    T* row = static_cast<T*>(problem.grad_value) + ((b * problem.S + pixel) * problem.M + m) * problem.D;
#pragma unroll 1
    for (int channel = 0; channel < problem.D; ++channel) row[channel] = narrow<T>(0);
  }
}

// Where the samples fall, and the visits of each pixel counted. A sample outside has its gradients already.
__device__ inline void find_cells(
    const Samples& samples, const Level& level, int count, unsigned* counters, unsigned* cells) {
  constexpr int kAtOnce = 4;
#pragma unroll 1
  for (int t0 = threadIdx.x; t0 < count; t0 += kAtOnce * kBlock) {
    float2 xy[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) xy[k] = location_of(samples, min(t0 + k * kBlock, count - 1), level);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int t = t0 + k * kBlock;
      if (t >= count) continue;
      const Cell<float> cell = cell_at(xy[k].x, xy[k].y, level);
      if (!cell.inside) {
        cells[t] = 0;
        samples.store(t, 0, 0, 0);
        continue;
      }
      const bool has_lower = cell.y0 >= 0 && cell.y0 + 1 < level.H;
      const unsigned pixel = max(cell.y0, 0) * level.W + max(cell.x0, 0);
      atomicAdd(counters + pixel, 1u);
      if (has_lower) atomicAdd(counters + pixel + level.W, 1u);
      cells[t] = 4 * pixel + kInside + (has_lower ? kHasLower : 0);
    }
  }
}

// Counters of visits -> in their upper half, where a pixel's visits start; in their lower half, those filed, none.
// Returns the number of visits.
__device__ inline unsigned counts_to_starts(
    int pixels, unsigned* counters, unsigned short* visits, unsigned* warp_sums) {
  const int each = (pixels + kBlock - 1) / kBlock;
  const int first = min(static_cast<int>(threadIdx.x) * each, pixels), last = min(first + each, pixels);
  unsigned mine = 0;
#pragma unroll 1
  for (int i = first; i < last; ++i) mine += max(counters[i], 1u);
  unsigned start = block_scan(mine, warp_sums) - mine;
#pragma unroll 1
  for (int i = first; i < last; ++i) {
    const unsigned count = counters[i];
    counters[i] = start << 16;
    if (count == 0) visits[start] = kFirst | kNothing;
    start += max(count, 1u);
  }
  __syncthreads();
  unsigned total = 0;
  for (int w = 0; w < kBlock / 32; ++w) total += warp_sums[w];
  return total;
}

// Each pixel's visits into the order of their samples. The pixels in `cells` give way to the visits' places.
__device__ inline void put_in_order(
    int count, int pixels, unsigned width, const unsigned* counters, unsigned short* visits, unsigned* cells) {
  const auto place = [&](unsigned pixel, unsigned t) {
    const unsigned start = counters[pixel] >> 16, filed = counters[pixel] & 0xffff;
    unsigned before = 0;
    for (unsigned i = 0; i < filed; ++i) before += (visits[start + i] & kSample) < t;
    return start + before;
  };
  constexpr int kUpperShift = 17, kLowerShift = 2;  // 15 bits each: there are fewer than 2^15 visits
#pragma unroll 1
  for (int t = threadIdx.x; t < count; t += kBlock) {
    const unsigned cell = cells[t], pixel = cell / 4;
    if (!(cell & kInside)) continue;
    const unsigned lower = cell & kHasLower ? place(pixel + width, t) : 0;
    cells[t] = place(pixel, t) << kUpperShift | lower << kLowerShift | (cell & (kInside | kHasLower));
  }
  __syncthreads();
#pragma unroll 1
  for (int t = threadIdx.x; t < count; t += kBlock) {
    const unsigned places = cells[t];
    if (places & kInside) visits[places >> kUpperShift] = t;
    if (places & kHasLower) visits[places >> kLowerShift & 0x7fff] = t | kLower;
  }
  __syncthreads();
#pragma unroll 1
  for (int i = threadIdx.x; i < pixels; i += kBlock) {
    if (counters[i] & 0xffff) visits[counters[i] >> 16] |= kFirst;
  }
  __syncthreads();
}

// Where a group begins.
struct Cut {
  int pixel, visit;
};

// The first pixel whose visits start at `target` or later.
__device__ inline Cut cut_at(unsigned target, unsigned total, int pixels, const volatile unsigned* starts) {
  int low = 0, high = pixels;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (starts[middle] >> 16 < target) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return {low, static_cast<int>(low < pixels ? starts[low] >> 16 : total)};
}

// Walk through the file: the group's pixels from cuts[group] to the next.
template <typename T>
__device__ inline void walk(
    const Samples& samples,
    const Level& level,
    const Rows<T>& rows,
    const Cut* cuts,
    unsigned short* visits,
    float4* edges,
    Post* posts) {
  const int group = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const int first_pixel = cuts[group].pixel, end_pixel = cuts[group + 1].pixel, end = cuts[group + 1].visit;
  const bool any = first_pixel < end_pixel;
  // Not by at(), behind which nvcc no longer knows that this is global memory.
  T* const first_out = rows.grad_value + (level.start + first_pixel) * rows.stride;
  T* out = first_out;
  float4* edge = edges + threadIdx.x;
  int finished = -1;                    // of the group's pixels
  float left[kV] = {}, right[kV] = {};  // sums of this pixel and of the next
  const auto finish_pixel = [&] {
    // The first one's sum waits for what the group before has for it.
    if (finished == 0) {
      edge[0] = {left[0], left[1], left[2], left[3]};
      edge[kBlock] = {left[4], left[5], left[6], left[7]};
    }
    if (finished > 0) {
      out += rows.stride;
      Pack<T, kV>::pack(left).store(out);
    }
    ++finished;
  };
#pragma unroll 1
  for (int j0 = cuts[group].visit; __any_sync(0xffffffffu, j0 < end); j0 += kLanes) {
    const int j = j0 + lane;
    const unsigned entry = j < end ? visits[j] : kNothing;
    Visit visit = {0, 0, 0, entry & kFirst};
    if (!(entry & kNothing)) {
      const unsigned t = entry & kSample;
      const float2 xy = location_of(samples, t, level);
      const float x0 = floorf(xy.x), y0 = floorf(xy.y), lx = xy.x - x0, ly = xy.y - y0;
      const float scale = weight_of(samples, t) * (entry & kLower || y0 < 0 ? ly : 1 - ly);
      visit.left = scale * (x0 < 0 ? lx : 1 - lx);
      visit.right = x0 >= 0 && x0 + 1 < level.W ? scale * lx : 0;
      visit.query = samples.query(t);
    }
    __syncwarp();  // the previous round has been read
    posts[lane].visit = visit;
    __syncwarp();
#pragma unroll 1
    for (int k = 0; k < kLanes; k += 2) {
      Pack<T, kV> packed[2];  // under way together
      Visit now[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        now[h] = posts[k + h].visit;
        packed[h] = Pack<T, kV>::load(at(rows.grad_output, now[h].query, rows.bytes));
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (now[h].first) {
          finish_pixel();
#pragma unroll
          for (int e = 0; e < kV; ++e) left[e] = right[e], right[e] = 0;
        }
        float g[kV];
        packed[h].unpack(g);
        // 0: no corner of this sample; what is not a number stays out.
        if (now[h].left != 0) {
#pragma unroll
          for (int e = 0; e < kV; ++e) left[e] += now[h].left * g[e];
        }
        if (now[h].right != 0) {
#pragma unroll
          for (int e = 0; e < kV; ++e) right[e] += now[h].right * g[e];
        }
      }
    }
  }
  if (any) finish_pixel();
  __syncthreads();
  // What is left for the pixel behind the last goes to the group that has it: the last of those that begin there.
  float* handed_on = reinterpret_cast<float*>(visits) + lane;
  if (any && end_pixel < cuts[kGroups].pixel) {
    int receiver = group + 1;
    while (cuts[receiver + 1].pixel == end_pixel) ++receiver;
#pragma unroll
    for (int e = 0; e < kV; ++e) handed_on[(receiver * kV + e) * kLanes] = right[e];
  }
  __syncthreads();
  if (!any) return;
  const float4 half[2] = {edge[0], edge[kBlock]};
  memcpy(left, half, sizeof left);
  if (first_pixel > 0) {
#pragma unroll
    for (int e = 0; e < kV; ++e) left[e] += handed_on[(group * kV + e) * kLanes];
  }
  Pack<T, kV>::pack(left).store(first_out);
}

template <typename T>
__device__ inline void backward_by_level(const Problem& problem, bool in_order) {
  extern __shared__ __align__(16) char memory[];
  __shared__ Post all_posts[kBlock + kGroups];  // a spare one per group, as in forward.cu
  __shared__ Cut cuts[kGroups + 1];
  __shared__ unsigned warp_sums[kBlock / 32];
  const Layout layout(problem);
  Level* levels = reinterpret_cast<Level*>(memory);
  unsigned* counters = reinterpret_cast<unsigned*>(memory + layout.counters);
  unsigned short* visits = reinterpret_cast<unsigned short*>(memory + layout.visits);
  unsigned* cells = reinterpret_cast<unsigned*>(memory + layout.cells);

  const int group = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  Post* posts = all_posts + group * (kLanes + 1);
  const unsigned head = blockIdx.x / problem.L;
  const int l = blockIdx.x % problem.L, m = head % problem.M;
  const int64_t b = head / problem.M;
  load_levels(problem, levels);
  const Level level = levels[l];
  const Samples samples(problem, b, m, l);
  const Rows<T> rows(problem, b, m, lane);
  const int count = static_cast<int>(problem.Q) * problem.P, pixels = level.H * level.W;

#pragma unroll 1
  for (int i = threadIdx.x; i < pixels; i += kBlock) counters[i] = 0;
  __syncthreads();
  find_cells(samples, level, count, counters, cells);
  __syncthreads();
  if (may_share_pixels(problem, levels)) {
    gather_from_all_levels<T>(problem, levels, rows, b, m, l);
  } else {
    zero_unused<T>(problem, levels, b, m, l);
    const unsigned total = counts_to_starts(pixels, counters, visits, warp_sums);
    if (threadIdx.x <= kGroups) {
      cuts[threadIdx.x] = cut_at(threadIdx.x * total / kGroups, total, pixels, counters);
    }
    const auto file = [&](unsigned pixel, unsigned visit) {
      const unsigned word = atomicAdd(counters + pixel, 1u), filed = word & 0xffff;
      visits[(word >> 16) + filed] = static_cast<unsigned short>(visit | (filed == 0 ? kFirst : 0));
    };
#pragma unroll 2
    for (int t = threadIdx.x; t < count; t += kBlock) {
      const unsigned cell = cells[t];
      if (cell & kInside) file(cell / 4, t);
      if (cell & kHasLower) file(cell / 4 + level.W, t | kLower);
    }
    __syncthreads();
    if (in_order) put_in_order(count, pixels, level.W, counters, visits, cells);
    walk<T>(samples, level, rows, cuts, visits, reinterpret_cast<float4*>(counters), posts);
  }

#pragma unroll 1
  for (int t0 = 0; t0 < count; t0 += kBlock) {
    const int t = t0 + threadIdx.x;
    const bool wanted = t < count && cells[t] & kInside;
    if (!__any_sync(0xffffffffu, wanted)) continue;
    differentiate<T>(rows, samples, level, wanted ? t : 0, wanted, posts);
  }
}

}  // namespace

#define RACDINO_KERNEL(type, name)                                                    \
  extern "C" __global__ void __launch_bounds__(kBlock, kBlocks)                       \
      ms_deform_attn_backward_by_level_##name(const Problem problem, bool in_order) { \
    backward_by_level<type>(problem, in_order);                                       \
  }
RACDINO_KERNEL(__half, float16)
RACDINO_KERNEL(__nv_bfloat16, bfloat16)
#undef RACDINO_KERNEL

// By the shared memory of a multiprocessor: with fewer groups at work, loads would be waited for.
static bool blocks_fit(const Problem& problem) {
  constexpr int kBesides = 16384;  // what a block has besides, and the system keeps
  int device = 0, shared = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return false;
  cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  return kBlocks * (Layout(problem).bytes + kBesides) <= shared;
}

bool pays_by_level(const Problem& problem, Type type) {
  const bool locations_are_pairs = reinterpret_cast<uintptr_t>(problem.locations) % sizeof(float2) == 0;
  const int64_t samples = problem.Q * problem.P;
  const bool can = (type == Type::float16 || type == Type::bfloat16) && problem.D == kLanes * kV &&
                   aligned(problem.value) && aligned(problem.grad_output) && locations_are_pairs && problem.L <= 32 &&
                   problem.P <= 64 && samples <= kMostSamples && problem.S <= 4 * kMostSamples &&
                   samples * problem.M * problem.L < int64_t{1} << 31 && blocks_fit(problem);
  // Measured where there are 2.3 samples to a pixel. A sample costs two visits; a pixel without samples, one. By cell a
  // sample costs one, and a pixel its share of zeros, additions and cast, which float32 values need not.
  const int64_t of_head = problem.L * samples;
  return can && samples >= kMostSamples / 8 && of_head >= problem.S && of_head < 4 * problem.S &&
         problem.B * problem.M * of_head >= kSamplesWorthFiling;
}

cudaError_t launch_backward_by_level(const Problem& problem, Type type, bool in_order, cudaStream_t stream) {
  const auto kernel =
      type == Type::float16 ? ms_deform_attn_backward_by_level_float16 : ms_deform_attn_backward_by_level_bfloat16;
  const int bytes = Layout(problem).bytes;
  const auto status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status != cudaSuccess) return status;
  kernel<<<static_cast<unsigned>(problem.B * problem.M * problem.L), kBlock, bytes, stream>>>(problem, in_order);
  return cudaGetLastError();
}

}  // namespace racdino::cuda

// What the CUDA kernels take and how they are launched. Torch-free on purpose: nvcc compiles no torch header, and the
// cubins can be loaded and checked through the driver alone (benchmarks/cubins.py).
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace racdino::cuda {

enum class Type : int32_t { float64, float32, float16, bfloat16 };  // of value, output and grad_output

// One call, everything contiguous. "Accumulated" pointers are double for float64 values and float for all others.
struct Problem {
  const void* value;                 // (B, S, M, D)
  const int64_t* spatial_shapes;     // (L, 2), read on the device only
  const int64_t* level_start_index;  // (L)
  const void* locations;             // (B, Q, M, L, P, 2), accumulated
  const void* weights;               // (B, Q, M, L, P), accumulated
  const void* grad_output;           // (B, Q, M, D), backward only
  void* output;                      // (B, Q, M, D), forward only
  void* grad_value;      // (B, S, M, D); accumulated and zeroed, or (sorted, by level) like value; null: unwanted
  void* grad_locations;  // like locations; null: unwanted
  void* grad_weights;    // like weights; null: unwanted
  int64_t B, S, Q;
  int32_t M, D, L, P;
};

// What locations and weights are made of in the fused operator; those of its Problem are null.
struct Fusion {
  const void* reference;  // (B, Q, L, 2 or 4), accumulated; steps in elements, 0 where it is broadcast
  const void* offsets;    // (B, Q, M, L, P, 2), stored as `storage` says
  const void* logits;     // (B, Q, M, L, P), alike
  int64_t batch_step, query_step, level_step;
  int32_t boxes;  // 1: reference holds boxes
  Type storage;   // float64 for float64 values; float32, float16 or bfloat16 for others
};

constexpr int32_t kMaxLevels = 1024;  // their table is in shared memory

cudaError_t launch_forward(const Problem& problem, Type type, cudaStream_t stream);

// Stored in 16 bits, offsets and logits are so in the type of value.
cudaError_t launch_forward_fused(const Problem& problem, const Fusion& fusion, Type type, cudaStream_t stream);

// Backward of the fused operator is that of the plain one between two steps. locate: fusion -> locations and weights.
// unlocate: their gradients -> those of offsets and logits, in their storage; null: unwanted.
cudaError_t launch_locate(
    const Problem& problem, const Fusion& fusion, void* locations, void* weights, cudaStream_t stream);
cudaError_t launch_unlocate(
    const Problem& problem, const Fusion& fusion, void* grad_offsets, void* grad_logits, cudaStream_t stream);

// grad_value by atomic additions, in whatever order they arrive.
cudaError_t launch_backward(const Problem& problem, Type type, cudaStream_t stream);

// The same with fewer additions, where samples are many. pays_by_cell: whether it can and is worth it; grad_value is
// wanted.
bool pays_by_cell(const Problem& problem, Type type);
cudaError_t launch_backward_by_cell(const Problem& problem, Type type, cudaStream_t stream);

// The same with no additions, where samples are few for the pixels; writes all of grad_value, in the type of value.
// in_order: with sums in a fixed order.
bool pays_by_level(const Problem& problem, Type type);
cudaError_t launch_backward_by_level(const Problem& problem, Type type, bool in_order, cudaStream_t stream);

// Gradients of locations and weights alone; grad_value is null.
cudaError_t launch_dots(const Problem& problem, Type type, cudaStream_t stream);

// grad_value in a fixed order, where samples are many: they are sorted by the cell they fall into; each stretch of
// kStretch of them adds up those of each of its cells; then every pixel adds up what the stretches have for it.
constexpr int32_t kStretch = 32;

struct Samples {
  uint32_t* cell;    // (b * M + m) * S + pixel of the first corner; `cells` itself: contributes nothing
  uint32_t* sample;  // place in (B, Q, M, L, P)
  int32_t count;
  int64_t cells;  // B * M * S
};

cudaError_t launch_file(const Problem& problem, Type type, const Samples& samples, cudaStream_t stream);
// With workspace null: only sets the bytes it needs.
cudaError_t launch_sort(
    const Samples& unsorted, const Samples& sorted, void* workspace, size_t& bytes, cudaStream_t stream);
// ranges: (cells, 2), zeroed; becomes the places of each cell's samples. sums: (cells + stretches, 4, D), accumulated;
// the sums of cell k in stretch s, for each of its corners, are at k + s, which no other pair of k and s with samples
// has. Those of right corners are with cell k + 1 instead, if that has samples in the stretch, too.
cudaError_t launch_add_up(
    const Problem& problem, Type type, const Samples& sorted, int32_t* ranges, void* sums, cudaStream_t stream);
cudaError_t launch_collect(
    const Problem& problem,
    Type type,
    const Samples& sorted,
    const int32_t* ranges,
    const void* sums,
    cudaStream_t stream);

// The same where a pixel has few samples. A slice, the samples of one (batch, head, level), comes in chunks, each of
// which is filed by tile of pixels; then every pixel gathers what falls beside it from the chunks.
struct Tiles {
  uint32_t* samples;  // (B, M, L, Q * P): query * P + point, chunk by chunk in the order of its bins
  uint32_t* starts;   // (B, M, L, chunks, 4 * most + 1): where a chunk's bins start, counted from the chunk
  void* sums;         // like grad_value, accumulated, for tiles with many samples; may be grad_value itself
  int32_t most, chunk, chunks;  // tiles of a level at most, samples of a chunk, chunks of a slice
};

bool pays_to_gather(const Problem& problem);
// By sizes alone; the pointers are null.
Tiles tiles_for(const Problem& problem);
cudaError_t launch_file_by_tile(const Problem& problem, Type type, const Tiles& tiles, cudaStream_t stream);
// Writes all of grad_value.
cudaError_t launch_gather(const Problem& problem, Type type, const Tiles& tiles, cudaStream_t stream);

}  // namespace racdino::cuda

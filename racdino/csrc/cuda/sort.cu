// A stable radix sort of the samples by cell, from the CUB of the toolkit. By itself in this file: it takes longest to
// compile.
#include "launch.h"

// Torch has a CUB of its own in the same process.
#define THRUST_CUB_WRAPPED_NAMESPACE racdino_sort
#include <cub/device/device_radix_sort.cuh>

namespace racdino::cuda {

cudaError_t launch_sort(const Samples& unsorted, const Samples& sorted, void* workspace, size_t& bytes, cudaStream_t stream) {
  int bits = 0;
  while (unsorted.cells >> bits) ++bits;  // keys up to `cells` itself
  return racdino_sort::cub::DeviceRadixSort::SortPairs(
      workspace, bytes, unsorted.cell, sorted.cell, unsorted.sample, sorted.sample, unsorted.count, 0, bits, stream);
}

}  // namespace racdino::cuda

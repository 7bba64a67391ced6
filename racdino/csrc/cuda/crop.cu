// The upper left pixels of channels-last maps as contiguous ones, and the way back with zeros around them. A block
// turns a tile of pixels and channels over in shared memory, so that both sides are read and written in long runs.
#include "crop.h"

namespace racdino::cuda {
namespace {

constexpr int kCropThreads = 256, kWarps = kCropThreads / 32;
constexpr int kVectors = 8;  // of 16 bytes in the channels of a tile
// Many: the channels of part begin anywhere in a sector of 32 bytes, so the ends of what is written are pieces of one.
// Of 48 maps of 67x179x768 in 16 bits an H100 crops 64 at a time in 0.86 ms, 256 in 0.64.
constexpr int kPixels = 256;

// E: unsigned integers as wide as the elements.
template <typename E>
struct alignas(16) Tile {
  static constexpr int kVector = sizeof(uint4) / sizeof(E), kChannels = kVectors * kVector;
  static constexpr int kPitch = kChannels + sizeof(uint32_t) / sizeof(E);  // neighbouring pixels in different banks
  E elements[kPixels * kPitch];

  __device__ E& at(int pixel, int channel) { return elements[pixel * kPitch + channel]; }
  // Four words, not at a multiple of 16 bytes.
  __device__ uint32_t* vector(int pixel, int index) { return reinterpret_cast<uint32_t*>(&at(pixel, index * kVector)); }
};

// What a block, and in it a thread, has of image b. Threads go along the channels of whole, along the pixels of part.
template <typename E>
struct Share {
  int pixel, channel;  // the tile's first; pixels counted in part, or in backward in whole
  int row, vector;     // the thread's of whole: every kCropThreads / kVectors-th pixel from row
  int warp, lane;      // of part: every kWarps-th channel from warp, every 32nd pixel from lane
  int64_t b;

  __device__ Share()
      : pixel(blockIdx.x * kPixels),
        channel(blockIdx.y * Tile<E>::kChannels),
        row(threadIdx.x / kVectors),
        vector(threadIdx.x % kVectors),
        warp(threadIdx.x / 32),
        lane(threadIdx.x % 32),
        b(blockIdx.z) {}
  __device__ bool has_vector(const Crop& crop) const { return channel + vector * Tile<E>::kVector < crop.C; }
  __device__ uint4* whole(const Crop& crop, int64_t at) const {
    E* image = static_cast<E*>(crop.whole) + b * crop.image;
    return reinterpret_cast<uint4*>(image + at * crop.C + channel + vector * Tile<E>::kVector);
  }
  __device__ E* part(const Crop& crop, int c) const {
    return static_cast<E*>(crop.part) + (b * crop.C + channel + c) * crop.height * crop.width;
  }
};

template <typename E>
__global__ void __launch_bounds__(kCropThreads) crop_forward(const Crop crop) {
  __shared__ Tile<E> tile;
  constexpr int kRows = kCropThreads / kVectors;
  const Share<E> share;
  const int pixels = crop.height * crop.width;
  uint4 loaded[kPixels / kRows];
  if (share.has_vector(crop)) {
#pragma unroll
    for (int j = 0; j < kPixels / kRows; ++j) {
      const int pixel = min(share.pixel + share.row + j * kRows, pixels - 1);
      const int y = pixel / crop.width, x = pixel - y * crop.width;
      loaded[j] = __ldg(share.whole(crop, static_cast<int64_t>(y) * crop.W + x));
    }
#pragma unroll
    for (int j = 0; j < kPixels / kRows; ++j) {
      uint32_t* words = tile.vector(share.row + j * kRows, share.vector);
      words[0] = loaded[j].x, words[1] = loaded[j].y, words[2] = loaded[j].z, words[3] = loaded[j].w;
    }
  }
  __syncthreads();
  const int channels = min(Tile<E>::kChannels, crop.C - share.channel);
#pragma unroll 4
  for (int c = share.warp; c < channels; c += kWarps) {
    E* to = share.part(crop, c) + share.pixel;
#pragma unroll
    for (int p = share.lane; p < kPixels; p += 32) {
      if (share.pixel + p < pixels) to[p] = tile.at(p, c);
    }
  }
}

template <typename E>
__global__ void __launch_bounds__(kCropThreads) crop_backward(const Crop crop) {
  __shared__ Tile<E> tile;
  const Share<E> share;
  int from[kPixels / 32];  // in a channel of part; -1: beside it
#pragma unroll
  for (int j = 0; j < kPixels / 32; ++j) {
    const int pixel = share.pixel + share.lane + 32 * j, y = pixel / crop.W, x = pixel - y * crop.W;
    from[j] = y < crop.height && x < crop.width ? y * crop.width + x : -1;
  }
  const int channels = min(Tile<E>::kChannels, crop.C - share.channel);
#pragma unroll
  for (int i = 0; i < Tile<E>::kChannels / kWarps; ++i) {
    const int c = share.warp + i * kWarps;
    const E* part = share.part(crop, c);
#pragma unroll
    for (int j = 0; j < kPixels / 32; ++j) {
      tile.at(share.lane + 32 * j, c) = from[j] >= 0 && c < channels ? __ldg(part + from[j]) : E(0);
    }
  }
  __syncthreads();
  if (!share.has_vector(crop)) return;
#pragma unroll
  for (int p = share.row; p < kPixels; p += kCropThreads / kVectors) {
    const uint32_t* words = tile.vector(p, share.vector);
    const int pixel = share.pixel + p;
    if (pixel < crop.H * crop.W) *share.whole(crop, pixel) = uint4{words[0], words[1], words[2], words[3]};
  }
}

// pixels: those that are gone through, of part or of whole.
template <typename E>
dim3 blocks_of(const Crop& crop, int pixels) {
  constexpr int kChannels = Tile<E>::kChannels;
  return dim3((pixels + kPixels - 1) / kPixels, (crop.C + kChannels - 1) / kChannels, crop.B);
}

}  // namespace

cudaError_t launch_crop(const Crop& crop, int64_t element_bytes, cudaStream_t stream) {
  const int pixels = crop.height * crop.width;
  if (element_bytes == 2) {
    crop_forward<uint16_t><<<blocks_of<uint16_t>(crop, pixels), kCropThreads, 0, stream>>>(crop);
  } else {
    crop_forward<uint32_t><<<blocks_of<uint32_t>(crop, pixels), kCropThreads, 0, stream>>>(crop);
  }
  return cudaGetLastError();
}

cudaError_t launch_crop_backward(const Crop& crop, int64_t element_bytes, cudaStream_t stream) {
  const int pixels = crop.H * crop.W;
  if (element_bytes == 2) {
    crop_backward<uint16_t><<<blocks_of<uint16_t>(crop, pixels), kCropThreads, 0, stream>>>(crop);
  } else {
    crop_backward<uint32_t><<<blocks_of<uint32_t>(crop, pixels), kCropThreads, 0, stream>>>(crop);
  }
  return cudaGetLastError();
}

}  // namespace racdino::cuda

// Cuts images into patches, and back.
//
// Math. y[b, (r, c), (ch, i, j)] = images[b, ch, r P + i, c P + j]; backward the inverse permutation.
// Shapes. images [batch, channels, S, S]; y [batch, (S/P)^2, channels P P].
// Preconditions. P divides S; one image has fewer than 2^31 elements.
// Launch. Grid (tiles of an image, images), blocks of kThreads over kPerBlock elements of the image in its own order:
// reads of images are coalesced, those of y in runs of P. No shared memory.
// Numerics. Moves only; each element by one thread.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

// Where element i of an image lies in its patches. 32-bit arithmetic: a division of 64-bit numbers costs ten times
// more.
__device__ inline int64_t place_in_patches(const PatchShape& s, int64_t i) {
  const uint32_t size = static_cast<uint32_t>(s.image), patch = static_cast<uint32_t>(s.patch);
  const uint32_t at = static_cast<uint32_t>(i), column = at % size, row = at / size % size, channel = at / size / size;
  const uint32_t index = row / patch * (size / patch) + column / patch;
  const uint32_t inside = (channel * patch + row % patch) * patch + column % patch;
  return static_cast<int64_t>(index) * (s.channels * s.patch * s.patch) + inside;
}

__global__ void patchify_forward_kernel(PatchShape s, const float* images, float* y) {
  const int64_t n = s.channels * s.image * s.image;
  for (int64_t b = blockIdx.y; b < s.batch; b += gridDim.y) {
    for_elements(
        n, [=](int64_t i) { return images[b * n + i]; },
        [=](int64_t i, float value) { y[b * n + place_in_patches(s, i)] = value; });
  }
}

__global__ void patchify_backward_kernel(PatchShape s, const float* dy, float* dimages, bool add) {
  const int64_t n = s.channels * s.image * s.image;
  for (int64_t b = blockIdx.y; b < s.batch; b += gridDim.y) {
    for_elements(n, [=](int64_t i) { put(dimages + b * n + i, dy[b * n + place_in_patches(s, i)], add); });
  }
}

dim3 grid_of(const PatchShape& s) {
  const int64_t n = s.channels * s.image * s.image;
  CHECK(n < int64_t{1} << 31, "patchify: an image of ", n, " elements is larger than the GPU kernel takes");
  return image_grid(n, s.batch);
}

}  // namespace

void patchify_forward(const PatchShape& s, const float* images, float* y) {
  LAUNCH(patchify_forward_kernel, grid_of(s), kThreads, 0, stream(), s, images, y);
}

void patchify_backward(const PatchShape& s, const float* dy, float* dimages, bool add) {
  LAUNCH(patchify_backward_kernel, grid_of(s), kThreads, 0, stream(), s, dy, dimages, add);
}

}  // namespace entangle::gpu

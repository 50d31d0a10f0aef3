// The images of a training batch from their pixels: placed, normalised, erased and mixed.
//
// Math. engine/ops.h, augment_images.
// Shapes. pixels [B, size, size, channels] uint8, plans [B], table [channels, 256]; out [B, channels, size, size].
// Preconditions. Erased boxes, at most kMostErased, and the boxes of the mixes lie inside of the image; size^2 < 2^32.
// Launch. Grid (tiles of kPerBlock pixels, pairs of images i and mix_partner(i)), a thread a pixel of both images, channel by
// channel: a warp reads adjacent pixels and writes adjacent values of a plane. A block walks pairs gridDim.y apart.
// No shared memory: the table, a kilobyte a channel, stays in the L1 cache.
// Numerics. Placed and cut values are those of the table, to the bit. Noise is computed in double and rounded once;
// a mixed value has the roundings of two products and a sum. Each value is a function of its place: the same bits always.
#include "cuda/device.cuh"
#include "engine/ops.h"

namespace entangle::gpu {

namespace {

// Value (c, y, x) of one image, before it is mixed.
__device__ float augmented(const AugmentShape& s, const ImagePlan& plan, const float* table, const uint8_t* pixels,
                           int64_t c, int64_t y, int64_t x) {
  for (int64_t b = plan.boxes - 1; b >= 0; --b) {  // the last one lies on top
    const Box& box = plan.erased[b].box;
    if (!contains(box, y, x)) continue;
    if (s.erase == EraseMode::constant) return 0;
    const int64_t in_box = (c * box.height + y - box.top) * box.width + x - box.left;
    const int64_t number = s.erase == EraseMode::pixel ? in_box : c;
    return static_cast<float>(rng_normal(s.noise, plan.erased[b].first_noise + static_cast<uint64_t>(2 * number)));
  }
  const Placement& placement = plan.placement;
  const int64_t row = y + placement.top, column = (placement.flip ? s.size - 1 - x : x) + placement.left;
  const bool inside = row >= 0 && row < s.size && column >= 0 && column < s.size;
  return table[c * 256 + (inside ? pixels[(row * s.size + column) * s.channels + c] : 0)];
}

// A mix as a thread needs it: lambda in fp32.
struct Blend {
  Box box;
  float own, partner;
  bool any, cut;
};

__device__ Blend blend_of(const Mix& mix) {
  return {mix.box, static_cast<float>(mix.lambda), static_cast<float>(1 - mix.lambda), mix.lambda != 1,
          !is_empty(mix.box)};
}

__device__ float blended(const Blend& blend, bool in_box, float own, float partner) {
  if (!blend.any) return own;
  if (blend.cut) return in_box ? partner : own;
  return blend.own * own + blend.partner * partner;
}

__global__ void augment_images_kernel(AugmentShape s, const ImagePlan* plans, const float* table, const uint8_t* pixels,
                                      float* out) {
  const int64_t plane = s.size * s.size, values = s.channels * plane;
  for (int64_t pair = blockIdx.y; pair < mix_pairs(s.batch); pair += gridDim.y) {
    const int64_t i = mix_first(pair), j = mix_partner(i, s.batch);
    const Blend blend_a = blend_of(plans[i].mix), blend_b = blend_of(plans[j].mix);
    for_elements(plane, [&](int64_t pixel) {
      const uint32_t width = static_cast<uint32_t>(s.size), at = static_cast<uint32_t>(pixel);  // 32-bit division
      const int64_t y = at / width, x = at % width;
      const bool in_a = contains(blend_a.box, y, x), in_b = contains(blend_b.box, y, x);
      for (int64_t c = 0; c < s.channels; ++c) {
        float* place = out + c * plane + pixel;
        const float a = augmented(s, plans[i], table, pixels + i * values, c, y, x);
        if (i == j) {
          place[i * values] = a;
          continue;
        }
        const float b = augmented(s, plans[j], table, pixels + j * values, c, y, x);
        place[i * values] = blended(blend_a, in_a, a, b);
        place[j * values] = blended(blend_b, in_b, b, a);
      }
    });
  }
}

}  // namespace

void augment_images(const AugmentShape& s, const ImagePlan* plans, const float* table, const uint8_t* pixels,
                    float* out) {
  LAUNCH(augment_images_kernel, image_grid(s.size * s.size, mix_pairs(s.batch)), kThreads, 0, stream(), s, plans, table,
         pixels, out);
}

}  // namespace entangle::gpu

// Images of a training batch from pixels, two at a time: those that are mixed with one another.
#include "engine/cpu/simd.h"
#include "engine/image_rows.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

static inline void augment_row(const AugmentShape& s, const ImagePlan& plan, int64_t c, int64_t y, const float* table,
                               const uint8_t* pixels, float* out) {
  place_row(plan.placement, s.channels, s.size, c, y, table + c * 256, pixels, out);
  const bool erased = y >= plan.erased.top && y < plan.erased.top + plan.erased.height;
  if (erased) fill_row_with_noise(plan.erased, c, y, s.noise, plan.first_noise, out);
}

// Row y of two images that are mixed with one another.
static inline void mix_row(const Mix& mix, int64_t size, int64_t y, float* a, float* b) {
  const bool cut = !is_empty(mix.box);
  if (cut && (y < mix.box.top || y >= mix.box.top + mix.box.height)) return;
  const int64_t first = cut ? mix.box.left : 0, count = cut ? mix.box.width : size;
  const float own = static_cast<float>(mix.lambda), other = static_cast<float>(1 - mix.lambda);
  for_vectors(count, [&](int64_t i, int64_t n) {
    float *pa = a + first + i, *pb = b + first + i;
    const vec x = load_some(pa, n), z = load_some(pb, n);
    store_some(pa, cut ? z : own * x + other * z, n);
    store_some(pb, cut ? x : own * z + other * x, n);
  });
}

void augment_images(const AugmentShape& s, const ImagePlan* plans, const float* table, const uint8_t* pixels,
                    float* out) {
  const int64_t values = s.channels * s.size * s.size;
  parallel_for(mix_pairs(s.batch), [&](int64_t pair) {
    const int64_t i = mix_first(pair), j = mix_partner(i, s.batch);
    for (int64_t row = 0; row < s.channels * s.size; ++row) {
      const int64_t c = row / s.size, y = row % s.size;
      float *a = out + i * values + row * s.size, *b = out + j * values + row * s.size;
      augment_row(s, plans[i], c, y, table, pixels + i * values, a);
      if (i == j) continue;
      augment_row(s, plans[j], c, y, table, pixels + j * values, b);
      if (s.mix.lambda != 1) mix_row(s.mix, s.size, y, a, b);
    }
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle

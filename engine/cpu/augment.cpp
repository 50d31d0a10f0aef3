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
  const auto fill = [&](const Box& box, uint64_t first, float* row) { fill_row_with_noise(box, s.noise, first, row); };
  erase_row(plan, s.erase, s.noise, c, y, fill, out);
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
      mix_rows(plans[i].mix, plans[j].mix, s.size, y, a, b);
    }
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle

// Images to rows of patches: a permutation, copied in runs of one patch's row.
#include "engine/cpu/simd.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

// Calls f(image offset, patch-row offset) for every run of `patch` pixels of image b.
template <class F>
static inline void for_runs(const PatchShape& s, int64_t b, const F& f) {
  const int64_t side = s.image / s.patch, area = s.patch * s.patch;
  for (int64_t c = 0; c < s.channels; ++c) {
    for (int64_t y = 0; y < s.image; ++y) {
      const int64_t row = ((b * s.channels + c) * s.image + y) * s.image;
      const int64_t first_patch = b * side * side + y / s.patch * side;
      for (int64_t x = 0; x < side; ++x) {
        f(row + x * s.patch, (first_patch + x) * s.channels * area + c * area + y % s.patch * s.patch);
      }
    }
  }
}

void patchify_forward(const PatchShape& s, const float* images, float* y) {
  parallel_for(s.batch, [&](int64_t b) {
    for_runs(s, b, [&](int64_t from, int64_t to) {
      memcpy(y + to, images + from, static_cast<size_t>(s.patch) * sizeof(float));
    });
  });
}

void patchify_backward(const PatchShape& s, const float* dy, float* dimages, bool add) {
  parallel_for(s.batch, [&](int64_t b) {
    for_runs(s, b, [&](int64_t to, int64_t from) {
      for (int64_t i = 0; i < s.patch; ++i) dimages[to + i] = dy[from + i] + (add ? dimages[to + i] : 0.0f);
    });
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle

#include "engine/optimizer.h"

#include <cmath>
#include <memory>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/trace.h"

namespace entangle {

namespace {

void check_options(const AdamWOptions& options, int64_t step, double lr) {
  const auto fraction = [](float beta) { return beta >= 0 && beta < 1; };
  CHECK(step >= 1, "AdamW counts its steps from 1, not from ", step);
  CHECK(std::isfinite(lr) && lr >= 0, "the learning rate must be zero or more, not ", lr);
  CHECK(fraction(options.beta1) && fraction(options.beta2), "AdamW's betas must lie in [0, 1), not ", options.beta1,
        " and ", options.beta2);
  // Entries that never had a gradient divide zero by eps.
  CHECK(std::isfinite(options.eps) && options.eps > 0, "AdamW's eps must be above zero, not ", options.eps);
  CHECK(std::isfinite(options.weight_decay) && options.weight_decay >= 0, "the weight decay must be zero or more, not ",
        options.weight_decay);
  CHECK(std::isfinite(options.clip_norm) && options.clip_norm >= 0,
        "the norm to clip at must be above zero, or zero for no clipping, not ", options.clip_norm);
}

void check_scales(const std::vector<float>& scales, size_t parameters) {
  CHECK(scales.empty() || scales.size() == parameters, "AdamW takes a scale of the learning rate for each of the ",
        parameters, " parameters, not ", scales.size());
  for (const float scale : scales) {
    CHECK(std::isfinite(scale) && scale >= 0, "a scale of the learning rate must be zero or more, not ", scale);
  }
}

// A piece of the arena with one learning rate and one kind of decay.
struct Range {
  int64_t begin, end;
  bool decay;
  float scale;
};

// In the arena's order; neighbours that are updated alike are one range. The padding behind a parameter belongs to it.
std::vector<Range> ranges_of(const ParameterArena& arena, const std::vector<float>& scales) {
  if (scales.empty()) return {{0, arena.without_decay(), false, 1}, {arena.without_decay(), arena.size(), true, 1}};
  std::vector<Range> ranges;
  for (const bool decay : {false, true}) {
    for (size_t i = 0; i < scales.size(); ++i) {
      const Parameter& parameter = arena.all()[i];
      if (parameter.decay != decay) continue;
      if (!ranges.empty()) ranges.back().end = parameter.offset;
      const bool alike = !ranges.empty() && ranges.back().decay == decay && ranges.back().scale == scales[i];
      if (!alike) ranges.push_back({parameter.offset, 0, decay, scales[i]});
    }
  }
  ranges.back().end = arena.size();
  return ranges;
}

}  // namespace

double gradient_norm(const ParameterArena& arena) {
  double squares = 0;
  copy_bytes(sizeof squares, arena.gradient_squares(), arena.device(), &squares, DeviceKind::cpu);
  return std::sqrt(squares);
}

double weight_norm(const ParameterArena& arena) {
  const DeviceKind device = arena.device();
  const std::shared_ptr<double> sum(static_cast<double*>(allocate(sizeof(double), device)),
                                    [device](double* memory) { deallocate(memory, device); });
  kernels::sum_squares.on(device)(arena.size(), arena.values(), sum.get());
  double squares = 0;
  copy_bytes(sizeof squares, sum.get(), device, &squares, DeviceKind::cpu);
  return std::sqrt(squares);
}

// The corrections are taken in double from the betas as the kernel holds them, so that after the first step m/c1 is the
// gradient and v/c2 its square, to rounding.
void adamw_step(ParameterArena& arena, const AdamWOptions& options, int64_t step, double lr,
                const std::vector<float>& scales) {
  const TraceSpan span("optimizer", "adamw_step");
  check_options(options, step, lr);
  check_scales(scales, arena.all().size());
  kernels::sum_squares.on(arena.device())(arena.size(), arena.gradients(), arena.gradient_squares());
  const auto correction = [&](float beta) {
    return static_cast<float>(1 - std::pow(static_cast<double>(beta), static_cast<double>(step)));
  };
  AdamWStep s = {static_cast<float>(lr),
                 options.beta1,
                 options.beta2,
                 options.eps,
                 /*decay=*/0,
                 correction(options.beta1),
                 correction(options.beta2),
                 options.clip_norm};
  for (const Range& range : ranges_of(arena, scales)) {
    s.lr = static_cast<float>(lr * static_cast<double>(range.scale));
    s.decay = range.decay ? options.weight_decay : 0;
    kernels::adamw.on(arena.device())(range.end - range.begin, s, arena.gradient_squares(),
                                      arena.values() + range.begin, arena.gradients() + range.begin,
                                      arena.first_moments() + range.begin, arena.second_moments() + range.begin);
  }
}

}  // namespace entangle

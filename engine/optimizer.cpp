#include "engine/optimizer.h"

#include <cmath>
#include <memory>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/memory.h"
#include "engine/ops.h"

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
void adamw_step(ParameterArena& arena, const AdamWOptions& options, int64_t step, double lr) {
  check_options(options, step, lr);
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
  const auto update = [&](int64_t begin, int64_t end) {
    kernels::adamw.on(arena.device())(end - begin, s, arena.gradient_squares(), arena.values() + begin,
                                      arena.gradients() + begin, arena.first_moments() + begin,
                                      arena.second_moments() + begin);
  };
  update(0, arena.without_decay());
  s.decay = options.weight_decay;
  update(arena.without_decay(), arena.size());
}

}  // namespace entangle

#include "engine/rng.h"

#include <cmath>
#include <utility>

#include "engine/check.h"

namespace entangle {

namespace {

// (0, 1): a logarithm of it is finite, and so is that of one minus it.
double open_uniform(Rng& rng) { return (rng.word() + 0.5) * (1.0 / 4294967296.0); }

// log of a Gamma(a, 1) draw. For shape d + 1/3 >= 1, d (1 + x / sqrt(9d))^3 with x ~ N(0,1) is accepted with
// probability min(1, exp(x^2/2 + d - dv + d log v)). A shape below one is drawn as Gamma(a + 1) U^(1/a): in logarithms,
// because for small a the value itself underflows.
double log_gamma_draw(Rng& rng, double a) {
  const double boost = a < 1 ? std::log(open_uniform(rng)) / a : 0.0;
  const double d = (a < 1 ? a + 1 : a) - 1.0 / 3.0;
  const double scale = 1.0 / std::sqrt(9.0 * d);
  while (true) {
    const double x = normal(rng);
    const double root = 1.0 + scale * x;
    const double u = open_uniform(rng);
    if (root <= 0) continue;
    const double v = root * root * root;
    const double log_v = std::log(v);
    if (std::log(u) < 0.5 * x * x + d - d * v + d * log_v) return std::log(d) + log_v + boost;
  }
}

}  // namespace

double normal(Rng& rng) {
  const double number = rng_normal(rng.key, rng.next);
  rng.next += 2;
  return number;
}

double symmetric_beta(Rng& rng, double a) {
  CHECK(a > 0 && std::isfinite(a), "Beta(a, a) needs a positive, finite a, not ", a);
  const double log_x = log_gamma_draw(rng, a);
  const double log_y = log_gamma_draw(rng, a);
  return 1.0 / (1.0 + std::exp(log_y - log_x));  // x / (x + y)
}

void shuffle(Rng& rng, int64_t* items, int64_t count) {
  for (int64_t last = count - 1; last > 0; --last) std::swap(items[last], items[rng.below(last + 1)]);
}

}  // namespace entangle

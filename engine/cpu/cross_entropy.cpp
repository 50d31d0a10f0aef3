// Softmax cross-entropy with soft targets. log softmax = logit - max - log(sum exp(logit - max)); sums in double.
#include "engine/cpu/simd.h"
#include "engine/ops.h"
#include "engine/parallel.h"

namespace entangle {
namespace cpu {
namespace ENTANGLE_ISA {

// Probabilities of one row; returns its loss.
static double row_loss(int64_t classes, const float* logits, const float* target, float* p) {
  vec most = splat(logits[0]);
  for_vectors(classes, [&](int64_t k, int64_t n) { most = larger(most, load_some(logits + k, n, logits[0])); });
  const float shift = largest_of(most);
  double sum = 0;
  for_vectors(classes, [&](int64_t k, int64_t n) {
    const vec e = exponential(load_some(logits + k, n) - shift);
    store_some(p + k, e, n);
    for (int64_t i = 0; i < n; ++i) sum += p[k + i];
  });
  const double log_sum = __builtin_log(sum);
  const float inverse = static_cast<float>(1.0 / sum);
  double loss = 0;
  for (int64_t k = 0; k < classes; ++k) {
    p[k] *= inverse;
    if (target[k] != 0) loss -= target[k] * (static_cast<double>(logits[k]) - shift - log_sum);
  }
  return loss;
}

void cross_entropy_forward(int64_t batch, int64_t classes, const float* logits, const float* target, float* loss,
                           float* p) {
  double* losses = static_cast<double*>(scratch(Scratch::partial, static_cast<size_t>(batch) * sizeof(double)));
  parallel_for(batch, [&](int64_t b) {
    losses[b] = row_loss(classes, logits + b * classes, target + b * classes, p + b * classes);
  });
  double sum = 0;
  for (int64_t b = 0; b < batch; ++b) sum += losses[b];
  loss[0] = static_cast<float>(sum / static_cast<double>(batch));
}

void cross_entropy_backward(int64_t batch, int64_t classes, const float* target, const float* p, const float* dloss,
                            float* dlogits, bool add) {
  const float scale = dloss[0] / static_cast<float>(batch);
  parallel_for(batch, [&](int64_t b) {
    const float *t = target + b * classes, *q = p + b * classes;
    float* d = dlogits + b * classes;
    double mass = 0;
    for (int64_t k = 0; k < classes; ++k) mass += t[k];
    const float total = static_cast<float>(mass);
    for_vectors(classes, [&](int64_t k, int64_t n) {
      put(d + k, (load_some(q + k, n) * total - load_some(t + k, n)) * scale, n, add);
    });
  });
}

}  // namespace ENTANGLE_ISA
}  // namespace cpu
}  // namespace entangle

#include "tools/common/plan_step.h"

#include <algorithm>
#include <vector>

#include "engine/check.h"
#include "engine/ops.h"

namespace entangle {
namespace {

// The same values, of which no operation is recorded.
Tensor as_constant(const Tensor& x) { return Tensor::over(x.shape(), x.data(), nullptr, x.device()); }

}  // namespace

// Dropout's own ordinals lie in bits 40 to 55.
uint64_t seed_of_subnet(uint64_t seed, size_t index) { return seed ^ (static_cast<uint64_t>(index) << 56); }

void backward_of_plan(const Supernet& supernet, const StepPlan& plan, const Tensor& images, const Tensor& targets,
                      ForwardOptions options, float weight,
                      const std::function<void(size_t index, const Tensor& loss)>& on_loss,
                      const std::function<void(size_t)>& left) {
  const uint64_t seed = options.seed;
  std::vector<Tensor> predictions(plan.size());  // of those that teach
  for (size_t i = 0; i < plan.size(); ++i) {
    const auto is_pupil = [i](const PlannedSubnet& other) { return other.teacher == static_cast<int>(i); };
    const bool taught = plan[i].teacher >= 0, teaches = std::any_of(plan.begin(), plan.end(), is_pupil);
    CHECK(plan[i].teacher < static_cast<int>(i), "subnet ", i, " of a step learns from subnet ", plan[i].teacher,
          ", which comes no earlier");
    options.seed = seed_of_subnet(seed, i);
    const auto loss_of_subnet = [&] {
      const Tensor logits = supernet.forward(images, plan[i].architecture, options);
      if (teaches) predictions[i] = softmax(as_constant(logits));
      return cross_entropy(logits, taught ? predictions[static_cast<size_t>(plan[i].teacher)] : targets);
    };
    Tape tape;
    const Tensor loss = loss_of_subnet();
    on_loss(i, loss);
    tape.backward(loss, weight * static_cast<float>(plan[i].weight), left);
  }
}

}  // namespace entangle

#include "tools/common/evaluate.h"

#include <algorithm>
#include <cmath>

#include "engine/check.h"
#include "tools/common/progress.h"

namespace entangle {

EvaluationSet::EvaluationSet(std::shared_ptr<const Dataset> dataset, const DataSource& source,
                             std::vector<int64_t> indices, int64_t image_size, Keep keep)
    : dataset_(std::move(dataset)), source_(source), indices_(std::move(indices)), image_size_(image_size) {
  if (keep == Keep::yes) kept_ = load_for_evaluation(*dataset_, source_, indices_, 0, size(), image_size_);
}

Batch EvaluationSet::load(int64_t begin, int64_t count) const {
  if (kept_.count == 0) return load_for_evaluation(*dataset_, source_, indices_, begin, count, image_size_);
  Batch part;
  part.count = count;
  const int64_t pixels = static_cast<int64_t>(kept_.images.size()) / kept_.count;
  part.images.assign(kept_.images.begin() + begin * pixels, kept_.images.begin() + (begin + count) * pixels);
  part.labels.assign(kept_.labels.begin() + begin, kept_.labels.begin() + begin + count);
  return part;
}

std::string Evaluation::str() const {
  const double percent = 100.0 / static_cast<double>(std::max<int64_t>(images, 1));
  return format("top-1 %.2f %%  top-5 %.2f %%  loss %.4f  (%lld images)", percent * static_cast<double>(top1),
                percent * static_cast<double>(top5), loss, static_cast<long long>(images));
}

void add_logits(const std::vector<float>& logits, const std::vector<int64_t>& labels, int64_t classes,
                Evaluation& evaluation) {
  for (size_t i = 0; i < labels.size(); ++i) {
    const float* row = logits.data() + static_cast<int64_t>(i) * classes;
    const int64_t label = labels[i];
    CHECK(std::all_of(row, row + classes, [](float x) { return std::isfinite(x); }),
          "the logits are not finite for image ", evaluation.images, ": the weights are broken");
    const double largest = *std::max_element(row, row + classes);
    double sum = 0;
    int64_t rank = 0;
    for (int64_t k = 0; k < classes; ++k) {
      sum += std::exp(row[k] - largest);
      rank += row[k] > row[label] || (row[k] == row[label] && k < label);
    }
    evaluation.loss += largest + std::log(sum) - row[label];
    evaluation.top1 += rank < 1;
    evaluation.top5 += rank < 5;
    evaluation.images += 1;
  }
}

Evaluation evaluate(const Supernet& supernet, const Architecture& architecture, const EvaluationSet& set,
                    int64_t batch) {
  const SupernetConfig& model = supernet.config();
  Evaluation evaluation;
  for (int64_t begin = 0; begin < set.size(); begin += batch) {
    const Batch part = set.load(begin, std::min(batch, set.size() - begin));
    const Tensor images = Tensor::from({part.count, model.in_channels, model.image_size, model.image_size}, part.images,
                                       supernet.parameters().device());
    const Tensor logits = supernet.forward(images, architecture);
    try {
      add_logits(logits.to_vector(), part.labels, model.num_classes, evaluation);
    } catch (const Error& error) {
      RAISE(error.what(), " (architecture ", architecture.to_json(), ")");
    }
  }
  evaluation.loss /= static_cast<double>(std::max<int64_t>(evaluation.images, 1));
  return evaluation;
}

}  // namespace entangle

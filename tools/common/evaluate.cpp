#include "tools/common/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/check.h"
#include "engine/device.h"
#include "tools/common/progress.h"

namespace entangle {

EvaluationSet::EvaluationSet(std::shared_ptr<const Dataset> dataset, const DataSource& source,
                             std::vector<int64_t> indices, int64_t image_size, Keep keep)
    : dataset_(std::move(dataset)),
      source_(source),
      indices_(std::move(indices)),
      image_size_(image_size),
      broken_(std::make_shared<BrokenImages>(static_cast<int64_t>(indices_.size()), source.max_broken)),
      normalizer_(source.mean, source.std_dev) {
  if (keep == Keep::no) return;
  kept_ = load_evaluation_images(*dataset_, source_, indices_, 0, size(), image_size_, broken_.get());
}

Batch EvaluationSet::load(int64_t begin, int64_t count) const {
  if (kept_.count == 0) {
    return load_for_evaluation(*dataset_, source_, indices_, begin, count, image_size_, broken_.get());
  }
  std::vector<int64_t> positions(static_cast<size_t>(count));
  std::iota(positions.begin(), positions.end(), begin);
  return gather(positions);
}

Batch EvaluationSet::gather(const std::vector<int64_t>& positions) const {
  if (kept_.count > 0) return normalised(kept_, positions, normalizer_);
  Batch all;
  for (const int64_t position : positions) {
    const Batch one = load(position, 1);
    all.images.insert(all.images.end(), one.images.begin(), one.images.end());
    all.labels.insert(all.labels.end(), one.labels.begin(), one.labels.end());
  }
  all.count = static_cast<int64_t>(positions.size());
  return all;
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

namespace {

// Logits of one architecture, batch after batch. On a GPU the second batch of a size is recorded, and the following ones are
// launched as it was: a subnet's some hundred kernels are small, and launching them takes as long as running them.
class Forward {
 public:
  Forward(const Supernet& supernet, const Architecture& architecture)
      : supernet_(supernet), architecture_(architecture), device_(supernet.parameters().device()) {}

  std::vector<float> logits(const Batch& batch) {
    const SupernetConfig& model = supernet_.config();
    if (images_.defined() && images_.size(0) == batch.count) {
      copy_floats(images_.count(), batch.images.data(), DeviceKind::cpu, images_.data(), device_);
      if (graph_ == nullptr && device_ == DeviceKind::cuda) {
        graph_ = std::make_unique<LaunchGraph>([this] { logits_ = supernet_.forward(images_, architecture_); });
      }
    } else {
      graph_.reset();
      images_ =
          Tensor::from({batch.count, model.in_channels, model.image_size, model.image_size}, batch.images, device_);
    }
    if (graph_ != nullptr) {
      graph_->launch();
    } else {
      logits_ = supernet_.forward(images_, architecture_);
    }
    return logits_.to_vector();
  }

 private:
  const Supernet& supernet_;
  const Architecture& architecture_;
  const DeviceKind device_;
  Tensor images_, logits_;
  std::unique_ptr<LaunchGraph> graph_;  // writes logits_
};

}  // namespace

float label_margin(const float* logits, int64_t classes, int64_t label) {
  float margin = std::numeric_limits<float>::infinity();
  for (int64_t k = 0; k < classes; ++k) {
    CHECK(std::isfinite(logits[k]), "the logits are not finite: the weights are broken");
    if (k == label) continue;
    const float difference = logits[label] - logits[k];
    const bool lost = difference < 0 || (difference == 0 && k < label);
    // A tie that is lost is the smallest loss there is.
    margin = std::min(margin, lost ? std::min(difference, -std::numeric_limits<float>::min()) : difference);
  }
  return margin;
}

namespace {

// The batches b with b % size == rank, summed one by one.
std::vector<Evaluation> evaluate_batches(const Supernet& supernet, const Architecture& architecture,
                                         const EvaluationSet& set, int64_t batch, int rank, int size) {
  Forward forward(supernet, architecture);
  std::vector<Evaluation> batches;
  for (int64_t begin = rank * batch; begin < set.size(); begin += size * batch) {
    const Batch part = set.load(begin, std::min(batch, set.size() - begin));
    batches.emplace_back();
    if (part.count == 0) continue;
    const std::vector<float> logits = forward.logits(part);
    try {
      add_logits(logits, part.labels, supernet.config().num_classes, batches.back());
    } catch (const Error& error) {
      RAISE(error.what(), " (of the batch from image ", begin, " on; architecture ", architecture.to_json(), ")");
    }
  }
  return batches;
}

}  // namespace

Evaluation evaluate(const Supernet& supernet, const Architecture& architecture, const EvaluationSet& set, int64_t batch,
                    Communicator* ranks) {
  SingleProcess alone;
  Communicator& all = ranks == nullptr ? alone : *ranks;
  const int64_t size = all.size(), count = (set.size() + batch - 1) / batch, rounds = (count + size - 1) / size;
  std::vector<Evaluation> own = evaluate_batches(supernet, architecture, set, batch, all.rank(), all.size());
  own.resize(static_cast<size_t>(rounds));
  std::vector<Evaluation> gathered(static_cast<size_t>(rounds * size));
  all.gather(own.data(), own.size() * sizeof(Evaluation), gathered.data());
  Evaluation total;
  for (int64_t b = 0; b < count; ++b) {
    const Evaluation& part = gathered[static_cast<size_t>(b % size * rounds + b / size)];
    total.images += part.images;
    total.top1 += part.top1;
    total.top5 += part.top5;
    total.loss += part.loss;
  }
  total.loss /= static_cast<double>(std::max<int64_t>(total.images, 1));
  return total;
}

}  // namespace entangle

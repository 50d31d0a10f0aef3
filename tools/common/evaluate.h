// Top-1, top-5 and loss of an architecture with the supernet's weights.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/evaluation_images.h"
#include "engine/communicator.h"
#include "nn/supernet.h"

namespace entangle {

// Images per forward pass of an evaluation. One value everywhere, so that every program finds the same figures.
inline constexpr int64_t kEvaluationBatch = 100;

// A list of images of a data set, either decoded once and kept as bytes (a search looks at them hundreds of times), or
// decoded when they are needed (a large test set). Batches are normalised when they are asked for.
class EvaluationSet {
 public:
  enum class Keep { no, yes };
  EvaluationSet(std::shared_ptr<const Dataset> dataset, const DataSource& source, std::vector<int64_t> indices,
                int64_t image_size, Keep keep);

  // Of images kept, those that are not broken.
  int64_t size() const { return kept_.count > 0 ? kept_.count : static_cast<int64_t>(indices_.size()); }
  // Images [begin, begin + count) as load_for_evaluation gives them: broken ones are left out.
  Batch load(int64_t begin, int64_t count) const;
  // The images at these positions, 0 .. size() - 1, in their order.
  Batch gather(const std::vector<int64_t>& positions) const;

 private:
  std::shared_ptr<const Dataset> dataset_;
  DataSource source_;
  std::vector<int64_t> indices_;
  int64_t image_size_;
  std::shared_ptr<BrokenImages> broken_;
  EvaluationImages kept_;
  Normalizer normalizer_;
};

// Every image weighs the same. Counts are exact; the loss is summed in double, image after image and batch after batch.
struct Evaluation {
  int64_t images = 0, top1 = 0, top5 = 0;
  double loss = 0;  // mean cross-entropy with the label
  // "top-1 85.12 %  top-5 99.30 %  loss 0.4321  (10000 images)"
  std::string str() const;
  double accuracy() const { return images == 0 ? 0 : static_cast<double>(top1) / static_cast<double>(images); }
};

// Throws Error naming the architecture when a logit is not finite (its rank would mean nothing).
// Several ranks evaluate a share of the batches each; all find the figures that one process finds, to the bit.
Evaluation evaluate(const Supernet& supernet, const Architecture& architecture, const EvaluationSet& set,
                    int64_t batch = kEvaluationBatch, Communicator* ranks = nullptr);

// Adds logits [count, classes] of images with the given labels: a label's rank is the number of classes with a larger
// logit, or with an equal one and a smaller index. `loss` sums here; evaluate() divides at the end.
void add_logits(const std::vector<float>& logits, const std::vector<int64_t>& labels, int64_t classes,
                Evaluation& evaluation);

// By how much the label's logit exceeds the largest of the others: not negative where add_logits counts a top-1 hit, and
// negative where it counts none. Throws Error when a logit is not finite.
float label_margin(const float* logits, int64_t classes, int64_t label);

}  // namespace entangle

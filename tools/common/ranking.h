// Scores the candidates of a search on held-out images with inherited weights, and does no work twice:
//
// - Images are decoded once (EvaluationSet).
// - Candidates of a group that begin alike share the beginning: for each batch of images the group is walked as a tree,
//   whose nodes are blocks behind equal beginnings, and each node is computed once.
// - A candidate is given up as soon as it is certain that it is no more accurate than its bar. The images that the bar
//   gets wrong come first, so that all the candidate can gain on the bar is known early; then those that the bar gets
//   right, by rising margin, where it is likeliest to lose. Once it has lost as many as it can have gained the rest
//   cannot help: no error is made, and a search that uses bars as they are meant finds what it would have found.
// - Several processes score a part of each group, and tell one another all scores: each finds what one process finds.
#pragma once

#include <cstddef>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/communicator.h"
#include "search/search.h"
#include "tools/common/evaluate.h"

namespace entangle {

// What was computed, in units of one image through one block, and what it would have been.
struct RankingWork {
  int64_t blocks = 0;     // computed
  int64_t unshared = 0;   // without sharing beginnings
  int64_t unstopped = 0;  // without giving up either
};

class Ranking : public Evaluator {
 public:
  // All must outlive the ranking. `group` candidates are scored at once, by each of the ranks.
  Ranking(const Supernet& supernet, const EvaluationSet& images, int64_t group, Communicator& ranks)
      : supernet_(supernet), images_(images), group_(group), ranks_(ranks) {}

  int64_t group() const override { return group_ * ranks_.size(); }
  // Throws Error naming the architecture when a logit is not finite. Collective.
  void evaluate(const std::vector<Job>& jobs) override;
  // Whether a rank was asked to stop before the last group was done: all say the same.
  bool stopped() const { return stopped_; }
  // Of all ranks.
  const RankingWork& work() const { return work_; }

 private:
  // label_margin of every image, by position.
  using Margins = std::vector<float>;
  struct Active;

  void score(const std::vector<Job>& jobs);
  void share(const std::vector<Job>& jobs);
  const Margins& margins_of(const Architecture& architecture);
  std::vector<int64_t> order_for(const Margins* bar) const;
  void score(std::vector<Active> active, const Margins* bar);
  // `most`: the right answers that it could have reached.
  void give_up(Active& active, int64_t most) const;
  void complete(Active& active);
  void score_batch(const std::vector<Active*>& active, const std::vector<int64_t>& positions);
  void walk(ResidualStream stream, const std::vector<Active*>& range, int64_t depth, const Batch& batch,
            const std::vector<int64_t>& positions);
  void take_logits(const Tensor& logits, const Batch& batch, const std::vector<int64_t>& positions,
                   Active& active) const;

  const Supernet& supernet_;
  const EvaluationSet& images_;
  int64_t group_;
  Communicator& ranks_;
  RankingWork work_;
  bool stopped_ = false;
  // Of candidates that were scored completely: they may be bars. What a log scored is computed when it is one.
  std::unordered_map<std::string, Margins> known_;
};

}  // namespace entangle

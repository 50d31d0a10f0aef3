#include "tools/common/ranking.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <utility>

#include "engine/check.h"
#include "tools/common/cli.h"

namespace entangle {

struct Ranking::Active {
  Candidate* candidate;
  Margins margins;
  int64_t right = 0, seen = 0;
  int64_t lead = 0;  // right answers more than the bar's on the images seen

  const Architecture& architecture() const { return candidate->architecture; }
};

namespace {

// The jobs [begin, end) of `count` that a rank does: neighbours, which begin alike.
struct Part {
  size_t begin, end;
};
Part part_of(size_t count, int rank, int ranks) {
  const size_t r = static_cast<size_t>(rank), all = static_cast<size_t>(ranks);
  return {count * r / all, count * (r + 1) / all};
}

// What a rank tells of a job, in front of the margins.
struct Score {
  double accuracy;
  int64_t images;
  bool stopped;
};

// What a rank tells of a group.
struct Note {
  RankingWork work;
  bool stopped;
};

}  // namespace

void Ranking::evaluate(const std::vector<Job>& jobs) {
  const Part own = part_of(jobs.size(), ranks_.rank(), ranks_.size());
  const RankingWork before = std::exchange(work_, {});
  const auto first = jobs.begin();
  score({first + static_cast<std::ptrdiff_t>(own.begin), first + static_cast<std::ptrdiff_t>(own.end)});
  const auto notes = ranks_.gather(Note{work_, interrupted()});
  work_ = before;
  for (const Note& note : notes) {
    work_.blocks += note.work.blocks;
    work_.unshared += note.work.unshared;
    work_.unstopped += note.work.unstopped;
    stopped_ = stopped_ || note.stopped;
  }
  if (ranks_.size() > 1) share(jobs);
}

// Every rank gets the scores that the others found, and the margins of what may become a bar.
void Ranking::share(const std::vector<Job>& jobs) {
  const size_t slots = jobs.size() / static_cast<size_t>(ranks_.size()) + 1;
  const size_t margins = static_cast<size_t>(images_.size()) * sizeof(float), slot = sizeof(Score) + margins;
  std::vector<char> sent(slots * slot), all(sent.size() * static_cast<size_t>(ranks_.size()));
  const Part mine = part_of(jobs.size(), ranks_.rank(), ranks_.size());
  for (size_t i = mine.begin; i < mine.end; ++i) {
    const Candidate& candidate = *jobs[i].candidate;
    const Score score = {candidate.accuracy, candidate.images, candidate.stopped};
    char* const place = sent.data() + (i - mine.begin) * slot;
    std::memcpy(place, &score, sizeof score);
    if (!score.stopped) {
      std::memcpy(place + sizeof score, known_.at(candidate.architecture.to_json()).data(), margins);
    }
  }
  ranks_.gather(sent.data(), sent.size(), all.data());
  for (int rank = 0; rank < ranks_.size(); ++rank) {
    const Part part = part_of(jobs.size(), rank, ranks_.size());
    const char* place = all.data() + static_cast<size_t>(rank) * sent.size();
    for (size_t i = part.begin; i < part.end; ++i, place += slot) {
      Candidate& candidate = *jobs[i].candidate;
      Score score;
      std::memcpy(&score, place, sizeof score);
      candidate.accuracy = score.accuracy;
      candidate.images = score.images;
      candidate.stopped = score.stopped;
      if (score.stopped || rank == ranks_.rank()) continue;
      Margins found(static_cast<size_t>(images_.size()));
      std::memcpy(found.data(), place + sizeof score, margins);
      known_.emplace(candidate.architecture.to_json(), std::move(found));
    }
  }
}

void Ranking::score(const std::vector<Job>& jobs) {
  // Candidates of one bar see the images in one order.
  std::map<const Candidate*, std::vector<Active>> by_bar;
  for (const Job& job : jobs) {
    Active active = {job.candidate, Margins(static_cast<size_t>(images_.size())), 0, 0, 0};
    by_bar[job.bar].push_back(std::move(active));
  }
  for (auto& [bar, active] : by_bar) score(std::move(active), bar ? &margins_of(bar->architecture) : nullptr);
}

const Ranking::Margins& Ranking::margins_of(const Architecture& architecture) {
  const auto found = known_.find(architecture.to_json());
  if (found != known_.end()) return found->second;
  const RankingWork before = work_;
  Candidate again;
  again.architecture = architecture;
  score({{&again, Margins(static_cast<size_t>(images_.size())), 0, 0, 0}}, nullptr);
  work_ = before;
  return known_.at(architecture.to_json());
}

std::vector<int64_t> Ranking::order_for(const Margins* bar) const {
  std::vector<int64_t> order(static_cast<size_t>(images_.size()));
  std::iota(order.begin(), order.end(), 0);
  if (bar == nullptr) return order;
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return (*bar)[static_cast<size_t>(a)] < (*bar)[static_cast<size_t>(b)];
  });
  return order;
}

void Ranking::score(std::vector<Active> all, const Margins* bar) {
  const std::vector<int64_t> order = order_for(bar);
  const auto bar_is_right = [&](int64_t position) { return (*bar)[static_cast<size_t>(position)] >= 0; };
  const int64_t bar_total = bar ? std::count_if(order.begin(), order.end(), bar_is_right) : 0;
  int64_t gains = images_.size() - bar_total;  // images to come that the bar gets wrong: what can be gained on it
  std::vector<Active*> active;
  for (Active& one : all) active.push_back(&one);
  std::sort(active.begin(), active.end(),
            [](const Active* a, const Active* b) { return precedes(a->architecture(), b->architecture()); });
  for (int64_t begin = 0; begin < images_.size() && !active.empty(); begin += kEvaluationBatch) {
    const int64_t end = std::min(begin + kEvaluationBatch, images_.size());
    const std::vector<int64_t> positions(order.begin() + begin, order.begin() + end);
    score_batch(active, positions);
    if (bar == nullptr || end == images_.size()) continue;
    const int64_t bar_right = std::count_if(positions.begin(), positions.end(), bar_is_right);
    gains -= end - begin - bar_right;
    const auto settle = [&](Active* one) {
      one->lead -= bar_right;
      if (one->lead + gains > 0) return false;
      give_up(*one, bar_total + one->lead + gains);
      return true;
    };
    active.erase(std::remove_if(active.begin(), active.end(), settle), active.end());
  }
  for (const Active& one : all) work_.unstopped += images_.size() * one.architecture().depth;
  for (Active* one : active) complete(*one);
}

void Ranking::give_up(Active& active, int64_t most) const {
  active.candidate->stopped = true;
  active.candidate->accuracy = static_cast<double>(most) / static_cast<double>(images_.size());
  active.candidate->images = active.seen;
}

void Ranking::complete(Active& active) {
  active.candidate->stopped = false;
  active.candidate->accuracy = static_cast<double>(active.right) / static_cast<double>(images_.size());
  active.candidate->images = active.seen;
  known_.emplace(active.architecture().to_json(), std::move(active.margins));
}

void Ranking::score_batch(const std::vector<Active*>& active, const std::vector<int64_t>& positions) {
  const SupernetConfig& model = supernet_.config();
  const Batch batch = images_.gather(positions);
  const Tensor images = Tensor::from({batch.count, model.in_channels, model.image_size, model.image_size}, batch.images,
                                     supernet_.parameters().device());
  for (size_t begin = 0; begin < active.size();) {
    const int width = active[begin]->architecture().embed_dim;
    size_t end = begin;
    while (end < active.size() && active[end]->architecture().embed_dim == width) ++end;
    const auto first = active.begin();
    walk(supernet_.stem(images, width),
         {first + static_cast<std::ptrdiff_t>(begin), first + static_cast<std::ptrdiff_t>(end)}, 0, batch, positions);
    begin = end;
  }
}

// The candidates of `range`, sorted, agree in their first `depth` blocks, behind which the stream is. Streams are kept
// where candidates part only.
void Ranking::walk(ResidualStream stream, const std::vector<Active*>& range, int64_t depth, const Batch& batch,
                   const std::vector<int64_t>& positions) {
  for (size_t begin = 0; begin < range.size();) {
    const Architecture& first = range[begin]->architecture();
    if (first.depth == depth) {
      take_logits(supernet_.head(stream), batch, positions, *range[begin++]);
      continue;
    }
    const size_t at = static_cast<size_t>(depth);
    std::vector<Active*> alike;
    for (; begin < range.size(); ++begin) {
      const Architecture& next = range[begin]->architecture();
      if (next.num_heads[at] != first.num_heads[at] || next.mlp_ratio[at] != first.mlp_ratio[at]) break;
      alike.push_back(range[begin]);
    }
    work_.blocks += batch.count;
    work_.unshared += batch.count * static_cast<int64_t>(alike.size());
    ResidualStream behind = supernet_.block(stream, depth, first.num_heads[at], first.mlp_ratio[at]);
    if (begin == range.size()) stream = {};
    walk(std::move(behind), alike, depth + 1, batch, positions);
  }
}

void Ranking::take_logits(const Tensor& logits, const Batch& batch, const std::vector<int64_t>& positions,
                          Active& active) const {
  const int64_t classes = supernet_.config().num_classes;
  const std::vector<float> values = logits.to_vector();
  for (int64_t i = 0; i < batch.count; ++i) {
    const size_t at = static_cast<size_t>(i);
    try {
      const float margin = label_margin(values.data() + i * classes, classes, batch.labels[at]);
      active.margins[static_cast<size_t>(positions[at])] = margin;
      active.right += margin >= 0;
      active.lead += margin >= 0;
    } catch (const Error& error) {
      RAISE(error.what(), " (architecture ", active.architecture().to_json(), ")");
    }
  }
  active.seen += batch.count;
}

}  // namespace entangle

#include "tools/common/ranking.h"

#include <cmath>
#include <limits>
#include <memory>
#include <set>
#include <string>

#include "engine/parallel.h"
#include "search/search_log.h"
#include "tests/expect_error.h"
#include "tests/search/small_search.h"
#include "tests/small_supernet.h"
#include "tests/temporary_directory.h"
#include "tests/thread_ranks.h"
#include "tools/common/counting_dataset.h"
#include "tools/common/model_costs.h"

namespace entangle {
namespace {

using small_search::read;

constexpr int64_t kImages = 530;  // six batches, the last one torn

// Noise in one of five patterns.
class Patterns : public Dataset {
 public:
  int64_t size() const override { return kImages; }
  int64_t classes() const override { return 5; }
  int64_t channels() const override { return 2; }
  int64_t label(int64_t index) const override { return index * 7 % 5; }
  void get(int64_t index, Image& image) const override {
    image.height = image.width = 12;
    image.channels = 2;
    image.pixels.resize(288);
    Rng rng(3, Stream::synthetic, static_cast<uint64_t>(index));
    for (size_t i = 0; i < image.pixels.size(); ++i) {
      const bool marked = static_cast<int64_t>(i / 2) % 5 == label(index);
      image.pixels[i] = static_cast<uint8_t>(rng.below(marked ? 255 : 140));
    }
  }
};

SearchSpace net_space() { return {{1, 2, 3}, {8, 16, 24}, {1, 1.5, 2}, {1, 2, 3}}; }

// A supernet with random weights tells the classes apart as well as chance does, and architectures differ.
struct World {
  World() : net(small_config(), 5) {
    set_threads(1);  // work this small only waits for others
    source.train = dataset;
    source.mean = {0.3f, 0.3f}, source.std_dev = {0.2f, 0.2f};
    std::vector<int64_t> indices(kImages);
    for (int64_t i = 0; i < kImages; ++i) indices[static_cast<size_t>(i)] = kImages - 1 - i;
    images = std::make_unique<EvaluationSet>(dataset, source, indices, 12, EvaluationSet::Keep::yes);
  }
  ~World() { set_threads(0); }
  SearchResult search_with(const SearchOptions& options, Evaluator& evaluator, const std::string& path = "",
                           const SearchProgress& progress = nullptr) const {
    SearchLog log(path);
    return search(model_costs(net.config(), net_space(), 1), options, evaluator, log, progress);
  }

  std::shared_ptr<CountingDataset> dataset = std::make_shared<CountingDataset>(std::make_shared<Patterns>());
  DataSource source;
  Supernet net;
  std::unique_ptr<EvaluationSet> images;
  mutable SingleProcess ranks;
};

SearchOptions net_options() {
  SearchOptions options;
  options.population = 10, options.generations = 4, options.top = 2, options.mutations = 5, options.crossovers = 4;
  options.seed = 2;
  return options;
}

std::vector<Candidate> some_candidates(size_t count) {
  Rng rng(1, Stream::architecture);
  std::set<std::string> seen;
  std::vector<Candidate> out;
  while (out.size() < count) {
    Candidate candidate;
    candidate.architecture = net_space().sample(rng);
    if (seen.insert(candidate.architecture.to_json()).second) out.push_back(candidate);
  }
  return out;
}

TEST(LabelMargin, HasTheSignOfATop1Hit) {
  Rng rng(4, Stream::synthetic);
  for (int i = 0; i < 2000; ++i) {
    std::vector<float> logits(4);
    for (float& logit : logits) logit = static_cast<float>(rng.below(3));  // many ties
    const int64_t label = rng.below(4);
    Evaluation evaluation;
    add_logits(logits, {label}, 4, evaluation);
    EXPECT_EQ(label_margin(logits.data(), 4, label) >= 0, evaluation.top1 == 1);
  }
  const float broken[] = {0, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_THROW(label_margin(broken, 2, 0), Error);
}

TEST(EvaluationSet, GathersByPosition) {
  const World world;
  const Batch whole = world.images->load(0, kImages), some = world.images->gather({5, 500, 5});
  EXPECT_EQ(some.count, 3);
  EXPECT_EQ(some.labels, (std::vector<int64_t>{whole.labels[5], whole.labels[500], whole.labels[5]}));
  EXPECT_TRUE(std::equal(some.images.begin() + 288, some.images.begin() + 576, whole.images.begin() + 500 * 288));
}

TEST(Ranking, ScoresAsEachAloneAndComputesSharedBeginningsOnce) {
  const World world;
  std::vector<Candidate> candidates = some_candidates(15);
  std::vector<Evaluator::Job> jobs;
  std::set<std::string> nodes;
  int64_t alone = 0;
  for (Candidate& candidate : candidates) {
    jobs.push_back({&candidate, nullptr});
    const Architecture& a = candidate.architecture;
    alone += a.depth * kImages;
    std::string node = std::to_string(a.embed_dim);
    for (size_t i = 0; i < a.num_heads.size(); ++i) {
      node += concat("/", a.num_heads[i], ",", a.mlp_ratio[i]);
      nodes.insert(node);
    }
  }
  Ranking ranking(world.net, *world.images, 15, world.ranks);
  reset_counted_macs();
  ranking.evaluate(jobs);
  const int64_t shared = counted_macs();
  reset_counted_macs();
  for (const Candidate& candidate : candidates) {
    const Evaluation want = evaluate(world.net, candidate.architecture, *world.images);
    EXPECT_EQ(candidate.accuracy, want.accuracy()) << candidate.architecture.to_json();
    EXPECT_EQ(candidate.images, kImages);
    EXPECT_FALSE(candidate.stopped);
  }
  EXPECT_LT(shared, counted_macs());
  EXPECT_EQ(ranking.work().blocks, static_cast<int64_t>(nodes.size()) * kImages);
  EXPECT_EQ(ranking.work().unshared, alone);
  EXPECT_EQ(ranking.work().unstopped, alone);
  EXPECT_LT(ranking.work().blocks, alone);
}

// Every candidate against every bar: given up only when it is no more accurate, and with an accuracy that it has at most.
TEST(Ranking, GivesUpOnlyWhatIsNoMoreAccurate) {
  const World world;
  std::vector<Candidate> complete = some_candidates(12);
  Ranking ranking(world.net, *world.images, 12, world.ranks);
  std::vector<Evaluator::Job> jobs;
  for (Candidate& candidate : complete) jobs.push_back({&candidate, nullptr});
  ranking.evaluate(jobs);
  int64_t stopped = 0, seen = 0;
  for (const Candidate& bar : complete) {
    std::vector<Candidate> again = complete;
    jobs.clear();
    for (Candidate& candidate : again) jobs.push_back({&candidate, &bar});
    ranking.evaluate(jobs);
    for (size_t i = 0; i < again.size(); ++i) {
      seen += again[i].images;
      stopped += again[i].stopped;
      if (again[i].stopped) {
        EXPECT_LE(complete[i].accuracy, again[i].accuracy);
        EXPECT_LE(again[i].accuracy, bar.accuracy);
        EXPECT_LT(again[i].images, kImages);
      } else {
        EXPECT_EQ(again[i].accuracy, complete[i].accuracy);
        EXPECT_EQ(again[i].images, kImages);
      }
    }
  }
  EXPECT_GT(stopped, 20) << "of 144";
  EXPECT_LT(seen, 144 * kImages);
}

TEST(Ranking, ASearchThatGivesUpFindsAndDrawsWhatACompleteOneDoes) {
  const World world;
  for (const char* algorithm : {"evolution", "random"}) {
    SearchOptions options = net_options();
    options.algorithm = algorithm;
    Ranking quick(world.net, *world.images, 5, world.ranks), thorough(world.net, *world.images, 1, world.ranks);
    const SearchResult found = world.search_with(options, quick);
    options.early_stop = false;
    const SearchResult want = world.search_with(options, thorough);
    ASSERT_EQ(found.candidates.size(), want.candidates.size());
    int64_t stopped = 0;
    for (size_t i = 0; i < want.candidates.size(); ++i) {
      EXPECT_EQ(found.candidates[i].architecture, want.candidates[i].architecture) << i;
      stopped += found.candidates[i].stopped;
    }
    EXPECT_GT(stopped, 0);
    EXPECT_EQ(found.best.architecture, want.best.architecture);
    EXPECT_EQ(found.best.accuracy, want.best.accuracy);
    EXPECT_LT(quick.work().blocks, thorough.work().blocks);
  }
}

// What was scored before the kill is known from the log alone: a bar's margins are computed anew.
TEST(Ranking, AKilledSearchEndsWithTheSameLog) {
  TemporaryDirectory dir;
  const World world;
  for (const char* algorithm : {"evolution", "random", "nsga2"}) {
    SearchOptions options = net_options();
    options.algorithm = algorithm;
    options.generations = 3;
    const std::string whole = dir.path(concat(algorithm, "-whole")), log = dir.path(concat(algorithm, "-cut"));
    Ranking ranking(world.net, *world.images, 5, world.ranks);
    const SearchResult want = world.search_with(options, ranking, whole);
    const std::string bytes = read(whole);
    EXPECT_NE(bytes.find("\"stopped\":true"), std::string::npos) << algorithm;
    // At every sixth line's end, and within the line behind it.
    size_t line = 0;
    for (size_t end = bytes.find('\n'); end != std::string::npos; end = bytes.find('\n', end + 1)) {
      if (line++ % 6 != 0) continue;
      small_search::write(log, bytes.substr(0, end + 1 + line % 2 * 20));
      Ranking again(world.net, *world.images, 5, world.ranks);
      small_search::expect_same(world.search_with(options, again, log), want);
      ASSERT_EQ(read(log), bytes) << algorithm << line;
    }
  }
}

// All ranks find what one process finds, to the bit; margins of other ranks' candidates serve as bars.
TEST(Ranking, RanksFindWhatOneProcessFinds) {
  TemporaryDirectory dir;
  const World world;
  SearchOptions options = net_options();
  options.algorithm = "nsga2";
  Ranking alone(world.net, *world.images, 5, world.ranks);
  const SearchResult want = world.search_with(options, alone, dir.path("alone"));
  for (const int size : {2, 3}) {
    std::vector<SearchResult> found(static_cast<size_t>(size));
    std::vector<RankingWork> work(found.size());
    ThreadRanks::run(size, [&](Communicator& ranks) {
      const size_t rank = static_cast<size_t>(ranks.rank());
      Ranking ranking(world.net, *world.images, 5, ranks);
      found[rank] = world.search_with(options, ranking, dir.path(concat(size, "-", rank)));
      work[rank] = ranking.work();
    });
    for (size_t rank = 0; rank < found.size(); ++rank) {
      small_search::expect_same(found[rank], want);
      EXPECT_EQ(read(dir.path(concat(size, "-", rank))), read(dir.path("alone"))) << size << rank;
      EXPECT_EQ(work[rank].unstopped, alone.work().unstopped);
      EXPECT_EQ(work[rank].unshared, alone.work().unshared);
      EXPECT_EQ(work[rank].blocks, work[0].blocks);
    }
  }
}

TEST(Ranking, ImagesAreDecodedOnce) {
  const World world;
  const int64_t decoded = world.dataset->read();
  Ranking ranking(world.net, *world.images, 5, world.ranks);
  world.search_with(net_options(), ranking);
  EXPECT_EQ(world.dataset->read(), decoded);
}

TEST(Ranking, NamesTheArchitectureWhoseLogitsAreBroken) {
  World world;
  world.net.parameters().values()[0] = std::numeric_limits<float>::quiet_NaN();
  std::vector<Candidate> candidates = some_candidates(1);
  Ranking ranking(world.net, *world.images, 1, world.ranks);
  const std::string message = small_search::message_of([&] { ranking.evaluate({{&candidates[0], nullptr}}); });
  small_search::expect_contains(message, "not finite");
  small_search::expect_contains(message, candidates[0].architecture.to_json());
}

}  // namespace
}  // namespace entangle

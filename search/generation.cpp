#include "search/generation.h"

#include <algorithm>
#include <utility>

#include "engine/check.h"
#include "search/draw.h"

namespace entangle {
namespace {

// A random draw gives up after this many refused ones. A space of at most kEnumerable architectures is then searched
// completely, so that "none is left" is proven; a larger one by walks into the limits' window.
constexpr int kUniformDraws = 1000;
constexpr double kEnumerable = 10000;
constexpr int kWalks = 20, kWalkSteps = 500;
constexpr int64_t kAttemptsPerChild = 10;

}  // namespace

std::vector<Candidate> most_accurate(const std::vector<Candidate>& candidates, int64_t count) {
  std::vector<Candidate> sorted = candidates;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Candidate& a, const Candidate& b) { return a.accuracy > b.accuracy; });
  sorted.resize(std::min(sorted.size(), static_cast<size_t>(count)));
  return sorted;
}

CandidateSource::CandidateSource(const SearchSpace& space, const SearchOptions& options, const ParameterCount& params)
    : space_(space), options_(options), params_(params), range_(parameter_range(space, params)) {
  limits_.min = options.min_params;
  limits_.max = options.max_params > 0 ? options.max_params : std::numeric_limits<int64_t>::max();
  CHECK(limits_.min <= range_.max, "min_params is ", limits_.min,
        ", but no architecture of the space is that large: ", "they have ", range_.min, " to ", range_.max,
        " parameters");
  CHECK(limits_.max >= range_.min, "max_params is ", limits_.max,
        ", but no architecture of the space is that small: ", "they have ", range_.min, " to ", range_.max,
        " parameters");
}

std::vector<Candidate> CandidateSource::generation(int64_t number, const std::vector<Candidate>& past) {
  Rng rng(options_.seed, Stream::search, static_cast<uint64_t>(number));
  std::vector<Candidate> out;
  if (number > 0 && options_.algorithm == "evolution") {
    const std::vector<Candidate> parents = most_accurate(past, options_.top);
    add_mutations(parents, rng, out);
    add_crossovers(parents, rng, out);
  }
  while (static_cast<int64_t>(out.size()) < options_.population) {
    std::optional<Candidate> candidate = random(rng);
    if (!candidate) break;
    out.push_back(*std::move(candidate));
  }
  if (out.empty() && past.empty()) fail_empty();
  for (Candidate& candidate : out) candidate.generation = number;
  return out;
}

// --------------------------------------------------------------------------------------------------------- legality

int64_t CandidateSource::measure(const Architecture& architecture) {
  const int64_t params = params_(architecture);
  if (params < limits_.min) nearest_below_ = std::max(nearest_below_, params);
  if (params > limits_.max) nearest_above_ = std::min(nearest_above_, params);
  return params;
}

bool CandidateSource::is_legal(const Architecture& architecture, int64_t params) {
  return params >= limits_.min && params <= limits_.max && drawn_.count(architecture.to_json()) == 0;
}

std::optional<Candidate> CandidateSource::admit(const Architecture& architecture) {
  const int64_t params = measure(architecture);
  if (!is_legal(architecture, params)) return std::nullopt;
  drawn_.insert(architecture.to_json());
  Candidate candidate;
  candidate.architecture = architecture;
  candidate.params = params;
  return candidate;
}

void CandidateSource::fail_empty() const {
  const bool complete = space_.count() <= kEnumerable;
  std::string nearest;
  if (nearest_below_ != std::numeric_limits<int64_t>::min()) nearest += concat(" ", nearest_below_, " below");
  if (nearest_above_ != std::numeric_limits<int64_t>::max())
    nearest += concat(nearest.empty() ? " " : " and ", nearest_above_, " above");
  RAISE("no architecture with ", limits_.min, " to ", limits_.max, " parameters ",
        complete ? concat("exists among the ", space_.count(), " of the space")
                 : concat("was found in ", kUniformDraws, " random draws and ", kWalks, " walks towards the limits"),
        "; the space ranges from ", range_.min, " to ", range_.max, ", and nearest are", nearest,
        ": widen min_params and max_params");
}

// ----------------------------------------------------------------------------------------------------------- random

std::optional<Candidate> CandidateSource::random(Rng& rng) {
  if (std::optional<Candidate> candidate = uniform(rng)) return candidate;
  return space_.count() <= kEnumerable ? enumerated(rng) : walked(rng);
}

std::optional<Candidate> CandidateSource::uniform(Rng& rng) {
  for (int i = 0; i < kUniformDraws; ++i) {
    if (std::optional<Candidate> candidate = admit(space_.sample(rng))) return candidate;
  }
  return std::nullopt;
}

std::optional<Candidate> CandidateSource::enumerated(Rng& rng) {
  std::vector<Architecture> legal;
  const int64_t count = static_cast<int64_t>(space_.count());
  for (int64_t i = 0; i < count; ++i) {
    Architecture architecture = architecture_at(space_, i);
    if (is_legal(architecture, measure(architecture))) legal.push_back(std::move(architecture));
  }
  if (legal.empty()) return std::nullopt;
  return admit(legal[static_cast<size_t>(rng.below(static_cast<int64_t>(legal.size())))]);
}

// Uniform draws hardly ever meet a window near an end of the space's range. From a random architecture, genes are made
// smaller while it is too large and larger while it is too small; within the window, where only drawn ones remain, the
// walk goes on in either direction.
std::optional<Candidate> CandidateSource::walked(Rng& rng) {
  for (int walk = 0; walk < kWalks; ++walk) {
    Architecture architecture = space_.sample(rng);
    for (int i = 0; i < kWalkSteps; ++i) {
      if (std::optional<Candidate> candidate = admit(architecture)) return candidate;
      const int64_t params = measure(architecture);
      const bool shrink = params > limits_.max || (params >= limits_.min && rng.chance(0.5));
      architecture = step_gene(space_, architecture, shrink ? -1 : 1, rng);
    }
  }
  return std::nullopt;
}

// --------------------------------------------------------------------------------------------------------- children

void CandidateSource::add_mutations(const std::vector<Candidate>& parents, Rng& rng, std::vector<Candidate>& out) {
  int64_t missing = options_.mutations;
  for (int64_t i = 0; i < kAttemptsPerChild * options_.mutations && missing > 0; ++i) {
    const Architecture& parent =
        parents[static_cast<size_t>(rng.below(static_cast<int64_t>(parents.size())))].architecture;
    std::optional<Candidate> child = admit(mutate(space_, parent, options_.mutate_block, options_.mutate_shape, rng));
    if (!child) continue;
    out.push_back(*std::move(child));
    --missing;
  }
}

void CandidateSource::add_crossovers(const std::vector<Candidate>& parents, Rng& rng, std::vector<Candidate>& out) {
  // Every pair of different parents that has a common depth is equally likely.
  std::vector<std::pair<const Architecture*, const Architecture*>> pairs;
  for (size_t a = 0; a < parents.size(); ++a) {
    for (size_t b = a + 1; b < parents.size(); ++b) {
      if (parents[a].architecture.depth != parents[b].architecture.depth) continue;
      pairs.emplace_back(&parents[a].architecture, &parents[b].architecture);
    }
  }
  int64_t missing = pairs.empty() ? 0 : options_.crossovers;
  for (int64_t i = 0; i < kAttemptsPerChild * options_.crossovers && missing > 0; ++i) {
    const auto& pair = pairs[static_cast<size_t>(rng.below(static_cast<int64_t>(pairs.size())))];
    std::optional<Candidate> child = admit(cross(*pair.first, *pair.second, rng));
    if (!child) continue;
    out.push_back(*std::move(child));
    --missing;
  }
}

}  // namespace entangle

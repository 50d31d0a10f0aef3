#include "data/dataset.h"

#include <algorithm>
#include <numeric>

#include "data/readers.h"
#include "engine/check.h"
#include "engine/rng.h"

namespace entangle {

namespace {

struct Reader {
  const char* name;
  const char* usage;
  DataSource (*open)(const std::string& location);
};

constexpr Reader kReaders[] = {
    {"fashion-mnist", "fashion-mnist[:DIR]", open_fashion_mnist},
    {"imagenet", "imagenet:DIR", open_imagenet},
    {"folder", "folder:DIR", open_image_folder},
};

std::string known_data() {
  std::string list;
  for (const Reader& reader : kReaders) list += (list.empty() ? "" : ", ") + std::string(reader.usage);
  return list;
}

std::vector<std::vector<int64_t>> indices_by_class(const Dataset& dataset) {
  std::vector<std::vector<int64_t>> members(dataset.classes());
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const int64_t label = dataset.label(i);
    CHECK(label >= 0 && label < dataset.classes(), "image ", i, " has the label ", label, ", but the data set has ",
          dataset.classes(), " classes");
    members[label].push_back(i);
  }
  return members;
}

// How many of each class are held out: one of each class in turn, in a random order, while the class has any left.
std::vector<int64_t> quotas(const std::vector<std::vector<int64_t>>& members, int64_t held_out, Rng& rng) {
  std::vector<int64_t> turn(members.size()), quota(members.size(), 0);
  std::iota(turn.begin(), turn.end(), 0);
  shuffle(rng, turn.data(), static_cast<int64_t>(turn.size()));
  for (int64_t placed = 0; placed < held_out;) {
    for (size_t t = 0; t < turn.size() && placed < held_out; ++t) {
      const int64_t c = turn[t];
      if (quota[c] == static_cast<int64_t>(members[c].size())) continue;
      ++quota[c];
      ++placed;
    }
  }
  return quota;
}

}  // namespace

DataSource open_data(const std::string& spec) {
  const size_t colon = spec.find(':');
  const std::string name = spec.substr(0, colon);
  const std::string location = colon == std::string::npos ? "" : spec.substr(colon + 1);
  CHECK(colon == std::string::npos || !location.empty(), "the data specification \"", spec,
        "\" names nothing after its colon; known are: ", known_data());
  for (const Reader& reader : kReaders) {
    if (name != reader.name) continue;
    DataSource source = reader.open(location);
    source.spec = spec;
    return source;
  }
  RAISE("there is no data set \"", name, "\" (in --data ", spec, "); known are: ", known_data());
}

Split make_split(const Dataset& dataset, int64_t held_out, uint64_t seed) {
  CHECK(held_out >= 0 && held_out < dataset.size(), "cannot hold out ", held_out, " of ", dataset.size(),
        " training images: it must be at least 0 and leave one to train on");
  Rng rng(seed, Stream::split);
  std::vector<std::vector<int64_t>> members = indices_by_class(dataset);
  const std::vector<int64_t> quota = quotas(members, held_out, rng);
  Split split;
  for (size_t c = 0; c < members.size(); ++c) {
    shuffle(rng, members[c].data(), static_cast<int64_t>(members[c].size()));
    const auto middle = members[c].begin() + quota[c];
    split.held_out.insert(split.held_out.end(), members[c].begin(), middle);
    split.train.insert(split.train.end(), middle, members[c].end());
  }
  std::sort(split.held_out.begin(), split.held_out.end());
  std::sort(split.train.begin(), split.train.end());
  return split;
}

}  // namespace entangle

#include "data/dataset.h"

#include <algorithm>
#include <numeric>

#include "data/readers.h"
#include "engine/check.h"
#include "engine/rng.h"

namespace entangle {

namespace {

// Few readers have options.
class Reader {
 public:
  using Open = DataSource (*)(const std::string& location);
  using OpenWithOptions = DataSource (*)(const std::string& location, const DataOptions& options);
  constexpr Reader(const char* name, const char* usage, Open open) : name(name), usage(usage), open_(open) {}
  constexpr Reader(const char* name, const char* usage, OpenWithOptions open)
      : name(name), usage(usage), open_with_options_(open) {}

  DataSource open(const std::string& location, const DataOptions& options) const {
    return open_ ? open_(location) : open_with_options_(location, options);
  }

  const char* const name;
  const char* const usage;

 private:
  Open open_ = nullptr;
  OpenWithOptions open_with_options_ = nullptr;
};

constexpr Reader kReaders[] = {
    {"fashion-mnist", "fashion-mnist[:DIR]", open_fashion_mnist},
    {"imagenet", "imagenet:DIR", open_imagenet},
    {"folder", "folder:DIR", open_image_folder},
    {"wds", "wds:PATTERN", open_shards},
    {"cifar10", "cifar10:DIR", open_cifar10},
    {"cifar100", "cifar100:DIR", open_cifar100},
    {"flowers102", "flowers102:DIR", open_flowers102},
    {"cars", "cars:DIR", open_cars},
    {"pets", "pets:DIR", open_pets},
    {"inat18", "inat18:DIR[,category=RANK]", open_inaturalist2018},
    {"inat19", "inat19:DIR[,category=RANK]", open_inaturalist2019},
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

// Takes its quota out of every class at random.
Split draw_split(std::vector<std::vector<int64_t>> members, const std::vector<int64_t>& quota, Rng& rng) {
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

}  // namespace

std::vector<int64_t> Dataset::epoch_order(const std::vector<int64_t>& indices, uint64_t seed, int64_t epoch) const {
  std::vector<int64_t> order = indices;
  Rng rng(seed, Stream::data_order, static_cast<uint64_t>(epoch));
  shuffle(rng, order.data(), static_cast<int64_t>(order.size()));
  return order;
}

DataSource open_data(const std::string& spec, const DataOptions& options) {
  const size_t colon = spec.find(':');
  const std::string name = spec.substr(0, colon);
  const std::string location = colon == std::string::npos ? "" : spec.substr(colon + 1);
  CHECK(colon == std::string::npos || !location.empty(), "the data specification \"", spec,
        "\" names nothing after its colon; known are: ", known_data());
  for (const Reader& reader : kReaders) {
    if (name != reader.name) continue;
    DataSource source = reader.open(location, options);
    source.spec = spec;
    return source;
  }
  RAISE("there is no data set \"", name, "\" (in --data ", spec, "); known are: ", known_data());
}

Split make_split(const Dataset& dataset, int64_t held_out, uint64_t seed) {
  CHECK(held_out >= 0 && held_out < dataset.size(), "cannot hold out ", held_out, " of ", dataset.size(),
        " training images: it must be at least 0 and leave one to train on");
  Rng rng(seed, Stream::split);
  const std::vector<std::vector<int64_t>> members = indices_by_class(dataset);
  const std::vector<int64_t> quota = quotas(members, held_out, rng);
  return draw_split(members, quota, rng);
}

Split make_class_split(const Dataset& dataset, int64_t per_class, uint64_t seed) {
  CHECK(per_class >= 1, "cannot hold out ", per_class, " images of each class: it must be at least 1");
  Rng rng(seed, Stream::split);
  const std::vector<std::vector<int64_t>> members = indices_by_class(dataset);
  for (size_t c = 0; c < members.size(); ++c) {
    CHECK(static_cast<int64_t>(members[c].size()) > per_class, "cannot hold out ", per_class, " images of class ", c,
          ", which has ", members[c].size(), ": one must be left to train on");
  }
  return draw_split(members, std::vector<int64_t>(members.size(), per_class), rng);
}

}  // namespace entangle

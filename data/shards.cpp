// WebDataset tar shards.
//
// An index of (shard, place, label) is made once from the headers: about one small read a sample. Images are then read
// where they lie. Training goes through the shards one after another, in a random order, and mixes samples in a buffer as
// they pass: what is read next lies close behind what was read, so that a disk or a network file system can read ahead.
#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <numeric>
#include <utility>

#include "data/decode.h"
#include "data/gzip.h"
#include "data/readers.h"
#include "data/shard_names.h"
#include "data/stages.h"
#include "data/tar_file.h"
#include "engine/check.h"
#include "engine/parallel.h"
#include "engine/rng.h"
#include "engine/safetensors_header.h"

namespace entangle {

namespace {

namespace fs = std::filesystem;

constexpr int32_t kMostClasses = 1000000;
constexpr uint64_t kLongestLabel = 64, kLargestClassList = 1 << 26;

// 24 bytes: ImageNet's index takes 31 MB.
struct Sample {
  uint64_t begin;  // of the image's header in its shard
  uint32_t bytes;  // of the image
  uint32_t shard;
  int32_t label;
};

bool is_image(const std::string& kind) { return kind == "jpg" || kind == "jpeg" || kind == "png" || kind == "bmp"; }

// Decimal digits between blanks; -1 for anything else.
int32_t parse_label(const std::string& text) {
  const char* const blanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(blanks), end = text.find_last_not_of(blanks) + 1;
  if (begin == std::string::npos || end - begin > 7) return -1;
  const std::string digits = text.substr(begin, end - begin);
  if (digits.find_first_not_of("0123456789") != std::string::npos) return -1;
  return static_cast<int32_t>(std::stol(digits));
}

// Gathers the members of one sample after another.
class ShardScan {
 public:
  ShardScan(const TarFile& file, uint32_t shard) : path_(file.path()), reader_(file.reader()), shard_(shard) {}

  std::vector<Sample> run() {
    TarMember member;
    std::string sample, kind;
    while (reader_.next(member)) {
      if (!split_member_name(member.name, sample, kind)) continue;
      if (sample != sample_) finish();
      sample_ = sample;
      if (is_image(kind)) take_image(member);
      if (kind == "cls") take_label(member);
    }
    finish();
    return std::move(samples_);
  }

 private:
  void take_image(const TarMember& member) {
    CHECK(!has_image_, path_, ": the sample ", in_quotes(sample_), " has two images, ", in_quotes(member.name),
          " among them");
    CHECK(member.size <= kLargestImageFile, path_, ": the image ", in_quotes(member.name), " has ", member.size,
          " bytes, more than the ", kLargestImageFile, " that one may have");
    current_ = {member.begin, static_cast<uint32_t>(member.size), shard_, current_.label};
    has_image_ = true;
  }

  void take_label(const TarMember& member) {
    CHECK(!has_label_, path_, ": the sample ", in_quotes(sample_), " has two labels");
    current_.label = parse_label(reader_.content(member, kLongestLabel));
    CHECK(current_.label >= 0 && current_.label < kMostClasses, path_, ": ", in_quotes(member.name),
          " holds no class: it must be a number of 0 to ", kMostClasses - 1);
    has_label_ = true;
  }

  // A sample with neither is something else's.
  void finish() {
    CHECK(has_image_ || !has_label_, path_, ": the sample ", in_quotes(sample_),
          " has a label but no image (.jpg, .jpeg, .png, .bmp)");
    CHECK(has_label_ || !has_image_, path_, ": the sample ", in_quotes(sample_),
          " has an image but no label (.cls, the number of its class)");
    if (has_image_) samples_.push_back(current_);
    current_ = {};
    has_image_ = has_label_ = false;
  }

  const std::string& path_;
  TarReader reader_;
  uint32_t shard_;
  std::vector<Sample> samples_;
  Sample current_ = {};
  std::string sample_;
  bool has_image_ = false, has_label_ = false;
};

class ShardDataset : public Dataset {
 public:
  ShardDataset(const std::vector<std::string>& paths, int64_t shuffle_buffer) : shuffle_buffer_(shuffle_buffer) {
    for (const std::string& path : paths) files_.push_back(std::make_unique<TarFile>(path));
    std::vector<std::vector<Sample>> scanned(paths.size());
    parallel_for(static_cast<int64_t>(paths.size()), [&](int64_t i) {
      const size_t shard = static_cast<size_t>(i);
      scanned[shard] = ShardScan(*files_[shard], static_cast<uint32_t>(shard)).run();
    });
    for (const std::vector<Sample>& part : scanned) samples_.insert(samples_.end(), part.begin(), part.end());
    CHECK(!samples_.empty(), paths.front(), paths.size() > 1 ? " and the others hold" : ": holds",
          " no sample: an image (.jpg, .jpeg, .png, .bmp) and its class (.cls) under one name");
  }

  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  int64_t classes() const override { return static_cast<int64_t>(class_names_.size()); }
  int64_t channels() const override { return 3; }
  int64_t label(int64_t index) const override { return sample(index).label; }
  std::string name(int64_t index) const override {
    return fs::path(files_[sample(index).shard]->path()).filename().string() + "/" + member_of(index).name;
  }
  std::string class_name(int64_t label) const override { return class_names_.at(static_cast<size_t>(label)); }

  void get(int64_t index, Image& image) const override {
    static thread_local ImageFile own;
    get_file(index, own);
    EncodedImage(own.bytes, own.name).decode(image);
  }

  bool get_file(int64_t index, ImageFile& file) const override {
    const StageScope scope(Stage::read);
    const TarMember member = member_of(index);
    const TarFile& shard = *files_[sample(index).shard];
    file.name = shard.path() + ": " + in_quotes(member.name);
    file.bytes.resize(member.size);
    shard.read(member.data, file.bytes.data(), member.size);
    return true;
  }

  // The shards in a random order, each from its beginning, pass through a buffer: each sample takes the place of a random
  // one in the buffer, which is visited.
  std::vector<int64_t> epoch_order(const std::vector<int64_t>& indices, uint64_t seed, int64_t epoch) const override {
    Rng rng(seed, Stream::data_order, static_cast<uint64_t>(epoch));
    const std::vector<int64_t> passing = by_shard(indices, rng);
    const size_t held = std::min(passing.size(), static_cast<size_t>(shuffle_buffer_));
    std::vector<int64_t> buffer(passing.begin(), passing.begin() + static_cast<int64_t>(held)), order;
    order.reserve(passing.size());
    for (size_t i = held; i < passing.size(); ++i) {
      int64_t& place = buffer[static_cast<size_t>(rng.below(static_cast<int64_t>(held)))];
      order.push_back(std::exchange(place, passing[i]));
    }
    shuffle(rng, buffer.data(), static_cast<int64_t>(held));
    order.insert(order.end(), buffer.begin(), buffer.end());
    return order;
  }

  int64_t largest_label() const {
    const auto less = [](const Sample& a, const Sample& b) { return a.label < b.label; };
    return std::max_element(samples_.begin(), samples_.end(), less)->label;
  }

  void set_classes(const std::vector<std::string>& names) {
    class_names_ = names;
    for (int64_t i = 0; i < size(); ++i) {
      CHECK(label(i) < classes(), files_[sample(i).shard]->path(), ": ", in_quotes(member_of(i).name), " is of class ",
            label(i), ", but classes.txt beside the training shards names ", classes(), " classes");
    }
  }

 private:
  const Sample& sample(int64_t index) const {
    CHECK(index >= 0 && index < size(), "there is no image ", index, " in ", files_.front()->path(),
          " and the shards that follow, which hold ", size());
    return samples_[static_cast<size_t>(index)];
  }

  // From its header: a shard that was changed since it was opened is found out.
  TarMember member_of(int64_t index) const {
    const Sample& wanted = sample(index);
    const TarFile& shard = *files_[wanted.shard];
    TarMember member;
    const bool there = shard.reader(wanted.begin).next(member);
    CHECK(there && member.begin == wanted.begin && member.size == wanted.bytes, shard.path(),
          ": changed while it was in use; start again");
    return member;
  }

  std::vector<int64_t> by_shard(const std::vector<int64_t>& indices, Rng& rng) const {
    std::vector<std::vector<int64_t>> members(files_.size());
    for (const int64_t index : indices) members[sample(index).shard].push_back(index);
    std::vector<int64_t> turn(files_.size()), order;
    std::iota(turn.begin(), turn.end(), 0);
    shuffle(rng, turn.data(), static_cast<int64_t>(turn.size()));
    order.reserve(indices.size());
    for (const int64_t shard : turn) {
      std::vector<int64_t>& own = members[static_cast<size_t>(shard)];
      std::sort(own.begin(), own.end());
      order.insert(order.end(), own.begin(), own.end());
    }
    return order;
  }

  std::vector<std::unique_ptr<TarFile>> files_;
  std::vector<Sample> samples_;
  std::vector<std::string> class_names_;
  int64_t shuffle_buffer_;
};

// One name a line.
std::vector<std::string> read_class_names(const std::string& path) {
  const std::vector<uint8_t> bytes = read_file(path, kLargestClassList);
  std::vector<std::string> names(1);
  for (const uint8_t byte : bytes) {
    if (byte == '\n') {
      names.emplace_back();
    } else if (byte != '\r') {
      names.back() += static_cast<char>(byte);
    }
  }
  if (names.back().empty()) names.pop_back();
  CHECK(!names.empty(), path, ": names no classes");
  CHECK(names.size() <= kMostClasses, path, ": names ", names.size(), " classes, more than ", kMostClasses);
  return names;
}

std::vector<std::string> numbered(int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

}  // namespace

DataSource open_shards(const std::string& location, const DataOptions& options) {
  CHECK(options.shuffle_buffer >= 1, "the shuffle buffer must hold at least one sample, not ", options.shuffle_buffer);
  const ShardLists lists = find_shards(location);
  const fs::path folder = fs::path(lists.train.front()).parent_path();
  std::error_code ignored;
  CHECK(!fs::exists(folder / kUnfinishedPack, ignored), folder.string(),
        ": is not packed to its end; give the command of pack_dataset once more, which goes on where it was");
  const auto train = std::make_shared<ShardDataset>(lists.train, options.shuffle_buffer);
  const auto val = std::make_shared<ShardDataset>(lists.val, options.shuffle_buffer);
  const fs::path list = folder / kClassList;
  const std::vector<std::string> names = fs::exists(list, ignored)
                                             ? read_class_names(list.string())
                                             : numbered(std::max(train->largest_label(), val->largest_label()) + 1);
  train->set_classes(names);
  val->set_classes(names);
  DataSource source;
  source.train = train;
  source.test = val;
  source.mean = {0.485f, 0.456f, 0.406f};
  source.std_dev = {0.229f, 0.224f, 0.225f};
  source.any_size = true;
  return source;
}

}  // namespace entangle

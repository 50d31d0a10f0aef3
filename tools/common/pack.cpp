#include "tools/common/pack.h"

#include <algorithm>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <numeric>
#include <utility>
#include <vector>

#include "data/decode.h"
#include "data/gzip.h"
#include "data/resize.h"
#include "data/shard_names.h"
#include "data/tar_file.h"
#include "engine/atomic_file.h"
#include "engine/check.h"
#include "engine/crc32.h"
#include "engine/parallel.h"
#include "engine/rng.h"
#include "tools/common/cli.h"
#include "tools/common/config.h"
#include "tools/common/encode.h"
#include "tools/common/progress.h"
#include "tools/common/run_directory.h"

namespace entangle {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kChunk = 128;  // images made ready at a time
constexpr size_t kIndexDigits = 9, kLongestName = 60;
constexpr const char* kSettings = "pack.txt";

// An image on its way into a shard.
struct Ready {
  int64_t position = 0, label = 0;
  std::string sample, kind, bytes;
  std::string problem;  // why it is left out, when it is

  std::string label_name() const { return sample + ".cls"; }
  std::string image_name() const { return sample + "." + kind; }
};

// What reading a shard back must find.
struct Written {
  std::string name;
  uint64_t size;
  uint32_t crc;
};

uint32_t crc_of(const std::string& bytes) {
  return crc32(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

std::string numbered(int64_t number, size_t digits) {
  const std::string text = std::to_string(number);
  return std::string(digits - std::min(digits, text.size()), '0') + text;
}

// The data set's number first: no two are equal, and packing finds its place again by it.
std::string sample_name(int64_t index, const std::string& file) {
  const size_t begin = file.rfind('/') + 1;
  const size_t end = std::min(file.find_last_of('.'), file.size());
  std::string name = begin < end ? file.substr(begin, std::min(end - begin, kLongestName)) : "";
  for (char& c : name) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
    if (!plain) c = '_';
  }
  return numbered(index, kIndexDigits) + (name.empty() ? "" : "-" + name);
}

// By the content: ImageNet has a PNG that is called JPEG.
std::string kind_of(const std::string& bytes) {
  if (bytes.compare(0, 4, "\x89PNG") == 0) return "png";
  return bytes.compare(0, 2, "BM") == 0 ? "bmp" : "jpg";
}

// The shorter side becomes `side`, the other in proportion and truncated.
Image with_short_side(const Image& image, int64_t side) {
  const bool upright = image.width <= image.height;
  const int64_t width = upright ? side : side * image.width / image.height;
  const int64_t height = upright ? side * image.height / image.width : side;
  return resize(image, width, height, Interpolation::bicubic);
}

std::string packed_bytes(const Dataset& dataset, int64_t index, const PackOptions& options, std::string& sample) {
  ImageFile file;
  Image image;
  const bool has_file = dataset.get_file(index, file);
  if (has_file) {
    image = decode_image(file.bytes, file.name);
  } else {
    dataset.get(index, image);
    file.name = concat("image ", index);
  }
  sample = sample_name(index, has_file ? file.name : "");
  if (options.short_side > 0 && std::min(image.width, image.height) > options.short_side) {
    const Image smaller = with_short_side(image, options.short_side);
    const std::string bytes = encode_jpeg_in_pieces(smaller, options.quality, file.name);
    const Image back = decode_image({bytes.begin(), bytes.end()}, file.name);
    CHECK(back.width == smaller.width && back.height == smaller.height, file.name, ": its JPEG has another size");
    return bytes;
  }
  return has_file ? std::string(file.bytes.begin(), file.bytes.end()) : encode_png(image, file.name);
}

std::string settings_text(const DataSource& source, const PackOptions& options) {
  return concat("data ", source.spec, "\ntrain images ", source.train->size(), "\nval images ", source.test->size(),
                "\nclasses ", source.train->classes(), "\nsamples of a shard ", options.samples, "\nbytes of a shard ",
                options.bytes, "\nshort side ", options.short_side, "\nquality ", options.quality, "\norder ",
                options.in_order ? "of the data set" : concat("shuffled by seed ", options.seed), "\n");
}

// The first line in which two texts of the same lines differ.
std::string first_difference(const std::string& there, const std::string& now) {
  size_t at = std::mismatch(there.begin(), there.end(), now.begin(), now.end()).first - there.begin();
  at = at == 0 ? 0 : there.rfind('\n', at - 1) + 1;
  const auto line = [at](const std::string& text) {
    return at < text.size() ? text.substr(at, text.find('\n', at) - at) : std::string("nothing");
  };
  return concat("\"", line(there), "\" there, \"", line(now), "\" now");
}

void read_back(const std::string& path, const std::vector<Written>& written) {
  const TarFile file(path);
  TarReader reader = file.reader();
  TarMember member;
  std::string bytes;
  for (const Written& wanted : written) {
    const bool there = reader.next(member) && member.name == wanted.name && member.size == wanted.size;
    bytes.resize(there ? wanted.size : 0);
    if (there) file.read(member.data, bytes.data(), member.size);
    CHECK(there && crc_of(bytes) == wanted.crc, path, ": ", wanted.name,
          " reads back otherwise than it was written; check the disk and its memory, then start again");
  }
  CHECK(!reader.next(member), path, ": holds more than was written; check the disk, then start again");
}

// One part of a data set, as it goes into shards one after another.
class PartPacker {
 public:
  PartPacker(const std::string& name, const Dataset& dataset, std::vector<int64_t> order, const PackOptions& options,
             int64_t most_broken, Progress& progress, PackSummary& summary)
      : name_(name),
        dataset_(dataset),
        order_(std::move(order)),
        options_(options),
        most_broken_(most_broken),
        progress_(progress),
        summary_(summary) {}

  void run() {
    while (keep(shard_path())) ++shard_;
    refill();
    while (!ready_.empty() && !interrupted()) {
      if (write(shard_path())) ++shard_;
    }
    summary_.interrupted = interrupted() && !ready_.empty();
    if (summary_.interrupted) return;
    CHECK(shard_ > 0, "no image of ", name_, " can be packed");
    CHECK(!fs::exists(shard_path()), shard_path(), ": belongs to no packing of this data set; remove it");
  }

 private:
  std::string shard_path() const { return options_.output + "/" + name_ + "-" + numbered(shard_, 6) + ".tar"; }

  // Whether an earlier call has made this shard; where packing goes on is known by its names then.
  bool keep(const std::string& path) {
    if (!fs::exists(path)) return false;
    const TarFile file(path);
    TarReader reader = file.reader();
    int64_t samples = 0;
    const int64_t first = taken_;
    for (TarMember label, image; reader.next(label); ++samples) {
      std::string sample, kind, text = reader.content(label, kTarBlock);
      const bool sound = reader.next(image) && split_member_name(image.name, sample, kind) &&
                         label.name == sample + ".cls" && find(sample);
      CHECK(sound && text == std::to_string(dataset_.label(order_[static_cast<size_t>(taken_ - 1)])), path, ": ",
            label.name, " does not belong to this packing; remove the shard to have it packed again");
      summary_.bytes += static_cast<int64_t>(image.size);
    }
    count_shard(samples);
    summary_.broken += taken_ - first - samples;
    summary_.resumed += samples;
    return true;
  }

  // Goes on in the order behind the sample of that name.
  bool find(const std::string& sample) {
    const std::string index = sample.substr(0, kIndexDigits);
    while (taken_ < size() && numbered(order_[static_cast<size_t>(taken_)], kIndexDigits) != index) ++taken_;
    return taken_++ < size();
  }

  int64_t size() const { return static_cast<int64_t>(order_.size()); }

  Ready make(int64_t position) const {
    Ready ready;
    ready.position = position;
    const int64_t index = order_[static_cast<size_t>(position)];
    ready.label = dataset_.label(index);
    try {
      ready.bytes = packed_bytes(dataset_, index, options_, ready.sample);
    } catch (const Error& error) {
      ready.problem = error.what();
    }
    ready.kind = kind_of(ready.bytes);
    return ready;
  }

  // The next images that are not broken, until there is one or the order ends.
  void refill() {
    while (ready_.empty() && taken_ < size() && !interrupted()) {
      std::vector<Ready> chunk(static_cast<size_t>(std::min(kChunk, size() - taken_)));
      parallel_for(static_cast<int64_t>(chunk.size()),
                   [&](int64_t i) { chunk[static_cast<size_t>(i)] = make(taken_ + i); });
      taken_ += static_cast<int64_t>(chunk.size());
      for (Ready& ready : chunk) {
        if (ready.problem.empty()) {
          ready_.push_back(std::move(ready));
        } else {
          leave_out(ready.problem);
        }
      }
      progress_.update(summary_.samples + held_, format("%s-%06lld  %lld samples", name_.c_str(),
                                                        static_cast<long long>(shard_), static_cast<long long>(held_)));
    }
  }

  void leave_out(const std::string& problem) {
    ++summary_.broken;
    std::fprintf(stderr, "left out: %s\n", problem.c_str());
    CHECK(summary_.broken <= most_broken_, summary_.broken, " images are broken, more than --max-broken allows (",
          most_broken_, " of all); the last: ", problem);
  }

  bool full(uint64_t bytes, const Ready& next) const {
    const bool too_large = options_.bytes > 0 && bytes + next.bytes.size() > static_cast<uint64_t>(options_.bytes);
    return held_ == options_.samples || (held_ > 0 && too_large);
  }

  // False when the work is to stop: the shard is then dropped.
  bool write(const std::string& path) {
    const std::string part = path + ".part";
    AtomicFile file(part);
    std::vector<Written> written;
    uint64_t bytes = 0;
    for (held_ = 0; !ready_.empty() && !full(bytes, ready_.front()); ++held_) {
      const Ready& next = ready_.front();
      append(file, next.label_name(), std::to_string(next.label), written);
      append(file, next.image_name(), next.bytes, written);
      bytes += next.bytes.size();
      ready_.pop_front();
      refill();
    }
    if (interrupted()) return false;
    file.write(tar_end().data(), tar_end().size());
    file.commit();
    read_back(part, written);
    fs::rename(part, path);
    summary_.bytes += static_cast<int64_t>(bytes);
    count_shard(std::exchange(held_, 0));
    return true;
  }

  static void append(AtomicFile& file, const std::string& name, const std::string& content,
                     std::vector<Written>& written) {
    const std::string member = tar_member(name, content);
    file.write(member.data(), member.size());
    written.push_back({name, content.size(), crc_of(content)});
  }

  void count_shard(int64_t samples) {
    ++summary_.shards;
    summary_.samples += samples;
  }

  const std::string name_;
  const Dataset& dataset_;
  const std::vector<int64_t> order_;
  const PackOptions& options_;
  const int64_t most_broken_;
  Progress& progress_;
  PackSummary& summary_;
  std::deque<Ready> ready_;
  int64_t shard_ = 0, taken_ = 0, held_ = 0;  // taken_: of the order; held_: samples of the shard at hand
};

std::vector<int64_t> order_of(int64_t size, bool in_order, uint64_t seed) {
  std::vector<int64_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  Rng rng(seed, Stream::data_order);
  if (!in_order) shuffle(rng, order.data(), size);
  return order;
}

void validate(const DataSource& source, const PackOptions& options) {
  CHECK(options.samples >= 1, "--samples is ", options.samples, ", but a shard holds at least one");
  CHECK(options.bytes >= 0, "--megabytes must not be negative");
  CHECK(options.short_side >= 0 && options.short_side <= 16384, "--short-side is ", options.short_side,
        ", but must lie in 0 .. 16384");
  CHECK(options.quality >= 1 && options.quality <= 100, "--quality is ", options.quality, ", but must lie in 1 .. 100");
  CHECK(options.most_broken >= 0 && options.most_broken <= 1, "--max-broken is ", options.most_broken,
        ", but must be a share of 0 .. 1");
  CHECK(source.train->channels() == 3, source.spec, " has images of ", source.train->channels(),
        " channel; shards hold RGB images");
}

// Settles that the folder belongs to this packing.
void claim(const RunDirectory& folder, const DataSource& source, const PackOptions& options) {
  const std::string now = settings_text(source, options), path = folder.file(kSettings);
  if (fs::exists(path)) {
    const std::string there = read_text_file(path);
    CHECK(there == now, folder.path(), ": holds another packing (", first_difference(there, now),
          "); choose another --output or remove it");
    return;
  }
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    CHECK(entry.path().extension() != ".tar", folder.path(), ": holds shards that were not made by this program, ",
          entry.path().filename().string(), " among them; choose another --output");
  }
  write_file_atomically(folder.file(kUnfinishedPack), "");
  std::string names;
  for (int64_t label = 0; label < source.train->classes(); ++label) names += source.train->class_name(label) + "\n";
  write_file_atomically(folder.file(kClassList), names);
  write_file_atomically(path, now);
}

}  // namespace

PackSummary pack(const DataSource& source, const PackOptions& options) {
  validate(source, options);
  const RunDirectory folder(options.output);
  claim(folder, source, options);
  const int64_t train = source.train->size(), val = source.test->size();
  const int64_t most_broken = static_cast<int64_t>(options.most_broken * static_cast<double>(train + val));
  PackSummary summary;
  Progress progress(train + val);
  PartPacker("train", *source.train, order_of(train, options.in_order, options.seed), options, most_broken, progress,
             summary)
      .run();
  if (!summary.interrupted) {
    PartPacker("val", *source.test, order_of(val, true, 0), options, most_broken, progress, summary).run();
  }
  if (!summary.interrupted) fs::remove(folder.file(kUnfinishedPack));
  return summary;
}

}  // namespace entangle

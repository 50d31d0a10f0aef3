// CIFAR-10 and CIFAR-100 in their binary version: records of a label or two and 32x32 pixels, a plane a colour.
#include <array>
#include <filesystem>
#include <utility>

#include "data/file_list.h"
#include "data/gzip.h"
#include "data/readers.h"
#include "engine/check.h"

namespace entangle {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kSide = 32, kPixels = kSide * kSide, kChannels = 3;
constexpr uint64_t kLargestFile = uint64_t{256} << 20;

struct Format {
  const char* name;
  const char* subfolder;  // of the published archive
  std::vector<std::string> train, test;
  int64_t classes;
  int64_t label_bytes;  // the last of them is the label
  int64_t record() const { return label_bytes + kChannels * kPixels; }
};

const Format& cifar10() {
  static const Format format = {
      "cifar10",
      "cifar-10-batches-bin",
      {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
      {"test_batch.bin"},
      10,
      1};
  return format;
}

// A coarse label of 20 precedes the fine one.
const Format& cifar100() {
  static const Format format = {"cifar100", "cifar-100-binary", {"train.bin"}, {"test.bin"}, 100, 2};
  return format;
}

class CifarDataset : public Dataset {
 public:
  CifarDataset(const fs::path& folder, const Format& format, const std::vector<std::string>& names)
      : format_(format), folder_(folder.string()) {
    for (const std::string& name : names) append((folder / name).string());
  }

  int64_t size() const override { return static_cast<int64_t>(records_.size()) / format_.record(); }
  int64_t classes() const override { return format_.classes; }
  int64_t channels() const override { return kChannels; }
  int64_t label(int64_t index) const override { return record(index)[format_.label_bytes - 1]; }

  void get(int64_t index, Image& image) const override {
    const uint8_t* planes = record(index) + format_.label_bytes;
    image.height = image.width = kSide;
    image.channels = kChannels;
    image.pixels.resize(static_cast<size_t>(kChannels * kPixels));
    for (int64_t p = 0; p < kPixels; ++p) {
      for (int64_t c = 0; c < kChannels; ++c) {
        image.pixels[static_cast<size_t>(p * kChannels + c)] = planes[c * kPixels + p];
      }
    }
  }

 private:
  // All files of a part hold equally many images, so that one cut short between two records is found where there are several.
  void append(const std::string& path) {
    const std::vector<uint8_t> bytes = read_file(path, kLargestFile);
    const int64_t size = static_cast<int64_t>(bytes.size()), record = format_.record();
    CHECK(size > 0 && size % record == 0, path, " is cut short or another file: its ", size,
          " bytes are no whole number of records of ", record, "; fetch it again");
    if (first_size_ == 0) first_size_ = size;
    CHECK(size == first_size_, path, " has ", size / record, " images, the files before it ", first_size_ / record,
          " each: it is cut short or another file; fetch it again");
    for (int64_t i = 0; i < size / record; ++i) {
      const int64_t label = bytes[static_cast<size_t>(i * record + format_.label_bytes - 1)];
      CHECK(label < format_.classes, path, ": image ", i, " has the label ", label, ", but labels are 0 to ",
            format_.classes - 1, "; fetch it again");
    }
    records_.insert(records_.end(), bytes.begin(), bytes.end());
  }

  const uint8_t* record(int64_t index) const {
    CHECK(index >= 0 && index < size(), "there is no image ", index, " in ", folder_, ", which holds ", size());
    return records_.data() + index * format_.record();
  }

  const Format& format_;
  std::string folder_;
  std::vector<uint8_t> records_;
  int64_t first_size_ = 0;
};

DataSource open_cifar(const Format& format, const std::string& location) {
  check_data_folder(location, format.name,
                    concat("the binary version: ", format.train.front(), ", ..., ", format.test.front(),
                           ", or the folder ", format.subfolder, " with them"));
  const fs::path inside = fs::path(location) / format.subfolder;
  std::error_code ignored;
  const fs::path folder = fs::is_directory(inside, ignored) ? inside : fs::path(location);
  auto train = std::make_shared<CifarDataset>(folder, format, format.train);
  DataSource source = colour_source(std::move(train), std::make_shared<CifarDataset>(folder, format, format.test));
  source.any_size = false;
  source.side = kSide;
  return source;
}

}  // namespace

DataSource open_cifar10(const std::string& location) { return open_cifar(cifar10(), location); }
DataSource open_cifar100(const std::string& location) { return open_cifar(cifar100(), location); }

}  // namespace entangle

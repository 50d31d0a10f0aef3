#include <filesystem>
#include <utility>

#include "data/gzip.h"
#include "data/idx.h"
#include "data/readers.h"
#include "engine/check.h"

namespace entangle {

namespace {

constexpr const char* kDefaultFolder = "/usr/share/datasets/fashion-mnist";
constexpr uint64_t kLargestFile = uint64_t{256} << 20;
constexpr int64_t kSide = 28, kPixels = kSide * kSide, kClasses = 10;
// Of the training images, pixels in [0, 1].
constexpr float kMean = 0.2860f, kStdDev = 0.3530f;

// IDX: a big-endian magic number 0x0000TTNN (TT = 08: unsigned bytes; NN dimensions), NN big-endian sizes, the data.
constexpr uint32_t kImagesMagic = 0x00000803, kLabelsMagic = 0x00000801;
constexpr size_t kImagesHeader = 16, kLabelsHeader = 8;

IdxFile read_idx(const std::string& folder, const std::string& name) {
  const std::string plain = (std::filesystem::path(folder) / name).string(), packed = plain + ".gz";
  std::error_code ignored;
  if (std::filesystem::exists(packed, ignored)) {
    // Data that does not compress at all grows by 5 bytes in 64 KiB.
    return {packed, gunzip(read_file(packed, kLargestFile + kLargestFile / 1024), packed, kLargestFile)};
  }
  CHECK(std::filesystem::exists(plain, ignored), "there is no ", packed,
        " (nor the same without .gz): install the Debian package ",
        "dataset-fashion-mnist, or name the folder that has it with --data fashion-mnist:DIR");
  return {plain, read_file(plain, kLargestFile)};
}

void check_header(const IdxFile& file, uint32_t magic, int64_t header) {
  CHECK(file.size() >= header, file.path, " is cut short: ", file.size(), " bytes do not hold its header of ", header,
        "; fetch it again");
  CHECK(file.header(0) == magic, file.path, " is not such an IDX file: its magic number is ", file.header(0), ", not ",
        magic, "; fetch it again");
}

// The number of items of `item` bytes each, after a check that the file holds exactly them.
int64_t count_items(const IdxFile& file, int64_t header, int64_t item) {
  const int64_t count = file.header(1), want = header + count * item;
  CHECK(count > 0, file.path, " announces no items; fetch it again");
  CHECK(file.size() >= want, file.path, " is cut short: it has ", file.size(), " bytes and announces ", count,
        " items, ", want, " bytes; fetch it again");
  CHECK(file.size() == want, file.path, " is too long: ", file.size() - want, " bytes follow the ", count,
        " items it announces; fetch it again");
  return count;
}

class IdxDataset : public Dataset {
 public:
  IdxDataset(IdxFile images, IdxFile labels) : images_(std::move(images)), labels_(std::move(labels)) {
    check_header(images_, kImagesMagic, kImagesHeader);
    check_header(labels_, kLabelsMagic, kLabelsHeader);
    CHECK(images_.header(2) == kSide && images_.header(3) == kSide, images_.path, " holds images of ",
          images_.header(2), "x", images_.header(3), " pixels, but Fashion-MNIST's have ", kSide, "x", kSide);
    count_ = count_items(images_, kImagesHeader, kPixels);
    const int64_t labels_count = count_items(labels_, kLabelsHeader, 1);
    CHECK(count_ == labels_count, images_.path, " holds ", count_, " images, but ", labels_.path, " holds ",
          labels_count, " labels: the two do not belong together");
    for (int64_t i = 0; i < count_; ++i) {
      CHECK(label(i) < kClasses, labels_.path, " gives image ", i, " the label ", label(i), ", but labels are 0 to ",
            kClasses - 1, "; fetch it again");
    }
  }

  int64_t size() const override { return count_; }
  int64_t classes() const override { return kClasses; }
  int64_t channels() const override { return 1; }

  int64_t label(int64_t index) const override {
    check_index(index);
    return labels_.bytes[kLabelsHeader + index];
  }

  void get(int64_t index, Image& image) const override {
    check_index(index);
    const uint8_t* first = images_.bytes.data() + kImagesHeader + index * kPixels;
    image.height = image.width = kSide;
    image.channels = 1;
    image.pixels.assign(first, first + kPixels);
  }

 private:
  void check_index(int64_t index) const {
    CHECK(index >= 0 && index < count_, "there is no image ", index, " in ", images_.path, ", which holds ", count_);
  }

  IdxFile images_, labels_;
  int64_t count_ = 0;
};

std::shared_ptr<const Dataset> open_part(const std::string& folder, const std::string& part) {
  IdxFile labels = read_idx(folder, part + "-labels-idx1-ubyte");
  IdxFile images = read_idx(folder, part + "-images-idx3-ubyte");
  return open_idx(std::move(images), std::move(labels));
}

}  // namespace

std::shared_ptr<const Dataset> open_idx(IdxFile images, IdxFile labels) {
  return std::make_shared<IdxDataset>(std::move(images), std::move(labels));
}

DataSource open_fashion_mnist(const std::string& location) {
  const std::string folder = location.empty() ? kDefaultFolder : location;
  DataSource source;
  source.test = open_part(folder, "t10k");
  source.train = open_part(folder, "train");
  source.mean = {kMean};
  source.std_dev = {kStdDev};
  return source;
}

}  // namespace entangle

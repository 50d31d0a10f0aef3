// Reading of data: gzip, IDX files written here byte by byte, and the real Fashion-MNIST where it is installed.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/gzip.h"
#include "engine/check.h"
#include "engine/crc32.h"
#include "tests/deflate.h"
#include "tests/expect_error.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

// `fields` are what the flags say follows the fixed header.
Bytes gzip_file(const Bytes& content, uint8_t flags = 0, const Bytes& fields = {}) {
  Bytes file = {0x1F, 0x8B, 8, flags, 0, 0, 0, 0, 0, 3};
  append(file, fields);
  append(file, stored_blocks(content));
  append(file, little_endian(crc32(content.data(), content.size()), 4));
  append(file, little_endian(static_cast<uint32_t>(content.size()), 4));
  return file;
}

Bytes pattern(size_t size) {
  Bytes out(size);
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<uint8_t>(i * 7 + i / 256);
  return out;
}

void write(const std::string& path, const Bytes& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.good()) << path;
}

// "entangle " six times, compressed by gzip -9 as name.txt: a fixed Huffman block with a back reference.
const Bytes kCompressed = {0x1F, 0x8B, 0x08, 0x08, 0x00, 0x00, 0x00, 0x00, 0x02, 0xFF, 0x6E, 0x61, 0x6D, 0x65,
                           0x2E, 0x74, 0x78, 0x74, 0x00, 0x4B, 0xCD, 0x2B, 0x49, 0xCC, 0x4B, 0xCF, 0x49, 0x55,
                           0x48, 0x25, 0x85, 0x01, 0x00, 0x4E, 0xC3, 0x7F, 0x77, 0x36, 0x00, 0x00, 0x00};

TEST(Gzip, Crc32KnownAnswers) {
  const std::string digits = "123456789", words = "The quick brown fox jumps over the lazy dog";
  EXPECT_EQ(crc32(reinterpret_cast<const uint8_t*>(digits.data()), digits.size()), 0xCBF43926u);
  EXPECT_EQ(crc32(reinterpret_cast<const uint8_t*>(words.data()), words.size()), 0x414FA339u);
  EXPECT_EQ(crc32(nullptr, 0), 0u);
}

TEST(Gzip, DecompressesHuffmanBlocks) {
  const Bytes content = gunzip(kCompressed, "name", 54);
  std::string want;
  for (int i = 0; i < 6; ++i) want += "entangle ";
  EXPECT_EQ(std::string(content.begin(), content.end()), want);
}

TEST(Gzip, DecompressesStoredBlocks) {
  for (const size_t size : {0, 1, 1000, 65535, 65536, 200000}) {
    EXPECT_EQ(gunzip(gzip_file(pattern(size)), "name", 200000), pattern(size)) << size;
  }
}

TEST(Gzip, SkipsEveryHeaderField) {
  const Bytes content = pattern(100), extra = {3, 0, 'a', 'b', 'c'}, text = {'x', 'y', 0};
  EXPECT_EQ(gunzip(gzip_file(content, 4, extra), "name", 100), content);
  Bytes long_extra = {44, 1};
  append(long_extra, pattern(300));
  EXPECT_EQ(gunzip(gzip_file(content, 4, long_extra), "name", 100), content);
  EXPECT_EQ(gunzip(gzip_file(content, 8, text), "name", 100), content);
  EXPECT_EQ(gunzip(gzip_file(content, 16, text), "name", 100), content);
  Bytes all = extra;
  append(all, text);
  append(all, text);
  Bytes header = {0x1F, 0x8B, 8, 4 + 8 + 16 + 2, 0, 0, 0, 0, 0, 3};
  append(header, all);
  append(all, little_endian(crc32(header.data(), header.size()), 2));
  EXPECT_EQ(gunzip(gzip_file(content, 4 + 8 + 16 + 2, all), "name", 100), content);
  all.back() ^= 1;
  expect_error([&] { gunzip(gzip_file(content, 4 + 8 + 16 + 2, all), "name", 100); }, {"name", "header", "corrupt"});
}

TEST(Gzip, RefusesWhatIsNoGzipFile) {
  expect_error([] { gunzip(pattern(100), "x.gz", 100); }, {"x.gz", "not a gzip file"});
  Bytes method = gzip_file(pattern(10)), flags = method;
  method[2] = 7;
  flags[3] = 0x20;
  expect_error([&] { gunzip(method, "x.gz", 100); }, {"x.gz", "method 7"});
  expect_error([&] { gunzip(flags, "x.gz", 100); }, {"x.gz", "flags 32"});
}

TEST(Gzip, RefusesMoreThanTheLimitBeforeAllocating) {
  Bytes file = gzip_file(pattern(100));
  expect_error([&] { gunzip(file, "x.gz", 99); }, {"x.gz", "100 bytes", "99"});
  for (size_t i = file.size() - 4; i < file.size(); ++i) file[i] = 0xFF;
  expect_error([&] { gunzip(file, "x.gz", 100); }, {"x.gz", "4294967295"});
  expect_error([&] { gunzip(file, "x.gz", uint64_t{1} << 31); }, {"2147483648"});
}

TEST(Gzip, RefusesEveryTruncation) {
  for (const Bytes& whole : {kCompressed, gzip_file(pattern(40), 4 + 8, {2, 0, 'a', 'b', 'n', 0})}) {
    for (size_t size = 0; size < whole.size(); ++size) {
      const Bytes part(whole.begin(), whole.begin() + size);
      expect_error([&] { gunzip(part, "x.gz", 1000); }, {"x.gz", size < 18 ? "is cut short" : "fetch it again"});
    }
  }
}

// Every byte that carries meaning: all but time, extra flags, system, the stored name, and padding bits.
TEST(Gzip, RefusesEveryChangedByte) {
  const Bytes whole = gzip_file(pattern(40));
  for (size_t at = 0; at < whole.size(); ++at) {
    if (at >= 3 && at < 11) continue;
    Bytes changed = whole;
    changed[at] ^= 0x10;
    EXPECT_THROW(gunzip(changed, "x.gz", 1000), Error) << at;
  }
  Bytes trailing = whole;
  append(trailing, {0, 0, 0});
  EXPECT_THROW(gunzip(trailing, "x.gz", 1000), Error);
}

// A trailer that describes a zero more than the data holds, or a byte less.
TEST(Gzip, RefusesContentOfAnotherLength) {
  Bytes zero_more = pattern(40);
  zero_more.push_back(0);
  for (const Bytes& told : {zero_more, pattern(39)}) {
    Bytes file = gzip_file(pattern(40));
    file.resize(file.size() - 8);
    append(file, little_endian(crc32(told.data(), told.size()), 4));
    append(file, little_endian(static_cast<uint32_t>(told.size()), 4));
    expect_error([&] { gunzip(file, "x.gz", 1000); }, {"x.gz", std::to_string(told.size()) + " bytes"});
  }
}

TEST(ReadFile, NamesThePathAndTheReason) {
  TemporaryDirectory directory;
  write(directory.path("a"), pattern(300));
  EXPECT_EQ(read_file(directory.path("a"), 300), pattern(300));
  expect_error([&] { read_file(directory.path("a"), 299); }, {directory.path("a"), "300", "299"});
  expect_error([&] { read_file(directory.path("b"), 299); }, {directory.path("b"), "No such file"});
  expect_error([&] { read_file(directory.root(), 299); }, {directory.root(), "irectory"});
  write(directory.path("empty"), {});
  EXPECT_TRUE(read_file(directory.path("empty"), 10).empty());
}

Bytes idx_file(const std::vector<uint32_t>& header, const Bytes& data) {
  Bytes file;
  for (const uint32_t word : header) {
    for (int shift = 24; shift >= 0; shift -= 8) file.push_back(static_cast<uint8_t>(word >> shift));
  }
  append(file, data);
  return file;
}

Bytes images_file(uint32_t count) { return idx_file({0x803, count, 28, 28}, pattern(count * 784)); }

// Labels 3, 4, ..., 9, 0, 1, ...
Bytes labels_file(uint32_t count) {
  Bytes labels(count);
  for (uint32_t i = 0; i < count; ++i) labels[i] = static_cast<uint8_t>((i + 3) % 10);
  return idx_file({0x801, count}, labels);
}

// A complete small data set whose files a test then spoils.
class FashionMnist : public testing::Test {
 protected:
  FashionMnist() {
    put("train-images-idx3-ubyte.gz", gzip_file(images_file(25)));
    put("train-labels-idx1-ubyte.gz", gzip_file(labels_file(25)));
    put("t10k-images-idx3-ubyte", images_file(12));
    put("t10k-labels-idx1-ubyte", labels_file(12));
  }
  void put(const std::string& name, const Bytes& bytes) { write(directory_.path(name), bytes); }
  DataSource open() const { return open_data("fashion-mnist:" + directory_.root()); }
  void expect_broken(const std::vector<std::string>& parts) const {
    expect_error([this] { open(); }, parts);
  }

  TemporaryDirectory directory_;
};

TEST_F(FashionMnist, ReadsImagesAndLabels) {
  const DataSource source = open();
  EXPECT_EQ(source.spec, "fashion-mnist:" + directory_.root());
  EXPECT_EQ(source.mean, std::vector<float>{0.2860f});
  EXPECT_EQ(source.std_dev, std::vector<float>{0.3530f});
  ASSERT_EQ(source.train->size(), 25);
  ASSERT_EQ(source.test->size(), 12);
  EXPECT_EQ(source.train->classes(), 10);
  EXPECT_EQ(source.train->channels(), 1);
  const Bytes all = pattern(25 * 784);
  Image image;
  for (const int64_t i : {0, 7, 24}) {
    source.train->get(i, image);
    EXPECT_EQ(image.height, 28);
    EXPECT_EQ(image.width, 28);
    EXPECT_EQ(image.channels, 1);
    EXPECT_EQ(image.pixels, Bytes(all.begin() + i * 784, all.begin() + (i + 1) * 784));
    EXPECT_EQ(source.train->label(i), (i + 3) % 10);
  }
  expect_error([&] { source.train->get(25, image); }, {"25", "train-images"});
  expect_error([&] { source.test->label(-1); }, {"-1", "t10k-images"});
}

TEST_F(FashionMnist, NamesTheMissingFileAndItsPackage) {
  std::filesystem::remove(directory_.path("train-labels-idx1-ubyte.gz"));
  expect_broken({directory_.path("train-labels-idx1-ubyte.gz"), "dataset-fashion-mnist", "fashion-mnist:DIR"});
  expect_error([] { open_data("fashion-mnist:/does/not/exist"); }, {"/does/not/exist/"});
}

TEST_F(FashionMnist, RefusesAFolderInPlaceOfAFile) {
  std::filesystem::remove(directory_.path("train-images-idx3-ubyte.gz"));
  std::filesystem::create_directory(directory_.path("train-images-idx3-ubyte.gz"));
  expect_broken({directory_.path("train-images-idx3-ubyte.gz")});
}

TEST_F(FashionMnist, RefusesWrongMagicNumbers) {
  put("t10k-images-idx3-ubyte", labels_file(1000));
  expect_broken({"t10k-images-idx3-ubyte", "magic number is 2049", "2051"});
  put("t10k-images-idx3-ubyte", images_file(12));
  put("t10k-labels-idx1-ubyte", images_file(12));
  expect_broken({"t10k-labels-idx1-ubyte", "magic number is 2051", "2049"});
}

TEST_F(FashionMnist, RefusesOtherDimensions) {
  put("t10k-images-idx3-ubyte", idx_file({0x803, 12, 32, 28}, pattern(12 * 32 * 28)));
  expect_broken({"t10k-images-idx3-ubyte", "32x28", "28x28"});
}

TEST_F(FashionMnist, RefusesWrongLengths) {
  Bytes images = images_file(12);
  images.pop_back();
  put("t10k-images-idx3-ubyte", images);
  expect_broken({"t10k-images-idx3-ubyte", "cut short", "9423", "12 items", "9424"});
  append(images, {0, 0, 0});
  put("t10k-images-idx3-ubyte", images);
  expect_broken({"t10k-images-idx3-ubyte", "too long", "2 bytes"});
  put("t10k-images-idx3-ubyte", idx_file({0x803, 12}, {}));
  expect_broken({"t10k-images-idx3-ubyte", "cut short", "header"});
  put("t10k-images-idx3-ubyte", {});
  expect_broken({"t10k-images-idx3-ubyte", "0 bytes"});
  put("t10k-images-idx3-ubyte", images_file(0));
  expect_broken({"t10k-images-idx3-ubyte", "no items"});
  put("t10k-images-idx3-ubyte", idx_file({0x803, 0xFFFFFFFF, 28, 28}, pattern(784)));
  expect_broken({"t10k-images-idx3-ubyte", "4294967295 items"});
}

TEST_F(FashionMnist, RefusesATruncatedGzipFile) {
  Bytes file = gzip_file(images_file(25));
  file.resize(file.size() / 2);
  put("train-images-idx3-ubyte.gz", file);
  expect_broken({directory_.path("train-images-idx3-ubyte.gz"), "fetch it again"});
}

TEST_F(FashionMnist, RefusesCountsThatDiffer) {
  put("t10k-labels-idx1-ubyte", labels_file(13));
  expect_broken({"t10k-images-idx3-ubyte", "12 images", "13 labels"});
}

TEST_F(FashionMnist, RefusesLabelsOutOfRange) {
  Bytes labels = labels_file(12);
  labels[8 + 5] = 10;
  put("t10k-labels-idx1-ubyte", labels);
  expect_broken({"t10k-labels-idx1-ubyte", "image 5", "label 10", "0 to 9"});
}

TEST(OpenData, NamesWhatIsKnown) {
  expect_error([] { open_data("fashion"); }, {"\"fashion\"", "fashion-mnist[:DIR]"});
  expect_error([] { open_data(""); }, {"fashion-mnist[:DIR]"});
  expect_error([] { open_data("nothing:/tmp"); }, {"\"nothing\"", "fashion-mnist[:DIR]"});
  expect_error([] { open_data("fashion-mnist:"); }, {"after its colon", "fashion-mnist[:DIR]"});
}

TEST(RealFashionMnist, IsComplete) {
  if (!std::filesystem::exists("/usr/share/datasets/fashion-mnist")) GTEST_SKIP() << "the data set is not installed";
  const DataSource source = open_data("fashion-mnist");
  ASSERT_EQ(source.train->size(), 60000);
  ASSERT_EQ(source.test->size(), 10000);
  double sum = 0, squares = 0;
  std::vector<int64_t> count(10, 0);
  Image image;
  for (int64_t i = 0; i < 60000; ++i) {
    source.train->get(i, image);
    ++count[source.train->label(i)];
    int64_t image_sum = 0, image_squares = 0;
    for (const uint8_t pixel : image.pixels) {
      image_sum += pixel;
      image_squares += pixel * pixel;
    }
    sum += static_cast<double>(image_sum);
    squares += static_cast<double>(image_squares);
  }
  EXPECT_EQ(count, std::vector<int64_t>(10, 6000));
  const double mean = sum / (60000.0 * 784 * 255), variance = squares / (60000.0 * 784 * 255 * 255) - mean * mean;
  EXPECT_NEAR(mean, source.mean[0], 1e-4);
  EXPECT_NEAR(std::sqrt(variance), source.std_dev[0], 1e-4);
  count.assign(10, 0);
  for (int64_t i = 0; i < 10000; ++i) ++count[source.test->label(i)];
  EXPECT_EQ(count, std::vector<int64_t>(10, 1000));
}

}  // namespace
}  // namespace entangle

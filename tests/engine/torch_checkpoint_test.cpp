// PyTorch checkpoints: files that PyTorch wrote, against what it says is in them, and files that nobody should write.
#include "engine/torch_checkpoint.h"

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "nn/checkpoint.h"
#include "tests/engine/torch_writer.h"
#include "tests/files.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace entangle {
namespace {

const std::string kFolder = "tests/golden/torch/";

// The supernet of supernet.pth.
SupernetConfig golden_config() {
  SupernetConfig config;
  config.image_size = 12;
  config.patch_size = 4;
  config.in_channels = 1;
  config.num_classes = 5;
  config.embed_dim = 16;
  config.depth = 2;
  config.num_heads = 2;
  config.head_dim = 8;
  config.mlp_ratio = 2;
  config.max_relative_position = 2;
  config.qkv_bias = QkvBias::contiguous;
  return config;
}

void expect_equal(const TensorFile& got, const TensorFile& want) {
  ASSERT_EQ(got.tensors().size(), want.tensors().size());
  for (const auto& [name, entry] : want.tensors()) {
    ASSERT_TRUE(got.has(name)) << name;
    EXPECT_EQ(got.tensors().at(name).dtype, entry.dtype) << name;
    EXPECT_EQ(got.tensors().at(name).shape, entry.shape) << name;
    EXPECT_EQ(got.read_bytes(name), want.read_bytes(name)) << name;
  }
}

// float32/16/bf16/64, int64 and bool; transposed, sliced, strided and permuted views of one storage; a scalar, a tensor
// without elements, a parameter.
TEST(TorchCheckpointFile, ReadsWhatPyTorchWroteInBothFormats) {
  const SafetensorsFile views(kFolder + "views.safetensors"), weights(kFolder + "supernet.safetensors");
  for (const char* name : {"views.pth", "views_legacy.pth"}) {
    SCOPED_TRACE(name);
    const TorchCheckpoint file(kFolder + name);
    expect_equal(file, views);
    EXPECT_EQ(file.read_f32("transposed")[1], 6);
    EXPECT_EQ(file.read_f32("half")[1], -2.5f);
    EXPECT_EQ(file.read_f32("brain")[0], 3.140625f);
    EXPECT_TRUE(file.others().empty());
  }
  for (const char* name : {"supernet.pth", "supernet_legacy.pth"}) {
    SCOPED_TRACE(name);
    const TorchCheckpoint file(kFolder + name);
    expect_equal(file, weights);
    EXPECT_TRUE(file.metadata().empty());
    EXPECT_EQ(file.others().at("epoch"), "299");
    EXPECT_EQ(file.others().at("args"), "a call of 'argparse.Namespace', which is not run");
    EXPECT_EQ(file.others().at("scaler"), "a dictionary of 0");
    EXPECT_EQ(file.others().size(), 5u);
  }
}

TEST(TorchCheckpointFile, GivesTheLogitsOfItsSafetensorsToTheBitAndPyTorchs) {
  const SafetensorsFile golden(kFolder + "logits.safetensors");
  const std::vector<float> images = golden.read_f32("images"), want = golden.read_f32("logits");
  const Architecture architecture = Architecture::from_json(golden.metadata().at("architecture"));
  std::map<std::string, std::vector<float>> logits;
  for (const char* name : {"supernet.safetensors", "supernet.pth", "supernet_legacy.pth"}) {
    Supernet supernet(golden_config());
    EXPECT_TRUE(load_checkpoint(kFolder + name, supernet, false).empty());
    logits[name] = supernet.forward(Tensor::from({3, 1, 12, 12}, images), architecture).to_vector();
    ASSERT_EQ(logits[name].size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(logits[name][i], want[i], 2e-5) << name;
  }
  EXPECT_EQ(logits["supernet.pth"], logits["supernet.safetensors"]);
  EXPECT_EQ(logits["supernet_legacy.pth"], logits["supernet.safetensors"]);
}

TEST(TorchCheckpointFile, AnAlignedSupernetRefusesIt) {
  SupernetConfig config = golden_config();
  config.qkv_bias = QkvBias::aligned;
  Supernet supernet(config);
  expect_error(error_of([&] { load_checkpoint(kFolder + "supernet.pth", supernet, false); }),
               {"supernet.pth", "'contiguous' (as published"});
  expect_error(error_of([&] { load_checkpoint(kFolder + "supernet.pth", supernet, true); }), {"supernet.pth"});
}

// Hostile files, written to a temporary directory.
class HostileCheckpoint : public testing::Test {
 protected:
  // The error on opening and reading everything in a file with these bytes; "" for none.
  std::string error(const std::string& bytes) const {
    const std::string path = dir.path("f.pth");
    write_raw(path, bytes);
    const std::string message = error_of([&] {
      const std::unique_ptr<TensorFile> file = open_tensor_file(path);
      for (const auto& [name, entry] : file->tensors()) file->read_bytes(name);
    });
    EXPECT_TRUE(message.empty() || message.find(path) == 0) << message;
    return message;
  }
  // The same of a file in memory: for those who try thousands.
  std::string quick_error(const std::string& bytes) const {
    CHECK(ftruncate(memory.descriptor, 0) == 0, "cannot empty a file in memory");
    const ssize_t written = pwrite(memory.descriptor, bytes.data(), bytes.size(), 0);
    CHECK(written == static_cast<ssize_t>(bytes.size()), "cannot write a file in memory");
    return error_of([&] {
      const TorchCheckpoint file(memory.path());
      for (const auto& [name, entry] : file.tensors()) file.read_bytes(name);
    });
  }
  // An archive with this pickle and one storage "0" of `floats` floats.
  static ZipToWrite archive(const std::string& pickle, size_t floats = 6) {
    ZipToWrite zip;
    zip.add("a/data.pkl", pickled::kStart + pickle + ".");
    zip.add("a/byteorder", "little");
    zip.add("a/data/0", std::string(4 * floats, '\x01'));
    return zip;
  }
  static std::string storage() { return pickled::storage("FloatStorage", "0", 6); }
  // A checkpoint whose weights are one tensor "w".
  static std::string one(const std::string& value) { return pickled::dict({pickled::text("w"), value}); }
  static std::string matrix() { return one(pickled::tensor(storage(), 0, {2, 3}, {3, 1})); }
  void refuse(const std::string& bytes, const std::vector<std::string>& parts) const {
    expect_error(error(bytes), parts);
  }
  void refuse_pickle(const std::string& pickle, const std::vector<std::string>& parts) const {
    refuse(archive(pickle).bytes(), parts);
  }

  struct MemoryFile {
    const int descriptor = memfd_create("checkpoint", MFD_CLOEXEC);
    ~MemoryFile() { close(descriptor); }
    std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor); }
  };

  TemporaryDirectory dir;
  MemoryFile memory;
};

TEST_F(HostileCheckpoint, TheSampleItselfIsSound) { EXPECT_EQ(error(archive(matrix()).bytes()), ""); }

TEST_F(HostileCheckpoint, CallsAreNeverRun) {
  const std::string owned = dir.path("owned");
  const std::string attack = pickled::call(pickled::global("posix", "system"), {pickled::text("touch " + owned)});
  refuse_pickle(attack, {"a call of 'posix.system', which is not run", "dictionary of tensors"});
  refuse_pickle(one(attack), {"tensor 'w' is a call of 'posix.system', which is not run"});
  refuse_pickle(
      one(pickled::call(pickled::global("torch._utils", "_rebuild_tensor_v2"), {attack, attack, attack, attack})),
      {"tensor 'w' lies in a call of 'posix.system'"});
  const std::string beside = pickled::dict({pickled::text("model"), matrix(), pickled::text("args"), attack});
  EXPECT_EQ(error(archive(beside).bytes()), "");
  EXPECT_EQ(TorchCheckpoint(dir.path("f.pth")).others().at("args"), "a call of 'posix.system', which is not run");
  EXPECT_FALSE(std::filesystem::exists(owned));
}

TEST_F(HostileCheckpoint, ValuesThatAreNoWeights) {
  refuse_pickle("N", {"holds None", "model.state_dict()"});
  refuse_pickle(one("K\x01"), {"tensor 'w' is 1"});
  refuse_pickle(one(storage()), {"tensor 'w' is a storage"});
  refuse_pickle(pickled::dict({"K\x01", "N"}), {"a tensor's name is 1"});
  refuse_pickle(pickled::dict({pickled::text("model"), "N"}), {"holds None"});
  const std::string tensor = pickled::tensor(storage(), 0, {6}, {1});
  refuse_pickle(pickled::dict({pickled::text("w"), tensor, pickled::text("w"), tensor}), {"tensor 'w' occurs twice"});
  refuse_pickle(one(pickled::call(pickled::global("torch._utils", "_rebuild_tensor_v2"), {storage()})),
                {"tensor 'w' is rebuilt from too few"});
  refuse_pickle(one(pickled::call(pickled::global("torch._utils", "_rebuild_parameter"), {"N"})),
                {"tensor 'w' is None"});
  refuse_pickle(one(pickled::call(pickled::global("torch._utils", "_rebuild_parameter"), {})), {"tensor 'w'"});
}

TEST_F(HostileCheckpoint, AbsurdShapes) {
  const auto refuse_view = [&](int64_t offset, const std::vector<int64_t>& shape, const std::vector<int64_t>& stride,
                               const std::string& part) {
    refuse_pickle(one(pickled::tensor(storage(), offset, shape, stride)), {"tensor 'w'", part});
  };
  const int64_t huge = int64_t{1} << 40;
  refuse_view(0, {7}, {1}, "beyond its storage of 6");
  refuse_view(1, {6}, {1}, "beyond its storage");
  refuse_view(7, {0}, {1}, "beyond its storage");
  refuse_view(6, {1}, {1}, "beyond its storage");
  refuse_view(INT64_MAX, {1}, {1}, "beyond its storage");
  refuse_view(0, {2, 3}, {4, 1}, "beyond its storage");
  refuse_view(0, {2}, {INT64_MAX}, "beyond its storage");
  refuse_view(0, {3}, {INT64_MAX}, "beyond its storage");
  refuse_view(0, {huge, 1}, {0, 1}, "repeats the elements");
  refuse_view(0, {huge, huge}, {0, 0}, "impossible shape");
  refuse_view(0, {-1}, {1}, "impossible shape");
  refuse_view(0, {2}, {-1}, "impossible shape");
  refuse_view(-1, {2}, {1}, "impossible shape");
  refuse_view(0, {2, 3}, {1}, "impossible shape");
  refuse_view(0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1), "impossible shape");
  EXPECT_EQ(error(archive(one(pickled::tensor(storage(), 6, {0, 5}, {5, 1}))).bytes()), "");
}

TEST_F(HostileCheckpoint, StoragesThatAreNotThere) {
  const auto of = [&](const std::string& storage) { return one(pickled::tensor(storage, 0, {1}, {1})); };
  refuse_pickle(of(pickled::storage("FloatStorage", "1", 6)), {"'a/data/1' is missing"});
  refuse_pickle(of(pickled::storage("FloatStorage", "0", 5)), {"storage '0' has 24 bytes where 5 of F32 need 20"});
  refuse_pickle(of(pickled::storage("FloatStorage", "0", INT64_MAX)), {"storage '0'", "impossible size"});
  refuse_pickle(of(pickled::storage("FloatStorage", "0", -6)), {"storage '0'", "impossible size"});
  refuse_pickle(of(pickled::storage("QInt8Storage", "0", 24)), {"tensor 'w'", "'torch.QInt8Storage'", "float32"});
  refuse_pickle(of(pickled::text("0") + "Q"), {"tensor 'w' lies in a storage"});
  refuse_pickle(of("N"), {"tensor 'w' lies in None"});
  const std::string twice = pickled::storage("FloatStorage", "0", 6) + "0" + pickled::storage("HalfStorage", "0", 12);
  refuse_pickle(of(twice), {"storage '0' is named with two types"});
}

TEST_F(HostileCheckpoint, ZipEntries) {
  const auto change = [&](const std::function<void(ZipToWrite&)>& f, const std::vector<std::string>& parts) {
    ZipToWrite zip = archive(matrix());
    f(zip);
    refuse(zip.bytes(), parts);
  };
  change([](ZipToWrite& z) { z.entries[2].method = 8; }, {"'a/data/0' is compressed (method 8)", "torch.save"});
  change([](ZipToWrite& z) { z.entries[2].flags = 1; }, {"'a/data/0' is encrypted"});
  change([](ZipToWrite& z) { z.entries[2].size = 23; }, {"storage '0' has 23 bytes"});
  change([](ZipToWrite& z) { z.entries[2].size = 1 << 20; }, {"'a/data/0' reaches beyond"});
  change([](ZipToWrite& z) { z.entries[2].header = 1; }, {"'a/data/0' is not at byte 1"});
  change([](ZipToWrite& z) { z.entries[2].header = 1 << 20; }, {"'a/data/0' reaches beyond"});
  change([](ZipToWrite& z) { z.entries[2].local_name = "b"; }, {"'a/data/0' is called 'b' where it lies"});
  change([](ZipToWrite& z) { z.add("a/data/0", "x"); }, {"'a/data/0' occurs twice"});
  change([](ZipToWrite& z) { z.entries[0].name = "a/other"; }, {"without data.pkl"});
  change([](ZipToWrite& z) { z.add("b/data.pkl", "x"); }, {"more than one data.pkl"});
  change([](ZipToWrite& z) { z.entries[1].content = "big"; }, {"big-endian"});
  change([](ZipToWrite& z) { z.entries.erase(z.entries.begin() + 2); }, {"'a/data/0' is missing"});
}

// The second entry lies within the first: its bytes would be read twice.
TEST_F(HostileCheckpoint, OverlappingZipEntries) {
  ZipToWrite inner;
  inner.add("a/data/1", std::string(4, 'x'));
  const std::string hidden = inner.bytes().substr(0, 30 + 8 + 4);
  ZipToWrite zip = archive(matrix());
  zip.add("a/hull", hidden);
  const size_t at = zip.bytes().find(hidden);
  ASSERT_EQ(error(zip.bytes()), "");
  ZipToWrite::Entry& overlapping = zip.add("a/data/1", std::string(4, 'x'));
  overlapping.header = static_cast<int64_t>(at);
  refuse(zip.bytes(), {"entry 'a/data/1' overlaps entry 'a/hull'"});
}

TEST_F(HostileCheckpoint, EveryCutIsRefused) {
  for (const char* name : {"views.pth", "views_legacy.pth"}) {
    const std::string sound = read_raw(kFolder + name);
    ASSERT_EQ(quick_error(sound), "");
    for (size_t length = 0; length < sound.size(); ++length) {
      ASSERT_NE(quick_error(sound.substr(0, length)), "") << name << " cut to " << length;
    }
    refuse(sound + "x", {"f.pth"});
  }
}

// A flipped bit is refused, or leaves every tensor as it was: in what is not read, or for a name.
TEST_F(HostileCheckpoint, EveryFlippedBitOfAnArchiveIsRefusedOrHarmless) {
  const std::string sound = archive(matrix()).bytes();
  size_t harmless = 0;
  for (size_t bit = 0; bit < 8 * sound.size(); ++bit) {
    std::string flipped = sound;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    if (!quick_error(flipped).empty()) continue;
    ++harmless;
    const TorchCheckpoint file(memory.path());
    EXPECT_EQ(file.read_bytes("w"), std::vector<uint8_t>(24, 1)) << "bit " << bit;
    EXPECT_EQ(file.tensors().at("w").shape, (std::vector<int64_t>{2, 3})) << "bit " << bit;
  }
  EXPECT_LT(harmless, 3 * 8 * sound.size() / 4);
}

// Nothing guards the values of the older format; whatever is flipped elsewhere must not do harm.
TEST_F(HostileCheckpoint, FlippedBytesOfTheOlderFormatAreSafe) {
  const std::string sound = read_raw(kFolder + "views_legacy.pth");
  size_t refused = 0;
  for (size_t at = 0; at < sound.size(); ++at) {
    for (const char mask : {'\x01', '\x80', '\xff'}) {
      std::string flipped = sound;
      flipped[at] = static_cast<char>(flipped[at] ^ mask);
      refused += !quick_error(flipped).empty();
    }
  }
  EXPECT_GT(refused, sound.size());
}

TEST_F(HostileCheckpoint, LegacyFilesThatAreWrong) {
  const std::string sound = read_raw(kFolder + "views_legacy.pth");
  const auto change = [&](const std::string& from, const std::string& to, const std::vector<std::string>& parts) {
    std::string changed = sound;
    const size_t at = changed.find(from);
    ASSERT_NE(at, std::string::npos);
    changed.replace(at, from.size(), to);
    refuse(changed, parts);
  };
  change("M\xe9\x03", "M\xe8\x03", {"its protocol is 1000"});
  change("little_endianq\x02\x88", "little_endianq\x02\x89", {"big-endian"});
  change("FloatStorage", "FluatStorage", {"is of no known type"});
}

TEST_F(HostileCheckpoint, OtherFiles) {
  refuse("", {"begins neither"});
  refuse("hello, world: a text", {"begins neither"});
  refuse("PK\x03\x04", {"zip directory at its end is missing"});
  expect_error(error_of([&] { open_tensor_file(dir.path("none.pth")); }), {"none.pth", "cannot be opened"});
  expect_error(error_of([&] { open_tensor_file(dir.root()); }), {"not a regular file", ".pth"});
}

}  // namespace
}  // namespace entangle

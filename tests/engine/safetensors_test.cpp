#include "engine/safetensors.h"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "engine/safetensors_header.h"
#include "tests/files.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

namespace entangle {
namespace {

using Metadata = std::map<std::string, std::string>;

std::string with_length(const std::string& header, const std::string& data, uint64_t length) {
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

std::string with_length(const std::string& header, const std::string& data) {
  return with_length(header, data, header.size());
}

std::string error_on_opening(const std::string& path) {
  return error_of([&] { SafetensorsFile file(path); });
}

// A small file with three tensors, one of them without elements.
std::string write_sample(const TemporaryDirectory& directory, const std::string& name = "sample.safetensors") {
  const std::string path = directory.path(name);
  const float matrix[] = {1, -2.5f, 3e-20f, 4, 5, 6};
  const uint8_t bytes[] = {0, 7, 255};
  write_safetensors(path,
                    {{"matrix", "F32", {2, 3}, matrix}, {"empty", "F32", {0, 5}, nullptr}, {"b", "U8", {3}, bytes}},
                    {{"key", "value"}, {"a \"quoted\"\n one", "\xc3\xa9"}});
  return path;
}

TEST(Safetensors, RoundTrip) {
  const TemporaryDirectory directory;
  const SafetensorsFile file(write_sample(directory));
  EXPECT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.tensors().at("matrix").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.tensors().at("matrix").count(), 6);
  EXPECT_EQ(file.tensors().at("b").begin, 24u);
  EXPECT_EQ(file.read_f32("matrix"), (std::vector<float>{1, -2.5f, 3e-20f, 4, 5, 6}));
  EXPECT_TRUE(file.read_f32("empty").empty());
  EXPECT_EQ(file.read_u8("b"), (std::vector<uint8_t>{0, 7, 255}));
  EXPECT_EQ(file.read_bytes("b"), file.read_u8("b"));
  EXPECT_EQ(file.metadata(), (Metadata{{"key", "value"}, {"a \"quoted\"\n one", "\xc3\xa9"}}));
  EXPECT_TRUE(file.has("empty"));
  EXPECT_FALSE(file.has("__metadata__"));
  EXPECT_EQ(files_in(directory.root()), 1u);
}

TEST(Safetensors, WritesThePublishedLayout) {
  const TemporaryDirectory directory;
  const std::string path = directory.path("f");
  const uint16_t half[] = {0x3c00, 0xc000};
  write_safetensors(path, {{"z", "F16", {2}, half}, {"a", "BF16", {1, 1}, half}}, {});
  const std::string header =
      R"({"z":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"a":{"dtype":"BF16","shape":[1,1],"data_offsets":[4,6]}})";
  const size_t padded = (header.size() + 7) / 8 * 8;
  EXPECT_EQ(read_raw(path),
            with_length(header + std::string(padded - header.size(), ' '), std::string("\x00\x3c\x00\xc0\x00\x3c", 6)));
  write_safetensors(path, {}, {});
  EXPECT_EQ(read_raw(path), with_length("{}      ", ""));
  EXPECT_TRUE(SafetensorsFile(path).tensors().empty());
}

TEST(Safetensors, ConvertsToFloat) {
  const TemporaryDirectory directory;
  const std::string path = directory.path("f");
  const uint16_t half[] = {0x3c00, 0xc000, 0x7bff, 0x0001, 0x83ff, 0x0400, 0x8000, 0x7c00, 0xfc00, 0x7e00};
  const uint16_t brain[] = {0x3f80, 0xc049, 0x7f80, 0x0001};
  const double wide[] = {0.1, -1e300, 1e-60};
  write_safetensors(path, {{"half", "F16", {10}, half}, {"brain", "BF16", {4}, brain}, {"wide", "F64", {3}, wide}}, {});
  const SafetensorsFile file(path);
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> values = file.read_f32("half");
  ASSERT_EQ(values.size(), 10u);
  EXPECT_TRUE(std::isnan(values.back()));
  values.pop_back();
  EXPECT_TRUE(std::signbit(values[6]));
  EXPECT_EQ(values,
            (std::vector<float>{1, -2, 65504, 0x1p-24f, -1023 * 0x1p-24f, 0x1p-14f, 0.0f, infinity, -infinity}));
  EXPECT_EQ(file.read_f32("brain"), (std::vector<float>{1, -3.140625f, infinity, 0x1p-133f}));
  EXPECT_EQ(file.read_f32("wide"), (std::vector<float>{0.1f, -infinity, 0.0f}));
}

TEST(Safetensors, ReadErrorsNameFileAndTensor) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory);
  const SafetensorsFile file(path);
  expect_error(error_of([&] { file.read_f32("nothing\n"); }), {path, "'nothing?'", "has no tensor"});
  expect_error(error_of([&] { file.read_f32("b"); }), {path, "'b'", "holds U8"});
  expect_error(error_of([&] { file.read_u8("matrix"); }), {path, "'matrix'", "holds F32"});
}

TEST(Safetensors, ReadsTheFileThatWasChecked) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory);
  const SafetensorsFile file(path);
  const float other[] = {9};
  write_safetensors(path, {{"matrix", "F32", {1}, other}}, {});
  EXPECT_EQ(file.read_f32("matrix")[1], -2.5f);
  EXPECT_EQ(SafetensorsFile(path).read_f32("matrix"), std::vector<float>{9});
}

TEST(Safetensors, FileThatBecomesShorter) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory);
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_EQ(file.read_f32("matrix").size(), 6u);
  expect_error(error_of([&] { file.read_u8("b"); }), {path, "'b'", "became shorter"});
}

TEST(Safetensors, OpeningWhatIsNoFile) {
  const TemporaryDirectory directory;
  expect_error(error_on_opening(directory.path("none")), {directory.path("none"), "No such file"});
  expect_error(error_on_opening(directory.root()), {directory.root(), "not a regular file"});
  ASSERT_EQ(mkfifo(directory.path("pipe").c_str(), 0600), 0);
  expect_error(error_on_opening(directory.path("pipe")), {"not a regular file"});
}

TEST(Safetensors, HostileLengths) {
  const TemporaryDirectory directory;
  const std::string path = directory.path("f");
  const auto error = [&](const std::string& bytes) {
    write_raw(path, bytes);
    return error_on_opening(path);
  };
  expect_error(error(""), {path, "only 0 bytes"});
  expect_error(error("1234567"), {"only 7 bytes"});
  expect_error(error(with_length("", "")), {"not a JSON object"});
  expect_error(error(with_length("{}", "", 3)), {"cut short", "header of 3 bytes"});
  expect_error(error(with_length("{}", "", 100'000'001)), {"header would have 100000001 bytes"});
  expect_error(error(with_length("{}", "", ~uint64_t{0})), {"header would have 18446744073709551615 bytes"});
  expect_error(error(with_length("{}", "", 99'999'999)), {"cut short"});
}

struct Hostile {
  const char* header;
  const char* message;
};

TEST(Safetensors, HostileHeaders) {
  // Each is followed by eight bytes of data.
  const Hostile cases[] = {
      {R"(null)", "not a JSON object"},
      {R"([])", "not a JSON object"},
      {R"( {})", "not a JSON object"},
      {R"({)", "not valid JSON"},
      {R"({"a)", "not valid JSON"},
      {R"({} {})", "not valid JSON"},
      {R"({"a":1e999})", "not valid JSON"},
      {"{\"a\xff\":1}", "not valid JSON"},
      {R"({})", "8 bytes more"},
      {R"({"a":1})", "tensor 'a' is not described by an object"},
      {R"({"a":[]})", "tensor 'a' is not described by an object"},
      {R"({"a":{}})", "tensor 'a' has no dtype"},
      {R"({"a":{"dtype":"F32","shape":[2]}})", "tensor 'a' has no data_offsets"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", "tensor 'a' has no shape"},
      {R"({"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})", "tensor 'a' has the unknown dtype 'F33'"},
      {R"({"a":{"dtype":32,"shape":[2],"data_offsets":[0,8]}})", "tensor 'a' has a dtype that is not a string"},
      {R"({"a":{"dtype":["F32"],"shape":[2],"data_offsets":[0,8]}})", "tensor 'a' has a dtype that is not a string"},
      {R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", "tensor 'a' has a shape that is not"},
      {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "tensor 'a' has a shape that is not"},
      {R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", "tensor 'a' has a shape that is not"},
      {R"({"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}})", "tensor 'a' has a shape that is not"},
      {R"({"a":{"dtype":"F32","shape":[true],"data_offsets":[0,8]}})", "tensor 'a' has a shape that is not"},
      {R"({"a":{"dtype":"F32","shape":[null],"data_offsets":[0,8]}})", "tensor 'a' has a shape that is not"},
      {R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", "tensor 'a' has a shape that is not"},
      {R"({"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]}})", "a shape that is not"},
      {R"({"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]}})", "a shape that is not"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})", "impossible size"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", "impossible size"},
      {R"({"a":{"dtype":"U8","shape":[4611686018427387904,2,0],"data_offsets":[0,0]}})", "impossible size"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":8}})", "tensor 'a' has data_offsets that are not"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[]}})", "tensor 'a' has data_offsets that are not"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", "tensor 'a' has data_offsets that are not"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})", "tensor 'a' has data_offsets that are not"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", "tensor 'a' has data_offsets that are not"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0.0,8]}})", "tensor 'a' has data_offsets that are not"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":{}}})", "tensor 'a' has data_offsets that are not"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "tensor 'a' begins at 8 after its end 0"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "tensor 'a' has 4 bytes where F32 [2] needs 8"},
      {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,8]}})", "tensor 'a' has 8 bytes where F16 [2] needs 4"},
      {R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,8]}})", "tensor 'a' has 8 bytes where F32 [] needs 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "4 bytes more"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})", "cut short: 4 bytes"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "hole of unused bytes lies before tensor 'a'"},
      {R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[18446744073709551608,18446744073709551615]}})", "7 bytes"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})", "tensor 'a' has the unknown key 'more'"},
      {R"({"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}})", "tensor 'a' has 'shape' twice"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{}})", "the name 'a' occurs twice"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[1],"data_offsets":[7,8]}})",
       "tensor 'b' overlaps"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}})",
       "tensor 'b' overlaps"},
      {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "before tensor 'b'"},
      {R"({"__metadata__":1})", "__metadata__ is not an object of strings"},
      {R"({"__metadata__":["a"]})", "__metadata__ is not an object of strings"},
      {R"({"__metadata__":{"k":1}})", "metadata key 'k' is not a string"},
      {R"({"__metadata__":{"k":{"a":"b"}}})", "metadata key 'k' is not a string"},
      {R"({"__metadata__":{"k":"1","k":"2"}})", "metadata key 'k' occurs twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", "the name '__metadata__' occurs twice"},
  };
  const TemporaryDirectory directory;
  const std::string path = directory.path("f");
  for (const Hostile& hostile : cases) {
    SCOPED_TRACE(hostile.header);
    write_raw(path, with_length(hostile.header, "12345678"));
    expect_error(error_on_opening(path), {path, hostile.message});
  }
}

TEST(Safetensors, HostileNamesAndNesting) {
  const TemporaryDirectory directory;
  const std::string path = directory.path("f");
  const auto error = [&](const std::string& header) {
    write_raw(path, with_length(header, ""));
    return error_on_opening(path);
  };
  const std::string many(1'000'000, '[');
  expect_error(error("{\"a\":" + many), {"is not described by an object"});
  expect_error(error(R"({"a":{"shape":)" + many), {"a shape that is not"});
  std::string objects = "{";
  for (int i = 0; i < 100'000; ++i) objects += "\"dtype\":{";
  expect_error(error(objects), {"'dtype' has a dtype that is not a string"});
  std::string ones = R"({"a":{"dtype":"F32","shape":[1)";
  for (int i = 0; i < 100'000; ++i) ones += ",1";
  expect_error(error(ones), {"more than 64 dimensions"});
  const std::string named = error("{\"" + std::string(10'000, 'x') + "\":1}");
  expect_error(named, {"xxx...'"});
  EXPECT_LT(named.size(), 400u);
  expect_error(error(R"({"\u001b[31m\n\u0000":1})"), {"'?[31m?", "' is not described"});
  expect_error(error(std::string("{}\0 garbage", 11)), {"zero byte"});
}

TEST(Safetensors, FileCutAtEveryLength) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory), whole = read_raw(path);
  for (size_t length = whole.size(); length-- > 0;) {
    std::filesystem::resize_file(path, length);
    EXPECT_NE(error_on_opening(path), "") << length;
  }
  write_raw(path, whole + "x");
  expect_error(error_on_opening(path), {"1 bytes more"});
}

TEST(Safetensors, EveryFlippedBitOfTheLengthIsAnError) {
  const TemporaryDirectory directory;
  const std::string path = write_sample(directory), whole = read_raw(path);
  for (int bit = 0; bit < 64; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    write_raw(path, flipped);
    EXPECT_NE(error_on_opening(path), "") << "bit " << bit;
  }
}

// What is accepted must lie within the data, each byte once.
TEST(Safetensors, EveryFlippedBitOfTheHeaderIsAnErrorOrAnotherSoundHeader) {
  const TemporaryDirectory directory;
  const size_t data_bytes = 6 * 4 + 3;
  const std::string whole = read_raw(write_sample(directory));
  const std::string header = whole.substr(8, whole.size() - 8 - data_bytes);
  size_t errors = 0;
  for (size_t bit = 0; bit < 8 * header.size(); ++bit) {
    std::string flipped = header;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    uint64_t covered = 0;
    const std::string message = error_of([&] {
      for (const auto& [name, entry] : parse_safetensors_header("f", flipped, data_bytes).tensors) {
        covered += entry.end - entry.begin;
      }
    });
    if (message.empty()) {
      EXPECT_EQ(covered, data_bytes) << flipped;
    }
    errors += !message.empty();
  }
  EXPECT_GT(errors, 4 * header.size());  // the others rename a tensor or change the metadata
}

TEST(Safetensors, RefusesToWriteWhatCannotBeRead) {
  const TemporaryDirectory directory;
  const std::string path = directory.path("f");
  const float one[] = {1};
  const auto error = [&](const std::vector<TensorToWrite>& tensors, const Metadata& metadata = {}) {
    return error_of([&] { write_safetensors(path, tensors, metadata); });
  };
  expect_error(error({{"a", "F32", {1}, one}, {"a", "F32", {1}, one}}), {path, "two tensors are called 'a'"});
  expect_error(error({{"__metadata__", "F32", {1}, one}}), {"two tensors are called '__metadata__'"});
  expect_error(error({{"a", "float", {1}, one}}), {"tensor 'a'", "'float' [1]"});
  expect_error(error({{"a", "F32", {-1}, one}}), {"tensor 'a'", "'F32' [-1]"});
  expect_error(error({{"a", "F32", {INT64_MAX, 2}, one}}), {"tensor 'a'", "impossible"});
  expect_error(error({{"\xff", "F32", {1}, one}}), {"not UTF-8"});
  expect_error(error({}, {{"key", "\xff"}}), {"not UTF-8"});
  expect_error(error({}, {{"key", std::string(100'000'000, 'x')}}), {"its header has"});
  EXPECT_EQ(files_in(directory.root()), 0u);
}

}  // namespace
}  // namespace entangle

// The supernet against numbers made by the published code.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/check.h"
#include "tests/temporary_directory.h"
#include "tools/common/parity.h"

namespace entangle {
namespace {

void expect_parity(const std::string& folder, size_t rows_at_least) {
  const std::vector<ParityRow> rows = check_parity(folder);
  EXPECT_GE(rows.size(), rows_at_least);
  for (const ParityRow& row : rows) EXPECT_TRUE(row.ok()) << row.what << ": " << row.difference << " > " << row.allowed;
}

TEST(SupernetParity, EqualsThePublishedCode) { expect_parity("tests/golden/supernet_small", 100); }

TEST(SupernetParity, EqualsThePublishedCodeWithClassTokenAndClamp) {
  expect_parity("tests/golden/supernet_cls_token_clamped", 90);
}

size_t failures(const std::string& folder) {
  const std::vector<ParityRow> rows = check_parity(folder);
  return static_cast<size_t>(std::count_if(rows.begin(), rows.end(), [](const ParityRow& row) { return !row.ok(); }));
}

TEST(SupernetParity, OneChangedNumberFails) {
  const TemporaryDirectory dir;
  const std::string copy = dir.path("golden");
  std::filesystem::copy("tests/golden/supernet_cls_token_clamped", copy);
  ASSERT_EQ(failures(copy), 0u);
  for (const char* name : {"case1.safetensors", "case2.safetensors", "after_steps.safetensors"}) {
    const std::string path = copy + "/" + name;
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-4, std::ios::end);
    float value = 0;
    file.read(reinterpret_cast<char*>(&value), 4);
    const float changed = value + 0.01f;
    file.seekp(-4, std::ios::end);
    file.write(reinterpret_cast<const char*>(&changed), 4);
    file.close();
    EXPECT_EQ(failures(copy), 1u) << name;
    std::filesystem::copy_file(std::string("tests/golden/supernet_cls_token_clamped/") + name, path,
                               std::filesystem::copy_options::overwrite_existing);
  }
}

TEST(SupernetParity, BrokenFolderIsNamed) {
  const TemporaryDirectory dir;
  EXPECT_THROW(check_parity(dir.path("nothing")), Error);
  std::ofstream(dir.path("cases.json")) << "{\"supernet\": {}}";
  EXPECT_THROW(check_parity(dir.root()), Error);
  std::filesystem::copy("tests/golden/supernet_cls_token_clamped", dir.path("empty"));
  std::ifstream in("tests/golden/supernet_cls_token_clamped/cases.json");
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  text = text.substr(0, text.find("\"cases\"")) + "\"cases\": []}";
  std::ofstream(dir.path("empty/cases.json")) << text;
  EXPECT_THROW(check_parity(dir.path("empty")), Error) << "nothing compared must not count as equal";
}

}  // namespace
}  // namespace entangle

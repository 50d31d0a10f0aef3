// The fuzzer's targets over their corpora, so that they stay alive between two runs of the fuzzer; and over the same files
// cut short and with bytes changed.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "engine/rng.h"
#include "tests/files.h"
#include "tests/fuzz/fuzz.h"

namespace entangle {
namespace {

constexpr const char* kCorpus = "tests/fuzz/corpus";

bool taken(FuzzTarget target, const std::string& bytes) {
  return run_fuzz_target(target, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

std::set<std::string> corpus_of(const std::string& target) {
  std::set<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(kCorpus) + "/" + target)) {
    files.insert(read_raw(entry.path().string()));
  }
  return files;
}

TEST(Fuzz, EveryTargetHasACorpusAndEveryCorpusATarget) {
  std::set<std::string> targets, corpora;
  for (const auto& [name, target] : fuzz_targets()) targets.insert(name);
  for (const auto& entry : std::filesystem::directory_iterator(kCorpus))
    corpora.insert(entry.path().filename().string());
  EXPECT_EQ(targets, corpora);
  EXPECT_GE(targets.size(), 4u);
}

TEST(Fuzz, TargetsTakeTheirCorpora) {
  for (const auto& [name, target] : fuzz_targets()) {
    const std::set<std::string> files = corpus_of(name);
    const auto accepted =
        std::count_if(files.begin(), files.end(), [&](const auto& file) { return taken(target, file); });
    EXPECT_GT(accepted, 0) << name << ": the corpus holds a sound file";
    EXPECT_FALSE(taken(target, "neither this nor that")) << name;
  }
}

TEST(Fuzz, DamagedFilesAreTakenOrRefused) {
  for (const auto& [name, target] : fuzz_targets()) {
    uint64_t number = 0;
    for (const std::string& file : corpus_of(name)) {
      Rng rng(1, Stream::synthetic, number++);
      for (int i = 0; i < 40; ++i)
        taken(target, file.substr(0, static_cast<size_t>(rng.below(1 + int64_t(file.size())))));
      for (int i = 0; i < 40 && !file.empty(); ++i) {
        std::string changed = file;
        for (int64_t k = rng.below(4); k >= 0; --k) {
          changed[static_cast<size_t>(rng.below(static_cast<int64_t>(file.size())))] =
              static_cast<char>(rng.below(256));
        }
        taken(target, changed);
      }
    }
  }
}

}  // namespace
}  // namespace entangle

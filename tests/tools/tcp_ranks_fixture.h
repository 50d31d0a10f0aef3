// What tests run on whose processes are started with a launcher's variables alone.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/socket.h"
#include "tests/tools/programs_fixture.h"

namespace entangle {

inline int free_port() { return listen_at(0, true).port(); }

class TcpRanks : public Programs {
 protected:
  static std::string program_path(const std::string& name) {
    const char* folder = std::getenv("ENTANGLE_PROGRAMS");
    return std::filesystem::absolute(std::filesystem::path(folder == nullptr ? "." : folder) / name);
  }

  // One of them; its output goes to a folder of its own.
  std::unique_ptr<Running> start(int rank, const std::vector<std::string>& variables,
                                 const std::vector<std::string>& command) {
    const std::string folder = dir.path("rank" + std::to_string(rank));
    std::filesystem::create_directories(folder);
    std::vector<std::string> words = {"/usr/bin/env"};
    words.insert(words.end(), variables.begin(), variables.end());
    words.insert(words.end(), command.begin(), command.end());
    words[1 + variables.size()] = program_path(command[0]);
    return std::make_unique<Running>(folder, words);
  }

  static std::vector<std::string> as_torchrun(int rank, int size, int port) {
    const std::string number = std::to_string(rank), count = std::to_string(size);
    return {"RANK=" + number,        "WORLD_SIZE=" + count,
            "LOCAL_RANK=" + number,  "LOCAL_WORLD_SIZE=" + count,
            "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + std::to_string(port)};
  }

  std::vector<std::string> in_batches(int images, const std::string& run, const std::string& epochs,
                                      const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words =
        train(run, {"--batch-size", std::to_string(images), "--threads", "1", "--epochs", epochs});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::vector<std::string> small_batches(const std::string& run, const std::string& epochs,
                                         const std::vector<std::string>& more = {}) const {
    return in_batches(16, run, epochs, more);
  }

  // Of all ranks, the first one's first.
  template <class Variables>
  std::vector<Outcome> run_all(int size, const Variables& variables, const std::vector<std::string>& command) {
    std::vector<std::unique_ptr<Running>> running;
    for (int rank = 0; rank < size; ++rank) running.push_back(start(rank, variables(rank), command));
    std::vector<Outcome> outcomes;
    for (const auto& one : running) outcomes.push_back(one->wait());
    return outcomes;
  }

  void expect_same_training(const std::string& run, const std::string& other, double tolerance = 1e-4) const {
    const auto got = log_records(dir.path(run + "/log.jsonl")), want = log_records(dir.path(other + "/log.jsonl"));
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(got[i]["architecture"], want[i]["architecture"]);
      EXPECT_NEAR(got[i]["loss"].get<double>(), want[i]["loss"].get<double>(), tolerance) << run << " step " << i + 1;
    }
  }
};

}  // namespace entangle

// What tests run on whose processes mpirun starts, as a user starts them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "engine/communicator_mpi.h"
#include "tests/tools/programs_fixture.h"

namespace entangle {

inline std::string mpirun() {
  for (const char* path : {"/usr/bin/mpirun", "/usr/local/bin/mpirun"}) {
    if (std::filesystem::exists(path)) return path;
  }
  return "";
}

class Ranks : public Programs {
 protected:
  void SetUp() override {
    if (!has_mpi() || mpirun().empty()) GTEST_SKIP() << "no MPI";
    Programs::SetUp();
    prepare_environment();
    static const bool starts = run({mpirun(), "-n", "2", "/bin/true"}).status == 0;
    if (!starts) GTEST_SKIP() << "mpirun starts no processes here: try mpirun -n 2 true";
  }

  static void prepare_environment() {
    // As root, more ranks than cores, and all of the latter to the one that works.
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 1);  // containers forbid it
#if defined(__SANITIZE_ADDRESS__)
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);  // the library's own
#endif
  }

  // The tiny supernet in batches of 16.
  std::vector<std::string> ranks(int count, const std::string& run, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = train(run, {"--batch-size", "16", "--threads", "1"});
    words.insert(words.end(), more.begin(), more.end());
    return over(count, words);
  }
  // In batches of 32, which four can share.
  std::vector<std::string> of_32(int count, const std::string& run, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = ranks(count, run, more);
    std::replace(words.begin(), words.end(), std::string("16"), std::string("32"));
    return words;
  }
  // The command of a program in `count` processes; 0: without a launcher.
  static std::vector<std::string> over(int count, std::vector<std::string> words) {
    if (count == 0) return words;
    const char* folder = std::getenv("ENTANGLE_PROGRAMS");
    words[0] = std::filesystem::absolute(std::filesystem::path(folder == nullptr ? "." : folder) / words[0]);
    const std::vector<std::string> launcher = {mpirun(), "-n", std::to_string(count)};
    words.insert(words.begin(), launcher.begin(), launcher.end());
    return words;
  }

  // The process numbers of an mpirun's ranks; empty when they have not been started yet.
  static std::vector<pid_t> processes_of(const Running& launcher) {
    const std::string id = std::to_string(launcher.process());
    std::ifstream in("/proc/" + id + "/task/" + id + "/children");
    std::vector<pid_t> all;
    for (pid_t process = 0; in >> process;) all.push_back(process);
    return all;
  }

  // Whether all of them have ended within half a minute: a launcher does not wait until those that it killed have given their
  // memory back. One that nobody has waited for yet has ended all the same.
  static bool end_soon(const std::vector<pid_t>& processes) {
    const auto lives = [](pid_t process) {
      const std::string state = read_raw("/proc/" + std::to_string(process) + "/stat");
      const size_t name_ends = state.rfind(')');
      return name_ends != std::string::npos && state[name_ends + 2] != 'Z';
    };
    for (int i = 0; i < 3000 && std::any_of(processes.begin(), processes.end(), lives); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return std::none_of(processes.begin(), processes.end(), lives);
  }
};

}  // namespace entangle

// What every program's command line has in common.
//
//   int main(int argc, char** argv) {
//     Program program("Counts what a subnet costs.", "  ./count_cost --config T\n");
//     int64_t batch = 1;
//     program.number("--batch-size", batch, "images of a step");
//     return program.run(argc, argv, [&] { ... });
//   }
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/communicator.h"
#include "engine/kernel.h"

namespace entangle {

inline constexpr const char* kVersion = "entangle 0.1.0";

// "1500", "6M", "2.5k": k, M and G are powers of ten. Throws Error when it is not such a whole number.
int64_t parse_number(const std::string& text);

class Program {
 public:
  // `summary` is one sentence; `examples` are whole lines, shown by --help.
  Program(const std::string& summary, const std::string& examples);

  // The argument parser, for options and flags of the program's own.
  CLI::App& app() { return app_; }
  // A whole number with an optional suffix k, M or G.
  CLI::Option* number(const std::string& flag, int64_t& value, const std::string& help);
  CLI::Option* number(const std::string& flag, std::optional<int64_t>& value, const std::string& help);

  // A flag that stands for a key of the configuration, as a word or as a number with an optional suffix; and
  // --set SECTION.key=value for all other keys.
  void setting(const std::string& flag, const std::string& key, const std::string& help);
  void number_setting(const std::string& flag, const std::string& key, const std::string& help);
  void settings_option();
  // What those flags said, as load_config takes it.
  const std::vector<std::string>& settings() const { return settings_; }

  // --trace FILE, for TraceFile (tools/common/trace_file.h). Empty: none was asked for.
  void trace_option();
  const std::string& trace() const { return trace_; }

  // --rank-timeout, for join_ranks(); `seconds` holds the default.
  void rank_timeout_option(double& seconds);
  // --deterministic-reduce, a setting.
  void deterministic_reduce_option();

  // --tensorboard, for the boards of tools/common/run_board.h.
  void tensorboard_option();
  bool tensorboard() const { return tensorboard_; }

  // Parses, applies the common flags (--device, --threads, --seed, --precision, --version) and runs `body`. Returns the
  // exit code: 0; 1 after printing "error: ..." for an Error or another exception of `body`; 2 for wrong arguments. What
  // several ranks meet is printed by the first: another one prints when the launcher does not end it within two seconds.
  int run(int argc, char** argv, const std::function<void()>& body);

  // Of --device, within `body`; a real GPU when none was named and one can be used.
  DeviceKind device() const { return device_ == "cpu" ? DeviceKind::cpu : DeviceKind::cuda; }
  std::optional<uint64_t> seed() const { return seed_; }

 private:
  void apply_common();

  CLI::App app_;
  std::string device_, trace_;
  bool tensorboard_ = false;
  int threads_ = 0;
  std::optional<uint64_t> seed_;
  std::vector<std::string> settings_;
};

// Once asked to stop (SIGINT or SIGTERM), interrupted() is true; asked twice, the process ends at once.
void watch_for_interrupts();
bool interrupted();

// The processes that a launcher started with this one (engine/communicator.h). An interrupt shortens how long they wait for
// one another, which is `timeout` seconds otherwise. `device`: where they sum numbers. From here on the first one alone is heard
// on stdout.
std::unique_ptr<Communicator> join_ranks(double timeout, DeviceKind device = DeviceKind::cpu);

}  // namespace entangle

#include "tools/common/cli.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/launcher.h"
#include "engine/parallel.h"

namespace entangle {
namespace {

constexpr int kUserError = 1, kWrongArguments = 2;

volatile sig_atomic_t interrupt_signal = 0;

void on_interrupt(int signal) {
  if (interrupt_signal != 0) _exit(128 + signal);
  interrupt_signal = signal;
}

// One line, whatever the message was made of.
void print_error(std::string message) {
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  std::fflush(stdout);
  std::fprintf(stderr, "error: %s\n", message.c_str());
}

// Of the processes that a launcher started.
bool is_first() {
  try {
    return launched().rank == 0;
  } catch (const Error&) {
    return true;  // and what is wrong with its variables is told
  }
}

// What all ranks meet the first one tells. It ends, and the launcher then ends the others, which keep quiet until then.
void tell(const std::string& message) {
  constexpr std::chrono::milliseconds kPatience(2000), kNap(20);
  const bool was_interrupted = interrupted();
  for (std::chrono::milliseconds waited = kNap; !is_first() && !was_interrupted && waited < kPatience; waited += kNap) {
    if (interrupted()) return;
    std::this_thread::sleep_for(kNap);
  }
  print_error(message);
}

// What the parser itself would read as another number: negative, or beyond 64 bits.
CLI::Validator whole_number() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        uint64_t value = 0;
        const char* end = text.data() + text.size();
        const auto [stop, error] = std::from_chars(text.data(), end, value);
        return error == std::errc() && stop == end ? "" : "'" + text + "' is not a whole number of 0 to 2^64 - 1";
      },
      "");
}

// Rewrites "6M" as "6000000" for the parser.
CLI::Validator with_suffix() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        try {
          text = std::to_string(parse_number(text));
          return "";
        } catch (const Error& error) {
          return error.what();
        }
      },
      "");
}

// A launcher's processes on one machine share its cores, unless each has been given cores of its own; 0: every core.
int default_threads() {
  const int local = launched().local_size, cores = static_cast<int>(std::thread::hardware_concurrency());
  return local > 1 && cores >= sysconf(_SC_NPROCESSORS_ONLN) ? std::max(1, cores / local) : 0;
}

CLI::Validator device_name() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        const bool numbered = text.rfind("cuda:", 0) == 0 && text.size() > 5 &&
                              text.find_first_not_of("0123456789", 5) == std::string::npos;
        return text == "cpu" || text == "cuda" || numbered ? "" : "'" + text + "' is not cpu, cuda or cuda:N";
      },
      "");
}

}  // namespace

int64_t parse_number(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const std::string suffix = end;
  const double unit = suffix == "k" ? 1e3 : suffix == "M" ? 1e6 : suffix == "G" ? 1e9 : 1;
  const double scaled = std::round(value * unit);
  CHECK(!text.empty() && end != text.c_str() && (suffix.empty() || unit > 1), "'", text,
        "' is not a number, with k, M or G behind it or not");
  // A decimal fraction is rarely exact in binary: 5.87 * 1e6 is off by one unit in the last place.
  CHECK(std::fabs(value * unit - scaled) <= 1e-9 * std::fabs(scaled) && std::fabs(scaled) < 9e15, "'", text,
        "' is not a whole number in range");
  return static_cast<int64_t>(scaled);
}

Program::Program(const std::string& summary, const std::string& examples) : app_(summary) {
  app_.footer("\nExamples:\n" + examples);
  app_.set_version_flag("--version", kVersion);
  app_.add_option("--device", device_,
                  "cpu, cuda or cuda:N; a real GPU when one can be used, else cpu. Of several processes on a "
                  "machine each takes the GPU of its number")
      ->check(device_name());
  app_.add_option("--threads", threads_, "threads, 0 for every core")->check(CLI::Range(0, 4096));
  app_.add_option("--seed", seed_, "seed of everything drawn at random")->check(whole_number())->type_name("N");
  setting("--precision", "MODEL.precision", "of the operands of matrix products: fp32 or bf16");
  app_.get_option("--precision")->check(CLI::IsMember({"fp32", "bf16"}));
}

CLI::Option* Program::number(const std::string& flag, int64_t& value, const std::string& help) {
  return app_.add_option(flag, value, help)->transform(with_suffix())->type_name("N");
}

CLI::Option* Program::number(const std::string& flag, std::optional<int64_t>& value, const std::string& help) {
  return app_.add_option(flag, value, help)->transform(with_suffix())->type_name("N");
}

void Program::setting(const std::string& flag, const std::string& key, const std::string& help) {
  app_.add_option_function<std::string>(
      flag, [this, key](const std::string& value) { settings_.push_back(key + "=" + value); }, help);
}

void Program::number_setting(const std::string& flag, const std::string& key, const std::string& help) {
  app_.add_option_function<int64_t>(
          flag, [this, key](int64_t value) { settings_.push_back(concat(key, "=", value)); }, help)
      ->transform(with_suffix())
      ->type_name("N");
}

void Program::settings_option() {
  app_.add_option_function<std::vector<std::string>>(
          "--set",
          [this](const std::vector<std::string>& all) { settings_.insert(settings_.end(), all.begin(), all.end()); },
          "SECTION.key=value: a value of the configuration; may be repeated")
      ->allow_extra_args(false);
}

void Program::trace_option() {
  app_.add_option("--trace", trace_,
                  "writes a time line of the steps (operations, kernels, loader, memory) for ui.perfetto.dev");
}

void Program::rank_timeout_option(double& seconds) {
  app_.add_option("--rank-timeout", seconds, "seconds that processes wait for one that does not answer")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void Program::deterministic_reduce_option() {
  app_.add_flag_function(
      "--deterministic-reduce", [this](int64_t) { settings_.insert(settings_.begin(), "TRAIN.shards=8"); },
      "the same bits for 1, 2, 4 and 8 processes (TRAIN.shards=8)");
}

void Program::tensorboard_option() {
  app_.add_flag("--tensorboard", tensorboard_,
                "writes the log's numbers into tensorboard/ in the run's directory as well, for tensorboard --logdir");
}

void Program::apply_common() {
  if (device_.empty()) device_ = has_gpu() ? "cuda" : "cpu";
  if (device_ == "cuda") select_cuda(gpu_of(launched(), visible_gpus()));
  if (device_.rfind("cuda:", 0) == 0) select_cuda(static_cast<int>(parse_number(device_.substr(5))));
  set_threads(threads_ > 0 ? threads_ : default_threads());
}

int Program::run(int argc, char** argv, const std::function<void()>& body) {
  ::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes is then an error of the write, with a message
  ::signal(SIGPIPE, SIG_IGN);  // a reader that went away must not end a training
  try {
    app_.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app_.exit(asked);
  } catch (const CLI::ParseError& error) {
    tell(concat(error.what(), "; see --help"));
    return kWrongArguments;
  }
  try {
    apply_common();
    body();
    CHECK(std::fflush(stdout) == 0 && std::ferror(stdout) == 0,
          "the output could not be written: ", std::strerror(errno));
    return 0;
  } catch (const std::bad_alloc&) {
    tell("out of memory; use a smaller batch");
  } catch (const std::exception& error) {
    tell(error.what());
  }
  return kUserError;
}

void watch_for_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return interrupt_signal != 0; }

std::unique_ptr<Communicator> join_ranks(double timeout, DeviceKind device) {
  CommunicatorOptions options;
  options.timeout = timeout;
  options.timeout_when_asked = std::min(timeout, options.timeout_when_asked);
  options.asked_to_stop = interrupted;
  std::unique_ptr<Communicator> ranks = join_processes(options, device);
  CHECK(ranks->first() || std::freopen("/dev/null", "w", stdout) != nullptr, "cannot open /dev/null");
  return ranks;
}

}  // namespace entangle

// Trains the entangled supernet of a configuration.
#include <cstdio>
#include <filesystem>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "tools/common/cli.h"
#include "tools/common/config.h"
#include "tools/common/environment.h"
#include "tools/common/memory_check.h"
#include "tools/common/models.h"
#include "tools/common/report.h"
#include "tools/common/run_board.h"
#include "tools/common/run_directory.h"
#include "tools/common/trace_file.h"
#include "tools/common/trainer.h"

namespace entangle {
namespace {

constexpr const char* kExamples =
    "  ./train_supernet                                  Fashion-MNIST, a few minutes on two cores\n"
    "  ./train_supernet --epochs 30 --output runs/long\n"
    "  ./train_supernet --resume                         continues an interrupted run\n"
    "  ./train_supernet --tensorboard                    then: tensorboard --logdir runs/fashion-mnist/tensorboard\n"
    "  mpirun -n 4 ./train_supernet                      four processes share every batch\n"
    "  torchrun --no-python --nproc-per-node 4 ./train_supernet --device cuda    with a GPU each\n"
    "  ./train_supernet --init supernet-tiny.pth --config T --data imagenet:DIR --output runs/T\n"
    "  ./train_supernet --config my.yaml --data fashion-mnist:DIR --set TRAIN.lr=5e-4\n";

struct Flags {
  std::string config, output, init, trace;
  std::vector<std::string> settings;  // all that the command line says about the configuration
  bool resume = false, no_report = false, tensorboard = false;
  double rank_timeout = 60;
};

// What the command line asks for; for a resume without --config, on top of what the run has: `stored`, in the file `name`.
Config wanted_config(const Flags& flags, const std::string& stored, const std::string& name) {
  if (!flags.init.empty()) {
    Config config = config_of(flags.init, flags.config, flags.settings);
    config.model.qkv_bias = qkv_bias_of(flags.init);
    return config;
  }
  if (!flags.config.empty()) return load_config(flags.config, flags.settings);
  if (stored.empty()) return load_config("fashion-mnist", flags.settings);
  return parse_config(stored, name, flags.settings);
}

std::string output_of(const Flags& flags) {
  if (!flags.output.empty()) return flags.output;
  return "runs/" + (flags.config.empty() ? "fashion-mnist" : load_config(flags.config).name);
}

void print_next_command(const Config& config, const std::string& output) {
  const double smallest = static_cast<double>(cost_of(config.model, config.space.smallest()).params);
  const double largest = static_cast<double>(cost_of(config.model, config.space.largest()).params);
  std::printf("next: ./search_subnets --run %s --max-params %.0fk\n", output.c_str(), (smallest + largest) / 2000);
}

void train(const Flags& flags, DeviceKind device) {
  const std::unique_ptr<Communicator> ranks = join_ranks(flags.rank_timeout, device);
  const std::string output = output_of(flags);
  const auto wanted = [&](const std::string& stored, const std::string& name) {
    return wanted_config(flags, stored, name);
  };
  const Config config = flags.resume ? resumed_config(output, wanted) : wanted("", "");
  CHECK(!config.subnet, "the configuration ", config.name,
        " is of one architecture (MODEL.subnet), not of a supernet; train it with ./train_subnet");
  const int64_t params = supernet_params(config.model);
  check_memory(config.model, config.largest(), part_of_batch(config.train, ranks->size()),
               {params, LoaderOptions().prefetch + 1}, device, "--batch-size");
  TraceFile trace(ranks->first() ? flags.trace : "");
  const RunDirectory run(output, ranks->first() ? RunDirectory::Access::write : RunDirectory::Access::read);
  CHECK(flags.resume || !(run.has("config.yaml") || run.has("checkpoint.safetensors")), output,
        " holds a run already: continue it with --resume, or start another with --output");
  Trainer trainer(config, run, flags.resume, device, *ranks);
  if (!flags.init.empty()) {
    trainer.start_from([&](Supernet& supernet) { load_checkpoint(flags.init, supernet, false); });
  }
  if (ranks->first() && !run.has("config.yaml")) write_file_atomically(run.config_file(), config.to_yaml());
  if (ranks->first()) write_environment(output, device, ranks->size());
  if (flags.tensorboard && ranks->first()) {
    trainer.log()->show_on(
        std::make_unique<TrainingBoard>(output, board_texts(config, environment(device, ranks->size()))));
  }
  const std::string what = flags.resume ? "resuming " + output : "training " + config.name + " in " + output;
  const std::string sharing = ranks->size() == 1 ? "" : concat(", shared by ", ranks->size(), " processes");
  std::printf("%s: %.3g architectures in %.2f M parameters%s\n", what.c_str(), config.space.count(),
              static_cast<double>(params) / 1e6, sharing.c_str());
  trace.start(device);
  const bool trained = trainer.train();
  trace.finish();
  const bool done = trained && trainer.report_test();
  if (done) {
    if (!flags.no_report && ranks->first()) report_run(output);
    print_next_command(config, output);
  } else {
    std::printf("stopped after step %lld; continue with: ./train_supernet --resume --output %s\n",
                static_cast<long long>(trainer.step()), output.c_str());
  }
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Trains a supernet: all architectures of a search space in one set of weights.", kExamples);
  Flags flags;
  program.app().add_option("--config", flags.config, "a file or a built-in name: fashion-mnist (default), T, S, B");
  CLI::Option* output = program.app().add_option("--output", flags.output,
                                                 "the run's directory (default runs/<name of the configuration>)");
  CLI::Option* resume = program.app().add_flag("--resume", flags.resume, "continue the run in that directory");
  program.app()
      .add_option("--init", flags.init, "weights to begin with, .safetensors or .pth, instead of random ones")
      ->needs(output)
      ->excludes(resume);
  program.setting("--data", "DATA.spec", "data set, such as fashion-mnist:DIR");
  program.number_setting("--epochs", "TRAIN.epochs", "passes over the training images");
  program.number_setting("--batch-size", "TRAIN.batch_size", "images of a step");
  program.deterministic_reduce_option();
  program.rank_timeout_option(flags.rank_timeout);
  program.app().add_flag("--no-report", flags.no_report, "write no page about the run (report.html) at the end");
  program.settings_option();
  program.trace_option();
  program.tensorboard_option();
  return program.run(argc, argv, [&] {
    flags.settings = program.settings();
    flags.trace = program.trace();
    flags.tensorboard = program.tensorboard();
    if (program.seed()) flags.settings.push_back(concat("TRAIN.seed=", *program.seed()));
    watch_for_interrupts();
    train(flags, program.device());
  });
}

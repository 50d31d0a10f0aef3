// Trains one architecture: from scratch, or from weights that it inherits, on their data set or another.
#include <cstdio>
#include <filesystem>
#include <optional>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "engine/tensor_file.h"
#include "nn/cost.h"
#include "nn/subnet.h"
#include "tools/common/cli.h"
#include "tools/common/environment.h"
#include "tools/common/memory_check.h"
#include "tools/common/models.h"
#include "tools/common/run_board.h"
#include "tools/common/run_directory.h"
#include "tools/common/trainer.h"

namespace entangle {
namespace {

constexpr const char* kExamples =
    "  ./train_subnet --init inherit:runs/fashion-mnist/checkpoint.safetensors --architecture\n"
    "      runs/fashion-mnist/best_architecture.json --epochs 1 --set TRAIN.lr=2e-4 --output runs/finetuned\n"
    "  ./train_subnet --config T --architecture published:T --data imagenet:DIR --output runs/scratch\n"
    "  ./train_subnet --init inherit:supernet-small.pth --init-config S --config S --architecture published:S\n"
    "      --data folder:DIR --set MODEL.image_size=384 --set TRAIN.layer_decay=0.75 --output runs/transfer\n"
    "  ./train_subnet --resume --output runs/transfer\n"
    "  mpirun -n 4 ./train_subnet ...                    four processes share every batch (make MPI=1)\n"
    "The head gets as many classes as the data set has. --set TRAIN.linear_probe=true trains the head alone,\n"
    "TRAIN.average_decay=0.9999 keeps an average of the weights, TRAIN.teacher=FILE distils.\n";

struct Flags {
  std::string config, output, architecture, init = "scratch", init_config;
  std::vector<std::string> settings;
  bool resume = false, tensorboard = false;
  double rank_timeout = 60;
};

// The file to inherit from; empty for a start from random weights.
std::string inherited_file(const Flags& flags) {
  const std::string inherit = "inherit:";
  if (flags.init == "scratch") return "";
  CHECK(flags.init.rfind(inherit, 0) == 0 && flags.init.size() > inherit.size(), "--init is '", flags.init,
        "', but must be scratch or inherit:FILE");
  return flags.init.substr(inherit.size());
}

// The weights' own configuration where nothing else is said.
Config base_config(const Flags& flags, const std::string& file) {
  if (file.empty()) return load_config(flags.config.empty() ? "fashion-mnist" : flags.config, flags.settings);
  return config_of(file, flags.config.empty() ? flags.init_config : flags.config, flags.settings);
}

std::optional<LoadedModel> load_ancestor(const Flags& flags, const std::string& file, DeviceKind device) {
  if (file.empty()) return std::nullopt;
  const bool carries = open_tensor_file(file)->metadata().count("config") != 0;
  const std::string own = flags.init_config.empty() && !carries ? flags.config : flags.init_config;
  return load_model(file, own, device);
}

// The configuration of the architecture's own weights, with a head for the data set's classes.
Config config_of_run(const Config& base, const Architecture& architecture) {
  Config config = base.dense(architecture);
  CHECK(!config.data.spec.empty(), "configuration ", config.name, " names no data set; give --data SPEC");
  config.model.num_classes = open_data(config.data.spec, config.data.options).train->classes();
  // Written and read again: every value is checked, and the run's file says the same.
  return parse_config(config.to_yaml(), config.name);
}

void report_inheritance(const Inherited& inherited, const std::string& file) {
  std::printf("inherited from %s%s%s%s\n", file.c_str(), inherited.new_head ? "; new head" : "",
              inherited.resampled_positions ? "; position embedding resampled" : "",
              inherited.extended_tables ? "; relative position tables extended" : "");
}

void run_trainer(Trainer& trainer, const Config& config, const RunDirectory& run, const Flags& flags, DeviceKind device,
                 Communicator& ranks) {
  if (ranks.first()) {
    if (!run.has("config.yaml")) write_file_atomically(run.config_file(), config.to_yaml());
    write_environment(run.path(), device, ranks.size());
    write_file_atomically(run.file("best_architecture.json"), config.model.dense.to_json() + "\n");
    if (flags.tensorboard) {
      const auto texts = board_texts(config, environment(device, ranks.size()));
      trainer.log()->show_on(std::make_unique<TrainingBoard>(run.path(), texts));
    }
  }
  const std::string what = flags.resume ? "resuming " + run.path() : "training in " + run.path();
  const std::string sharing = ranks.size() == 1 ? "" : concat(", shared by ", ranks.size(), " processes");
  std::printf("%s: one architecture of %lld parameters%s\n", what.c_str(),
              static_cast<long long>(cost_of(config.model, config.model.dense).params), sharing.c_str());
  if (trainer.train() && trainer.report_test()) {
    const std::string average = run.file("average.safetensors");
    const bool averaged = std::filesystem::exists(average);
    std::printf("evaluate it: ./evaluate_subnet %s\n",
                (averaged ? "--weights " + average : "--run " + run.path()).c_str());
  } else {
    std::printf("stopped after step %lld; continue with: ./train_subnet --resume --output %s\n",
                static_cast<long long>(trainer.step()), run.path().c_str());
  }
}

void check_step_fits(const Config& config, DeviceKind device, int ranks) {
  const int64_t params = cost_of(config.model, config.largest()).params;
  check_memory(config.model, config.largest(), part_of_batch(config.train, ranks),
               {params, LoaderOptions().prefetch + 1}, device, "--batch-size");
}

RunDirectory::Access access_of(const Communicator& ranks) {
  return ranks.first() ? RunDirectory::Access::write : RunDirectory::Access::read;
}

void begin(const Flags& flags, DeviceKind device, Communicator& ranks) {
  const std::string file = inherited_file(flags);
  const std::optional<LoadedModel> ancestor = load_ancestor(flags, file, device);
  const Config base = base_config(flags, file);
  const Config& names = ancestor ? ancestor->config : base;  // whose min, mean and max are meant
  const Architecture architecture = resolve_architecture(flags.architecture, names);
  const Config config = config_of_run(base, architecture);
  check_step_fits(config, device, ranks.size());
  const RunDirectory run(flags.output, access_of(ranks));
  CHECK(!run.has("config.yaml") && !run.has("checkpoint.safetensors"), flags.output,
        " holds a run already: continue it with --resume, or start another with --output");
  Trainer trainer(config, run, false, device, ranks);
  if (ancestor) {
    trainer.start_from([&](Supernet& subnet) {
      report_inheritance(inherit_weights(*ancestor->supernet, architecture, subnet), file);
    });
  }
  run_trainer(trainer, config, run, flags, device, ranks);
}

void resume(const Flags& flags, DeviceKind device, Communicator& ranks) {
  const Config config = resumed_config(flags.output, [&](const std::string& stored, const std::string& name) {
    return parse_config(stored, name, flags.settings);
  });
  CHECK(config.subnet, flags.output, " is the run of a supernet; resume it with ./train_supernet");
  check_step_fits(config, device, ranks.size());
  const RunDirectory run(flags.output, access_of(ranks));
  Trainer trainer(config, run, true, device, ranks);
  run_trainer(trainer, config, run, flags, device, ranks);
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Trains one architecture: retraining, fine-tuning, transfer to other data.", kExamples);
  Flags flags;
  CLI::App& app = program.app();
  CLI::Option* resume_flag = app.add_flag("--resume", flags.resume, "continue the run in --output");
  app.add_option("--architecture", flags.architecture, "a file, min, mean, max or published:T|S|B")
      ->excludes(resume_flag);
  app.add_option("--init", flags.init,
                 "scratch (default), or inherit:FILE: weights of a supernet or of the architecture")
      ->excludes(resume_flag);
  app.add_option("--init-config", flags.init_config, "the configuration of those weights, where they carry none")
      ->excludes(resume_flag);
  app.add_option("--config", flags.config, "the training's configuration (default that of the weights)")
      ->excludes(resume_flag);
  app.add_option("--output", flags.output, "the run's directory")->required();
  program.setting("--data", "DATA.spec", "data set, such as fashion-mnist:DIR");
  program.number_setting("--epochs", "TRAIN.epochs", "passes over the training images");
  program.number_setting("--batch-size", "TRAIN.batch_size", "images of a step");
  program.deterministic_reduce_option();
  program.rank_timeout_option(flags.rank_timeout);
  program.settings_option();
  program.tensorboard_option();
  return program.run(argc, argv, [&] {
    flags.settings = program.settings();
    flags.tensorboard = program.tensorboard();
    if (program.seed()) flags.settings.push_back(concat("TRAIN.seed=", *program.seed()));
    watch_for_interrupts();
    const std::unique_ptr<Communicator> ranks = join_ranks(flags.rank_timeout, program.device());
    if (flags.resume) {
      resume(flags, program.device(), *ranks);
    } else {
      begin(flags, program.device(), *ranks);
    }
  });
}

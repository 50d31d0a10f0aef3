// bench_loader: how fast training batches are prepared, and where the time goes. One JSON line; a table on stderr.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "data/decode.h"
#include "data/loader.h"
#include "engine/check.h"
#include "tools/common/cli.h"
#include "tools/common/config.h"
#include "tools/common/models.h"

namespace entangle {
namespace {

// What the process holds in memory now, in bytes; 0 where the system does not tell.
int64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  int64_t all = 0, resident = 0;
  in >> all >> resident;
  return in ? resident * 4096 : 0;
}

struct Measured {
  int64_t images = 0;
  double wall = 0;
  LoaderTimes times;
  std::vector<int64_t> memory;  // at the end of each epoch
};

Measured measure(TrainLoader& loader, const LoaderOptions& options, int64_t epochs, int64_t most) {
  Measured m;
  const Stopwatch watch;
  loader.start(0, 0);
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    for (int64_t step = 0; step < loader.steps_per_epoch() && (most == 0 || m.images < most); ++step) {
      loader.next();
      m.images += options.batch_size;
    }
    m.memory.push_back(resident_bytes());
  }
  m.wall = watch.wall();
  m.times = loader.times();
  return m;
}

double rounded(double value, double units) { return std::round(value * units) / units; }

void print_table(const Measured& m) {
  const double images = static_cast<double>(m.times.images);
  const auto line = [&](const char* name, double cpu, double wall) {
    std::fprintf(stderr, "%-14s %9.1f %9.1f %6.1f%%\n", name, 1e6 * cpu / images, 1e6 * wall / images,
                 100 * cpu / m.times.cpu);
  };
  std::fprintf(stderr, "%-14s %9s %9s %7s\n", "us an image", "cpu", "wall", "of cpu");
  double stages = 0;
  for (int s = 0; s < kStages; ++s) {
    const size_t at = static_cast<size_t>(s);
    line(name_of(static_cast<Stage>(s)), m.times.stages.cpu[at], m.times.stages.wall[at]);
    stages += m.times.stages.cpu[at];
  }
  line("between them", m.times.cpu - stages, 0);
  line("sum", m.times.cpu, 0);
  std::fprintf(stderr, "threads waited for the consumer %.2f s, the consumer for a batch %.2f s of %.2f s\n",
               m.times.back_pressure, m.times.starved, m.wall);
}

nlohmann::ordered_json result(const Measured& m, const LoaderOptions& options, const std::string& data) {
  const double images = static_cast<double>(m.times.images);
  nlohmann::ordered_json stages;
  for (int s = 0; s < kStages; ++s) {
    stages[name_of(static_cast<Stage>(s))] = rounded(1e6 * m.times.stages.cpu[static_cast<size_t>(s)] / images, 10);
  }
  return {{"data", data},
          {"jpeg", jpeg_decoder()},
          {"workers", options.workers},
          {"batch", options.batch_size},
          {"repeats", options.sampler.repeats},
          {"images", m.images},
          {"img_per_s", rounded(static_cast<double>(m.images) / m.wall, 10)},
          {"img_per_cpu_s", rounded(images / m.times.cpu, 10)},
          {"cpu_us_per_image", rounded(1e6 * m.times.cpu / images, 10)},
          {"stage_us", stages},
          {"back_pressure_s", rounded(m.times.back_pressure, 1000)},
          {"starved_s", rounded(m.times.starved, 1000)},
          {"memory_after_epoch", m.memory}};
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program(
      "Times the preparation of training batches, stage by stage. img_per_cpu_s is what one core does: images over the "
      "processor's time, which other programs on the machine disturb less than the clock's.",
      "  ./make_photos runs/photos && ./bench_loader --data folder:runs/photos\n"
      "  ./bench_loader --data folder:runs/photos --workers 8 --epochs 10 --images 0\n"
      "  ./bench_loader --data folder:runs/photos --set DATA.auto_augment=\"\"\n");
  std::string spec, name = "T";
  int64_t workers = 1, repeats = 1, epochs = 1, most = 2048, batch = 128;
  bool staged = false;
  program.app().add_option("--data", spec, "the data set")->required();
  program.app().add_option("--config", name, "whose DATA section augments (default T)");
  program.number("--workers", workers, "threads (default 1)");
  program.number("--repeats", repeats, "how often an image is augmented in a row, decoded once (default 1)");
  program.number("--epochs", epochs, "(default 1)");
  program.number("--images", most, "end after so many; 0: with the last epoch (default 2048)");
  program.number("--batch", batch, "images of a batch (default 128)");
  program.app().add_flag("--staged", staged, "what the threads do for a GPU: pixels and what was drawn, not images");
  program.settings_option();
  return program.run(argc, argv, [&] {
    CHECK(epochs >= 1 && epochs <= 1000000, "--epochs is ", epochs, ", but must be at least 1");
    CHECK(most >= 0, "--images is ", most, ", but must be 0 or more");
    const Config config = load_config(name, program.settings());
    const DataSource source = open_data(spec);
    LoaderOptions options;
    options.batch_size = batch;
    options.workers = static_cast<int>(std::clamp<int64_t>(workers, -1, 1 << 20));
    options.seed = program.seed().value_or(0);
    options.sampler.repeats = repeats;
    options.augmentation = config.data.augmentation;
    if (staged) options.form = BatchForm::staged;
    TrainLoader loader(source, all_indices(*source.train), options);
    const Measured measured = measure(loader, options, epochs, most);
    print_table(measured);
    std::printf("%s\n", result(measured, options, spec).dump().c_str());
  });
}

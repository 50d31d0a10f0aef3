// bench_step: times whole training steps of one subnet on synthetic images. One JSON line, with the keys of the PyTorch
// peer that it is compared with.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/check.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/optimizer.h"
#include "engine/parallel.h"
#include "nn/supernet.h"
#include "tools/common/cli.h"
#include "tools/common/config.h"
#include "tools/common/models.h"

namespace {

using namespace entangle;

// Normal images and targets of one random class each.
struct SyntheticBatch {
  Tensor images, targets;

  SyntheticBatch(const SupernetConfig& model, int64_t batch)
      : images(Tensor::empty({batch, model.in_channels, model.image_size, model.image_size})),
        targets(Tensor::zeros({batch, model.num_classes})) {
    Rng rng(0, Stream::synthetic);
    std::generate_n(images.data(), images.count(), [&] { return static_cast<float>(normal(rng)); });
    for (int64_t b = 0; b < batch; ++b) targets.data()[b * model.num_classes + rng.below(model.num_classes)] = 1;
  }
};

double seconds_of_step(Supernet& supernet, const Architecture& architecture, const SyntheticBatch& batch,
                       int64_t step) {
  const auto start = std::chrono::steady_clock::now();
  {
    Tape tape;
    const Tensor loss = cross_entropy(supernet.forward(batch.images, architecture), batch.targets);
    tape.backward(loss);
  }
  adamw_step(supernet.parameters(), AdamWOptions{}, step, 1e-3);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median_step(Supernet& supernet, const Architecture& architecture, const SyntheticBatch& batch) {
  constexpr int kWarmup = 2, kSteps = 5;
  std::vector<double> seconds;
  for (int i = 0; i < kWarmup + kSteps; ++i) {
    const double elapsed = seconds_of_step(supernet, architecture, batch, i + 1);
    if (i >= kWarmup) seconds.push_back(elapsed);
  }
  std::nth_element(seconds.begin(), seconds.begin() + kSteps / 2, seconds.end());
  return seconds[kSteps / 2];
}

// To that many units of 1: rounded(x, 100) has two decimals.
double rounded(double value, double units) { return std::round(value * units) / units; }

}  // namespace

int main(int argc, char** argv) {
  Program program(
      "Times whole training steps of one subnet (forward, backward, AdamW; synthetic images; median of five).",
      "  ./bench_step --space T --arch max --batch 16\n"
      "  ./bench_step --space fashion-mnist --arch mean --batch 128 --threads 1\n");
  std::string space, arch = "max";
  int64_t batch = 16;
  program.app().add_option("--space", space, "T, S, B, another built-in configuration, or a file")->required();
  program.app().add_option("--arch", arch, "min, mean, max, a file, or published:T|S|B (default max)");
  program.number("--batch", batch, "images of a step (default 16)");
  program.settings_option();
  return program.run(argc, argv, [&] {
    CHECK(batch >= 1 && batch <= 65536, "--batch is ", batch, ", but must lie in 1 .. 65536");
    const Config config = load_config(space, program.settings());
    Supernet supernet(config.model, 0);
    const SyntheticBatch images(config.model, batch);
    const double seconds = median_step(supernet, resolve_architecture(arch, config.space), images);
    const nlohmann::ordered_json result = {{"peer", "entangle"},
                                           {"space", space},
                                           {"arch", arch},
                                           {"rpe", config.model.relative_position ? "factorised" : "none"},
                                           {"amp", false},
                                           {"compile", false},
                                           {"batch", batch},
                                           {"device", "cpu"},
                                           {"threads", threads()},
                                           {"step_s", rounded(seconds, 1e5)},
                                           {"img_per_s", rounded(static_cast<double>(batch) / seconds, 100)},
                                           {"cpu_path", name_of(cpu_path())},
                                           {"peak_memory", memory_counters().peak}};
    std::printf("%s\n", result.dump().c_str());
  });
}

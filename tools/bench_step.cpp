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

// What is timed.
struct Work {
  Supernet& supernet;
  const Architecture& architecture;
  const SyntheticBatch& batch;
  bool forward_only;

  void run(int64_t step) const {
    if (forward_only) {
      supernet.forward(batch.images, architecture);
      return;
    }
    {
      Tape tape;
      const Tensor loss = cross_entropy(supernet.forward(batch.images, architecture), batch.targets);
      tape.backward(loss);
    }
    adamw_step(supernet.parameters(), AdamWOptions{}, step, 1e-3);
  }
  double seconds(int64_t step) const {
    const auto start = std::chrono::steady_clock::now();
    run(step);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
};

double median_step(const Work& work) {
  constexpr int kWarmup = 2, kSteps = 5;
  std::vector<double> seconds;
  for (int i = 0; i < kWarmup + kSteps; ++i) {
    const double elapsed = work.seconds(i + 1);
    if (i >= kWarmup) seconds.push_back(elapsed);
  }
  std::nth_element(seconds.begin(), seconds.begin() + kSteps / 2, seconds.end());
  return seconds[kSteps / 2];
}

// One more step, kernel by kernel, on stderr: stdout keeps its one JSON line.
void print_breakdown(const Work& work) {
  set_kernel_timing(true);
  const double whole = work.seconds(8);
  set_kernel_timing(false);
  std::vector<const KernelEntry*> entries;
  double in_kernels = 0;
  for (const KernelEntry* entry = all_kernels(); entry != nullptr; entry = entry->next) {
    if (entry->calls > 0) entries.push_back(entry);
    in_kernels += entry->seconds;
  }
  std::sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) { return a->seconds > b->seconds; });
  std::fprintf(stderr, "%-24s %6s %10s %7s\n", "kernel", "calls", "ms", "share");
  for (const KernelEntry* entry : entries) {
    std::fprintf(stderr, "%-24s %6lld %10.3f %6.1f%%\n", entry->name, static_cast<long long>(entry->calls),
                 1e3 * entry->seconds, 100 * entry->seconds / whole);
  }
  std::fprintf(stderr, "%-24s %6s %10.3f %6.1f%%\n", "between kernels", "", 1e3 * (whole - in_kernels),
               100 * (whole - in_kernels) / whole);
}

// To that many units of 1: rounded(x, 100) has two decimals.
double rounded(double value, double units) { return std::round(value * units) / units; }

}  // namespace

int main(int argc, char** argv) {
  Program program(
      "Times whole training steps of one subnet (forward, backward, AdamW; synthetic images; median of five).",
      "  ./bench_step --space T --arch max --batch 16\n"
      "  ./bench_step --space fashion-mnist --arch mean --batch 128 --threads 1\n"
      "  ./bench_step --space T --breakdown            the time of each kernel\n");
  std::string space, arch = "max";
  int64_t batch = 16;
  program.app().add_option("--space", space, "T, S, B, another built-in configuration, or a file")->required();
  program.app().add_option("--arch", arch, "min, mean, max, a file, or published:T|S|B (default max)");
  program.number("--batch", batch, "images of a step (default 16)");
  bool forward_only = false, breakdown = false;
  program.app().add_flag("--forward-only", forward_only, "no backward pass and no optimiser: what a search does");
  program.app().add_flag("--breakdown", breakdown, "on stderr, the time of each kernel in one more step");
  program.settings_option();
  return program.run(argc, argv, [&] {
    CHECK(batch >= 1 && batch <= 65536, "--batch is ", batch, ", but must lie in 1 .. 65536");
    const Config config = load_config(space, program.settings());
    Supernet supernet(config.model, 0);
    const SyntheticBatch images(config.model, batch);
    const Architecture architecture = resolve_architecture(arch, config.space);
    const Work work = {supernet, architecture, images, forward_only};
    const double seconds = median_step(work);
    if (breakdown) print_breakdown(work);
    const nlohmann::ordered_json result = {{"peer", "entangle"},
                                           {"space", space},
                                           {"arch", arch},
                                           {"rpe", config.model.relative_position ? "factorised" : "none"},
                                           {"amp", config.model.precision == Precision::bf16},
                                           {"compile", false},
                                           {"forward_only", forward_only},
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

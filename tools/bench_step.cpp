// bench_step: times whole training steps of one subnet on synthetic images, against what this machine can do in the same
// minute. One JSON line, with the keys of the PyTorch peer that it is compared with.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "engine/check.h"
#include "engine/device.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/optimizer.h"
#include "engine/parallel.h"
#include "engine/trace.h"
#include "nn/cost.h"
#include "nn/supernet.h"
#include "tools/common/breakdown.h"
#include "tools/common/ceilings.h"
#include "tools/common/cli.h"
#include "tools/common/config.h"
#include "tools/common/memory_check.h"
#include "tools/common/models.h"
#include "tools/common/trace_file.h"

namespace {

using namespace entangle;

// Normal images and targets of one random class each.
struct SyntheticBatch {
  Tensor images, targets;

  SyntheticBatch(const SupernetConfig& model, int64_t batch, DeviceKind device) {
    const Shape shape = {batch, model.in_channels, model.image_size, model.image_size};
    std::vector<float> pixels(static_cast<size_t>(shape.count()));
    std::vector<float> classes(static_cast<size_t>(batch * model.num_classes));
    Rng rng(0, Stream::synthetic);
    std::generate(pixels.begin(), pixels.end(), [&] { return static_cast<float>(normal(rng)); });
    for (int64_t b = 0; b < batch; ++b) {
      classes[static_cast<size_t>(b * model.num_classes + rng.below(model.num_classes))] = 1;
    }
    images = Tensor::from(shape, pixels, device);
    targets = Tensor::from({batch, model.num_classes}, classes, device);
  }
};

constexpr int kBurst = 10;  // steps of a GPU between two waits

// What is timed.
struct Work {
  Supernet& supernet;
  const Architecture& architecture;
  const SyntheticBatch& batch;
  bool forward_only;

  DeviceKind device() const { return batch.images.device(); }
  // Launches a step; on the CPU that is all of it.
  void launch(int step) const {
    const TraceSpan span("step", "step");
    if (forward_only) {
      supernet.forward(batch.images, architecture);
    } else {
      Tape tape;
      const Tensor loss = cross_entropy(supernet.forward(batch.images, architecture), batch.targets);
      tape.backward(loss);
      adamw_step(supernet.parameters(), AdamWOptions{}, step, 1e-3);
    }
  }
  void run(int step) const {
    launch(step);
    synchronize(device());
  }
  // Of one step. On a GPU of several in a row, as in training, where nothing waits between them.
  double seconds(int step) const {
    const int count = device() == DeviceKind::cpu ? 1 : kBurst;
    DeviceTimer timer(device());
    for (int i = 0; i < count; ++i) launch(step + i);
    return timer.stop() / count;
  }
};

constexpr int kWarmup = 2, kSteps = 5;

double median_step(const Work& work, int first) {
  std::vector<double> seconds;
  for (int i = 0; i < kSteps; ++i) seconds.push_back(work.seconds(first + i));
  std::nth_element(seconds.begin(), seconds.begin() + kSteps / 2, seconds.end());
  return seconds[kSteps / 2];
}

// The fastest of more steps, kernel by kernel, on stderr: stdout keeps its one JSON line.
void print_breakdown(const Work& work, double gflops_ceiling) {
  Breakdown fastest;
  for (int i = 0; i < kSteps; ++i) {
    Breakdown step = break_down([&] { work.run(kWarmup + kSteps + i + 1); });
    if (i == 0 || step.seconds < fastest.seconds) fastest = std::move(step);
  }
  const double copy_ceiling = measure_copy_ceiling(work.device()), gflop = 1e-9 * static_cast<double>(fastest.flops());
  std::fputs(format_breakdown(fastest, gflops_ceiling, copy_ceiling).c_str(), stderr);
  const std::string where = work.device() == DeviceKind::cpu
                                ? concat(name_of(cpu_path()), " on ", threads(), " threads: FMA")
                                : std::string("the GPU: matrix product");
  std::fprintf(stderr, "ceilings, %s %.1f GFLOP/s, copy %.1f GB/s\n", where.c_str(), gflops_ceiling, copy_ceiling);
  std::fprintf(stderr, "this step: %.3f GFLOP an image, %.1f GFLOP/s, %.1f %% of the FMA ceiling\n",
               gflop / static_cast<double>(work.batch.images.size(0)), gflop / fastest.seconds,
               100 * gflop / fastest.seconds / gflops_ceiling);
}

// More steps, into a file.
void trace_steps(const Work& work, TraceFile& file) {
  constexpr int kTraced = 3, kBefore = kWarmup + 2 * kSteps;
  file.start(work.device());
  for (int i = 1; i <= kTraced; ++i) work.run(kBefore + i);
  file.finish();
}

// To that many units of 1: rounded(x, 100) has two decimals.
double rounded(double value, double units) { return std::round(value * units) / units; }

}  // namespace

int main(int argc, char** argv) {
  Program program(
      "Times whole training steps of one subnet (forward, backward, AdamW; synthetic images; median of five). "
      "gflop_per_image counts the matrix products; ceiling_gflops is measured on the same threads just before and "
      "after.",
      "  ./bench_step --space T --arch max --batch 16\n"
      "  ./bench_step --space fashion-mnist --arch mean --batch 128 --threads 1\n"
      "  ./bench_step --space T --breakdown            each kernel against the ceilings\n"
      "  ./bench_step --space T --batch 4 --trace steps.json\n");
  std::string space, arch = "max";
  int64_t batch = 16;
  program.app().add_option("--space", space, "T, S, B, another built-in configuration, or a file")->required();
  program.app().add_option("--arch", arch, "min, mean, max, a file, or published:T|S|B (default max)");
  program.number("--batch", batch, "images of a step (default 16)");
  bool forward_only = false, breakdown = false;
  program.app().add_flag("--forward-only", forward_only, "no backward pass and no optimiser: what a search does");
  program.app().add_flag("--breakdown", breakdown,
                         "on stderr, each kernel's time and rate in the fastest of five more steps");
  program.settings_option();
  program.trace_option();
  return program.run(argc, argv, [&] {
    CHECK(batch >= 1 && batch <= 65536, "--batch is ", batch, ", but must lie in 1 .. 65536");
    const Config config = load_config(space, program.settings());
    const Architecture architecture = resolve_architecture(arch, config);
    TraceFile trace(program.trace());
    if (!forward_only) {
      check_memory(config.model, architecture, batch, {cost_of(config.model, config.model.full()).params, 0},
                   program.device(), "--batch");
    }
    Supernet supernet(config.model, 0, program.device());
    if (!forward_only) {
      reserve_memory(static_cast<size_t>(cost_of(config.model, architecture, batch).step_bytes), program.device());
    }
    const SyntheticBatch images(config.model, batch, program.device());
    const Work work = {supernet, architecture, images, forward_only};
    const auto measure_ceiling = [&] { return measure_gflops_ceiling(program.device(), config.model.precision); };
    double ceiling = measure_ceiling();
    double gflop = 0;  // of a step
    for (int step = 1; step <= kWarmup; ++step) {
      gflop = 1e-9 * static_cast<double>(break_down([&] { work.run(step); }).flops());
    }
    const double seconds = median_step(work, kWarmup + 1);
    ceiling = std::max(ceiling, measure_ceiling());
    if (breakdown) print_breakdown(work, ceiling);
    if (!program.trace().empty()) trace_steps(work, trace);
    const nlohmann::ordered_json result = {{"peer", "entangle"},
                                           {"space", space},
                                           {"arch", arch},
                                           {"rpe", config.model.relative_position ? "factorised" : "none"},
                                           {"amp", config.model.precision == Precision::bf16},
                                           {"compile", false},
                                           {"forward_only", forward_only},
                                           {"batch", batch},
                                           {"device", name_of(program.device())},
                                           {"threads", threads()},
                                           {"step_s", rounded(seconds, 1e5)},
                                           {"img_per_s", rounded(static_cast<double>(batch) / seconds, 100)},
                                           {"cpu_path", name_of(cpu_path())},
                                           {"gflop_per_image", rounded(gflop / static_cast<double>(batch), 1e5)},
                                           {"ceiling_gflops", rounded(ceiling, 10)},
                                           {"percent_of_ceiling", rounded(100 * gflop / seconds / ceiling, 10)},
                                           {"peak_memory", memory_counters(program.device()).peak}};
    std::printf("%s\n", result.dump().c_str());
  });
}

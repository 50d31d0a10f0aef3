// bench_kernels: kernels of the largest subnets on Google Benchmark, the matrix products also against OpenBLAS and
// oneDNN where they are installed.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "engine/check.h"
#include "engine/parallel.h"
#include "tools/bench_kernels/layers.h"
#include "tools/bench_kernels/products.h"
#include "tools/bench_kernels/sweeps.h"
#include "tools/common/ceilings.h"
#include "tools/common/cli.h"
#include "tools/common/config.h"

namespace {

using namespace entangle;

// Printed before and after: per cent are of the first, and two that differ tell of a disturbed run.
Ceilings measure_ceilings(const char* when, Precision precision) {
  const Ceilings ceilings = {measure_gflops_ceiling(DeviceKind::cpu, precision), measure_copy_ceiling()};
  std::printf("%s: %s on %d threads, multiply-adds %.1f GFLOP/s, copy %.1f GB/s\n", when, name_of(cpu_path()),
              threads(), ceilings.gflops, ceilings.copy);
  return ceilings;
}

// A configuration and how it was named.
using NamedConfig = std::pair<std::string, Config>;

void run_benchmarks(std::vector<char*> benchmark_arguments, const std::vector<NamedConfig>& spaces, int64_t batch,
                    int64_t rounds) {
  int count = static_cast<int>(benchmark_arguments.size());
  benchmark::Initialize(&count, benchmark_arguments.data());
  CHECK(count <= 1, "unknown flag ", benchmark_arguments[1],
        "; Google Benchmark has --benchmark_filter=REGEX and others");
  const Precision precision = spaces.at(0).second.model.precision;
  const Ceilings ceilings = measure_ceilings("before", precision);
  const std::vector<Rival> rivals = load_rivals(threads());
  std::vector<ProductTimes> times;
  for (const auto& [space, config] : spaces) {
    register_products(layers_of(space, config, batch), rivals, ceilings.gflops, rounds, times);
    register_sweeps(space, config, batch, ceilings);
  }
  benchmark::RunSpecifiedBenchmarks();
  print_totals(times, rivals);
  measure_ceilings("after", precision);
  benchmark::Shutdown();
}

}  // namespace

int main(int argc, char** argv) {
  Program program(
      "Times the kernels of a training step at the sizes of the largest subnets. Products are timed in turn with "
      "OpenBLAS and oneDNN in fp32 (their GFLOP/s stand beside ours) and summed at the end. Takes the flags of Google "
      "Benchmark.",
      "  ./bench_kernels\n"
      "  ./bench_kernels --precision bf16\n"
      "  ./bench_kernels --spaces T --benchmark_filter=fc\n"
      "  ./bench_kernels --threads 1 --benchmark_filter=attention --benchmark_out=FILE --benchmark_out_format=json\n");
  std::vector<std::string> spaces = {"T", "S", "B"};
  int64_t batch = 16, rounds = 5;
  program.app().add_option("--spaces", spaces, "built-in configurations or files (default T S B)");
  program.number("--batch", batch, "images (default 16)");
  program.number("--rounds", rounds, "turns of three calls that each library takes at a product (default 5)");
  std::vector<char*> own = {argv[0]}, of_benchmark = {argv[0]};
  for (int i = 1; i < argc; ++i) {
    (std::strncmp(argv[i], "--benchmark", 11) == 0 ? of_benchmark : own).push_back(argv[i]);
  }
  return program.run(static_cast<int>(own.size()), own.data(), [&] {
    CHECK(batch >= 1 && batch <= 65536, "--batch is ", batch, ", but must lie in 1 .. 65536");
    CHECK(rounds >= 1 && rounds <= 1000, "--rounds is ", rounds, ", but must lie in 1 .. 1000");
    std::vector<NamedConfig> configs;
    for (const std::string& space : spaces) configs.push_back({space, load_config(space, program.settings())});
    run_benchmarks(of_benchmark, configs, batch, rounds);
  });
}

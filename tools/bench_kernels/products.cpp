#include "tools/bench_kernels/products.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <thread>

namespace entangle {
namespace {

constexpr int kCalls = 3;

// Threads of a library that has just computed look for more work for a while, and would do so at the cost of the next
// library.
void let_threads_go_to_sleep() { std::this_thread::sleep_for(std::chrono::milliseconds(40)); }

// One untimed call, to wake the library's threads, then the fastest of kCalls.
double fastest_call(const std::function<void()>& call) {
  using Clock = std::chrono::steady_clock;
  let_threads_go_to_sleep();
  call();
  double best = 0;
  for (int i = 0; i < kCalls; ++i) {
    const Clock::time_point start = Clock::now();
    call();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (i == 0 || seconds < best) best = seconds;
  }
  return best;
}

// Whether the rival computes what ours computes: from a cleared result, within what the sums may round differently, and in
// bf16 the operands.
bool agrees(LayerOperands& operands, Pass pass, Precision precision, const Rival& rival) {
  const Tensor& result = operands.result(pass);
  std::vector<float> computed[2];
  for (int i = 0; i < 2; ++i) {
    std::fill_n(result.data(), result.count(), 0.0f);
    i == 0 ? operands.run_ours(pass) : rival.multiply(operands.product(pass));
    computed[i] = result.to_vector();
  }
  double difference = 0, largest = 0;
  for (size_t i = 0; i < computed[0].size(); ++i) {
    difference = std::max(difference, std::fabs(static_cast<double>(computed[0][i]) - computed[1][i]));
    largest = std::max(largest, std::fabs(static_cast<double>(computed[0][i])));
  }
  return largest > 0 && difference <= (precision == Precision::bf16 ? 1e-2 : 1e-5) * largest;  // false for a NaN, too
}

// Every iteration is a round in which each takes its turn; its time is ours.
void run_product(benchmark::State& state, const Layer& layer, Pass pass, const std::vector<Rival>& rivals,
                 double gflops_ceiling, std::vector<ProductTimes>& times) {
  LayerOperands operands(layer);
  for (const Rival& rival : rivals) {
    if (!agrees(operands, pass, layer.shape.precision, rival)) {
      state.SkipWithError((rival.name + " computes something else").c_str());
      return;
    }
  }
  std::vector<double> best(1 + rivals.size(), HUGE_VAL);
  for (auto _ : state) {
    const double ours = fastest_call([&] { operands.run_ours(pass); });
    best[0] = std::min(best[0], ours);
    const Product product = operands.product(pass);
    for (size_t i = 0; i < rivals.size(); ++i) {
      best[i + 1] = std::min(best[i + 1], fastest_call([&] { rivals[i].multiply(product); }));
    }
    state.SetIterationTime(ours);
  }
  const double gflop = 1e-9 * static_cast<double>(operands.cost(pass).flops);
  state.counters["GFLOP/s"] = gflop / best[0];
  state.counters["%FMA"] = 100 * gflop / best[0] / gflops_ceiling;
  for (size_t i = 0; i < rivals.size(); ++i) state.counters[rivals[i].name] = gflop / best[i + 1];
  times.push_back({layer, best});
}

}  // namespace

void register_products(const std::vector<Layer>& layers, const std::vector<Rival>& rivals, double gflops_ceiling,
                       int64_t rounds, std::vector<ProductTimes>& times) {
  for (const Layer& layer : layers) {
    for (const Pass pass : {Pass::forward, Pass::input, Pass::weight}) {
      if (pass == Pass::input && !layer.input_needs_gradient) continue;
      const std::string name = layer.space + "/" + layer.name + "/" + name_of(pass);
      benchmark::RegisterBenchmark(name.c_str(),
                                   [layer, pass, &rivals, gflops_ceiling, &times](benchmark::State& state) {
                                     run_product(state, layer, pass, rivals, gflops_ceiling, times);
                                   })
          ->UseManualTime()
          ->Iterations(rounds)
          ->Unit(benchmark::kMillisecond);
    }
  }
}

void print_totals(const std::vector<ProductTimes>& times, const std::vector<Rival>& rivals) {
  if (times.empty()) return;
  std::vector<std::string> spaces;
  std::map<std::string, std::vector<double>> totals;
  for (const ProductTimes& product : times) {
    if (spaces.empty() || spaces.back() != product.layer.space) spaces.push_back(product.layer.space);
    for (const std::string& space : {product.layer.space, std::string("all")}) {
      std::vector<double>& sum = totals[space];
      sum.resize(product.seconds.size());
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(product.layer.count) * product.seconds[i];
    }
  }
  if (spaces.size() > 1) spaces.push_back("all");
  std::printf(
      "\nproducts of a training step: ms of %zu kinds, each the fastest of its calls times its number; a rival's / "
      "ours\n",
      times.size());
  for (const std::string& space : spaces) {
    const std::vector<double>& seconds = totals[space];
    std::printf("%-16s entangle %.2f", space.c_str(), 1e3 * seconds[0]);
    for (size_t i = 0; i < rivals.size(); ++i) {
      std::printf("   %s %.2f = %.3f", rivals[i].name.c_str(), 1e3 * seconds[i + 1], seconds[i + 1] / seconds[0]);
    }
    std::printf("\n");
  }
}

}  // namespace entangle

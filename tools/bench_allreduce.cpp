// bench_allreduce: how long processes take to sum a gradient, and what that means for many of them. Tables on stderr, one JSON
// line on stdout.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/check.h"
#include "engine/gradient_exchange.h"
#include "engine/rng.h"
#include "nn/cost.h"
#include "nn/supernet.h"
#include "tools/common/cli.h"
#include "tools/common/config.h"
#include "tools/common/scaling_model.h"

namespace entangle {
namespace {

using Clock = std::chrono::steady_clock;

struct Flags {
  std::string config = "T";
  std::vector<std::string> settings;
  int64_t times = 15, largest = 64 << 20;
  double rank_timeout = 60;
  // Of the prediction.
  Network network;
  StepModel step;
  double step_ms = 0;
};

// The median time of `run` over all ranks' slowest, which begin together.
template <class F>
double median_seconds(Communicator& ranks, int64_t times, const F& run) {
  std::vector<double> seconds;
  for (int64_t i = 0; i <= times; ++i) {
    ranks.gather(0);
    const Clock::time_point begin = Clock::now();
    run();
    const std::vector<double> all = ranks.gather(std::chrono::duration<double>(Clock::now() - begin).count());
    if (i > 0) seconds.push_back(*std::max_element(all.begin(), all.end()));  // the first warms up
  }
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<int64_t>(seconds.size()) / 2, seconds.end());
  return seconds[seconds.size() / 2];
}

double sum_of(Communicator& ranks, int64_t bytes, int64_t times) {
  std::vector<float> values(static_cast<size_t>(bytes) / sizeof(float), 0.0f);
  return median_seconds(ranks, times, [&] {
    ranks.start_sum(values.data(), static_cast<int64_t>(values.size()));
    ranks.finish_sums();
  });
}

int64_t bytes_of_number(const Config& config) { return config.train.wire == Precision::bf16 ? 2 : 4; }

// Bytes of the gradients that training draws, as they are sent.
struct GradientBytes {
  double mean, bucket;
  int64_t largest, supernet;
};

GradientBytes gradient_bytes(const Config& config) {
  constexpr int kDraws = 2000;
  double sum = 0;
  for (uint64_t i = 0; i < kDraws; ++i) {
    Rng rng(0, Stream::architecture, i);
    sum += static_cast<double>(cost_of(config.model, config.space.sample(rng)).params);
  }
  const int64_t each = bytes_of_number(config);
  const auto bytes = [&](const Architecture& a) { return each * cost_of(config.model, a).params; };
  return {static_cast<double>(each) * sum / kDraws, static_cast<double>(each * GradientExchange::kBucket),
          bytes(config.space.largest()), bytes(config.model.full())};
}

// The exchange of a real subnet's gradient: packing, sums, and back into its place.
double exchange_seconds(Communicator& ranks, const Config& config, int64_t times, int64_t* bytes) {
  Supernet supernet(config.model, 0);
  const Architecture middle = config.space.middle();
  std::vector<TapedView> views;
  ForwardOptions options;
  options.views = &views;
  const int64_t size = config.model.image_size;
  supernet.forward(Tensor::zeros({1, config.model.in_channels, size, size}), middle, options);
  GradientExchange exchange(ranks, config.train.wire);
  const double seconds = median_seconds(ranks, times, [&] {
    exchange.begin(views);
    exchange.finish();
  });
  *bytes = exchange.bytes();
  return seconds;
}

nlohmann::ordered_json measure(Communicator& ranks, const Flags& flags, const Config& config) {
  nlohmann::ordered_json sums;
  double latency = 0, bandwidth = 0;
  const double factor = 2.0 * (ranks.size() - 1) / ranks.size();  // each number goes through a ring's links so often
  if (ranks.first()) std::fprintf(stderr, "%d processes\n%12s %12s %12s\n", ranks.size(), "bytes", "us", "GB/s");
  for (int64_t bytes = 4; bytes <= flags.largest; bytes *= 16) {
    const double seconds = sum_of(ranks, bytes, flags.times);
    if (bytes == 4) latency = seconds;
    const double rate = factor * static_cast<double>(bytes) / seconds;
    bandwidth = std::max(bandwidth, rate);
    sums.push_back({{"bytes", bytes}, {"seconds", seconds}});
    if (ranks.first()) {
      std::fprintf(stderr, "%12lld %12.1f %12.3f\n", static_cast<long long>(bytes), 1e6 * seconds, 1e-9 * rate);
    }
  }
  int64_t bytes = 0;
  const double seconds = exchange_seconds(ranks, config, flags.times, &bytes);
  Network network;
  network.latency = latency / 2;  // a sum goes up a tree and down
  network.rank_bandwidth = bandwidth;
  network.per_node = ranks.size();
  const double predicted = sum_seconds(network, ranks.size(), static_cast<double>(bytes),
                                       static_cast<double>(bytes_of_number(config) * GradientExchange::kBucket));
  if (ranks.first()) {
    std::fprintf(
        stderr,
        "%s: the middle subnet's gradient, %.2f MB, is exchanged in %.2f ms; its sums alone by the model in %.2f ms\n",
        config.name.c_str(), 1e-6 * static_cast<double>(bytes), 1e3 * seconds, 1e3 * predicted);
  }
  return {{"processes", ranks.size()}, {"latency_s", latency},  {"bandwidth", bandwidth},       {"sums", sums},
          {"exchange_bytes", bytes},   {"exchange_s", seconds}, {"predicted_sums_s", predicted}};
}

nlohmann::ordered_json predict(const Flags& flags, const GradientBytes& bytes) {
  StepModel step = flags.step;
  step.compute = 1e-3 * flags.step_ms;
  step.bytes = bytes.mean;
  step.bucket = bytes.bucket;
  nlohmann::ordered_json rows;
  std::fprintf(stderr, "predicted, not measured, for steps of %.1f ms and %.1f MB:\n%8s %12s %12s %12s\n",
               flags.step_ms, 1e-6 * step.bytes, "ranks", "sum ms", "exposed ms", "efficiency");
  for (int64_t ranks = 8; ranks <= 1024; ranks *= 2) {
    const double sum = sum_seconds(flags.network, ranks, step.bytes, step.bucket);
    const double exposed = exposed_seconds(flags.network, ranks, step);
    const double efficiency = scaling_efficiency(flags.network, ranks, step);
    rows.push_back({{"ranks", ranks}, {"sum_s", sum}, {"exposed_s", exposed}, {"efficiency", efficiency}});
    std::fprintf(stderr, "%8lld %12.3f %12.3f %11.1f%%\n", static_cast<long long>(ranks), 1e3 * sum, 1e3 * exposed,
                 100 * efficiency);
  }
  return rows;
}

void run(const Flags& flags) {
  CHECK(flags.times >= 1 && flags.times <= 100000, "--times is ", flags.times, ", but must be at least 1");
  CHECK(flags.largest >= 4 && flags.largest <= int64_t{1} << 32, "--largest is ", flags.largest,
        ", but must be 4 to 4 GB");
  const std::unique_ptr<Communicator> ranks = join_ranks(flags.rank_timeout);
  const Config config = load_config(flags.config, flags.settings);
  const GradientBytes bytes = gradient_bytes(config);
  nlohmann::ordered_json json = {{"config", config.name},
                                 {"sampled_bytes", bytes.mean},
                                 {"largest_bytes", bytes.largest},
                                 {"supernet_bytes", bytes.supernet}};
  if (ranks->first()) {
    std::fprintf(stderr,
                 "%s: a step sends %.2f MB in the mean, %.2f MB for the largest subnet; the supernet has %.2f MB\n",
                 config.name.c_str(), 1e-6 * bytes.mean, 1e-6 * static_cast<double>(bytes.largest),
                 1e-6 * static_cast<double>(bytes.supernet));
  }
  if (ranks->size() > 1) json["measured"] = measure(*ranks, flags, config);
  if (!ranks->first()) return;
  if (flags.step_ms > 0) json["predicted"] = predict(flags, bytes);
  std::printf("%s\n", json.dump().c_str());
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Times the sum of gradients over processes; with --step-ms predicts what many of them reach.",
                  "  mpirun -n 2 ./bench_allreduce\n"
                  "  mpirun -n 2 ./bench_allreduce --set TRAIN.wire=bf16\n"
                  "  ./bench_allreduce --config S --step-ms 16 --node-bandwidth 50 --rank-bandwidth 300\n");
  Flags flags;
  CLI::App& app = program.app();
  double rank_gb = 1e-9 * flags.network.rank_bandwidth, node_gb = 1e-9 * flags.network.node_bandwidth;
  double latency_us = 1e6 * flags.network.latency;
  app.add_option("--config", flags.config, "whose subnets (default T)");
  program.number("--times", flags.times, "measurements of each sum (default 15)");
  program.number("--largest", flags.largest, "bytes of the longest sum (default 64 MiB)");
  program.rank_timeout_option(flags.rank_timeout);
  app.add_option("--step-ms", flags.step_ms, "predict for steps that compute so long")->check(CLI::PositiveNumber);
  app.add_option("--rank-bandwidth", rank_gb, "GB/s that a rank sends within its machine (default 300)")
      ->check(CLI::PositiveNumber);
  app.add_option("--node-bandwidth", node_gb, "GB/s that a machine sends to others (default 50)")
      ->check(CLI::PositiveNumber);
  app.add_option("--latency-us", latency_us, "of a message (default 10)")->check(CLI::NonNegativeNumber);
  program.number("--per-node", flags.network.per_node, "ranks of a machine (default 8)")->check(CLI::PositiveNumber);
  app.add_option("--jitter", flags.step.jitter, "standard deviation of a rank's step as a share of it (default 0)")
      ->check(CLI::Range(0.0, 1.0));
  program.settings_option();
  return program.run(argc, argv, [&] {
    flags.settings = program.settings();
    flags.network.rank_bandwidth = 1e9 * rank_gb;
    flags.network.node_bandwidth = 1e9 * node_gb;
    flags.network.latency = 1e-6 * latency_us;
    run(flags);
  });
}

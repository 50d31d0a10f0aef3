#include "tools/bench_kernels/sweeps.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

#include "engine/ops.h"
#include "engine/parallel.h"
#include "engine/tensor.h"
#include "nn/cost.h"

namespace entangle {
namespace {

// Values in [0, 1): also the right range for what must be positive.
Tensor draw(const Shape& shape) {
  Tensor t = Tensor::empty(shape);
  Rng rng(0, Stream::synthetic);
  std::generate_n(t.data(), t.count(), [&] { return static_cast<float>(rng.uniform()); });
  return t;
}

struct Sizes {
  int64_t batch, tokens, width, hidden, classes, parameters;
  AttentionShape attention;
};

Sizes sizes_of(const Config& config, int64_t batch) {
  const SupernetConfig& m = config.model;
  const Architecture a = config.space.largest();
  AttentionShape s = {};
  s.batch = batch;
  s.tokens = m.tokens();
  s.heads = a.num_heads[0];
  s.head_dim = m.head_dim;
  s.side = m.side();
  s.max_relative_position = m.relative_position ? m.max_relative_position : 0;
  s.precision = m.precision;
  s.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(m.head_dim)));
  return {batch,
          m.tokens(),
          a.embed_dim,
          hidden_width(a.embed_dim, a.mlp_ratio[0]),
          m.num_classes,
          cost_of(m, m.full()).params,
          s};
}

// Times launches of one kernel on the same arguments; the rates are those of the fastest. Returns its seconds.
template <class Kernel, class... Arguments>
double time_kernel(benchmark::State& state, const Ceilings& ceilings, const Kernel& kernel, Arguments... arguments) {
  using Clock = std::chrono::steady_clock;
  const auto launch = kernel.on(DeviceKind::cpu);
  double best = HUGE_VAL;
  for (auto _ : state) {
    const Clock::time_point start = Clock::now();
    launch(arguments...);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, seconds);
    state.SetIterationTime(seconds);
  }
  const KernelCost cost = launch.cost(arguments...);
  const double gflops = 1e-9 * static_cast<double>(cost.flops) / best;
  const double gbytes = 1e-9 * static_cast<double>(cost.bytes) / best;
  if (cost.flops > 0) {
    state.counters["GFLOP/s"] = gflops;
    state.counters["%FMA"] = 100 * gflops / ceilings.gflops;
  }
  state.counters["GB/s"] = gbytes;
  state.counters["%copy"] = 100 * gbytes / ceilings.copy;
  return best;
}

void add(const std::string& name, const std::function<void(benchmark::State&)>& run) {
  benchmark::RegisterBenchmark(name.c_str(), run)->UseManualTime()->Unit(benchmark::kMillisecond);
}

struct AttentionOperands {
  Tensor qkv, dqkv, y, p, key_v, key_h, value_v, value_h, dkey_v, dkey_h, dvalue_v, dvalue_h;

  explicit AttentionOperands(const AttentionShape& s) {
    const int64_t width = s.heads * s.head_dim;
    qkv = draw({s.batch, s.tokens, 3 * width});
    dqkv = Tensor::zeros(qkv.shape());
    y = draw({s.batch, s.tokens, width});
    p = Tensor::zeros({s.batch, s.heads, s.tokens, attention_row(s.tokens)});
    for (Tensor* table : {&key_v, &key_h, &value_v, &value_h, &dkey_v, &dkey_h, &dvalue_v, &dvalue_h}) {
      *table = draw({std::max<int64_t>(attention_table_rows(s), 1), s.head_dim});
    }
  }
};

// Beside the rates, microseconds of one core for one (image, head).
void count_pairs(benchmark::State& state, const AttentionShape& s, double seconds) {
  state.counters["us/pair/core"] = 1e6 * seconds * threads() / static_cast<double>(s.batch * s.heads);
}

void register_attention(const std::string& space, const AttentionShape& s, const Ceilings& ceilings) {
  add(space + "/attention/forward", [s, ceilings](benchmark::State& state) {
    AttentionOperands o(s);
    const double seconds = time_kernel(state, ceilings, kernels::attention_forward, s, o.qkv.data(), o.key_v.data(),
                                       o.key_h.data(), o.value_v.data(), o.value_h.data(), o.y.data(), o.p.data());
    count_pairs(state, s, seconds);
  });
  add(space + "/attention/backward", [s, ceilings](benchmark::State& state) {
    AttentionOperands o(s);
    kernels::attention_forward.on(DeviceKind::cpu)(s, o.qkv.data(), o.key_v.data(), o.key_h.data(), o.value_v.data(),
                                                   o.value_h.data(), o.y.data(), o.p.data());
    const double seconds =
        time_kernel(state, ceilings, kernels::attention_backward, s, o.qkv.data(), o.key_v.data(), o.key_h.data(),
                    o.value_v.data(), o.value_h.data(), o.p.data(), o.y.data(), o.dqkv.data(), false, o.dkey_v.data(),
                    o.dkey_h.data(), o.dvalue_v.data(), o.dvalue_h.data());
    count_pairs(state, s, seconds);
  });
}

void register_layer_norm(const std::string& space, int64_t rows, int64_t width, const Ceilings& ceilings) {
  add(space + "/layer_norm/forward", [=](benchmark::State& state) {
    const Tensor x = draw({rows, width}), w = draw({width}), y = draw({rows, width}), mean = draw({rows}),
                 rstd = draw({rows});
    time_kernel(state, ceilings, kernels::layer_norm_forward, rows, width, 1e-5f, x.data(), w.data(), w.data(),
                y.data(), mean.data(), rstd.data());
  });
  add(space + "/layer_norm/backward", [=](benchmark::State& state) {
    const Tensor x = draw({rows, width}), w = draw({width}), dx = draw({rows, width}), dw = draw({width}),
                 db = draw({width}), mean = draw({rows}), rstd = draw({rows}), dy = draw({rows, width});
    time_kernel(state, ceilings, kernels::layer_norm_backward, rows, width, x.data(), w.data(), mean.data(),
                rstd.data(), dy.data(), dx.data(), false, dw.data(), db.data());
  });
}

void register_gelu(const std::string& space, int64_t n, const Ceilings& ceilings) {
  add(space + "/gelu/forward", [=](benchmark::State& state) {
    const Tensor x = draw({n}), y = draw({n});
    time_kernel(state, ceilings, kernels::gelu_forward, n, x.data(), y.data());
  });
  add(space + "/gelu/backward", [=](benchmark::State& state) {
    const Tensor x = draw({n}), dy = draw({n}), dx = draw({n});
    time_kernel(state, ceilings, kernels::gelu_backward, n, x.data(), dy.data(), dx.data(), false);
  });
}

void register_cross_entropy(const std::string& space, int64_t batch, int64_t classes, const Ceilings& ceilings) {
  add(space + "/cross_entropy/forward", [=](benchmark::State& state) {
    const Tensor logits = draw({batch, classes}), target = draw({batch, classes}), p = draw({batch, classes}),
                 loss = draw({1});
    time_kernel(state, ceilings, kernels::cross_entropy_forward, batch, classes, logits.data(), target.data(),
                loss.data(), p.data());
  });
  add(space + "/cross_entropy/backward", [=](benchmark::State& state) {
    const Tensor target = draw({batch, classes}), p = draw({batch, classes}), dlogits = draw({batch, classes}),
                 dloss = draw({1});
    time_kernel(state, ceilings, kernels::cross_entropy_backward, batch, classes, target.data(), p.data(), dloss.data(),
                dlogits.data(), false);
  });
}

void register_adamw(const std::string& space, int64_t n, const Ceilings& ceilings) {
  add(space + "/adamw", [=](benchmark::State& state) {
    const Tensor w = draw({n}), g = draw({n}), m = draw({n}), v = draw({n});
    // Betas of 1 keep the moments: with the gradient cleared by the first call they would decay to denormal numbers.
    const AdamWStep step = {1e-3f, 1, 1, 1e-8f, 0.05f, 1, 1, 1};
    const double squares = 1;
    time_kernel(state, ceilings, kernels::adamw, n, step, &squares, w.data(), g.data(), m.data(), v.data());
  });
}

}  // namespace

void register_sweeps(const std::string& space, const Config& config, int64_t batch, const Ceilings& ceilings) {
  const Sizes sizes = sizes_of(config, batch);
  const int64_t rows = batch * sizes.tokens;
  register_attention(space, sizes.attention, ceilings);
  register_layer_norm(space, rows, sizes.width, ceilings);
  register_gelu(space, rows * sizes.hidden, ceilings);
  register_cross_entropy(space, batch, sizes.classes, ceilings);
  register_adamw(space, sizes.parameters, ceilings);
}

}  // namespace entangle

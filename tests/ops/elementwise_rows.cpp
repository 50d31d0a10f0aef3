// One row per operation of engine/ops.h; linear and mlp have theirs in linear_rows.cpp, attention in attention_rows.cpp,
// adamw and sum_squares in optimizer_rows.cpp. What a row is put through: tests/ops/harness.h. Behind the cases stands one
// that is timed, at the size of T's largest subnet with four images.
#include "engine/ops.h"

#include <cmath>

#include "engine/check.h"
#include "engine/device.h"
#include "tests/ops/harness.h"
#include "tests/ops/reference.h"

namespace entangle {
namespace {

// ------------------------------------------------------------------------------------------------------ layer_norm ---

// c = 4: the error that reaches xhat through the mean is counted as if all roundings had one sign.
Case layer_norm_case(int64_t rows, int64_t width, float eps, double mean, double spread, const Shape& parent) {
  return {describe("rows and width", {rows, width}),
          {{"x", {rows, width}, {}, {}, uniform(mean - spread, mean + spread)},
           {"w", {width}, parent, {}, uniform(0.5, 1.5)},
           {"b", {width}, parent}},
          {rows, width},
          [eps](const std::vector<Tensor>& t) { return layer_norm(t[0], t[1], t[2], eps); },
          [=](const auto& in) { return reference::layer_norm(rows, width, eps, in[0], in[1], in[2]); },
          [=](const auto& in, const auto& dy) {
            return reference::layer_norm_backward(rows, width, eps, in[0], in[1], dy);
          },
          4};
}

std::vector<Case> layer_norm_cases() {
  return {layer_norm_case(1, 1, 1e-5f, 0, 1, {}),        layer_norm_case(3, 7, 1e-5f, 0, 1, {}),
          layer_norm_case(137, 24, 1e-5f, 0, 2, {64}),   layer_norm_case(5, 216, 1e-5f, 0, 1, {256}),
          layer_norm_case(2, 331, 1e-3f, 0, 1, {}),      layer_norm_case(6, 65, 1e-5f, 20, 1, {}),
          layer_norm_case(9, 33, 1e-5f, 0, 1e-3, {100}), layer_norm_case(300, 5, 1e-6f, -1, 3, {}),
          layer_norm_case(1043, 3, 1e-5f, 0, 1, {}),     layer_norm_case(4217, 2, 1e-5f, 0, 1, {})};
}

const Row layer_norm_row("layer_norm", {"layer_norm_forward", "layer_norm_backward"}, layer_norm_cases,
                         [] { return layer_norm_case(788, 240, 1e-5f, 0, 1, {}); });

// ------------------------------------------------------------------------------------------------------------ gelu ---

// Zeros of both signs, denormals, the tails, and magnitudes from 2^-20 to 30.
float gelu_input(Rng& rng, int64_t index) {
  const float special[] = {0.0f, -0.0f, 1e-39f, -1e-42f, 30.0f, -30.0f, 5.9f, -5.9f, 13.1f, -13.3f, 1e-20f};
  constexpr int64_t kSpecial = sizeof special / sizeof *special;
  if (index % 32 < kSpecial) return special[index % 32];
  const double magnitude = std::exp2(rng.uniform(-20, 4.9));
  return static_cast<float>(rng.chance(0.5) ? magnitude : -magnitude);
}

// c = 3: a kernel may compute Phi by an approximation of its own, and 8 would hide a coefficient off in its sixth
// digit.
Case gelu_case(const Shape& shape, const Generator& generate) {
  return {"gelu " + shape.str(),
          {{"x", shape, {}, {}, generate}},
          shape,
          [](const std::vector<Tensor>& t) { return gelu(t[0]); },
          [](const auto& in) { return reference::gelu(in[0]); },
          [](const auto& in, const auto& dy) { return reference::gelu_backward(in[0], dy); },
          3};
}

std::vector<Case> gelu_cases() {
  return {gelu_case({1}, uniform(-1, 1)), gelu_case({3, 5, 7}, uniform(-4, 4)), gelu_case({997}, gelu_input),
          gelu_case({2, 33333}, uniform(-3, 3))};
}

const Row gelu_row("gelu", {"gelu_forward", "gelu_backward"}, gelu_cases, [] {
  return gelu_case({788, 960}, uniform(-3, 3));
});

// --------------------------------------------------------------------------------------------------------- softmax ---

// c = 4: the errors of a row's exponentials reach its sum counted as if all had one sign.
Case softmax_case(int64_t rows, int64_t width, float scale, const Generator& x) {
  return {describe("rows and width", {rows, width}) + ", scale " + std::to_string(scale),
          {{"x", {rows, width}, {}, {}, x}},
          {rows, width},
          [scale](const std::vector<Tensor>& t) { return softmax(t[0], scale); },
          [=](const auto& in) { return reference::softmax(rows, width, scale, in[0]); },
          [=](const auto& in, const auto& dy) { return reference::softmax_backward(rows, width, scale, in[0], dy); },
          4};
}

// Values of +-1e4, at least 50 apart: their exponentials overflow, or vanish, unless the largest is subtracted first.
float huge_value(Rng& rng, int64_t index) {
  const float magnitude = 1e4f - 50.0f * static_cast<float>(index % 11);
  return rng.chance(0.5) ? magnitude : -magnitude;
}

std::vector<Case> softmax_cases() {
  return {softmax_case(1, 1, 1, uniform(-1, 1)),       softmax_case(3, 7, 0.125f, uniform(-5, 5)),
          softmax_case(19, 31, -0.7f, uniform(-9, 9)), softmax_case(9, 33, 1, uniform(-30, 30)),
          softmax_case(5, 11, 1, huge_value),          softmax_case(3, 197, 0.125f, uniform(-20, 20)),
          softmax_case(2, 256, 1, uniform(-3, 3)),     softmax_case(2, 257, 1, uniform(-3, 3)),
          softmax_case(1, 1024, 2, uniform(-4, 4)),    softmax_case(1, 1025, 2, uniform(-4, 4)),
          softmax_case(4000, 5, 1, uniform(-2, 2)),    softmax_case(0, 3, 1, uniform(-1, 1)),
          softmax_case(3, 11, 1, uniform(-400, -300))};
}

const Row softmax_row("softmax", {"softmax_forward", "softmax_backward"}, softmax_cases,
                      [] { return softmax_case(3152, 197, 0.125f, uniform(-5, 5)); });

// -------------------------------------------------------------------------------------------------------- patchify ---

Case patchify_case(const PatchShape& s) {
  const int64_t side = s.image / s.patch;
  return {describe("batch, channels, image, patch", {s.batch, s.channels, s.image, s.patch}),
          {{"images", {s.batch, s.channels, s.image, s.image}}},
          {s.batch, side * side, s.channels * s.patch * s.patch},
          [s](const std::vector<Tensor>& t) { return patchify(t[0], s.patch); },
          [s](const auto& in) { return reference::patchify(s, in[0]); },
          [s](const auto&, const auto& dy) { return reference::patchify_backward(s, dy); }};
}

std::vector<Case> patchify_cases() {
  return {patchify_case({1, 1, 1, 1}), patchify_case({2, 3, 6, 2}), patchify_case({3, 1, 28, 4}),
          patchify_case({1, 3, 15, 5}), patchify_case({2, 2, 9, 9})};
}

const Row patchify_row("patchify", {"patchify_forward", "patchify_backward"}, patchify_cases, [] {
  return patchify_case({4, 3, 224, 16});
});

// ---------------------------------------------------------------------------------------------------------- tokens ---

Case tokens_case(int64_t batch, int64_t count, int64_t width, bool position, const Shape& position_parent) {
  std::vector<Input> inputs = {{"patches", {batch, count - 1, width}}, {"class_token", {width}, {width + 9}}};
  if (position) inputs.push_back({"position", {count, width}, position_parent});
  return {describe(position ? "with position" : "without position", {batch, count, width}),
          inputs,
          {batch, count, width},
          [position](const std::vector<Tensor>& t) { return tokens(t[0], t[1], position ? t[2] : Tensor()); },
          [=](const auto& in) { return reference::tokens(batch, count, width, in); },
          [=](const auto&, const auto& dy) { return reference::tokens_backward(batch, count, width, dy); }};
}

std::vector<Case> tokens_cases() {
  return {tokens_case(1, 2, 1, true, {}), tokens_case(3, 5, 7, false, {}), tokens_case(2, 17, 19, true, {}),
          tokens_case(37, 10, 33, true, {10, 40}), tokens_case(4, 26, 24, true, {30, 25})};
}

const Row tokens_row("tokens", {"tokens_forward", "tokens_backward"}, tokens_cases,
                     [] { return tokens_case(4, 197, 240, true, {}); });

// --------------------------------------------------------------------------------------------------- residual_norm ---

// Which outputs a case uses: one of them, or both, the norm as the branch of a second residual_norm behind the sum.
enum class Used { sum, norm, both };

struct ResidualNormRow {
  int64_t batch, tokens, width;
  KeptImages from, to;
  Used used;
};

constexpr float kNormEps = 1e-5f;

template <class T>
reference::Array<T> residual_norm_forward(const ResidualNormRow& row, const reference::Arrays<T>& in) {
  const reference::Arrays<T> out = reference::residual_norm(row.width, kNormEps, row.from, row.to, in);
  if (row.used != Used::both) return out[row.used == Used::sum ? 0 : 1];
  return reference::residual_norm(row.width, kNormEps, row.to, {},
                                  reference::Arrays<T>{out[0], out[1], in[2], in[3]})[1];
}

template <class T>
reference::Arrays<T> residual_norm_backward(const ResidualNormRow& row, const reference::Arrays<T>& in,
                                            const reference::Array<T>& dy) {
  const reference::Arrays<T> out = reference::residual_norm(row.width, kNormEps, row.from, row.to, in);
  reference::Array<T> dsum(out[0].size()), dnorm(out[1].size());
  reference::Arrays<T> second = {{}, {}, reference::Array<T>(in[2].size()), reference::Array<T>(in[3].size())};
  if (row.used == Used::both) {
    second = reference::residual_norm_backward(row.width, kNormEps, row.to, {},
                                               reference::Arrays<T>{out[0], out[1], in[2], in[3]}, dsum, dy);
    dsum = second[0];
    dnorm = second[1];
  } else {
    (row.used == Used::sum ? dsum : dnorm) = dy;
  }
  reference::Arrays<T> gradients =
      reference::residual_norm_backward(row.width, kNormEps, row.from, row.to, in, dsum, dnorm);
  for (size_t i : {2, 3}) {
    for (size_t c = 0; c < in[i].size(); ++c) gradients[i][c] += second[i][c];
  }
  return gradients;
}

Case residual_norm_case(const ResidualNormRow& row) {
  const int64_t kept = row.to.count(row.batch);
  const Shape whole = {row.batch, row.tokens, row.width};
  return {describe("batch, tokens, width, added, kept, used",
                   {row.batch, row.tokens, row.width, row.from.count(row.batch), kept, static_cast<int>(row.used)}),
          {{"x", whole},
           {"branch", {row.from.count(row.batch), row.tokens, row.width}},
           {"w", {row.width}, {row.width + 3}, {}, uniform(0.5, 1.5)},
           {"b", {row.width}}},
          row.used == Used::norm ? Shape{kept, row.tokens, row.width} : whole,
          [row](const std::vector<Tensor>& t) {
            const ResidualNorm out = residual_norm(t[0], t[1], row.from, t[2], t[3], kNormEps, row.to);
            if (row.used != Used::both) return row.used == Used::sum ? out.sum : out.norm;
            return residual_norm(out.sum, out.norm, row.to, t[2], t[3], kNormEps, {}).norm;
          },
          [row](const auto& in) { return residual_norm_forward(row, in); },
          [row](const auto& in, const auto& dy) { return residual_norm_backward(row, in, dy); },
          4};  // as for layer_norm
}

std::vector<Case> residual_norm_cases() {
  const KeptImages all, some = {{0, -1, 1, 2, -1}, 1 / 0.9f}, others = {{-1, 0, 1, -1, -1}, 1 / 0.7f},
                        none = {{-1, -1, -1, -1, -1}, 2};
  return {residual_norm_case({1, 1, 1, all, all, Used::sum}),
          residual_norm_case({3, 5, 7, all, all, Used::norm}),
          residual_norm_case({2, 17, 33, all, all, Used::both}),
          residual_norm_case({5, 3, 24, some, all, Used::norm}),
          residual_norm_case({5, 3, 24, some, others, Used::norm}),
          residual_norm_case({5, 9, 19, some, others, Used::both}),
          residual_norm_case({5, 4, 8, all, others, Used::sum}),
          residual_norm_case({5, 2, 40, none, some, Used::both}),
          residual_norm_case({5, 2, 11, others, none, Used::both}),
          residual_norm_case({5, 50, 21, others, some, Used::both})};
}

const Row residual_norm_row("residual_norm", {"residual_norm_forward", "residual_norm_backward"}, residual_norm_cases,
                            [] {
                              return residual_norm_case({4, 197, 240, {}, {}, Used::both});
                            });

// --------------------------------------------------------------------------------------------------------- dropout ---

Case dropout_case(const Shape& shape, float rate, int64_t first = 0) {
  const RngKey key = rng_key(11, Stream::dropout, 2);
  return {concat("rate ", rate, " ", shape.str(), first > 0 ? concat(" from ", first, " on") : ""),
          {{"x", shape}},
          shape,
          [=](const std::vector<Tensor>& t) { return dropout(t[0], rate, key, first); },
          [=](const auto& in) { return reference::dropout(rate, key, first, in[0]); },
          [=](const auto&, const auto& dy) {
            return reference::Arrays<typename std::decay_t<decltype(dy)>::value_type>{
                reference::dropout(rate, key, first, dy)};
          }};
}

std::vector<Case> dropout_cases() {
  return {dropout_case({1}, 0.5f),         dropout_case({3, 5, 7}, 0.1f),    dropout_case({997}, 0.9f),
          dropout_case({2, 20001}, 0.25f), dropout_case({5, 1021}, 0.5f, 3), dropout_case({1}, 0.5f, (1ll << 33) + 2)};
}

const Row dropout_row("dropout", {"dropout_forward", "dropout_backward"}, dropout_cases, [] {
  return dropout_case({788, 240}, 0.1f);
});

// ------------------------------------------------------------------------------------------------------------ pool ---

Case pool_case(const PoolShape& s) {
  return {describe("batch, tokens, width, first, count", {s.batch, s.tokens, s.width, s.first, s.count}),
          {{"x", {s.batch, s.tokens, s.width}}},
          {s.batch, s.width},
          [s](const std::vector<Tensor>& t) { return pool(t[0], s.first, s.count); },
          [s](const auto& in) { return reference::pool(s, in[0]); },
          [s](const auto&, const auto& dy) { return reference::pool_backward(s, dy); }};
}

std::vector<Case> pool_cases() {
  return {pool_case({1, 1, 1, 0, 1}), pool_case({3, 5, 7, 0, 1}), pool_case({2, 17, 33, 1, 16}),
          pool_case({5, 50, 24, 1, 49}), pool_case({2, 9, 11, 3, 4})};
}

const Row pool_row("pool", {"pool_forward", "pool_backward"}, pool_cases, [] {
  return pool_case({4, 197, 240, 1, 196});
});

// --------------------------------------------------------------------------------------------------- cross_entropy ---

// Targets of any sum, as no caller guarantees 1.
Case cross_entropy_case(int64_t batch, int64_t classes, const Generator& logits) {
  return {describe("batch, classes", {batch, classes}),
          {{"logits", {batch, classes}, {}, {}, logits}, {"target", {batch, classes}, {}, {}, uniform(0, 0.4), false}},
          {1},
          [](const std::vector<Tensor>& t) { return cross_entropy(t[0], t[1]); },
          [=](const auto& in) { return reference::cross_entropy(batch, classes, in[0], in[1]); },
          [=](const auto& in, const auto& dy) {
            return reference::cross_entropy_backward(batch, classes, in[0], in[1], dy);
          }};
}

std::vector<Case> cross_entropy_cases() {
  return {cross_entropy_case(1, 1, uniform(-1, 1)),  cross_entropy_case(3, 10, uniform(-5, 5)),
          cross_entropy_case(37, 7, uniform(-2, 2)), cross_entropy_case(2, 331, uniform(-9, 9)),
          cross_entropy_case(5, 11, huge_value),     cross_entropy_case(130, 3, uniform(-30, 30))};
}

const Row cross_entropy_row("cross_entropy", {"cross_entropy_forward", "cross_entropy_backward"}, cross_entropy_cases,
                            [] { return cross_entropy_case(4, 1000, uniform(-5, 5)); });

}  // namespace
}  // namespace entangle

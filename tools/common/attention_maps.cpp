#include "tools/common/attention_maps.h"

#include <algorithm>
#include <cmath>

namespace entangle {
namespace {

// The bucket of two patches' distance along one axis.
int64_t bucket(int64_t from, int64_t to, int64_t most) { return std::clamp(to - from, -most, most) + most + 1; }

// The scores of one image and head.
class Scores {
 public:
  explicit Scores(const AttentionInput& input) : s_(input.shape), qkv_(input.qkv.to_vector()) {
    if (s_.max_relative_position == 0) return;
    vertical_ = input.tables.key_v.to_vector();
    horizontal_ = input.tables.key_h.to_vector();
  }

  double score(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const float* q = part(0, b, h, i);
    double sum = dot(q, part(1, b, h, j));
    if (s_.max_relative_position > 0) {
      const auto [v, horizontal] = buckets(i, j);
      sum += dot(q, vertical_.data() + v * s_.head_dim) + dot(q, horizontal_.data() + horizontal * s_.head_dim);
    }
    return sum * static_cast<double>(s_.scale);
  }

 private:
  const float* part(int64_t part, int64_t b, int64_t h, int64_t token) const {
    return qkv_.data() + (((b * s_.tokens + token) * 3 + part) * s_.heads + h) * s_.head_dim;
  }
  double dot(const float* a, const float* b) const {
    double sum = 0;
    for (int64_t d = 0; d < s_.head_dim; ++d) sum += static_cast<double>(a[d]) * static_cast<double>(b[d]);
    return sum;
  }
  std::pair<int64_t, int64_t> buckets(int64_t i, int64_t j) const {
    if (i == 0 || j == 0) return {0, 0};
    const int64_t most = s_.max_relative_position;
    return {bucket((i - 1) / s_.side, (j - 1) / s_.side, most), bucket((i - 1) % s_.side, (j - 1) % s_.side, most)};
  }

  const AttentionShape& s_;
  std::vector<float> qkv_, vertical_, horizontal_;
};

// The maps of one block, of `p` [1, H, N, N].
std::vector<std::vector<double>> maps_of(const AttentionShape& s, const std::vector<double>& p, bool class_token) {
  const int64_t n = s.tokens, first = class_token ? 0 : 1, last = class_token ? 1 : n;
  std::vector<std::vector<double>> maps;
  for (int64_t h = 0; h < s.heads; ++h) {
    std::vector<double> map(static_cast<size_t>(n - 1));
    for (int64_t i = first; i < last; ++i) {
      for (int64_t j = 1; j < n; ++j) {
        map[static_cast<size_t>(j - 1)] +=
            p[static_cast<size_t>((h * n + i) * n + j)] / static_cast<double>(last - first);
      }
    }
    maps.push_back(std::move(map));
  }
  return maps;
}

}  // namespace

std::vector<double> attention_probabilities(const AttentionInput& input) {
  const AttentionShape& s = input.shape;
  const Scores scores(input);
  std::vector<double> p;
  p.reserve(static_cast<size_t>(s.batch * s.heads * s.tokens * s.tokens));
  for (int64_t row = 0; row < s.batch * s.heads * s.tokens; ++row) {
    const int64_t i = row % s.tokens, h = row / s.tokens % s.heads, b = row / s.tokens / s.heads;
    const auto begin = static_cast<std::ptrdiff_t>(p.size());
    for (int64_t j = 0; j < s.tokens; ++j) p.push_back(scores.score(b, h, i, j));
    const double largest = *std::max_element(p.begin() + begin, p.end());
    double sum = 0;
    std::for_each(p.begin() + begin, p.end(), [&](double& e) { sum += e = std::exp(e - largest); });
    std::for_each(p.begin() + begin, p.end(), [&](double& e) { e /= sum; });
  }
  return p;
}

AttentionMaps attention_maps(const Supernet& supernet, const Architecture& architecture, const Tensor& image) {
  const SupernetConfig& config = supernet.config();
  config.check_fits(architecture);
  AttentionMaps maps;
  maps.side = config.side();
  ResidualStream stream = supernet.stem(image, architecture.embed_dim);
  for (int i = 0; i < architecture.depth; ++i) {
    const int heads = architecture.num_heads[static_cast<size_t>(i)];
    const double ratio = architecture.mlp_ratio[static_cast<size_t>(i)];
    const AttentionInput input = supernet.attention_input(stream, i, heads, ratio);
    maps.maps.push_back(maps_of(input.shape, attention_probabilities(input), !config.global_pool));
    stream = supernet.block(stream, i, heads, ratio);
  }
  maps.logits = supernet.head(stream).to_vector();
  return maps;
}

}  // namespace entangle

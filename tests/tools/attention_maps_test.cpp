#include "tools/common/attention_maps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/small_supernet.h"

namespace entangle {
namespace {

int64_t bucket(int64_t from, int64_t to, int64_t most) { return std::max(-most, std::min(to - from, most)) + most + 1; }

// The values that `p` weighs, with their relative position, are what the operation gives.
void expect_explains(const AttentionInput& in, const std::vector<double>& p) {
  const AttentionShape& s = in.shape;
  const std::vector<float> qkv = in.qkv.to_vector(), y = attention(in.qkv, in.tables, s).to_vector();
  const std::vector<float> v = in.tables.value_v.to_vector(), h = in.tables.value_h.to_vector();
  const int64_t n = s.tokens, d = s.head_dim;
  for (int64_t head = 0; head < s.heads; ++head) {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t k = 0; k < d; ++k) {
        double sum = 0;
        for (int64_t j = 0; j < n; ++j) {
          const bool patches = i > 0 && j > 0;
          const int64_t m = s.max_relative_position;
          const int64_t bv = patches ? bucket((i - 1) / s.side, (j - 1) / s.side, m) : 0;
          const int64_t bh = patches ? bucket((i - 1) % s.side, (j - 1) % s.side, m) : 0;
          const double value = double{qkv[size_t(((j * 3 + 2) * s.heads + head) * d + k)]} +
                               double{v[size_t(bv * d + k)]} + double{h[size_t(bh * d + k)]};
          sum += p[size_t((head * n + i) * n + j)] * value;
        }
        ASSERT_NEAR(y[size_t((i * s.heads + head) * d + k)], sum, 1e-5) << "head " << head << ", token " << i;
      }
    }
  }
}

TEST(AttentionMaps, AreTheProbabilitiesThatTheOperationUses) {
  const SupernetConfig config = small_config();
  const Supernet net(config, 3);
  const Architecture a = mixed_architecture();
  ResidualStream stream = net.stem(random_images(config, 1), a.embed_dim);
  for (int i = 0; i < a.depth; ++i) {
    const AttentionInput in = net.attention_input(stream, i, a.num_heads[size_t(i)], a.mlp_ratio[size_t(i)]);
    expect_explains(in, attention_probabilities(in));
    stream = net.block(stream, i, a.num_heads[size_t(i)], a.mlp_ratio[size_t(i)]);
  }
}

TEST(AttentionMaps, HaveAMapForEachHeadAndTheNetworksAnswer) {
  for (const bool pool : {true, false}) {
    SupernetConfig config = small_config();
    config.global_pool = pool;
    const Supernet net(config, 3);
    const Architecture a = mixed_architecture();
    const Tensor image = random_images(config, 1);
    const AttentionMaps maps = attention_maps(net, a, image);
    EXPECT_EQ(maps.logits, net.forward(image, a).to_vector());
    ASSERT_EQ(maps.maps.size(), 2u);
    const AttentionInput in = net.attention_input(net.stem(image, a.embed_dim), 0, a.num_heads[0], a.mlp_ratio[0]);
    const std::vector<double> p = attention_probabilities(in);
    const int64_t n = config.tokens();
    for (size_t head = 0; head < 2; ++head) {
      ASSERT_EQ(maps.maps[0].size(), 2u);
      double mean = 0;  // what the last patch gets
      for (int64_t i = pool ? 1 : 0; i < (pool ? n : 1); ++i)
        mean += p[(head * size_t(n) + size_t(i) + 1) * size_t(n) - 1];
      EXPECT_DOUBLE_EQ(maps.maps[0][head].back(), pool ? mean / double(n - 1) : mean);
      const double all = std::accumulate(maps.maps[0][head].begin(), maps.maps[0][head].end(), 0.0);
      EXPECT_LT(all, 1);
      EXPECT_GT(all, 0.3);
    }
    EXPECT_EQ(maps.maps[1].size(), 1u);
  }
}

}  // namespace
}  // namespace entangle

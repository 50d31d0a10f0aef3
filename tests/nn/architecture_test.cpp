#include "nn/architecture.h"

#include "engine/check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>

#include "nn/supernet.h"

namespace entangle {
namespace {

Architecture example() {
  Architecture a;
  a.depth = 3;
  a.embed_dim = 192;
  a.mlp_ratio = {3.5, 4, 3};
  a.num_heads = {3, 4, 3};
  return a;
}

constexpr const char* kExampleText = R"({"depth":3,"embed_dim":192,"mlp_ratio":[3.5,4,3],"num_heads":[3,4,3]})";

// The message of the Error that `action` throws, or a text that no test expects.
template <class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

void expect_refused(const std::string& text, const std::string& reason) {
  const std::string message = message_of([&] { Architecture::from_json(text); });
  EXPECT_NE(message.find(reason), std::string::npos) << text.substr(0, 100) << "\ngives: " << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  EXPECT_LT(message.size(), 300u);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

SearchSpace space_t() { return {{12, 13, 14}, {192, 216, 240}, {3.5, 4}, {3, 4}}; }

TEST(Architecture, TextIsCanonicalAndReadsBack) {
  EXPECT_EQ(example().to_json(), kExampleText);
  EXPECT_EQ(Architecture::from_json(kExampleText), example());
  EXPECT_EQ(Architecture::from_json(R"( { "num_heads": [3, 4, 3], "mlp_ratio": [3.50, 4.0, 3],
                                        "embed_dim": 192, "depth": 3 } )"),
            example());
  Architecture third = example();
  third.mlp_ratio[1] = 1.0 / 3;
  EXPECT_EQ(Architecture::from_json(third.to_json()), third);
}

TEST(Architecture, EqualityAndHashSeeEveryGene) {
  std::set<uint64_t> hashes = {example().hash()};
  std::vector<Architecture> others(4, example());
  others[0].embed_dim = 216;
  others[1].mlp_ratio[2] = 3.5;
  others[2].num_heads[0] = 4;
  others[3] = Architecture::uniform(2, 192, 3, 3.5);
  for (const Architecture& other : others) {
    EXPECT_NE(other, example());
    hashes.insert(other.hash());
  }
  EXPECT_EQ(hashes.size(), 5u);
  EXPECT_EQ(example().hash(), Architecture::from_json(kExampleText).hash());
  // FNV-1a of kExampleText, step by step.
  uint64_t expected = 14695981039346656037ull;
  for (const char byte : std::string(kExampleText))
    expected = (expected ^ static_cast<uint8_t>(byte)) * 1099511628211ull;
  EXPECT_EQ(example().hash(), expected);
}

TEST(Architecture, RefusesWhatIsNotOne) {
  expect_refused("", "not valid JSON");
  expect_refused("{\"depth\":3", "not valid JSON");
  expect_refused(std::string(kExampleText) + "}", "not valid JSON");
  expect_refused("[1,2]", "is not of the form");
  expect_refused("7", "is not of the form");
  expect_refused(replaced(kExampleText, "3.5", "NaN"), "not valid JSON");
  expect_refused(replaced(kExampleText, "3.5", "1e999"), "too large");
  expect_refused(replaced(kExampleText, "\"depth\":3,", ""), "\"depth\" is missing");
  expect_refused(replaced(kExampleText, "\"depth\":3", "\"depht\":3"), "unknown key \"depht\"");
  expect_refused(replaced(kExampleText, "{", "{\"depth\":3,"), "\"depth\" stands there twice");
}

TEST(Architecture, RefusesWrongTypesAndSizes) {
  expect_refused(replaced(kExampleText, "\"depth\":3", "\"depth\":3.5"), "depth is 3.5, but must be a whole number");
  expect_refused(replaced(kExampleText, "\"depth\":3", "\"depth\":\"3\""), "must be a whole number");
  expect_refused(replaced(kExampleText, "\"depth\":3", "\"depth\":true"), "must be a whole number");
  expect_refused(replaced(kExampleText, "\"depth\":3", "\"depth\":0"), "depth is 0, but must lie in 1 .. 256");
  expect_refused(replaced(kExampleText, "\"depth\":3", "\"depth\":257"), "depth is 257");
  expect_refused(replaced(kExampleText, "\"depth\":3", "\"depth\":2"), "has 3 entries, but depth is 2");
  expect_refused(replaced(kExampleText, "192", "-1"), "embed_dim is -1");
  expect_refused(replaced(kExampleText, "192", "18446744073709551615"), "embed_dim is");
  expect_refused(replaced(kExampleText, "192", "4294967488"), "embed_dim is 4294967488");
  expect_refused(replaced(kExampleText, "[3.5,4,3]", "4"), "mlp_ratio is 4, but must be a list");
  expect_refused(replaced(kExampleText, "[3.5,4,3]", "[3.5,null,3]"), "mlp_ratio[1] is null");
  expect_refused(replaced(kExampleText, "[3.5,4,3]", "[3.5,-4,3]"), "mlp_ratio[1] is -4");
  expect_refused(replaced(kExampleText, "[3.5,4,3]", "[3.5,4,0.001]"), "without a hidden unit");
  expect_refused(replaced(kExampleText, "[3,4,3]", "[3,0,3]"), "num_heads[1] is 0");
  expect_refused(replaced(kExampleText, "[3,4,3]", "[3,4.0,3]"), "num_heads[1] is 4.0");
  expect_refused(replaced(kExampleText, "[3,4,3]", "[3,[4],3]"), "lists within lists");
}

TEST(Architecture, RefusesHostileText) {
  expect_refused(std::string(100000, '['), "bytes of text");
  expect_refused(std::string(60000, '['), "lists within lists");
  expect_refused(replaced(kExampleText, "\"depth\":3", "\"depth\":\"" + std::string(60000, 'x') + "\""), "xxx...");
  std::string longest = "[3";
  for (int i = 0; i < 20000; ++i) longest += ",3";
  expect_refused(replaced(kExampleText, "[3,4,3]", longest + "]"), "num_heads has 20001 entries");
}

TEST(Architecture, ValidateSeesValuesMadeByHand) {
  Architecture a = example();
  EXPECT_NO_THROW(a.validate());
  a.mlp_ratio[1] = std::nan("");
  EXPECT_NE(message_of([&] { a.validate(); }).find("mlp_ratio[1] is nan"), std::string::npos);
  a = example();
  a.num_heads.pop_back();
  EXPECT_NE(message_of([&] { a.validate(); }).find("num_heads 2"), std::string::npos);
  EXPECT_THROW(Architecture::uniform(-1, 64, 2, 4), Error);
}

TEST(Architecture, HiddenWidthTruncatesAsPublished) {
  EXPECT_EQ(hidden_width(192, 3.5), 672);
  EXPECT_EQ(hidden_width(65, 3.5), 227);  // 227.5
  EXPECT_EQ(hidden_width(10, 0.99), 9);
}

TEST(SearchSpace, ExtremesAndCount) {
  const SearchSpace space = space_t();
  EXPECT_EQ(space.smallest(), Architecture::uniform(12, 192, 3, 3.5));
  EXPECT_EQ(space.largest(), Architecture::uniform(14, 240, 4, 4));
  // The middle is rounded up where there are two choices.
  EXPECT_EQ(space.middle(), Architecture::uniform(13, 216, 4, 4));
  EXPECT_DOUBLE_EQ(space.count(), 3.0 * (16777216.0 + 67108864.0 + 268435456.0));
}

TEST(SearchSpace, ContainsOnlyItsChoices) {
  const SearchSpace space = space_t();
  EXPECT_TRUE(space.contains(space.middle()));
  EXPECT_FALSE(space.contains(Architecture::uniform(11, 192, 3, 4)));
  EXPECT_FALSE(space.contains(Architecture::uniform(12, 200, 3, 4)));
  EXPECT_FALSE(space.contains(Architecture::uniform(12, 192, 2, 4)));
  EXPECT_FALSE(space.contains(Architecture::uniform(12, 192, 3, 3)));
  Architecture broken = space.smallest();
  broken.num_heads.push_back(3);
  EXPECT_FALSE(space.contains(broken));
  EXPECT_FALSE(space.contains(Architecture()));
}

TEST(SearchSpace, SamplesEveryGeneUniformlyAndRepeatably) {
  const SearchSpace space = {{2, 3}, {64, 96, 128}, {2, 3, 4}, {2, 4}};
  std::map<std::string, int> counts;
  Rng rng(7, Stream::architecture);
  const int draws = 12000;
  for (int i = 0; i < draws; ++i) {
    const Architecture a = space.sample(rng);
    ASSERT_TRUE(space.contains(a));
    ++counts["depth" + std::to_string(a.depth)];
    ++counts["embed" + std::to_string(a.embed_dim)];
    ++counts["ratio" + std::to_string(static_cast<int>(a.mlp_ratio[1]))];
    ++counts["heads" + std::to_string(a.num_heads[1])];
  }
  ASSERT_EQ(counts.size(), 10u);
  for (const auto& [gene, count] : counts) {
    const double p = gene.compare(0, 5, "depth") == 0 || gene.compare(0, 5, "heads") == 0 ? 0.5 : 1.0 / 3;
    EXPECT_NEAR(count, draws * p, 5 * std::sqrt(draws * p * (1 - p))) << gene;
  }
  Rng one(7, Stream::architecture), two(7, Stream::architecture), other(8, Stream::architecture);
  const Architecture first = space_t().sample(one);
  EXPECT_EQ(first, space_t().sample(two));
  EXPECT_NE(first, space_t().sample(other));
}

TEST(SearchSpace, ValidateNamesTheList) {
  const auto refused = [](const SearchSpace& space, const std::string& reason) {
    const std::string message = message_of([&] { space.validate(); });
    EXPECT_NE(message.find(reason), std::string::npos) << message;
  };
  EXPECT_NO_THROW(space_t().validate());
  refused({{}, {64}, {4}, {2}}, "depth has no choices");
  refused({{4}, {96, 64}, {4}, {2}}, "embed_dim has 64 after 96");
  refused({{4}, {64}, {4, 4}, {2}}, "mlp_ratio has 4 after 4");
  refused({{4}, {64}, {std::nan("")}, {2}}, "mlp_ratio has the choice nan");
  refused({{4}, {64}, {4}, {0, 2}}, "num_heads has the choice 0");
  refused({{1000}, {64}, {4}, {2}}, "depth has the choice 1000");
  refused({{4}, {1}, {0.5}, {2}}, "without a hidden unit");
}

// Each line: what is changed in a valid configuration, and what the message must name.
TEST(SupernetConfig, ValidateNamesTheKey) {
  const auto refused = [](auto change, const std::string& reason) {
    SupernetConfig config;
    change(config);
    const std::string message = message_of([&] { config.validate(); });
    EXPECT_NE(message.find(reason), std::string::npos) << message;
  };
  using C = SupernetConfig;
  EXPECT_NO_THROW(C().validate());
  refused([](C& c) { c.image_size = 0; }, "image_size is 0");
  refused([](C& c) { c.image_size = 1 << 20; }, "image_size is 1048576");
  refused([](C& c) { c.patch_size = 15; }, "patch_size is 15, but must divide image_size 224");
  refused([](C& c) { c.patch_size = 448; }, "patch_size is 448, but must lie in 1 .. 224");
  refused([](C& c) { c.patch_size = 1; }, "224 patches a side");
  refused([](C& c) { c.in_channels = 0; }, "in_channels is 0");
  refused([](C& c) { c.num_classes = -1; }, "num_classes is -1");
  refused([](C& c) { c.embed_dim = 0; }, "embed_dim is 0");
  refused([](C& c) { c.depth = 0; }, "depth is 0");
  refused([](C& c) { c.num_heads = 1000; }, "num_heads is 1000");
  refused([](C& c) { c.head_dim = 0; }, "head_dim is 0");
  refused([](C& c) { c.num_heads = 256, c.head_dim = 1024; }, "num_heads 256 times head_dim 1024");
  refused([](C& c) { c.mlp_ratio = std::nan(""); }, "mlp_ratio is nan");
  refused([](C& c) { c.mlp_ratio = 0.001; }, "without a hidden unit");
  refused([](C& c) { c.max_relative_position = 0; }, "max_relative_position is 0");
  refused([](C& c) { c.init_std = -1; }, "init_std is -1");
  refused([](C& c) { c.drop_path = 1; }, "drop_path is 1");
  refused([](C& c) { c.dropout = -0.1; }, "dropout is -0.1");
  refused([](C& c) { c.attention_dropout = std::numeric_limits<double>::infinity(); }, "attention_dropout is inf");
  C without;
  without.relative_position = false;
  without.max_relative_position = 0;
  EXPECT_NO_THROW(without.validate());
}

TEST(SupernetConfig, FullFitsAndWhatIsLargerDoesNot) {
  const SupernetConfig config;  // T
  const Architecture full = config.full();
  EXPECT_EQ(full, Architecture::uniform(14, 256, 4, 4));
  EXPECT_NO_THROW(config.check_fits(full));
  EXPECT_NO_THROW(config.check_fits(Architecture::uniform(1, 7, 1, 0.3)));
  const auto refused = [&](const Architecture& a, const std::string& reason) {
    const std::string message = message_of([&] { config.check_fits(a); });
    EXPECT_NE(message.find(reason), std::string::npos) << message;
  };
  refused(Architecture::uniform(15, 256, 4, 4), "depth is 15, larger than the supernet's 14");
  refused(Architecture::uniform(14, 257, 4, 4), "embed_dim is 257, larger than the supernet's 256");
  Architecture a = full;
  a.num_heads[3] = 5;
  refused(a, "num_heads[3] is 5, larger than the supernet's 4");
  a = full;
  a.mlp_ratio[13] = 4.5;
  refused(a, "mlp_ratio[13] is 4.5, larger than the supernet's 4");
  a.mlp_ratio.clear();
  refused(a, "mlp_ratio has 0 entries");
}

}  // namespace
}  // namespace entangle

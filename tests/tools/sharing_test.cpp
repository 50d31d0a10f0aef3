// A run with classical sharing through all programs, and what cannot be done with it.
#include <gtest/gtest.h>

#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/config.h"

namespace entangle {
namespace {

class ClassicalRun : public Programs {
 protected:
  std::vector<std::string> classical(const std::string& name) const {
    return train(name, {"--epochs", "1", "--set", "MODEL.sharing=classical"});
  }
  Outcome expect_success(const std::vector<std::string>& command) const {
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome;
  }
  std::string test_line(const std::string& weights, const std::string& architecture) const {
    return line_with(expect_success({"evaluate_subnet", "--weights", weights, "--architecture", architecture}).out,
                     "top-1");
  }
};

TEST_F(ClassicalRun, TrainsResumesIsSearchedAndCutOut) {
  const Outcome whole = expect_success(classical("whole"));
  {
    Running running(dir.root(), classical("cut"));
    ASSERT_TRUE(wait_for_lines(dir.path("cut/log.jsonl"), kStepsPerEpoch / 2));
    running.signal(SIGINT);
    EXPECT_EQ(running.wait().status, 0);
  }
  expect_success({"train_supernet", "--resume", "--output", "cut"});
  EXPECT_TRUE(read_raw(checkpoint("whole")) == read_raw(checkpoint("cut")));

  const Outcome cost = expect_success({"count_cost", "--config", "whole/config.yaml"});
  const Config config = load_config(dir.path("whole/config.yaml"));
  const auto counted = nlohmann::json::parse(cost.out);
  EXPECT_EQ(counted["supernet_params"], supernet_params(config.model));
  EXPECT_GT(counted["supernet_params"], 2 * cost_of(config.model, config.model.full()).params);

  const std::string weights = checkpoint("whole");
  EXPECT_NE(whole.out.find(test_line(weights, "max")), std::string::npos);
  const Outcome search = expect_success({"search_subnets", "--run", "whole"});
  EXPECT_EQ(test_line(weights, "whole/best_architecture.json"), line_with(line_with(search.out, "test  "), "top-1"));

  expect_success({"export_subnet", "--run", "whole", "--output", "dense.safetensors"});
  EXPECT_EQ(test_line("dense.safetensors", "max"), test_line(weights, "whole/best_architecture.json"));
  const Outcome still = expect_success({"train_subnet", "--init", "inherit:" + weights, "--architecture",
                                        "whole/best_architecture.json", "--output", "still", "--epochs", "1", "--set",
                                        "TRAIN.lr=0", "--set", "TRAIN.min_lr=0", "--set", "TRAIN.warmup_lr=0"});
  EXPECT_EQ(line_with(still.out, "top-1"), test_line(weights, "whole/best_architecture.json"));
}

TEST_F(ClassicalRun, WhatCannotWorkIsRefused) {
  expect_success(classical("run"));
  expect_trains("entangled", {"--epochs", "1"});
  const std::string weights = checkpoint("run");
  expect_user_error(
      {"export_subnet", "--weights", weights, "--architecture", "max", "--form", "published", "--output", "x"},
      {"MODEL.sharing=classical", "--form dense"});
  expect_user_error({"convert_checkpoint", weights, "x.safetensors"}, {"'classical'", "./export_subnet"});
  expect_user_error(
      {"evaluate_subnet", "--weights", weights, "--config", "entangled/config.yaml", "--architecture", "max"},
      {"shared in the way 'classical'", "MODEL.sharing"});
  expect_user_error(train("x", {"--init", checkpoint("entangled"), "--set", "MODEL.sharing=classical"}),
                    {"shared in the way 'entangled'", "MODEL.sharing"});
  write_raw(dir.path("other.json"), R"({"depth":1,"embed_dim":12,"mlp_ratio":[2],"num_heads":[1]})");
  expect_user_error({"evaluate_subnet", "--weights", weights, "--architecture", "other.json"},
                    {"\"embed_dim\":12", "only its choices have weights"});
  expect_user_error(train("x", {"--set", "MODEL.sharing=clasical"}), {"MODEL.sharing is clasical", "entangled or"});
}

}  // namespace
}  // namespace entangle

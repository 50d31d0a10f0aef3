// count_cost: what a subnet, or a space, costs. One JSON object on stdout.
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "nn/cost.h"
#include "tools/common/cli.h"
#include "tools/common/config.h"
#include "tools/common/models.h"

namespace {

using namespace entangle;
using Json = nlohmann::ordered_json;

Json to_json(const Cost& cost) {
  return {{"params", cost.params},
          {"macs", cost.macs},
          {"reference_complexity", cost.reference_complexity},
          {"activation_bytes", cost.activation_bytes}};
}

Json describe_space(const Config& config, int64_t batch) {
  const double count = config.space.count();
  const bool exact = count < 9007199254740992.0;  // 2^53
  return {{"architectures", exact ? Json(static_cast<int64_t>(count)) : Json(count)},
          {"supernet_params", supernet_params(config.model)},
          {"min", to_json(cost_of(config.model, config.space.smallest(), batch))},
          {"max", to_json(cost_of(config.model, config.space.largest(), batch))}};
}

}  // namespace

int main(int argc, char** argv) {
  Program program(
      "Counts what a subnet costs: parameters, multiply-accumulates of one image's forward pass (every product "
      "executed, "
      "factorised relative position included), the published complexity, bytes of activations of a training step.",
      "  ./count_cost --config T                                the whole space\n"
      "  ./count_cost --config T --architecture published:T     one subnet\n"
      "  ./count_cost --config fashion-mnist --architecture max --batch-size 128\n");
  std::string config_name, architecture;
  int64_t batch = 1;
  program.app().add_option("--config", config_name, "a configuration file, or fashion-mnist, T, S, B")->required();
  program.app().add_option("--architecture", architecture, "a file, min, mean, max, or published:T|S|B");
  program.number("--batch-size", batch, "images of a training step, for activation_bytes (default 1)");
  program.settings_option();
  return program.run(argc, argv, [&] {
    const Config config = load_config(config_name, program.settings());
    const Json result = architecture.empty() && !config.subnet
                            ? describe_space(config, batch)
                            : to_json(cost_of(config.model, resolve_architecture(architecture, config), batch));
    std::printf("%s\n", result.dump().c_str());
  });
}

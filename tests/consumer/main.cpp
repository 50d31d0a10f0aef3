// What a user of the installed library writes: a small supernet, two of its subnets, one training step each.
#include <cstdio>
#include <vector>

#include "engine/ops.h"
#include "engine/optimizer.h"
#include "nn/cost.h"
#include "nn/supernet.h"

int main() {
  using namespace entangle;
  SupernetConfig config;
  config.image_size = 16;
  config.patch_size = 4;
  config.in_channels = 1;
  config.num_classes = 4;
  config.embed_dim = 32;
  config.depth = 2;
  config.num_heads = 2;
  config.head_dim = 16;
  config.max_relative_position = 3;
  Supernet supernet(config, 0);

  const Tensor images = Tensor::zeros({2, 1, 16, 16});
  const Tensor targets = Tensor::from({2, 4}, {1, 0, 0, 0, 0, 1, 0, 0});
  int step = 0;
  for (const Architecture& architecture : {Architecture::uniform(1, 16, 1, 2), config.full()}) {
    Tape tape;
    const Tensor loss = cross_entropy(supernet.forward(images, architecture), targets);
    const float before = loss.item();
    tape.backward(loss);
    adamw_step(supernet.parameters(), AdamWOptions{}, ++step, 1e-3);
    const float after = cross_entropy(supernet.forward(images, architecture), targets).item();
    std::printf("%s: %lld parameters, loss %.4f -> %.4f\n", architecture.to_json().c_str(),
                static_cast<long long>(cost_of(config, architecture).params), before, after);
    if (!(after < before)) return 1;
  }
  return 0;
}

// What a user of the installed library writes who trains: a small supernet, two of its subnets, one training step each. Then
// ./consumer DIR leaves there what classify is tried on: weights.safetensors, photo.ppm, and in min.txt and max.txt the logits
// that the supernet gives.
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/resize.h"
#include "engine/ops.h"
#include "engine/optimizer.h"
#include "entangle/description.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"
#include "nn/supernet.h"

namespace {

using namespace entangle;

Description small_network() {
  Description out;
  out.model.image_size = 16;
  out.model.patch_size = 4;
  out.model.in_channels = 3;
  out.model.num_classes = 4;
  out.model.embed_dim = 32;
  out.model.depth = 2;
  out.model.num_heads = 2;
  out.model.head_dim = 16;
  out.model.max_relative_position = 3;
  out.space = {{1, 2}, {16, 32}, {2, 4}, {1, 2}};
  out.mean = {0.5f, 0.4f, 0.3f};
  out.std_dev = {0.2f, 0.3f, 0.4f};
  return out;
}

bool train(Supernet& supernet) {
  const Tensor images = Tensor::zeros({2, 3, 16, 16});
  const Tensor targets = Tensor::from({2, 4}, {1, 0, 0, 0, 0, 1, 0, 0});
  int step = 0;
  for (const Architecture& architecture : {Architecture::uniform(1, 16, 1, 2), supernet.config().full()}) {
    Tape tape;
    const Tensor loss = cross_entropy(supernet.forward(images, architecture), targets);
    const float before = loss.item();
    tape.backward(loss);
    adamw_step(supernet.parameters(), AdamWOptions{}, ++step, 1e-3);
    const float after = cross_entropy(supernet.forward(images, architecture), targets).item();
    std::printf("%s: %lld parameters, loss %.4f -> %.4f\n", architecture.to_json().c_str(),
                static_cast<long long>(cost_of(supernet.config(), architecture).params), before, after);
    if (!(after < before)) return false;
  }
  return true;
}

Image photo() {
  Image out = {30, 43, 3, {}};
  for (int i = 0; i < 30 * 43 * 3; ++i) out.pixels.push_back(static_cast<uint8_t>(i * 7 % 251));
  return out;
}

// Of the photo, then of two images of zeros.
void write_logits(const Supernet& supernet, const Description& d, const Architecture& a, const std::string& path) {
  const Image fitted = resize_for_evaluation(photo(), d.model.image_size, d.interpolation);
  std::vector<float> pixels(3 * 16 * 16);
  place_image(fitted, Placement(), Normalizer(d.mean, d.std_dev), d.model.image_size, pixels.data());
  pixels.resize(3 * pixels.size());
  std::ofstream out(path);
  out.precision(9);
  for (const float x : supernet.forward(Tensor::from({3, 3, 16, 16}, pixels), a).to_vector()) out << x << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::string folder = argv[1];
  const Description network = small_network();
  Supernet supernet(network.model, 0);
  if (!train(supernet)) return 1;
  CheckpointContent content;
  content.optimizer = false;
  content.metadata = {{kDescriptionKey, network.to_json()}};
  save_checkpoint(folder + "/weights.safetensors", supernet, content);
  write_logits(supernet, network, network.space.smallest(), folder + "/min.txt");
  write_logits(supernet, network, network.space.largest(), folder + "/max.txt");
  const Image image = photo();
  std::ofstream out(folder + "/photo.ppm", std::ios::binary);
  out << "P6\n43 30\n255\n";
  out.write(reinterpret_cast<const char*>(image.pixels.data()), static_cast<std::streamsize>(image.pixels.size()));
  return out.good() ? 0 : 1;
}

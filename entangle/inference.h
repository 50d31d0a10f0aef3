// Loading a trained network, choosing a subnet of it, running it: all that a program needs which embeds Entangle. This header
// includes the standard library alone; the same for C is in inference_c.h.
//
//   entangle::inference::Model model("supernet.safetensors");
//   entangle::inference::Subnet subnet = model.subnet("min");
//   std::vector<float> logits = subnet.logits(entangle::inference::Photo{pixels, width, height, 3});
//
// Files: what train_supernet, train_subnet and export_subnet write; others once they went through
// `convert_checkpoint IN OUT --config C`.
// Errors: std::runtime_error whose what() is one line for the user: what is wrong, with the values, and what to do.
// Threads: models and subnets do not change; any number of threads may call them at once. All share one pool of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace entangle::inference {

struct TensorShape {
  std::string name;            // as in the weights file
  std::vector<int64_t> shape;  // likewise
};

struct Info {
  int64_t image_size = 0, channels = 0, classes = 0;  // images [channels, image_size, image_size], logits [classes]
  // Of pixel values in [0, 1], one entry a channel; both empty when the file does not say it.
  std::vector<float> mean, std_dev;
  // What a search chooses from. Empty for weights of one architecture.
  std::vector<int> depths, embed_dims, num_heads;
  std::vector<double> mlp_ratios;
  std::vector<TensorShape> tensors;
};

struct Cost {
  int64_t params;
  int64_t macs;  // multiply-accumulates of one image
};

// 8-bit pixels [height, width, channels] of the caller's; 1 (grey) or 3 (RGB) channels, turned into the network's.
struct Photo {
  const uint8_t* pixels;
  int64_t width, height, channels;
};

// One architecture of a model, which it keeps alive. Copies are cheap.
class Subnet {
 public:
  // {"depth":13,"embed_dim":192,"mlp_ratio":[...],"num_heads":[...]}
  std::string architecture() const;
  Cost cost() const;
  // `images` [count, channels, image_size, image_size], normalised -> logits [count, classes], row-major. Memory grows with
  // count, which may be 0 to 2^20.
  std::vector<float> logits(const float* images, int64_t count) const;
  // As in evaluation: the shorter side resized to image_size * 256 / 224 with antialiasing, the centre cut out, normalised.
  // Throws when the file does not say the normalisation, or the photo is empty, has another number of channels or more than
  // 65,535 pixels a side.
  std::vector<float> logits(const Photo& photo) const;

 private:
  friend class Model;
  struct State;
  explicit Subnet(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

class Model {
 public:
  // Reads and checks the file.
  explicit Model(const std::string& path);
  const Info& info() const;
  // "min", "middle" and "max" of the choices; JSON as above; or the path of a file of it. For weights of one architecture the
  // words, and "", name that one. Throws for what is none of these, or larger than the network.
  Subnet subnet(const std::string& architecture) const;

 private:
  friend class Subnet;
  struct State;
  std::shared_ptr<const State> state_;
};

// Threads of the pool, the calling one included; 0: one a core (the default). While no other call runs.
void set_threads(int count);

}  // namespace entangle::inference

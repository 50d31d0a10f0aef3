#include "entangle/inference.h"

#include <fstream>
#include <iterator>

#include "data/augment.h"
#include "data/resize.h"
#include "engine/check.h"
#include "engine/parallel.h"
#include "entangle/description.h"
#include "nn/checkpoint.h"
#include "nn/cost.h"

namespace entangle::inference {

struct Model::State {
  Description description;
  std::unique_ptr<Supernet> supernet;
  Info info;
};

struct Subnet::State {
  std::shared_ptr<const Model::State> model;
  Architecture architecture;
};

namespace {

Description described(const std::string& path) {
  const std::map<std::string, std::string> metadata = read_checkpoint_metadata(path);
  const auto found = metadata.find(kDescriptionKey);
  CHECK(
      found != metadata.end(), path,
      " does not describe its network; write it again with ./convert_checkpoint IN OUT --config C, or one architecture "
      "of it with ./export_subnet");
  Description out = Description::from_json(found->second, path);
  const auto bias = metadata.find("qkv_bias");
  const bool aligned = bias != metadata.end() && bias->second == "aligned";
  out.model.qkv_bias = aligned ? QkvBias::aligned : QkvBias::contiguous;
  return out;
}

Info info_of(const Description& d, const Supernet& supernet) {
  Info out;
  out.image_size = d.model.image_size;
  out.channels = d.model.in_channels;
  out.classes = d.model.num_classes;
  out.mean = d.mean;
  out.std_dev = d.std_dev;
  out.depths = d.space.depth;
  out.embed_dims = d.space.embed_dim;
  out.num_heads = d.space.num_heads;
  out.mlp_ratios = d.space.mlp_ratio;
  for (const Parameter& p : supernet.parameters().all()) {
    out.tensors.push_back({p.name, {p.file_shape.dim, p.file_shape.dim + p.file_shape.rank}});
  }
  return out;
}

Architecture resolve(const std::string& text, const Description& d) {
  const bool word = text.empty() || text == "min" || text == "middle" || text == "mean" || text == "max";
  if (word && d.model.is_dense()) return d.model.dense;
  if (text == "min") return d.space.smallest();
  if (text == "middle" || text == "mean") return d.space.middle();
  if (text == "max") return d.space.largest();
  CHECK(!text.empty(), "no architecture: give min, middle, max, JSON or a file");
  if (text.front() == '{') return Architecture::from_json(text);
  std::ifstream in(text, std::ios::binary);
  CHECK(in.good(), "no architecture '", text, "': neither a file nor JSON, min, middle or max");
  return Architecture::from_json({std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()});
}

// Grey is repeated; RGB becomes grey with the weights of luminance (BT.601), in 256ths.
Image with_channels(const Photo& photo, int64_t channels) {
  CHECK(photo.pixels != nullptr && photo.width > 0 && photo.height > 0, "the photo is empty");
  CHECK(photo.channels == 1 || photo.channels == 3, "the photo has ", photo.channels,
        " channels, but must have 1 or 3");
  CHECK(photo.channels == channels || channels == 1 || channels == 3, "the network takes images of ", channels,
        " channels: call logits() with normalised images");
  CHECK(photo.width <= 65535 && photo.height <= 65535, "the photo has ", photo.width, " x ", photo.height,
        " pixels, but 65535 a side are the most");
  Image out = {photo.height, photo.width, channels, {}};
  const size_t count = static_cast<size_t>(photo.width * photo.height);
  if (photo.channels == channels) {
    out.pixels.assign(photo.pixels, photo.pixels + count * static_cast<size_t>(channels));
    return out;
  }
  out.pixels.reserve(count * static_cast<size_t>(channels));
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* p = photo.pixels + i * static_cast<size_t>(photo.channels);
    const uint8_t grey = photo.channels == 1 ? p[0] : static_cast<uint8_t>((p[0] * 77 + p[1] * 150 + p[2] * 29) >> 8);
    out.pixels.insert(out.pixels.end(), static_cast<size_t>(channels), grey);
  }
  return out;
}

}  // namespace

Model::Model(const std::string& path) {
  auto state = std::make_shared<State>();
  state->description = described(path);
  state->supernet = std::make_unique<Supernet>(state->description.model);
  load_checkpoint(path, *state->supernet, false);
  state->info = info_of(state->description, *state->supernet);
  state_ = std::move(state);
}

const Info& Model::info() const { return state_->info; }

Subnet Model::subnet(const std::string& architecture) const {
  auto state = std::make_shared<Subnet::State>();
  state->model = state_;
  state->architecture = resolve(architecture, state_->description);
  state_->description.model.check_fits(state->architecture);
  return Subnet(std::move(state));
}

std::string Subnet::architecture() const { return state_->architecture.to_json(); }

Cost Subnet::cost() const {
  const entangle::Cost cost = cost_of(state_->model->description.model, state_->architecture);
  return {cost.params, cost.macs};
}

std::vector<float> Subnet::logits(const float* images, int64_t count) const {
  CHECK(count >= 0 && count <= 1 << 20, "logits of ", count, " images are wanted, but 0 to ", 1 << 20, " can be given");
  CHECK(count == 0 || images != nullptr, "there are no images at a null pointer");
  if (count == 0) return {};
  const Info& info = state_->model->info;
  const Shape shape = {count, info.channels, info.image_size, info.image_size};
  // The operations read their inputs only.
  const Tensor tensor = Tensor::over(shape, const_cast<float*>(images), nullptr);
  return state_->model->supernet->forward(tensor, state_->architecture).to_vector();
}

std::vector<float> Subnet::logits(const Photo& photo) const {
  const Description& d = state_->model->description;
  CHECK(!d.mean.empty(),
        "the weights do not say how images are normalised: call logits() with normalised images, or export "
        "them again with --data");
  Image image = with_channels(photo, d.model.in_channels);
  const int64_t size = d.model.image_size;
  if (d.always_resize || image.width != size || image.height != size) {
    image = resize_for_evaluation(image, size, d.interpolation);
  }
  std::vector<float> pixels(static_cast<size_t>(d.model.in_channels * size * size));
  place_image(image, Placement(), Normalizer(d.mean, d.std_dev), size, pixels.data());
  return logits(pixels.data(), 1);
}

void set_threads(int count) { entangle::set_threads(count); }

}  // namespace entangle::inference

#include "data/rand_augment.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "data/stages.h"
#include "engine/check.h"

namespace entangle {

namespace {

constexpr double kLargestMagnitude = 10, kUniformFrom = 100;
constexpr double kLeastArea = 0.08, kLeastRatio = 3.0 / 4, kLargestRatio = 4.0 / 3;
constexpr int kCropAttempts = 10;

const char* const kNames[kImageOps] = {
    "auto_contrast", "equalize",   "invert",    "rotate",  "posterize", "solarize",        "solarize_add",   "color",
    "contrast",      "brightness", "sharpness", "shear_x", "shear_y",   "translate_x_rel", "translate_y_rel"};

// "mstd0.5" is "mstd" and 0.5. Throws Error naming the policy when there is no number behind the letters.
double number_behind(const std::string& part, const std::string& letters, const std::string& policy) {
  const std::string text = part.substr(letters.size());
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  CHECK(!text.empty() && *end == '\0' && !std::isnan(value), "the policy ", policy, " has '", part,
        "', which is no number behind ", letters);
  return value;
}

bool begins_with(const std::string& text, const char* start) { return text.rfind(start, 0) == 0; }

double draw_magnitude(const RandAugment& policy, Rng& rng) {
  if (policy.magnitude_std <= 0) return policy.magnitude;
  if (policy.magnitude_std >= kUniformFrom) return rng.uniform(0, policy.magnitude);
  return std::clamp(policy.magnitude + policy.magnitude_std * normal(rng), 0.0, kLargestMagnitude);
}

}  // namespace

const char* name_of(ImageOp op) { return kNames[static_cast<size_t>(op)]; }

ImageOp parse_image_op(const std::string& name) {
  std::string known;
  for (int i = 0; i < kImageOps; ++i) {
    if (name == kNames[i]) return static_cast<ImageOp>(i);
    known += std::string(i > 0 ? ", " : "") + kNames[i];
  }
  RAISE("there is no operation '", name, "'; known are ", known);
}

bool takes_argument(ImageOp op) { return op > ImageOp::invert; }

void apply_image_op(ImageOp op, double argument, Interpolation interpolation, const Colour& fill, Image& image) {
  const auto move = [&](const Affine& affine) { apply_transform(affine, interpolation, fill, image); };
  switch (op) {
    case ImageOp::auto_contrast:
      return auto_contrast(image);
    case ImageOp::equalize:
      return equalize(image);
    case ImageOp::invert:
      return invert(image);
    case ImageOp::rotate:
      return move(rotation(argument, image.width, image.height));
    case ImageOp::posterize:
      return posterize(image, static_cast<int>(argument));
    case ImageOp::solarize:
      return solarize(image, static_cast<int>(argument));
    case ImageOp::solarize_add:
      return solarize_add(image, static_cast<int>(argument));
    case ImageOp::color:
      return adjust_colour(image, argument);
    case ImageOp::contrast:
      return adjust_contrast(image, argument);
    case ImageOp::brightness:
      return adjust_brightness(image, argument);
    case ImageOp::sharpness:
      return adjust_sharpness(image, argument);
    case ImageOp::shear_x:
      return move(shear_x(argument));
    case ImageOp::shear_y:
      return move(shear_y(argument));
    case ImageOp::translate_x_rel:
      return move(translation(argument * static_cast<double>(image.width), 0));
    case ImageOp::translate_y_rel:
      return move(translation(0, argument * static_cast<double>(image.height)));
  }
}

RandAugment RandAugment::parse(const std::string& text) {
  RandAugment policy;
  std::istringstream parts(text);
  std::string part;
  std::getline(parts, part, '-');
  CHECK(part == "rand", "the policy '", text, "' must begin with rand, as in rand-m9-mstd0.5-inc1");
  while (std::getline(parts, part, '-')) {
    if (begins_with(part, "mstd")) {
      policy.magnitude_std = number_behind(part, "mstd", text);
    } else if (begins_with(part, "inc")) {
      policy.increasing = number_behind(part, "inc", text) != 0;
    } else if (begins_with(part, "m")) {
      policy.magnitude = number_behind(part, "m", text);
    } else if (begins_with(part, "n")) {
      policy.layers = static_cast<int>(std::clamp(number_behind(part, "n", text), -1.0, 1e6));
    } else if (begins_with(part, "p")) {
      policy.probability = number_behind(part, "p", text);
    } else {
      RAISE("the policy ", text, " has '", part, "'; known parts are m, mstd, n, inc and p");
    }
  }
  CHECK(policy.magnitude >= 0 && policy.magnitude <= kLargestMagnitude, "the policy ", text, " has magnitude ",
        policy.magnitude, ", but it must lie in 0 .. 10");
  CHECK(policy.magnitude_std >= 0, "the policy ", text, " has a negative deviation");
  CHECK(policy.layers >= 1 && policy.layers <= 64, "the policy ", text, " has ", policy.layers,
        " operations an image, but it must be 1 .. 64");
  CHECK(policy.probability >= 0 && policy.probability <= 1, "the policy ", text, " has probability ",
        policy.probability, ", which is not in 0 .. 1");
  return policy;
}

double argument_of(ImageOp op, double magnitude, bool increasing, bool negative) {
  const double level = magnitude / kLargestMagnitude, sign = negative ? -1 : 1;
  switch (op) {
    case ImageOp::auto_contrast:
    case ImageOp::equalize:
    case ImageOp::invert:
      return 0;
    case ImageOp::rotate:
      return sign * level * 30;
    case ImageOp::posterize:
      return increasing ? 4 - static_cast<int>(level * 4) : static_cast<int>(level * 4);
    case ImageOp::solarize:
      return increasing ? 256 - static_cast<int>(level * 256) : static_cast<int>(level * 256);
    case ImageOp::solarize_add:
      return std::min(128, static_cast<int>(level * 110));
    case ImageOp::color:
    case ImageOp::contrast:
    case ImageOp::brightness:
    case ImageOp::sharpness:
      return increasing ? std::max(0.1, 1 + sign * level * 0.9) : level * 1.8 + 0.1;
    case ImageOp::shear_x:
    case ImageOp::shear_y:
      return sign * level * 0.3;
    case ImageOp::translate_x_rel:
    case ImageOp::translate_y_rel:
      return sign * level * 0.45;
  }
  return 0;
}

std::vector<DrawnOp> draw_ops(const RandAugment& policy, Rng& rng) {
  std::vector<DrawnOp> ops;
  for (int i = 0; i < policy.layers; ++i) {
    const ImageOp op = static_cast<ImageOp>(rng.below(kImageOps));
    if (!rng.chance(policy.probability)) continue;
    const double magnitude = draw_magnitude(policy, rng);
    ops.push_back({op, argument_of(op, magnitude, policy.increasing, rng.chance(0.5))});
  }
  return ops;
}

std::vector<DrawnOp> draw_jitter(double amount, Rng& rng) {
  std::vector<DrawnOp> ops = {{ImageOp::brightness, 0}, {ImageOp::contrast, 0}, {ImageOp::color, 0}};
  for (size_t left = ops.size(); left > 1; --left) {
    std::swap(ops[left - 1], ops[static_cast<size_t>(rng.below(static_cast<int64_t>(left)))]);
  }
  for (DrawnOp& op : ops) op.argument = rng.uniform(std::max(0.0, 1 - amount), 1 + amount);
  return ops;
}

namespace {

// What the crop gave is mirrored and goes through the policy, or the jitter.
template <class Pixels>
Image view_of(const Pixels& pixels, int64_t width, int64_t height, const TrainingView& view, Rng& rng) {
  Image out;
  {
    const StageScope scope(Stage::resize);
    out = resized_crop(pixels, draw_resized_crop(width, height, rng), view.size, view.size, view.interpolation);
    if (rng.chance(view.flip)) mirror(out);
  }
  if (view.policy == nullptr && view.jitter <= 0) return out;
  const StageScope scope(Stage::operations);
  for (const DrawnOp& drawn : view.policy != nullptr ? draw_ops(*view.policy, rng) : draw_jitter(view.jitter, rng)) {
    apply_image_op(drawn.op, drawn.argument, view.interpolation, view.fill, out);
  }
  return out;
}

}  // namespace

Image training_view(const Image& image, const TrainingView& view, Rng& rng) {
  return view_of(image, image.width, image.height, view, rng);
}

Image training_view(const ImagePart& part, const TrainingView& view, Rng& rng) {
  return view_of(part, part.width, part.height, view, rng);
}

Region draw_resized_crop(int64_t width, int64_t height, Rng& rng) {
  const double area = static_cast<double>(width) * static_cast<double>(height);
  for (int attempt = 0; attempt < kCropAttempts; ++attempt) {
    const double wanted = area * rng.uniform(kLeastArea, 1);
    const double ratio = std::exp(rng.uniform(std::log(kLeastRatio), std::log(kLargestRatio)));
    const int64_t w = std::llround(std::sqrt(wanted * ratio)), h = std::llround(std::sqrt(wanted / ratio));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    return {rng.below(width - w + 1), rng.below(height - h + 1), w, h};
  }
  const double ratio = static_cast<double>(width) / static_cast<double>(height);
  int64_t w = width, h = height;
  if (ratio < kLeastRatio) h = std::max<int64_t>(1, std::llround(static_cast<double>(w) / kLeastRatio));
  if (ratio > kLargestRatio) w = std::max<int64_t>(1, std::llround(static_cast<double>(h) * kLargestRatio));
  return {(width - w) / 2, (height - h) / 2, w, h};
}

}  // namespace entangle

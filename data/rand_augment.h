// RandAugment (Cubuk et al., arXiv 1909.13719) with the operations and magnitudes of the published recipe (timm), the
// colour jitter that may stand in its place, and the random resized crop in front of it. What is drawn and what is done
// with it are apart.
#pragma once

#include <string>
#include <vector>

#include "data/image_ops.h"
#include "data/resize.h"
#include "engine/rng.h"

namespace entangle {

enum class ImageOp {
  auto_contrast,
  equalize,
  invert,
  rotate,
  posterize,
  solarize,
  solarize_add,
  color,
  contrast,
  brightness,
  sharpness,
  shear_x,
  shear_y,
  translate_x_rel,
  translate_y_rel
};
inline constexpr int kImageOps = 15;
const char* name_of(ImageOp op);
ImageOp parse_image_op(const std::string& name);  // throws Error naming the known ones
bool takes_argument(ImageOp op);

// One operation on one image. `argument`: rotate, degrees counter-clockwise; posterize, bits; solarize, the threshold;
// solarize_add, the addend; color to sharpness, the factor; shear, the factor; translate, a fraction of the side.
void apply_image_op(ImageOp op, double argument, Interpolation interpolation, const Colour& fill, Image& image);

// "rand-m9-mstd0.5-inc1": magnitude m (0 .. 10), its standard deviation mstd (0; from 100 on, uniform in 0 .. m), n
// operations an image (n2), inc1: larger magnitudes are always stronger, p the probability of each (p0.5).
struct RandAugment {
  double magnitude = 10, magnitude_std = 0, probability = 0.5;
  int layers = 2;
  bool increasing = false;

  static RandAugment parse(const std::string& text);  // throws Error naming the part that is wrong
};

// An operation with the argument that was drawn for it.
struct DrawnOp {
  ImageOp op;
  double argument;
};
// The argument of an operation at a magnitude in 0 .. 10; the sign, where there is one, by `negative`.
double argument_of(ImageOp op, double magnitude, bool increasing, bool negative);
// `layers` operations, with replacement, each with the policy's probability: so 0 to `layers` of them.
std::vector<DrawnOp> draw_ops(const RandAugment& policy, Rng& rng);

// Colour jitter as the published recipe has it where there is no policy (torchvision's ColorJitter without hue):
// brightness, contrast and saturation (`color`) in a random order, each with a factor uniform between max(0, 1 - amount)
// and 1 + amount.
std::vector<DrawnOp> draw_jitter(double amount, Rng& rng);

// What training makes of an image of any size, drawn in this order: a random resized crop to size x size, mirrored with
// the probability `flip`, then the policy's operations, with the colour `fill` where they look beyond the image; where
// there is no policy (null), colour jitter by the amount `jitter` (0: none).
struct TrainingView {
  int64_t size = 224;
  double flip = 0.5;
  Interpolation interpolation = Interpolation::bicubic;
  const RandAugment* policy = nullptr;
  Colour fill = {124, 116, 104};  // the rounded mean colour of ImageNet
  double jitter = 0;
};
Image training_view(const Image& image, const TrainingView& view, Rng& rng);
// The same of what was decoded of an image: it must hold the region that draw_resized_crop draws from the same numbers.
Image training_view(const ImagePart& part, const TrainingView& view, Rng& rng);

// A part of the image with area uniform in 8 % to 100 % and width / height log-uniform in 3/4 to 4/3, the first of ten
// draws that fits; else the largest centred one within those ratios.
Region draw_resized_crop(int64_t width, int64_t height, Rng& rng);

}  // namespace entangle

// Augmentation of one image on its way into a batch, and mixing within a batch.
//
// What is drawn and what is done with it are apart: the threads of a loader do it here, a GPU in the kernel
// augment_images (engine/ops.h, which also has the types of what is drawn). Sizes are in pixels; an output image is
// [channels, size, size] fp32, normalised.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/lookup.h"
#include "engine/ops.h"
#include "engine/rng.h"

namespace entangle {

// What happens to an image on its way into a batch. All probabilities and sizes are checked by validate().
struct Augmentation {
  int64_t image_size = 28;
  // For data sets whose images have any size, which are cropped at random and resized (data/rand_augment.h):
  std::string interpolation = "bicubic";  // or bilinear
  std::string decode = "full";            // of a JPEG: all, or what its crops need (DecodeMode in data/decode.h)
  std::string auto_augment;               // a policy such as rand-m9-mstd0.5-inc1, behind the flip; empty: none
  double color_jitter = 0;                // in its place where there is none; 0: off
  int64_t crop_padding = 0;          // zero padding on each side before a random crop back to image_size; 0: no crop
  double flip = 0;                   // probability of a horizontal flip
  double erase = 0;                  // probability of random erasing, after normalisation
  std::string erase_mode = "pixel";  // N(0, 1) per value; rand: per channel of a box; const: 0
  int64_t erase_min_count = 1, erase_max_count = 1;  // boxes, a uniform number of them
  double mixup_alpha = 0;                            // Beta parameter; 0: off
  double cutmix_alpha = 0;                           // 0: off
  std::string mix_mode = "batch";                    // what draws of its own: a batch, a pair or every image (elem)
  double mix_probability = 1;                        // that it is mixed at all
  double switch_probability = 0.5;                   // of CutMix, when both are on
  double label_smoothing = 0;

  void validate() const;  // throws Error naming the value out of range
};

EraseMode parse_erase_mode(const std::string& name);  // const, rand or pixel; throws Error naming them
// What a mix is drawn for.
enum class MixMode { batch, pair, elem };
MixMode parse_mix_mode(const std::string& name);  // throws Error naming them

// (v / 255 - mean) / std_dev of every uint8 value v, channel by channel.
class Normalizer {
 public:
  // Throws Error when the lists are empty, differ in length, or a deviation is not positive.
  Normalizer(const std::vector<float>& mean, const std::vector<float>& std_dev);
  int64_t channels() const { return static_cast<int64_t>(table_.size() / 256); }
  const std::vector<float>& table() const { return table_; }  // [channels, 256]
  const float* table(int64_t channel) const { return table_.data() + channel * 256; }
  const FloatLookup& lookup(int64_t channel) const { return lookups_[static_cast<size_t>(channel)]; }

 private:
  std::vector<float> table_;
  std::vector<FloatLookup> lookups_;
};

// Throws Error, naming the sizes, unless the image is size x size with so many channels.
void check_image(const Image& image, int64_t size, int64_t channels);

// Writes the placed, normalised image. Throws as check_image.
void place_image(const Image& image, const Placement& placement, const Normalizer& normalizer, int64_t size,
                 float* out);

Placement draw_placement(const Augmentation& augmentation, Rng& rng);

// One box of random erasing (Zhong et al., AAAI 2020; arXiv 1708.04896) of the published recipe (timm): area uniform in
// 2 % to 1/3 of the image, divided by the number of boxes, height / width log-uniform in 0.3 to 1/0.3, the first of ten
// draws that leaves a row and a column; empty when none does.
Box draw_erased_box(int64_t size, int64_t boxes, Rng& rng);
// The plan's boxes in an image [channels, size, size], with the numbers of `noise`.
void erase_boxes(const ImagePlan& plan, EraseMode mode, RngKey noise, int64_t channels, int64_t size, float* image);

// Everything that is drawn for one training image but its mix; the numbers of its erased boxes follow one another.
ImagePlan draw_plan(const Augmentation& augmentation, int64_t channels, Rng& rng);
// All of it for one training image but its mix; `noise` is the sequence that its plan was drawn from.
void augment_image(const Image& image, const ImagePlan& plan, EraseMode mode, RngKey noise,
                   const Normalizer& normalizer, int64_t size, float* out);

// A training image on its way into a batch, to `out`.
struct PlannedImage {
  const Image* image;
  const ImagePlan* plan;
  float* out;
};
// The same of two that are mixed with one another, each by its plan's mix: what augment_image and mix_images make of
// them, row by row. One that is its own partner is given twice.
void augment_pair(const PlannedImage& a, const PlannedImage& b, EraseMode mode, RngKey noise,
                  const Normalizer& normalizer, int64_t size);

// Mixup (Zhang et al., ICLR 2018; arXiv 1710.09412) or CutMix (Yun et al., ICCV 2019; arXiv 1905.04899):
// lambda ~ Beta(alpha, alpha). CutMix: sides int(size sqrt(1 - lambda)), the centre uniform over the pixels, clipped at
// the edges; lambda becomes 1 - area / size^2.
Mix draw_mix(const Augmentation& augmentation, Rng& rng);
// The box of CutMix with its centre at pixel (row, column), and the lambda it leaves.
Mix cutmix_box(double lambda, int64_t row, int64_t column, int64_t size);
// The image of a batch of `count` whose draw image i takes: the first one's, the first one's of its pair, its own.
int64_t mix_drawn_for(MixMode mode, int64_t i, int64_t count);

// images [count, channels, size, size], in place. Image i is mixed by mixes[i] with image mix_partner(i, count)
// (engine/ops.h, which says how the published partner differs), both as they were before.
void mix_images(const std::vector<Mix>& mixes, int64_t channels, int64_t size, float* images);

// targets [count, classes]: with smoothing s, off = s / classes and on = 1 - s + off;
// row i = lambda target(labels[i]) + (1 - lambda) target(labels[mix_partner(i, count)]) with the lambda of mixes[i].
void write_targets(const std::vector<int64_t>& labels, int64_t classes, double smoothing, const std::vector<Mix>& mixes,
                   float* targets);

}  // namespace entangle

#include "data/augment.h"

#include <algorithm>
#include <cmath>

#include "data/decode.h"
#include "data/noise.h"
#include "data/rand_augment.h"
#include "engine/check.h"
#include "engine/image_rows.h"

namespace entangle {

namespace {

constexpr double kEraseMinArea = 0.02, kEraseMaxArea = 1.0 / 3.0, kEraseAspect = 0.3;
constexpr int kEraseAttempts = 10;

// Written so that NaN fails.
void check_probability(double value, const char* name) {
  CHECK(value >= 0 && value <= 1, name, " is a probability: ", value, " is not in [0, 1]");
}

void check_alpha(double value, const char* name) {
  CHECK(value >= 0 && std::isfinite(value), name, " must be 0 (off) or a positive number, not ", value);
}

}  // namespace

void Augmentation::validate() const {
  CHECK(image_size >= 1 && image_size <= 16384, "image_size must be in 1 .. 16384, not ", image_size);
  CHECK(crop_padding >= 0 && crop_padding < image_size, "crop_padding must be in 0 .. ", image_size - 1,
        " (less than image_size), not ", crop_padding);
  parse_interpolation(interpolation);
  parse_decode_mode(decode);
  if (!auto_augment.empty()) RandAugment::parse(auto_augment);
  check_probability(flip, "flip");
  check_probability(erase, "erase");
  check_probability(mix_probability, "mix_probability");
  check_probability(switch_probability, "switch_probability");
  check_alpha(mixup_alpha, "mixup_alpha");
  check_alpha(cutmix_alpha, "cutmix_alpha");
  CHECK(label_smoothing >= 0 && label_smoothing < 1, "label_smoothing must be in [0, 1), not ", label_smoothing);
}

Normalizer::Normalizer(const std::vector<float>& mean, const std::vector<float>& std_dev) : table_(mean.size() * 256) {
  CHECK(!mean.empty() && mean.size() == std_dev.size(),
        "normalisation needs one mean and one deviation a channel, not ", mean.size(), " and ", std_dev.size());
  for (size_t c = 0; c < mean.size(); ++c) {
    CHECK(std_dev[c] > 0 && std::isfinite(std_dev[c]) && std::isfinite(mean[c]), "channel ", c,
          " cannot be normalised with mean ", mean[c], " and deviation ", std_dev[c]);
    for (size_t v = 0; v < 256; ++v) table_[c * 256 + v] = static_cast<float>((v / 255.0 - mean[c]) / std_dev[c]);
  }
}

void check_image(const Image& image, int64_t size, int64_t channels) {
  CHECK(image.height == size && image.width == size, "an image of ", image.height, "x", image.width,
        " pixels cannot be used at image_size ", size, ": set image_size to the size of the data set's images");
  CHECK(image.channels == channels && static_cast<int64_t>(image.pixels.size()) == size * size * channels,
        "an image of ", image.channels, " channels and ", image.pixels.size(), " values is not ", size, "x", size, "x",
        channels);
}

void place_image(const Image& image, const Placement& placement, const Normalizer& normalizer, int64_t size,
                 float* out) {
  const int64_t channels = normalizer.channels();
  check_image(image, size, channels);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t y = 0; y < size; ++y) {
      place_row(placement, channels, size, c, y, normalizer.table(c), image.pixels.data(), out + (c * size + y) * size);
    }
  }
}

Placement draw_placement(const Augmentation& augmentation, Rng& rng) {
  Placement placement;
  const int64_t padding = augmentation.crop_padding;
  if (padding > 0) {
    placement.top = rng.below(2 * padding + 1) - padding;
    placement.left = rng.below(2 * padding + 1) - padding;
  }
  placement.flip = augmentation.flip > 0 && rng.chance(augmentation.flip);
  return placement;
}

Box draw_erased_box(int64_t size, Rng& rng) {
  const double log_aspect = std::log(kEraseAspect);
  for (int attempt = 0; attempt < kEraseAttempts; ++attempt) {
    const double area = rng.uniform(kEraseMinArea, kEraseMaxArea) * static_cast<double>(size * size);
    const double aspect = std::exp(rng.uniform(log_aspect, -log_aspect));
    const int64_t height = std::llround(std::sqrt(area * aspect)), width = std::llround(std::sqrt(area / aspect));
    if (height >= size || width >= size) continue;
    return {rng.below(size - height + 1), rng.below(size - width + 1), height, width};
  }
  return {};
}

void fill_with_noise(const Box& box, int64_t channels, int64_t size, Rng& rng, float* image) {
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t y = box.top; y < box.top + box.height; ++y) {
      const uint64_t first = rng.next + static_cast<uint64_t>(2 * (c * box.height + y - box.top) * box.width);
      normal_numbers(rng.key, first, box.width, image + (c * size + y) * size + box.left);
    }
  }
  rng.next += static_cast<uint64_t>(2 * channels * box.height * box.width);
}

ImagePlan draw_plan(const Augmentation& augmentation, Rng& rng) {
  ImagePlan plan;
  plan.placement = draw_placement(augmentation, rng);
  if (augmentation.erase > 0 && rng.chance(augmentation.erase)) {
    plan.erased = draw_erased_box(augmentation.image_size, rng);
  }
  plan.first_noise = rng.next;
  return plan;
}

void augment_image(const Image& image, const ImagePlan& plan, RngKey noise, const Normalizer& normalizer, int64_t size,
                   float* out) {
  place_image(image, plan.placement, normalizer, size, out);
  Rng rng(noise);
  rng.next = plan.first_noise;
  fill_with_noise(plan.erased, normalizer.channels(), size, rng, out);
}

Mix cutmix_box(double lambda, int64_t row, int64_t column, int64_t size) {
  const int64_t half = static_cast<int64_t>(static_cast<double>(size) * std::sqrt(1 - lambda)) / 2;
  const auto clip = [size](int64_t edge) { return std::clamp<int64_t>(edge, 0, size); };
  Mix mix;
  mix.box.top = clip(row - half);
  mix.box.left = clip(column - half);
  mix.box.height = clip(row + half) - mix.box.top;
  mix.box.width = clip(column + half) - mix.box.left;
  mix.lambda = 1 - static_cast<double>(mix.box.height * mix.box.width) / static_cast<double>(size * size);
  return mix;
}

Mix draw_mix(const Augmentation& augmentation, Rng& rng) {
  const bool mixup = augmentation.mixup_alpha > 0, cutmix = augmentation.cutmix_alpha > 0;
  if ((!mixup && !cutmix) || !rng.chance(augmentation.mix_probability)) return {};
  const bool cut = cutmix && (!mixup || rng.chance(augmentation.switch_probability));
  Mix mix;
  mix.lambda = symmetric_beta(rng, cut ? augmentation.cutmix_alpha : augmentation.mixup_alpha);
  if (!cut) return mix;
  const int64_t size = augmentation.image_size;
  const int64_t row = rng.below(size), column = rng.below(size);
  return cutmix_box(mix.lambda, row, column, size);
}

void mix_images(const Mix& mix, int64_t count, int64_t channels, int64_t size, float* images) {
  if (mix.lambda == 1) return;
  const int64_t plane = size * size, stride = channels * plane;
  const float own = static_cast<float>(mix.lambda), other = static_cast<float>(1 - mix.lambda);
  for (int64_t pair = 0; pair < mix_pairs(count); ++pair) {
    const int64_t i = mix_first(pair), partner = mix_partner(i, count);
    if (i == partner) continue;
    float* a = images + i * stride;
    float* b = images + partner * stride;
    if (is_empty(mix.box)) {
      for (int64_t k = 0; k < stride; ++k) {
        const float x = a[k], y = b[k];
        a[k] = own * x + other * y;
        b[k] = own * y + other * x;
      }
      continue;
    }
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t y = mix.box.top; y < mix.box.top + mix.box.height; ++y) {
        const int64_t at = c * plane + y * size + mix.box.left;
        std::swap_ranges(a + at, a + at + mix.box.width, b + at);
      }
    }
  }
}

void write_targets(const std::vector<int64_t>& labels, int64_t classes, double smoothing, double lambda,
                   float* targets) {
  const double off = smoothing / static_cast<double>(classes), on = 1 - smoothing + off;
  const int64_t count = static_cast<int64_t>(labels.size());
  for (const int64_t label : labels) {
    CHECK(label >= 0 && label < classes, "the label ", label, " is not in 0 .. ", classes - 1);
  }
  std::fill(targets, targets + count * classes, static_cast<float>(off));
  for (int64_t i = 0; i < count; ++i) {
    float* row = targets + i * classes;
    const int64_t own = labels[i], partner = labels[mix_partner(i, count)];
    row[own] = static_cast<float>(lambda * on + (1 - lambda) * off);
    row[partner] = own == partner ? static_cast<float>(on) : static_cast<float>(lambda * off + (1 - lambda) * on);
  }
}

}  // namespace entangle

#include "data/augment.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "data/decode.h"
#include "data/noise.h"
#include "data/rand_augment.h"
#include "data/vectors.h"
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

// A word of a list; throws Error naming all of it.
template <class T>
T one_of(const char* key, const std::string& name, const std::vector<std::pair<const char*, T>>& known) {
  std::string words;
  for (const auto& [word, value] : known) {
    if (name == word) return value;
    words += std::string(words.empty() ? "" : ", ") + word;
  }
  RAISE(key, " is '", name, "', but must be one of ", words);
}

void check_alpha(double value, const char* name) {
  CHECK(value >= 0 && std::isfinite(value), name, " must be 0 (off) or a positive number, not ", value);
}

}  // namespace

EraseMode parse_erase_mode(const std::string& name) {
  return one_of<EraseMode>("erase_mode", name,
                           {{"const", EraseMode::constant}, {"rand", EraseMode::random}, {"pixel", EraseMode::pixel}});
}

MixMode parse_mix_mode(const std::string& name) {
  return one_of<MixMode>("mix_mode", name,
                         {{"batch", MixMode::batch}, {"pair", MixMode::pair}, {"elem", MixMode::elem}});
}

void Augmentation::validate() const {
  CHECK(image_size >= 1 && image_size <= 16384, "image_size must be in 1 .. 16384, not ", image_size);
  CHECK(crop_padding >= 0 && crop_padding < image_size, "crop_padding must be in 0 .. ", image_size - 1,
        " (less than image_size), not ", crop_padding);
  parse_interpolation(interpolation);
  parse_decode_mode(decode);
  if (!auto_augment.empty()) RandAugment::parse(auto_augment);
  check_probability(flip, "flip");
  check_probability(erase, "erase");
  CHECK(color_jitter >= 0 && std::isfinite(color_jitter), "color_jitter must be 0 (off) or a positive number, not ",
        color_jitter);
  parse_erase_mode(erase_mode);
  CHECK(erase_min_count >= 1 && erase_min_count <= erase_max_count && erase_max_count <= kMostErased,
        "erase_min_count and erase_max_count must be in 1 .. ", kMostErased, ", the first no larger, not ",
        erase_min_count, " and ", erase_max_count);
  parse_mix_mode(mix_mode);
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
    lookups_.emplace_back(table_.data() + c * 256);
  }
}

void check_image(const Image& image, int64_t size, int64_t channels) {
  CHECK(image.height == size && image.width == size, "an image of ", image.height, "x", image.width,
        " pixels cannot be used at image_size ", size, ": set image_size to the size of the data set's images");
  CHECK(image.channels == channels && static_cast<int64_t>(image.pixels.size()) == size * size * channels,
        "an image of ", image.channels, " channels and ", image.pixels.size(), " values is not ", size, "x", size, "x",
        channels);
}

namespace {

// Row y of all channels of the placed image, channels `apart` floats from one another. `planes` has room for the row.
void place_channels(const Image& image, const Placement& placement, const Normalizer& normalizer, int64_t size,
                    int64_t y, std::vector<uint8_t>& planes, int64_t apart, float* out) {
  const int64_t channels = normalizer.channels();
  if (channels == kChannels && placement.top == 0 && placement.left == 0 && has_wide_lookups()) {
    planes.resize(static_cast<size_t>(kChannels * size));
    split_channels(image.pixels.data() + y * size * kChannels, size, placement.flip, planes.data());
    for (int64_t c = 0; c < channels; ++c) {
      normalizer.lookup(c).apply(size, planes.data() + c * size, out + c * apart);
    }
    return;
  }
  for (int64_t c = 0; c < channels; ++c) {
    place_row(placement, channels, size, c, y, normalizer.table(c), image.pixels.data(), out + c * apart);
  }
}

void erase_channels(const ImagePlan& plan, EraseMode mode, RngKey noise, int64_t channels, int64_t size, int64_t y,
                    float* image) {
  const auto fill = [&](const Box& box, uint64_t first, float* row) {
    normal_numbers(noise, first, box.width, row + box.left);
  };
  for (int64_t c = 0; c < channels; ++c) erase_row(plan, mode, noise, c, y, fill, image + (c * size + y) * size);
}

// The same, erased.
void augment_channels(const PlannedImage& to, EraseMode mode, RngKey noise, const Normalizer& normalizer, int64_t size,
                      int64_t y, std::vector<uint8_t>& planes) {
  place_channels(*to.image, to.plan->placement, normalizer, size, y, planes, size * size, to.out + y * size);
  erase_channels(*to.plan, mode, noise, normalizer.channels(), size, y, to.out);
}

}  // namespace

void place_image(const Image& image, const Placement& placement, const Normalizer& normalizer, int64_t size,
                 float* out) {
  check_image(image, size, normalizer.channels());
  std::vector<uint8_t> planes;
  for (int64_t y = 0; y < size; ++y) {
    place_channels(image, placement, normalizer, size, y, planes, size * size, out + y * size);
  }
}

void erase_boxes(const ImagePlan& plan, EraseMode mode, RngKey noise, int64_t channels, int64_t size, float* image) {
  for (int64_t y = 0; y < size; ++y) erase_channels(plan, mode, noise, channels, size, y, image);
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

Box draw_erased_box(int64_t size, int64_t boxes, Rng& rng) {
  const double log_aspect = std::log(kEraseAspect);
  for (int attempt = 0; attempt < kEraseAttempts; ++attempt) {
    const double area =
        rng.uniform(kEraseMinArea, kEraseMaxArea) * static_cast<double>(size * size) / static_cast<double>(boxes);
    const double aspect = std::exp(rng.uniform(log_aspect, -log_aspect));
    const int64_t height = std::llround(std::sqrt(area * aspect)), width = std::llround(std::sqrt(area / aspect));
    if (height >= size || width >= size) continue;
    return {rng.below(size - height + 1), rng.below(size - width + 1), height, width};
  }
  return {};
}

namespace {

void draw_boxes(const Augmentation& augmentation, int64_t channels, Rng& rng, ImagePlan& plan) {
  const int64_t least = augmentation.erase_min_count, most = augmentation.erase_max_count;
  const int64_t count = least == most ? least : least + rng.below(most - least + 1);
  for (int64_t i = 0; i < count; ++i) {
    const Box box = draw_erased_box(augmentation.image_size, count, rng);
    if (!is_empty(box)) plan.erased[plan.boxes++].box = box;
  }
  for (int64_t b = 0; b < plan.boxes; ++b) {
    Erasure& erased = plan.erased[b];
    erased.first_noise = rng.next;
    rng.next += static_cast<uint64_t>(2 * channels * erased.box.height * erased.box.width);
  }
}

}  // namespace

ImagePlan draw_plan(const Augmentation& augmentation, int64_t channels, Rng& rng) {
  ImagePlan plan;
  plan.placement = draw_placement(augmentation, rng);
  if (augmentation.erase > 0 && rng.chance(augmentation.erase)) draw_boxes(augmentation, channels, rng, plan);
  return plan;
}

void augment_image(const Image& image, const ImagePlan& plan, EraseMode mode, RngKey noise,
                   const Normalizer& normalizer, int64_t size, float* out) {
  check_image(image, size, normalizer.channels());
  std::vector<uint8_t> planes;
  for (int64_t y = 0; y < size; ++y) {
    augment_channels({&image, &plan, out}, mode, noise, normalizer, size, y, planes);
  }
}

namespace {

ENTANGLE_CLONES __attribute__((flatten)) void mix_row(const Mix& a, const Mix& b, int64_t size, int64_t y, float* row_a,
                                                      float* row_b) {
  mix_rows(a, b, size, y, row_a, row_b);
}

bool is_mixed(const Mix& a, const Mix& b) { return a.lambda != 1 || b.lambda != 1; }

}  // namespace

// While a row is mixed both of its images' are still in the first cache.
void augment_pair(const PlannedImage& a, const PlannedImage& b, EraseMode mode, RngKey noise,
                  const Normalizer& normalizer, int64_t size) {
  if (a.out == b.out) return augment_image(*a.image, *a.plan, mode, noise, normalizer, size, a.out);
  check_image(*a.image, size, normalizer.channels());
  check_image(*b.image, size, normalizer.channels());
  std::vector<uint8_t> planes;
  for (int64_t y = 0; y < size; ++y) {
    augment_channels(a, mode, noise, normalizer, size, y, planes);
    augment_channels(b, mode, noise, normalizer, size, y, planes);
    if (!is_mixed(a.plan->mix, b.plan->mix)) continue;
    for (int64_t c = 0; c < normalizer.channels(); ++c) {
      const int64_t row = (c * size + y) * size;
      mix_row(a.plan->mix, b.plan->mix, size, y, a.out + row, b.out + row);
    }
  }
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

int64_t mix_drawn_for(MixMode mode, int64_t i, int64_t count) {
  if (mode == MixMode::elem) return i;
  return mode == MixMode::batch ? 0 : std::min(i, mix_partner(i, count));
}

void mix_images(const std::vector<Mix>& mixes, int64_t channels, int64_t size, float* images) {
  const int64_t count = static_cast<int64_t>(mixes.size()), rows = channels * size;
  for (int64_t pair = 0; pair < mix_pairs(count); ++pair) {
    const int64_t i = mix_first(pair), partner = mix_partner(i, count);
    const Mix &a = mixes[static_cast<size_t>(i)], &b = mixes[static_cast<size_t>(partner)];
    if (i == partner || !is_mixed(a, b)) continue;
    for (int64_t row = 0; row < rows; ++row) {
      mix_row(a, b, size, row % size, images + (i * rows + row) * size, images + (partner * rows + row) * size);
    }
  }
}

void write_targets(const std::vector<int64_t>& labels, int64_t classes, double smoothing, const std::vector<Mix>& mixes,
                   float* targets) {
  const double off = smoothing / static_cast<double>(classes), on = 1 - smoothing + off;
  const int64_t count = static_cast<int64_t>(labels.size());
  for (const int64_t label : labels) {
    CHECK(label >= 0 && label < classes, "the label ", label, " is not in 0 .. ", classes - 1);
  }
  CHECK(mixes.size() == labels.size(), labels.size(), " labels cannot be mixed by ", mixes.size(), " mixes");
  std::fill(targets, targets + count * classes, static_cast<float>(off));
  for (int64_t i = 0; i < count; ++i) {
    float* row = targets + i * classes;
    const double lambda = mixes[static_cast<size_t>(i)].lambda;
    const int64_t own = labels[i], partner = labels[mix_partner(i, count)];
    row[own] = static_cast<float>(lambda * on + (1 - lambda) * off);
    row[partner] = own == partner ? static_cast<float>(on) : static_cast<float>(lambda * off + (1 - lambda) * on);
  }
}

}  // namespace entangle

#include "data/evaluation_images.h"

#include <algorithm>
#include <numeric>

#include "data/resize.h"
#include "engine/check.h"
#include "engine/image_rows.h"

namespace entangle {

EvaluationImages load_evaluation_images(const Dataset& dataset, const DataSource& source,
                                        const std::vector<int64_t>& indices, int64_t begin, int64_t count,
                                        int64_t image_size, BrokenImages* broken) {
  const int64_t available = static_cast<int64_t>(indices.size());
  CHECK(begin >= 0 && begin < available && count >= 1, "cannot load ", count, " images from ", begin, " on: there are ",
        available);
  EvaluationImages out;
  out.size = image_size;
  out.channels = static_cast<int64_t>(source.mean.size());
  const auto fetch = [&](int64_t index, Image& image) {
    CHECK(index >= 0 && index < dataset.size(), "there is no image ", index, ": the data set has ", dataset.size());
    if (broken != nullptr && broken->contains(index)) return false;
    try {
      dataset.get(index, image);
    } catch (const Error& error) {
      if (broken == nullptr) throw;
      broken->add(index, error.what());
      return false;
    }
    if (source.any_size) image = resize_for_evaluation(image, image_size, source.interpolation);
    check_image(image, image_size, out.channels);  // before memory is asked for
    return true;
  };
  const int64_t end = std::min(available, begin + count);
  Image image;
  for (int64_t at = begin; at < end; ++at) {
    if (!fetch(indices[at], image)) continue;
    if (out.count == 0) out.pixels.reserve(image.pixels.size() * static_cast<size_t>(end - at));
    out.pixels.insert(out.pixels.end(), image.pixels.begin(), image.pixels.end());
    out.labels.push_back(dataset.label(indices[at]));
    ++out.count;
  }
  return out;
}

Batch normalised(const EvaluationImages& images, const std::vector<int64_t>& positions, const Normalizer& normalizer) {
  const int64_t size = images.size, values = size * size * images.channels;
  CHECK(normalizer.channels() == images.channels, "images of ", images.channels, " channels cannot be normalised with ",
        normalizer.channels(), " means");
  Batch batch;
  batch.count = static_cast<int64_t>(positions.size());
  batch.images.resize(static_cast<size_t>(batch.count * values));
  float* row = batch.images.data();
  for (const int64_t position : positions) {
    CHECK(position >= 0 && position < images.count, "there is no image ", position, " among ", images.count);
    const uint8_t* pixels = images.pixels.data() + position * values;
    for (int64_t c = 0; c < images.channels; ++c) {
      for (int64_t y = 0; y < size; ++y, row += size) {
        place_row(Placement(), images.channels, size, c, y, normalizer.table(c), pixels, row);
      }
    }
    batch.labels.push_back(images.labels[static_cast<size_t>(position)]);
  }
  return batch;
}

Batch load_for_evaluation(const Dataset& dataset, const DataSource& source, const std::vector<int64_t>& indices,
                          int64_t begin, int64_t count, int64_t image_size, BrokenImages* broken) {
  const Normalizer normalizer(source.mean, source.std_dev);
  const EvaluationImages images = load_evaluation_images(dataset, source, indices, begin, count, image_size, broken);
  std::vector<int64_t> all(static_cast<size_t>(images.count));
  std::iota(all.begin(), all.end(), 0);
  return normalised(images, all, normalizer);
}

}  // namespace entangle

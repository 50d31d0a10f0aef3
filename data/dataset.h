// Images with labels, as data sets give them, and how a data set is divided.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/image.h"

namespace entangle {

// An image as it is stored: the bytes of a JPEG, PNG or BMP file, and a name that tells it from others in messages.
struct ImageFile {
  std::string name;
  std::vector<uint8_t> bytes;
};

// Random access to labelled images. get() may be called from several threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual int64_t classes() const = 0;
  virtual int64_t channels() const = 0;
  virtual int64_t label(int64_t index) const = 0;
  virtual void get(int64_t index, Image& image) const = 0;
  // The file that get() decodes; false for a data set that stores pixels.
  virtual bool get_file(int64_t, ImageFile&) const { return false; }
  virtual std::string class_name(int64_t label) const { return std::to_string(label); }
  // The order in which training visits `indices` in an epoch, a function of (seed, epoch): a full shuffle
  // (Stream::data_order).
  virtual std::vector<int64_t> epoch_order(const std::vector<int64_t>& indices, uint64_t seed, int64_t epoch) const;
  // What lists call it: its file, relative to the folder of the data set; its index where images have no names.
  virtual std::string name(int64_t index) const { return std::to_string(index); }
};

// What a --data specification opens: `train` for training (the search split is a list of its indices, held out of
// training), `test` for the final answer.
struct DataSource {
  std::string spec;
  std::shared_ptr<const Dataset> train, test;
  // Normalisation of pixel values in [0, 1], one entry a channel.
  std::vector<float> mean, std_dev;
  // Images have sizes of their own: training crops them at random and resizes, evaluation resizes and crops the centre.
  bool any_size = false;
  // Otherwise their side in pixels, where they can be resized as well (RGB); 0: they are used as they are.
  int64_t side = 0;
  Interpolation interpolation = Interpolation::bicubic;  // of that resizing in evaluation
  double max_broken = 0.001;  // share of the images that may be broken: they are skipped (data/broken_images.h)
};

// How data is opened, where the specification does not say it.
struct DataOptions {
  int64_t shuffle_buffer = 10000;  // samples among which tar shards are mixed as they are read
};

// A --data specification, such as "fashion-mnist" or "imagenet:DIR"; the readers are in data/readers.h. Throws Error naming
// what is unknown, missing or broken.
DataSource open_data(const std::string& spec, const DataOptions& options = {});

// Divides indices 0..size-1 of a training set: `held_out` of them, equally many of each class as far as that divides,
// drawn with (seed, Stream::split); both lists ascending. Throws Error when held_out is not in [0, size).
struct Split {
  std::vector<int64_t> train, held_out;
};
Split make_split(const Dataset& dataset, int64_t held_out, uint64_t seed);
// The same with `per_class` of each class. Throws Error naming a class that would have none left to train on.
Split make_class_split(const Dataset& dataset, int64_t per_class, uint64_t seed);

}  // namespace entangle

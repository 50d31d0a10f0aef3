// Images with labels, as data sets give them, and how a data set is divided.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/image.h"

namespace entangle {

// Random access to labelled images. get() may be called from several threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual int64_t classes() const = 0;
  virtual int64_t channels() const = 0;
  virtual int64_t label(int64_t index) const = 0;
  virtual void get(int64_t index, Image& image) const = 0;
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
  Interpolation interpolation = Interpolation::bicubic;  // of that resizing in evaluation
};

// "fashion-mnist[:DIR]", "imagenet:DIR", "folder:DIR". Throws Error naming what is unknown, missing or broken.
DataSource open_data(const std::string& spec);

// Divides indices 0..size-1 of a training set: `held_out` of them, equally many of each class as far as that divides,
// drawn with (seed, Stream::split); both lists ascending. Throws Error when held_out is not in [0, size).
struct Split {
  std::vector<int64_t> train, held_out;
};
Split make_split(const Dataset& dataset, int64_t held_out, uint64_t seed);

}  // namespace entangle

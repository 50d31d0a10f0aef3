// Packing a data set into tar shards, as pack_dataset does.
#pragma once

#include <cstdint>
#include <string>

#include "data/dataset.h"

namespace entangle {

struct PackOptions {
  std::string output;          // folder of the shards; made when missing
  int64_t samples = 10000;     // of a shard at most
  int64_t bytes = 0;           // of a shard's images at most, unless one alone is larger; 0: any
  int64_t short_side = 0;      // larger images are resized to it and encoded anew as JPEG; 0: files stay as they are
  int64_t quality = 90;        // of those JPEGs
  bool in_order = false;       // the training images as the data set has them, otherwise shuffled
  uint64_t seed = 0;           // of that shuffling
  double most_broken = 0.001;  // share of the images that may be broken and are left out
};

struct PackSummary {
  int64_t shards = 0, samples = 0, bytes = 0, resumed = 0, broken = 0;
  bool interrupted = false;
};

// Writes
//   train-000000.tar ...   the training images; sample I of the data set is the members I-NAME.cls and I-NAME.jpg (or .png,
//   val-000000.tar ...     .bmp): I in nine digits, NAME from the file's. val: the test part, in order
//   classes.txt            the classes' names, one a line
//   pack.txt               what was asked for
//   unfinished             only until everything is written and read back
// The same options give the same bytes. A shard appears whole or not at all; every one is read back and compared with what
// was to be in it: names, labels, each image's bytes and that they decode to the same pixels. What an earlier call left is
// read back too and kept; packing goes on with the first shard that is missing. Broken images are left out, named on stderr.
//
// Throws Error when the folder holds another packing, another process packs there, too many images are broken, a shard
// reads back otherwise than it was written, or the data set's images are not RGB.
PackSummary pack(const DataSource& source, const PackOptions& options);

}  // namespace entangle

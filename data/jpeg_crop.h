// A part of a JPEG as a smaller JPEG, without decoding.
#pragma once

#include <cstdint>
#include <vector>

#include "data/image.h"

namespace entangle {

// The compressed pixels of a baseline JPEG with restart markers are pieces that can be decoded one by one: a piece
// depends on nothing but the tables in front. Where pieces begin with the rows of blocks (each in one row, or whole
// rows), those that a region needs are a JPEG by themselves, whose pixels are the same: pack_dataset writes such files.
//
// Makes `smaller` of the pieces that hold `region` and, around it, what its chroma is interpolated with once the image
// is reduced by 1, 2, 4 or 8, and tells in `held` what it shows of the image. False, and nothing is made, for files
// without such pieces, progressive or broken ones, and where all of the file is needed. The file must have passed
// check_image_structure; the region lies inside of the image.
bool crop_jpeg(const std::vector<uint8_t>& file, const Region& region, int64_t reduction, std::vector<uint8_t>& smaller,
               Region& held);

}  // namespace entangle

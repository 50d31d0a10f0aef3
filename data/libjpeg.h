// JPEGs through libjpeg-turbo, whole or in part. Linked only where it was found when this was compiled.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/image.h"

namespace entangle {

// The region of the image that remains when its width x height pixels are reduced by 1, 2, 4 or 8 to the next whole
// number of pixels, as RGB, into image.pixels. By libjpeg's accurate transform, chroma interpolated: of the whole image
// or of a part the same values. Rows behind the region are not looked at. Throws Error beginning with `name` for a
// broken file and for one that has another size; what decoders agree to overlook is no error.
void decode_by_libjpeg(const std::vector<uint8_t>& file, const std::string& name, int64_t width, int64_t height,
                       int64_t reduction, const Region& region, Image& image);

}  // namespace entangle

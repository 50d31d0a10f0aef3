// Checks of image files that their decoder, stb_image, does not make itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace entangle {

// Throws Error, beginning with `name`, for
// - a JPEG with a Huffman table of more than 256 symbols (ITU-T T.81, B.2.4.2: codes of each length from 1 to 16, up to 255
//   of each, are counted): the decoder has room for 256 and writes on beyond;
// - a JPEG with a scan that uses a table which no segment before it defines: the decoder's own is uninitialised memory, which
//   leads it out of its tables;
// - a PNG with a chunk that is longer than the file: the decoder allocates what it announces, up to 1 GiB.
// Any other file passes, broken ones too.
void check_image_structure(const std::vector<uint8_t>& file, const std::string& name);

}  // namespace entangle

// A check of JPEG files that their decoder, stb_image, does not make itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace entangle {

// A Huffman table of a JPEG (ITU-T T.81, B.2.4.2) counts its codes of each length from 1 to 16, up to 255 of each, but
// codes at most 256 symbols; the decoder has room for those and writes on beyond. Throws Error, beginning with `name`, for
// a JPEG with a table of more. Any other file passes, broken ones too.
void check_huffman_tables(const std::vector<uint8_t>& file, const std::string& name);

}  // namespace entangle

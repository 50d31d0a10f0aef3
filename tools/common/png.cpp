#include "tools/common/png.h"

#include "engine/atomic_file.h"
#include "tools/common/encode.h"

namespace entangle {

void write_png(const std::string& path, const Image& image) { write_file_atomically(path, encode_png(image, path)); }

}  // namespace entangle

// The one place where stb_image is compiled: JPEG, PNG, BMP and inflate, without its own file reading.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace {

// Planes of an image are large enough for the system to map them anew each time, and to clear every page: a tenth of the
// time of decoding. So a thread keeps the last large blocks that it gave back. Not beside AddressSanitizer, which watches
// each block.
#if defined(__SANITIZE_ADDRESS__) || defined(__clang__)  // which tells of sanitizers in another way
constexpr size_t kLeastKept = SIZE_MAX;
#else
constexpr size_t kLeastKept = size_t{1} << 14;
#endif
constexpr size_t kMostKept = size_t{1} << 23;  // of one block

struct alignas(16) Header {
  size_t bytes;  // behind it
};

struct Blocks {
  std::array<Header*, 8> free = {};
  size_t turn = 0;
  ~Blocks() {
    for (Header* block : free) std::free(block);
  }
};
thread_local Blocks kept;

void* allocate_block(size_t bytes) {
  for (Header*& block : kept.free) {
    if (block != nullptr && block->bytes >= bytes && block->bytes / 4 <= bytes)
      return std::exchange(block, nullptr) + 1;
  }
  if (bytes > SIZE_MAX - sizeof(Header)) return nullptr;
  Header* block = static_cast<Header*>(std::malloc(sizeof(Header) + bytes));
  if (block == nullptr) return nullptr;
  block->bytes = bytes;
  return block + 1;
}

void release_block(void* memory) {
  if (memory == nullptr) return;
  Header* block = static_cast<Header*>(memory) - 1;
  if (block->bytes >= kLeastKept && block->bytes <= kMostKept) {
    std::swap(block, kept.free[kept.turn++ % kept.free.size()]);
  }
  std::free(block);
}

void* resize_block(void* memory, size_t old_bytes, size_t bytes) {
  void* to = allocate_block(bytes);
  if (to == nullptr || memory == nullptr) return to;
  std::memcpy(to, memory, old_bytes < bytes ? old_bytes : bytes);
  release_block(memory);
  return to;
}

}  // namespace

#define STBI_MALLOC(bytes) allocate_block(bytes)
#define STBI_REALLOC_SIZED(memory, old_bytes, bytes) resize_block(memory, old_bytes, bytes)
#define STBI_FREE(memory) release_block(memory)
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wsign-compare"
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_SUPPORT_ZLIB
#define STBI_NO_STDIO
#include <stb/stb_image.h>

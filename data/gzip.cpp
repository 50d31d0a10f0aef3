#include "data/gzip.h"

#include <stb/stb_image.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "engine/check.h"
#include "engine/crc32.h"

namespace entangle {

namespace {

constexpr size_t kFixedHeader = 10;  // magic, method, flags, time, extra flags, system
constexpr size_t kTrailer = 8;       // CRC-32 and length of the content
constexpr uint8_t kHasHeaderCrc = 2, kHasExtra = 4, kHasName = 8, kHasComment = 16, kReserved = 0xE0;

uint32_t little_endian(const uint8_t* p) {
  return p[0] | static_cast<uint32_t>(p[1]) << 8 | static_cast<uint32_t>(p[2]) << 16 |
         static_cast<uint32_t>(p[3]) << 24;
}

// Where the compressed data begins. `end` is where the trailer begins: the header must not reach beyond it.
size_t skip_header(const std::vector<uint8_t>& file, size_t end, const std::string& name) {
  const uint8_t flags = file[3];
  CHECK(file[2] == 8 && (flags & kReserved) == 0, name, " uses a form of gzip that does not exist (method ",
        int{file[2]}, ", flags ", int{flags}, "): the file is corrupt, fetch it again");
  const char* const cut = " is cut short: it ends inside its gzip header; fetch it again";
  size_t at = kFixedHeader;
  if (flags & kHasExtra) {
    CHECK(at + 2 <= end, name, cut);
    at += 2 + file[at] + 256 * size_t{file[at + 1]};
    CHECK(at <= end, name, cut);
  }
  for (const uint8_t text : {kHasName, kHasComment}) {
    if (!(flags & text)) continue;
    const auto zero = std::find(file.begin() + at, file.begin() + end, 0);
    CHECK(zero != file.begin() + end, name, cut);
    at = zero - file.begin() + 1;
  }
  if (flags & kHasHeaderCrc) {
    CHECK(at + 2 <= end, name, cut);
    const uint32_t stored = file[at] + 256u * file[at + 1], actual = crc32(file.data(), at) & 0xFFFF;
    CHECK(stored == actual, name, " is corrupt: its gzip header has check sum ", actual, " and says ", stored,
          "; fetch it again");
    at += 2;
  }
  return at;
}

}  // namespace

std::vector<uint8_t> read_file(const std::string& path, uint64_t limit) {
  std::error_code problem;
  const uint64_t size = std::filesystem::file_size(path, problem);
  CHECK(!problem, "cannot read ", path, ": ", problem.message());
  CHECK(size <= limit, path, " has ", size, " bytes, more than the ", limit,
        " such a file may have: is it another file?");
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  CHECK(file, "cannot open ", path, ": ", std::strerror(errno));
  std::vector<uint8_t> bytes(size);
  const size_t got = std::fread(bytes.data(), 1, bytes.size(), file.get());
  CHECK(got == bytes.size(), "cannot read ", path, ": got ", got, " of its ", size, " bytes");
  return bytes;
}

std::vector<uint8_t> gunzip(const std::vector<uint8_t>& file, const std::string& name, uint64_t limit) {
  CHECK(limit <= INT_MAX, "gunzip cannot be asked for more than ", INT_MAX, " bytes, not ", limit);
  CHECK(file.size() < 2 || (file[0] == 0x1F && file[1] == 0x8B), name,
        " is not a gzip file: it does not begin with 1f 8b");
  CHECK(file.size() >= kFixedHeader + kTrailer, name, " is cut short: ", file.size(),
        " bytes are no gzip file; fetch it again");
  CHECK(file.size() <= INT_MAX, name, " has ", file.size(), " bytes, too many for a gzip file here");
  const size_t end = file.size() - kTrailer;
  const size_t begin = skip_header(file, end, name);
  const uint32_t want_crc = little_endian(&file[end]), size = little_endian(&file[end + 4]);
  CHECK(size <= limit, name, " announces ", size, " bytes of content, more than the ", limit,
        " expected at most: it is cut short, corrupt or another file; fetch it again");
  // One byte more than announced: no empty buffer, and content that is longer shows. The decoder looks ahead of the
  // symbol it reads and needs the trailer behind the data for that.
  std::vector<uint8_t> content(size_t{size} + 1);
  const int got = stbi_zlib_decode_noheader_buffer(
      reinterpret_cast<char*>(content.data()), static_cast<int>(std::min<size_t>(content.size(), INT_MAX)),
      reinterpret_cast<const char*>(&file[begin]), static_cast<int>(file.size() - begin));
  CHECK(got >= 0 && static_cast<uint32_t>(got) == size, name,
        " is cut short or corrupt: its data does not decompress to the ", size, " bytes it announces; fetch it again");
  content.pop_back();
  const uint32_t crc = crc32(content.data(), content.size());
  CHECK(crc == want_crc, name, " is corrupt: its content has CRC-32 ", crc, " and should have ", want_crc,
        "; fetch it again");
  return content;
}

}  // namespace entangle

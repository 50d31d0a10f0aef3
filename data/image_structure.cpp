#include "data/image_structure.h"

#include <algorithm>
#include <cstring>

#include "engine/check.h"

namespace entangle {

namespace {

constexpr uint8_t kStart = 0xD8, kEnd = 0xD9, kHuffmanTables = 0xC4, kProgressive = 0xC2, kScan = 0xDA;
constexpr size_t kLengths = 16, kMostSymbols = 256;

// Markers stand alone: a stuffed zero among compressed pixels, restarts, the start.
bool has_no_length(uint8_t marker) { return marker <= 1 || (marker >= 0xD0 && marker <= kStart); }

// Walks a file as its decoder does: FF, as often as it may, and a marker; a length and a segment behind most of them; what
// lies before the next FF is compressed or padding. Where the two could go apart the decoder gives up.
class Walk {
 public:
  Walk(const std::vector<uint8_t>& file, const std::string& name) : file_(file), name_(name) {}

  void run() {
    while (find_marker() && marker_ != kEnd) {
      if (has_no_length(marker_)) continue;
      const size_t length = 256 * size_t{byte(at_)} + byte(at_ + 1);
      if (length < 2) return;
      if (marker_ == kProgressive) progressive_ = true;
      if (marker_ == kScan) check_scan(at_ + 2);
      if (marker_ == kHuffmanTables) {
        check_tables(at_ + 2, at_ + length);
      } else {
        at_ += length;
      }
    }
  }

 private:
  // Beyond the end the decoder reads zeros.
  uint8_t byte(size_t at) const { return at < file_.size() ? file_[at] : 0; }

  bool find_marker() {
    at_ = std::min(at_, file_.size());
    const void* found = std::memchr(file_.data() + at_, 0xFF, file_.size() - at_);
    at_ = found == nullptr ? file_.size() : static_cast<size_t>(static_cast<const uint8_t*>(found) - file_.data());
    while (at_ < file_.size() && file_[at_] == 0xFF) ++at_;
    marker_ = byte(at_++);
    return at_ <= file_.size();
  }

  void check_tables(size_t at, size_t end) {
    while (at < end) {
      size_t symbols = 0;
      for (size_t i = 1; i <= kLengths; ++i) symbols += byte(at + i);
      CHECK(symbols <= kMostSymbols, name_, ": the JPEG is broken: a Huffman table has ", symbols,
            " symbols, more than ", kMostSymbols);
      defined_ |= table_bit(byte(at) >> 4, byte(at) & 15);
      at += 1 + kLengths + symbols;
    }
    at_ = at;
  }

  // One bit for each of the four DC (class 0) and four AC tables; none for others, which the decoder refuses.
  static unsigned table_bit(int kind, int id) { return kind > 1 || id > 3 ? 0 : 1u << (4 * kind + id); }

  // Components, for each its number and its tables; the first and last coefficient, the bits. A progressive scan decodes DC
  // or AC, and refines DC without a table.
  void check_scan(size_t at) const {
    const size_t components = std::min<size_t>(byte(at), 4), spectrum = at + 1 + 2 * components;
    const bool first = byte(spectrum) == 0, refines = byte(spectrum + 2) >> 4 != 0;
    for (size_t i = 0; i < components; ++i) {
      const int tables = byte(at + 2 + 2 * i);
      unsigned used = 0;
      if (!progressive_ || (first && !refines)) used |= table_bit(0, tables >> 4);
      if (!progressive_ || !first) used |= table_bit(1, tables & 15);
      CHECK((used & ~defined_) == 0, name_,
            ": the JPEG is broken: a scan uses a Huffman table that it does not define");
    }
  }

  const std::vector<uint8_t>& file_;
  const std::string& name_;
  size_t at_ = 0;
  uint8_t marker_ = 0;
  bool progressive_ = false;
  unsigned defined_ = 0;
};

void check_huffman_tables(const std::vector<uint8_t>& file, const std::string& name) {
  const auto first = std::find_if(file.begin(), file.end(), [](uint8_t c) { return c != 0xFF; });
  if (first != file.begin() && first != file.end() && *first == kStart) Walk(file, name).run();
}

constexpr char kPngSignature[] = "\x89PNG\r\n\x1A\n";
constexpr size_t kSignature = 8, kAroundChunk = 12;  // length and kind before, CRC-32 behind

// A chunk: its big-endian length, its kind, the content, its CRC-32.
void check_chunks(const std::vector<uint8_t>& file, const std::string& name) {
  for (size_t at = kSignature; file.size() - at >= 8;) {
    const uint8_t* const p = &file[at];
    const uint64_t length = uint64_t{p[0]} << 24 | uint64_t{p[1]} << 16 | uint64_t{p[2]} << 8 | p[3];
    if (std::memcmp(p + 4, "IEND", 4) == 0) return;
    CHECK(length + kAroundChunk <= file.size() - at, name, ": the PNG is cut short: its chunk at byte ", at, " has ",
          length, " bytes, of which ", file.size() - at - 8, " are there");
    at += length + kAroundChunk;
  }
}

}  // namespace

void check_image_structure(const std::vector<uint8_t>& file, const std::string& name) {
  check_huffman_tables(file, name);
  if (file.size() >= kSignature && std::memcmp(file.data(), kPngSignature, kSignature) == 0) check_chunks(file, name);
}

}  // namespace entangle

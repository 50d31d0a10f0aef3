#include "data/jpeg_tables.h"

#include <algorithm>

#include "engine/check.h"

namespace entangle {

namespace {

constexpr uint8_t kStart = 0xD8, kEnd = 0xD9, kHuffmanTables = 0xC4;
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
    const auto from = [this] { return file_.begin() + static_cast<int64_t>(std::min(at_, file_.size())); };
    at_ = static_cast<size_t>(std::find(from(), file_.end(), 0xFF) - file_.begin());
    at_ = static_cast<size_t>(std::find_if(from(), file_.end(), [](uint8_t c) { return c != 0xFF; }) - file_.begin());
    marker_ = byte(at_++);
    return at_ <= file_.size();
  }

  void check_tables(size_t at, size_t end) {
    while (at < end) {
      size_t symbols = 0;
      for (size_t i = 1; i <= kLengths; ++i) symbols += byte(at + i);
      CHECK(symbols <= kMostSymbols, name_, ": the JPEG is broken: a Huffman table has ", symbols,
            " symbols, more than ", kMostSymbols);
      at += 1 + kLengths + symbols;
    }
    at_ = at;
  }

  const std::vector<uint8_t>& file_;
  const std::string& name_;
  size_t at_ = 0;
  uint8_t marker_ = 0;
};

}  // namespace

void check_huffman_tables(const std::vector<uint8_t>& file, const std::string& name) {
  const auto first = std::find_if(file.begin(), file.end(), [](uint8_t c) { return c != 0xFF; });
  if (first != file.begin() && first != file.end() && *first == kStart) Walk(file, name).run();
}

}  // namespace entangle

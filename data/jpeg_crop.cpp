#include "data/jpeg_crop.h"

#include <algorithm>
#include <cstring>

namespace entangle {

namespace {

constexpr uint8_t kEnd = 0xD9, kScan = 0xDA, kRestart = 0xD0, kRestartInterval = 0xDD;
constexpr uint8_t kBaseline = 0xC0, kExtended = 0xC1, kFirstFrame = 0xC0, kLastFrame = 0xCF, kHuffmanTables = 0xC4;
constexpr int64_t kBlock = 8, kRestarts = 8;

// Pieces of compressed pixels: [begin[i], begin[i + 1] - 2), two bytes of a marker between them.
using Pieces = std::vector<size_t>;

// What is in front of the compressed pixels.
class Header {
 public:
  explicit Header(const std::vector<uint8_t>& file) : file_(file) {}

  // False for what cannot be cut.
  bool read() {
    size_t at = 2;
    while (at + 4 <= file_.size() && file_[at] == 0xFF) {
      const uint8_t marker = file_[at + 1];
      const size_t length = number(at + 2), end = at + 2 + length;
      if (length < 2 || end > file_.size()) return false;
      if (marker == kRestartInterval && length == 4) interval_ = number(at + 4);
      if (marker >= kFirstFrame && marker <= kLastFrame && marker != kHuffmanTables && marker != 0xC8 &&
          marker != 0xCC && !read_frame(marker, at + 4, end)) {
        return false;
      }
      at = end;
      if (marker != kScan) continue;
      scan_ = at;
      return frame_ != 0 && interval_ > 0 && length > 2 && file_[at - length + 2] == components_;
    }
    return false;
  }

  int64_t number(size_t at) const { return 256 * int64_t{file_[at]} + file_[at + 1]; }
  int64_t width() const { return number(frame_ + 3); }
  int64_t height() const { return number(frame_ + 1); }
  size_t frame() const { return frame_; }  // where its precision, height, width and components stand
  size_t scan() const { return scan_; }    // where compressed pixels begin
  int64_t unit_width() const { return unit_width_; }
  int64_t unit_height() const { return unit_height_; }
  int64_t interval() const { return interval_; }  // units of a piece

 private:
  // One frame, of 8 bits; a single component's units are blocks whatever its factors.
  bool read_frame(uint8_t kind, size_t at, size_t end) {
    if (frame_ != 0 || (kind != kBaseline && kind != kExtended) || at + 6 > end || file_[at] != 8) return false;
    frame_ = at;
    components_ = file_[at + 5];
    if (components_ < 1 || components_ > 4 || at + 6 + 3 * static_cast<size_t>(components_) > end) return false;
    int64_t across = 1, down = 1;
    for (int64_t c = 0; components_ > 1 && c < components_; ++c) {
      const uint8_t factors = file_[at + 7 + 3 * static_cast<size_t>(c)];
      across = std::max<int64_t>(across, factors >> 4);
      down = std::max<int64_t>(down, factors & 15);
    }
    if (across > 4 || down > 4) return false;
    unit_width_ = kBlock * across;
    unit_height_ = kBlock * down;
    return width() > 0 && height() > 0;
  }

  const std::vector<uint8_t>& file_;
  size_t frame_ = 0, scan_ = 0;
  int components_ = 0;
  int64_t interval_ = 0, unit_width_ = 0, unit_height_ = 0;
};

// False unless there are so many pieces, numbered as they have to be, and the end of the image behind.
bool find_pieces(const std::vector<uint8_t>& file, size_t scan, int64_t count, Pieces& begin) {
  begin.assign(1, scan);
  const uint8_t *at = file.data() + scan, *const last = file.data() + file.size() - 1;
  while (at < last && (at = static_cast<const uint8_t*>(std::memchr(at, 0xFF, static_cast<size_t>(last - at))))) {
    const uint8_t marker = at[1];
    if (marker == 0xFF) {
      ++at;
      continue;
    }
    at += 2;
    if (marker == 0) continue;
    begin.push_back(static_cast<size_t>(at - file.data()));
    const int64_t found = static_cast<int64_t>(begin.size()) - 1;
    if (marker == kEnd) return found == count;
    if (marker != kRestart + (found - 1) % kRestarts || found == count) return false;
  }
  return false;
}

// Pieces, or rows of units, [first, end) of `all`.
struct Range {
  int64_t first, end;
};
// That hold places [begin, begin + length) and a margin, at `size` a piece.
Range range_of(int64_t begin, int64_t length, int64_t margin, int64_t size, int64_t all) {
  return {std::max<int64_t>(begin - margin, 0) / size, std::min((begin + length + margin + size - 1) / size, all)};
}

void put_number(int64_t value, uint8_t* to) {
  to[0] = static_cast<uint8_t>(value >> 8);
  to[1] = static_cast<uint8_t>(value & 255);
}

}  // namespace

bool crop_jpeg(const std::vector<uint8_t>& file, const Region& region, int64_t reduction, std::vector<uint8_t>& smaller,
               Region& held) {
  Header header(file);
  if (file.size() < 4 || !header.read()) return false;
  const int64_t units = (header.width() + header.unit_width() - 1) / header.unit_width();
  const int64_t rows = (header.height() + header.unit_height() - 1) / header.unit_height();
  const int64_t interval = header.interval(), rows_of_piece = std::max<int64_t>(interval / units, 1);
  if (interval > units ? interval % units != 0 : units % interval != 0) return false;
  const int64_t across = std::max<int64_t>(units / interval, 1), down = (rows + rows_of_piece - 1) / rows_of_piece;
  const int64_t width = header.unit_width() * std::min(interval, units);
  const int64_t height = header.unit_height() * rows_of_piece;
  // The coarsest samples are as wide and high as a unit has blocks.
  const int64_t right = reduction * header.unit_width() / kBlock, below = reduction * header.unit_height() / kBlock;
  const Range x = range_of(region.left, region.width, right, width, across);
  const Range y = range_of(region.top, region.height, below, height, down);
  static thread_local Pieces begin;
  const bool all = x.end - x.first == across && y.end - y.first == down;
  if (all || !find_pieces(file, header.scan(), across * down, begin)) return false;

  held = {x.first * width, y.first * height, 0, 0};
  held.width = std::min(x.end * width, header.width()) - held.left;
  held.height = std::min(y.end * height, header.height()) - held.top;
  smaller.assign(file.begin(), file.begin() + static_cast<int64_t>(header.scan()));
  put_number(held.height, smaller.data() + header.frame() + 1);
  put_number(held.width, smaller.data() + header.frame() + 3);
  int64_t written = 0;
  for (int64_t row = y.first; row < y.end; ++row) {
    for (int64_t piece = row * across + x.first; piece < row * across + x.end; ++piece, ++written) {
      if (written > 0) {
        smaller.insert(smaller.end(), {0xFF, static_cast<uint8_t>(kRestart + (written - 1) % kRestarts)});
      }
      const int64_t from = static_cast<int64_t>(begin[static_cast<size_t>(piece)]);
      const int64_t end = static_cast<int64_t>(begin[static_cast<size_t>(piece) + 1]) - 2;
      smaller.insert(smaller.end(), file.begin() + from, file.begin() + end);
    }
  }
  smaller.insert(smaller.end(), {0xFF, kEnd});
  return true;
}

}  // namespace entangle

// Event files, as TensorBoard shows them: numbers over steps, and pages of text.
//
// A file is a list of records, each in a frame
//
//   8 bytes  n, the length of the record         4 bytes  mask(crc32c(those 8 bytes))
//   n bytes  the record: a protobuf Event        4 bytes  mask(crc32c(the record))
//
// with numbers in little-endian order and mask(c) = (c rotated right by 15 bits) + 0xa282ead8 modulo 2^32, so that the
// check sum of bytes which hold check sums is not a special one. A reader stops at the first frame that is not whole.
// Files of one directory are read one after another, in the order of their names.
//
// The first event of a file tells its version; the second that a session starts at a step, at which TensorBoard forgets
// what earlier files tell of that step and of later ones.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace entangle {

struct BoardScalar {
  std::string tag;
  double value;  // a float in the file
};

// Markdown under a tag.
struct BoardText {
  std::string tag, markdown;
};

// The frame of a record.
std::string framed_record(const std::string& record);

// Of scalars and texts on one axis of steps. A session's file is there from its first point on, which brings the texts
// along, so that what a directory holds ends with a point.
class EventFiles {
 public:
  // Creates the directory where it is missing. Throws Error when it cannot be created, or what is in it cannot be read.
  EventFiles(const std::string& directory, std::vector<BoardText> texts);
  ~EventFiles();
  EventFiles(const EventFiles&) = delete;
  EventFiles& operator=(const EventFiles&) = delete;

  // The step of the last point that earlier sessions left; -1: there is none.
  int64_t last() const { return last_; }
  // A point for each scalar. The first of a session replaces what earlier ones have from that step on. The points are
  // with the system when this returns, so that a killed process loses none. Throws Error with the system's reason.
  void add(int64_t step, const std::vector<BoardScalar>& scalars);
  // Waits until they are on the disk.
  void sync();

 private:
  // Opens the session's file; what it begins with.
  std::string begin_file(int64_t step);

  std::string directory_, path_;
  std::vector<BoardText> texts_;
  int64_t last_ = -1;
  int file_ = -1;
};

}  // namespace entangle

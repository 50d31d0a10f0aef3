#include "engine/zip_reader.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "engine/check.h"
#include "engine/crc32.h"
#include "engine/safetensors_header.h"

namespace entangle {
namespace {

// Section numbers are those of PKWARE's APPNOTE.TXT 6.3.10. Sizes are of the fixed parts.
constexpr uint32_t kLocalHeader = 0x04034b50, kDirectoryHeader = 0x02014b50;            // 4.3.7, 4.3.12
constexpr uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kEnd64Locator = 0x07064b50;  // 4.3.16, 4.3.14, 4.3.15
constexpr uint64_t kLocalSize = 30, kDirectorySize = 46, kEndSize = 22, kEnd64Size = 56, kEnd64LocatorSize = 20;
constexpr uint64_t kLongestComment = 65535, kLongestDirectory = 64 << 20;
constexpr uint32_t kIn64 = 0xFFFFFFFF;  // a 32-bit field whose value stands in the zip64 record
constexpr uint16_t kZip64Extra = 1, kEncrypted = 1, kStored = 0;

[[noreturn]] void fail(const InputFile& file, const std::string& what) {
  RAISE(file.path(), ": ", what, "; this is not a sound PyTorch checkpoint: fetch or write it again");
}

// Little-endian fields of a record, one after another.
class Fields {
 public:
  Fields(const InputFile& file, std::string_view bytes, const char* what) : file_(file), bytes_(bytes), what_(what) {}

  uint64_t left() const { return bytes_.size(); }
  std::string_view take(uint64_t length) {
    if (length > bytes_.size()) fail(file_, concat(what_, " is cut short"));
    const std::string_view piece = bytes_.substr(0, static_cast<size_t>(length));
    bytes_.remove_prefix(piece.size());
    return piece;
  }
  uint64_t number(int bytes) {
    const std::string_view piece = take(static_cast<uint64_t>(bytes));
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) {
      value |= uint64_t{static_cast<uint8_t>(piece[static_cast<size_t>(i)])} << (8 * i);
    }
    return value;
  }

 private:
  const InputFile& file_;
  std::string_view bytes_;
  const char* what_;
};

struct Directory {
  uint64_t begin = 0, size = 0, entries = 0;
};

// The zip64 end record, when a locator stands in front of the end record at `end`.
bool find_directory64(const InputFile& file, uint64_t end, Directory& directory) {
  if (end < kEnd64LocatorSize) return false;
  const std::string locator_text = file.text(end - kEnd64LocatorSize, kEnd64LocatorSize);
  Fields locator(file, locator_text, "the zip64 locator");
  if (locator.number(4) != kEnd64Locator) return false;
  locator.take(4);  // disk
  const uint64_t at = locator.number(8), limit = end - kEnd64LocatorSize;
  if (limit < kEnd64Size || at > limit - kEnd64Size) {
    fail(file, concat("its zip64 directory record would lie at ", at, ", beyond the file"));
  }
  const std::string text = file.text(at, kEnd64Size);
  Fields record(file, text, "the zip64 directory record");
  if (record.number(4) != kEnd64) fail(file, concat("there is no zip64 directory record at byte ", at));
  record.take(8 + 2 + 2 + 4 + 4 + 8);  // size, versions, disks, entries of this disk
  directory.entries = record.number(8);
  directory.size = record.number(8);
  directory.begin = record.number(8);
  return true;
}

// The end record is the last thing in a file but for a comment whose length it tells.
Directory find_directory(const InputFile& file, uint64_t file_bytes) {
  const uint64_t length = std::min(file_bytes, kEndSize + kLongestComment), begin = file_bytes - length;
  const std::string tail = file.text(begin, length);
  for (uint64_t at = length; at-- > 0;) {
    if (length - at < kEndSize || tail[static_cast<size_t>(at)] != 'P') continue;
    Fields record(file, std::string_view(tail).substr(static_cast<size_t>(at)), "the directory's end record");
    if (record.number(4) != kEnd) continue;
    record.take(2 + 2 + 2);  // disks, entries of this disk
    Directory directory;
    directory.entries = record.number(2);
    directory.size = record.number(4);
    directory.begin = record.number(4);
    if (record.number(2) != record.left()) continue;  // the comment
    find_directory64(file, begin + at, directory);
    const bool inside = directory.begin <= begin + at && directory.size <= begin + at - directory.begin;
    if (!inside) fail(file, "its zip directory reaches beyond the file");
    if (directory.size > kLongestDirectory) fail(file, concat("its zip directory has ", directory.size, " bytes"));
    return directory;
  }
  fail(file, "it is cut short: the zip directory at its end is missing");
}

// One entry as the directory tells it.
struct Listed {
  std::string name;
  uint64_t header = 0, stored = 0;  // of the local header; bytes as they are stored
  ZipEntry entry;
};

// Values that did not fit 32 bits stand in this order in the zip64 field (4.5.3).
void read_zip64(const InputFile& file, std::string_view extra_bytes, Listed& listed) {
  Fields extra(file, extra_bytes, "an extra field");
  while (extra.left() >= 4) {
    const uint64_t kind = extra.number(2), length = extra.number(2);
    Fields field(file, extra.take(length), "a zip64 field");
    if (kind != kZip64Extra) continue;
    for (uint64_t* value : {&listed.entry.size, &listed.stored, &listed.header}) {
      if (*value == kIn64) *value = field.number(8);
    }
  }
}

Listed read_listed(const InputFile& file, Fields& directory) {
  if (directory.number(4) != kDirectoryHeader) fail(file, "its zip directory is damaged");
  Listed listed;
  directory.take(2 + 2);  // versions
  const uint64_t flags = directory.number(2), method = directory.number(2);
  directory.take(4);  // time and date
  listed.entry.crc = static_cast<uint32_t>(directory.number(4));
  listed.stored = directory.number(4);
  listed.entry.size = directory.number(4);
  const uint64_t name = directory.number(2), extra = directory.number(2), comment = directory.number(2);
  directory.take(2 + 2 + 4);  // disk, attributes
  listed.header = directory.number(4);
  listed.name = directory.take(name);
  read_zip64(file, directory.take(extra), listed);
  directory.take(comment);
  const std::string entry = "entry " + in_quotes(listed.name);
  if (flags & kEncrypted) fail(file, entry + " is encrypted");
  if (method != kStored) {
    RAISE(file.path(), ": ", entry, " is compressed (method ", method,
          "), which PyTorch never does; store it: write the file again with torch.save");
  }
  if (listed.stored != listed.entry.size) {
    fail(file, concat(entry, " is stored as it is, but in ", listed.stored, " bytes where it has ", listed.entry.size));
  }
  return listed;
}

// Finds where the content begins; it must end before `limit`.
void locate(const InputFile& file, uint64_t limit, Listed& listed) {
  const std::string entry = "entry " + in_quotes(listed.name);
  const auto check_end = [&](uint64_t begin, uint64_t bytes) {
    if (begin > limit || bytes > limit - begin) fail(file, entry + " reaches beyond the zip archive's content");
  };
  check_end(listed.header, kLocalSize);
  const std::string text = file.text(listed.header, kLocalSize);
  Fields header(file, text, "a local header");
  if (header.number(4) != kLocalHeader) fail(file, concat(entry, " is not at byte ", listed.header));
  header.take(2 + 2 + 2 + 4 + 4 + 4 + 4);  // the directory told these
  const uint64_t name = header.number(2), extra = header.number(2);
  check_end(listed.header + kLocalSize, name + extra);
  const std::string local_name = file.text(listed.header + kLocalSize, name);
  if (local_name != listed.name) fail(file, entry + " is called " + in_quotes(local_name) + " where it lies");
  listed.entry.begin = listed.header + kLocalSize + name + extra;
  check_end(listed.entry.begin, listed.entry.size);
}

void check_overlaps(const InputFile& file, std::vector<Listed>& all) {
  std::sort(all.begin(), all.end(), [](const Listed& a, const Listed& b) { return a.header < b.header; });
  for (size_t i = 1; i < all.size(); ++i) {
    const Listed& before = all[i - 1];
    if (all[i].header < before.entry.begin + before.entry.size) {
      fail(file, "entry " + in_quotes(all[i].name) + " overlaps entry " + in_quotes(before.name));
    }
  }
}

}  // namespace

ZipFile::ZipFile(std::shared_ptr<const InputFile> file) : file_(std::move(file)) {
  const Directory found = find_directory(*file_, file_->size());
  const std::string text = file_->text(found.begin, found.size);
  Fields directory(*file_, text, "its zip directory");
  std::vector<Listed> all;
  while (directory.left() > 0) {
    all.push_back(read_listed(*file_, directory));
    locate(*file_, found.begin, all.back());
    if (!entries_.emplace(all.back().name, all.back().entry).second) {
      fail(*file_, "entry " + in_quotes(all.back().name) + " occurs twice");
    }
  }
  if (all.size() != found.entries) {
    fail(*file_, concat("its zip directory announces ", found.entries, " entries and has ", all.size()));
  }
  check_overlaps(*file_, all);
}

std::vector<uint8_t> ZipFile::read(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail(*file_, "it has no entry " + in_quotes(name));
  const ZipEntry& entry = found->second;
  std::vector<uint8_t> content(static_cast<size_t>(entry.size));
  file_->read(entry.begin, content.data(), entry.size);
  const uint32_t crc = crc32(content.data(), content.size());
  if (crc != entry.crc) {
    fail(*file_, concat("entry ", in_quotes(name), " is damaged: it has CRC-32 ", crc, " and should have ", entry.crc));
  }
  return content;
}

}  // namespace entangle

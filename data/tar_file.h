// Tar archives (POSIX.1-2001 "pax", ustar, GNU long names), read without unpacking and written member by member.
//
// An archive is a row of members, each a 512-byte header and its content padded to 512 bytes, then two blocks of zeros.
// Reading is checked against hostile files: check sums, sizes against the archive's, names that leave a folder.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace entangle {

inline constexpr uint64_t kTarBlock = 512;

// A regular file in an archive. name: relative, without a leading "./" and without components "..".
struct TarMember {
  std::string name;
  uint64_t begin = 0;           // where its first header lies: an extension's, where it has one
  uint64_t data = 0, size = 0;  // content: bytes [data, data + size)
};

// Puts bytes [at, at + count) of an archive into `to`; they lie within its size.
using TarSource = std::function<void(uint64_t at, void* to, uint64_t count)>;

// Walks an archive's members, reading headers only, a small piece at a time.
class TarReader {
 public:
  // `name` begins every message. `size`: of the whole archive in bytes. `begin`: of the first member to be read.
  TarReader(const std::string& name, uint64_t size, TarSource source, uint64_t begin = 0);

  // The next regular file; folders are passed over. False behind the last. Throws Error, naming the archive, the member
  // and what to do, for: no tar archive or a compressed one, a wrong check sum, a size beyond the archive's end, an
  // archive that is cut short, bytes behind its end marker, an absolute name or one with "..", a link, a device, a sparse
  // file, a malformed extension.
  bool next(TarMember& member);
  // The content of a member. Throws Error when it has more than `limit` bytes.
  std::string content(const TarMember& member, uint64_t limit);

 private:
  struct Header;
  struct Extension;

  void read(uint64_t at, void* to, uint64_t count);
  bool read_header(Header& header);
  void read_extension(const Header& header, Extension& extension);
  void read_pax(const std::string& text, bool global, Extension& extension) const;
  void pax_record(const std::string& key, const std::string& value, bool global, Extension& extension) const;
  void check_kind(const Header& header, const std::string& member) const;
  void check_end();
  [[noreturn]] void refuse(const std::string& what, const std::string& advice = "fetch or pack it again") const;

  std::string name_;
  uint64_t size_, at_;  // at_: where the next header is expected
  TarSource source_;
  std::vector<uint8_t> window_;  // bytes [window_at_, ...) of the archive
  uint64_t window_at_ = 0;
};

// An archive on disk, kept open. read() may be called from several threads at once.
class TarFile {
 public:
  explicit TarFile(const std::string& path);  // throws Error when it cannot be opened or is no regular file
  ~TarFile();
  TarFile(const TarFile&) = delete;
  TarFile& operator=(const TarFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  void read(uint64_t at, void* to, uint64_t count) const;  // throws Error when the file became shorter
  TarReader reader(uint64_t begin = 0) const;              // this file must outlive it

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

// The header of a regular file for writing: readable by all, of user 0, from 1970, so that equal content gives equal
// bytes. Throws Error for a name of no or more than 100 bytes, or 8 GiB or more.
std::string tar_header(const std::string& name, uint64_t size);
// The header, the content and its padding.
std::string tar_member(const std::string& name, const std::string& content);
std::string tar_end();

}  // namespace entangle

#include "data/tar_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/check.h"
#include "engine/safetensors_header.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace entangle {

namespace {

// A label's header and content and the next image's header lie in one window.
constexpr uint64_t kWindow = 4096;
// Of names and pax records.
constexpr uint64_t kLongestExtension = 1 << 20;

// Fields of a header block.
struct Field {
  size_t at, size;
};
constexpr Field kName = {0, 100}, kMode = {100, 8}, kUser = {108, 8}, kGroup = {116, 8}, kSize = {124, 12},
                kTime = {136, 12}, kCheckSum = {148, 8}, kMagic = {257, 6}, kVersion = {263, 2}, kPrefix = {345, 155};
constexpr size_t kType = 156;

uint64_t padded(uint64_t size) { return (size + kTarBlock - 1) / kTarBlock * kTarBlock; }

// Up to the first zero byte.
std::string text_of(const uint8_t* block, Field field) {
  const auto begin = block + field.at, end = begin + field.size;
  return std::string(begin, std::find(begin, end, 0));
}

// Octal digits between blanks, ended by a blank, a zero or the field; or, with the first bit set, big-endian binary.
bool number_of(const uint8_t* block, Field field, uint64_t& value) {
  const uint8_t* p = block + field.at;
  const uint8_t* const end = p + field.size;
  value = 0;
  if (*p & 0x80) {
    if (*p & 0x40) return false;  // negative
    for (bool first = true; p != end; ++p, first = false) {
      if (value >> 55) return false;
      value = value << 8 | (first ? *p & 0x3F : *p);
    }
    return true;
  }
  while (p != end && *p == ' ') ++p;
  const uint8_t* const digits = p;
  for (; p != end && *p >= '0' && *p <= '7'; ++p) value = value << 3 | (*p - '0');
  if (p == digits || p - digits > 20) return false;
  return std::all_of(p, end, [](uint8_t c) { return c == ' ' || c == 0; });
}

uint64_t check_sum(const uint8_t* block) {
  uint64_t sum = 0;
  for (size_t i = 0; i < kTarBlock; ++i) {
    const bool own = i >= kCheckSum.at && i < kCheckSum.at + kCheckSum.size;
    sum += own ? ' ' : block[i];
  }
  return sum;
}

bool is_zero(const uint8_t* bytes, size_t count) {
  return std::all_of(bytes, bytes + count, [](uint8_t byte) { return byte == 0; });
}

// The program that unpacks what begins so; null for what is not compressed.
const char* compressor_of(const uint8_t* begin) {
  const auto starts = [&](const char* magic) { return std::memcmp(begin, magic, std::strlen(magic)) == 0; };
  if (starts("\x1F\x8B")) return "gzip";
  if (starts("\x28\xB5\x2F\xFD")) return "zstd";
  if (starts("BZh")) return "bzip2";
  if (starts("\xFD"
             "7zXZ"))
    return "xz";
  return nullptr;
}

bool leaves_its_folder(const std::string& name) {
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find('/', at), name.size());
    if (name.compare(at, end - at, "..") == 0) return true;
    at = end + 1;
  }
  return false;
}

}  // namespace

struct TarReader::Header {
  uint64_t at = 0, data = 0, size = 0;
  char type = '0';
  std::string name;
};

// What extension headers say of the member that follows them.
struct TarReader::Extension {
  bool any = false, has_name = false, has_size = false;
  uint64_t begin = 0, size = 0;
  std::string name;
};

TarReader::TarReader(const std::string& name, uint64_t size, TarSource source, uint64_t begin)
    : name_(name), size_(size), at_(begin), source_(std::move(source)) {
  CHECK(begin <= size, name, ": there is no byte ", begin, " in an archive of ", size);
}

void TarReader::refuse(const std::string& what, const std::string& advice) const {
  RAISE(name_, ": ", what, "; ", advice);
}

void TarReader::read(uint64_t at, void* to, uint64_t count) {
  const bool inside = at >= window_at_ && at + count <= window_at_ + window_.size();
  if (!inside && count >= kWindow) return source_(at, to, count);
  if (!inside) {
    window_.resize(std::min(kWindow, size_ - at));
    window_at_ = at;
    source_(at, window_.data(), window_.size());
  }
  std::memcpy(to, window_.data() + (at - window_at_), count);
}

// False at the end marker, which is checked to its last byte.
bool TarReader::read_header(Header& header) {
  uint8_t block[kTarBlock];
  if (size_ - at_ < kTarBlock) {
    refuse(size_ == 0 ? std::string("the file is empty") : concat("the archive is cut short at byte ", size_));
  }
  read(at_, block, kTarBlock);
  if (is_zero(block, kTarBlock)) return check_end(), false;
  const char* const compressor = at_ == 0 ? compressor_of(block) : nullptr;
  if (compressor) refuse(concat("the archive is compressed by ", compressor), "unpack it to a plain .tar first");
  uint64_t stored = 0;
  if (!number_of(block, kCheckSum, stored) || stored != check_sum(block)) {
    if (at_ == 0) refuse("no tar archive, or a broken one: its first header has a wrong check sum");
    refuse(concat("the header at byte ", at_, " has a wrong check sum"));
  }
  const std::string magic = text_of(block, kMagic), prefix = text_of(block, kPrefix);
  header.at = at_;
  header.data = at_ + kTarBlock;
  header.type = static_cast<char>(block[kType]);
  header.name = text_of(block, kName);
  // GNU's magic is "ustar ", and it has other things where ustar has the prefix.
  if (magic == "ustar" && !prefix.empty()) header.name = prefix + "/" + header.name;
  if (!number_of(block, kSize, header.size)) refuse(concat("the header at byte ", at_, " has an impossible size"));
  return true;
}

void TarReader::check_end() {
  std::vector<uint8_t> rest(1 << 16);
  if (size_ - at_ < 2 * kTarBlock) refuse(concat("the archive is cut short in its end marker, at byte ", size_));
  for (uint64_t at = at_; at < size_;) {
    const uint64_t count = std::min<uint64_t>(rest.size(), size_ - at);
    source_(at, rest.data(), count);
    if (!is_zero(rest.data(), count)) {
      refuse(concat("something follows the archive's end marker at byte ", at_),
             "archives that were joined must be packed anew");
    }
    at += count;
  }
}

bool TarReader::next(TarMember& member) {
  Header header;
  Extension extension;
  while (read_header(header)) {
    const bool is_extension = std::strchr("LKxg", header.type) != nullptr && header.type != 0;
    if (is_extension) {
      read_extension(header, extension);
      continue;
    }
    std::string name = extension.has_name ? extension.name : header.name;
    while (name.compare(0, 2, "./") == 0) name.erase(0, 2);
    const bool old_folder = (header.type == 0 || header.type == '0') && !name.empty() && name.back() == '/';
    const bool folder = header.type == '5' || old_folder;
    const std::string quoted = in_quotes(name);
    if (!folder) check_kind(header, quoted);
    if (name.empty() && !folder) refuse(concat("the member at byte ", header.at, " has no name"));
    if (!name.empty() && name[0] == '/') refuse("the member " + quoted + " has an absolute name", "pack it anew");
    if (leaves_its_folder(name)) refuse("the member " + quoted + " leaves its folder by \"..\"", "pack it anew");
    const uint64_t size = folder ? 0 : extension.has_size ? extension.size : header.size;
    const uint64_t left = size_ - header.data;
    if (size > left || padded(size) > left) {
      refuse(concat("the archive is cut short in the member ", quoted, ": its ", size,
                    " bytes and their padding need more than the ", left, " that are left"));
    }
    at_ = header.data + padded(size);
    if (!folder) {
      member = {name, extension.any ? extension.begin : header.at, header.data, size};
      return true;
    }
    extension = Extension();
  }
  if (extension.any) refuse(concat("an extension header at byte ", extension.begin, " belongs to no member"));
  return false;
}

std::string TarReader::content(const TarMember& member, uint64_t limit) {
  CHECK(member.size <= limit, name_, ": the member ", in_quotes(member.name), " has ", member.size,
        " bytes, more than the ", limit, " that it may have");
  std::string bytes(member.size, '\0');
  if (member.size > 0) read(member.data, bytes.data(), member.size);
  return bytes;
}

void TarReader::check_kind(const Header& header, const std::string& member) const {
  const char* kind = nullptr;
  switch (header.type) {
    case '0':
    case '7':  // contiguous: as a regular file
    case 0:
      return;
    case '1':
    case '2':
      kind = "a link";
      break;
    case '3':
    case '4':
      kind = "a device";
      break;
    case '6':
      kind = "a pipe";
      break;
    case 'S':
      kind = "a sparse file";
      break;
    default:
      refuse(concat("the member ", member, " is of an unknown kind (", int{static_cast<uint8_t>(header.type)}, ")"));
  }
  refuse(concat("the member ", member, " is ", kind), "pack it anew with regular files only");
}

void TarReader::read_extension(const Header& header, Extension& extension) {
  if (header.size > kLongestExtension) {
    refuse(concat("the extension header at byte ", header.at, " has ", header.size, " bytes, more than the ",
                  kLongestExtension, " allowed"));
  }
  if (padded(header.size) > size_ - header.data) {
    refuse(concat("the archive is cut short in the extension header at byte ", header.at));
  }
  std::string text(header.size, '\0');
  if (header.size > 0) read(header.data, text.data(), header.size);
  at_ = header.data + padded(header.size);
  if (header.type == 'g') return read_pax(text, true, extension);  // of all members, not of the next
  if (!extension.any) extension.begin = header.at;
  extension.any = true;
  if (header.type == 'x') return read_pax(text, false, extension);
  text.resize(text.find_last_not_of('\0') + 1);
  if (text.empty() || text.find('\0') != std::string::npos) {
    refuse(concat("the long name at byte ", header.at, " is empty or has a zero byte inside"));
  }
  if (header.type == 'K') return;  // the target of a link, which is refused when it comes
  extension.name = text;
  extension.has_name = true;
}

// Records "LENGTH KEY=VALUE\n", LENGTH in decimal and of the whole record.
void TarReader::read_pax(const std::string& text, bool global, Extension& extension) const {
  for (size_t at = 0; at < text.size();) {
    size_t length = 0, p = at;
    for (; p < text.size() && p - at < 8 && text[p] >= '0' && text[p] <= '9'; ++p)
      length = 10 * length + (text[p] - '0');
    const bool sound = p > at && p < text.size() && text[p] == ' ' && length > p - at + 2 &&
                       length <= text.size() - at && text[at + length - 1] == '\n';
    const size_t equals = sound ? text.find('=', p) : std::string::npos;
    if (equals == std::string::npos || equals >= at + length) refuse("a pax header is malformed");
    pax_record(text.substr(p + 1, equals - p - 1), text.substr(equals + 1, at + length - equals - 2), global,
               extension);
    at += length;
  }
}

void TarReader::pax_record(const std::string& key, const std::string& value, bool global, Extension& extension) const {
  if (key.compare(0, 11, "GNU.sparse.") == 0) {
    refuse("a member is a sparse file (" + in_quotes(key) + ")", "pack it anew with regular files only");
  }
  if (key != "path" && key != "size") return;
  if (global) refuse("a global pax header sets the " + key + " of all members");
  if (key == "path") {
    if (value.empty() || value.find('\0') != std::string::npos) refuse("a pax header has an empty or broken path");
    extension.name = value;
    extension.has_name = true;
    return;
  }
  if (value.empty() || value.size() > 18 || value.find_first_not_of("0123456789") != std::string::npos) {
    refuse("a pax header has the impossible size " + in_quotes(value));
  }
  extension.size = std::stoull(value);
  extension.has_size = true;
}

TarFile::TarFile(const std::string& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  CHECK(descriptor_ >= 0, path, ": cannot be opened (", std::strerror(errno), ")",
        errno == EMFILE ? "; raise the limit on open files (ulimit -n) or make fewer, larger shards" : "");
  struct stat status;
  const bool regular = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  if (!regular) ::close(descriptor_);
  CHECK(regular, path, ": is no regular file");
  size_ = static_cast<uint64_t>(status.st_size);
}

TarFile::~TarFile() { ::close(descriptor_); }

void TarFile::read(uint64_t at, void* to, uint64_t count) const {
  for (auto place = static_cast<char*>(to); count > 0;) {
    const ssize_t got = ::pread(descriptor_, place, count, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    CHECK(got >= 0, path_, ": cannot be read (", std::strerror(errno), ")");
    CHECK(got > 0, path_, ": became shorter while it was in use; start again");
    place += got;
    at += static_cast<uint64_t>(got);
    count -= static_cast<uint64_t>(got);
  }
}

TarReader TarFile::reader(uint64_t begin) const {
  return TarReader(
      path_, size_, [this](uint64_t at, void* to, uint64_t count) { read(at, to, count); }, begin);
}

std::string tar_header(const std::string& name, uint64_t size) {
  CHECK(!name.empty() && name.size() <= kName.size, "a member of a tar archive cannot be called ", in_quotes(name),
        ": names have 1 to ", kName.size, " bytes here");
  CHECK(size < uint64_t{1} << 33, name, ": ", size, " bytes are too many for a member of a tar archive");
  std::string block(kTarBlock, '\0');
  const auto put = [&](Field field, const std::string& text) { block.replace(field.at, text.size(), text); };
  const auto put_octal = [&](Field field, uint64_t value) {
    std::string digits(field.size - 1, '0');
    for (size_t i = digits.size(); i-- > 0; value >>= 3) digits[i] = static_cast<char>('0' + (value & 7));
    put(field, digits);
  };
  put(kName, name);
  put_octal(kMode, 0644);
  put_octal(kUser, 0);
  put_octal(kGroup, 0);
  put_octal(kSize, size);
  put_octal(kTime, 0);
  put(kMagic, "ustar");
  put(kVersion, "00");
  block[kType] = '0';
  put_octal({kCheckSum.at, 7}, check_sum(reinterpret_cast<const uint8_t*>(block.data())));
  block[kCheckSum.at + 7] = ' ';  // the customary six digits, a zero and a blank
  return block;
}

std::string tar_member(const std::string& name, const std::string& content) {
  std::string bytes = tar_header(name, content.size()) + content;
  bytes.resize(kTarBlock + padded(content.size()), '\0');
  return bytes;
}

std::string tar_end() { return std::string(2 * kTarBlock, '\0'); }

}  // namespace entangle

#include "tools/common/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

#include "engine/check.h"
#include "engine/crc32.h"
#include "tools/common/config.h"
#include "tools/common/progress.h"
#include "tools/common/protobuf.h"

namespace entangle {
namespace {

constexpr const char* kPrefix = "events.out.tfevents.";
constexpr size_t kFrameHead = 12, kFrameTail = 4;

// Field numbers of event.proto, summary.proto, tensor.proto and their like in TensorFlow. Numbers are unique within a
// message only, hence the names.
namespace event {
enum { wall_time = 1, step = 2, file_version = 3, summary = 5, session = 7 };
}
namespace session {
enum { status = 1 };
enum Status { start = 1 };
}  // namespace session
namespace summary {
enum { value = 1 };
}
namespace value {
enum { tag = 1, number = 2, tensor = 8, metadata = 9 };
}
namespace metadata {
enum { plugin = 1 };
}
namespace plugin {
enum { name = 1 };
}
namespace tensor {
enum { type = 1, shape = 2, text = 8 };
enum Type { type_string = 7 };
}  // namespace tensor

std::string little_endian(uint64_t number, size_t bytes) {
  std::string out;
  for (size_t i = 0; i < bytes; ++i) out += static_cast<char>(number >> (8 * i));
  return out;
}

uint64_t number_at(const std::string& text, size_t at, size_t bytes) {
  uint64_t number = 0;
  for (size_t i = bytes; i > 0; --i) number = number << 8 | static_cast<uint8_t>(text[at + i - 1]);
  return number;
}

uint32_t masked_check_sum(const char* bytes, size_t size) {
  const uint32_t crc = crc32c(reinterpret_cast<const uint8_t*>(bytes), size);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

ProtobufMessage event_at(int64_t step) {
  ProtobufMessage out;
  out.real64(event::wall_time, seconds_now());
  out.integer(event::step, step);
  return out;
}

ProtobufMessage message_of(const BoardScalar& scalar) {
  ProtobufMessage out;
  out.text(value::tag, scalar.tag);
  out.real(value::number, static_cast<float>(scalar.value));
  return out;
}

// A tensor without dimensions, and the name of the plugin that shows it.
ProtobufMessage message_of(const BoardText& text) {
  ProtobufMessage words, named, described, out;
  words.integer(tensor::type, tensor::type_string);
  words.message(tensor::shape, ProtobufMessage());
  words.text(tensor::text, text.markdown);
  named.text(plugin::name, "text");
  described.message(metadata::plugin, named);
  out.text(value::tag, text.tag);
  out.message(value::tensor, words);
  out.message(value::metadata, described);
  return out;
}

template <class T>
std::string framed_summary(int64_t step, const std::vector<T>& values) {
  ProtobufMessage all, out = event_at(step);
  for (const T& one : values) all.message(summary::value, message_of(one));
  out.message(event::summary, all);
  return framed_record(out.bytes());
}

// The files of a directory by their names, in which they are read.
std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename();
    if (name.rfind(kPrefix, 0) == 0) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The step of an event with points; none: another event.
std::optional<int64_t> step_of(const std::string& record, const std::string& path) {
  int64_t step = 0;
  bool has_points = false;
  ProtobufFields fields(record, path);
  while (fields.next()) {
    if (fields.field() == event::step) step = fields.integer();
    has_points = has_points || fields.field() == event::summary;
  }
  return has_points ? std::optional(step) : std::nullopt;
}

// The step of the last event with points, up to the first frame that is not whole, where TensorBoard stops too.
std::optional<int64_t> last_step(const std::string& path) {
  const std::string text = read_text_file(path);
  std::optional<int64_t> last;
  for (size_t at = 0; text.size() - at >= kFrameHead + kFrameTail;) {
    const uint64_t length = number_at(text, at, 8);
    if (masked_check_sum(&text[at], 8) != number_at(text, at + 8, 4)) break;
    if (length > text.size() - at - kFrameHead - kFrameTail) break;
    const size_t begin = at + kFrameHead, end = begin + static_cast<size_t>(length);
    if (masked_check_sum(&text[begin], end - begin) != number_at(text, end, 4)) break;
    const std::optional<int64_t> step = step_of(text.substr(begin, end - begin), path);
    if (step) last = step;
    at = end + kFrameTail;
  }
  return last;
}

// The time in a name orders the files: later than in any that is there, whatever the clock says.
std::string new_name(const std::string& directory) {
  long long time = static_cast<long long>(seconds_now());
  for (const std::string& name : names_in(directory)) {
    time = std::max(time, std::atoll(name.c_str() + std::strlen(kPrefix)) + 1);
  }
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) != 0 || host[0] == 0) std::strcpy(host, "localhost");
  return format("%s%010lld.%s.%lld", kPrefix, time, host, static_cast<long long>(getpid()));
}

}  // namespace

std::string framed_record(const std::string& record) {
  const std::string length = little_endian(record.size(), 8);
  return length + little_endian(masked_check_sum(length.data(), length.size()), 4) + record +
         little_endian(masked_check_sum(record.data(), record.size()), 4);
}

EventFiles::EventFiles(const std::string& directory, std::vector<BoardText> texts)
    : directory_(directory), texts_(std::move(texts)) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  CHECK(!error && std::filesystem::is_directory(directory), "cannot create the directory ", directory, ": ",
        error ? error.message() : "a file is in the way", "; move it away, or leave --tensorboard away");
  const std::vector<std::string> names = names_in(directory);
  for (auto name = names.rbegin(); name != names.rend() && last_ < 0; ++name) {
    last_ = last_step(directory + "/" + *name).value_or(-1);
  }
}

EventFiles::~EventFiles() {
  if (file_ >= 0) close(file_);
}

std::string EventFiles::begin_file(int64_t step) {
  path_ = directory_ + "/" + new_name(directory_);
  file_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
  CHECK(file_ >= 0, "cannot write ", path_, ": ", std::strerror(errno));
  ProtobufMessage version, status, start = event_at(step);
  version.real64(event::wall_time, seconds_now());
  version.text(event::file_version, "brain.Event:2");
  status.integer(session::status, session::start);
  start.message(event::session, status);
  const std::string session = framed_record(version.bytes()) + framed_record(start.bytes());
  return texts_.empty() ? session : session + framed_summary(step, texts_);
}

void EventFiles::add(int64_t step, const std::vector<BoardScalar>& scalars) {
  std::string bytes = file_ < 0 ? begin_file(step) : "";
  bytes += framed_summary(step, scalars);
  // All in one call: a process that is killed leaves whole records.
  const ssize_t written = write(file_, bytes.data(), bytes.size());
  CHECK(written == static_cast<ssize_t>(bytes.size()), "cannot write ", path_, ": ",
        std::strerror(written < 0 ? errno : ENOSPC));
}

void EventFiles::sync() { CHECK(file_ < 0 || fsync(file_) == 0, "cannot write ", path_, ": ", std::strerror(errno)); }

}  // namespace entangle

// Event files for TensorBoard: their bytes against a reader that shares no code with the writer.
#include <cmath>
#include <ctime>

#include "engine/crc32.h"
#include "engine/rng.h"
#include "tests/temporary_directory.h"
#include "tests/tools/event_reader.h"
#include "tools/common/tensorboard.h"

namespace entangle {
namespace {

uint32_t fast_crc32c(const std::string& bytes) {
  return crc32c(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

std::string random_bytes(size_t count, uint64_t seed) {
  Rng rng(seed, Stream::synthetic, 0);
  std::string out;
  while (out.size() < count) out += static_cast<char>(rng.below(256));
  return out;
}

TEST(Crc32c, IsThePublishedOne) {
  EXPECT_EQ(fast_crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(fast_crc32c(""), 0u);
  EXPECT_EQ(fast_crc32c("a"), 0xC1D04330u);
  // Those of RFC 3720, B.4.
  EXPECT_EQ(fast_crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(fast_crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  std::string rising;
  for (int i = 0; i < 32; ++i) rising += static_cast<char>(i);
  EXPECT_EQ(fast_crc32c(rising), 0x46DD794Eu);
  EXPECT_EQ(fast_crc32c({rising.rbegin(), rising.rend()}), 0x113FDB5Cu);
}

TEST(Crc32c, AgreesWithSlowOnesAtEveryLengthAndInParts) {
  for (size_t length = 0; length < 70; ++length) {
    const std::string bytes = random_bytes(length, length);
    const uint32_t want = slow_crc32c(bytes);
    EXPECT_EQ(long_division_crc32c(bytes), want) << length;
    EXPECT_EQ(fast_crc32c(bytes), want) << length;
    const size_t half = length / 3;
    const uint8_t* data = reinterpret_cast<const uint8_t*>(bytes.data());
    EXPECT_EQ(crc32c(data + half, length - half, crc32c(data, half)), want) << length;
  }
}

class Events : public testing::Test {
 protected:
  std::string only_file() const {
    const std::vector<std::string> files = event_files(board);
    EXPECT_EQ(files.size(), 1u);
    return files.at(0);
  }
  // A session with points at steps `first` .. `last`.
  void session(int64_t first, int64_t last, float value) const {
    EventFiles events(board, {{"note", concat("from ", first)}});
    for (int64_t step = first; step <= last; ++step) events.add(step, {{"loss", value}, {"a/b", 1e10}});
  }

  TemporaryDirectory dir;
  const std::string board = dir.path("new/board");
};

TEST_F(Events, HoldWhatWasAdded) {
  const double before = static_cast<double>(time(nullptr));
  const std::string text = "# Title\n\n| a | \xc3\xa9 |\n" + std::string(300, 'x');
  {
    EventFiles events(board, {{"config", text}, {"empty", ""}});
    EXPECT_TRUE(event_files(board).empty()) << "nothing to tell yet";
    events.sync();
    events.add(7, {{"loss", 1.0 / 3}, {"lr", -0.0}, {"big", 123456789012.0}});
    events.add(300, {{"loss", 0.25}});
    EXPECT_EQ(read_events(read_raw(only_file())).size(), 5u) << "whole before it is closed";
    events.sync();
  }
  const std::string name = std::filesystem::path(only_file()).filename();
  EXPECT_EQ(name.rfind("events.out.tfevents.", 0), 0u);
  EXPECT_EQ(name.find_first_not_of("0123456789", 20), 30u) << "ten digits, so that names sort as numbers do: " << name;
  const std::vector<ReadEvent> events = read_events(read_raw(only_file()));
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_TRUE(events[1].starts);
  EXPECT_EQ(events[1].step, 7);
  EXPECT_EQ(events[2].step, 7);
  EXPECT_EQ(events[2].texts, (std::vector<std::pair<std::string, std::string>>{{"config", text}, {"empty", ""}}));
  EXPECT_EQ(events[3].step, 7);
  EXPECT_EQ(events[3].scalars,
            (std::vector<std::pair<std::string, float>>{{"loss", 1.0f / 3}, {"lr", 0.0f}, {"big", 123456789012.0f}}));
  EXPECT_TRUE(std::signbit(events[3].scalars[1].second));
  EXPECT_EQ(events[4].step, 300);
  for (const ReadEvent& event : events) {
    EXPECT_GE(event.wall_time, before);
    EXPECT_LE(event.wall_time, before + 60);
  }
}

TEST_F(Events, OfALaterSessionReplaceFromTheirFirstStepOn) {
  session(1, 6, 1);
  EXPECT_EQ(EventFiles(board, {}).last(), 6);
  session(4, 5, 2);
  EXPECT_EQ(EventFiles(board, {}).last(), 5);
  const Shown all = shown(board);
  EXPECT_EQ(all.scalars.at("loss"), (std::vector<std::pair<int64_t, float>>{{1, 1}, {2, 1}, {3, 1}, {4, 2}, {5, 2}}));
  EXPECT_EQ(all.texts.at("note"), (std::vector<std::pair<int64_t, std::string>>{{1, "from 1"}, {4, "from 4"}}));
}

// Whatever the clock says.
TEST_F(Events, AreInFilesWhoseNamesSortAsTheSessionsFollow) {
  session(1, 1, 1);
  const std::string late = board + "/events.out.tfevents.4000000000.host.1";
  std::filesystem::rename(only_file(), late);
  session(2, 2, 2);
  session(3, 3, 3);
  const std::vector<std::string> files = event_files(board);
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(files[0], late);
  EXPECT_EQ(read_events(read_raw(files[1])).at(3).step, 2);
  EXPECT_EQ(read_events(read_raw(files[2])).at(3).step, 3);
}

TEST_F(Events, ThatEndAnywhereTellUpToTheLastWholeOne) {
  session(1, 3, 1);
  const std::string path = only_file(), bytes = read_raw(path);
  const std::vector<ReadEvent> all = read_events(bytes);
  ASSERT_EQ(all.size(), 6u);
  size_t most = 0;
  const auto expect_last = [&](const std::string& content, const std::string& what) {
    write_raw(path, content);
    const std::vector<ReadEvent> left = read_events(content);
    most = std::max(most, left.size());
    const bool has_points = left.size() > 2;  // the version, the session's start, texts at its step
    EXPECT_EQ(EventFiles(board, {}).last(), has_points ? left.back().step : -1) << what;
  };
  for (size_t length = 0; length <= bytes.size(); ++length) {
    expect_last(bytes.substr(0, length), concat("cut to ", length));
  }
  EXPECT_EQ(most, all.size());
  for (size_t at = 0; at < bytes.size(); at += 7) {
    std::string wrong = bytes;
    wrong[at] = static_cast<char>(wrong[at] ^ 0x41);
    expect_last(wrong, concat("another byte at ", at));
  }
  expect_last(bytes + std::string(100, '\0'), "zeros behind it");
  // What follows a broken file is told all the same.
  write_raw(path, bytes.substr(0, bytes.size() - 5));
  session(3, 4, 2);
  EXPECT_EQ(shown(board).scalars.at("loss"), (std::vector<std::pair<int64_t, float>>{{1, 1}, {2, 1}, {3, 2}, {4, 2}}));
}

TEST_F(Events, NameWhatIsInTheWay) {
  write_raw(dir.path("new"), "");
  expect_error(error_of([&] { EventFiles(board, {}); }), {board, "--tensorboard"});
  const std::string foreign = dir.path("events.out.tfevents.1.host");
  write_raw(foreign, framed_record("\x0b"));
  expect_error(error_of([&] { EventFiles(dir.root(), {}); }), {foreign, "byte 0", "another kind"});
}

}  // namespace
}  // namespace entangle

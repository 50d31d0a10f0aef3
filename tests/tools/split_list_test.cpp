// Search splits as lists: reading, writing, what is refused; make_split; and a run that keeps to its list.
#include "data/split_list.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <sstream>
#include <utility>

#include "nn/checkpoint.h"
#include "tests/files.h"
#include "tests/tools/programs_fixture.h"
#include "tools/common/models.h"

namespace entangle {
namespace {

class Named : public Dataset {
 public:
  explicit Named(std::vector<std::string> names, int64_t classes = 2) : names_(std::move(names)), classes_(classes) {}
  int64_t size() const override { return static_cast<int64_t>(names_.size()); }
  int64_t classes() const override { return classes_; }
  int64_t channels() const override { return 3; }
  int64_t label(int64_t index) const override { return index % classes_; }
  std::string name(int64_t index) const override { return names_[static_cast<size_t>(index)]; }
  void get(int64_t, Image&) const override { RAISE("a split needs no images"); }

 private:
  std::vector<std::string> names_;
  int64_t classes_;
};

class SplitList : public testing::Test {
 protected:
  Split read(const std::string& text) const {
    write_raw(path, text);
    return read_split_list(path, data);
  }
  void expect_refused(const std::string& text, const std::vector<std::string>& parts) const {
    std::vector<std::string> all = {path};
    all.insert(all.end(), parts.begin(), parts.end());
    entangle::expect_error(error_of([&] { read(text); }), all);
  }

  TemporaryDirectory dir;
  std::string path = dir.path("split.txt");
  Named data{{"ant/1.png", "bee/2.png", "ant/3.png", "#odd/4.png", "7", "bee/x y.png"}};
};

TEST_F(SplitList, NamesOrIndices) {
  const Split split = read("# a comment\n\nbee/x y.png\r\n1\nant/1.png");
  EXPECT_EQ(split.held_out, (std::vector<int64_t>{0, 1, 5}));
  EXPECT_EQ(split.train, (std::vector<int64_t>{2, 3, 4}));
  EXPECT_EQ(read("7\n").held_out, std::vector<int64_t>{4}) << "a name is a name even where it is a number";
}

TEST_F(SplitList, WhatIsWrittenIsRead) {
  const std::vector<int64_t> held_out = {0, 3, 4, 5};
  write_split_list(path, data, held_out, "why");
  EXPECT_EQ(read_split_list(path, data).held_out, held_out);
  EXPECT_EQ(read_raw(path).rfind("# why\n# data: 6 images, 2 classes, fingerprint ", 0), 0u) << read_raw(path);
  EXPECT_NE(read_raw(path).find("\nant/1.png\n3\n7\nbee/x y.png\n"), std::string::npos) << read_raw(path);
  EXPECT_EQ(read_split_record(write_split_record(data, held_out), data, "it").held_out, held_out);
  EXPECT_EQ(read_split_record(write_split_record(data, {}), data, "it").train.size(), 6u);
}

TEST_F(SplitList, WhatIsWrongIsNamed) {
  expect_refused("ant/1.png\nant/2.png\n", {"line 2", "\"ant/2.png\"", "6 training images"});
  expect_refused("6\n", {"line 1", "\"6\""});
  expect_refused("-1\n", {"line 1", "\"-1\""});
  expect_refused("1\nbee/2.png\n", {"image 1", "bee/2.png", "twice"});
  expect_refused("# nothing\n", {"lists no images"});
  expect_refused("0\n1\n2\n3\n7\n5\n", {"holds out all 6"});
  expect_error(error_of([&] { read_split_list(dir.path("none"), data); }), {"none", "No such file"});
  expect_error(error_of([&] { read_split_record("6 images", data, "it"); }), {"it", "record", "broken"});
  std::string record = write_split_record(data, {1, 2});
  expect_error(error_of([&] { read_split_record(record + " x", data, "it"); }), {"it", "\"x\""});
  expect_error(error_of([&] { read_split_record(record + " 6", data, "it"); }), {"it", "image 6", "6 training images"});
}

TEST_F(SplitList, AnotherDataSetsListIsRefused) {
  write_split_list(path, data, {1, 2}, "why");
  const Named renamed({"ant/1.png", "bee/2.png", "ant/3.png", "#odd/4.png", "8", "bee/x y.png"});
  const Named classes({"ant/1.png", "bee/2.png", "ant/3.png", "#odd/4.png", "7", "bee/x y.png"}, 3);
  const Named fewer({"ant/1.png", "bee/2.png", "ant/3.png", "#odd/4.png", "7"});
  for (const Named* other : {&renamed, &classes, &fewer}) {
    expect_error(error_of([&] { read_split_list(path, *other); }),
                 {path, "other training data", "6 images, 2 classes"});
    expect_error(error_of([&] { read_split_record(write_split_record(data, {1}), *other, "it"); }), {"it", "other"});
  }
}

TEST(ClassSplit, EquallyManyOfEachClass) {
  std::vector<std::string> names(60);
  const Named data(names, 6);
  const Split split = make_class_split(data, 3, 1);
  std::vector<int64_t> count(6, 0);
  for (const int64_t i : split.held_out) ++count[static_cast<size_t>(data.label(i))];
  EXPECT_EQ(count, std::vector<int64_t>(6, 3));
  EXPECT_EQ(split.train.size(), 42u);
  EXPECT_NE(make_class_split(data, 3, 2).held_out, split.held_out);
  expect_error(error_of([&] { make_class_split(data, 10, 1); }), {"10 images of class 0", "has 10"});
  expect_error(error_of([&] { make_class_split(data, 0, 1); }), {"hold out 0"});
}

class SplitPrograms : public Programs {
 protected:
  std::vector<std::string> make_split_command(const std::vector<std::string>& more) const {
    std::vector<std::string> command = {"make_split", "--data", "fashion-mnist:" + dir.path("data")};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }
  std::string list() const { return dir.path("split.txt"); }
  // A run that holds out 40 images other than those that it would draw.
  void train_on_list(const std::vector<std::string>& more = {}) const {
    const Outcome made = run(make_split_command({"--count", "40", "--seed", "9", "--output", list()}));
    ASSERT_EQ(made.status, 0) << made.err;
    std::vector<std::string> settings = {"--set", "DATA.split=" + list()};
    settings.insert(settings.end(), more.begin(), more.end());
    expect_trains("run", settings);
  }
  std::vector<int64_t> recorded(const Dataset& train) const {
    const auto metadata = read_checkpoint_metadata(checkpoint("run"));
    return read_split_record(metadata.at(kSplitRecord), train, "it").held_out;
  }
};

TEST_F(SplitPrograms, MakeSplitWritesWhatWasAskedFor) {
  const Outcome help = run({"make_split", "--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_NE(help.out.find("Examples:\n  ./make_split"), std::string::npos) << help.out;
  EXPECT_EQ(run({"make_split"}).status, 2);
  EXPECT_EQ(run(make_split_command({"--count", "1", "--per-class", "1", "--output", list()})).status, 2);
  const DataSource source = open_data("fashion-mnist:" + dir.path("data"));
  const Outcome made = run(make_split_command({"--count", "40", "--seed", "9", "--output", list()}));
  EXPECT_EQ(made.status, 0) << made.err;
  EXPECT_NE(made.out.find("40 of 120 training images held out"), std::string::npos) << made.out;
  EXPECT_EQ(read_split_list(list(), *source.train).held_out, make_split(*source.train, 40, 9).held_out);
  EXPECT_EQ(run(make_split_command({"--per-class", "5", "--output", list()})).status, 0);
  EXPECT_EQ(read_split_list(list(), *source.train).held_out, make_class_split(*source.train, 5, 0).held_out);
  expect_user_error(make_split_command({"--output", list()}), {"--count", "--per-class"});
  expect_user_error(make_split_command({"--count", "120", "--output", list()}), {"hold out 120 of 120"});
  expect_user_error(make_split_command({"--per-class", "12", "--output", list()}), {"class 0", "has 12"});
  expect_user_error(make_split_command({"--count", "5", "--output", dir.path("no/where")}), {"no/where"});
}

TEST_F(SplitPrograms, TheRunKeepsToItsList) {
  train_on_list({"--epochs", "2"});
  const DataSource source = open_data("fashion-mnist:" + dir.path("data"));
  const std::vector<int64_t> held_out = make_split(*source.train, 40, 9).held_out;
  EXPECT_EQ(recorded(*source.train), held_out);
  ASSERT_NE(held_out, make_split(*source.train, 40, 0).held_out);
  const LoadedModel model = load_model(checkpoint("run"), "", DeviceKind::cpu);
  EXPECT_EQ(ranking_images(model.config, source), held_out) << "search ranks on what training left out";
  // The record is the run's own: the list may go.
  std::filesystem::remove(list());
  const Outcome found = run({"search_subnets", "--run", dir.path("run")});
  EXPECT_EQ(found.status, 0) << found.err;
  EXPECT_NE(found.out.find("on 40 held-out images"), std::string::npos) << found.out;
  EXPECT_EQ(run(train("run", {"--epochs", "2", "--resume", "--set", "DATA.split=" + list()})).status, 0);
}

TEST_F(SplitPrograms, WhatTrainingSawDoesNotRank) {
  train_on_list({"--epochs", "1"});
  const auto with = [&](const std::string& setting) {
    return std::vector<std::string>{"search_subnets", "--run", dir.path("run"), "--set", setting};
  };
  expect_user_error(with("DATA.split=" + dir.path("other.txt")), {"DATA.split=" + list(), "the same images"});
  expect_user_error(with("SEARCH.images=41"), {"41 images", "held out 40"});
  expect_user_error(train("other", {"--set", "DATA.split=" + dir.path("other.txt")}), {"other.txt", "No such file"});
  // Data of another size under the same name.
  write_idx(dir.path("data"), "train", kTrain - 10);
  expect_user_error({"search_subnets", "--run", dir.path("run")},
                    {"the checkpoint", "other training data", "120 images"});
  expect_user_error(train("third", {"--set", "DATA.split=" + list()}), {list(), "other training data"});
}

TEST_F(SplitPrograms, AnInterruptedRunResumesToTheSameBits) {
  train_on_list();
  const std::string whole = read_raw(checkpoint("run"));
  std::filesystem::remove_all(dir.path("run"));
  const std::vector<std::string> settings = {"--set", "DATA.split=" + list()};
  {
    Running running(dir.root(), train("run", settings));
    ASSERT_TRUE(wait_for_lines(dir.path("run/log.jsonl"), kSteps / 2));
    running.signal(SIGINT);
    EXPECT_EQ(running.wait().status, 0);
  }
  std::filesystem::remove(list());
  std::vector<std::string> resumed = settings;
  resumed.push_back("--resume");
  expect_trains("run", resumed);
  EXPECT_TRUE(read_raw(checkpoint("run")) == whole);
}

}  // namespace
}  // namespace entangle

// A run's directory: its lock, and the log that a resume cuts.
#include "tools/common/run_directory.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "engine/check.h"
#include "tests/files.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

TEST(RunDirectory, IsCreatedWithItsParents) {
  TemporaryDirectory dir;
  const RunDirectory run(dir.path("a/b"));
  EXPECT_EQ(run.config_file(), dir.path("a/b/config.yaml"));
  EXPECT_TRUE(run.has("lock"));
  EXPECT_FALSE(run.has("config.yaml"));
}

TEST(RunDirectory, BelongsToOneHolderAtATime) {
  TemporaryDirectory dir;
  auto run = std::make_unique<RunDirectory>(dir.path("run"));
  expect_error(error_of([&] { RunDirectory second(dir.path("run")); }),
               {dir.path("run"), "in use by process " + std::to_string(getpid()), "--output"});
  run.reset();
  EXPECT_NO_THROW(RunDirectory(dir.path("run")));
}

TEST(RunDirectory, DeadProcessDoesNotHoldTheLock) {
  TemporaryDirectory dir;
  const pid_t child = fork();
  if (child == 0) {
    const RunDirectory run(dir.path("run"));
    raise(SIGKILL);
  }
  waitpid(child, nullptr, 0);
  ASSERT_TRUE(std::filesystem::exists(dir.path("run/lock")));
  EXPECT_NO_THROW(RunDirectory(dir.path("run")));
}

TEST(RunDirectory, WhatWasNotBegunLeavesNoTrace) {
  TemporaryDirectory dir;
  {
    const RunDirectory run(dir.path("a/b/run"));
    RunLog log(run.file("log.jsonl"), 0);
  }
  EXPECT_FALSE(std::filesystem::exists(dir.path("a")));
  std::filesystem::create_directory(dir.path("mine"));
  { const RunDirectory run(dir.path("mine/run/")); }
  { const RunDirectory run(dir.path("mine")); }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path("mine"))) << "what was there stays";
  for (const char* name : {"config.yaml", "log.jsonl", "notes"}) {
    {
      const RunDirectory run(dir.path(name));
      write_raw(run.file(name), "x");
    }
    EXPECT_EQ(read_raw(dir.path(concat(name, "/", name))), "x");
    EXPECT_TRUE(std::filesystem::exists(dir.path(concat(name, "/lock"))));
  }
}

// Many take, fill and leave one directory at once: nobody works in it beside another.
TEST(RunDirectory, RemovingTheLockLetsNoTwoIn) {
  TemporaryDirectory dir;
  std::atomic<int> inside{0}, got_in{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 300; ++turn) {
        try {
          const RunDirectory run(dir.path("run"));
          EXPECT_EQ(++inside, 1);
          ++got_in;
          std::this_thread::yield();
          --inside;
        } catch (const Error&) {  // it is in use, or was removed before it could be locked
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(got_in, 0);
  EXPECT_FALSE(std::filesystem::exists(dir.path("run/lock")));
}

TEST(RunDirectory, RemovesWhatAKilledWriterLeft) {
  TemporaryDirectory dir;
  for (const char* name : {"checkpoint.safetensors.123.tmp", "notes.tmp", "a.12x.tmp", "log.jsonl"}) {
    write_raw(dir.path(name), "x");
  }
  const RunDirectory run(dir.root());
  EXPECT_FALSE(run.has("checkpoint.safetensors.123.tmp"));
  for (const char* name : {"notes.tmp", "a.12x.tmp", "log.jsonl"}) EXPECT_TRUE(run.has(name)) << name;
}

TEST(RunDirectory, UnwritablePlacesAreNamed) {
  TemporaryDirectory dir;
  write_raw(dir.path("file"), "");
  expect_error(error_of([&] { RunDirectory run(dir.path("file")); }), {dir.path("file"), "--output"});
  expect_error(error_of([&] { RunDirectory run(dir.path("file/run")); }), {"cannot create", dir.path("file/run")});
  std::filesystem::create_directories(dir.path("run/lock"));
  expect_error(error_of([&] { RunDirectory run(dir.path("run")); }), {"cannot write in", dir.path("run")});
}

std::string line(int step) { return "{\"step\":" + std::to_string(step) + ",\"loss\":0.5}"; }

// What is left of a log with this content after opening it at `step`.
std::string cut(const std::string& content, int64_t step) {
  TemporaryDirectory dir;
  write_raw(dir.path("log.jsonl"), content);
  RunLog log(dir.path("log.jsonl"), step);
  return read_raw(dir.path("log.jsonl"));
}

TEST(RunLog, ResumeCutsLaterStepsAndTornLines) {
  const std::string two = line(1) + "\n" + line(2) + "\n";
  EXPECT_EQ(cut(two + line(3) + "\n", 2), two);
  EXPECT_EQ(cut(two, 2), two);
  EXPECT_EQ(cut(two, 0), "");
  EXPECT_EQ(cut(two + line(3).substr(0, 9), 7), two) << "a torn last line";
  EXPECT_EQ(cut(two + line(3), 7), two) << "a last line without its end";
  EXPECT_EQ(cut(two + std::string(5, '\0') + "\n", 7), two) << "zeros after a power cut";
  EXPECT_EQ(cut("", 3), "");
}

TEST(RunLog, BrokenLinesInTheMiddleAreNotThrownAway) {
  expect_error(error_of([] { cut(line(1) + "\n{\"loss\":1}\n" + line(2) + "\n", 5); }), {"log.jsonl", "line 2"});
  expect_error(error_of([] { cut("nonsense\n" + line(2) + "\n", 5); }), {"line 1"});
}

TEST(RunLog, AppendsAfterTheCut) {
  TemporaryDirectory dir;
  write_raw(dir.path("log"), line(1) + "\n" + line(2) + "\n");
  {
    RunLog log(dir.path("log"), 1);
    log.append(line(2));
    log.sync();
  }
  EXPECT_EQ(read_raw(dir.path("log")), line(1) + "\n" + line(2) + "\n");
  expect_error(error_of([&] { RunLog log(dir.root(), 0); }), {dir.root(), "directory"});
}

// A limit on the size of files stands for a full disk.
TEST(RunLog, FullDiskIsAnError) {
  TemporaryDirectory dir;
  RunLog log(dir.path("log"), 0);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {10, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = error_of([&] { log.append(line(1)); });
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  expect_error(message, {"cannot write", dir.path("log")});
}

}  // namespace
}  // namespace entangle

// Runs every test; with ENTANGLE_TEST_JOBS=N, and no filter, in N processes side by side, each a part of them,
// and at the end those that judge times (Timed.*) on their own. The last line says how many
// passed and failed; a run without a test is a failure, and so is a process that dies.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

struct Counts {
  int passed = 0, failed = 0, skipped = 0;

  void operator+=(const Counts& other) {
    passed += other.passed;
    failed += other.failed;
    skipped += other.skipped;
  }
};

constexpr const char* kLine = "%d passed, %d failed, %d skipped";

int report(const Counts& all) {
  std::fflush(stderr);
  std::printf("%d passed, %d failed", all.passed, all.failed);
  if (all.skipped > 0) std::printf(", %d skipped", all.skipped);
  std::printf("\n");
  return all.failed > 0 || all.passed == 0 ? 1 : 0;
}

// Counts over all iterations of --gtest_repeat, which the library's own totals forget.
class Listener : public testing::EmptyTestEventListener {
 public:
  explicit Listener(Counts& counts) : counts_(counts) {}
  void OnTestEnd(const testing::TestInfo& info) override {
    const testing::TestResult& result = *info.result();
    ++(result.Failed() ? counts_.failed : result.Skipped() ? counts_.skipped : counts_.passed);
  }
  // A failure outside of any test, in a fixture of a whole suite.
  void OnTestSuiteEnd(const testing::TestSuite& suite) override {
    counts_.failed += suite.ad_hoc_test_result().Failed();
  }

 private:
  Counts& counts_;
};

Counts run_tests() {
  Counts counts;
  testing::UnitTest::GetInstance()->listeners().Append(new Listener(counts));  // which the library deletes
  if (RUN_ALL_TESTS() != 0 && counts.failed == 0) ++counts.failed;
  return counts;
}

bool begins(const std::string& line, const char* with) { return line.rfind(with, 0) == 0; }

// A process that runs a part of the tests, and what it printed of a test that has not ended.
class Part {
 public:
  Part(int index, int count) {
    int ends[2];
    if (pipe(ends) != 0) std::abort();
    std::fflush(stdout);
    process_ = fork();
    if (process_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      dup2(ends[1], STDERR_FILENO);
      close(ends[0]);
      close(ends[1]);
      setenv("GTEST_TOTAL_SHARDS", std::to_string(count).c_str(), 1);
      setenv("GTEST_SHARD_INDEX", std::to_string(index).c_str(), 1);
      const Counts counts = run_tests();
      std::fflush(stderr);
      std::printf((std::string("\n") + kLine + "\n").c_str(), counts.passed, counts.failed, counts.skipped);
      std::fflush(stdout);
      std::exit(0);
    }
    close(ends[1]);
    output_ = ends[0];
  }

  int output() const { return output_; }

  // Takes what there is to read; false at its end.
  bool read_some() {
    char bytes[4096];
    const ssize_t got = read(output_, bytes, sizeof bytes);
    for (ssize_t i = 0; i < got; ++i) {
      line_ += bytes[i];
      if (bytes[i] == '\n') end_line();
    }
    return got > 0;
  }

  // Waits for its end.
  Counts counts() {
    close(output_);
    int status = 0;
    waitpid(process_, &status, 0);
    if (status == 0 && told_) return counts_;
    block_ += line_;
    print();
    if (WIFSIGNALED(status)) std::printf("a process of the tests died: %s\n", strsignal(WTERMSIG(status)));
    if (!WIFSIGNALED(status)) std::printf("a process of the tests ended with status %d\n", WEXITSTATUS(status));
    ++counts_.failed;
    return counts_;
  }

 private:
  void end_line() {
    Counts counts;
    if (std::sscanf(line_.c_str(), kLine, &counts.passed, &counts.failed, &counts.skipped) == 3) {
      counts_ = counts;
      told_ = true;
      print();
    } else {
      block_ += line_;
      if (begins(line_, "[       OK ]") || begins(line_, "[  FAILED  ]") || begins(line_, "[  SKIPPED ]")) print();
    }
    line_.clear();
  }
  void print() {
    std::fputs(block_.c_str(), stdout);
    std::fflush(stdout);
    block_.clear();
  }

  pid_t process_ = 0;
  int output_ = 0;
  std::string line_, block_;
  Counts counts_;
  bool told_ = false;
};

void add_parts(int count, Counts& all) {
  std::vector<Part> parts;
  std::vector<pollfd> open;
  for (int i = 0; i < count; ++i) {
    parts.emplace_back(i, count);
    open.push_back({parts.back().output(), POLLIN, 0});
  }
  for (int running = count; running > 0;) {
    poll(open.data(), open.size(), -1);
    for (size_t i = 0; i < open.size(); ++i) {
      if (open[i].revents == 0 || parts[i].read_some()) continue;
      open[i].fd = -1;
      open[i].revents = 0;
      --running;
    }
  }
  for (Part& part : parts) all += part.counts();
}

Counts run_in_parts(int count) {
  Counts all;
  testing::GTEST_FLAG(filter) = "-Timed.*";
  add_parts(count, all);
  testing::GTEST_FLAG(filter) = "Timed.*";
  add_parts(1, all);
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  const char* const jobs = std::getenv("ENTANGLE_TEST_JOBS");
  const int parts = jobs == nullptr || testing::GTEST_FLAG(filter) != "*" ? 1 : std::atoi(jobs);
  return report(parts > 1 ? run_in_parts(parts) : run_tests());
}

// The pages of docs/course print what their code prints, the checker sees what does not, and what pages point to is there.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <string>
#include <vector>

#include "tests/files.h"
#include "tests/shell.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

const std::string kCourse = "docs/course/";

// Every page of the course but its table of contents.
std::vector<std::string> lessons() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kCourse)) {
    if (entry.path().extension() == ".md" && entry.path().stem() != "README") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

ShellResult check(const std::string& arguments) { return run_shell(kCourse + "check.sh " + arguments); }
// The same for pages that need no library.
ShellResult check_alone(const std::string& arguments) {
  return run_shell("ENTANGLE_LINK= " + kCourse + "check.sh " + arguments);
}

class Lesson : public testing::TestWithParam<std::string> {
 protected:
  std::string path() const { return kCourse + GetParam() + ".md"; }
};

// A page's program runs in the ordinary build, and once more, with its cuda blocks, where kernels run on the emulated device.
TEST_P(Lesson, PrintsWhatItSays) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "pages run in the builds without sanitizers; what they call is tested under them elsewhere";
#elif defined(ENTANGLE_CUDA_EMULATED)
  if (read_raw(path()).find("\n```cuda\n") == std::string::npos) GTEST_SKIP() << "no kernel on this page";
#endif
  const ShellResult result = check(path());
  EXPECT_EQ(result.status, 0) << result.text;
}

// The words between backticks on a line.
std::vector<std::string> quoted(const std::string& line) {
  std::vector<std::string> words;
  for (size_t at = 0; (at = line.find('`', at)) != std::string::npos;) {
    const size_t end = line.find('`', at + 1);
    if (end == std::string::npos) break;
    words.push_back(line.substr(at + 1, end - at - 1));
    at = end + 1;
  }
  return words;
}

// A list's line that begins with a file: every file on it exists, and each name behind it, without its scope, stands in it.
TEST_P(Lesson, PointsToWhatExists) {
  int pointers = 0;
  for (const std::string& line : lines_of(read_raw(path()))) {
    if (line.rfind("- `", 0) != 0 || quoted(line)[0].find('/') == std::string::npos) continue;
    std::string file, text;
    for (const std::string& word : quoted(line)) {
      if (word.find('/') != std::string::npos) {
        ASSERT_TRUE(std::filesystem::exists(word)) << path() << " points to " << word;
        file = word, text = read_raw(word);
        ++pointers;
        continue;
      }
      const size_t scope = word.rfind("::");
      const std::string name = scope == std::string::npos ? word : word.substr(scope + 2);
      EXPECT_NE(text.find(name), std::string::npos) << path() << ": there is no " << name << " in " << file;
    }
  }
  EXPECT_GE(pointers, 2) << path();
}

// The page without its blocks.
std::string words_of(const std::string& page) {
  std::string words;
  bool inside = false;
  for (const std::string& line : lines_of(page)) {
    const bool fence = line.rfind("```", 0) == 0;
    if (!fence && !inside) words += line + "\n";
    inside = inside != fence;
  }
  return words;
}

TEST_P(Lesson, IsShortAndLinksToWhatExists) {
  const std::string page = read_raw(path()), words = words_of(page);
  EXPECT_LE(lines_of(page).size(), 250u) << path();
  int links = 0;
  for (size_t at = 0; (at = words.find("](", at)) != std::string::npos; at += 2, ++links) {
    const std::string target = words.substr(at + 2, words.find(')', at) - at - 2);
    if (target.rfind("http", 0) == 0) continue;
    EXPECT_TRUE(std::filesystem::exists(kCourse + target)) << path() << " links to " << target;
  }
  EXPECT_GE(links, 1) << path();
}

INSTANTIATE_TEST_SUITE_P(Course, Lesson, testing::ValuesIn(lessons()), [](const auto& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

TEST(Course, ContentsNameEveryLesson) {
  const std::string contents = read_raw(kCourse + "README.md");
  ASSERT_GE(lessons().size(), 8u);
  for (const std::string& name : lessons()) EXPECT_NE(contents.find("](" + name + ".md)"), std::string::npos) << name;
}

TEST(Course, FiguresAreWhatTheirProgramDraws) {
  const TemporaryDirectory dir;
  const ShellResult built = run_shell("$ENTANGLE_COMPILE " + kCourse + "figures.cpp -o " + dir.path("figures"));
  ASSERT_EQ(built.status, 0) << built.text;
  std::filesystem::create_directory(dir.path("drawn"));
  const ShellResult drawn = run_shell(dir.path("figures") + " " + dir.path("drawn"));
  ASSERT_EQ(drawn.status, 0) << drawn.text;
  ASSERT_EQ(files_in(dir.path("drawn")), files_in(kCourse + "figures"));
  for (const auto& entry : std::filesystem::directory_iterator(dir.path("drawn"))) {
    const std::string name = entry.path().filename();
    EXPECT_EQ(read_raw(entry.path()), read_raw(kCourse + "figures/" + name))
        << name << ": draw the figures again, as docs/course/figures.cpp says";
  }
}

// A page of one program in two parts and a shell block, and what the checker says when one thing is changed in it.
const std::string kPage = R"(# A page
```cpp
constexpr int numbers[] = {1, 2};
```
Words.
```cpp
for (int n : numbers) std::printf("number %d\n", n);
```
```output
number 1
number 2
```
```cpp
std::printf("%d", numbers[1]);
```

```output
2
```
```sh
echo from a shell > file
```
```sh
cat file
```
```output
from a shell
```
)";

struct Planted {
  std::string from, to;
  std::vector<std::string> said;
};

ShellResult check_planted(const TemporaryDirectory& dir, const Planted& fault) {
  std::string text = kPage;
  if (!fault.from.empty()) text.replace(text.find(fault.from), fault.from.size(), fault.to);
  write_raw(dir.path("page.md"), text);
  return check_alone(dir.path("page.md"));
}

TEST(CourseChecker, TakesAPageThatIsRight) {
  const TemporaryDirectory dir;
  const ShellResult result = check_planted(dir, {});
  EXPECT_EQ(result.status, 0) << result.text;
  EXPECT_EQ(result.text, dir.path("page.md") + ": 5 blocks run\n");
}

TEST(CourseChecker, NamesPageBlockAndLineOfWhatDiffers) {
  const TemporaryDirectory dir;
  for (const Planted& fault : std::vector<Planted>{
           {"number 2\n",
            "number 3\n",
            {"block 2 (cpp, line 6)", "line 2 of its output is \"number 2\"", "\"number 3\""}},
           {"number 2\n", "", {"block 2 (cpp, line 6)", "line 2 of its output is \"number 2\"", "says nothing"}},
           {"number 2\n", "number 2\nmore\n", {"block 2 ", "line 3 of its output is nothing", "says \"more\""}},
           {"```output\n2\n```\n", "", {"block 3 (cpp, line 13)", "line 1 of its output is \"2\"", "says nothing"}},
           {"from a shell\n```",
            "from a she11\n```",
            {"block 5 (sh, line 23)", "\"from a shell\"", "\"from a she11\""}},
           {"cat file", "false", {"block 5 (sh, line 23) ended with status 1"}},
           {"{1, 2};", "{1, 2;", {"page.md:3:", "the cpp blocks do not compile"}},
           {"std::printf(\"%d\"", "throw 1; std::printf(\"%d\"", {"ended with status 134 in block 3"}},
           {"file\n```\n```output", "file\n```\n```output\n```\n```output", {"line 28", "follows no block that runs"}},
           {"from a shell\n```\n", "from a shell\n", {"line 26", "no end"}},
       }) {
    const ShellResult result = check_planted(dir, fault);
    EXPECT_EQ(result.status, 1) << fault.from << ": " << result.text;
    EXPECT_NE(result.text.find("error: " + dir.path("page.md")), std::string::npos) << result.text;
    for (const std::string& part : fault.said)
      EXPECT_NE(result.text.find(part), std::string::npos) << part << " in " << result.text;
  }
}

TEST(CourseChecker, WritesWhatCameOutIntoThePage) {
  const TemporaryDirectory dir;
  std::string text = kPage;
  text.replace(text.find("number 1\nnumber 2"), 17, "to be seen");
  text.replace(text.find("```output\n2\n```\n"), 16, "");
  write_raw(dir.path("page.md"), text);
  ASSERT_EQ(check_alone("--update " + dir.path("page.md")).status, 0);
  const ShellResult result = check_alone(dir.path("page.md"));
  EXPECT_EQ(result.status, 0) << result.text;
  EXPECT_NE(read_raw(dir.path("page.md")).find("number 1\nnumber 2"), std::string::npos);
}

TEST(CourseChecker, RefusesWhatItCannotCheck) {
  const TemporaryDirectory dir;
  write_raw(dir.path("words.md"), "# Words\n\n```text\nnothing runs\n```\n");
  EXPECT_NE(check(dir.path("words.md")).text.find("there is no block that runs"), std::string::npos);
  EXPECT_EQ(check(dir.path("none.md")).text, "error: there is no page " + dir.path("none.md") + "\n");
  EXPECT_NE(run_shell("ENTANGLE_COMPILE= " + kCourse + "check.sh page.md").text.find("make course"), std::string::npos);
}

}  // namespace
}  // namespace entangle

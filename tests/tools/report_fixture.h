// A run directory written by hand, and the page about it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "engine/check.h"
#include "tests/files.h"
#include "tests/temporary_directory.h"
#include "tests/tools/page_checker.h"
#include "tools/common/report.h"

namespace entangle {

class Report : public testing::Test {
 protected:
  std::string directory(const std::string& name) {
    std::filesystem::create_directories(dir.path(name));
    return dir.path(name);
  }
  void write(const std::string& run, const std::string& file, const std::string& text) {
    write_raw(directory(run) + "/" + file, text);
  }

  static std::string step_line(int step, double loss, const Architecture& a, const std::string& more = "") {
    return concat("{\"step\":", step, ",\"epoch\":1,\"loss\":", loss, ",\"lr\":0.001,\"architecture\":", a.to_json(),
                  ",\"img_per_s\":100.5,\"memory\":1048576", more, "}\n");
  }
  static Architecture small() { return Architecture::uniform(1, 8, 1, 1); }
  static Architecture large() { return Architecture::uniform(2, 16, 2, 2); }

  // `steps` of falling loss, every other one large; with held-out accuracies at the end.
  static std::string log_text(int steps, const std::string& held_out, double slope = -1) {
    std::string text;
    for (int i = 1; i <= steps; ++i)
      text += step_line(i, 2 + slope * i / steps, i % 2 == 0 ? large() : small(),
                        i == steps ? ",\"held_out\":" + held_out : "");
    return text;
  }
  static std::string candidate_line(double accuracy, int64_t params, const std::string& more = "") {
    return concat("{\"accuracy\":", accuracy, ",\"activation_bytes\":10,\"architecture\":", large().to_json(),
                  ",\"generation\":0,\"images\":40,\"latency_ns\":0,\"macs\":", 2 * params, ",\"params\":", params,
                  ",\"stopped\":false", more, "}\n");
  }

  // The page is whole whatever the run; returns its words.
  std::string words_of(const std::vector<std::string>& runs) {
    std::vector<RunData> data;
    for (const std::string& run : runs) data.push_back(read_run(dir.path(run)));
    page = report_page(data);
    const PageChecker checker(page);
    EXPECT_EQ(checker.fault(), "");
    for (const char* broken : {">nan", ">inf", "\"nan", "-nan"})
      EXPECT_EQ(page.find(broken), std::string::npos) << broken;
    return checker.words();
  }
  static void expect_words(const std::string& words, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) EXPECT_NE(words.find(part), std::string::npos) << part << "\n in: " << words;
  }

  TemporaryDirectory dir;
  std::string page;
};

inline const char* const kHeader =
    R"({"format":"search log","format_version":2,"options":{"algorithm":"evolution","population":3,"generations":1,"max_params":9000,"objectives":"params,macs"},"space":{}})";

}  // namespace entangle

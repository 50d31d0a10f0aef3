// .ci/check_spills.sh on what ptxas wrote about four kernels, of which two spill (sm_80, held to 32 registers).
#include <gtest/gtest.h>

#include <string>

#include "tests/files.h"
#include "tests/shell.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

const std::string kFixture = "tests/golden/ptxas_spills.txt";

ShellResult check_spills(const std::string& arguments) { return run_shell(".ci/check_spills.sh " + arguments); }

TEST(CheckSpills, NamesTheKernelThatSpills) {
  const ShellResult result = check_spills(kFixture + " attention gelu");
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.text,
            "error: project::(anonymous namespace)::attention_forward_kernel<8> spills for sm_80: 648 bytes of stores, "
            "696 of loads\n");
}

TEST(CheckSpills, LooksAtTheKernelsOfTheListAlone) {
  const ShellResult result = check_spills(kFixture + " gelu");
  EXPECT_EQ(result.status, 0) << "other_kernel spills, too, but is not hot: " << result.text;
  EXPECT_EQ(result.text, "no spills in 1 compilations of gelu\n");
}

TEST(CheckSpills, TakesOneInstanceOfATemplate) {
  EXPECT_EQ(check_spills(kFixture + " 'attention_forward_kernel<8>'").status, 1);
  EXPECT_EQ(check_spills(kFixture + " 'attention_forward_kernel<1>'").status, 0);
  EXPECT_EQ(check_spills(kFixture + " 'attention_forward_kernel<2>'").text,
            "error: no kernel begins with attention_forward_kernel<2>\n");
}

TEST(CheckSpills, AnyByteCounts) {
  const TemporaryDirectory dir;
  std::string text = read_raw(kFixture);
  const std::string kernel = "19gelu_forward_kernelEPKfPf\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes";
  const size_t at = text.find(kernel);
  ASSERT_NE(at, std::string::npos);
  text[at + kernel.size() - 7] = '4';  // loads
  write_raw(dir.path("loads"), text);
  EXPECT_NE(
      check_spills(dir.path("loads") + " gelu").text.find("gelu_forward_kernel spills for sm_80: 0 bytes of stores, 4"),
      std::string::npos);
}

TEST(CheckSpills, RefusesWhatSaysNothing) {
  for (const std::string& arguments :
       {kFixture + " softmax", kFixture + " gelu forward_kernel", kFixture, std::string("none gelu")}) {
    const ShellResult result = check_spills(arguments);
    EXPECT_EQ(result.status, 1) << arguments;
    EXPECT_EQ(result.text.rfind("error: ", 0), 0u) << arguments << ": " << result.text;
  }
  const TemporaryDirectory dir;
  write_raw(dir.path("empty"), "");
  EXPECT_EQ(check_spills(dir.path("empty") + " gelu").text, "error: no kernel begins with gelu\n");
}

}  // namespace
}  // namespace entangle

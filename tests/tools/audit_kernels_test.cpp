// audit_kernels on the command line; what it audits and that errors turn rows red is tested in tests/ops/audit_test.cpp.
#include "tests/tools/programs_fixture.h"

namespace entangle {
namespace {

TEST_F(Programs, KernelsAreAuditedAsTextJsonAndHtml) {
  const Outcome outcome = run({"audit_kernels", "--device", "cpu", "--no-timing", "--kernel", "gelu_forward", "adamw",
                               "--json", "k.json", "--html", "k.html"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_NE(outcome.out.find("\ngelu_forward: y = x Phi(x)\n"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("engine/cpu/gelu.cpp:"), std::string::npos);
  EXPECT_NE(outcome.out.find("2 kernels, 0 wrong\n"), std::string::npos);
  const auto json = nlohmann::json::parse(read_raw(dir.path("k.json")));
  EXPECT_EQ(json["right"], true);
  EXPECT_EQ(json["kernels"][1]["name"], "gelu_forward");
  EXPECT_EQ(json["kernels"][1]["bytes"], 8 * 788 * 960);
  EXPECT_EQ(json["kernels"][1]["places"][0]["place"], "baseline");
  EXPECT_EQ(json["kernels"][1]["places"][0]["ms"], nullptr) << "not timed";
  EXPECT_EQ(read_raw(dir.path("k.html")).rfind("<!doctype html>", 0), 0u);
  expect_user_error({"audit_kernels", "--kernel", "gelu"}, {"no kernel gelu"});
  expect_user_error({"audit_kernels", "--no-timing", "--device", "cpu", "--kernel", "copy", "--html", "no/such/k.html"},
                    {"no/such/k.html"});
}

}  // namespace
}  // namespace entangle

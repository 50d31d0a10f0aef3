#include <gtest/gtest.h>

#include <algorithm>

#include "tests/ops/harness.h"

namespace entangle {
namespace {

constexpr size_t kFaultsShown = 8;

std::vector<RowEntry>& rows() {
  static std::vector<RowEntry> list;
  return list;
}

class RowTest : public testing::Test {
 public:
  explicit RowTest(const std::function<Faults()>& check) : check_(check) {}
  void TestBody() override {
    const Faults faults = check_();
    for (size_t i = 0; i < std::min(faults.size(), kFaultsShown); ++i) ADD_FAILURE() << faults[i];
    if (faults.size() > kFaultsShown) ADD_FAILURE() << "and " << faults.size() - kFaultsShown << " more";
  }

 private:
  std::function<Faults()> check_;
};

Faults check_all(const std::function<std::vector<Case>()>& cases) {
  Faults faults;
  for (const Case& c : cases()) {
    for (const std::string& fault : check_case(c)) faults.push_back(fault);
  }
  return faults;
}

}  // namespace

Faults check_coverage(const KernelEntry* kernels, const std::vector<RowEntry>& rows) {
  std::vector<std::string> named, existing;
  for (const RowEntry& row : rows) named.insert(named.end(), row.kernels.begin(), row.kernels.end());
  for (const KernelEntry* k = kernels; k != nullptr; k = k->next) existing.emplace_back(k->name);
  Faults faults;
  for (const std::string& kernel : existing) {
    if (std::find(named.begin(), named.end(), kernel) != named.end()) continue;
    faults.push_back("the kernel " + kernel + " has no test: add a row to tests/ops/ops_test.cpp that names it");
  }
  for (const std::string& kernel : named) {
    if (std::find(existing.begin(), existing.end(), kernel) != existing.end()) continue;
    faults.push_back("a row of tests/ops/ops_test.cpp names the kernel " + kernel + ", which does not exist");
  }
  return faults;
}

Row::Row(const std::string& name, const std::vector<std::string>& kernels, std::function<Faults()> check) {
  rows().push_back({name, kernels});
  testing::RegisterTest("Operations", name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                        [check]() -> RowTest* { return new RowTest(check); });
}

Row::Row(const std::string& name, const std::vector<std::string>& kernels, std::function<std::vector<Case>()> cases)
    : Row(name, kernels, std::function<Faults()>([cases] { return check_all(cases); })) {}

const std::vector<RowEntry>& Row::all() { return rows(); }

}  // namespace entangle

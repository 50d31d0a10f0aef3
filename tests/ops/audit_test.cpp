// The audit is audited: an error that is planted in any kernel turns its row red at every place, and none turns one red that
// is right.
#include "tests/ops/audit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "engine/device.h"
#include "tests/expect_error.h"

namespace entangle {
namespace {

// Flips a high bit in the first word of everything that a kernel writes.
void spoil(void* const* written, size_t count, DeviceKind device) {
  for (size_t i = 0; i < count; ++i) {
    uint32_t word = 0;
    copy_bytes(sizeof word, written[i], device, &word, DeviceKind::cpu);
    word ^= 0x40000000u;
    copy_bytes(sizeof word, &word, DeviceKind::cpu, written[i], device);
  }
}

// While it lives, the kernel writes wrong results.
class Planted {
 public:
  explicit Planted(const KernelEntry* kernel) {
    set_launch_hook(kernel, spoil);
    stop_at_first_faulty_case(true);
  }
  ~Planted() {
    set_launch_hook(nullptr, nullptr);
    stop_at_first_faulty_case(false);
  }
};

AuditOptions only(const std::vector<std::string>& kernels) {
  AuditOptions options;
  options.kernels = kernels;
  options.counting = options.timing = false;
  return options;
}

// The rows that are quick when they end at once; each kernel is in one of them.
std::vector<RowEntry> one_row_each() {
  std::vector<RowEntry> rows;
  for (const RowEntry& row : Row::all()) {
    const bool known = std::any_of(rows.begin(), rows.end(), [&](const RowEntry& other) {
      return other.kernels.front().name == row.kernels.front().name;
    });
    if (!known) rows.push_back(row);
  }
  return rows;
}

TEST(Audit, AnErrorPlantedInAnyKernelTurnsItsRowRed) {
  const std::vector<RowEntry> rows = one_row_each();
  for (const KernelEntry* kernel = all_kernels(); kernel != nullptr; kernel = kernel->next) {
    const Planted planted(kernel);
    const Audit audit = audit_kernels(only({kernel->name}), rows);
    ASSERT_EQ(audit.kernels.size(), 1u);
    ASSERT_EQ(audit.kernels[0].places.size(), places().size()) << kernel->name;
    for (const AuditedPlace& place : audit.kernels[0].places) {
      EXPECT_FALSE(place.faults.empty()) << kernel->name << " at " << place.place;
    }
    EXPECT_FALSE(audit.right());
  }
}

TEST(Audit, AnErrorTurnsNoOtherRowRed) {
  const KernelEntry* planted_in = all_kernels();
  while (std::string(planted_in->name) != "pool_backward") planted_in = planted_in->next;
  const Planted planted(planted_in);
  const Audit audit = audit_kernels(only({"pool_forward", "pool_backward"}));
  ASSERT_EQ(audit.kernels.size(), 2u);
  EXPECT_FALSE(audit.kernels[0].right()) << audit.kernels[0].name;
  EXPECT_TRUE(audit.kernels[1].right()) << audit_text(audit);
  EXPECT_NE(audit_text(audit).find("WRONG"), std::string::npos);
  EXPECT_NE(audit_html(audit).find("class=wrong"), std::string::npos);
}

TEST(Audit, TellsWhatItSaw) {
  AuditOptions options = only({"pool_forward", "pool_backward", "sum_squares"});
  options.counting = true;
  const Audit audit = audit_kernels(options);
  EXPECT_TRUE(audit.right()) << audit_text(audit);
  const auto json = nlohmann::json::parse(audit_json(audit));
  EXPECT_EQ(json["right"], true);
  ASSERT_EQ(json["kernels"].size(), 3u);
  for (const auto& kernel : json["kernels"]) {
    EXPECT_NE(kernel["formula"], "");
    EXPECT_GT(kernel["bytes"], 0);
    EXPECT_EQ(kernel["places"].size(), places().size());
    for (const auto& place : kernel["places"]) {
      EXPECT_GT(place["compared"], 0);
      EXPECT_GT(place["allowed"], 0);
      EXPECT_LE(place["error"], place["allowed"]);
      EXPECT_EQ(place["same_bits"], true);
      EXPECT_EQ(place["finite_difference"].is_number(), kernel["name"] == "pool_backward") << place;
    }
  }
  EXPECT_NE(audit_html(audit).find("y[b] = mean of x[b, first .. first+count)"), std::string::npos);
}

TEST(Audit, AKernelWithoutARowIsWrong) {
  const Audit audit = audit_kernels(only({"copy"}), {});
  EXPECT_FALSE(audit.right());
  EXPECT_NE(audit_text(audit).find("it has no reference"), std::string::npos);
  const std::vector<RowEntry> lazy = {{"lazy", {"copy"}, [] { return Faults(); }}};
  const Audit unseen = audit_kernels(only({"copy"}), lazy);
  EXPECT_FALSE(unseen.right()) << "a row that compares nothing";
  expect_error([] { audit_kernels(only({"no_such_kernel"})); }, {"no_such_kernel"});
}

TEST(Audit, EveryKernelHasAFormulaAPlaceInTheSourcesAndACallToTime) {
  for (const KernelEntry* kernel = all_kernels(); kernel != nullptr; kernel = kernel->next) {
    const std::string name = kernel->name;
    EXPECT_STRNE(kernel->formula, "") << name;
    const auto& sources = kernel_sources();
    const auto source =
        std::find_if(sources.begin(), sources.end(), [&](const KernelSource& s) { return s.kernel == name; });
    ASSERT_NE(source, sources.end()) << name;
    EXPECT_EQ(source->cpu.rfind("engine/cpu/", 0), 0u) << name;
    EXPECT_EQ(source->gpu.rfind("cuda/", 0), 0u) << name;
    const auto& rows = Row::all();
    EXPECT_TRUE(std::any_of(rows.begin(), rows.end(),
                            [&](const RowEntry& row) {
                              return row.work != nullptr &&
                                     std::any_of(row.kernels.begin(), row.kernels.end(),
                                                 [&](const RowKernel& k) { return k.name == name; });
                            }))
        << name << " is in no row with work";
  }
}

}  // namespace
}  // namespace entangle

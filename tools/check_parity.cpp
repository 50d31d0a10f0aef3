// check_parity DIR...: compares the supernet with golden folders, made with the published code.
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "engine/check.h"
#include "tools/common/cli.h"
#include "tools/common/parity.h"

namespace {

using entangle::ParityRow;

// "case 0 gradient of head.weight" and "case 1 gradient of norm.bias" are one kind: "gradient".
std::string kind_of(const std::string& what) {
  for (const char* kind : {"params", "reference_complexity", "logits", "gradient", "weights", "loss"}) {
    if (what.find(kind) != std::string::npos) return kind;
  }
  return what;
}

// Prints the worst row of every kind; returns how many rows are beyond their tolerance.
int print_report(const std::string& folder, const std::vector<ParityRow>& rows) {
  std::map<std::string, ParityRow> worst;
  int failed = 0;
  for (const ParityRow& row : rows) {
    const auto [entry, is_new] = worst.try_emplace(kind_of(row.what), row);
    if (!is_new && !std::isnan(entry->second.difference) && !(row.difference <= entry->second.difference)) {
      entry->second = row;
    }
    if (!row.ok()) ++failed;
  }
  std::printf("%s: %zu comparisons\n", folder.c_str(), rows.size());
  for (const auto& [kind, row] : worst) {
    std::printf("  %-21s largest difference %.2e, allowed %.0e  %s  (%s)\n", kind.c_str(), row.difference, row.allowed,
                row.ok() ? "ok" : "FAILED", row.what.c_str());
  }
  return failed;
}

}  // namespace

int main(int argc, char** argv) {
  entangle::Program program("Compares the supernet with golden folders made with the published code.",
                            "  ./check_parity tests/golden/supernet_cls_token_clamped\n");
  std::vector<std::string> folders;
  program.app().add_option("DIR", folders, "golden folders")->required();
  return program.run(argc, argv, [&] {
    CHECK(program.settings().empty(), "the comparison is in fp32; leave --precision away");
    int failed = 0;
    for (const std::string& folder : folders) {
      failed += print_report(folder, entangle::check_parity(folder, program.device()));
    }
    CHECK(failed == 0, failed, failed == 1 ? " comparison is" : " comparisons are", " beyond tolerance");
  });
}

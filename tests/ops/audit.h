// The harness as a table: every kernel of the registry, at every place where it can run, through all rows that name it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/ops/harness.h"
#include "tools/common/audit_report.h"

namespace entangle {

struct AuditOptions {
  std::vector<Place> places = entangle::places();
  std::vector<std::string> kernels;  // empty: all
  // Whether the calls that a row has for it are counted, and timed (not on an emulated device, whose times mean nothing).
  bool counting = true, timing = true;
  std::function<void(const std::string& what)> progress = [](const std::string&) {};
};

// A kernel is right at a place when its rows have no fault there, and compared it with a reference and with itself. Throws
// Error for a kernel that does not exist.
Audit audit_kernels(const AuditOptions& options, const std::vector<RowEntry>& rows = Row::all());

}  // namespace entangle

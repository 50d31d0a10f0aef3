#include <algorithm>
#include <utility>

#include "tests/ops/harness.h"

namespace entangle {
namespace {

struct Rows {
  std::vector<RowEntry> all;
  std::function<void(const RowEntry&)> call;  // with those to come
};
Rows& rows() {
  static Rows one;
  return one;
}

bool stops_at_fault = false;

Faults check_all(const std::function<std::vector<Case>()>& cases) {
  Faults faults;
  for (const Case& c : cases()) {
    for (const std::string& fault : check_case(c)) faults.push_back(fault);
    if (stops_at_fault && !faults.empty()) break;
  }
  return faults;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

void stop_at_first_faulty_case(bool on) { stops_at_fault = on; }

RowKernel::RowKernel(const char* kernel) : name(kernel) {
  if (ends_with(name, "_forward")) results = {"output"};
  if (ends_with(name, "_backward")) results = {"gradient of"};
}
RowKernel::RowKernel(const char* kernel, std::vector<std::string> made) : name(kernel), results(std::move(made)) {}

std::vector<std::string> RowEntry::kernels_of(const std::string& text) const {
  std::vector<std::string> makers, all;
  for (const RowKernel& kernel : kernels) {
    all.push_back(kernel.name);
    const bool makes = std::any_of(kernel.results.begin(), kernel.results.end(),
                                   [&](const std::string& result) { return text.find(result) != std::string::npos; });
    if (makes) makers.push_back(kernel.name);
  }
  return makers.empty() ? all : makers;
}

Faults check_coverage(const KernelEntry* kernels, const std::vector<RowEntry>& rows) {
  std::vector<std::string> named, existing;
  for (const RowEntry& row : rows) {
    for (const RowKernel& kernel : row.kernels) named.push_back(kernel.name);
  }
  for (const KernelEntry* k = kernels; k != nullptr; k = k->next) existing.emplace_back(k->name);
  Faults faults;
  for (const std::string& kernel : existing) {
    if (std::find(named.begin(), named.end(), kernel) != named.end()) continue;
    faults.push_back("the kernel " + kernel +
                     " has no test: add a row to tests/ops/elementwise_rows.cpp that names it");
  }
  for (const std::string& kernel : named) {
    if (std::find(existing.begin(), existing.end(), kernel) != existing.end()) continue;
    faults.push_back("a row in tests/ops names the kernel " + kernel + ", which does not exist");
  }
  return faults;
}

Row::Row(const std::string& name, const std::vector<RowKernel>& kernels, std::function<Faults()> check, Work work) {
  rows().all.push_back({name, kernels, std::move(check), std::move(work)});
  if (rows().call) rows().call(rows().all.back());
}

Row::Row(const std::string& name, const std::vector<RowKernel>& kernels, std::function<std::vector<Case>()> cases)
    : Row(name, kernels, std::function<Faults()>([cases] { return check_all(cases); }), nullptr) {}

Row::Row(const std::string& name, const std::vector<RowKernel>& kernels, std::function<std::vector<Case>()> cases,
         std::function<Case()> timed)
    : Row(name, kernels, std::function<Faults()>([cases] { return check_all(cases); }), work_of(std::move(timed))) {}

const std::vector<RowEntry>& Row::all() { return rows().all; }

bool Row::for_each(std::function<void(const RowEntry&)> f) {
  for (const RowEntry& row : rows().all) f(row);
  rows().call = std::move(f);
  return true;
}

}  // namespace entangle

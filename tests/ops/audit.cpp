#include "tests/ops/audit.h"

#include <algorithm>
#include <map>
#include <set>

#include "engine/check.h"
#include "engine/launch_facts.h"
#include "engine/ops.h"
#include "engine/parallel.h"
#include "tools/common/ceilings.h"

namespace entangle {
namespace {

bool is_emulated(const Place& place) {
#if defined(ENTANGLE_CUDA_EMULATED)
  return place.device == DeviceKind::cuda;
#else
  return static_cast<void>(place), false;
#endif
}

std::vector<const KernelEntry*> entries() {
  std::vector<const KernelEntry*> all;
  for (const KernelEntry* entry = all_kernels(); entry != nullptr; entry = entry->next) all.push_back(entry);
  std::sort(all.begin(), all.end(),
            [](const KernelEntry* a, const KernelEntry* b) { return std::string(a->name) < std::string(b->name); });
  return all;
}

bool contains(const std::vector<std::string>& list, const std::string& one) {
  return std::find(list.begin(), list.end(), one) != list.end();
}

KernelSource source_of(const std::string& kernel) {
  for (const KernelSource& source : kernel_sources()) {
    if (source.kernel == kernel) return source;
  }
  return {kernel, "", ""};
}

// What was launched on a GPU while it lives.
class CollectedLaunches {
 public:
  CollectedLaunches() { launch_facts = &facts_; }
  ~CollectedLaunches() { launch_facts = nullptr; }

  // Of the GPU's kernels that are called after `kernel`, or else of all: the most that each asked for.
  std::string describe(const std::string& kernel) const {
    std::map<std::string, LaunchFacts> named, all;
    for (const LaunchFacts& facts : facts_) {
      for (auto* table : {&named, &all}) {
        if (table == &named && facts.kernel.rfind(kernel, 0) != 0) continue;
        LaunchFacts& most = table->emplace(facts.kernel, facts).first->second;
        most.threads = std::max(most.threads, facts.threads);
        most.shared_bytes = std::max(most.shared_bytes, facts.shared_bytes);
        most.registers = std::max(most.registers, facts.registers);
        most.local_bytes = std::max(most.local_bytes, facts.local_bytes);
      }
    }
    std::string text;
    for (const auto& [name, f] : named.empty() ? all : named) {
      text += text.empty() ? name : "; " + name;
      if (f.threads == 0) continue;
      text += concat(": ", f.threads, " threads, shared ", f.shared_bytes, " B, ");
      if (f.registers < 0) {
        text += "registers and spills not known";
      } else {
        text += concat(f.registers, " registers, local ", f.local_bytes, " B");
      }
    }
    return text;
  }

 private:
  std::vector<LaunchFacts> facts_;
};

class Auditor {
 public:
  Auditor(const AuditOptions& options, const std::vector<RowEntry>& rows) : options_(options) {
    for (const KernelEntry* entry : entries()) {
      if (!options.kernels.empty() && !contains(options.kernels, entry->name)) continue;
      audit_.kernels.push_back({entry->name, entry->formula, source_of(entry->name), {}, {}, 0, 0, {}});
    }
    for (const std::string& name : options.kernels) {
      CHECK(find(name) != nullptr, "there is no kernel ", name, "; without a name all are audited");
    }
    for (const RowEntry& row : rows) {
      const auto wanted = [this](const RowKernel& kernel) { return find(kernel.name) != nullptr; };
      if (std::any_of(row.kernels.begin(), row.kernels.end(), wanted)) rows_.push_back(row);
    }
  }

  Audit run() {
    name_rows();
    for (const Place& place : options_.places) at(place);
    if (options_.counting) count();
    return std::move(audit_);
  }

 private:
  AuditedKernel* find(const std::string& name) {
    for (AuditedKernel& kernel : audit_.kernels) {
      if (kernel.name == name) return &kernel;
    }
    return nullptr;
  }

  void name_rows() {
    for (const RowEntry& row : rows_) {
      for (const RowKernel& named : row.kernels) {
        if (AuditedKernel* kernel = find(named.name)) kernel->rows.push_back(row.name);
      }
    }
    for (AuditedKernel& kernel : audit_.kernels) {
      if (kernel.rows.empty()) kernel.faults.push_back("no row in tests/ops names it: it has no reference");
      if (kernel.formula.empty()) kernel.faults.push_back("it states no formula (engine/ops.h)");
    }
  }

  void at(const Place& place) {
    const SettingsScope restore;
    std::string variations;
    for (const Variation& v : variations_of(place.device)) variations += (variations.empty() ? "" : ", ") + v.name;
    for (AuditedKernel& kernel : audit_.kernels) {
      kernel.places.emplace_back();
      kernel.places.back().place = place.name + (is_emulated(place) ? " (emulated)" : "");
      kernel.places.back().variations = variations;
    }
    for (const RowEntry& row : rows_) check(row, place);
    for (AuditedKernel& kernel : audit_.kernels) judge(kernel.places.back());
    if (options_.timing && !is_emulated(place)) time(place);
  }

  void check(const RowEntry& row, const Place& place) {
    options_.progress(place.name + ": " + row.name);
    const OnlyAt only(place);
    Ledger ledger(row);
    const CollectedLaunches launches;
    Faults faults;
    try {
      faults = row.check();
    } catch (const std::exception& error) {
      faults.push_back(error.what());
    }
    for (const std::string& fault : faults) {
      for (const std::string& name : row.kernels_of(fault)) {
        if (AuditedKernel* kernel = find(name)) kernel->places.back().faults.push_back(row.name + ": " + fault);
      }
    }
    for (const auto& [name, figures] : ledger.figures()) {
      if (AuditedKernel* kernel = find(name)) add(figures, kernel->places.back());
    }
    for (const RowKernel& named : row.kernels) {
      AuditedKernel* kernel = find(named.name);
      if (kernel != nullptr && kernel->places.back().resources.empty()) {
        kernel->places.back().resources = launches.describe(named.name);
      }
    }
  }

  static void add(const Figures& figures, AuditedPlace& place) {
    const auto part = [](double error, double allowed) { return allowed > 0 ? error / allowed : 0; };
    if (place.compared == 0 || !(figures.part <= part(place.error, place.allowed))) {
      place.error = figures.error;
      place.allowed = figures.allowed;
    }
    place.compared += figures.compared;
    place.differences += figures.differences;
    place.difference = std::max(place.difference, figures.difference);
    place.reruns += figures.reruns;
    place.differing += figures.differing;
  }

  static void judge(AuditedPlace& place) {
    if (place.compared == 0) place.faults.push_back("nothing was compared with a reference");
    if (place.reruns == 0) place.faults.push_back("no run was compared with another");
  }

  // The fastest of some calls of a kernel.
  struct Call {
    double seconds = 0;
    int64_t flops = 0, bytes = 0;
  };

  std::map<std::string, Call> calls_of(const RowEntry& row, DeviceKind device, int repeats) const {
    std::map<std::string, Call> calls;
    row.work(device);
    for (int i = 0; i < repeats; ++i) {
      set_kernel_timing(true);
      row.work(device);
      set_kernel_timing(false);
      for (const KernelEntry* entry : entries()) {
        const bool own = std::any_of(row.kernels.begin(), row.kernels.end(),
                                     [&](const RowKernel& kernel) { return kernel.name == entry->name; });
        if (!own || entry->calls == 0) continue;
        const double seconds = entry->seconds / static_cast<double>(entry->calls);
        Call& call = calls[entry->name];
        if (i == 0 || seconds < call.seconds) {
          call = {seconds, entry->flops / entry->calls, entry->bytes / entry->calls};
        }
      }
    }
    return calls;
  }

  void time(const Place& place) {
    constexpr int kRepeats = 5;
    const SettingsScope restore;
    place.choose();
    audit_.threads = threads();
    const AuditedCeiling ceiling = {place.name, measure_gflops_ceiling(place.device),
                                    measure_copy_ceiling(place.device)};
    audit_.ceilings.push_back(ceiling);
    for (const RowEntry& row : rows_) {
      if (row.work == nullptr) continue;
      options_.progress(place.name + ": timing " + row.name);
      for (const auto& [name, call] : calls_of(row, place.device, kRepeats)) {
        AuditedKernel* kernel = find(name);
        if (kernel == nullptr) continue;
        const double least = std::max(1e-9 * static_cast<double>(call.flops) / ceiling.gflops,
                                      1e-9 * static_cast<double>(call.bytes) / ceiling.copy);
        count(call, *kernel);
        kernel->places.back().seconds = call.seconds;
        kernel->places.back().percent = 100 * least / call.seconds;
      }
    }
  }

  static void count(const Call& call, AuditedKernel& kernel) {
    kernel.flops = call.flops;
    kernel.bytes = call.bytes;
  }

  // Costs are the same everywhere, so what was timed nowhere is counted on the processor.
  void count() {
    for (const RowEntry& row : rows_) {
      const bool missing = std::any_of(row.kernels.begin(), row.kernels.end(), [this](const RowKernel& named) {
        const AuditedKernel* kernel = find(named.name);
        return kernel != nullptr && kernel->bytes == 0;
      });
      if (row.work == nullptr || !missing) continue;
      for (const auto& [name, call] : calls_of(row, DeviceKind::cpu, 1)) {
        if (AuditedKernel* kernel = find(name)) count(call, *kernel);
      }
    }
  }

  const AuditOptions& options_;
  std::vector<RowEntry> rows_;
  Audit audit_;
};

}  // namespace

Audit audit_kernels(const AuditOptions& options, const std::vector<RowEntry>& rows) {
  return Auditor(options, rows).run();
}

}  // namespace entangle

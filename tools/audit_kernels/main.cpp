// audit_kernels: every kernel of the registry in one table: what it computes and where, how far it is from its reference and
// how far it may be, whether it gives the same bits again, what it costs and how fast it is.
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "engine/atomic_file.h"
#include "engine/check.h"
#include "engine/device.h"
#include "tests/ops/audit.h"
#include "tools/common/cli.h"

namespace {

using namespace entangle;

// All, or those on the device that was named.
std::vector<Place> places_on(const Program& program, bool named) {
  if (!named) return places();
  if (program.device() == DeviceKind::cuda) {
    CHECK(why_no_cuda().empty(), why_no_cuda());
  }
  std::vector<Place> chosen;
  for (const Place& place : places()) {
    if (place.device == program.device()) chosen.push_back(place);
  }
  return chosen;
}

}  // namespace

int main(int argc, char** argv) {
  Program program(
      "Audits every kernel, on every instruction-set path of this processor and on the GPU (a real one or, in such a "
      "build, the "
      "emulated one): error against the double reference, finite differences, equal bits, cost and time. The checks "
      "are the "
      "rows of tests/ops. Fails when a kernel has no reference or is beyond its tolerance.",
      "  ./audit_kernels\n"
      "  ./audit_kernels --device cpu --kernel gelu_forward gelu_backward\n"
      "  ./audit_kernels --no-timing --html kernels.html --json kernels.json\n");
  AuditOptions options;
  std::string json, html;
  bool no_timing = false;
  program.app().add_option("--kernel", options.kernels, "only these (default: all)");
  program.app().add_option("--json", json, "also writes the table to this file, as JSON");
  program.app().add_option("--html", html, "also writes the table to this file, as one page");
  program.app().add_flag("--no-timing", no_timing, "nothing is timed");
  return program.run(argc, argv, [&] {
    options.places = places_on(program, program.app().get_option("--device")->count() > 0);
    options.timing = !no_timing;
    const bool terminal = isatty(STDERR_FILENO) != 0;
    if (terminal) {
      options.progress = [](const std::string& what) { std::fprintf(stderr, "\r\033[K%s", what.c_str()); };
    }
    const Audit audit = audit_kernels(options);
    if (terminal) std::fputs("\r\033[K", stderr);
    std::fputs(audit_text(audit).c_str(), stdout);
    if (!json.empty()) write_file_atomically(json, audit_json(audit));
    if (!html.empty()) write_file_atomically(html, audit_html(audit));
    CHECK(audit.right(), "kernels are wrong or have no reference: see the lines with WRONG");
  });
}

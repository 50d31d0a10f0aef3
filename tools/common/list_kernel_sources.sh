#!/bin/sh
# list_kernel_sources.sh FILE...: prints the C++ source that tells in which file and line each function of engine/cpu/*.cpp
# and cuda/*.cu begins: those at the start of a line are the kernels of engine/ops.h, and a few more that do no harm.
set -eu
cat <<'HEAD'
#include "tools/common/audit_report.h"

namespace entangle {

const std::vector<KernelSource>& kernel_sources() {
  static const std::vector<KernelSource> sources = {
HEAD
awk '
  /^void [a-z_0-9]+\(/ {
    name = $2
    sub(/\(.*/, "", name)
    where = FILENAME ":" FNR
    if (FILENAME ~ /^engine\/cpu\//) cpu[name] = where
    else gpu[name] = where
  }
  END { for (name in cpu) printf "{\"%s\", \"%s\", \"%s\"},\n", name, cpu[name], gpu[name] }
' "$@" | sort
cat <<'TAIL'
  };
  return sources;
}

}  // namespace entangle
TAIL

#!/bin/sh
# embed_configs.sh FILE.yaml...: prints the C++ source that holds the files' texts under their names without .yaml.
set -eu
cat <<'HEAD'
#include "tools/common/config.h"

namespace entangle {

const std::vector<BuiltinConfig>& builtin_configs() {
  static const std::vector<BuiltinConfig> configs = {
HEAD
for file in "$@"; do
  printf '{"%s", R"yaml(' "$(basename "$file" .yaml)"
  cat "$file"
  printf ')yaml"},\n'
done
cat <<'TAIL'
  };
  return configs;
}

}  // namespace entangle
TAIL

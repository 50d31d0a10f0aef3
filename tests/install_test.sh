#!/bin/sh
# Builds and installs the library with CMake into a temporary directory, then builds tests/consumer with nothing but the
# installed files, by CMake and by pkg-config, and compares what its programs answer with the supernet itself. Everything is
# compiled without optimisation: what is proved here is that all parts are installed, are found, and belong together.
# Usage: tests/install_test.sh (from the project's root).
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
quietly() { "$@" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }; }

quietly cmake -S . -B "$work/build" -DCMAKE_BUILD_TYPE=None
quietly cmake --build "$work/build" -j "$(nproc)"
quietly cmake --install "$work/build" --prefix "$work/prefix"
quietly cmake -S tests/consumer -B "$work/consumer" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=None
quietly cmake --build "$work/consumer"
"$work/consumer/consumer" "$work"

pc=$(find "$work/prefix" -name entangle.pc)
flags=$(PKG_CONFIG_PATH=${pc%/*} pkg-config --cflags --libs entangle)
quietly "${CXX:-c++}" -std=c++17 -Wall -Wextra -Werror tests/consumer/classify.cpp -o "$work/classify" $flags
quietly "${CC:-cc}" -std=c99 -pedantic -Wall -Wextra -Werror tests/consumer/classify.c -o "$work/classify_c" $flags

for program in "$work/classify" "$work/classify_c" "$work/consumer/classify" "$work/consumer/classify_c"; do
  for architecture in min max; do
    "$program" "$work/weights.safetensors" $architecture "$work/photo.ppm" > "$work/answers.txt"
    # Batches differ, and with them the order of sums: a few roundings.
    paste "$work/$architecture.txt" "$work/answers.txt" | awk '
      { d = $1 - $2; if (NF != 2 || !(d * d < 1e-10)) { print "logit " NR " is " $2 ", not " $1; exit failed = 1 } }
      END { if (NR != 12) { print NR " logits instead of 12"; exit 1 }; exit failed }'
  done
  ! "$program" "$work/photo.ppm" min "$work/photo.ppm" 2> "$work/log" && grep -q '^error: .*photo.ppm' "$work/log"
done
# MPI is for those who join processes.
if ldd "$work/consumer/consumer" | grep libmpi; then exit 1; fi
echo "four programs answer as the supernet"

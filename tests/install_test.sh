#!/bin/sh
# Builds and installs the library with CMake into a temporary directory, then builds and runs tests/consumer with
# nothing but the installed files. Usage: tests/install_test.sh (from the project's root).
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake -S . -B "$work/build" > "$work/log" 2>&1 && cmake --build "$work/build" -j "$(nproc)" >> "$work/log" 2>&1 &&
  cmake --install "$work/build" --prefix "$work/prefix" >> "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
cmake -S tests/consumer -B "$work/consumer" -DCMAKE_PREFIX_PATH="$work/prefix" > "$work/log" 2>&1 &&
  cmake --build "$work/consumer" >> "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$work/consumer/consumer"

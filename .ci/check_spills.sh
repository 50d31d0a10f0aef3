#!/bin/sh
# check_spills.sh FILE PREFIX...: fails, naming kernel and architecture, when a kernel whose name begins with one of the
# prefixes keeps registers in memory; "name<4,false>", without spaces, is one instance of a template. FILE is what `nvcc -Xptxas -v` wrote. A prefix without a kernel is a failure, too:
# a renamed kernel is not to slip through.
set -eu
[ $# -ge 2 ] || { echo "error: check_spills.sh wants a file and at least one prefix" >&2; exit 1; }
file=$1
shift
[ -r "$file" ] || { echo "error: there is no file $file" >&2; exit 1; }
command -v c++filt > /dev/null || { echo "error: there is no c++filt (Debian: binutils)" >&2; exit 1; }
c++filt -p < "$file" | awk -v prefixes="$*" '
  BEGIN { count = split(prefixes, prefix, " ") }
  function prefix_of(name,   i) {
    for (i = 1; i <= count; ++i) if (index(name, prefix[i]) == 1) return i
    return 0
  }
  /Compiling entry function/ {
    split($0, part, "\047")
    kernel = part[2]; architecture = part[4]
    name = kernel
    sub(/<.*/, "", name)
    sub(/.*::/, "", name)
    instance = match(kernel, /<.*>/) ? substr(kernel, RSTART, RLENGTH) : ""
    gsub(/ /, "", instance)
    hot = prefix_of(name instance)
    if (hot) { seen[hot] = 1; ++kernels }
  }
  # Those of a function that the kernel calls follow as well.
  / bytes spill stores/ && hot {
    stores = $0; loads = $0
    sub(/ bytes spill stores.*/, "", stores); sub(/.* /, "", stores)
    sub(/ bytes spill loads.*/, "", loads); sub(/.* /, "", loads)
    if (stores + loads > 0) {
      printf "error: %s spills for %s: %d bytes of stores, %d of loads\n", kernel, architecture, stores, loads
      failed = 1
    }
  }
  END {
    for (i = 1; i <= count; ++i) {
      if (!seen[i]) { printf "error: no kernel begins with %s\n", prefix[i]; failed = 1 }
    }
    if (!failed) printf "no spills in %d compilations of %s\n", kernels, prefixes
    exit failed
  }'

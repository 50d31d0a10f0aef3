#!/usr/bin/env bash
# Fuzzes each target for so many seconds with clang's libFuzzer, AddressSanitizer and UBSan:
#   tests/fuzz/run.sh SECONDS [TARGET...]
# Starts from tests/fuzz/corpus/TARGET; what is found new goes to build/fuzz/found/TARGET, inputs that show a fault to
# build/fuzz/faults. Exit status 1 when there is one.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 1 ] || { echo "usage: tests/fuzz/run.sh SECONDS [TARGET...]" >&2; exit 2; }
seconds=$1
shift
targets=${*:-$(basename -s .cpp $(ls tests/fuzz/*.cpp | grep -v _test))}

folder=build/fuzz
sanitizers=address,undefined
objects=$(ls data/*.cpp engine/*.cpp tests/fuzz/*.cpp | grep -v _test | sed "s|^\(.*\)\.cpp$|$folder/\1.o|")
CXXFLAGS=-DENTANGLE_FUZZ make -s CUDA=0 MPI=- TURBOJPEG=- KIND=$folder CXX="${CLANG:-clang++}" WARNINGS= \
  OPTIMISE="-O1 -g -fsanitize=fuzzer-no-link,$sanitizers -fno-sanitize-recover=all -fno-omit-frame-pointer" $objects
library=$folder/libfuzz.a
rm -f $library
ar rcs $library $(echo "$objects" | grep -v tests/fuzz)

mkdir -p $folder/faults
status=0
for target in $targets; do
  ${CLANG:-clang++} -fsanitize=fuzzer,$sanitizers $folder/tests/fuzz/$target.o $library -pthread -o $folder/fuzz_$target
  mkdir -p $folder/found/$target
  echo "== $target"
  $folder/fuzz_$target -max_total_time=$seconds -rss_limit_mb=2048 -timeout=10 -max_len=16384 -print_final_stats=1 \
    -verbosity=0 -print_funcs=0 -artifact_prefix=$folder/faults/$target- $folder/found/$target tests/fuzz/corpus/$target || status=1
done
exit $status

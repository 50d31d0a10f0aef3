#!/usr/bin/env bash
# The whole truth about a GPU: builds for it, tests on it, measures it, and writes one Markdown page.
#
#   tools/gpu_report.sh [PART...]
#
# Parts, in this order: build tests sanitizer steps kernels attention peer train; all of them without arguments. A part
# that fails says so in the page and the next one goes on; the exit status is then 1. In the environment:
#   OUT     folder of the page, report.md, and of each part's log (runs/gpu-report)
#   DEPS    headers and libraries of the dependencies, for a machine without a package registry (.bundle, when there)
#   DATA    Fashion-MNIST ($DEPS/data, or the system's)
#   PEER    the PyTorch program to compare with, PYTHON an interpreter that has PyTorch ($DEPS/supernet_torch.py, python3)
#   SPACES  T S B          BATCH  128          PRECISIONS  fp32 bf16          TRAIN_SECONDS  120
#   BACKEND cuda, or emulated: the same page without a GPU, to test this script; its times mean nothing
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/gpu-report}
deps=${DEPS:-$([ -d .bundle ] && echo .bundle || true)}
data=${DATA:-$([ -n "$deps" ] && [ -d "$deps/data" ] && echo "fashion-mnist:$deps/data" || echo fashion-mnist)}
peer=${PEER:-$deps/supernet_torch.py}
python=${PYTHON:-python3}
spaces=${SPACES:-T S B}
batch=${BATCH:-128}
precisions=${PRECISIONS:-fp32 bf16}
train_seconds=${TRAIN_SECONDS:-120}
backend=${BACKEND:-cuda}
all_parts="build tests sanitizer steps kernels attention peer train"
page=$out/report.md
failed=0

fail() { echo "error: $*" >&2; exit 1; }
case $backend in
  cuda) make=(make CUDA=1) build=build/release-cuda ;;
  emulated) make=(make CUDA=emulated) build=build/release-emulated ;;
  *) fail "BACKEND is $backend; use cuda or emulated" ;;
esac
[ -z "$deps" ] || make+=("DEPS=$deps")
for part in "$@"; do
  case " $all_parts " in *" $part "*) ;; *) fail "there is no part $part; the parts are $all_parts" ;; esac
done

write() { printf '%s\n' "$@" >> "$page"; }
# value KEY FILE: of the last JSON line that has it.
value() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" "$2" | tail -n 1; }
# attempt NAME LIMIT COMMAND...: runs it with a limit in seconds, into NAME.log; a failure is written down.
attempt() {
  local name=$1 limit=$2 status=0
  shift 2
  timeout "$limit" "$@" > "$out/$name.log" 2>&1 || status=$?
  [ $status = 0 ] && return 0
  failed=1
  local why="exit status $status"
  [ $status = 124 ] && why="over $limit s"
  write "**$name failed** ($why): \`$(tail -n 1 "$out/$name.log" | tr '`|' "' ")\`" ""
  return 1
}
bench() { # bench NAME SPACE PRECISION MORE...
  local name=$1 space=$2 precision=$3
  shift 3
  attempt "$name" 120 "$build/bin/bench_step" --device cuda --space "$space" --batch "$batch" --precision "$precision" "$@"
}

device_name() {
  [ "$backend" = emulated ] && { echo "emulated on a processor: no time below means anything"; return; }
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader 2> /dev/null | head -n 1
}

part_build() {
  local archs=()
  if [ "$backend" = cuda ]; then
    local capability
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -n 1 | tr -d .)
    [ -z "$capability" ] || archs=("GPU_ARCHS=$capability")
  fi
  attempt build 400 "${make[@]}" "${archs[@]}" all "$build/run_tests" && write "Built in \`$build\`." ""
}

part_tests() {
  attempt tests 200 env "ENTANGLE_PROGRAMS=$build/bin" "$build/run_tests"
  write "Tests: $(tail -n 1 "$out/tests.log")." ""
}

part_sanitizer() {
  if ! command -v compute-sanitizer > /dev/null; then
    write "compute-sanitizer is not installed: not run." ""
    return
  fi
  local tool
  for tool in memcheck racecheck; do
    attempt "$tool" 100 compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/run_tests" \
      '--gtest_filter=Operations.layer_norm:Operations.residual_norm:Operations.gelu:Operations.softmax:Operations.pool:Operations.tokens:Operations.cross_entropy' &&
      write "compute-sanitizer $tool: no error." ""
  done
}

part_steps() {
  write "| space | precision | img/s | ms a step | GFLOP an image | TFLOP/s | % of the matrix product's rate measured beside it | GPU memory, GB |" \
    "|---|---|---|---|---|---|---|---|"
  local space precision log
  for space in $spaces; do
    for precision in $precisions; do
      bench "step-$space-$precision" "$space" "$precision" || continue
      log=$out/step-$space-$precision.log
      write "$(awk -v space="$space" -v precision="$precision" -v rate="$(value img_per_s "$log")" \
        -v seconds="$(value step_s "$log")" -v gflop="$(value gflop_per_image "$log")" \
        -v percent="$(value percent_of_ceiling "$log")" -v bytes="$(value peak_memory "$log")" \
        'BEGIN { printf "| %s | %s | %s | %.2f | %s | %.1f | %s | %.2f |", space, precision, rate, 1e3 * seconds, gflop,
                 rate * gflop / 1e3, percent, bytes / 1e9 }')"
    done
  done
  write ""
}

# One step, kernel by kernel: time, share, rates, per cent of the product's and of the copy's rate.
part_kernels() {
  local precision space=${spaces%% *}
  for precision in $precisions; do
    bench "kernels-$precision" "$space" "$precision" --breakdown || continue
    write "A step of $space in $precision, kernel by kernel (a kernel here is one of the registry, often several launches):" \
      "" '```' "$(grep -v '^{' "$out/kernels-$precision.log")" '```' ""
  done
}

part_attention() {
  write "| attention, ns per (image, head) | forward | backward |" "|---|---|---|"
  local precision space=${spaces%% *} log flag heads
  case $space in T) heads=4 ;; S) heads=7 ;; B) heads=10 ;; *) heads=4 ;; esac  # of the largest subnets
  for precision in $precisions; do
    log=$out/kernels-$precision.log
    [ -f "$log" ] || bench "kernels-$precision" "$space" "$precision" --breakdown || continue
    write "$(awk -v batch="$batch" -v precision="$precision" -v heads="$heads" '
      $1 ~ /^attention_(for|back)ward$/ { ns[$1] = 1e6 * $3 / ($2 * batch * heads) }
      END { printf "| here, %s, with relative position | %.1f | %.1f |", precision, ns["attention_forward"],
            ns["attention_backward"] }' "$log")"
    flag=$([ "$precision" = fp32 ] && echo --fp32 || true)
    attempt "sdpa-$precision" 60 "$python" tools/experiments/torch_attention.py --batch "$batch" $flag || continue
    write "| PyTorch's scaled_dot_product_attention, $precision, without | $(value forward_ns "$out/sdpa-$precision.log") | $(value backward_ns "$out/sdpa-$precision.log") |"
  done
  write ""
}

part_peer() {
  if [ ! -f "$peer" ] || ! "$python" -c 'import torch' 2> /dev/null; then
    write "PyTorch or the peer's program is not here: not compared." ""
    return
  fi
  write "| space | PyTorch, AMP | img/s |" "|---|---|---|"
  local space variant flags name
  for space in $spaces; do
    for variant in gather none none+compile; do
      flags=(--rpe "${variant%+compile}")
      [ "$variant" = "${variant%+compile}" ] || flags+=(--compile)
      name=peer-$space-$variant
      attempt "$name" 90 "$python" "$peer" bench --device cuda --amp --space "$space" --batch "$batch" "${flags[@]}" || continue
      write "| $space | $variant | $(value img_per_s "$out/$name.log") |"
    done
  done
  write ""
}

part_train() {
  rm -rf "$out/train"
  local status=0
  timeout -s INT "$train_seconds" "$build/bin/train_supernet" --device cuda --data "$data" --output "$out/train" --epochs 40 \
    > "$out/train.log" 2>&1 || status=$?
  if [ $status != 0 ] && [ $status != 124 ]; then
    failed=1
    write "**train failed** (exit status $status): \`$(tail -n 1 "$out/train.log")\`" ""
    return
  fi
  write "Fashion-MNIST for $train_seconds s: \`$(grep '^epoch' "$out/train.log" | tail -n 1)\`" ""
}

mkdir -p "$out" || fail "cannot create $out; set OUT"
: > "$page"
write "# GPU report" "" "$(date -u +%Y-%m-%d), $(device_name). Commit $(git rev-parse --short HEAD 2> /dev/null || echo unknown). Largest subnets, batch $batch, whole training steps with AdamW, drop-path as configured." ""
for part in ${*:-$all_parts}; do
  write "## $part" ""
  start=$SECONDS
  "part_$part"
  echo "$part: $((SECONDS - start)) s" >&2
done
echo "$page" >&2
exit $failed

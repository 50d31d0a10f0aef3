#!/usr/bin/env bash
# Training steps and forward passes of the largest subnets, this engine against PyTorch, alternating in one run. Prints
# one Markdown table of images per second: of each entry the best of the rounds, a round being the median of some steps.
#
#   tools/experiments/compare_peers.sh PEER.py
#
# PEER.py is the PyTorch program (its `bench` command prints a JSON line with img_per_s); ENTANGLE_PEER names it too.
# PYTHON, SPACES, BATCH, THREADS, ROUNDS, STEPS, WARMUP and VARIANTS in the environment change the defaults below. A
# variant is the form of the relative position (gather: as published; factorised: as here; none), with +compile for
# torch.compile.
set -euo pipefail
peer=${1:-${ENTANGLE_PEER:-}}
python=${PYTHON:-python3}
spaces=${SPACES:-T S B}
batch=${BATCH:-16}
threads=${THREADS:-$(nproc)}
rounds=${ROUNDS:-2}
steps=${STEPS:-3}
warmup=${WARMUP:-2}
variants=${VARIANTS:-gather factorised none factorised+compile none+compile}
root=$(cd "$(dirname "$0")/../.." && pwd)
bench=${ENTANGLE_PROGRAMS:-$root}/bench_step

fail() { echo "error: $*" >&2; exit 1; }
[ -n "$peer" ] || fail "no peer; give the path of the PyTorch program as the argument or in ENTANGLE_PEER"
[ -f "$peer" ] || fail "there is no file $peer; give the path of the PyTorch program"
[ -x "$bench" ] || fail "there is no $bench; run make"
command -v "$python" > /dev/null || fail "there is no $python; name an interpreter with PyTorch in PYTHON"
version=$("$python" -c 'import torch; print(torch.__version__)' 2> /dev/null) ||
  fail "$python has no PyTorch; pip install torch (or apt-get install python3-torch), or name another python in PYTHON"

# Safe settings of some machines make a BLAS run code for older processors.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export TORCHINDUCTOR_CACHE_DIR=$scratch/inductor

# record SPACE WORK NAME COMMAND...: runs the command and notes its img_per_s, or "failed".
record() {
  local space=$1 work=$2 name=$3 rate
  shift 3
  if "$@" > "$scratch/out" 2> "$scratch/err"; then
    rate=$(sed -n 's/.*"img_per_s": *\([0-9.]*\).*/\1/p' "$scratch/out")
  else
    rate=failed
    echo "$space $work $name failed: $(tail -n 1 "$scratch/err")" >&2
  fi
  echo "$space $work $name $rate" | tee -a "$scratch/results" >&2
}

torch_command() {
  local work=$1 space=$2 variant=$3 program=("$peer" bench)
  [ "$work" = training ] || program=("$root/tools/experiments/torch_forward.py" "$peer")
  command=("$python" "${program[@]}" --space "$space" --arch max --batch "$batch" --threads "$threads" --steps "$steps"
    --warmup "$warmup" --rpe "${variant%+compile}")
  [ "$variant" = "${variant%+compile}" ] || command+=(--compile)
}

for ((round = 1; round <= rounds; ++round)); do
  for space in $spaces; do
    for work in training forward; do
      ours=("$bench" --space "$space" --arch max --batch "$batch" --threads "$threads")
      [ "$work" = training ] || ours+=(--forward-only)
      for variant in $variants; do
        record "$space" "$work" entangle "${ours[@]}"
        torch_command "$work" "$space" "$variant"
        record "$space" "$work" "$variant" "${command[@]}"
      done
    done
  done
done

echo "images per second, largest subnets, batch $batch, $threads threads, fp32, PyTorch $version, best of $rounds"
echo
awk -v spaces="$spaces" -v variants="entangle $variants" '
  $4 != "failed" && $4 > best[$1, $2, $3] { best[$1, $2, $3] = $4 }
  END {
    count = split(variants, name, " ")
    space_count = split(spaces, space, " ")
    line = "| space | work |"
    rule = "|---|---|"
    for (i = 1; i <= count; ++i) {
      line = line " " (i > 1 ? "PyTorch " : "") name[i] " |"
      rule = rule "---|"
    }
    print line " entangle / best PyTorch | entangle / best PyTorch with relative position |"
    print rule "---|---|"
    for (s = 1; s <= space_count; ++s) {
      for (w = 1; w <= 2; ++w) {
        work = w == 1 ? "training" : "forward"
        line = "| " space[s] " | " work " |"
        any = positioned = 0
        for (i = 1; i <= count; ++i) {
          rate = best[space[s], work, name[i]]
          line = line " " (rate > 0 ? rate : "failed") " |"
          if (i > 1 && rate > any) any = rate
          if (i > 1 && name[i] !~ /^none/ && rate > positioned) positioned = rate
        }
        ours = best[space[s], work, "entangle"]
        print line " " (any > 0 ? sprintf("%.2f", ours / any) : "-") " | " \
              (positioned > 0 ? sprintf("%.2f", ours / positioned) : "-") " |"
      }
    }
  }' "$scratch/results"

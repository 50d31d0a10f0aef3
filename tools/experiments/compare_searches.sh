#!/usr/bin/env bash
# Search algorithms on one supernet with as many candidates each, over seeds: evolution, evolution whose children a
# predictor chooses, and random search for the best subnet under a limit of parameters; NSGA-II and random search for the
# front of accuracy, parameters and multiply-accumulates. Writes OUTPUT.md and OUTPUT.svg, and OUTPUT-front.md and
# OUTPUT-front.svg.
#
#   tools/experiments/compare_searches.sh [OUTPUT]
#
# OUTPUT is docs/results/search by default. EPOCHS (10, of the supernet, whose seed is 0), SEEDS ("0 1 2 3 4", of the
# searches), MAX_PARAMS (720k: half of the default space's range), SEARCH (more arguments for every search) and WORK
# (runs/search) change that, and what common.sh names. With the defaults meant to take an hour at most on two cores.
set -euo pipefail
SEEDS=${SEEDS:-0 1 2 3 4}
source "$(dirname "$0")/common.sh"
output=${1:-docs/results/search} work=${WORK:-runs/search} epochs=${EPOCHS:-10} max_params=${MAX_PARAMS:-720k}

finish "$work/supernet" train_supernet --config "$config" --epochs "$epochs" --seed 0 "${settings[@]}"

# search NAME LABEL ARGUMENTS...: one for each seed; a search goes on where it was, and a finished one is only read. Sets `group`
# to LABEL=DIR,DIR for the report.
search() {
  local name=$1 label=$2 seed directories=()
  shift 2
  for seed in $seeds; do
    "$programs/search_subnets" "${common[@]}" --run "$work/supernet" --output "$work/$name-$seed" --seed "$seed" --no-report \
      ${SEARCH:-} "$@"
    directories+=("$work/$name-$seed")
  done
  group="$label=$(IFS=,; echo "${directories[*]}")"
}

limit=(--max-params "$max_params")
search evolution evolution "${limit[@]}"; groups=("$group")
search predictor "evolution, predictor" "${limit[@]}" --set SEARCH.predictor=ridge; groups+=("$group")
search random random "${limit[@]}" --algorithm random; groups+=("$group")
"$programs/report_experiment" searches --title "Evolution against random search" \
  --note "$config, $epochs epochs, at most $max_params parameters, seeds $seeds. The hypervolume is not what evolution looks for. $(made_by EPOCHS="$epochs" MAX_PARAMS="$max_params")" \
  --output "$output" "${groups[@]}"

search nsga2 NSGA-II --algorithm nsga2; groups=("$group")
search random-front random --algorithm random; groups+=("$group")
"$programs/report_experiment" searches --title "NSGA-II against random search" \
  --note "$config, $epochs epochs, no limits, seeds $seeds. $(made_by EPOCHS="$epochs")" --output "$output-front" "${groups[@]}"

#!/usr/bin/env bash
# Thousands of subnets out of one training: held-out accuracy against parameters, with the front marked. Writes OUTPUT.md and
# OUTPUT.svg.
#
#   tools/experiments/plot_front.sh [OUTPUT]
#
# OUTPUT is docs/results/front by default. SUBNETS (2000, random ones), RANK_IMAGES (1000 held-out images that score each),
# EPOCHS (10) and WORK (runs/front: the training) change that, and what common.sh names; of SEEDS the first counts. With the
# defaults meant to take an hour at most on two cores.
set -euo pipefail
source "$(dirname "$0")/common.sh"
output=${1:-docs/results/front} work=${WORK:-runs/front} epochs=${EPOCHS:-10}
subnets=${SUBNETS:-2000} rank_images=${RANK_IMAGES:-1000} seed=${seeds%% *}

finish "$work/supernet" train_supernet --config "$config" --epochs "$epochs" --seed "$seed" "${settings[@]}"
# Nothing is given up on the way: every subnet is scored on every image.
"$programs/search_subnets" "${common[@]}" --run "$work/supernet" --output "$work" --algorithm random --objectives params \
  --population "$subnets" --generations 1 --images "$rank_images" --seed "$seed" --set SEARCH.early_stop=false
"$programs/report_experiment" front --run "$work" \
  --title "Subnets of one training" \
  --note "$config, $epochs epochs, seed $seed; random subnets with the weights they inherit. $(made_by EPOCHS="$epochs" SUBNETS="$subnets")" \
  --output "$output"

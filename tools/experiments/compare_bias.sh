#!/usr/bin/env bash
# The QKV bias shared in alignment with its weight (the default) against the published contiguous sharing, in which one number
# serves Q in one subnet and K in another. Writes OUTPUT.md and OUTPUT.svg.
#
#   tools/experiments/compare_bias.sh [OUTPUT]
#
# OUTPUT is docs/results/bias by default. EPOCHS (4), SEEDS ("0 1 2"), WORK (runs/bias: the trainings) and RANDOM_SUBNETS (20,
# evaluated at the end) change that, and what common.sh names. With the defaults meant to take an hour at most on two cores.
set -euo pipefail
SEEDS=${SEEDS:-0 1 2}
source "$(dirname "$0")/common.sh"
output=${1:-docs/results/bias} work=${WORK:-runs/bias} epochs=${EPOCHS:-4}

train aligned MODEL.qkv_bias=aligned; groups=("$group")
train contiguous MODEL.qkv_bias=contiguous; groups+=("$group")
"$programs/report_experiment" "${common[@]}" curves --images "$images" --random "${RANDOM_SUBNETS:-20}" \
  --title "Aligned against contiguous QKV bias" \
  --note "$config, $epochs epochs a training, seeds $seeds. $(made_by EPOCHS="$epochs")" \
  --output "$output" "${groups[@]}"

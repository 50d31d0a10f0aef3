#!/usr/bin/env bash
# Strategies of training a supernet side by side: uniform, progressive, sandwich without and with in-place distillation. A
# sandwich step trains four subnets, so it gets a quarter of the epochs: about the same passes over the images. Writes OUTPUT.md
# and OUTPUT.svg.
#
#   tools/experiments/compare_strategies.sh [OUTPUT]
#
# OUTPUT is docs/results/strategies by default. EPOCHS (8), SANDWICH_EPOCHS (a quarter of them, at least 1), SEEDS ("0"), WORK
# (runs/strategies: the trainings) and RANDOM_SUBNETS (20, evaluated at the end) change that, and what common.sh names. With the
# defaults meant to take about an hour on two cores.
set -euo pipefail
SEEDS=${SEEDS:-0}
source "$(dirname "$0")/common.sh"
output=${1:-docs/results/strategies} work=${WORK:-runs/strategies} epochs=${EPOCHS:-8}
sandwich_epochs=${SANDWICH_EPOCHS:-$((epochs < 4 ? 1 : epochs / 4))}

train uniform TRAIN.strategy=uniform; groups=("$group")
train progressive TRAIN.strategy=progressive; groups+=("$group")
epochs=$sandwich_epochs train sandwich TRAIN.strategy=sandwich; groups+=("$group")
epochs=$sandwich_epochs train sandwich-distilled TRAIN.strategy=sandwich TRAIN.inplace_distillation=true; groups+=("$group")
"$programs/report_experiment" "${common[@]}" curves --images "$images" --random "${RANDOM_SUBNETS:-20}" \
  --title "Strategies of training a supernet" \
  --note "$config, $epochs epochs a training, of the sandwich strategy $sandwich_epochs, seeds $seeds. The loss of sandwich-distilled is partly against soft targets and does not compare. $(made_by EPOCHS="$epochs" SANDWICH_EPOCHS="$sandwich_epochs")" \
  --output "$output" "${groups[@]}"

#!/usr/bin/env bash
# Entangled against classical weight sharing: the same trainings, in one set of weights or with weights of its own for each
# choice of a layer. Writes OUTPUT.md and OUTPUT.svg: held-out accuracy while training, test accuracy, memory.
#
#   tools/experiments/compare_sharing.sh [OUTPUT]
#
# OUTPUT is docs/results/sharing by default. EPOCHS (4), WORK (runs/sharing: the trainings) and RANDOM_SUBNETS (20, evaluated at
# the end) change that, and what common.sh names. With the defaults meant to take an hour at most on two cores.
set -euo pipefail
source "$(dirname "$0")/common.sh"
output=${1:-docs/results/sharing} work=${WORK:-runs/sharing} epochs=${EPOCHS:-4}

train entangled MODEL.sharing=entangled; groups=("$group")
train classical MODEL.sharing=classical; groups+=("$group")
"$programs/report_experiment" "${common[@]}" curves --images "$images" --random "${RANDOM_SUBNETS:-20}" \
  --title "Entangled against classical weight sharing" \
  --note "$config, $epochs epochs a training, seeds $seeds; one optimiser for both: AdamW moves every weight in every step, also those that the step did not use. $(made_by EPOCHS="$epochs")" \
  --output "$output" "${groups[@]}"

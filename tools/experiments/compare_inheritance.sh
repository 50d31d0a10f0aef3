#!/usr/bin/env bash
# Subnets over the range of sizes with the weights they inherit from the supernet, the same finetuned, and trained from scratch:
# does the supernet order them as a training of their own does? Writes OUTPUT.md and OUTPUT.svg, with Kendall's tau.
#
#   tools/experiments/compare_inheritance.sh [OUTPUT]
#
# OUTPUT is docs/results/inheritance by default. COUNT (9 subnets), EPOCHS (4, of the supernet), FINETUNE_EPOCHS (1),
# FINETUNE_LR (2e-4), RETRAIN_EPOCHS (4) and WORK (runs/inheritance: the trainings) change that, and what common.sh names; of
# SEEDS the first counts. With the defaults meant to take about an hour on two cores.
set -euo pipefail
source "$(dirname "$0")/common.sh"
output=${1:-docs/results/inheritance} work=${WORK:-runs/inheritance} count=${COUNT:-9}
epochs=${EPOCHS:-4} finetune_epochs=${FINETUNE_EPOCHS:-1} retrain_epochs=${RETRAIN_EPOCHS:-4} seed=${seeds%% *}

finish "$work/supernet" train_supernet --config "$config" --epochs "$epochs" --seed "$seed" "${settings[@]}"
"$programs/report_experiment" draw --run "$work/supernet" --count "$count" --seed "$seed" --output "$work"
for ((i = 0; i < count; ++i)); do
  subnet=(--architecture "$work/subnet-$i.json" --seed "$seed")
  # A tenth of the learning rate: the weights are trained already.
  finish "$work/finetuned-$i" train_subnet "${subnet[@]}" --init "inherit:$work/supernet/checkpoint.safetensors" \
    --epochs "$finetune_epochs" --set "TRAIN.lr=${FINETUNE_LR:-2e-4}" --set TRAIN.warmup_epochs=0
  finish "$work/retrained-$i" train_subnet "${subnet[@]}" --config "$work/supernet/config.yaml" --epochs "$retrain_epochs"
done
"$programs/report_experiment" "${common[@]}" subnets --images "$images" --work "$work" --count "$count" \
  --title "Inherited, finetuned and retrained weights" \
  --note "$config, seed $seed: the supernet trained for $epochs epochs, subnets finetuned for $finetune_epochs with a learning rate of ${FINETUNE_LR:-2e-4}, retrained from scratch for $retrain_epochs. $(made_by COUNT="$count" EPOCHS="$epochs" RETRAIN_EPOCHS="$retrain_epochs")" \
  --output "$output"

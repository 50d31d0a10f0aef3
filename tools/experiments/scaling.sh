#!/usr/bin/env bash
# How the time of a training step grows: over batch sizes, over numbers of tokens (image sizes) and over widths (subnets
# of the T, S and B spaces). Writes DIR/scaling.tsv and DIR/scaling.svg.
#
#   tools/experiments/scaling.sh [DIR]
#
# DIR is runs/scaling by default. BATCHES, IMAGE_SIZES, SUBNETS (space:architecture), BATCH and THREADS in the
# environment change the defaults below.
set -euo pipefail
directory=${1:-runs/scaling}
batches=${BATCHES:-8 16 24 32 48 64}
image_sizes=${IMAGE_SIZES:-96 128 160 192 224 256}
subnets=${SUBNETS:-T:min T:mean T:max S:min S:mean S:max B:min B:mean B:max}
batch=${BATCH:-16}
threads=${THREADS:-$(nproc)}
root=$(cd "$(dirname "$0")/../.." && pwd)
programs=${ENTANGLE_PROGRAMS:-$root}
bench=$programs/bench_step
for program in bench_step plot_scaling; do
  [ -x "$programs/$program" ] || { echo "error: there is no $programs/$program; run make" >&2; exit 1; }
done
mkdir -p "$directory"
table=$directory/scaling.tsv

# A number of a line of JSON.
field() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p"; }

# measure SERIES LABEL BATCH ARGUMENTS...: a line of the table.
measure() {
  local series=$1 label=$2 images=$3 json key
  shift 3
  json=$("$bench" --batch "$images" --threads "$threads" "$@")
  printf '%s\t%s\t%s' "$series" "$label" "$images"
  for key in gflop_per_image img_per_s ceiling_gflops; do printf '\t%s' "$(field "$key" <<< "$json")"; done
  printf '\n'
}

{
  printf 'series\tlabel\tbatch\tgflop_per_image\timg_per_s\tceiling_gflops\n'
  for images in $batches; do measure batch "$images" "$images" --space T; done
  for size in $image_sizes; do measure tokens "$size px" "$batch" --space T --set "MODEL.image_size=$size"; done
  for subnet in $subnets; do measure width "$subnet" "$batch" --space "${subnet%:*}" --arch "${subnet#*:}"; done
} | tee "$table"
"$programs/plot_scaling" "$table" "$directory/scaling.svg" --batch-size "$batch"
echo "wrote $table and $directory/scaling.svg" >&2

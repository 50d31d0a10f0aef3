# What the experiments share; sourced by them. Every training is resumable: what is finished is not trained again, and what was
# interrupted goes on where it was. In the environment:
#   CONFIG, DATA     the configuration (default fashion-mnist) and the data set (default that of the configuration)
#   SEEDS            seeds of the trainings (default "0 1")
#   HELD_OUT         images held out of training (default that of the configuration); the others are trained on
#   IMAGES           test images that the report looks at, 0: all (default)
#   SETTINGS         more settings for every training, "TRAIN.lr=1e-3 DATA.flip=0"
#   THREADS          default all cores
#   NOTE             a sentence for the page: what else a reader must know
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
programs=${ENTANGLE_PROGRAMS:-$root}
config=${CONFIG:-fashion-mnist}
seeds=${SEEDS:-0 1}
images=${IMAGES:-0}
threads=${THREADS:-$(nproc)}

fail() { echo "error: $*" >&2; exit 1; }
for program in train_supernet train_subnet search_subnets report_experiment; do
  [ -x "$programs/$program" ] || fail "there is no $programs/$program; run make"
done

common=(--threads "$threads")
settings=()
for setting in ${SETTINGS:-} ${HELD_OUT:+DATA.held_out=$HELD_OUT} ${DATA:+DATA.spec=$DATA}; do
  settings+=(--set "$setting")
done

# made_by NAME=VALUE...: the command that made a page, and on what.
made_by() {
  local words=()
  for setting in "$@" SEEDS="$seeds" ${CONFIG:+CONFIG="$CONFIG"} ${DATA:+DATA="$DATA"} ${HELD_OUT:+HELD_OUT="$HELD_OUT"} \
    ${SETTINGS:+SETTINGS="$SETTINGS"}; do
    words+=("$(sed "s/=\(.* .*\)/='\1'/" <<< "$setting")")
  done
  echo "Made by \`${words[*]} tools/experiments/$(basename "$0")\`.${NOTE:+ $NOTE}"
}

# finish DIRECTORY PROGRAM ARGUMENTS...: runs a training to its end, which DIRECTORY/FINISHED then marks. DIRECTORY.arguments
# keeps the arguments, so that a run with others is not taken for this one.
finish() {
  local directory=$1 program=$2 resume=()
  shift 2
  if [ -f "$directory.arguments" ]; then
    [ "$(cat "$directory.arguments")" = "$program $*" ] ||
      fail "$directory was trained with other arguments ($(cat "$directory.arguments")); set WORK to another directory"
  fi
  [ ! -f "$directory/FINISHED" ] || return 0
  mkdir -p "$(dirname "$directory")"
  echo "$program $*" > "$directory.arguments"
  if [ -f "$directory/config.yaml" ]; then resume=(--resume); fi
  # A resumed run of one subnet has its beginning in its own checkpoint.
  if [ ${#resume[@]} -gt 0 ] && [ "$program" = train_subnet ]; then
    "$programs/train_subnet" "${common[@]}" --resume --output "$directory" | tee -i "$directory.out"
  else
    "$programs/$program" "${common[@]}" "${resume[@]}" "$@" --output "$directory" | tee -i "$directory.out"
  fi
  grep -q '^test ' "$directory.out" && ! grep -q '^stopped' "$directory.out" ||
    fail "$directory is not finished; give the same command again to continue"
  touch "$directory/FINISHED"
}

# train LABEL SETTINGS...: a supernet for each seed, in $work/LABEL-SEED; sets `group` to LABEL=DIR,DIR for the report.
train() {
  local label=$1 seed directories=()
  shift
  for seed in $seeds; do
    finish "$work/$label-$seed" train_supernet --config "$config" --epochs "$epochs" --seed "$seed" "${settings[@]}" \
      "${@/#/--set=}"
    directories+=("$work/$label-$seed")
  done
  group="$label=$(IFS=,; echo "${directories[*]}")"
}

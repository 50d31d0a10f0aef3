#!/bin/sh
# check.sh [--update] PAGE...: runs the code on pages of the course, and compares what comes out with what they print.
#
#   ```cpp     all of a page's are one program: the first stands outside of main, each other one is the next part of main
#   ```cuda    likewise a second program, for the emulated device (make CUDA=emulated), left out in other builds
#   ```sh      a shell's commands, in a folder of the page's own where the programs lie as ./NAME
#   ```output  what the block before it prints; a block without one prints nothing
#
# Exits with 1, naming page, block and line, when anything differs. --update writes what came out into the page instead.
# ENTANGLE_COMPILE and ENTANGLE_LINK (commands), ENTANGLE_PROGRAMS (a folder), ENTANGLE_CUDA_FLAGS (further ones of the cuda
# blocks, not empty where they can run) come from make: `make course`.
set -eu
fail() {
  echo "error: $*" >&2
  exit 1
}
update=
if [ "${1-}" = --update ]; then
  update=1
  shift
fi
[ $# -gt 0 ] || fail "check.sh wants a page, as docs/course/1-tensors-and-the-tape.md"
[ -n "${ENTANGLE_COMPILE-}" ] || fail "ENTANGLE_COMPILE is not set; run \`make course\`, which sets it"
root=$PWD
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

# Writes into folder `work`: N.sh, N.expected and a line "N KIND LINE" of `blocks` for each block that runs; and the
# programs, which print a line with a record separator and N before each block's output.
split_page() {
  awk -v work="$work" -v page="$page" '
    function stop(line, words) {
      printf "error: %s, line %d: %s\n", page, line, words > "/dev/stderr"
      failed = 1
      exit 1
    }
    function begin(kind) {
      ++count
      printf "%d %s %d\n", count, kind, NR > (work "/blocks")
      printf "" > (work "/" count ".expected")
      if (kind == "sh") {
        file = work "/" count ".sh"
        return
      }
      file = work "/" kind ".cpp"
      if (++parts[kind] == 1) print "#include <cstdio>" > file
      if (parts[kind] == 2) print "int main() {" > file
      if (parts[kind] > 1) printf "std::printf(\"\\n\\036 %d\\n\"), std::fflush(stdout);\n", count > file
      printf "#line %d \"%s\"\n", NR + 1, page > file
    }
    /^```/ && inside == "" {
      inside = substr($0, 4)
      opened = NR
      if (inside == "cpp" || inside == "cuda" || inside == "sh") {
        begin(inside)
        answered = 0
      } else if (inside == "output") {
        if (count == 0 || answered) stop(NR, "an output block follows no block that runs")
        file = work "/" count ".expected"
        answered = 1
      } else {
        file = ""
        inside = "text"
      }
      next
    }
    /^```$/ {
      inside = ""
      file = ""
      next
    }
    inside != "" && file != "" { print > file }
    END {
      if (failed) exit 1
      if (inside != "") stop(opened, "this block has no end")
      if (count == 0) stop(1, "there is no block that runs on this page")
      for (kind in parts) {
        if (parts[kind] == 1) stop(1, "the only " kind " block stands outside of main; nothing would run")
        print "}" > (work "/" kind ".cpp")
      }
    }' "$1"
}

# What the program of `kind` printed, block by block: to N.actual. The newline in front of a separator is not the block's.
split_output() {
  awk -v work="$work" '
    function put(line) { print line > (work "/" block ".actual") }
    /^\036 / {
      if (held && last != "") put(last)
      block = $2
      held = 0
      printf "" > (work "/" block ".actual")
      next
    }
    block != "" {
      if (held) put(last)
      last = $0
      held = 1
    }
    END { if (held) put(last) }' "$1"
}

run_program() {
  # Words of the commands are separated by spaces.
  flags=
  [ "$1" = cpp ] || flags=$ENTANGLE_CUDA_FLAGS
  { $ENTANGLE_COMPILE $flags -c "$work/$1.cpp" -o "$work/$1.o" &&
    $ENTANGLE_COMPILE "$work/$1.o" -o "$work/$1" ${ENTANGLE_LINK-}; } > "$work/compiler" 2>&1 || {
    cat "$work/compiler" >&2
    fail "$page: the $1 blocks do not compile"
  }
  status=0
  "$work/$1" > "$work/$1.out" 2> "$work/$1.err" || status=$?
  split_output "$work/$1.out"
  [ "$status" = 0 ] && return
  cat "$work/$1.err" >&2
  last=$(awk '/^\036 / { last = $2 } END { print last }' "$work/$1.out")
  fail "$page: the program of the $1 blocks ended with status $status in block ${last:-1}"
}

run_sh() {
  status=0
  (cd "$work/folder" && sh -eu "$work/$1.sh") > "$work/$1.actual" 2>&1 < /dev/null || status=$?
  [ "$status" = 0 ] || {
    cat "$work/$1.actual" >&2
    fail "$page: block $1 (sh, line $2) ended with status $status"
  }
}

# The first line of a block's output that differs.
compare() {
  : >> "$work/$1.actual"
  cmp -s "$work/$1.expected" "$work/$1.actual" && return
  differs=1
  awk -v block="$1" -v kind="$2" -v line="$3" -v page="$page" '
    function shown(there, text) { return there ? "\"" text "\"" : "nothing" }
    BEGIN {
      expected = ARGV[1]; actual = ARGV[2]
      do {
        ++n
        left = (getline want < expected) > 0
        right = (getline got < actual) > 0
      } while (left && right && want == got)
      printf "error: %s, block %d (%s, line %d): line %d of its output is %s, but the page says %s\n", page, block, kind,
             line, n, shown(right, got), shown(left, want) > "/dev/stderr"
    }' "$work/$1.expected" "$work/$1.actual"
}

write_page() {
  awk -v work="$work" '
    function put_output(    line, name) {
      name = work "/" count ".actual"
      while ((getline line < name) > 0) print line
      close(name)
    }
    function has_output(    line, name, found) {
      name = work "/" count ".actual"
      found = (getline line < name) > 0
      close(name)
      return found
    }
    # A block that prints and has no output block yet gets one, at the first line that is no blank one.
    function settle() {
      if (waiting && $0 != "```output" && has_output()) {
        print "```output"
        put_output()
        print "```\n"
      }
      waiting = 0
    }
    waiting && !inside && NF { settle() }
    /^```/ && !inside {
      inside = 1
      kind = substr($0, 4)
      if (kind == "cpp" || kind == "cuda" || kind == "sh") ++count
      print
      if (kind == "output") put_output()
      next
    }
    /^```$/ && inside {
      inside = 0
      waiting = kind == "cpp" || kind == "cuda" || kind == "sh"
      print
      next
    }
    !(inside && kind == "output")
    END { $0 = ""; settle() }' "$1" > "$work/page"
  cmp -s "$work/page" "$1" || cp "$work/page" "$1"
}

check_page() {
  page=$1
  [ -r "$page" ] || fail "there is no page $page"
  work=$temporary/$(basename "$page" .md)
  mkdir -p "$work/folder"
  for program in "${ENTANGLE_PROGRAMS:-.}"/*; do
    [ -f "$program" ] && [ -x "$program" ] || continue
    case $program in /*) ;; *) program=$root/$program ;; esac
    ln -s "$program" "$work/folder/"
  done
  split_page "$page" || exit 1
  checked=0
  left_out=0
  [ ! -e "$work/cpp.cpp" ] || run_program cpp
  if [ -e "$work/cuda.cpp" ] && [ -n "${ENTANGLE_CUDA_FLAGS-}" ]; then run_program cuda; fi
  while read -r number kind line; do
    if [ "$kind" = cuda ] && [ -z "${ENTANGLE_CUDA_FLAGS-}" ]; then
      left_out=$((left_out + 1))
      cp "$work/$number.expected" "$work/$number.actual"
      continue
    fi
    [ "$kind" != sh ] || run_sh "$number" "$line"
    checked=$((checked + 1))
    [ -n "$update" ] || compare "$number" "$kind" "$line"
  done < "$work/blocks"
  if [ -n "$update" ]; then write_page "$page"; fi
  words="$page: $checked blocks run"
  [ "$left_out" = 0 ] || words="$words, $left_out cuda blocks left out (they need make CUDA=emulated)"
  echo "$words"
}

differs=0
for page in "$@"; do check_page "$page"; done
exit $differs

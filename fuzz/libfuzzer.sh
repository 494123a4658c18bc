#!/usr/bin/env bash
# Runs every target under libFuzzer for its share of a time: `libfuzzer.sh MINUTES [TARGET...]`. As many at a time as there are processors.
#
# Inputs that reach new code are kept in the cache folder, for the next run. An input that makes a target panic, take 25 seconds or
# use a gigabyte is printed, and is in a file to add to the corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes=$1
shift
[ $# -gt 0 ] || set -- $(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' fuzz/Cargo.toml)
finds=${XDG_CACHE_HOME:-$HOME/.cache}/pingpipeline/fuzz
processors=$(nproc)
seconds=$((minutes * 60 * processors / $#))

# As the tests, so that dependencies are shared with them. libFuzzer needs whole crates, and no parts of earlier builds.
RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/instrument.sh CARGO_INCREMENTAL=0 \
  cargo build -q --workspace --features ping-fuzz/libfuzzer "${@/#/--bin=}"
programs=${CARGO_TARGET_DIR:-target}/debug

run() { # run TARGET
  local target=$1 log=$finds/$1.log status=0
  mkdir -p "$finds/$target"
  "$programs/$target" -max_total_time="$seconds" -max_len=65536 -timeout=25 -rss_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="$finds/$target-" "$finds/$target" "fuzz/corpus/$target" >"$log" 2>&1 || status=$?
  if [ $status != 0 ]; then
    tail -n 40 "$log"
    echo "$target FAILED: fix it, and add the file above to fuzz/corpus/$target" >&2
    return 1
  fi
  local inputs memory edges
  inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  memory=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
  edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  echo "$target: $inputs inputs in $seconds s, $edges edges reached, at most $memory MiB of memory"
}

export -f run
export finds programs seconds
printf '%s\n' "$@" | xargs -P "$processors" -I{} bash -euo pipefail -c 'run {}'

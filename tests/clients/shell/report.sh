# Runs cases and reports each; sourced by the scripts beside it.

passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A source and a time range of this script's own, so that its counts are exact: from 2001 on, for 20 years.
source=shell-$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
range_start() { echo $((978307200000 + $(od -An -N4 -tu4 /dev/urandom) % 630720000 * 1000)); }

# A token of a writer that does not exist.
never_counted=999.0.1
# Seconds. Longer than any call should take, even on a busy machine, and shorter than the server waits for a token.
slow=8

check() { # check CLIENT NAME FUNCTION
  local output status started=${EPOCHREALTIME/[.,]/}
  start=$(range_start)
  set +e
  output=$(set -e; "$3" 2>&1)
  status=$?
  set -e
  if [ $status = 0 ]; then
    passed=$((passed + 1))
    echo "ok     shell $1: $2 ($(((${EPOCHREALTIME/[.,]/} - started) / 1000)) ms)"
  else
    failed=$((failed + 1))
    echo "FAILED shell $1: $2: $output"
  fi
}

finish() {
  echo "shell $1: $passed passed, $failed failed"
  [ $failed = 0 ] && [ $passed -gt 0 ]
}

# want TEXT PATTERN...: fails unless TEXT contains every PATTERN.
want() {
  local text=$1 pattern
  shift
  for pattern in "$@"; do
    [[ $text == *"$pattern"* ]] || { echo "want $pattern in: $text"; return 1; }
  done
}

# The value of a text field in a JSON object.
field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"; }

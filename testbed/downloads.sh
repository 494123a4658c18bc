# What the scripts share that install something; sourced by them. They define `say`, which prints a line with their name.

die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null; }

# Downloads sometimes fail, and another process may hold apt's lock.
retry() {
  local attempt
  for attempt in 1 2 3 4; do
    "$@" && return
    say "attempt $attempt of 4 failed: $*"
    sleep $((attempt * 5))
  done
  die "giving up: $*"
}

# Prints the output of a command only if it fails.
quietly() {
  local output
  output=$("$@" 2>&1) || { echo "$output" >&2; return 1; }
}

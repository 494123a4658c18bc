#!/usr/bin/env bash
# Runs the contract suites and the pipeline on real parts with Postgres 15 to 18, Redis and Valkey; prints a table. `install.sh versions`
# installs what Debian does not have.
set -euo pipefail
cd "$(dirname "$0")/.."

versions=/usr/local/lib/pingpipeline
table=() failed=0

try() { # try NAME COMMAND...
  local name=$1 result=passed
  shift
  echo "== $name"
  "$@" || { result=FAILED failed=1; }
  table+=("$(printf '%-40s %s' "$name" "$result")")
}

with_postgres() { # with_postgres PROGRAMS
  # The skipped tests need pg_basebackup of the same version, which the packages lack.
  PING_TESTBED_POSTGRES=$1 cargo test -q --workspace --test store_contract -- --skip a_standby &&
    PING_TESTBED_POSTGRES=$1 cargo test -q --workspace --test pipeline -- real_parts:: known_bugs:: view_audit:: incarnations:: \
      --skip a_failover
}

with_redis() { # with_redis FOLDER
  PATH=$1:$PATH cargo test -q --workspace --test cache_contract --test status_contract &&
    PATH=$1:$PATH cargo test -q --workspace --test pipeline -- real_parts:: statuses::
}

for programs in /usr/lib/postgresql/*/bin "$versions"/postgres-*/bin; do
  try "$("$programs/postgres" --version)" with_postgres "$programs"
done
for folder in "$(dirname "$(command -v redis-server)")" "$versions/valkey"; do
  try "$("$folder/redis-server" --version | cut -d' ' -f1-3)" with_redis "$folder"
done
printf '%s\n' '== versions' "${table[@]}"
exit $failed

#!/usr/bin/env bash
# Runs run.sh against an embedded server of its own, one language after the other.
set -euo pipefail
cd "$(dirname "$0")/../.."

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

tests/clients/run.sh install
status=0
for language in ${*:-go python typescript shell}; do
  api=127.0.0.1:$(port) admin=127.0.0.1:$(port)
  target/debug/pingd-dev --memory --log warn --listen "$api" --admin-listen "$admin" >/dev/null &
  server=$!
  until curl -sf "$admin/readyz" >/dev/null; do sleep 0.1; done
  tests/clients/run.sh "http://$api" "http://$admin" "$language" || status=1
  kill $server
  wait $server || status=1
done
exit $status

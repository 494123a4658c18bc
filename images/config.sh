#!/usr/bin/env bash
# Prints the configuration of one of our images, as JSON: the user, the entry point, labels. The Dockerfile has the same.
#
#   config.sh IMAGE VERSION
set -euo pipefail

case $1 in
  pingd) description='Exactly-once event counter: server, processor and command-line client' ports='{"8080/tcp": {}, "8081/tcp": {}}' ;;
  ping-operator) description='Kubernetes operator for PingPipelines' ports='{"8081/tcp": {}}' ;;
  *) echo "config.sh: unknown image $1" >&2; exit 1 ;;
esac
jq -nc --arg program "$1" --arg version "$2" --arg description "$description" --argjson ports "$ports" '{
  User: "65532:65532", WorkingDir: "/", Env: ["PATH=/usr/local/bin"], Entrypoint: [$program], ExposedPorts: $ports,
  Labels: {"org.opencontainers.image.version": $version, "org.opencontainers.image.description": $description,
    "org.opencontainers.image.licenses": "Apache-2.0"}}'

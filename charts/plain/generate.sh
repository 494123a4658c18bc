#!/bin/sh
# Renders the chart as plain YAML for users without Helm. Usage: generate.sh [helm]
set -eu
here=$(dirname "$0")
"${1:-helm}" template ping-operator "$here/../ping-operator" --namespace ping-system --no-hooks >"$here/install.yaml"

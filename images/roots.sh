#!/usr/bin/env bash
# What is in our two images. The Dockerfile and build.sh both call this, so both make the same.
#
#   roots.sh BINARIES TO   from the programs in BINARIES: the root folders TO/pingd and TO/ping-operator
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binaries=$1 to=$2

place() { # place IMAGE PROGRAM...
  local image=$1 program entries=()
  shift
  for program in "$@"; do entries+=("$binaries/$program=/usr/local/bin/$program"); done
  "$here/rootfs.sh" "$to/$image" "${entries[@]}"
  # Symbols stay: a panic's backtrace names its functions.
  strip --strip-debug "$to/$image/usr/local/bin"/*
}

place pingd pingd pingctl
place ping-operator ping-operator

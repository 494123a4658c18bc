#!/usr/bin/env bash
# Creates the root folders of our two images. The Dockerfile and build.sh both use it.
#
#   roots.sh BINARIES TO   creates TO/pingd and TO/ping-operator from the programs in BINARIES
#
# STRIP and SYSROOT are set if they are for another architecture: see release/sysroot.sh.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binaries=$1 to=$2

make_root() { # make_root IMAGE PROGRAM...
  local image=$1 program entries=()
  shift
  for program in "$@"; do entries+=("$binaries/$program=/usr/local/bin/$program"); done
  "$here/rootfs.sh" "$to/$image" "${entries[@]}"
  # Keeps the symbols so that backtraces contain function names.
  "${STRIP:-strip}" --strip-debug "$to/$image/usr/local/bin"/*
}

make_root pingd pingd pingctl
make_root ping-operator ping-operator

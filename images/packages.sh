#!/usr/bin/env bash
# Prints the Debian packages whose files the root folder of an image contains, as NAME=VERSION lines.
#
#   packages.sh ROOT
#
# SYSROOT, if set, is the folder from which the files came, with the database of its packages.
set -euo pipefail

root=$1
database=${SYSROOT:-}/var/lib/dpkg
{
  echo ca-certificates
  find "$root/usr" -name '*.so*' -printf '/%P\n' | while read -r library; do
    dpkg-query --admindir="$database" -S "$library" "/usr$library" 2>/dev/null || true
  done | cut -d: -f1
} | sort -u | while read -r package; do
  # The authorities come from this machine: they do not depend on the architecture.
  dpkg-query --admindir="$database" -W -f '${Package}=${Version}\n' "$package" 2>/dev/null ||
    dpkg-query -W -f '${Package}=${Version}\n' "$package"
done

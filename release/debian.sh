#!/usr/bin/env bash
# Builds a Debian package with dpkg-deb, from the tools that every Debian machine with a compiler has. cargo-deb packs the same, but takes
# minutes to build, and expects each program's assets in its Cargo.toml.
#
#   debian.sh PACKAGE TREE FILE   packs TREE, a folder with the files below /, as FILE
#
# VERSION is the version, ARCHITECTURE=x86_64|aarch64 that of the programs. SYSROOT is set for another architecture than this machine's: a folder
# with the libraries and the database of their packages.
set -euo pipefail
# A command that fails in $(…) ends the script, too.
shopt -s inherit_errexit

package=$1 tree=$2 file=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case $ARCHITECTURE in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) echo "debian.sh: unsupported architecture $ARCHITECTURE" >&2; exit 1 ;;
esac
case $package in
  pingd) summary='exactly-once event counter: server and processor'
    text='pingd counts events exactly once, with Postgres, Kafka and a Redis-protocol cache. This package has systemd units for server and processor.' ;;
  pingd-dev) summary='exactly-once event counter in one process, for development'
    text='pingd-dev is pingd without infrastructure: it keeps its events in a local file, or in memory.' ;;
  pingctl) summary='command-line client of pingd'
    text='pingctl sends events, queries counts and statuses, and finds out why a server cannot be reached.' ;;
  kubectl-pingpipeline) summary='kubectl plugin for PingPipelines'
    text='Shows the status of PingPipelines and how to connect to them, explains conditions and runs drills.' ;;
  *) echo "debian.sh: unknown package $package" >&2; exit 1 ;;
esac

install -D -m 644 "$here/../LICENSE" "$tree/usr/share/doc/$package/copyright"
gzip -9nc "$here/../CHANGELOG.md" >"$tree/usr/share/doc/$package/changelog.gz"
if [ -d "$tree/usr/share/man" ]; then find "$tree/usr/share/man" -type f -exec gzip -9n {} +; fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/debian"
printf 'Source: pingpipeline\n\nPackage: %s\nArchitecture: any\n' "$package" >"$scratch/debian/control"
tree=$(realpath "$tree")
depends=$(cd "$scratch" && dpkg-shlibdeps ${SYSROOT:+--admindir="$SYSROOT/var/lib/dpkg" -l"$SYSROOT/usr/lib/$ARCHITECTURE-linux-gnu" \
  -l"$SYSROOT/lib/$ARCHITECTURE-linux-gnu"} -O "$tree"/usr/bin/* 2>"$scratch/log" | sed -n 's/^shlibs:Depends=//p') ||
  { cat "$scratch/log" >&2; exit 1; }

mkdir "$tree/DEBIAN"
cat >"$tree/DEBIAN/control" <<END
Package: $package
Version: $VERSION
Architecture: $architecture
Maintainer: pingpipeline <https://pingpipeline.io>
Installed-Size: $(du -ks --exclude=DEBIAN "$tree" | cut -f1)
Depends: $depends
Section: net
Priority: optional
Homepage: https://pingpipeline.io
Description: $summary
 $text
END
if [ "$package" = pingd ]; then
  echo /etc/pingd/pingd.env >"$tree/DEBIAN/conffiles"
  install -m 755 "$here"/debian/{postinst,prerm,postrm} "$tree/DEBIAN/"
fi
(cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
dpkg-deb --root-owner-group -Zxz -z"${LEVEL:-6}" --build "$tree" "$file" >/dev/null

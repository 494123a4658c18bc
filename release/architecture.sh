#!/usr/bin/env bash
# Packs the programs of one architecture: archives, Debian packages, images, and a bill of materials for each program and image.
#
#   architecture.sh BUILT PAGES   BUILT: folder of the programs; PAGES: folder of manual pages and completions
#
# build.sh sets VERSION, ARCHITECTURE, TO, RELEASE, LEVEL, SOURCE_DATE_EPOCH and, for another architecture than this machine's, STRIP and SYSROOT.
set -euo pipefail
# A command that fails in $(…) ends the script, too.
shopt -s inherit_errexit

built=$1 pages=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
platform=$([ "$ARCHITECTURE" = x86_64 ] && echo amd64 || echo arm64)
suffix=$VERSION-linux-$ARCHITECTURE

archive() { # archive PROGRAM
  local folder=$scratch/archives/$1-$suffix
  mkdir -p "$folder"
  cp "$scratch/programs/$1" LICENSE CHANGELOG.md "$folder/"
  [ ! -d "$pages/man/$1" ] || cp -r "$pages/man/$1" "$folder/man"
  [ "$1" != pingctl ] || cp -r "$pages/completions" "$folder/completions"
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$scratch/archives" -cf - "$1-$suffix" |
    gzip -n "-$LEVEL" >"$TO/$1-$suffix.tar.gz"
}

debian_package() { # debian_package PROGRAM
  local tree=$scratch/debian/$1
  install -D -t "$tree/usr/bin" "$scratch/programs/$1"
  [ ! -d "$pages/man/$1" ] || install -D -m 644 -t "$tree/usr/share/man/man1" "$pages/man/$1"/*
  case $1 in
    pingd)
      install -D -m 644 -t "$tree/usr/lib/systemd/system" release/debian/*.service
      # Passwords are written into it.
      install -D -m 600 release/debian/pingd.env "$tree/etc/pingd/pingd.env"
      ;;
    pingctl)
      install -D -m 644 "$pages/completions/bash" "$tree/usr/share/bash-completion/completions/pingctl"
      install -D -m 644 "$pages/completions/zsh" "$tree/usr/share/zsh/vendor-completions/_pingctl"
      install -D -m 644 "$pages/completions/fish" "$tree/usr/share/fish/vendor_completions.d/pingctl.fish"
      ;;
  esac
  release/debian.sh "$1" "$tree" "$TO/$1_${VERSION}_$platform.deb"
}

bill() { # bill KIND NAME ARGUMENT...
  local kind=$1 name=$2
  shift 2
  "$RELEASE" sbom --kind "$kind" --name "$name" --version "$VERSION" "$@" <"$scratch/metadata" >"$TO/$name-$suffix.$kind.cdx.json"
}

image() { # image IMAGE PACKAGE...
  local image=$1 root=$scratch/roots/$1 parts=() part
  shift
  COMPRESS=yes images/archive.sh "$root" "pingpipeline/$image:$VERSION" "$TO/$image-$suffix.oci.tar" "$(images/config.sh "$image" "$VERSION")"
  for part in "$@"; do parts+=(--package "$part"); done
  while read -r part; do parts+=(--debian "$part"); done < <(images/packages.sh "$root")
  bill container "$image" "${parts[@]}"
}

cargo metadata --format-version 1 --locked --filter-platform "$ARCHITECTURE-unknown-linux-gnu" >"$scratch/metadata"
images/roots.sh "$built" "$scratch/roots"
mkdir "$scratch/programs"
# The programs of images have no debug information any more.
cp "$scratch/roots/pingd/usr/local/bin"/* "$built/pingd-dev" "$built/kubectl-pingpipeline" "$scratch/programs/"
"${STRIP:-strip}" --strip-debug "$scratch/programs"/{pingd-dev,kubectl-pingpipeline}

for program in pingd pingd-dev pingctl kubectl-pingpipeline; do
  archive "$program"
  debian_package "$program"
  bill application "$program" --package "${program/#pingd-dev/ping-embedded}"
done
image pingd pingd pingctl
image ping-operator ping-operator

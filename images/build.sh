#!/usr/bin/env bash
# Builds the two images as archives, each with a bill of materials, without a container engine or a registry.
#
#   build.sh            builds the programs in release mode and writes target/images
#   build.sh --debug    for tests: uses the programs of `cargo test --workspace` and omits the bills of materials
#
# `ctr images import`, `docker load` and `podman load` accept the archives.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
profile=release
case ${1:-} in
  '') ;;
  --debug) profile=debug ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
to=target/images

if [ $profile = release ]; then
  cargo build --release --locked -p pingd -p pingctl -p ping-operator --bins
else
  cargo test --quiet --workspace --no-run
fi
rm -rf $to
images/roots.sh "target/$profile" $to/roots

# Lists the crates of an image's programs and the Debian packages whose libraries it contains.
bill_of_materials() { # bill_of_materials IMAGE PACKAGE...
  local image=$1 bill=() package
  shift
  for package in "$@"; do bill+=(--package "$package"); done
  while read -r package; do bill+=(--debian "$package"); done < <(images/packages.sh "$to/roots/$image")
  cargo metadata --format-version 1 --locked --filter-platform "$(uname -m)-unknown-linux-gnu" |
    cargo run --quiet --bin release -- sbom --kind container --name "$image" --version "$version" "${bill[@]}" >"$to/$image.cdx.json"
  printf '%-28s %5d components in %s\n' "pingpipeline/$image:$version" "$(jq '.components | length' "$to/$image.cdx.json")" "$to/$image.cdx.json"
}

build_image() { # build_image IMAGE
  archive "$version" "$to/$1.tar" "$1"
  if [ $profile = debug ]; then
    # A different image with the same programs, so that tests can upgrade to it.
    archive next "$to/next/$1.tar" "$1"
    printf '%-28s %5.1f MB\n' "pingpipeline/$1:$version" "$(size "$to/$1.tar")"
  else
    printf '%-28s %5.1f MB, %5.1f MB to pull\n' "pingpipeline/$1:$version" "$(size "$to/$1.tar")" "$(gzip -c "$to/$1.tar" | size)"
  fi
}

archive() { # archive VERSION FILE IMAGE
  images/archive.sh "$to/roots/$3" "pingpipeline/$3:$1" "$2" "$(images/config.sh "$3" "$1")"
}

size() { cat "$@" | wc -c | awk '{print $1 / 1e6}'; }

build_image pingd
build_image ping-operator
if [ $profile = release ]; then
  bill_of_materials pingd pingd pingctl
  bill_of_materials ping-operator ping-operator
fi

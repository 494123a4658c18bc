#!/usr/bin/env bash
# Builds the two images as archives, without an engine or a registry, with a list of what is in each beside it.
#
#   build.sh            from release builds, into target/images
#   build.sh --debug    from the programs that `cargo test --workspace` builds, without the lists: for tests
#
# `ctr images import`, `docker load` and `podman load` take the archives.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pingpipeline
cyclonedx_version=0.5.9
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

# The crates of a program, and the Debian packages whose libraries are in its image.
bill_of_materials() { # bill_of_materials CRATE IMAGE
  local library packages
  packages=$(find "$to/roots/$2/usr" -name '*.so*' -printf '/%P\n' | while read -r library; do
    dpkg-query -S "$library" "/usr$library" 2>/dev/null || true
  done | cut -d: -f1 | sort -u)
  # shellcheck disable=SC2086,SC2016
  dpkg-query -W -f '${Package} ${Version}\n' ca-certificates $packages | jq -Rn --slurpfile bom "$1/bom.json" '
    $bom[0] | .components += [inputs | split(" ") | {type: "library", name: .[0], version: .[1],
      purl: "pkg:deb/debian/\(.[0])@\(.[1])"}]' >"$to/$2.cdx.json"
}

describe() { # describe CRATE IMAGE DESCRIPTION PORTS
  archive "$version" "$to/$2.tar" "$@"
  # To upgrade to: the same programs in an image that is another one.
  [ $profile = release ] || archive next "$to/next/$2.tar" "$@"
  printf '%-28s %5.1f MB, %5.1f MB to pull\n' "pingpipeline/$2:$version" "$(size "$to/$2.tar")" "$(gzip -c "$to/$2.tar" | size)"
}

archive() { # archive VERSION FILE CRATE IMAGE DESCRIPTION PORTS
  images/archive.sh "$to/roots/$4" "pingpipeline/$4:$1" "$2" "$(jq -n --arg program "$4" \
    --arg version "$1" --arg description "$5" --argjson ports "$6" '{
      User: "65532:65532", WorkingDir: "/", Env: ["PATH=/usr/local/bin"], Entrypoint: [$program], ExposedPorts: $ports,
      Labels: {"org.opencontainers.image.version": $version, "org.opencontainers.image.description": $description,
        "org.opencontainers.image.licenses": "Apache-2.0"}}')"
}

size() { cat "$@" | wc -c | awk '{print $1 / 1e6}'; }

describe dataplane/pingd pingd "Counts pings exactly once: server, processor, command line" '{"8080/tcp": {}, "8081/tcp": {}}'
describe operator/controller ping-operator "Runs PingPipelines" '{"8081/tcp": {}}'
if [ $profile = release ]; then
  PATH=$cache/bin:$PATH
  if ! cargo cyclonedx --version 2>/dev/null | grep -qF " $cyclonedx_version"; then
    cargo install --quiet --locked --root "$cache" "cargo-cyclonedx@$cyclonedx_version"
  fi
  # cargo cyclonedx writes a bom.json next to every Cargo.toml of the workspace.
  trap 'rm -f ./*/bom.json ./*/*/bom.json ./*/*/*/bom.json' EXIT
  cargo cyclonedx --quiet --format json --override-filename bom --no-build-deps
  bill_of_materials dataplane/pingd pingd
  bill_of_materials operator/controller ping-operator
  for image in pingd ping-operator; do
    printf '%-28s %5d parts in %s\n' "pingpipeline/$image:$version" "$(jq '.components | length' $to/$image.cdx.json)" "$to/$image.cdx.json"
  done
fi

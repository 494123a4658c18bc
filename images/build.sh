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

# Lists the crates of an image's programs and the Debian packages whose libraries it contains.
bill_of_materials() { # bill_of_materials IMAGE FOLDER..., with the folders of the programs' crates
  local image=$1 library packages
  shift
  packages=$(find "$to/roots/$image/usr" -name '*.so*' -printf '/%P\n' | while read -r library; do
    dpkg-query -S "$library" "/usr$library" 2>/dev/null || true
  done | cut -d: -f1 | sort -u)
  jq -s '.[0] + {components: [.[].components[]] | unique_by(.["bom-ref"])}' "${@/%//bom.json}" >"$to/$image.bom"
  # shellcheck disable=SC2086,SC2016
  dpkg-query -W -f '${Package} ${Version}\n' ca-certificates $packages | jq -Rn --slurpfile bom "$to/$image.bom" '
    $bom[0] | .components += [inputs | split(" ") | {type: "library", name: .[0], version: .[1],
      purl: "pkg:deb/debian/\(.[0])@\(.[1])"}]' >"$to/$image.cdx.json"
  rm "$to/$image.bom"
}

build_image() { # build_image IMAGE DESCRIPTION PORTS
  archive "$version" "$to/$1.tar" "$@"
  if [ $profile = debug ]; then
    # A different image with the same programs, so that tests can upgrade to it.
    archive next "$to/next/$1.tar" "$@"
    printf '%-28s %5.1f MB\n' "pingpipeline/$1:$version" "$(size "$to/$1.tar")"
  else
    printf '%-28s %5.1f MB, %5.1f MB to pull\n' "pingpipeline/$1:$version" "$(size "$to/$1.tar")" "$(gzip -c "$to/$1.tar" | size)"
  fi
}

archive() { # archive VERSION FILE IMAGE DESCRIPTION PORTS
  images/archive.sh "$to/roots/$3" "pingpipeline/$3:$1" "$2" "$(jq -n --arg program "$3" \
    --arg version "$1" --arg description "$4" --argjson ports "$5" '{
      User: "65532:65532", WorkingDir: "/", Env: ["PATH=/usr/local/bin"], Entrypoint: [$program], ExposedPorts: $ports,
      Labels: {"org.opencontainers.image.version": $version, "org.opencontainers.image.description": $description,
        "org.opencontainers.image.licenses": "Apache-2.0"}}')"
}

size() { cat "$@" | wc -c | awk '{print $1 / 1e6}'; }

build_image pingd "Exactly-once event counter: server, processor and command-line client" '{"8080/tcp": {}, "8081/tcp": {}}'
build_image ping-operator "Kubernetes operator for PingPipelines" '{"8081/tcp": {}}'
if [ $profile = release ]; then
  PATH=$cache/bin:$PATH
  if ! cargo cyclonedx --version 2>/dev/null | grep -qF " $cyclonedx_version"; then
    cargo install --quiet --locked --root "$cache" "cargo-cyclonedx@$cyclonedx_version"
  fi
  # It writes a file next to every Cargo.toml of the workspace.
  trap 'find . -name bom.json -not -path "./target/*" -delete' EXIT
  cargo cyclonedx --quiet --format json --override-filename bom --no-build-deps
  bill_of_materials pingd dataplane/pingd dataplane/pingctl
  bill_of_materials ping-operator operator/controller
  for image in pingd ping-operator; do
    printf '%-28s %5d components in %s\n' "pingpipeline/$image:$version" "$(jq '.components | length' $to/$image.cdx.json)" "$to/$image.cdx.json"
  done
fi
